"""Effects along edges: against units with shared noise, sums over two versions of every site, and extreme couplings."""

from __future__ import annotations

import itertools

import chex
import numpy as np
import pytest

from sdscm_jax import effects
from sdscm_jax.effects import Limits
from sdscm_jax.errors import EffectError

from .brute import Edges, Model, Units, random_model

N = 100_000
# m0 has three options, two, two.
SEEDS = (0, 8, 11)
# c, t, m0, m1, y and all edges between them.
FULL = {seed: random_model(seed, 5, density=1.0) for seed in SEEDS}
EDGES: list[Edges] = [
    frozenset(edges)
    for edges in (
        [("t", "y")],
        [("t", "m0"), ("m0", "m1"), ("m1", "y")],
        [("t", "m0"), ("m0", "y")],
        [("t", "m1"), ("m1", "y")],
        [("t", "m0"), ("t", "m1"), ("m0", "m1"), ("m1", "y")],
        [("t", "m0"), ("t", "m1"), ("t", "y"), ("m0", "y")],
        [("t", "m0"), ("m0", "m1"), ("m0", "y"), ("m1", "y")],
        [("t", "m0"), ("t", "m1"), ("t", "y"), ("m0", "m1"), ("m0", "y"), ("m1", "y")],
    )
]
OUT_OF_M0 = {("m0", "m1"), ("m0", "y")}


def felt(model: Model, edges: Edges) -> set[str]:
    """Sites that the treatment reaches along the edges."""
    found = {"t"}
    for name in model.names:
        found |= {name} if any((parent, name) in edges for parent in found) else set()
    return found


def has_witness(edges: Edges) -> bool:
    """Is m0 read both as it is with the treatment and as it is without? (m1 has one reader.)"""
    return ("t", "m0") in edges and len(OUT_OF_M0 & edges) == 1


@pytest.mark.parametrize("coupling", ["gumbel", "inverse_cdf"])
@pytest.mark.parametrize("seed", FULL)
def test_shared_noise(seed: int, coupling: str) -> None:
    model = FULL[seed]
    units = Units(model, coupling, N, seed)
    base = units.world({"t": 0})["y"]
    for edges in EDGES:
        found = effects.path_effect(model.network(coupling), "t", "y", edges=edges)
        each = np.eye(model.size("y"))[[units.along("t", 0, 1, edges)["y"], base]]
        each = each[0] - each[1]
        assert (np.abs(each.mean(0) - found.value) < 5 * each.std(0) / np.sqrt(N) + 1e-9).all(), edges
        assert found.coupling == (coupling if has_witness(edges) else None)


@pytest.mark.parametrize("seed", FULL)
def test_noise_of_its_own(seed: int) -> None:
    model = FULL[seed]
    network = model.network("independent")
    for edges in EDGES:
        active = felt(model, edges)
        expected = np.zeros(model.size("y"))
        for base in model.every():
            for values in model.every():
                if base["t"] or values["t"] != 1 or any(values[n] != base[n] for n in model.names if n not in active):
                    continue
                weight = model.weight(base, set(model.names) - {"t"})
                read = lambda n, p, base=base, values=values, edges=edges: (values if (p, n) in edges else base)[p]  # noqa: E731
                expected[values["y"]] += weight * model.weight(values, active - {"t"}, read)
        found = effects.path_effect(network, "t", "y", edges=edges)
        chex.assert_trees_all_close(found.value, expected - model.law("y", {"t": 0}), atol=1e-12, rtol=0)


@pytest.mark.parametrize("seed", [seed for seed, model in FULL.items() if model.size("m0") == 2])
def test_bounds_are_attained(seed: int) -> None:
    # Where the witness m0 has two options, the extreme couplings in each context are the comonotone and the
    # countermonotone one, and the law of the outcome is linear in the coupling.
    model = FULL[seed]
    for edges in (edges for edges in EDGES if has_witness(edges)):
        ends = np.zeros((2, model.size("y")))
        for c in range(model.size("c")):
            p, q = (model.tables["m0"][c, t, 1] for t in (0, 1))
            laws = []
            for both in (max(0.0, p + q - 1), min(p, q)):
                joint = np.array([[1 - p - q + both, q - both], [p - both, both]])
                law = np.zeros(model.size("y"))
                for m0, active_m0 in itertools.product(range(2), repeat=2):
                    law += joint[m0, active_m0] * rest(model, edges, c, m0, active_m0)
                laws.append(law * model.tables["c"][c])
            ends += [np.minimum(*laws), np.maximum(*laws)]
        found = effects.path_effect(model.network(), "t", "y", edges=edges)
        assert found.bounds is not None
        chex.assert_trees_all_close(np.array(found.bounds), ends - model.law("y", {"t": 0}), atol=1e-9, rtol=0)
        score = np.arange(model.size("y")) + 1.0
        scored = effects.path_effect(model.network(), "t", "y", edges=edges, score=list(score))
        assert scored.bounds is not None
        assert scored.bounds[0][0] - 1e-9 <= scored.value[0] <= scored.bounds[1][0] + 1e-9


def rest(model: Model, edges: Edges, c: int, base: int, active: int) -> np.ndarray:
    """Law of y where m0 is ``base`` without the treatment and ``active`` with it (no other site has two versions)."""
    t = {site: int(("t", site) in edges) for site in ("m1", "y")}
    law = np.zeros(model.size("y"))
    # m1 is read as it is with the treatment along an edge of the set only.
    with_it = ("m1", "y") in edges
    for m1 in range(model.size("m1")):
        read = active if with_it and ("m0", "m1") in edges else base
        p_m1 = model.tables["m1"][c, t["m1"] if with_it else 0, read, m1]
        law += p_m1 * model.tables["y"][c, t["y"], active if ("m0", "y") in edges else base, m1]
    return law


@pytest.mark.parametrize("seed", FULL)
def test_bounds_hold(seed: int) -> None:
    network = FULL[seed].network()
    for edges in (edges for edges in EDGES if has_witness(edges)):
        for coupling in ("gumbel", "inverse_cdf", "independent"):
            source = effects.exact(network, coupling=coupling)
            found = effects.path_effect(source, "t", "y", edges=edges)
            assert found.bounds is not None
            lower, upper = found.bounds
            assert ((lower - 1e-9 <= found.value) & (found.value <= upper + 1e-9)).all()


def test_edges_that_are_refused() -> None:
    network = FULL[0].network()
    with pytest.raises(EffectError, match=r"no edge 't' -> 'm2'; did you mean 't -> m"):
        effects.path_effect(network, "t", "y", edges=[("t", "m2"), ("t", "y")])
    with pytest.raises(EffectError, match="make no path from 't' to 'y'"):
        effects.path_effect(network, "t", "y", edges=[("t", "m0"), ("m1", "y")])


def test_cost_is_refused_before_it_is_paid() -> None:
    cheap = effects.exact(FULL[0].network(), limits=Limits(operations=10))
    with pytest.raises(EffectError, match=r"needs [\d.e+]+ operations and an array of .* limits are 10 and") as error:
        effects.ate(cheap, "t", "y")
    planned = effects.ate(FULL[0].network(), "t", "y").cost
    assert planned is not None
    # Of one of the two laws that the effect is the difference of.
    assert f"{planned.operations / 2:.2g} operations" in str(error.value)
