"""What a program means: DESIGN §2 and §3 in plain Python and NumPy, one unit at a time.

No JAX transformation, no cache, no batch. NumPyro's own samplers draw the numbers of its sites. A value is an
array of the site's shape: option numbers where it is a phrase.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from . import noise
from .families import FAMILIES
from .language import (
    LAST,
    Choice,
    Computed,
    Cond,
    Linear,
    Mask,
    Nested,
    Number,
    Place,
    Plate,
    Policy,
    Program,
    Random,
    Said,
    Scan,
    Scope,
    Set,
    Soft,
    Uniform,
    descendants,
    places,
    plate_dim,
    reads,
    shape_of,
)
from .noise import Key
from .scores import PlainLM

Values = Mapping[str, np.ndarray]
Forced = Callable[[str], np.ndarray | None]


class Refused(Exception):
    """The request has no meaning: an InterventionError."""


@dataclass
class Run:
    """What a unit is in a world.

    Attributes:
        values: of all sites.
        log_probs: of the options of choices, ``[*shape, K]``, where the world leaves their mechanism.
        redrawn: sites whose noise is drawn anew in this world (the coupling "independent", and "hindsight" where it
            keeps none), whose values are therefore known in law only.
        lead: the least distance of a draw from where it would come out otherwise: law 7 is silent below rounding.
        unknown: sites whose value hangs on what is known in law only.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    log_probs: dict[str, np.ndarray] = field(default_factory=dict)
    redrawn: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    lead: float = math.inf


class Unit:
    """A unit of a program.

    Args:
        program: the program.
        lms: the language models.
        key: of the unit.
        number: which unit it is, where a world has one value for each.
        given_noise: site -> the response to noise that evidence leaves: of a choice from (statement, flat member,
            log-probabilities) to an option, of a number from (statement, location) to a value; see ``evidence``.
    """

    def __init__(
        self,
        program: Program,
        lms: Sequence[PlainLM],
        key: Key,
        number: int = 0,
        given_noise: Mapping[str, Callable[..., Any]] | None = None,
    ):
        self.program, self.lms, self.key, self.number = program, lms, key, number
        self.given_noise = {} if given_noise is None else given_noise
        self.places = {place.name: place for place in places(program.body)}

    def run(self, world: Mapping[str, Any] | Sequence[tuple[str, Any]] = (), forced: Forced = lambda name: None) -> Run:
        """The unit in a world.

        Args:
            world: site -> intervention.
            forced: values of what is redrawn there, where they are known.

        Raises:
            Refused: an intervention has no meaning.
        """
        return _World(self, dict(world), forced).run_all()

    def phrase(self, name: str, reader: Choice) -> Any:
        """The site whose template and options a phrase has."""
        return reader if name == LAST else self.places[name].site


