"""Intervals over units contain the exact effect as often as they say; simulations are made by hand, without JAX."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import chex
import numpy as np
import pytest

from sdscm_jax import effects
from sdscm_jax.dsl.graph import Graph
from sdscm_jax.dsl.intervention import nested
from sdscm_jax.dsl.structure import Site
from sdscm_jax.effects.estimate import Estimate
from sdscm_jax.engine.simulation import Simulation

from .brute import Model, Units

REPETITIONS, FEWER, UNITS = 250, 100, 200
TABLES = {
    "c": [0.4, 0.6],
    "t": [[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]],
    "m": [[0.7, 0.3], [0.4, 0.6], [0.2, 0.8]],
    "y": [
        [[[0.6, 0.3, 0.1], [0.3, 0.4, 0.3]], [[0.5, 0.4, 0.1], [0.2, 0.5, 0.3]], [[0.3, 0.4, 0.3], [0.1, 0.4, 0.5]]],
        [[[0.4, 0.3, 0.3], [0.3, 0.3, 0.4]], [[0.3, 0.4, 0.3], [0.2, 0.2, 0.6]], [[0.2, 0.4, 0.4], [0.1, 0.2, 0.7]]],
    ],
}
MODEL = Model(
    {"c": (), "t": ("c",), "m": ("t",), "y": ("c", "t", "m")}, {name: np.array(x) for name, x in TABLES.items()}
)
GRAPH = Graph(
    tuple(
        Site(name, "choice", MODEL.parents[name], options=MODEL.options(name), coupling="gumbel")
        for name in MODEL.names
    )
)


def simulation(seed: int, n: int = UNITS) -> Simulation:
    """Units in the factual world, under each level of t, and with t2 where m is as under t0."""
    units = Units(MODEL, "gumbel", n, seed)
    worlds = [units.world({}), *(units.world({"t": k}) for k in range(3))]
    worlds.append(units.world({"t": 2, "m": worlds[1]["m"]}))
    labels = ("", "do(t=t0)", "do(t=t1)", "do(t=t2)", "do(t=t2, m=nested(t=t0))")
    values = {name: np.stack([world[name] for world in worlds], 1).astype(np.int32) for name in MODEL.names}
    log_probs = {}
    for name in MODEL.names:
        probs = MODEL.tables[name][tuple(values[p] for p in MODEL.parents[name])]
        log_probs[name] = np.log(np.broadcast_to(probs, (n, len(worlds), MODEL.size(name)))).astype(np.float32)
    mediator = {"t": "t2", "m": nested({"t": "t0"})}
    interventions = ({}, *({"t": f"t{k}"} for k in range(3)), mediator)
    return Simulation(GRAPH, labels, values, log_probs, interventions=interventions)


FUNCTIONS: dict[str, Callable[..., effects.Effect]] = {
    "ate": effects.ate,
    "ate of a number": partial(effects.ate, score=[0.0, 1.0, 3.0]),
    "att": effects.att,
    "cate": partial(effects.cate, by="c"),
    "nde": effects.nde,
    "pns": partial(effects.pns, option="y2"),
    "pn": partial(effects.pn, option="y2"),
    "ps": partial(effects.ps, option="y2"),
}


@pytest.fixture(scope="module")
def simulations() -> list[Simulation]:
    return [simulation(seed) for seed in range(REPETITIONS)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_coverage(name: str, simulations: list[Simulation]) -> None:
    truth = FUNCTIONS[name](MODEL.network(), "t", "y", "t0", "t2").value
    found = [FUNCTIONS[name](data, "t", "y", "t0", "t2") for data in simulations]
    covered = np.mean([(effect.lower <= truth) & (truth <= effect.upper) for effect in found], 0)
    assert ((covered >= 0.90) & (covered <= 0.99)).all(), covered
    # And they are not all the same number.
    assert np.std([effect.value for effect in found], 0).min() > 0


def test_contrasts_hold_together(simulations: list[Simulation]) -> None:
    truth = effects.contrasts(MODEL.network(), "t", "y").value
    found = [effects.contrasts(data, "t", "y") for data in simulations[:FEWER]]
    together = np.mean([((effect.lower <= truth) & (truth <= effect.upper)).all() for effect in found])
    assert 0.88 <= together <= 0.99
    # Wider than intervals that hold one by one.
    single = effects.ate(simulations[0], "t", "y", "t0", "t1")
    width = (found[0].upper - found[0].lower)[: MODEL.size("y")]
    assert (width > 1.1 * (single.upper - single.lower)).all()


@pytest.mark.parametrize("f", [effects.total_variation, effects.wasserstein])
def test_distances_are_conservative(f: Callable[..., effects.Effect], simulations: list[Simulation]) -> None:
    truth = float(f(MODEL.network(), "t", "y", "t0", "t2"))
    found = [f(data, "t", "y", "t0", "t2") for data in simulations[:FEWER]]
    # Where one law is shifted against the other, the distance is a difference of means, and its level is the nominal.
    assert np.mean([effect.lower[0] <= truth <= effect.upper[0] for effect in found]) >= 0.90
    assert all(effect.lower[0] >= 0 and effect.upper[0] <= 2 for effect in found)


@pytest.mark.parametrize("f", [effects.total_variation, effects.wasserstein])
def test_distance_of_equal_laws(f: Callable[..., effects.Effect]) -> None:
    # Where there is no effect, an estimated distance is positive; its interval contains 0 all the same.
    model = Model(
        {"t": (), "m": ("t",), "y": ("m",)},
        {"t": np.array([0.5, 0.5]), "m": np.array([[0.3, 0.7], [0.3, 0.7]]), "y": np.array([[0.8, 0.2], [0.3, 0.7]])},
    )
    zeros = 0
    for seed in range(FEWER):
        units = Units(model, "independent", UNITS, seed)
        worlds = [
            units.world({}),
            units.world({"t": 0}),
            Units(model, "independent", UNITS, 1000 + seed).world({"t": 1}),
        ]
        sites = [
            Site(n, "choice", model.parents[n], options=model.options(n), coupling="independent") for n in model.names
        ]
        values = {n: np.stack([world[n] for world in worlds], 1).astype(np.int32) for n in model.names}
        labels, interventions = ("", "do(t=t0)", "do(t=t1)"), ({}, {"t": "t0"}, {"t": "t1"})
        found = f(Simulation(Graph(tuple(sites)), labels, values, {}, interventions=interventions), "t", "y")
        assert found.value[0] >= 0
        zeros += found.lower[0] == 0
    assert 0.90 <= zeros / FEWER <= 1


def test_averaged_laws_are_less_noisy(simulations: list[Simulation]) -> None:
    # What was drawn has the same mean and a wider interval.
    drawn = [data.values["y"] for data in simulations]
    plain = [np.bincount(y[:, 3], minlength=3) / UNITS - np.bincount(y[:, 1], minlength=3) / UNITS for y in drawn]
    averaged = [effects.ate(data, "t", "y", "t0", "t2").value for data in simulations]
    assert (np.std(averaged, 0) < 0.7 * np.std(plain, 0)).all()


def test_rows_of_one_unit_are_one_observation() -> None:
    data = simulation(0)
    twice = Simulation(
        GRAPH,
        data.worlds,
        {name: np.repeat(x, 2, 0) for name, x in data.values.items()},
        {name: np.repeat(x, 2, 0) for name, x in data.log_probs.items()},
        draws=2,
        interventions=data.interventions,
    )
    for name, f in FUNCTIONS.items():
        one, two = (f(source, "t", "y", "t0", "t2") for source in (data, twice))
        assert two.units == UNITS, name
        chex.assert_trees_all_close((one.value, one.lower, one.upper), (two.value, two.lower, two.upper), atol=1e-12)


def test_ratio_of_means() -> None:
    # The delta method, against its textbook formula.
    rng = np.random.default_rng(0)
    a, b = rng.normal(2, 1, 500), rng.normal(5, 1, 500)
    found = Estimate.of_units(a) / Estimate.of_units(b)
    ratio = a.mean() / b.mean()
    units = b.sum() ** 2 / (b**2).sum()
    variance = np.var(a - ratio * b) / b.mean() ** 2 / 500 * units / (units - 1)
    chex.assert_trees_all_close((found.value, found.covariance[0, 0]), (ratio, variance), rtol=1e-12)


def test_a_ratio_with_weights_is_the_mean_of_those_that_it_counts() -> None:
    rng = np.random.default_rng(0)
    units, seen = rng.normal(size=(50, 3)), (rng.random(50) < 0.2).astype(float)
    found = Estimate.of_units(units * seen[:, None]) / Estimate.of_units(seen[:, None])
    own = units[seen == 1]
    chex.assert_trees_all_close(found.value, own.mean(0), atol=1e-12)
    chex.assert_trees_all_close(found.covariance, np.cov(own.T) / len(own), atol=1e-12)
    chex.assert_trees_all_equal(found.units_of_each, np.full(3, len(own), float))
    nobody = Estimate.of_units(units * 0) / Estimate.of_units(seen[:, None] * 0)
    assert np.isnan(nobody.value).all()
    assert (nobody.units_of_each == 0).all()
