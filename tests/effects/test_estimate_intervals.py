"""Intervals over units contain the exact effect as often as they say; simulations are made by hand, without JAX."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import chex
import numpy as np
import pytest
from scipy import stats

from sdscm_jax import effects
from sdscm_jax.dsl.analysis.graph import Graph
from sdscm_jax.dsl.analysis.structure import Site
from sdscm_jax.dsl.handlers.intervention import nested
from sdscm_jax.effects.effect import effect
from sdscm_jax.effects.estimate import Estimate
from sdscm_jax.effects.estimate import quantile as student
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


@pytest.mark.parametrize("n", [2, 3, 6])
def test_few_units_have_the_interval_of_student(n: int) -> None:
    rng, hits = np.random.default_rng(n), []
    for _ in range(2000):
        estimate = Estimate.of_units(rng.normal(1.0, 0.3, n))
        found = effect("ATE", "", ["y"], estimate, 0.95)
        hits.append(found.lower[0] <= 1.0 <= found.upper[0])
    assert 0.935 <= np.mean(hits) <= 0.965


def test_a_group_has_the_interval_of_its_own_units() -> None:
    """By hand: the mean of the group's differences, its standard error, Student's t with the group's degrees."""
    data = simulation(3, 40)
    found = effects.cate(data, "t", "y", "t0", "t2", by="c", score=[0.0, 1.0, 3.0])
    laws = np.exp(data.log_probs["y"].astype(float))
    own = (laws[:, 3] - laws[:, 1]) @ np.array([0.0, 1.0, 3.0])
    for k in range(2):
        x = own[data.values["c"][:, 0] == k]
        half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
        chex.assert_trees_all_close(
            (found.value[k], found.lower[k], found.upper[k]), (x.mean(), x.mean() - half, x.mean() + half), rtol=1e-5
        )
    counts = np.bincount(data.values["c"][:, 0])
    assert found.to_pandas()["units"].tolist() == counts.tolist()
    assert f"over 40 units (each number is of {counts.min()} to {counts.max()} of them)" in str(found)


def test_one_unit_has_no_interval() -> None:
    one = simulation(0, 1)
    for name, f in FUNCTIONS.items():
        found = f(one, "t", "y", "t0", "t2")
        assert np.isnan([found.lower, found.upper]).all(), name
    found = effects.total_variation(one, "t", "y", "t0", "t2")
    assert np.isnan([found.lower, found.upper]).all()
    found = effects.cate(one, "t", "y", "t0", "t2", by="c", score=[0.0, 1.0, 3.0])
    assert sorted(found.group_units) == [0, 1]
    assert "no interval (1 unit)" in str(found)
    assert "no interval (0 units)" in str(found)


def test_units_that_are_alike_are_no_certainty() -> None:
    """t -> m -> y where m rarely moves: a sample without such a unit has a variance of 0 and says little."""
    rare = 0.05
    model = Model(
        {"t": (), "m": (), "y": ("t", "m")},
        {
            "t": np.array([0.5, 0.5]),
            "m": np.array([1 - rare, rare]),
            "y": np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.8, 0.2], [0.0, 1.0]]]),
        },
    )
    graph = Graph(tuple(Site(x, "choice", model.parents[x], options=model.options(x)) for x in model.names))
    truth, n, hits, alike = 0.2 * (1 - rare) + rare, 10, [], 0
    for seed in range(300):
        units = Units(model, "gumbel", n, seed)
        worlds = [units.world({}), units.world({"t": 0}), units.world({"t": 1})]
        values = {x: np.stack([world[x] for world in worlds], 1).astype(np.int32) for x in model.names}
        with np.errstate(divide="ignore"):
            laws = {"y": np.log(model.tables["y"][values["t"], values["m"]]).astype(np.float32)}
        labels, interventions = ("", "do(t=t0)", "do(t=t1)"), ({}, {"t": "t0"}, {"t": "t1"})
        data = Simulation(graph, labels, values, laws, interventions=interventions)
        found = effects.ate(data, "t", "y")
        hits.append(found.lower[1] <= truth <= found.upper[1])
        alike += not values["m"].any()
        assert found.upper[1] > found.lower[1]
        # Where the graph says that all units of a group are alike, they are.
        group = effects.cate(data, "t", "y", by="m")
        assert group.lower[1] == pytest.approx(0.2, abs=1e-6)
        assert group.upper[1] == pytest.approx(0.2, abs=1e-6)
        # The treatment does not cause m.
        none = effects.ate(data, "t", "m")
        assert none.lower.tolist() == none.upper.tolist() == [0.0, 0.0]
    assert alike > 100
    assert np.mean(hits) >= 0.93


def test_a_mean_that_few_units_make_is_covered() -> None:
    """Log-normal units, of which a few have nearly all of it: Student's t alone misses every fourth time."""
    rng = np.random.default_rng(5)
    draw = lambda size: np.minimum(np.exp(rng.normal(-8.0, 2.0, size)), 1.0)  # noqa: E731
    truth = float(draw(10**7).mean())
    missed, by_t = [], []
    for _ in range(400):
        units = draw(60)
        e = effect("PNS", "", ["1"], Estimate.of_units(units), 0.95, inside=(0.0, 1.0))
        missed.append(not e.lower[0] <= truth <= e.upper[0])
        half = student(np.array(60.0), 0.95) * units.std(ddof=1) / np.sqrt(60)
        by_t.append(not units.mean() - half <= truth <= units.mean() + half)
    assert np.mean(by_t) > 0.15
    assert np.mean(missed) < 0.05


@pytest.mark.parametrize("draw", ["normal", "uniform", "binary"])
def test_an_even_mean_has_the_interval_of_student(draw: str) -> None:
    rng = np.random.default_rng(6)
    make = {"normal": lambda: rng.normal(0.5, 0.1, 60), "uniform": lambda: rng.uniform(size=60),
            "binary": lambda: rng.permutation(np.repeat([0.0, 1.0], [36, 24]))}[draw]  # fmt: skip
    wider = 0
    for _ in range(200):
        units = make()
        e = effect("ATE", "", ["1"], Estimate.of_units(units), 0.95, inside=(-9.0, 9.0))
        half = student(np.array(60.0), 0.95) * units.std(ddof=1) / np.sqrt(60)
        wider += abs(e.upper[0] - e.lower[0] - 2 * half) > 1e-9
    assert wider <= 8
