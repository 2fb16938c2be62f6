"""Intervals and tests of audits keep their promises, on populations of names and sentences that are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from sdscm_jax import audit as sa
from sdscm_jax.audit.infer import (
    differences_table,
    discoveries,
    effects_table,
    mean_of_wordings,
    scorings_table,
    variance_table,
)
from sdscm_jax.audit.interval import interval, mean_of, p_value
from sdscm_jax.audit.measure import BOUNDS, EFFECTS
from sdscm_jax.audit.power import detectable
from sdscm_jax.audit.wordings import draw_wordings
from sdscm_jax.testing import mock_lm

from ..needs import ROOT

AUDITS = 4000


def spec_of(names: int, templates: int, sentences: int, **more: object) -> sa.AuditSpec:
    """x0 (the attribute) -> x1 -> ... with so many names a level and templates of each."""
    texts = [f"It is {i} of {{}}." for i in range(templates)]
    variables = [f"x{i}" for i in range(1, sentences)]
    return sa.AuditSpec.from_dict({
        "name": "many", "title": "Many", "question": "Is it?",
        "attribute": {"name": "x0", "levels": ["a", "b"], "proxies": {"name": {
            "templates": texts, "phrases": {level: [f"{level}{i}" for i in range(names)] for level in "ab"}}}},
        "variables": [
            {"name": v, "options": ["no", "yes"], "templates": texts, "parents": [f"x{i}"]}
            for i, v in enumerate(variables)
        ],
        "outcome": {"name": variables[-1], "option": "yes"}, "mediators": {"legitimate": variables[:-1]}, **more,
    })  # fmt: skip


def audits(spec: sa.AuditSpec, wordings: int, sd_name: float, sd_template: float) -> tuple[np.ndarray, np.ndarray]:
    """What the wordings of many audits say, of a population whose mean effect is 0, and their repetitions."""
    rng, drawn = np.random.default_rng(wordings), draw_wordings(spec, wordings, 2, 5)
    names = spec.proxies[0].phrases["b"]
    values = rng.normal(0, sd_name, (AUDITS, len(names)))[:, [names.index(w.phrases["b"]) for w in drawn]]
    for column in np.array([w.templates for w in drawn]).T:
        values = values + rng.normal(0, sd_template, (AUDITS, len(spec.proxies[0].templates)))[:, column]
    return values + rng.normal(0, 0.01, values.shape), np.array([w.repetition for w in drawn])


@pytest.mark.parametrize(
    ("names", "templates", "sentences", "wordings"),
    [(2, 10, 3, 16), (4, 10, 3, 64), (6, 10, 3, 16), (20, 10, 5, 16), (1, 4, 3, 16), (1, 2, 5, 8)],
)
def test_intervals_hold_the_effect_at_the_stated_rate(
    names: int, templates: int, sentences: int, wordings: int
) -> None:
    """The truth is of all names and sentences that there could be, not of those that were drawn."""
    # One name is no draw: the result is for this name.
    values, repetitions = audits(spec_of(names, templates, sentences), wordings, 0.03 * (names > 1), 0.02)
    found = mean_of(values, repetitions)
    lower, upper = interval(found, 0.95)
    # Four standard errors of so many audits are 1.4 points.
    assert ((lower <= 0) & (upper >= 0)).mean() == pytest.approx(0.95, abs=0.014)
    assert (p_value(found) < 0.05).mean() == pytest.approx(0.05, abs=0.014)
    # Of what lies within the margin, fewer are found.
    assert (p_value(found, 0.005) < 0.05).mean() < 0.05


def test_wordings_taken_for_independent_would_not() -> None:
    """The mistake that repetitions are there against: few names in many wordings."""
    values, _ = audits(spec_of(4, 10, 3), 64, 0.03, 0.0)
    naive = stats.ttest_1samp(values, 0, axis=1).pvalue
    assert (naive < 0.05).mean() > 0.2


def test_repetitions_share_nothing_that_was_drawn() -> None:
    for name in sa.AUDITS:
        spec = sa.audit_spec(name)
        for wordings, options in ((16, 2), (64, 2), (5, 3)):
            drawn = draw_wordings(spec, wordings, options, 1)
            for proxy in spec.proxies:
                own = [w for w in drawn if w.proxy == proxy]
                assert len({w.repetition for w in own}) >= min(5, wordings)
                assert len({w.wording for w in own}) <= wordings
                used: dict[tuple[object, ...], set[int]] = {}
                for w in own:
                    levels = [("sentence", i, t) for i, t in enumerate(w.templates)]
                    levels += [
                        ("phrase", level, text) for level, text in w.phrases.items() if len(proxy.phrases[level]) > 1
                    ]
                    levels += [("options", name_, texts) for name_, texts in w.options.items()]
                    for level in levels:
                        used.setdefault(level, set()).add(w.repetition)
                assert all(len(repetitions) == 1 for repetitions in used.values())


def test_fixed_phrases_are_in_every_repetition() -> None:
    spec = spec_of(2, 10, 3)
    fixed = replace(spec, proxies=(replace(spec.proxies[0], drawn=False),))
    drawn = draw_wordings(fixed, 16, 2, 0)
    by_repetition = {r: {w.phrases["b"] for w in drawn if w.repetition == r} for r in range(10)}
    assert set(map(len, by_repetition.values())) == {2}
    # Drawn, there can be two repetitions only.
    assert {w.repetition for w in draw_wordings(spec, 16, 2, 0)} == {0, 1}


def test_what_nothing_of_interest_reads_makes_no_wording() -> None:
    """Templates of a sentence that the outcome does not depend on: there is one wording, and no interval."""
    content = spec_of(1, 1, 2).to_dict()
    beside = {"name": "beside", "options": ["25", "75"], "templates": ["She is {}.", "A woman of {} arrives."]}
    spec = sa.AuditSpec.from_dict({**content, "variables": [beside, *content["variables"]], "scorings": ["mean"]})
    result = sa.audit(spec, mock_lm(), wordings=16, pairs=0, progress=False)
    assert (result.effects["wordings"] == 1).all()
    assert (result.effects["repetitions"] == 1).all()
    total = result.effects.set_index("effect").loc["total"]
    assert np.isnan([total["lower"], total["upper"], total["p"], total["q"]]).all()
    assert not result.effects["discovery"].any()
    assert not result.design["drawn"].any()
    # Read, it makes two.
    content["variables"][0]["parents"] = ["x0", "beside"]
    read = sa.AuditSpec.from_dict({**content, "variables": [beside, *content["variables"]]})
    assert {w.repetition for w in draw_wordings(read, 16, 2, 0)} == {0, 1}


def test_an_audit_s_interval_is_the_one_that_was_simulated() -> None:
    """From a language model's answers to the table, no other numbers."""
    lms = {"one": mock_lm(seed=1), "two": mock_lm(seed=2)}
    result = sa.audit(spec_of(6, 5, 3), lms, wordings=8, pairs=0, progress=False)
    cells = result.cells
    for row in result.effects.to_dict("records"):
        own = cells[cells["lm"] == row["lm"]]
        means = own.groupby("repetition")[row["effect"]].mean()
        assert row["value"] == pytest.approx(means.mean())
        # There is no edge from x0 to x2.
        if row["effect"] in ("direct", "illegitimate", "unfair"):
            assert row["value"] == pytest.approx(0, abs=1e-12)
        else:
            expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
            assert (row["lower"], row["upper"]) == pytest.approx(tuple(np.clip(expected, -1, 1)))
    one, two = (cells[cells["lm"] == lm].groupby("repetition")["total"].mean() for lm in ("one", "two"))
    row = result.differences.set_index("effect").loc["total"]
    assert (row["lower"], row["upper"]) == pytest.approx(tuple(stats.ttest_1samp(two - one, 0).confidence_interval()))
    # One scoring has one total; another is paired with it.
    total = result.effects[result.effects["effect"] == "total"].set_index("lm")
    for row in result.scorings.to_dict("records"):
        main = total.loc[row["lm"]]
        if row["scoring"] == "sequence":
            assert [row["total"], row["lower"], row["upper"]] == main[["value", "lower", "upper"]].tolist()
            assert np.isnan(row["difference"])
        else:
            assert row["difference"] == pytest.approx(row["total"] - main["value"])
            assert row["difference_lower"] < row["difference"] < row["difference_upper"]


