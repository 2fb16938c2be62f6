"""What a unit may be, given what was observed of it: by enumeration and rejection (DESIGN §2, "Abduction").

Unobserved causes are drawn from their exact posterior, by going through all their values. Then the noise of each
site whose value is known is drawn from its prior until it gives that value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import noise
from .families import FAMILIES
from .language import Choice, Number, Place, Program, World, descendants, places
from .noise import Key
from .scores import PlainLM
from .specification import Refused, Unit, fit, matched

Known = dict[str, np.ndarray]


class Impossible(Exception):
    """Evidence of probability 0, or whose noise cannot be told from its value: an EvidenceError."""


def latent(program: Program, evidence: Sequence[str]) -> list[Place]:
    """Random sites that are not observed and cause what is."""
    found = list(places(program.body))
    observed = {*evidence, *(p.name for p in found if getattr(p.site, "obs", None) is not None)}
    return [
        p for p in found
        if isinstance(p.site, (Choice, Number)) and p.name not in observed and observed & descendants(program, p.name)
    ]  # fmt: skip


class Posterior:
    """Units of which the same was observed.

    Args:
        program: the program.
        lms: the language models.
        evidence: site -> value.
        number: which unit it is, where the evidence is one value for each.
    """

    def __init__(self, program: Program, lms: Sequence[PlainLM], evidence: World, number: int = 0):
        self.program, self.lms = program, lms
        by_name = {place.name: place for place in places(program.body)}
        self.known: Known = {}
        for name, change in evidence:
            try:
                self.known[name] = fit(by_name[name], change.value[number] if change.per_unit else change.value)
            except Refused as error:
                raise Impossible(str(error)) from error
        self.causes = latent(program, list(self.known))
        self.assignments = [dict(zip([p.name for p in self.causes], v, strict=True)) for v in self._values()]
        weights = np.array([self._log_prob({**self.known, **values}) for values in self.assignments])
        if weights.max() == -math.inf:
            raise Impossible("the evidence has probability 0")
        self.weights = np.exp(weights - weights.max())
        self.weights /= self.weights.sum()

    def _values(self) -> Any:
        sizes = []
        for place in self.causes:
            if isinstance(place.site, Number) and not FAMILIES[place.site.family].finite:
                raise Impossible(f"{place.name} has no finite support")
            size = len(place.site.options) if isinstance(place.site, Choice) else FAMILIES[place.site.family].finite
            members = itertools.product(range(size), repeat=math.prod(place.shape))
            sizes.append([np.array(m, int).reshape(place.shape) for m in members])
        return itertools.product(*sizes)

    def _log_prob(self, known: Known) -> float:
        total = [0.0]

        def choice(name: str) -> Callable[..., Any]:
            def chosen(s: Choice, member: int, log_p: np.ndarray) -> int:
                total[0] += log_p[known[name].ravel()[member]]
                return int(known[name].ravel()[member])

            return chosen

        def number(name: str) -> Callable[..., Any]:
            def drawn(s: Number, x: np.ndarray) -> np.ndarray:
                fn = FAMILIES[s.family].distribution(x, s.scale)
                total[0] += float(np.sum(np.asarray(fn.log_prob(known[name]))))
                return known[name]

            return drawn

        kinds = {p.name: choice if isinstance(p.site, Choice) else number for p in places(self.program.body)}
        run = Unit(self.program, self.lms, (0, 0), 0, {name: kinds[name](name) for name in known}).run()
        for place in places(self.program.body):
            if getattr(place.site, "obs", None) is not None:
                at = run.values[place.name][..., None].astype(int)
                total[0] += float(np.take_along_axis(run.log_probs[place.name], at, -1).sum())
        return total[0]

    def draw(self, key: Key, rng: np.random.Generator) -> Unit:
        """One of the units; ``key`` is for what the evidence says nothing of."""
        known = {**self.known, **self.assignments[rng.choice(len(self.assignments), p=self.weights)]}
        found: dict[str, Callable[..., Any]] = {}
        unit = Unit(self.program, self.lms, key, 0, found)
        for place in places(self.program.body):
            if place.name in known:
                kind = _chosen if isinstance(place.site, Choice) else _drawn
                found[place.name] = kind(known[place.name], rng)
        # In the factual world, whose context each noise is of.
        unit.run()
        return unit


def _chosen(value: np.ndarray, rng: np.random.Generator) -> Callable[..., int]:
    """Noise of a choice, drawn when it is met first."""
    held: dict[int, Any] = {}

    def response(s: Choice, member: int, log_p: np.ndarray) -> int:
        wanted = int(value.ravel()[member])
        if s.coupling == "inverse_cdf":
            edges = np.concatenate([[0.0], np.exp(log_p).cumsum()])
            if member not in held:
                held[member] = wanted, rng.uniform(edges[wanted], edges[wanted + 1]), log_p
            option, u, own = held[member]
            # The very option where nothing has changed, however small its cell is.
            return option if np.array_equal(own, log_p) else int((u >= edges[1:-1]).sum())
        if s.coupling == "maximal":
            if member not in held:
                held[member] = log_p, rng.uniform(), rng.gumbel(size=len(log_p))
            law, threshold, rest = held[member]
            return matched(wanted, law, log_p, threshold, rest)[0]
        if member not in held:
            if log_p[wanted] < -9:
                # Too unlikely for rejection: the first of exponential clocks rang at a time of rate 1, and the others
                # have no memory of having waited for it.
                rung, waits = rng.exponential(), rng.exponential(size=len(log_p))
                waits[wanted] = 0.0
                held[member] = -np.log(np.exp(log_p) * rung + waits)
            while member not in held:
                gumbels = rng.gumbel(size=(4096, len(log_p)))
                hit = np.flatnonzero((log_p + gumbels).argmax(-1) == wanted)
                if len(hit):
                    held[member] = gumbels[hit[0]]
                    break
        return int((log_p + held[member]).argmax())

    return response


def _drawn(value: np.ndarray, rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """Noise of a number: its residual; of a finite one, the key of a draw that gave it."""
    held: list[Any] = []

    def response(s: Number, x: np.ndarray) -> np.ndarray:
        family = FAMILIES[s.family]
        fn = lambda x, m: family.distribution(np.ravel(x)[m : m + 1], s.scale)  # noqa: E731
        if not held:
            held.append(x)
            if family.finite:
                held.append([_accepted_key(fn(x, m), v, rng) for m, v in enumerate(value.ravel())])
        if np.array_equal(held[0], x):
            return value
        if family.finite:
            flat = [np.asarray(fn(x, m).sample(noise.as_jax(key))) for m, key in enumerate(held[1])]
            return np.array(flat).reshape(value.shape)
        if family.carry is None:
            raise Impossible(f"the noise of {s.family} cannot be told from its value")
        return np.asarray(family.carry(value, held[0], s.scale, x))

    return response


def _accepted_key(fn: Any, value: Any, rng: np.random.Generator) -> Key:
    """A key with which a site of one member draws a value."""
    import jax

    while True:
        words = rng.integers(0, 2**32, (64, 2), np.uint32)
        drawn = np.asarray(jax.vmap(fn.sample)(jax.random.wrap_key_data(words, impl="threefry2x32")))
        hit = np.flatnonzero(drawn.ravel() == value)
        if len(hit):
            return int(words[hit[0], 0]), int(words[hit[0], 1])