class _World:
    def __init__(self, unit: Unit, world: dict[str, Any], forced: Forced):
        self.unit, self.world, self.forced, self.told = unit, world, forced, Run()
        for name in world:
            place = unit.places.get(name)
            if place is None or getattr(place.site, "exogenous", False):
                raise Refused(f"{name} is no site that can be set")
        # Redrawn is what descends from this world's interventions.
        self.below = set().union(*(descendants(unit.program, name) for name in world))
        self.loops = 0

    def run_all(self) -> Run:
        self.body(self.unit.program.body, "", ())
        return self.told

    def body(self, body: tuple[Any, ...], prefix: str, plates: tuple[tuple[int, int], ...]) -> None:
        for s in body:
            match s:
                case Plate():
                    self.body(s.body, prefix, (*plates, (plate_dim(s, plates), s.size)))
                case Scope():
                    self.body(s.body, f"{prefix}{s.prefix}/", plates)
                case Mask():
                    self.body(s.body, prefix, plates)
                case Scan() | Cond():
                    self.loop(s, prefix, plates)
                case _:
                    key = noise.site_key(self.unit.key, prefix + s.name)
                    self.site(s, prefix + s.name, plates, key, self.told.values)

    def loop(self, s: Scan | Cond, prefix: str, plates: tuple[tuple[int, int], ...]) -> None:
        """Keys are NumPyro's: a loop has one, which is split for each step, and again by what seeds the body."""
        key = noise.site_key(self.unit.key, f"control_flow {self.loops}")
        self.loops += 1
        name = prefix + (s.step.name if isinstance(s, Scan) else s.true.name)
        if isinstance(s, Cond):
            branch = s.true if np.any(self.told.values[s.on] != 0) else s.false
            key = noise.site_key(noise.fold_number(key, 1), name)
            self.site(branch, name, plates, key, self.told.values)
            return
        values, log_probs, last = [], [], self.told.values[s.start]
        for _ in range(s.length):
            key, own = noise.fold_number(key, 0), noise.fold_number(key, 1)
            inside = {**self.told.values, LAST: last}
            own = noise.site_key(noise.fold_number(own, 1), name)
            last = self.site(s.step, name, plates, own, inside)
            values.append(last)
            log_probs.append(self.told.log_probs.get(name))
        self.told.values[name] = np.stack(values)
        if log_probs[0] is not None:
            self.told.log_probs[name] = np.stack(log_probs)

    # -- a site ---------------------------------------------------------------------------------------------

    def site(self, s: Any, name: str, plates: tuple[tuple[int, int], ...], key: Key, values: Values) -> np.ndarray:
        """The value of a site."""
        change = self.world.get(name)
        if change is None or isinstance(change, (Soft, Policy)):
            value = self.natural(s, name, plates, key, values)
        if change is not None:
            natural = value if isinstance(change, (Soft, Policy)) else None
            value = self.intervened(change, natural, Place(name, s, plates), key, values)
            if name in self.told.redrawn:
                # What was made of a value that is known in law only.
                self.told.redrawn.remove(name)
                self.told.unknown.add(name)
                known = self.forced(name)
                value = value if known is None else known
        elif reads(s) & self.told.unknown:
            self.told.unknown.add(name)
        self.told.values[name] = value
        return value

    def natural(self, s: Any, name: str, plates: Any, key: Key, values: Values) -> np.ndarray:
        """The response of a site's mechanism to its noise."""
        shape = shape_of(plates)
        match s:
            case Choice():
                return self.chosen(s, name, shape, key, values)
            case Computed():
                return np.broadcast_to(self.linear(s.of, shape, values), shape).astype(np.float32)
            case Said():
                number = np.broadcast_to(values[s.of], shape)
                for edge in s.edges:
                    self.sure(np.abs(number - edge).min() / 10)
                return np.array(sum((number >= edge).astype(int) for edge in s.edges), int).reshape(shape)
            case Number():
                location = self.linear(s.of, shape, values)
                if name in self.unit.given_noise:
                    return self.unit.given_noise[name](s, np.broadcast_to(location, shape))
                fn = FAMILIES[s.family].distribution(location, s.scale)
                return np.asarray(fn.expand(shape).sample(noise.as_jax(key)))
        raise TypeError(s)

    def linear(self, of: Linear, shape: tuple[int, ...], values: Values) -> np.ndarray:
        # Of the shape of what it is made of: NumPyro's draws in a plate are laid out by it.
        total = np.asarray(of.constant, float)
        for name, coefficient in of.terms:
            value = np.asarray(values[name], float)
            inside = value.ndim <= len(shape) and all(
                a in (1, b) for a, b in zip(value.shape[::-1], shape[::-1], strict=False)
            )
            total = total + coefficient * (value if inside else value.sum())
        return total

    def chosen(self, s: Choice, name: str, shape: tuple[int, ...], key: Key, values: Values) -> np.ndarray:
        """``argmax(log p + G)``, or the cell of the cumulative distribution that one uniform falls in."""
        indices = np.zeros(shape, int)
        log_probs = np.zeros((*shape, len(s.options)))
        below = name in self.below and s.obs is None
        kept = [
            not below or noise.uniform(noise.stream(key, "share"), m) < share_of(s) for m in range(math.prod(shape))
        ]
        redrawn = s.coupling != "maximal" and not any(kept)
        factual = self.factual if s.coupling == "maximal" and below else None
        if redrawn:
            # With another stream; which one, the language does not say.
            key = noise.stream(key, "redrawn")
        for member, at in enumerate(np.ndindex(shape)):
            log_p = log_probs[at] = self.law(s, shape, at, values)
            if name in self.unit.given_noise and not redrawn:
                indices[at] = self.unit.given_noise[name](s, member, log_p)
            elif factual is not None:
                threshold = noise.uniform(noise.stream(key, "threshold"), member)
                rest = [noise.option_gumbel(noise.stream(key, "rest"), option, member) for option in s.options]
                option, law = int(factual.values[name][at]), factual.log_probs[name][at]
                indices[at], lead = matched(option, law, log_p, threshold, np.array(rest))
                self.sure(min(lead, factual.lead))
            elif s.coupling == "inverse_cdf":
                edges, u = np.exp(log_p).cumsum()[:-1], noise.uniform(key, member)
                indices[at] = (u >= edges).sum()
                self.sure(10 * np.abs(edges - u).min(initial=np.inf))
            else:
                perturbed = log_p + [noise.option_gumbel(key, option, member) for option in s.options]
                indices[at] = perturbed.argmax()
                best = np.sort(perturbed)
                self.sure(best[-1] - best[-2] if len(best) > 1 else np.inf)
        self.told.log_probs[name] = log_probs
        if s.obs is not None:
            return np.broadcast_to(fit(Place(name, s, ()), s.obs, shape), shape)
        if redrawn:
            self.told.redrawn.add(name)
            known = self.forced(name)
            if known is None:
                self.told.unknown.add(name)
            return indices if known is None else known
        if not all(kept) and s.coupling != "maximal":
            # Of what some members draw anew, nothing is said here.
            self.told.unknown.add(name)
        return indices

    def law(self, s: Choice, shape: tuple[int, ...], at: tuple[int, ...], values: Values) -> np.ndarray:
        """Log-probabilities of the options of a member: ``softmax(score / temperature + bias)``."""
        texts = []
        for item in s.given:
            if isinstance(item, str):
                texts.append(item)
            else:
                parent = self.unit.phrase(item.site, s)
                index = np.broadcast_to(values[item.site], shape)[at]
                texts.append(parent.template.replace("{}", parent.options[index]))
        scores = self.unit.lms[s.lm].scores(texts, s.template, s.options, s.scoring)
        logits = np.array(scores) / s.temperature + (0.0 if s.bias is None else np.array(s.bias))
        return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()

    @cached_property
    def factual(self) -> Run:
        """The same unit with no intervention."""
        return self.unit.run()

    def sure(self, lead: float) -> None:
        self.told.lead = min(self.told.lead, float(lead))

    # -- interventions --------------------------------------------------------------------------------------

    def intervened(self, change: Any, natural: Any, place: Place, key: Key, values: Values) -> np.ndarray:
        """What a site is set to. What is drawn has a stream of its own, the same in all worlds."""
        s, shape, own = place.site, place.shape, noise.stream(key, "intervention")
        match change:
            case Set():
                return fit(place, change.value[self.unit.number] if change.per_unit else change.value)
            case Uniform():
                if not isinstance(s, Choice):
                    raise Refused("uniform is of options")
                gumbels = [
                    [noise.option_gumbel(own, option, m) for option in s.options] for m in range(math.prod(shape))
                ]
                return np.argmax(gumbels, -1).reshape(shape)
            case Random():
                if isinstance(s, (Computed, Said)):
                    raise Refused("a deterministic site is set to a value or a function")
                fn = FAMILIES[change.family].distribution(np.asarray(change.location), change.scale)
                return fit(place, np.asarray(fn.sample(noise.as_jax(own), shape)))
            case Soft():
                changed = change.a * natural + change.b
                if hasattr(s, "options"):
                    changed = changed.astype(int) % len(s.options)
                elif natural.dtype.kind in "iu" and float(change.a).is_integer() and float(change.b).is_integer():
                    changed = changed.astype(natural.dtype)
                return fit(place, changed)
            case Policy():
                sign = np.broadcast_to(values[change.site], shape) > 0
                return fit(place, np.where(sign, fit(place, change.value), natural))
            case Nested():
                other = self.unit.run(change.world)
                if place.name in other.redrawn | other.unknown:
                    self.told.unknown.add(place.name)
                self.sure(other.lead)
                return other.values[place.name]
        raise TypeError(change)


