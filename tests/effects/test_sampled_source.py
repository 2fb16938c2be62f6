"""Effects over simulated units: their limit is the exact effect, and a simulation's worlds are all that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist

import chex
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest

import sdscm_jax as sd
from sdscm_jax import effects
from sdscm_jax.dsl.handlers.intervention import nested
from sdscm_jax.effects.counterfactual_graph import Target
from sdscm_jax.errors import EffectError, InterventionError, SiteError

from ..dice import die
from ..hiring import HIGH, LOW

N = 4000
PAIR = ("degree", "interview")
# 4.5 standard errors on each side.
WIDE = 2 * NormalDist().cdf(4.5) - 1
# Rounding of log-probabilities.
ATOL = 5e-5
AS_LOW = {"degree": HIGH, **dict.fromkeys(("experience", "test"), nested({"degree": LOW}))}
AS_HIGH = {"degree": LOW, **dict.fromkeys(("experience", "test"), nested({"degree": HIGH}))}
WORLDS = [
    {"degree": LOW},
    {"degree": HIGH},
    {"degree": LOW, "test": "high"},
    {"degree": HIGH, "test": "high"},
    AS_LOW,
    AS_HIGH,
]

Effects = Callable[[object, str, str], effects.Effect]
# Everything that is about single worlds, and that these worlds are enough for.
ALL: dict[str, Effects] = {
    "ate": effects.ate,
    "ate of a number": lambda *a, **k: effects.ate(*a, score=[-1.0, 0.5, 2.0], **k),
    "att": effects.att,
    "att of the others": lambda *a, **k: effects.att(*a, HIGH, LOW, **k),
    "cate": lambda *a, **k: effects.cate(*a, by=["applicant"], **k),
    "contrasts": effects.contrasts,
    "cde": lambda *a, **k: effects.cde(*a, mediators={"test": "high"}, **k),
    "nde": effects.nde,
    "nie": effects.nie,
    "total variation": effects.total_variation,
    "wasserstein": effects.wasserstein,
    "pns": lambda *a, **k: effects.pns(*a, option="impressive", **k),
    "pn": lambda *a, **k: effects.pn(*a, option="impressive", **k),
    "ps": lambda *a, **k: effects.ps(*a, option="impressive", **k),
    "potential outcomes": effects.potential_outcomes,
    "potential outcomes of some": lambda *a, **k: effects.potential_outcomes(
        *a, evidence={"degree": LOW, "applicant": "Emily"}, **k
    ),
    "potential outcomes given the outcome": lambda *a, **k: effects.potential_outcomes(
        *a, evidence={"interview": "impressive"}, **k
    ),
}
ALONG = {
    "without": [("degree", "test"), ("test", "interview")],
    "with a witness": [("degree", "experience"), ("experience", "interview")],
}


@pytest.fixture(scope="module")
def exact(table: sd.Tabulated) -> effects.Exact:
    return effects.exact(table)


@pytest.fixture(scope="module")
def sampled(table: sd.Tabulated) -> effects.Sampled:
    source = effects.sampled(table, 0, N)
    source.prepare([Target("interview", world) for world in WORLDS])
    return source


@pytest.fixture(scope="module")
def simulated(table: sd.Tabulated) -> sd.Simulation:
    return sd.simulate(table, 0, N, worlds=WORLDS)


def near(found: effects.Effect, truth: effects.Effect) -> None:
    assert truth.exact
    assert not found.exact
    assert found.units == N
    assert (found.labels, found.formula) == (truth.labels, truth.formula)
    assert (found.lower - ATOL <= truth.value).all(), (found, truth)
    assert (truth.value <= found.upper + ATOL).all(), (found, truth)
    # It says something: intervals are of the size of one over the root of N.
    assert (found.upper - found.lower < 12 / np.sqrt(N)).all()
    assert found.coupling == truth.coupling
    assert any("coupling" in text for text in found.left_out) == (found.coupling is not None)


@pytest.mark.parametrize("name", ALL)
def test_limit(name: str, sampled: effects.Sampled, exact: effects.Exact) -> None:
    near(ALL[name](sampled, *PAIR, level=WIDE), ALL[name](exact, *PAIR))


@pytest.mark.parametrize("name", ALONG)
def test_limit_along_edges(name: str, sampled: effects.Sampled, exact: effects.Exact) -> None:
    found = effects.path_effect(sampled, *PAIR, edges=ALONG[name], level=WIDE)
    near(found, effects.path_effect(exact, *PAIR, edges=ALONG[name]))
    assert found.coupling == ("gumbel" if name == "with a witness" else None)


@pytest.mark.parametrize("name", ALL)
def test_a_simulation_is_a_source(name: str, sampled: effects.Sampled, simulated: sd.Simulation) -> None:
    found, expected = ALL[name](simulated, *PAIR), ALL[name](sampled, *PAIR)
    chex.assert_trees_all_close(
        (found.value, found.lower, found.upper), (expected.value, expected.lower, expected.upper), atol=ATOL
    )


def test_worlds_that_are_missing(simulated: sd.Simulation) -> None:
    with pytest.raises(
        EffectError, match=r"no world do\(degree=master's degree, test=low\): simulate with it in worlds="
    ):
        effects.cde(simulated, *PAIR, LOW, HIGH, mediators={"test": "low"})
    with pytest.raises(EffectError, match="effects along edges need the program"):
        effects.path_effect(simulated, *PAIR, edges=ALONG["without"])
    # The factual world is enough for a site that the treatment does not cause.
    assert np.abs(effects.ate(simulated, "degree", "applicant").value).max() == 0


def test_values_handed_on_are_not_the_mechanism_s(simulated: sd.Simulation) -> None:
    # In the nested worlds a mediator has the value, but not the law, that it has in another world.
    order = [0, *range(len(WORLDS), 0, -1)]
    backwards = replace(
        simulated,
        worlds=tuple(simulated.worlds[w] for w in order),
        interventions=tuple(simulated.interventions[w] for w in order),
        values={name: x[:, order] for name, x in simulated.values.items()},
        log_probs={name: x[:, order] for name, x in simulated.log_probs.items()},
    )
    for mediator in ("experience", "test"):
        found, expected = (effects.ate(data, "degree", mediator).value for data in (backwards, simulated))
        chex.assert_trees_all_close(found, expected, atol=1e-12)


def test_individuals(sampled: effects.Sampled, simulated: sd.Simulation, exact: effects.Exact) -> None:
    found = effects.ite(sampled, *PAIR)
    chex.assert_shape((found.expected, found.outcomes, found.probabilities), [(N, 3), (N, 2), (N, 2, 3)])
    chex.assert_trees_all_close(found.expected.mean(0), effects.ate(sampled, *PAIR).value, atol=ATOL)
    stay = 1 - effects.potential_outcomes(exact, *PAIR).value.reshape(3, 3).trace()
    assert abs(found.changed.mean() - stay) < 4.5 * np.sqrt(stay * (1 - stay) / N)
    assert found.coupling == "inverse_cdf, gumbel" or found.coupling == "gumbel, inverse_cdf"
    again = effects.ite(simulated, *PAIR)
    chex.assert_trees_all_equal(again.outcomes, found.outcomes)
    with pytest.raises(EffectError, match="exact sources have no units"):
        effects.ite(exact, *PAIR)


@pytest.mark.parametrize("f", [effects.pn, effects.ps, effects.pns])
def test_bounds_are_those_of_tian_and_pearl(
    f: Callable[..., effects.Effect], sampled: effects.Sampled, exact: effects.Exact
) -> None:
    # With mediators they are made from experiments and observations; exact ones also use the applicant.
    for option in ("weak", "impressive"):
        found, truth = f(sampled, *PAIR, option=option), f(exact, *PAIR, option=option)
        assert found.bounds is not None
        assert truth.bounds is not None
        assert found.bounds[0][0] - ATOL <= found.value[0] <= found.bounds[1][0] + ATOL
        assert found.bounds[0][0] <= truth.bounds[0][0] + 0.03
        assert found.bounds[1][0] >= truth.bounds[1][0] - 0.03


@pytest.mark.slow
def test_evidence_below_the_treatment(embedded: sd.LanguageModel) -> None:
    # Of units with t1 and y1: would they have y1 with t0? That is the probability of necessity, here by abduction.
    def model(lm: sd.LanguageModel) -> None:
        t = sd.sample("t", die(lm, [0.3, 0.7], ("t0", "t1")))
        m = numpyro.deterministic("m", 1 - t.index)
        law = jnp.array([[0.6, 0.3, 0.1], [0.2, 0.4, 0.4]])[(1 + t.index - m) // 2]
        sd.sample("y", die(lm, law, ("y0", "y1", "y2")))

    n = 2000
    source = effects.sampled(model, 1, n, embedded, evidence={"t": "t1", "y": "y1"}, draws=2)
    found = effects.potential_outcomes(source, "t", "y")
    assert found.units == n
    chex.assert_trees_all_close(sum(found[f"{y} -> y1"] for y in ("y0", "y1", "y2")), 1.0)
    truth = float(effects.pn(effects.exact(model, embedded), "t", "y", option="y1"))
    changed = 1 - found["y1 -> y1"]
    assert abs(changed - truth) < 4.5 * np.sqrt(truth * (1 - truth) / n)
    # Their average effect depends on the coupling, which that of everybody does not.
    ate = effects.ate(source, "t", "y")
    chex.assert_trees_all_close(ate["y1"], changed)
    assert ate.coupling == "gumbel"
    assert found.bounds is None
    # A simulation says of itself what it was given.
    worlds = [{"t": "t0"}, {"t": "t1"}]
    evidence = {"t": "t1", "y": "y1"}
    data = sd.simulate(model, 1, n, embedded, evidence=evidence, draws=2, worlds=worlds)
    assert set(data.evidence) == set(evidence)
    chex.assert_trees_all_close(effects.ate(data, "t", "y").value, ate.value)
    with pytest.raises(EffectError, match="effects along edges are of units without any"):
        effects.path_effect(source, "t", "y", edges=[("t", "y")])


def test_what_is_not_in_the_model(sampled: effects.Sampled) -> None:
    with pytest.raises(SiteError, match="unknown site 'degre'; did you mean 'degree'"):
        effects.ate(sampled, "degre", "interview")
    with pytest.raises(InterventionError, match="site 'degree' has no option 'masters degree'; did you mean"):
        effects.ate(sampled, *PAIR, LOW, "masters degree")
    with pytest.raises(EffectError, match="site 'applicant' is exogenous"):
        effects.ate(sampled, "applicant", "interview")
    with pytest.raises(EffectError, match="low and high are both"):
        effects.ate(sampled, *PAIR, LOW, LOW)
    with pytest.raises(EffectError, match="treatment 'test' has 3 options; say which two"):
        effects.ate(sampled, "test", "interview")
    with pytest.raises(EffectError, match="'test' is caused by 'degree', so it is no covariate"):
        effects.cate(sampled, *PAIR, by="test")
    with pytest.raises(EffectError, match=r"mediator 'applicant' is on no path.*'experience', 'test'"):
        effects.nde(sampled, *PAIR, mediators=["applicant"])