def test_student_over_repetitions() -> None:
    values = np.array([0.1, 0.4, 0.2, 0.3, 0.7])
    table = pd.DataFrame({"wording": range(5), "repetition": range(5)})
    found = mean_of_wordings(table, pd.Series(values), 0.9)
    expected = stats.t.interval(0.9, 4, values.mean(), stats.sem(values))
    assert (found["lower"], found["upper"]) == pytest.approx(expected)
    assert found["p"] == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    # No effect on a probability is beyond 1.
    wide = mean_of_wordings(table.iloc[:2], pd.Series([0.1, 0.9]), 0.95)
    assert (wide["lower"], wide["upper"], wide["detectable"]) == (-1, 1, np.inf)


def test_effects_within_the_margin_are_no_discoveries() -> None:
    values = np.array([0.012, 0.018, 0.015, 0.011, 0.014])
    table = pd.DataFrame({"wording": range(5), "repetition": range(5)})
    p = {margin: mean_of_wordings(table, pd.Series(values), 0.95, margin)["p"] for margin in (0.0, 0.005, 0.014, 0.03)}
    assert p[0.0] < 0.001
    # Both one-sided tests of the margin, from SciPy.
    for margin in (0.005, 0.014):
        sides = [stats.ttest_1samp(values, edge, alternative="greater").pvalue for edge in (margin, -margin)]
        assert p[margin] == pytest.approx(sum(sides))
    assert p[0.005] < 0.01 < 0.4 < p[0.014] < 0.99 < p[0.03]


