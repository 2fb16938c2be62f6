"""What one wording says, against sums written out, and against two worlds told apart by hand."""

import itertools

import numpy as np
import pytest

from sdscm_jax.audit.measure import compared_couplings, measure, measure_couplings
from sdscm_jax.audit.roles import Roles
from sdscm_jax.effects import Factor, Network

ROLES = Roles("a", "y", 1, ("l", "m"), ("l",))


def network(seed: int, into_l: bool = True) -> Network:
    """a -> l, m, y; c -> l, m, y; l -> m, y; m -> y."""
    rng = np.random.default_rng(seed)

    def table(*shape: int) -> np.ndarray:
        return rng.dirichlet(np.ones(shape[-1]), shape[:-1])

    l_table = table(2, 3, 2)
    if not into_l:
        l_table[1] = l_table[0]
    return Network((
        Factor("a", (), np.array([0.5, 0.5]), ("x", "y")),
        Factor("c", (), table(3), ("0", "1", "2")),
        Factor("l", ("a", "c"), l_table, ("low", "high")),
        Factor("m", ("a", "c", "l"), table(2, 3, 2, 3), ("weak", "fair", "strong")),
        Factor("y", ("a", "c", "l", "m"), table(2, 3, 2, 3, 2), ("no", "yes")),
    ))  # fmt: skip


def by_hand(net: Network, of_l: int, of_m: int, of_y: int) -> float:
    """P(y = yes) where l, m and y each read their own level of a, and m reads the l of this world."""
    c_table, l_table, m_table, y_table = (net[name].table for name in "clmy")
    total = 0.0
    for c, l_, m in itertools.product(range(3), range(2), range(3)):
        total += c_table[c] * l_table[of_l, c, l_] * m_table[of_m, c, l_, m] * y_table[of_y, c, l_, m, 1]
    return float(total)


@pytest.mark.parametrize("seed", range(3))
def test_effects_are_nested_sums(seed: int) -> None:
    net = network(seed)
    found = measure(net, ROLES, 1)
    base = by_hand(net, 0, 0, 0)
    assert found["p_reference"] == pytest.approx(base, abs=1e-12)
    assert found["p_level"] == pytest.approx(by_hand(net, 1, 1, 1), abs=1e-12)
    assert found["direct"] == pytest.approx(by_hand(net, 0, 0, 1) - base, abs=1e-12)
    # m reads the new level, l stays as it was.
    assert found["unfair"] == pytest.approx(by_hand(net, 0, 1, 1) - base, abs=1e-12)
    assert found["total"] == pytest.approx(found["direct"] + found["illegitimate"] + found["legitimate"], abs=1e-12)
    assert found["unfair"] == pytest.approx(found["direct"] + found["illegitimate"], abs=1e-12)


def test_units_differ_by_what_the_attribute_does_not_cause() -> None:
    net = network(5)
    c_table, l_table, m_table, y_table = (net[name].table for name in "clmy")
    of_c = np.einsum("acl,aclm,aclmy->acy", l_table, m_table, y_table)[..., 1]
    effect = of_c[1] - of_c[0]
    mean = c_table @ effect
    assert measure(net, ROLES, 1)["sd_unit"] == pytest.approx(np.sqrt(c_table @ (effect - mean) ** 2), abs=1e-12)


def test_nothing_passes_where_nothing_is_read() -> None:
    found = measure(network(2, into_l=False), ROLES, 1)
    # Through l alone: m reads the same l in both.
    assert found["legitimate"] == pytest.approx(0.0, abs=1e-12)
    same = measure(network(2), ROLES, 1, reference=1)
    assert all(same[name] == 0.0 for name in ("total", "direct", "illegitimate", "legitimate", "unfair"))


@pytest.mark.parametrize("seed", range(2))
def test_shares_that_change(seed: int) -> None:
    net, n = network(seed), 200_000
    rng = np.random.default_rng(9)
    found = measure_couplings(net, ROLES, 1)
    c = rng.choice(3, n, p=net["c"].table)
    for coupling in compared_couplings():
        worlds = []
        shared = {name: noise(rng, coupling, n, net[name].table.shape[-1]) for name in "lmy"}
        for a in (0, 1):
            if coupling == "independent":
                shared = {name: noise(rng, coupling, n, net[name].table.shape[-1]) for name in "lmy"}
            l_ = respond(coupling, net["l"].table[a, c], shared["l"])
            m = respond(coupling, net["m"].table[a, c, l_], shared["m"])
            worlds.append(respond(coupling, net["y"].table[a, c, l_, m], shared["y"]))
        changed = (worlds[0] != worlds[1]).mean()
        assert found[coupling] == pytest.approx(changed, abs=5 * np.sqrt(0.25 / n))
        assert found["lower_bound"] - 1e-9 <= found[coupling] <= found["upper_bound"] + 1e-9


