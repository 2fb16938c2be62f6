"""Intervals and tests of audits keep their promises, on models whose mechanisms are tables."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sdscm_jax.audit.infer import (
    differences_table,
    discoveries,
    effects_table,
    mean_of_wordings,
    variance_table,
)
from sdscm_jax.audit.measure import EFFECTS, measure
from sdscm_jax.audit.roles import Roles
from sdscm_jax.effects import Factor, Network

ROLES = Roles("a", "y", 1, (), ())
TEMPLATES, WORDINGS, AUDITS = 6, 9, 150


def cells(rng: np.random.Generator, effect: float, lm: str = "lm") -> pd.DataFrame:
    """An audit of tabulated models: the effect varies with each sentence's template and with the combination."""
    of_template = rng.normal(0, 0.02, (2, TEMPLATES))
    rows = []
    columns = [np.concatenate([rng.permutation(TEMPLATES) for _ in range(2)])[:WORDINGS] for _ in range(2)]
    for w, templates in enumerate(zip(*columns, strict=True)):
        base = 0.4 + rng.normal(0, 0.03)
        moved = base + effect + of_template[0, templates[0]] + of_template[1, templates[1]] + rng.normal(0, 0.01)
        a = Factor("a", (), np.array([0.5, 0.5]), ("x", "y"))
        y = Factor("y", ("a",), np.array([[1 - base, base], [1 - moved, moved]]), ("no", "yes"))
        rows.append({
            "lm": lm, "proxy": "word", "level": "y", "wording": w, "option_wording": 0,
            "templates": tuple(map(int, templates)), **measure(Network((a, y)), ROLES, 1),
        })  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def audits() -> list[tuple[float, pd.DataFrame]]:
    """Audits of models without an effect, then of models with one."""
    found = []
    for i in range(2 * AUDITS):
        effect = 0.0 if i < AUDITS else -0.08
        found.append((effect, effects_table(cells(np.random.default_rng(i), effect), 0.95, 0.05).iloc[:1]))
    return found


def test_intervals_hold_the_effect_at_the_stated_rate(audits: list[tuple[float, pd.DataFrame]]) -> None:
    # The truth is of all templates that there could be, not of those that were drawn.
    inside = [table["lower"].item() <= effect <= table["upper"].item() for effect, table in audits]
    # 300 audits: a standard error of 1.3 points; the widest of several intervals may hold more often.
    assert 0.92 <= np.mean(inside) <= 1.0
    # An interval that takes wordings for independent does not.
    naive = []
    for i, (effect, table) in enumerate(audits):
        values = cells(np.random.default_rng(i), effect)["total"]
        naive.append(abs(table["value"].item() - effect) <= 2.306 * values.std(ddof=1) / np.sqrt(len(values)))
    assert np.mean(naive) < 0.91


def test_no_effect_is_found_where_there_is_none(audits: list[tuple[float, pd.DataFrame]]) -> None:
    p = np.array([table["p"].item() for effect, table in audits if effect == 0.0])
    assert (p <= 0.05).mean() <= 0.08
    assert (p <= 0.5).mean() <= 0.58
    power = np.array([table["p"].item() for effect, table in audits if effect != 0.0])
    assert (power <= 0.05).mean() > 0.9


def test_false_discoveries_over_all_audits(audits: list[tuple[float, pd.DataFrame]]) -> None:
    table = pd.concat([t for _, t in audits], ignore_index=True)
    null = np.array([effect == 0.0 for effect, _ in audits])
    for rate in (0.05, 0.2):
        found = discoveries(table, rate)["discovery"].to_numpy()
        assert found[~null].mean() > 0.8
        # On average at most rate x share of nulls are false: as many nulls as have a p below the last discovery's.
        expected = null.sum() * rate * found.sum() / len(found)
        assert found[null].sum() <= stats.poisson.ppf(0.999, expected)
    assert not discoveries(table[null], 0.05)["discovery"].any()


def test_benjamini_and_hochberg() -> None:
    p = np.array([0.01, 0.02, np.nan, 0.04, 0.9])
    found = discoveries(pd.DataFrame({"p": p}), 0.05)
    # By hand: the least of p (n / rank) from here up.
    assert found["q"].to_numpy() == pytest.approx([0.04, 0.04, np.nan, 0.16 / 3, 0.9], nan_ok=True)
    assert found["discovery"].tolist() == [True, True, False, False, False]


def test_student_where_no_template_is_shared() -> None:
    values = np.array([0.1, 0.4, 0.2, 0.3, 0.7])
    table = pd.DataFrame({"wording": range(5), "templates": [(i, i) for i in range(5)]})
    found = mean_of_wordings(table, pd.Series(values), 0.9)
    interval = stats.t.interval(0.9, 4, values.mean(), stats.sem(values))
    assert (found["lower"], found["upper"]) == pytest.approx(interval)
    assert found["p"] == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    # A sentence with few templates is taken as it is.
    few = mean_of_wordings(table.assign(templates=[(i, i % 2) for i in range(5)]), pd.Series(values), 0.9)
    assert few == found


def test_effects_within_the_margin_are_no_discoveries() -> None:
    values = np.array([0.012, 0.018, 0.015, 0.011, 0.014])
    table = pd.DataFrame({"wording": range(5), "templates": [(i,) for i in range(5)]})
    p = {margin: mean_of_wordings(table, pd.Series(values), 0.95, margin)["p"] for margin in (0.0, 0.005, 0.014, 0.03)}
    assert p[0.0] < 0.001
    # Both one-sided tests of the margin, from SciPy.
    for margin in (0.005, 0.014):
        sides = [stats.ttest_1samp(values, edge, alternative="greater").pvalue for edge in (margin, -margin)]
        assert p[margin] == pytest.approx(sum(sides))
    assert p[0.005] < 0.01 < 0.4 < p[0.014] < 0.99 < p[0.03]
    # Without any doubt.
    same = pd.Series(np.full(5, 0.01))
    assert [mean_of_wordings(table, same, 0.95, m)["p"] for m in (0.0, 0.005, 0.01, 0.02)] == [0.0, 0.0, 1.0, 1.0]


def test_one_wording_has_no_interval() -> None:
    table = pd.DataFrame({"wording": [0, 0], "templates": [(0,), (0,)]})
    found = mean_of_wordings(table, pd.Series([0.1, 0.3]), 0.95)
    assert found["value"] == pytest.approx(0.2)
    assert np.isnan([found["lower"], found["upper"], found["p"]]).all()


def test_differences_are_paired() -> None:
    one, two = cells(np.random.default_rng(0), -0.1, "one"), cells(np.random.default_rng(0), -0.1, "two")
    two["total"] += 0.05
    found = differences_table(pd.concat([one, two]), ["one", "two"], 0.95, 0.05).set_index("effect")
    assert found.loc["total", "value"] == pytest.approx(0.05)
    # Each wording differs by as much, so there is no doubt.
    assert found.loc["total", "upper"] - found.loc["total", "lower"] < 1e-9
    assert found["discovery"].to_dict() == dict.fromkeys(EFFECTS, False) | {"total": True}
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
