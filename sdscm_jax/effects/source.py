"""What effects are computed from: a program's tables, simulated units, or a program."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import items, real, text, told
from ..dsl.tables.tabulate import Tabulated
from ..engine.simulation import Simulation
from ..errors import EffectError, SiteError
from .counterfactual_graph import Target
from .estimate import Estimate
from .exact_source import Exact, exact
from .factors import Network
from .sampled_source import Sampled, of_simulation

Source = Exact | Sampled
Score = Mapping[str, float] | Sequence[float] | None


def as_source(source: Any) -> Source:
    """A source of effects.

    Args:
        source: ``effects.exact(…)`` or ``effects.sampled(…)``; a ``Simulation`` (its worlds are all there is); a
            ``Tabulated`` program, a ``Network``, or a model function without arguments, which are exact.

    Raises:
        EffectError: it is nothing of these.
    """
    if isinstance(source, Exact | Sampled):
        return source
    if isinstance(source, Simulation):
        return of_simulation(source)
    if isinstance(source, Tabulated | Network):
        return exact(source)
    if callable(source) and not isinstance(source, type) and not hasattr(source, "log_prob"):
        any_number = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        try:
            parameters = inspect.signature(source).parameters.values()
        except (TypeError, ValueError):  # a builtin
            raise EffectError(f"a model is a function of sites, not {told(source)}") from None
        needed = [p.name for p in parameters if p.default is p.empty and p.kind not in any_number]
        if needed:
            raise EffectError(
                f"the model takes the arguments {', '.join(needed)}; give them with it: effects.exact(model, …) or "
                "effects.sampled(model, key, n, …)"
            )
        return exact(source)
    raise EffectError(
        f"an effect is computed from effects.exact(model, …), effects.sampled(model, key, n, …), a Simulation or a "
        f"Tabulated program, not from {type(source).__name__}"
    )


def contrasted(source: Source, treatment: str, low: Any, high: Any) -> tuple[str, str]:
    """The texts of the two levels that are compared; by default those of a treatment that has two.

    Raises:
        EffectError: the treatment may not be intervened on, has more levels and none is given, or both are one.
    """
    text(treatment, "treatment", EffectError)
    if source.exogenous(treatment):
        raise EffectError(f"site {treatment!r} is exogenous: it has no effect that an intervention could show")
    options = source.options(treatment)
    if not options:
        raise EffectError(f"treatment {treatment!r} has no options; effects compare two options of a site")
    if low is None and high is None and len(options) == 2:
        return options
    if low is None or high is None:
        raise EffectError(f"treatment {treatment!r} has {len(options)} options; say which two: low=, high=")
    low, high = (options[source.number(treatment, value)] for value in (low, high))
    if low == high:
        raise EffectError(f"treatment {treatment!r}: low and high are both {low!r}")
    return low, high


def check_outcome(source: Source, treatment: str, outcome: str) -> None:
    """Refuse an outcome that is the treatment or that the model does not have."""
    text(treatment, "treatment", EffectError)
    source.options(text(outcome, "outcome", EffectError))
    if treatment == outcome:
        raise EffectError(f"treatment and outcome are both {outcome!r}")


def choice_options(source: Source, site: str) -> tuple[str, ...]:
    """The options of a site.

    Raises:
        EffectError: it has none.
    """
    options = source.options(site)
    if not options:
        raise EffectError(f"site {site!r} has no options; this effect is of probabilities of options")
    return options


def scored(source: Source, outcome: str, score: Score) -> np.ndarray | None:
    """The number of each option of an outcome, float64 ``[K]``; None: options stay apart.

    Raises:
        SiteError: a number is missing, or of no option.
        EffectError: it is no finite number.
    """
    if score is None:
        return None
    options = choice_options(source, outcome)
    if isinstance(score, Mapping):
        if set(score) != set(options):
            raise SiteError(f"site {outcome!r}: score gives numbers for {told(list(score))}, its options are {options}")
        score = [score[option] for option in options]
    score = items(score, f"score of {outcome!r}", EffectError)
    if len(score) != len(options):
        raise SiteError(f"site {outcome!r} has {len(options)} options, score has {len(score)} numbers")
    return np.array([real(number, f"score of {outcome!r}", EffectError) for number in score])


def law(source: Source, target: Target, score: Score, evidence: Sequence[tuple[Target, int]] = ()) -> Estimate:
    """Probabilities of an outcome's options in a world given evidence, or the mean of their scores, or of a number."""
    if not source.options(target.site):
        if isinstance(source, Exact) or score is not None:
            raise EffectError(f"site {target.site!r} has no options that could be scored")
        return source.mean(target, evidence)
    joint = source.joint([target], evidence)
    numbers = scored(source, target.site, score)
    wanted = joint if numbers is None else joint.linear(lambda x: x @ numbers)
    if not evidence:
        return wanted
    total = joint.linear(lambda x: x.sum(-1, keepdims=True) if numbers is None else x.sum(-1))
    return wanted / total


def shared_noise(source: Source, *laws: Sequence[Target]) -> str | None:
    """How worlds share the noise of the sites that have several versions in one of some joint laws; None: no site has.

    What was observed of simulated units is part of each law.
    """
    observed = [Target(name) for name in source.evidence] if isinstance(source, Sampled) else []
    found: dict[str | None, None] = {}
    for targets in laws:
        copies = source.copies()
        versions = copies.responses([copies.of(target) for target in [*targets, *observed]])
        found |= dict.fromkeys(source.coupling_of(site) for site, several in versions.items() if len(several) > 1)
    return ", ".join(coupling for coupling in found if coupling) or None