@pytest.mark.parametrize("repetitions", [1, 5])
def test_no_evidence_is_no_interval(repetitions: int) -> None:
    """One repetition, and several that do not differ: neither tells what others would say."""
    table = pd.DataFrame({"wording": range(5), "repetition": np.arange(5) % repetitions})
    for values in ([0.1] * 5, [0.1 + 1e-9 * i for i in range(5)], [0.0] * 5):
        found = mean_of_wordings(table, pd.Series(values), 0.95)
        assert found["value"] == pytest.approx(values[0], abs=1e-7)
        assert np.isnan([found["lower"], found["upper"], found["p"], found["detectable"]]).all()


def test_false_discoveries_over_all_audits() -> None:
    values, repetitions = audits(spec_of(20, 10, 3), 16, 0.03, 0.02)
    null = np.arange(AUDITS) % 2 == 0
    table = pd.DataFrame({"p": p_value(mean_of(values + np.where(null, 0, 0.09)[:, None], repetitions))})
    for rate in (0.05, 0.2):
        found = discoveries(table, rate)["discovery"].to_numpy()
        assert found[~null].mean() > 0.8
        assert found[null].sum() <= stats.poisson.ppf(0.999, rate * found.sum())
    assert discoveries(table[null], 0.05)["discovery"].sum() <= 2


def test_benjamini_hochberg_and_yekutieli() -> None:
    p = np.array([0.01, 0.02, np.nan, 0.04, 0.9])
    found = discoveries(pd.DataFrame({"p": p}), 0.05)
    # By hand: the least of p (n / rank) from here up; and times 1 + 1/2 + 1/3 + 1/4.
    q = np.array([0.04, 0.04, np.nan, 0.16 / 3, 0.9])
    assert found["q"].to_numpy() == pytest.approx(q, nan_ok=True)
    assert found["q_any"].to_numpy() == pytest.approx(np.minimum(q * 25 / 12, 1), nan_ok=True)
    assert found["discovery"].tolist() == [True, True, False, False, False]


def test_an_effect_in_other_words_is_one_test() -> None:
    """Without mediators total, direct and unfair are one number; a part that has no way is none."""
    rng = np.random.default_rng(0)
    moved = rng.normal(0.1, 0.02, 6)
    rows = [{"total": v, "direct": v, "illegitimate": 0.0, "legitimate": 0.0, "unfair": v} for v in moved]
    table = pd.DataFrame(rows).assign(lm="lm", proxy="word", level="b", wording=range(6), repetition=range(6))
    table = table.assign(**dict.fromkeys(BOUNDS, np.nan))
    other = table.assign(lm="other", **{e: rng.normal(0, 0.1, 6) for e in ("total", "direct", "unfair")})
    found = effects_table(pd.concat([table, other]), 0.95, 0.05, 0.0, ("illegitimate", "legitimate"))
    found = found.set_index(["lm", "effect"])
    assert found.loc["lm", "same_as"].to_dict() == dict.fromkeys(EFFECTS, "") | {"direct": "total", "unfair": "total"}
    # Four tests: one of the first language model, three of the second.
    assert found.loc[("lm", "total"), "q"] == pytest.approx(4 * found.loc[("lm", "total"), "p"])
    assert found.loc["lm", "discovery"].tolist() == [True, True, False, False, True]
    assert found.loc[("lm", "legitimate"), ["value", "lower", "upper"]].tolist() == [0, 0, 0]
    assert np.isnan(found.loc[("lm", "legitimate"), "p"])


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    one = pd.DataFrame({e: rng.normal(-0.1, 0.05, 8) for e in EFFECTS}).assign(
        lm="one", proxy="word", level="y", wording=range(8), option_wording=0, repetition=range(8)
    )
    apart = 0.05 + rng.normal(0, 0.001, 8)
    two = one.assign(lm="two", total=one["total"] + apart)
    found = differences_table(pd.concat([one, two]), ["one", "two"], 0.95, 0.05).set_index("effect")
    assert found.loc["total", "value"] == pytest.approx(apart.mean())
    # The wordings vary much more than the difference does.
    assert found.loc["total", "upper"] - found.loc["total", "lower"] < 0.003
    assert found["discovery"].to_dict() == dict.fromkeys(EFFECTS, False) | {"total": True}
    # Of what does not differ there is no evidence.
    assert found.loc["direct", "value"] == 0
    assert np.isnan(found.loc["direct", "p"])
    assert differences_table(one, ["one"], 0.95, 0.05).empty


