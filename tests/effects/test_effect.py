"""What an effect says of itself, and of what it is not."""

from __future__ import annotations

import chex
import numpy as np
import pandas as pd
import pytest

from sdscm_jax import effects
from sdscm_jax.dsl.analysis.graph import Graph
from sdscm_jax.dsl.analysis.structure import Site
from sdscm_jax.engine.simulation import Simulation
from sdscm_jax.errors import EffectError, SiteError

RAIN = effects.Factor("rain", (), np.array([0.8, 0.2]), ("no", "yes"))
WET = effects.Factor("wet", ("rain",), np.array([[0.9, 0.1], [0.2, 0.8]]), ("no", "yes"))
NETWORK = effects.Network((RAIN, WET))
N = 400


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    """A treatment, a choice and a number that it causes."""
    rng = np.random.default_rng(0)
    levels = np.stack([rng.integers(0, 2, N), np.zeros(N, int), np.ones(N, int)], 1)
    probs = np.array([[0.9, 0.1], [0.2, 0.8]])[levels]
    wet = (rng.random((N, 1)) < probs[..., 1]).astype(np.int32)
    depth = rng.normal(size=(N, 1)) + 2.0 * levels
    sites = (
        Site("rain", "choice", options=("no", "yes"), coupling="gumbel"),
        Site("wet", "choice", parents=("rain",), options=("no", "yes"), coupling="gumbel"),
        Site("depth", "Normal", parents=("rain",)),
    )
    values = {"rain": levels, "wet": wet, "depth": depth}
    labels, interventions = ("", "do(rain=no)", "do(rain=yes)"), ({}, {"rain": "no"}, {"rain": "yes"})
    return Simulation(Graph(sites), labels, values, {"wet": np.log(probs)}, interventions=interventions)


def test_text_of_an_exact_effect() -> None:
    assert str(effects.ate(NETWORK, "rain", "wet")).splitlines()[:3] == [
        "ATE: P(wet | do(rain=yes)) - P(wet | do(rain=no))",
        "  no   -0.7000",
        "  yes  +0.7000",
    ]
    found = effects.pns(NETWORK, "rain", "wet", option="yes")
    assert str(found).splitlines() == [
        "PNS: P(wet_{rain=yes} = yes, wet_{rain=no} != yes)",
        "  PNS  +0.7000  couplings: +0.7000 to +0.8000",
        f"  exact, {found.cost.operations:.2g} operations planned",
        "  depends on how worlds share noise (here: gumbel), which no data can tell",
    ]
    # No sign where there is nothing.
    assert "-0.0000" not in str(effects.ate(NETWORK, "wet", "rain"))
    assert (
        effects.ate(NETWORK, "rain", "wet", score=[0.0, 10.0]).formula == "E(wet | do(rain=yes)) - E(wet | do(rain=no))"
    )


def test_text_of_an_estimate(simulation: Simulation) -> None:
    ate, pns = effects.ate(simulation, "rain", "wet"), effects.pns(simulation, "rain", "wet", option="yes")
    assert f"95% intervals over {N} units; not in them: the wording" in str(ate)
    assert "coupling" not in str(ate)
    assert "how worlds share noise (the coupling)" in str(pns)
    assert effects.ate(NETWORK, "rain", "wet").left_out == ()
    assert ate.left_out == effects.total_variation(simulation, "rain", "wet").left_out
    assert set(pns.left_out) - set(ate.left_out) == {"how worlds share noise (the coupling)"}


def test_numbers_by_label() -> None:
    found = effects.ate(NETWORK, "rain", "wet")
    chex.assert_trees_all_close(found["yes"], 0.7)
    with pytest.raises(EffectError, match="ATE has no number of 'ye'; did you mean 'yes'"):
        found["ye"]
    with pytest.raises(TypeError, match=r"ATE is 2 numbers, of no, yes; see \.value"):
        float(found)
    chex.assert_trees_all_close(float(effects.total_variation(NETWORK, "rain", "wet")), 0.7)


