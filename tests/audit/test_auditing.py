"""Audits from a specification to files, on language models that answer at once."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

import sdscm_jax as sd
from sdscm_jax import audit as sa
from sdscm_jax import effects
from sdscm_jax.audit import wording_effects
from sdscm_jax.audit.fits_model import check_context
from sdscm_jax.audit.report.spoken import span
from sdscm_jax.audit.truth import truth_of, vignette_of
from sdscm_jax.audit.wording_effects import tables_of
from sdscm_jax.audit.wordings import draw_wordings
from sdscm_jax.cli import app
from sdscm_jax.engine.tabulation import TrieScorer
from sdscm_jax.errors import AuditError
from sdscm_jax.families import FamilyVariable
from sdscm_jax.page.spoken_numbers import signed
from sdscm_jax.testing import mock_lm
from sdscm_jax.vignettes import hiring, reference_letter
from tests.conftest import make_tiny_lm

CONTENT = {
    "name": "weather",
    "title": "Weather and a run",
    "question": "Does the weather change the plan?",
    "attribute": {
        "name": "sky",
        "levels": ["fair", "foul"],
        "proxies": {
            "word": {
                "templates": ["The weather is {}.", "Outside it is {}.", "It is {} today."],
                "phrases": {
                    "fair": ["sunny", "clear", "warm", "mild", "dry", "fine"],
                    "foul": ["rainy", "cloudy", "cold", "grey", "wet", "bad"],
                },
            },
        },
    },
    "variables": [
        {
            "name": "friend", "options": ["old", "young"],
            "templates": ["My friend is {}.", "She is {}.", "A friend is {}."],
        },
        {
            "name": "mood", "options": ["low", "high"], "parents": ["sky", "friend"],
            "templates": ["The mood is {}.", "It is {}.", "My mood is {}."],
        },
        {
            "name": "plan", "options": ["a run", "a nap"], "parents": ["sky", "friend", "mood"],
            "templates": ["My friend goes for {}.", "She likes {}.", "It is {}."],
        },
    ],
    "outcome": {"name": "plan", "option": "a run"},
    "mediators": {"not_legitimate": ["mood"]},
    "text": {"template": "She is {}.", "max_tokens": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def spec() -> sa.AuditSpec:
    return sa.AuditSpec.from_dict(CONTENT)


@pytest.fixture(scope="module")
def lms(tiny_tokenizer: object) -> dict[str, sd.LanguageModel]:
    return {f"tiny {seed}": make_tiny_lm(tiny_tokenizer, seed=seed) for seed in range(2)}


@pytest.fixture(scope="module")
def result(
    spec: sa.AuditSpec, lms: dict[str, sd.LanguageModel], tmp_path_factory: pytest.TempPathFactory
) -> tuple[sa.AuditResult, Path]:
    out = tmp_path_factory.mktemp("audit")
    return sa.audit(spec, lms, wordings=3, out=out, pairs=1), out


@pytest.mark.slow
def test_every_question_has_its_table(result: tuple[sa.AuditResult, Path]) -> None:
    found = result[0]
    assert len(found.cells) == 2 * 3 * 2
    assert len(found.effects) == 2 * 5
    assert len(found.differences) == 5
    assert found.scorings["scoring"].tolist() == ["sequence", "mean"] * 2
    assert found.lms["tokens"].min() > 0
    total = found.effects[found.effects["effect"] == "total"].set_index("lm")["value"]
    assert total.to_numpy() == pytest.approx(found.cells.groupby("lm")["total"].mean().to_numpy())


@pytest.mark.slow
def test_a_cell_is_the_effect_in_a_program(
    spec: sa.AuditSpec, lms: dict[str, sd.LanguageModel], result: tuple[sa.AuditResult, Path]
) -> None:
    lm = lms["tiny 0"]
    wording = draw_wordings(spec, 3, 2, 0)[3]
    row = result[0].cells.query("lm == 'tiny 0' and wording == 1 and option_wording == 1").iloc[0]
    # The same program, with the other scorer, through the effects of users.
    low, high = (wording.phrases[level] for level in spec.levels)
    source = effects.exact(sd.tabulate(wording.member(spec, "sequence"), lm))
    assert row["total"] == pytest.approx(effects.ate(source, "sky", "plan", low, high)["a run"], abs=1e-5)
    assert row["direct"] == pytest.approx(effects.nde(source, "sky", "plan", low, high)["a run"], abs=1e-5)
    data = effects.sampled(sd.tabulate(wording.member(spec, "sequence"), lm), 0, 2000)
    estimate = effects.ate(data, "sky", "plan", low, high, level=0.9999)
    assert estimate.lower[0] <= row["total"] <= estimate.upper[0]


def test_sentences_are_the_ones_that_were_asked(
    spec: sa.AuditSpec, lms: dict[str, sd.LanguageModel], result: tuple[sa.AuditResult, Path]
) -> None:
    lm = next(iter(lms.values()))
    asked = result[0].asked
    assert len(asked) == 3 * 2 * 4
    for wording in draw_wordings(spec, 3, 2, 0)[1:3]:
        own = asked[(asked["wording"] == wording.wording) & (asked["option_wording"] == wording.option_wording)]
        text = sd.simulate(wording.member(spec, "sequence"), 0, 1, lm, do={"sky": wording.phrases["fair"]}).text(0)
        for row in own.to_dict("records"):
            assert any(f"{row['prefix']}{option}{row['suffix']}" in text for option in row["options"])
        last = own.iloc[-1]
        assert last["before"].count(".") == 3


def test_pairs_share_their_noise(spec: sa.AuditSpec, result: tuple[sa.AuditResult, Path]) -> None:
    pairs = result[0].pairs
    assert len(pairs) == 2
    for pair in pairs:
        assert pair.levels == spec.levels
        friend = [next(s for s in ("old", "young") if f" {s}." in text) for text in pair.texts]
        assert friend[0] == friend[1]
        for text, outcome in zip(pair.texts, pair.outcomes, strict=True):
            assert text.rstrip(".").endswith(outcome)
        assert all(isinstance(note, str) for note in pair.notes)


def test_killed_and_gone_on_with(
    spec: sa.AuditSpec, lms: dict[str, sd.LanguageModel], result: tuple[sa.AuditResult, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first = dict(list(lms.items())[:1])
    calls = []
    plain = wording_effects.tables_of

    def counting(*args: object) -> object:
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return plain(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(wording_effects, "tables_of", counting)
    with pytest.raises(KeyboardInterrupt):
        sa.audit(spec, first, wordings=3, out=tmp_path, pairs=0)
    before = len(calls)
    again = sa.audit(spec, first, wordings=3, out=tmp_path, pairs=0)
    # Six wordings under two scorings; the first two, of four calls, were finished.
    assert len(calls) - before == 12 - 4
    pd.testing.assert_frame_equal(again.cells, result[0].cells.query("lm == 'tiny 0'"))
    ours = {path.name: path.read_bytes() for path in (tmp_path / "cells").iterdir()}
    theirs = {path.name: path.read_bytes() for path in (result[1] / "cells").iterdir()}
    assert ours.items() <= theirs.items()
    # Nothing is asked again, and more phrases pay for what is new.
    before = len(calls)
    sa.audit(spec, first, wordings=3, out=tmp_path, pairs=0)
    assert len(calls) == before


def test_one_language_model_twice_does_not_differ(spec: sa.AuditSpec, lms: dict[str, sd.LanguageModel]) -> None:
    lm = next(iter(lms.values()))
    found = sa.audit(replace(spec, text=None, scorings=("sequence",)), [lm, lm], wordings=2, pairs=0)
    assert found.lms["lm"].tolist() == ["language model", "language model (2)"]
    assert (found.differences["value"] == 0).all()
    assert not found.differences["discovery"].any()


def test_every_template_is_asked_as_often(spec: sa.AuditSpec) -> None:
    drawn = draw_wordings(sa.audit_spec("hiring"), 10, 1, 3)
    for sentence in zip(*(w.templates for w in drawn), strict=True):
        assert sorted(sentence) == list(range(10))
    # Three of each, in three repetitions that share none.
    assert len({w.templates for w in draw_wordings(spec, 100, 1, 0)}) == 3


def test_the_truth_by_way_of_a_letter() -> None:
    """Summed over all letters and grades by hand, for the names that the vignette knows."""
    v, spec = reference_letter, sa.audit_spec("reference_letter").known_to(reference_letter)
    found = truth_of(spec, v).set_index("effect")["value"]
    cells = np.array(list(product(*(range(len(x.options)) for x in v.variables[:3]))))
    grades = v.probabilities("grades", cells)[np.arange(len(cells)), cells[:, 1]]

    def admitted(name: int, of_letter: int) -> float:
        """P(admission) of one name, whose letter is written as another's."""
        own = cells[cells[:, 0] == name]
        letters = v.probabilities("letter", np.c_[np.full(len(own), of_letter), own[:, 1:]])
        weight = grades[cells[:, 0] == name] * letters[np.arange(len(own)), own[:, 2]]
        return float(weight @ v.probabilities("admission", own)[:, 1])

    pairs = ((0, 2), (1, 3))  # Emily and Lakisha, Greg and Jamal
    total = np.mean([admitted(b, b) - admitted(a, a) for a, b in pairs])
    direct = np.mean([admitted(b, a) - admitted(a, a) for a, b in pairs])
    assert (found["total"], found["direct"]) == (pytest.approx(total), pytest.approx(direct))
    assert total < direct < -0.05


