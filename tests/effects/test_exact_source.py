"""Exact effects against sums over every joint value of small random models."""

from __future__ import annotations

import itertools

import chex
import numpy as np
import pytest

from sdscm_jax import effects
from sdscm_jax.effects.counterfactual_graph import Target

from .brute import Model, Units, random_model

TOLERANCE = 1e-12
MODELS = [(seed, 3 + seed % 3) for seed in range(9)]
models = pytest.mark.parametrize("model", [random_model(*key) for key in MODELS], ids=map(str, MODELS))
N = 200_000


def close(found: effects.Effect, expected: np.ndarray) -> None:
    chex.assert_trees_all_close(found.value, np.ravel(expected), atol=TOLERANCE, rtol=0)
    chex.assert_trees_all_equal(found.lower, found.value)
    chex.assert_trees_all_equal(found.upper, found.value)
    assert found.exact
    assert found.cost is not None
    assert found.cost.operations > 0


@models
def test_average_effects(model: Model) -> None:
    network = model.network()
    by = [model.law("y", {"t": value}) for value in (0, 1)]
    close(effects.ate(network, "t", "y"), by[1] - by[0])
    close(effects.ate(network, "t", "y", "t1", "t0"), by[0] - by[1])
    close(effects.ate(network, "t", "y", 0, 1), by[1] - by[0])
    score = np.arange(model.size("y")) ** 2.0
    close(effects.ate(network, "t", "y", score=list(score)), (by[1] - by[0]) @ score)
    named = dict(zip(model.options("y"), score, strict=True))
    close(effects.ate(network, "t", "y", score=named), (by[1] - by[0]) @ score)
    for group in (0, 1):
        treated = [model.law_of_group("y", "t", value, group) for value in (0, 1)]
        low, high = f"t{1 - group}", f"t{group}"
        close(effects.att(network, "t", "y", low, high), treated[group] - treated[1 - group])


@models
def test_groups(model: Model) -> None:
    network = model.network()
    found = effects.cate(network, "t", "y", by="c")
    laws = [[model.law("y", {"t": value}, {"c": c}) for value in (0, 1)] for c in range(model.size("c"))]
    chex.assert_trees_all_close(found.value, np.ravel([high - low for low, high in laws]), atol=TOLERANCE, rtol=0)
    assert found.labels == tuple(f"c={c}: {y}" for c, y in itertools.product(model.options("c"), model.options("y")))
    # A group that does not occur has no effect.
    absent = [c for c in range(model.size("c")) if model.tables["c"][c] == 0]
    for c in absent:
        assert np.isnan(found.value.reshape(model.size("c"), -1)[c]).all()


@models
def test_distances(model: Model) -> None:
    network = model.network()
    low, high = (model.law("y", {"t": value}) for value in (0, 1))
    close(effects.total_variation(network, "t", "y"), 0.5 * np.abs(high - low).sum())
    places = np.random.default_rng(0).normal(size=model.size("y"))
    order = np.argsort(places)
    # Wasserstein-1 as the area between the distribution functions.
    steps = np.abs((high - low)[order].cumsum()[:-1]) * np.diff(places[order])
    close(effects.wasserstein(network, "t", "y", score=list(places)), steps.sum())
    close(effects.wasserstein(network, "t", "y"), np.abs((high - low).cumsum()[:-1]).sum())


@pytest.mark.parametrize("seed", range(4))
def test_contrasts(seed: int) -> None:
    model = random_model(seed, 4, treated=4)
    network = model.network()
    laws = [model.law("y", {"t": k}) for k in range(4)]
    found = effects.contrasts(network, "t", "y")
    pairs = list(itertools.combinations(range(4), 2))
    close(found, np.array([laws[b] - laws[a] for a, b in pairs]))
    assert found.labels[0] == "t1 - t0: y0"
    some = effects.contrasts(network, "t", "y", ["t3", "t1"])
    close(some, laws[1] - laws[3])
    trend = {"trend": {"t0": -3.0, "t1": -1.0, "t2": 1.0, "t3": 3.0}}
    close(effects.contrasts(network, "t", "y", weights=trend), np.array([-3, -1, 1, 3]) @ np.array(laws))


@models
def test_direct_and_indirect(model: Model) -> None:
    network = model.network()
    mediators = model.between("t", "y")
    assert effects.mediators_between(effects.exact(network), "t", "y") == mediators
    base = model.law("y", {"t": 0})
    direct = model.mixed("y", "t", lambda site: 1 if site == "y" else 0)
    indirect = model.mixed("y", "t", lambda site: 0 if site == "y" else 1)
    close(effects.nde(network, "t", "y"), direct - base)
    close(effects.nie(network, "t", "y"), indirect - base)
    for at in itertools.product(*(range(model.size(name)) for name in mediators)):
        fixed = dict(zip(mediators, at, strict=True))
        low, high = (model.law("y", {"t": value, **fixed}) for value in (0, 1))
        found = effects.cde(network, "t", "y", mediators={name: f"{name}{k}" for name, k in fixed.items()})
        close(found, high - low)


@models
def test_first_mediators_only(model: Model) -> None:
    # The first mediators in program order: nothing above them is left out, so no site is read in two ways.
    mediators = model.between("t", "y")
    base = model.law("y", {"t": 0})
    for count in range(1, len(mediators)):
        some = mediators[:count]
        direct = model.mixed("y", "t", lambda site, some=some: 0 if site in some else 1)
        found = effects.nde(model.network(), "t", "y", mediators=some)
        close(found, direct - base)
        assert found.coupling is None


def test_joint_law_of_worlds() -> None:
    # Several sites in several worlds at once, some of them the same version.
    model = random_model(3, 5, density=1.0)
    units = Units(model, "gumbel", N)
    low, natural = units.world({"t": 0}), units.world({})
    targets = [Target("y", {"t": 0}), Target("m1"), Target("c", {"t": 0}), Target("c")]
    found = effects.exact(model.network()).joint(targets, [(Target("t"), 1)]).value
    shape = [model.size(target.site) for target in targets]
    flat = np.ravel_multi_index((low["y"], natural["m1"], low["c"], natural["c"]), shape)
    seen = np.bincount(flat[natural["t"] == 1], minlength=found.size) / N
    assert (np.abs(seen - found.ravel()) < 5 * np.sqrt(found.ravel() / N) + 1e-12).all()
    chex.assert_trees_all_close(found.sum(), model.law("t", {})[1], atol=TOLERANCE)