def test_ends_are_two_floats(simulation: Simulation) -> None:
    pns = effects.pns(NETWORK, "rain", "wet", option="yes")
    assert pns.bounds_of() == pns.bounds_of("PNS") == pytest.approx((0.7, 0.8), abs=1e-12)
    assert pns.interval_of() == (float(pns), float(pns))
    ate = effects.ate(simulation, "rain", "wet")
    assert ate.interval_of("yes") == ate.interval_of(-1) == (ate.lower[1], ate.upper[1])
    assert ate.bounds_of("yes") is None
    with pytest.raises(EffectError, match="ATE is 2 numbers; say of which: no, yes"):
        ate.interval_of()
    with pytest.raises(EffectError, match="did you mean 'yes'"):
        ate.interval_of("ye")


def test_table() -> None:
    frame = effects.pns(NETWORK, "rain", "wet", option="yes").to_pandas()
    expected = pd.DataFrame(
        {"value": 0.7, "lower": 0.7, "upper": 0.7, "bound_lower": 0.7, "bound_upper": 0.8},
        index=pd.Index(["PNS"], name="PNS"),
    )
    pd.testing.assert_frame_equal(frame, expected)
    assert list(effects.ate(NETWORK, "rain", "wet").to_pandas().columns) == ["value", "lower", "upper"]


def test_a_number_as_outcome(simulation: Simulation) -> None:
    found = effects.ate(simulation, "rain", "depth")
    chex.assert_trees_all_close(found.value, np.array([2.0]))
    assert found.labels == ("mean depth",)
    assert found.formula == "E(depth | do(rain=yes)) - E(depth | do(rain=no))"
    # Rows of the treated, weighted as they are.
    rows = simulation.values["rain"][:, 0] == 1
    values = simulation.values["depth"][rows]
    chex.assert_trees_all_close(effects.att(simulation, "rain", "depth").value[0], (values[:, 2] - values[:, 1]).mean())
    for f in (effects.total_variation, effects.wasserstein, effects.potential_outcomes, effects.ite):
        with pytest.raises(EffectError, match="site 'depth' has no options"):
            f(simulation, "rain", "depth")
    with pytest.raises(EffectError, match="treatment 'depth' has no options"):
        effects.ate(simulation, "depth", "wet")
    with pytest.raises(EffectError, match="covariate 'depth' has no options"):
        effects.cate(simulation, "wet", "rain", by="depth")


def test_arguments_that_are_refused() -> None:
    for call, error, why in (
        (lambda: effects.ate(NETWORK, "rain", "rain"), EffectError, "treatment and outcome are both 'rain'"),
        (lambda: effects.cate(NETWORK, "wet", "rain", by=[]), EffectError, "the effect on everybody is ate"),
        (lambda: effects.ate(NETWORK, "rain", "wet", score=[1.0]), SiteError, "has 2 options, score has 1 numbers"),
        (
            lambda: effects.ate(NETWORK, "rain", "wet", score={"yes": 1.0}),
            SiteError,
            r"score gives numbers for \['yes'\]",
        ),
        (lambda: effects.contrasts(NETWORK, "rain", "wet", ["no"]), EffectError, "need two levels or more"),
        (
            lambda: effects.contrasts(NETWORK, "rain", "wet", weights={"odd": {"yes": 1.0, "no": -0.5}}),
            EffectError,
            "weights of contrast 'odd' sum to 0.5, not to 0",
        ),
        (
            lambda: effects.contrasts(NETWORK, "rain", "wet", weights={"odd": {"yes": np.nan, "no": -1.0}}),
            EffectError,
            "the weight of 'yes' in contrast 'odd' is a finite number, got nan",
        ),
        (
            lambda: effects.ate(NETWORK, "rain", "wet", score={"no": 0.0, "yes": np.inf}),
            EffectError,
            "score of 'wet' is a finite number, got inf",
        ),
        (
            lambda: effects.cde(NETWORK, "rain", "wet", mediators={"wet": "no"}),
            EffectError,
            "is the treatment or the outcome",
        ),
    ):
        with pytest.raises(error, match=why):
            call()


@pytest.mark.parametrize("row", [[0.5, 0.6], [-0.5, 1.5], [np.nan, 1.0], [0.0, 0.0], [np.inf, 0.0]])
def test_a_table_that_is_no_law_is_refused(row: list[float]) -> None:
    rain = effects.Factor("rain", (), np.array([0.5, 0.5]), ("no", "yes"))
    wet = effects.Factor("wet", ("rain",), np.array([[0.9, 0.1], row]), ("no", "yes"))
    with pytest.raises(SiteError, match=r"site 'wet': its table is of probabilities.*got \["):
        effects.Network((rain, wet))