def test_which_vignette_an_audit_is_of() -> None:
    hiring_spec = sa.audit_spec("hiring")
    mood = FamilyVariable("mood", ("good", "bad"), hiring_spec.variables[0].templates)
    assert vignette_of(replace(hiring_spec, variables=(mood, *hiring_spec.variables))) is hiring
    assert vignette_of(sa.audit_spec("reference_letter")) is reference_letter
    assert vignette_of(sa.audit_spec("triage")) is None


def test_the_truth_of_the_vignette() -> None:
    # Of names that its texts do not have, nothing is known.
    assert truth_of(sa.audit_spec("hiring"), hiring) is None
    spec = sa.audit_spec("hiring").known_to(hiring)
    found = truth_of(spec, hiring).set_index("effect")["value"]
    # By drawing: half a million applicants of each name, with everything before the interview the same.
    rng, n = np.random.default_rng(0), 400_000
    values = hiring.sample(rng, n)
    means = []
    for names in (("Emily", "Greg"), ("Lakisha", "Jamal")):
        values[:, hiring.index("applicant")] = rng.choice([hiring["applicant"].options.index(x) for x in names], n)
        cdf = hiring.probabilities("interview", values).cumsum(1)
        values[:, hiring.index("interview")] = (rng.random((n, 1)) > cdf[:, :-1]).sum(1)
        means.append(hiring.probabilities("decision", values)[:, 1].mean())
    assert found["total"] == pytest.approx(means[1] - means[0], abs=0.003)
    assert found["legitimate"] == pytest.approx(0.0, abs=1e-12)
    assert truth_of(spec.without("experience"), hiring) is None
    assert truth_of(replace(spec, scorings=("mean",)), hiring) is None
    assert truth_of(sa.audit_spec("hiring_gender").known_to(hiring), hiring) is None