def matched(option: int, law: np.ndarray, log_p: np.ndarray, threshold: float, rest: np.ndarray) -> tuple[int, float]:
    """The option of a world whose law is ``log_p``, where the factual one has another law: it stays with chance
    ``p / law`` of its probabilities, and else is drawn from ``(p - law)+``; and how far from coming out otherwise."""
    if np.array_equal(law, log_p):
        return option, math.inf
    fallen = log_p[option] - law[option] - np.log(max(threshold, 1e-30))
    if fallen > 0:
        return option, abs(fallen)
    with np.errstate(divide="ignore"):
        perturbed = np.log(np.maximum(np.exp(log_p) - np.exp(law), 0.0)) + rest
    best = np.sort(perturbed)
    # A small difference of probabilities is lost to rounding before its logarithm is taken.
    return int(perturbed.argmax()), min(abs(fallen), best[-1] - best[-2], 0.1 * np.exp((best - rest.max())[-1]))


def fit(place: Place, value: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The one rule that fits a value to a site: texts are options, numbers broadcast to the site's shape, and no number
    is cast to what it is not.

    Raises:
        Refused: it does not fit.
    """
    s, shape = place.site, place.shape if shape is None else shape
    options = getattr(s, "options", None)
    array = np.asarray(value)
    if array.dtype.kind in "UO":
        if options is None or not all(text in options for text in array.ravel()):
            raise Refused(f"{place.name} has no option {value!r}")
        array = np.array([options.index(text) for text in array.ravel()], int).reshape(array.shape)
    whole = options is not None or (isinstance(s, Number) and FAMILIES[s.family].whole)
    if whole and array.dtype.kind not in "iub":
        raise Refused(f"{place.name} takes whole numbers, got {value!r}")
    array = array.astype(int if whole else np.float32)
    if options is not None and ((array < 0) | (array >= len(options))).any():
        raise Refused(f"{place.name} has no option number {value!r}")
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise Refused(f"{place.name} has another shape: {error}") from error


def share_of(s: Choice) -> float:
    """The share of draws that keep their Gumbels below an intervention."""
    if s.coupling.startswith("hindsight("):
        return float(s.coupling.removeprefix("hindsight(").removesuffix(")"))
    assert s.coupling in ("gumbel", "inverse_cdf", "independent", "maximal"), "the specification does not know it"
    return float(s.coupling in ("gumbel", "inverse_cdf"))