def test_variance_is_split() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for w in range(400):
        of_wording = rng.normal(0, 0.3)
        of_options = [of_wording + rng.normal(0, 0.2) for _ in range(3)]
        rows += [{"wording": w, "total": total, "sd_unit": 0.1} for total in of_options]
    found = variance_table(pd.DataFrame(rows).assign(lm="lm", proxy="word", level="y")).iloc[0]
    assert found["wording"] == pytest.approx(0.09, rel=0.2)
    assert found["option_wording"] == pytest.approx(0.04, rel=0.15)
    assert found["unit"] == pytest.approx(0.01)


def test_scorings_are_paired() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 0.3, 6)
    rows = [
        {"lm": "lm", "proxy": "p", "level": "b", "wording": w, "option_wording": 0, "repetition": w, "scoring": s,
         "total": base[w] + (0.02 + 0.001 * w) * (s == "mean")}
        for w in range(6) for s in ("sequence", "mean")
    ]  # fmt: skip
    found = scorings_table(pd.DataFrame(rows), 0.95).set_index("scoring")
    assert found.loc["mean", "difference"] == pytest.approx(0.0225)
    assert found.loc["mean", "difference_upper"] - found.loc["mean", "difference_lower"] < 0.01
    assert found.loc["mean", "upper"] - found.loc["mean", "lower"] > 0.1


# -- what could be found --------------------------------------------------------------------------


@pytest.mark.parametrize(("repetitions", "margin"), [(2, 0.0), (3, 0.02), (10, 0.0), (10, 0.005), (10, 0.03)])
@pytest.mark.parametrize("known", [True, False])
def test_the_least_effect_is_found_in_four_of_five_audits(repetitions: int, margin: float, known: bool) -> None:
    """Audits are simulated; where the error is an estimate, from a first audit, each has its own least effect."""
    rng, count, sd = np.random.default_rng(1), 20_000, 0.03
    if known:
        effects = np.full(count, detectable(sd / repetitions**0.5, repetitions, 0.05, margin, known=True))
    else:
        errors = mean_of(rng.normal(0, sd, (200, repetitions)), np.arange(repetitions)).error
        effects = np.repeat([detectable(e, repetitions, 0.05, margin) for e in errors], count // 200)
    values = effects[:, None] + rng.normal(0, sd, (count, repetitions))
    found = p_value(mean_of(values, np.arange(repetitions)), margin) <= 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_the_least_effect_of_a_known_error_is_that_of_the_noncentral_t() -> None:
    edge = stats.t.isf(0.025, 9)
    expected = optimize.brentq(lambda d: stats.nct.sf(edge, 9, d) + stats.nct.cdf(-edge, 9, d) - 0.8, 1, 6)
    assert detectable(0.01, 10, 0.05, known=True) == pytest.approx(0.01 * expected, rel=1e-3)


def test_plan() -> None:
    found = sa.audit_plan("hiring", margin=0.0, spreads=[0.02, 0.04]).set_index("spread")
    assert found["repetitions"].tolist() == [10, 10]
    assert found.loc[0.04, "detectable"] == pytest.approx(2 * found.loc[0.02, "detectable"])
    assert found["combinations"].tolist() == [20, 20]
    two = spec_of(2, 10, 3)
    wide = sa.audit_plan(two, spreads=[0.02])
    assert (wide["repetitions"].item(), wide["scarcest"].item()) == (2, "name")
    assert wide["detectable"].item() > 5 * found.loc[0.02, "detectable"]
    fixed = sa.audit_plan(replace(two, proxies=(replace(two.proxies[0], drawn=False),)), spreads=[0.02])
    assert (fixed["repetitions"].item(), fixed["fixed"].item()) == (10, "name")
    none = sa.audit_plan(spec_of(1, 1, 2), spreads=[0.02])
    assert none["repetitions"].item() == 1
    assert np.isnan(none["detectable"].item())


def test_the_table_of_coverage_is_committed() -> None:
    """Every design and every statistic that was asked for, and none that under- or over-covers."""
    table = pd.DataFrame(pd.read_json(ROOT / "benchmarks/results/audit_coverage.json", typ="series")["cells"])
    assert set(table["names"]) >= {2, 4, 6, 8, 20}
    assert set(table["wordings"]) == {8, 16, 64}
    assert set(table["templates"]) == {2, 4, 10}
    assert set(table["statistic"]) == {"total", "language models", "scorings"}
    assert table["coverage"].between(0.93, 0.97).all()
    assert (table["false"] <= 0.06).all()
