"""Probabilities of causation: against units with shared noise, closed forms, and linear programs over couplings."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import chex
import numpy as np
import pytest
from scipy.optimize import linprog

from sdscm_jax import effects
from sdscm_jax.effects.counterfactual_graph import Target
from sdscm_jax.errors import EffectError

from .brute import COUPLINGS, Model, Units, random_model

N = 200_000
NOISY = ("gumbel", "inverse_cdf")
MODELS = [(0, 3), (2, 4), (3, 4), (6, 5), (9, 5)]
models = pytest.mark.parametrize("model", [random_model(*key) for key in MODELS], ids=map(str, MODELS))


def within(seen: np.ndarray, found: float, rows: np.ndarray | None = None) -> bool:
    """Is a share among units the probability, to 5 standard errors?"""
    among = seen if rows is None else seen[rows]
    return abs(among.mean() - found) < 5 * np.sqrt(max(found * (1 - found), 1e-4) / max(len(among), 1))


@models
@pytest.mark.parametrize("coupling", NOISY)
def test_units_with_shared_noise(model: Model, coupling: str) -> None:
    network = model.network(coupling)
    units = Units(model, coupling, N)
    c, t, y = (units.world({})[name] for name in ("c", "t", "y"))
    m = units.world({}).get("m0")
    low, high = (units.world({"t": value})["y"] for value in (0, 1))
    for k in range(model.size("y")):
        with_it, without = (t == 1) & (y == k), (t == 0) & (y != k)
        assert within((high == k) & (low != k), float(effects.pns(network, "t", "y", option=k)))
        if with_it.sum() > 100:
            assert within(low != k, float(effects.pn(network, "t", "y", option=k)), with_it)
        if without.sum() > 100:
            assert within(high == k, float(effects.ps(network, "t", "y", option=f"y{k}")), without)
    pairs = list(itertools.product(range(model.size("y")), repeat=2))
    groups = [({}, t >= 0), ({"t": 1}, t == 1), ({"c": "c0", "t": "t0"}, (t == 0) & (c == 0))]
    # What the treatment causes tells of the noise.
    groups += [({"y": "y1"}, y == 1), ({"t": 1, "y": 0}, (t == 1) & (y == 0)), ({"t": 0, "y": 0}, (t == 0) & (y == 0))]
    groups += [({"c": 1, "m0": 0, "y": 0}, (c == 1) & (m == 0) & (y == 0))] if m is not None else []
    for evidence, rows in groups:
        found = effects.potential_outcomes(network, "t", "y", evidence=evidence)
        if rows.sum() > 100:
            for value, (a, b) in zip(found.value, pairs, strict=True):
                assert within((low == a) & (high == b), value, rows)
        assert found.labels == tuple(f"y{a} -> y{b}" for a, b in pairs)


def by_group(model: Model, f: Callable[[np.ndarray, np.ndarray, float], float]) -> float:
    """Mean of ``f(law of y_low, law of y_high, P(t = 1))`` over what the treatment does not cause, given it."""
    others = [name for name in model.names if name not in {"t", *model.below("t")}]
    total = 0.0
    for values in itertools.product(*(range(model.size(name)) for name in others)):
        group = dict(zip(others, values, strict=True))
        weight = model.weight(group, set(others))
        if weight > 0:
            laws = [model.law("y", {"t": value}, group) for value in (0, 1)]
            total += weight * f(*laws, model.chance("t", 1, group.__getitem__))
    return total


@models
def test_worlds_drawn_apart(model: Model) -> None:
    # Given what the treatment does not cause, the outcomes in both worlds are independent.
    network = model.network("independent")
    for k in range(model.size("y")):
        pns = by_group(model, lambda low, high, t, k=k: high[k] * (1 - low[k]))
        chex.assert_trees_all_close(float(effects.pns(network, "t", "y", option=k)), pns, atol=1e-12)
        necessary = by_group(model, lambda low, high, t, k=k: t * high[k] * (1 - low[k]))
        seen = by_group(model, lambda low, high, t, k=k: t * high[k])
        if seen > 0:
            chex.assert_trees_all_close(float(effects.pn(network, "t", "y", option=k)), necessary / seen, atol=1e-12)
        sufficient = by_group(model, lambda low, high, t, k=k: (1 - t) * high[k] * (1 - low[k]))
        seen = by_group(model, lambda low, high, t, k=k: (1 - t) * (1 - low[k]))
        if seen > 0:
            chex.assert_trees_all_close(float(effects.ps(network, "t", "y", option=k)), sufficient / seen, atol=1e-12)


@models
def test_bounds_hold_for_every_coupling(model: Model) -> None:
    for coupling in COUPLINGS:
        source = effects.exact(model.network(), coupling=coupling)
        found = [f(source, "t", "y", option=k) for f in (effects.pn, effects.ps, effects.pns) for k in (0, 1)]
        found += [effects.potential_outcomes(source, "t", "y", evidence=e) for e in ({}, {"t": 0}, {"c": 0})]
        found += [effects.potential_outcomes(source, "t", "y", evidence={"t": k, "y": 0}) for k in (0, 1)]
        for effect in found:
            if effect.coupling is None:
                continue
            assert effect.coupling == coupling
            assert effect.bounds is not None
            lower, upper = effect.bounds
            known = ~np.isnan(effect.value)
            assert ((lower <= effect.value + 1e-12) & (effect.value <= upper + 1e-12))[known].all()


@models
def test_two_outcomes_are_tied_together(model: Model) -> None:
    # PNS = P(t, y) PN + P(t', y') PS, whatever the coupling, for a binary treatment and event (Tian and Pearl 2000).
    for coupling in COUPLINGS:
        source = effects.exact(model.network(), coupling=coupling)
        for k in range(model.size("y")):
            seen = [model.law_of_group("y", "t", t, t) * model.law("t", {})[t] for t in (0, 1)]
            pn, ps, pns = (float(f(source, "t", "y", option=k)) for f in (effects.pn, effects.ps, effects.pns))
            parts = [
                0.0 if mass < 1e-12 else mass * p for mass, p in ((seen[1][k], pn), (seen[0].sum() - seen[0][k], ps))
            ]
            chex.assert_trees_all_close(sum(parts), pns, atol=1e-12)
            assert pns >= max(0.0, effects.ate(source, "t", "y").value[k]) - 1e-12


def two_sites(seed: int, confounded: bool, outcomes: int = 2) -> Model:
    """c -> t -> y, and c -> y if confounded; no mediators."""
    rng = np.random.default_rng(seed)
    tables = {
        "c": rng.dirichlet(np.ones(3)),
        "t": rng.dirichlet(np.ones(2), 3),
        "y": rng.dirichlet(np.ones(outcomes), (3, 2) if confounded else 2),
    }
    return Model({"c": (), "t": ("c",), "y": ("c", "t") if confounded else ("t",)}, tables)


@pytest.mark.parametrize("seed", range(4))
def test_closed_forms_without_confounding(seed: int) -> None:
    # Tian and Pearl (2000), equations for an exogenous treatment, and under monotonicity.
    model = two_sites(seed, confounded=False)
    low, high = (model.tables["y"][t, 1] for t in (0, 1))
    wanted = {
        "PNS": (max(0.0, high - low), min(high, 1 - low)),
        "PN": (max(0.0, high - low) / high, min(1.0, (1 - low) / high)),
        "PS": (max(0.0, high - low) / (1 - low), min(1.0, high / (1 - low))),
    }
    for f in (effects.pns, effects.pn, effects.ps):
        found = f(model.network(), "t", "y", option="y1")
        assert found.bounds is not None
        chex.assert_trees_all_close(np.ravel(found.bounds), np.array(wanted[found.name]), atol=1e-12)
        # Two options: Gumbels and one uniform are both monotone, and the excess is the lower bound.
        for coupling in NOISY:
            value = float(f(effects.exact(model.network(), coupling=coupling), "t", "y", option="y1"))
            chex.assert_trees_all_close(value, wanted[found.name][0], atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_bounds_with_confounding(seed: int) -> None:
    # Within the bounds of Tian and Pearl (2000) from experimental and observational data, which do not use c.
    model = two_sites(seed, confounded=True)
    found = effects.pns(model.network(), "t", "y", option="y1").bounds
    assert found is not None
    p_t = model.law("t", {})
    y_low, y_high = (model.law("y", {"t": t})[1] for t in (0, 1))
    seen = np.array([p_t[t] * model.law_of_group("y", "t", t, t) for t in (0, 1)])
    y = seen[:, 1].sum()
    lower = max(0.0, y_high - y_low, y - y_low, y_high - y)
    upper = min(y_high, 1 - y_low, seen[1, 1] + seen[0, 0], y_high - y_low + seen[1, 0] + seen[0, 1])
    assert lower - 1e-12 <= found[0][0] <= found[1][0] <= upper + 1e-12
    # And they use c: Frechet's bounds in each kind of c.
    least = by_group(model, lambda low, high, t: max(0.0, high[1] - low[1]))
    most = by_group(model, lambda low, high, t: min(high[1], 1 - low[1]))
    chex.assert_trees_all_close(np.ravel(found), np.array([least, most]), atol=1e-12)


@pytest.mark.parametrize("confounded", [False, True])
@pytest.mark.parametrize("outcomes", [2, 3, 4])
def test_bounds_are_attained_without_mediators(outcomes: int, confounded: bool) -> None:
    # The least and the largest value over all joint laws of the two answers with the right margins, in each kind of c.
    model = two_sites(outcomes, confounded, outcomes)
    network = model.network()
    cell = np.arange(outcomes * outcomes).reshape(outcomes, outcomes)
    margins = np.array([np.isin(cell, line).ravel() for line in (*cell, *cell.T)], float)

    def end(event: np.ndarray, sign: int, weigh: Callable[[float], float]) -> float:
        def in_group(low: np.ndarray, high: np.ndarray, t: float) -> float:
            return weigh(t) * linprog(sign * event.ravel(), A_eq=margins, b_eq=np.concatenate([low, high])).fun

        return sign * by_group(model, in_group)

    def ends(event: np.ndarray, weigh: Callable[[float], float] = lambda t: 1.0) -> np.ndarray:
        return np.array([end(event, sign, weigh) for sign in (1, -1)])

    for k in range(outcomes):
        event = np.zeros((outcomes, outcomes))
        event[:, k] = 1
        event[k, k] = 0
        necessary = ends(event, lambda t: t) / by_group(model, lambda low, high, t, k=k: t * high[k])
        sufficient = ends(event, lambda t: 1 - t) / by_group(model, lambda low, high, t, k=k: (1 - t) * (1 - low[k]))
        for f, wanted in ((effects.pns, ends(event)), (effects.pn, necessary), (effects.ps, sufficient)):
            chex.assert_trees_all_close(np.ravel(f(network, "t", "y", option=k).bounds), wanted, atol=1e-5)
    joint = np.array(effects.potential_outcomes(network, "t", "y").bounds)
    for a, b in np.ndindex(outcomes, outcomes):
        cell = np.zeros((outcomes, outcomes))
        cell[a, b] = 1
        chex.assert_trees_all_close(joint[:, a * outcomes + b], ends(cell), atol=1e-5)


def test_no_effect_depends_on_no_coupling() -> None:
    model = Model(
        {"c": (), "t": ("c",), "y": ("c",)},
        {"c": np.array([0.4, 0.6]), "t": np.array([[0.3, 0.7], [0.8, 0.2]]), "y": np.array([[0.9, 0.1], [0.5, 0.5]])},
    )
    for f in (effects.pns, effects.pn, effects.ps):
        found = f(model.network(), "t", "y", option="y1")
        assert float(found) == 0
        assert found.coupling is None
        assert found.bounds is None
        assert "noise" not in str(found)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_evidence_of_treatment_and_outcome_is_what_necessity_is_of(coupling: str) -> None:
    source = effects.exact(random_model(2, 4).network(), coupling=coupling)
    k = 1
    joint = effects.potential_outcomes(source, "t", "y", evidence={"t": 1, "y": k})
    cells = joint.value.reshape((int(len(joint) ** 0.5),) * 2)
    chex.assert_trees_all_close(cells[:, k].sum(), 1.0, atol=1e-12)
    chex.assert_trees_all_close(cells.sum() - cells[k, k], float(effects.pn(source, "t", "y", option=k)), atol=1e-12)
    # Where the natural level is not known it is summed out.
    both = effects.potential_outcomes(source, "t", "y", evidence={"y": k})
    low, high = (source.joint([Target("t"), Target("y")]).value[t, k] for t in (0, 1))
    by_level = [effects.potential_outcomes(source, "t", "y", evidence={"t": t, "y": k}).value for t in (0, 1)]
    chex.assert_trees_all_close(both.value, (low * by_level[0] + high * by_level[1]) / (low + high), atol=1e-12)
    assert both.bounds is None


def test_a_third_level_beside_the_two_needs_units() -> None:
    network = random_model(0, 3, treated=3).network()
    with pytest.raises(EffectError, match=r"has 3 versions whose noise is shared.*effects\.sampled"):
        effects.potential_outcomes(network, "t", "y", 0, 1, evidence={"y": 0})
