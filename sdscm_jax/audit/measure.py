"""What one wording says: exact effects of the attribute in one program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dsl.handlers.intervention import nested
from ..dsl.noise.couplings.registry import COUPLINGS
from ..dsl.worlds.worlds import World
from ..effects.bounds import event_bounds, transport_bounds
from ..effects.counterfactual_graph import Target
from ..effects.exact_source import Exact
from ..effects.factors import Network
from ..effects.sampled_source import Sampled
from ..effects.source import as_source, shared_noise
from ..errors import EffectError
from .roles import Roles

EFFECTS = ("total", "direct", "illegitimate", "legitimate", "unfair")
BOUNDS = tuple(f"{effect}_{end}" for effect in EFFECTS for end in ("least", "greatest"))


def measure(program: Network | Sampled, roles: Roles, level: int, reference: int = 0) -> dict[str, float]:
    """Effects of one level of the attribute against another, on the probability of the reported option.

    ``total`` = P(Y(b)) - P(Y(a)); ``direct`` = P(Y(b, M(a))) - P(Y(a)) with all mediators M as under the reference;
    ``illegitimate`` and ``legitimate`` add what passes through mediators that are not legitimate, and then through
    those that are; ``unfair`` = direct + illegitimate, the effect along all paths without a legitimate mediator
    (Nabi and Shpitser 2018, "Fair inference on outcomes"; Kusner et al. 2017, "Counterfactual fairness").

    Where a legitimate mediator reads one that is not, and the outcome depends on the latter otherwise, too, the last
    three are of one site in two versions, under a and under b, in one world (a recanting witness: Avin, Shpitser and
    Pearl 2005, "Identifiability of path-specific effects"). Such parts depend on how the two versions share their
    noise, which no table tells, so they are nan. Where it is one site, they are bounded.

    Args:
        program: the program's tables, whose effects are exact; or its units, over which they are averages.
        roles: what is asked.
        level, reference: numbers of the attribute's two levels, b and a.

    Returns:
        ``p_reference``, ``p_level``, the five effects, and ``sd_unit``: the standard deviation over units of the
        individual effect given all that the attribute does not cause (nan where these are too many, and of units). And
        of each effect ``_least`` and ``_greatest``, over all couplings: nan but for parts that depend on it, and of
        units.

    >>> from sdscm_jax.effects.factors import Factor
    >>> a = Factor("a", (), np.array([0.5, 0.5]), ("x", "y"))
    >>> y = Factor("y", ("a",), np.array([[0.5, 0.5], [0.75, 0.25]]), ("no", "yes"))
    >>> found = measure(Network((a, y)), Roles("a", "y", 1, (), ()), 1)
    >>> found["total"], found["direct"], found["unfair"]
    (-0.25, -0.25, -0.25)
    """
    source = as_source(program)
    levels = source.options(roles.attribute)
    base, there = {roles.attribute: levels[reference]}, {roles.attribute: levels[level]}

    def world(held: Sequence[str]) -> Target:
        return Target(roles.outcome, {**there, **{name: nested(base) for name in held}})

    def probability(held: Sequence[str]) -> float:
        return float(source.joint([world(held)]).value[roles.option])

    before = float(source.joint([Target(roles.outcome, base)]).value[roles.option])
    after = probability(())
    alone = probability(roles.mediators)
    least = greatest = float("nan")
    if not roles.legitimate:
        unfair = after
    elif shared_noise(source, [world(roles.legitimate)]) is None:
        unfair = probability(roles.legitimate)
    else:
        unfair = float("nan")
        bounds = transport_bounds(source, world(roles.legitimate), None) if isinstance(source, Exact) else None
        if bounds is not None:
            least, greatest = (float(end[roles.option]) for end in bounds)
    return {
        "p_reference": before,
        "p_level": after,
        "total": after - before,
        "direct": alone - before,
        "illegitimate": unfair - alone,
        "legitimate": after - unfair,
        "unfair": unfair - before,
        "sd_unit": _unit_deviation(source, roles, base, there) if isinstance(source, Exact) else float("nan"),
        **dict.fromkeys(BOUNDS, float("nan")),
        "illegitimate_least": least - alone,
        "illegitimate_greatest": greatest - alone,
        "legitimate_least": after - greatest,
        "legitimate_greatest": after - least,
        "unfair_least": least - before,
        "unfair_greatest": greatest - before,
    }


def _unit_deviation(source: Exact, roles: Roles, base: World, there: World) -> float:
    """Standard deviation of the effect over groups that are alike in what the attribute does not cause."""
    groups = [Target(name) for name in source.network.read_beside(roles.attribute, roles.outcome)]
    try:
        joint = [
            source.joint([*groups, Target(roles.outcome, world)]).value[..., roles.option] for world in (base, there)
        ]
        weight = source.joint(groups).value if groups else np.ones(())
    except EffectError:
        return float("nan")
    effect = np.divide(joint[1] - joint[0], weight, out=np.zeros_like(joint[0]), where=weight > 0)
    mean = (weight * effect).sum()
    return float(np.sqrt((weight * (effect - mean) ** 2).sum()))


def compared_couplings() -> tuple[str, ...]:
    """Names of the couplings that an audit compares: those under which two worlds hang on no third one."""
    return tuple(str(coupling) for coupling in COUPLINGS if not coupling.relative)


def measure_couplings(program: Network | Sampled, roles: Roles, level: int, reference: int = 0) -> dict[str, float]:
    """Share of units for which it would change whether the outcome is the reported option.

    Returns:
        the share by coupling, and ``lower_bound`` and ``upper_bound``, which no coupling goes beyond. With mediators
        they are outer bounds, which need not be reached. Of units, nan but under the coupling that these have, and the
        bounds are those of two probabilities (Frechet).
    """
    if isinstance(program, Sampled):
        return _of_units(program, roles, level, reference)
    network, worlds = program, [Target(roles.outcome, {roles.attribute: value}) for value in (reference, level)]
    found = {}
    for coupling in compared_couplings():
        joint = Exact(network, coupling=coupling).joint(worlds).value
        both = joint[roles.option, roles.option]
        found[coupling] = float(joint[roles.option].sum() + joint[:, roles.option].sum() - 2 * both)
    source = Exact(network)
    others = [k for k in range(len(source.options(roles.outcome))) if k != roles.option]
    gains = event_bounds(source, roles.attribute, (worlds[0], others), (worlds[1], [roles.option]))
    losses = event_bounds(source, roles.attribute, (worlds[0], [roles.option]), (worlds[1], others))
    return {**found, "lower_bound": gains[0] + losses[0], "upper_bound": min(1.0, gains[1] + losses[1])}


def _of_units(source: Sampled, roles: Roles, level: int, reference: int) -> dict[str, float]:
    levels, option = source.options(roles.attribute), roles.option
    worlds = [Target(roles.outcome, {roles.attribute: levels[value]}) for value in (reference, level)]
    joint = source.joint(worlds).value
    changed = float(joint[option].sum() + joint[:, option].sum() - 2 * joint[option, option])
    before, after = float(joint[option].sum()), float(joint[:, option].sum())
    own = source.coupling_of(roles.outcome)
    return {
        **{name: changed if name == own else float("nan") for name in compared_couplings()},
        "lower_bound": abs(after - before),
        "upper_bound": min(before + after, 2 - before - after),
    }