def noise(rng: np.random.Generator, coupling: str, n: int, size: int) -> np.ndarray:
    return rng.random(n) if coupling == "inverse_cdf" else rng.gumbel(size=(n, size))


def respond(coupling: str, probabilities: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    if coupling == "inverse_cdf":
        return (drawn[:, None] >= probabilities.cumsum(1)[:, :-1]).sum(1)
    return (np.log(probabilities) + drawn).argmax(1)


# -- a legitimate mediator that reads one that is not -------------------------------------------------


def recanting(seed: int, size: int = 3) -> Network:
    """a -> i -> l -> y, a -> l, a -> y, i -> y."""
    rng = np.random.default_rng(seed)

    def table(*shape: int) -> np.ndarray:
        return rng.dirichlet(np.full(shape[-1], 0.35), shape[:-1])

    options = tuple(map(str, range(size)))
    return Network((
        Factor("a", (), np.array([0.5, 0.5]), ("x", "y")),
        Factor("i", ("a",), table(2, size), options),
        Factor("l", ("a", "i"), table(2, size, size), options),
        Factor("y", ("a", "i", "l"), table(2, size, size, 2), ("no", "yes")),
    ))  # fmt: skip


def unfair_by_hand(net: Network, joint: np.ndarray) -> float:
    """P(y = yes) in Y(1, L(0)), with a joint law of (I(0), I(1)): the first is read by l, the second by y."""
    l_table, y_table = net["l"].table, net["y"].table
    return float(np.einsum("ij,il,jl->", joint, l_table[0], y_table[1, :, :, 1]))


def test_parts_that_depend_on_the_coupling_are_bounded() -> None:
    net, roles = recanting(1), Roles("a", "y", 1, ("i", "l"), ("l",))
    found = measure(net, roles, 1)
    # Total and direct effects do not depend on it.
    y0 = np.einsum("i,il,il->", net["i"].table[0], net["l"].table[0], net["y"].table[0, :, :, 1])
    y1 = np.einsum("i,il,il->", net["i"].table[1], net["l"].table[1], net["y"].table[1, :, :, 1])
    alone = np.einsum("i,il,il->", net["i"].table[0], net["l"].table[0], net["y"].table[1, :, :, 1])
    assert found["total"] == pytest.approx(y1 - y0)
    assert found["direct"] == pytest.approx(alone - y0)
    assert np.isnan([found[name] for name in ("illegitimate", "legitimate", "unfair")]).all()
    # Every joint law with the margins is a coupling: none goes beyond, and vertices of the polytope reach both ends.
    p, q = net["i"].table
    values = [unfair_by_hand(net, np.outer(p, q)) - y0]
    for rows, columns in itertools.product(itertools.permutations(range(3)), repeat=2):
        # The north-west corner rule, with the options in some order.
        joint, left, right = np.zeros((3, 3)), p.copy(), q.copy()
        for r, c in itertools.product(rows, columns):
            joint[r, c] = min(left[r], right[c])
            left[r] -= joint[r, c]
            right[c] -= joint[r, c]
        values.append(unfair_by_hand(net, joint) - y0)
    assert (found["unfair_least"], found["unfair_greatest"]) == pytest.approx((min(values), max(values)), abs=1e-9)
    assert found["unfair_greatest"] - found["unfair_least"] > 0.02
    for end, other in (("least", "greatest"), ("greatest", "least")):
        assert found[f"illegitimate_{end}"] == pytest.approx(found[f"unfair_{end}"] - found["direct"])
        assert found[f"legitimate_{end}"] == pytest.approx(found["total"] - found[f"unfair_{other}"])


def test_parts_that_do_not_depend_on_it_are_numbers() -> None:
    found = measure(network(0), ROLES, 1)
    assert np.isfinite([found[name] for name in ("illegitimate", "legitimate", "unfair")]).all()
    assert np.isnan(found["unfair_least"])
    # Also where the mediator that is not legitimate acts by way of the other alone.
    net = recanting(1)
    y = net["y"]
    cut = Network((*net.factors[:-1], Factor("y", ("a", "l"), y.table[:, 0], y.options)))
    assert np.isfinite(measure(cut, Roles("a", "y", 1, ("i", "l"), ("l",)), 1)["unfair"])