@pytest.mark.slow
def test_hiring_on_the_embedded_language_model(embedded: sd.LanguageModel) -> None:
    spec = replace(sa.audit_spec("hiring"), text=None, scorings=("sequence",))
    found = sa.audit(spec, {"embedded": embedded}, wordings=5, option_wordings=1, pairs=0, truth=hiring)
    table = found.effects.merge(found.truth, on=["proxy", "level", "effect"], suffixes=("", "_true")).set_index(
        "effect"
    )
    assert table["discovery"].to_dict() == dict.fromkeys(table.index, True) | {"legitimate": False}
    # It has learned the mechanisms to 0.004 on each probability.
    assert (table["value"] - table["value_true"]).abs().max() < 0.01


def test_a_part_that_is_no_number_says_why(tmp_path: Path) -> None:
    """sky -> mood (not legitimate) -> test (legitimate) -> plan, and mood -> plan: a recanting witness."""
    friend, mood, plan = CONTENT["variables"]  # type: ignore[misc]
    test = {**mood, "name": "test", "options": ["bad", "good"], "parents": ["sky", "mood"]}
    spec = sa.AuditSpec.from_dict({
        **CONTENT, "variables": [friend, mood, test, {**plan, "parents": ["sky", "friend", "mood", "test"]}],
        "mediators": {"legitimate": ["test"], "not_legitimate": ["mood"]}, "text": None, "scorings": ["mean"],
    })  # fmt: skip
    assert spec.witnesses == (("test", "mood"),)
    assert sa.AuditSpec.from_dict(CONTENT).witnesses == sa.audit_spec("hiring").witnesses == ()
    found = sa.audit(spec, mock_lm(), wordings=3, option_wordings=1, pairs=0, progress=False)
    table = found.effects.set_index("effect")
    parts = table.loc[["illegitimate", "legitimate", "unfair"]]
    assert parts[["value", "lower", "upper", "p", "q"]].isna().all(axis=None)
    assert (parts["least"] < parts["greatest"]).all()
    assert set(parts["method"]) == {"bounds"}
    assert np.isfinite(table.loc[["total", "direct"], "value"]).all()
    sa.write_audit(tmp_path, found)
    unfair = table.loc["unfair"]
    for text in ((tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()):
        assert "test depends on mood, which is not legitimate and acts on plan otherwise, too." in text
        assert f"the unfair part is {span(unfair['least'], unfair['greatest'])}" in text


class TestBadInput:
    def test_a_context_that_does_not_fit(self, lms: dict[str, sd.LanguageModel]) -> None:
        lm = next(iter(lms.values()))
        with pytest.raises(AuditError, match=r"--no-text.*--without '.*degree"):
            sa.audit("hiring", {"tiny": lm})
        hints = replace(sa.audit_spec("hiring"), text=None)
        with pytest.raises(AuditError, match="positions") as caught:
            check_context(hints, "tiny", lm)
        if "--without" in str(caught.value):
            names = str(caught.value).split("--without '")[1].split("'")[0].split(",")
            # What the message says to do is enough.
            check_context(hints.without(*names), "tiny", lm)

    def test_an_option_without_probability(
        self, spec: sa.AuditSpec, lms: dict[str, sd.LanguageModel], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lm = next(iter(lms.values()))
        wording = draw_wordings(spec, 2, 1, 0)[0]
        tables = tables_of(spec, lm, wording, "sequence", TrieScorer())
        outcome = tables["plan"]
        never = np.broadcast_to(np.array([0.0, 1.0]), outcome.table.shape)
        broken = effects.Network((*tables.factors[:-1], replace(outcome, table=never)))
        monkeypatch.setattr(wording_effects, "tables_of", lambda *args: broken)
        with pytest.raises(AuditError, match=r"gives the option 'a run' of 'plan' no probability.*scorings: \[mean\]"):
            sa.audit(spec, {"tiny": lm}, wordings=2, pairs=0)

    def test_numbers(self, spec: sa.AuditSpec, lms: dict[str, sd.LanguageModel]) -> None:
        with pytest.raises(AuditError, match="wordings is an integer of at least 2, got 1"):
            sa.audit(spec, lms, wordings=1)
        with pytest.raises(AuditError, match="no language model"):
            sa.audit(spec, [])


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = CONTENT | {"text": None, "scorings": ["mean"]}
    content.pop("text")
    (tmp_path / "mine.py").write_text(f"SPEC = {content!r}\n")
    monkeypatch.chdir(tmp_path)
    options = {"--out": "report", "--wordings": "2", "--option-wordings": "1", "--pairs": "1"}
    arguments = ["audit", "mine.py:SPEC", *(part for option in options.items() for part in option)]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    assert "embedded, word: fair → foul, on P(plan = a run)" in ran.output.replace("\n", " ")
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"report.html", "report.md", "effects.csv", "cells.csv", "asked.csv", "spec.yaml"} <= written
    table = pd.read_csv(tmp_path / "report" / "effects.csv").set_index("effect")
    assert signed(table.loc["total", "value"]) in ran.output
    # The specification that was written is the one that was asked.
    ran = CliRunner().invoke(app, ["audit", "report/spec.yaml", *arguments[2:]])
    assert ran.exit_code == 0, ran.output
    ran = CliRunner().invoke(app, ["audit", "hirring"])
    assert ran.exit_code == 1
    assert "did you mean 'hiring'?" in ran.output.replace("\n", " ")


def test_what_it_will_take_is_what_it_took() -> None:
    """Tokens are counted beforehand: exactly, where every wording is counted."""
    lm = mock_lm()
    spec = replace(sa.AuditSpec.from_dict(CONTENT), text=None)
    counted = sa.audit_cost(spec, {"a": lm}, wordings=2, option_wordings=1, measure=False).iloc[0]
    result = sa.audit(spec, {"a": lm}, wordings=2, option_wordings=1, pairs=0)
    assert (counted["cells"], counted["tokens"]) == (len(result.cells), result.lms["tokens"].iloc[0])
    assert np.isnan(counted["seconds"])
    more = sa.audit_cost(spec, {"a": lm}, wordings=6, measure=False).iloc[0]
    took = sa.audit(spec, {"a": lm}, wordings=6, pairs=0)
    assert more["tokens"] == pytest.approx(took.lms["tokens"].iloc[0], rel=0.1)


@pytest.mark.slow
def test_a_first_look(tmp_path: Path) -> None:
    file = tmp_path / "weather.yaml"
    file.write_text(yaml.safe_dump({**CONTENT, "scorings": ["mean", "option"]}))
    planned = CliRunner().invoke(app, ["audit", str(file), "--quick", "--plan"])
    assert planned.exit_code == 0, planned.output
    # There are three templates of each sentence.
    assert "3 independent repetitions" in planned.output
    assert "tokens in 3 wordings" in " ".join(planned.output.split())
    found = CliRunner().invoke(app, ["audit", str(file), "--quick", "--out", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    assert pd.read_csv(tmp_path / "out" / "scorings.csv")["scoring"].unique().tolist() == ["mean"]
