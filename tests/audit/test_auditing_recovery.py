"""An audit finds the discrimination that a language model was taught, and none in one that was taught none.

Three sentences and few steps, so that it takes seconds: benchmarks/audit_recovery.py is the whole application, with
more text and nearer to the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sdscm_jax as sd
from sdscm_jax.audit import AuditSpec, audit, audit_spec
from sdscm_jax.models.corpus import DocumentWriter, packed_batches
from sdscm_jax.models.training import train_lm
from sdscm_jax.vignettes import Vignette, hiring

SENTENCES = ("applicant", "interview", "decision")
EFFECTS = ["total", "direct", "illegitimate", "legitimate", "unfair"]
# What is added to the options' logits for a Black-sounding name; the embedded model has learned the opposite.
FAVOUR = {"interview": (-0.8, 0.0, 0.8), "decision": (0.0, 1.2)}
# What so few steps leave between a language model and its text: at most 0.011 with four seeds.
TOLERANCE = 0.03


@dataclass(frozen=True)
class Found:
    """What an audit says, the truth, and which effects it calls discoveries; in the order of ``EFFECTS``."""

    value: np.ndarray
    truth: np.ndarray
    discovery: np.ndarray


def short(bias: dict[str, tuple[float, ...]]) -> Vignette:
    """Three sentences of the hiring vignette, with a bias by name."""
    variables = []
    for variable in (hiring[name] for name in SENTENCES):
        effects = {parent: rows for parent, rows in variable.effects.items() if parent in SENTENCES[1:]}
        if variable.name in bias:
            effects["applicant"] = dict.fromkeys(("Lakisha", "Jamal"), bias[variable.name])
        variables.append(replace(variable, effects=effects))
    return Vignette("short", tuple(variables), treatment="applicant", outcome="decision")


def taught(lm: sd.LanguageModel, vignette: Vignette, steps: int) -> sd.LanguageModel:
    """The language model after so many steps of sixteen texts each."""
    writer = DocumentWriter(vignette, lm.codec, wording_weight=0.1, drop=0.0, width=4)
    rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, steps // 10, steps)
    return train_lm(lm, packed_batches([writer], [1.0], 8, 66, steps, seed=steps), optax.adam(rate, b2=0.98))


@pytest.fixture(scope="module")
def spec() -> AuditSpec:
    """The ready audit, of these sentences."""
    left_out = [v.name for v in audit_spec("hiring").variables if v.name not in SENTENCES]
    return replace(audit_spec("hiring").known_to(hiring).without(*left_out), scorings=("sequence",))


@pytest.fixture(scope="module")
def found(embedded: sd.LanguageModel, spec: AuditSpec) -> dict[str, Found]:
    """Audits of one that was taught to favour, and of the same one after it was taught not to."""
    all_found, lm = {}, embedded
    for name, vignette, steps in (("favours", short(FAVOUR), 160), ("fair", short({}), 100)):
        lm = taught(lm, vignette, steps)
        result = audit(spec, {name: lm}, wordings=5, option_wordings=1, pairs=0, truth=vignette)
        assert result.truth is not None
        assert result.effects["effect"].tolist() == result.truth["effect"].tolist() == EFFECTS
        said = result.effects
        all_found[name] = Found(
            said["value"].to_numpy(), result.truth["value"].to_numpy(), said["discovery"].to_numpy()
        )
    return all_found


@pytest.mark.slow
def test_what_was_taught_is_found(found: dict[str, Found]) -> None:
    favours = found["favours"]
    total, direct, illegitimate, legitimate, unfair = favours.truth
    # Both ways carry more than could be missed. No test score is told, so that nothing goes the legitimate way.
    assert direct > 0.2
    assert illegitimate > 2 * TOLERANCE
    assert (total, legitimate, unfair) == (pytest.approx(direct + illegitimate), 0.0, total)
    np.testing.assert_allclose(favours.value, favours.truth, atol=TOLERANCE)
    assert favours.discovery.tolist() == [True, True, True, False, True]


@pytest.mark.slow
def test_what_was_untaught_is_gone(found: dict[str, Found]) -> None:
    fair = found["fair"]
    np.testing.assert_array_equal(fair.truth, 0.0)
    np.testing.assert_allclose(fair.value, 0.0, atol=TOLERANCE / 2)
    assert abs(fair.value[0]) < found["favours"].value[0] / 10


def test_one_that_cannot_tell_names_apart_has_no_effect(embedded: sd.LanguageModel, spec: AuditSpec) -> None:
    """In any wording: the names of both levels have the same embedding. Scores round to some 1e-5 nats."""
    white, black = (
        jnp.array([token for name in names for token in embedded.codec.encode(f" {name}")])
        for names in (("Emily", "Greg"), ("Lakisha", "Jamal"))
    )
    assert len(white) == len(black) == 2
    path = ("embedding", "embedding")
    flat = dict(nnx.to_flat_state(embedded.params))
    table = flat[path][...]
    flat[path] = flat[path].replace(table.at[black].set(table[white]))
    blind = replace(embedded, params=nnx.from_flat_state(flat))
    cells = audit(spec, {"blind": blind}, wordings=5, option_wordings=2, pairs=0).cells
    np.testing.assert_allclose(cells[EFFECTS].to_numpy(np.float64), 0.0, atol=1e-4)
