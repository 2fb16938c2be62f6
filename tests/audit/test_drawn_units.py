"""Audits in which the language model writes before it answers: effects past its reasoning and through it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax.audit import AuditSpec, audit, audit_cost, write_audit
from sdscm_jax.errors import AuditError
from sdscm_jax.families import Family, FamilyVariable
from sdscm_jax.testing import mock_lm

# The name of either level, in a repetition each.
NAMES = {"old": ("Ann", "Bea", "Cleo"), "new": ("Eve", "Fay", "Gia")}
CONTENT: dict[str, Any] = {
    "name": "reasons",
    "title": "Reasons",
    "question": "Does the name change the answer, and is it by way of what is reasoned?",
    "attribute": {
        "name": "name",
        "levels": ["old", "new"],
        "proxies": {"first name": {"templates": ["This is {}."], "phrases": {k: list(v) for k, v in NAMES.items()}}},
    },
    "variables": [
        {
            "name": "reason",
            "kind": "text",
            "templates": ["I think ({})."],
            "parents": ["name"],
            "max_tokens": 4,
            "pattern": "[ab]",
        },
        {"name": "answer", "options": ["no", "yes"], "templates": ["So: {}."], "parents": ["name", "reason"]},
    ],
    "outcome": {"name": "answer", "option": "yes"},
    "mediators": {"not_legitimate": ["reason"]},
    "scorings": ["sequence"],
}
# P(reason is "b" | level), P(yes | level, reason).
PAST = np.array([0.3, 0.3]), np.array([[0.2, 0.2], [0.7, 0.7]])
THROUGH = np.array([0.2, 0.9]), np.array([[0.1, 0.8], [0.1, 0.8]])
HALF = np.array([0.2, 0.9]), np.array([[0.1, 0.4], [0.5, 0.8]])


def closed_form(law: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """Effects of the second level against the first: sums over the two reasons."""
    reason, yes = np.stack([1 - law[0], law[0]], 1), law[1]
    mean = {(y, r): float(yes[y] @ reason[r]) for y in (0, 1) for r in (0, 1)}
    return {
        "total": mean[1, 1] - mean[0, 0],
        "direct": mean[1, 0] - mean[0, 0],
        "illegitimate": mean[1, 1] - mean[1, 0],
        "legitimate": 0.0,
        "unfair": mean[1, 1] - mean[0, 0],
    }


def answering(law: tuple[np.ndarray, np.ndarray]) -> sd.LanguageModel:
    """A language model whose reasons and answers have a law, whatever the name of a level is.

    It is made for the same program with the two reasons as options, which are the same tokens.
    """
    spec = AuditSpec.from_dict(CONTENT)
    names = tuple(name for level in NAMES.values() for name in level)
    variables = (
        FamilyVariable("name", names, spec.proxies[0].templates, uniform=True),
        FamilyVariable("reason", ("a", "b"), spec.variable("reason").templates, ("name",)),
        spec.variable("answer"),
    )
    level = np.repeat([0, 1], [len(texts) for texts in NAMES.values()])
    reason = np.stack([1 - law[0], law[0]], 1)[level]
    answer = np.stack([1 - law[1], law[1]], 2)[level]
    return mock_lm(Family("twin", variables).member(0), probs={"reason": reason, "answer": answer})


@pytest.mark.slow
@pytest.mark.parametrize(
    "law",
    [
        pytest.param(PAST, id="past"),
        pytest.param(THROUGH, id="through", marks=pytest.mark.slow),
        pytest.param(HALF, id="half", marks=pytest.mark.slow),
    ],
)
def test_effects_past_the_reasoning_and_through_it(law: tuple[np.ndarray, np.ndarray]) -> None:
    result = audit(AuditSpec.from_dict(CONTENT), {"it": answering(law)}, draws=500, pairs=1, margin=0, progress=False)
    found, truth = result.effects.set_index("effect"), closed_form(law)
    assert (found["repetitions"] == 3).all()
    assert found.loc[["total", "direct", "illegitimate"], "method"].eq("drawn").all()
    for effect, value in truth.items():
        # 1,500 units; in a unit a difference of two probabilities.
        assert abs(found.loc[effect, "value"] - value) < 4 * 0.5 / np.sqrt(1500), effect
    if law is PAST:
        # The reasons are the same texts in both worlds, so nothing passes through them, in no unit.
        assert found.loc["illegitimate", "value"] == 0
    if law is THROUGH:
        np.testing.assert_allclose(found.loc["direct", "value"], 0, atol=1e-6)
    assert result.settings["draws"] == 500
    # Wordings have noise of their own: repetitions of an audit are independent.
    if law is not PAST:
        assert result.cells["total"].nunique() == 3


@pytest.mark.slow
def test_what_a_report_shows(tmp_path: Path) -> None:
    spec = AuditSpec.from_dict(CONTENT)
    lm = answering(HALF)
    result = audit(spec, {"it": lm}, draws=20, pairs=1, out=tmp_path / "audit", progress=False)
    (pair,) = result.pairs
    (reason,) = pair.written
    assert (reason.name, reason.parts[0]) == ("reason", -1)
    assert set(reason.texts) <= {"a", "b"}
    assert (reason.parts[1] >= 0) == (reason.texts[0] != reason.texts[1])
    assert all(f"I think ({text})." in whole for text, whole in zip(reason.texts, pair.texts, strict=True))
    write_audit(tmp_path / "audit", result)
    page = (tmp_path / "audit" / "report.md").read_text()
    assert "drawn" in page
    assert not re.search(r"\bnan\b", page.lower())
    # What was drawn is kept: the same tables again, and nothing is asked.
    again = audit(spec, {"it": lm}, draws=20, pairs=1, out=tmp_path / "audit", progress=False)
    assert again.effects.equals(result.effects)
    assert again.pairs == result.pairs
    other = audit(spec, {"it": lm}, draws=21, pairs=0, out=tmp_path / "audit", progress=False)
    assert not other.cells["total"].equals(result.cells["total"])
    cost = audit_cost(spec, {"it": lm}, draws=20)
    assert cost["seconds"].iloc[0] > 0
    assert int(cost["tokens"].iloc[0]) >= int(result.lms["tokens"].iloc[0]) / 2


def test_what_cannot_be_audited() -> None:
    spec = AuditSpec.from_dict(CONTENT)
    assert AuditSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(AuditError, match="judge"):
        replace(spec, outcome="reason", option="a", not_legitimate=())
    with pytest.raises(AuditError, match=r"reason.*free text, which has no options"):
        replace(spec, option_wordings={"reason": (("a", "b"),)})
    with pytest.raises(AuditError, match="draws"):
        audit(spec, draws=1)
    long = replace(spec.variable("reason"), written=replace(spec.variable("reason").written, max_tokens=9000))
    with pytest.raises(AuditError, match="positions"):
        audit(replace(spec, variables=(long, spec.variable("answer"))), {"it": mock_lm()})


@pytest.mark.slow
def test_reasons_beside_a_legitimate_mediator() -> None:
    """Of two mediators one is a text that reads the other; against sums over all that may be said."""
    content = {**CONTENT, "mediators": {"legitimate": ["score"], "not_legitimate": ["reason"]}}
    score = {"name": "score", "options": ["low", "high"], "templates": ["Score: {}."], "parents": ["name"]}
    reason = {**CONTENT["variables"][0], "parents": ["name", "score"]}
    answer = {**CONTENT["variables"][1], "parents": ["name", "score", "reason"]}
    content["variables"] = [score, reason, answer]
    content["text"] = {"template": "They add: {}.", "max_tokens": 3}
    spec = AuditSpec.from_dict(content)
    names = tuple(name for level in NAMES.values() for name in level)
    level = np.repeat([0, 1], [len(texts) for texts in NAMES.values()])
    rng = np.random.default_rng(0)
    laws = [rng.dirichlet(np.ones(2), shape) for shape in [(2,), (2, 2), (2, 2, 2)]]
    twin = (
        FamilyVariable("name", names, spec.proxies[0].templates, uniform=True),
        replace(spec.variable("score")),
        FamilyVariable("reason", ("a", "b"), spec.variable("reason").templates, ("name", "score")),
        spec.variable("answer"),
    )
    probs = dict(zip(("score", "reason", "answer"), (law[level] for law in laws), strict=True))
    lm = mock_lm(Family("twin", twin).member(0), probs=probs)
    result = audit(spec, {"it": lm}, draws=600, pairs=1, margin=0, progress=False)
    assert [len(pair.notes) for pair in result.pairs] == [2]
    s, r, y = laws

    def mean(answer: int, score: int, reason: int) -> float:
        """P(yes) where each of the three sees a level of its own."""
        return float(np.einsum("s,sr,sr->", s[score], r[reason], y[answer][..., 1]))

    before, after, alone = mean(0, 0, 0), mean(1, 1, 1), float(np.einsum("s,sr,sr->", s[0], r[0], y[1][..., 1]))
    unfair = mean(1, 0, 1)
    truth = {"total": after - before, "direct": alone - before, "unfair": unfair - before, "legitimate": after - unfair}
    found = result.effects.set_index("effect")["value"]
    for effect, value in truth.items():
        assert abs(found[effect] - value) < 4 * 0.5 / np.sqrt(1800), effect
