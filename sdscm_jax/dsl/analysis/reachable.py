"""Which contexts the choices of a model can come to: found by following values, no language model is asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters import partial_eval

from ...errors import OptionError, SiteError, nearest
from ...models.language_model import LanguageModel, absent_lm
from ..handlers.exogenous import exogenous
from ..handlers.given_values import Followed
from ..handlers.site_messenger import SiteMessenger
from ..language.choice import Choice
from ..language.mechanism import Mechanism, with_mechanism
from ..language.messages import from_loop, is_variable, mechanism_at, phrase_at
from ..language.phrase import Phrase
from ..language.text_phrase import TextPhrase
from ..scoring.contexts import all_contexts, distinct_contexts

# Rows of values that are followed together.
ROWS = 1 << 14
# What an index depends on besides sites: noise, or an argument that may have any value.
_UNKNOWN = ""


@dataclass(frozen=True, eq=False)
class Reach:
    """The contexts of one site: some phrases are known to take certain values together, the others may take any.

    Attributes:
        name: the site.
        choice: the choice without anything that belongs to a trace.
        asked: may the program need its scores to draw? (Not where an intervention replaces them.)
        known: which of the m phrases are known.
        rows: their values, int32 ``[R, len(known)]``, distinct.
    """

    name: str
    choice: Choice
    asked: bool
    known: tuple[int, ...]
    rows: np.ndarray

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many options each phrase has."""
        return tuple(len(phrase.options) for phrase in self.choice.phrases)

    @property
    def free(self) -> tuple[int, ...]:
        """Which phrases may take any value."""
        return tuple(j for j in range(len(self.sizes)) if j not in self.known)

    @property
    def count(self) -> int:
        """How many contexts there are."""
        return len(self.rows) * math.prod(self.sizes[j] for j in self.free)

    def contexts(self) -> np.ndarray:
        """All of them, int32 ``[count, m]``, in lexicographic order."""
        others = all_contexts([self.sizes[j] for j in self.free])
        found = np.empty((len(self.rows), len(others), len(self.sizes)), np.int32)
        found[..., list(self.known)] = self.rows[:, None]
        found[..., list(self.free)] = others
        return distinct_contexts(found.reshape(self.count, len(self.sizes)))


def reachable(
    fn: Callable,
    bound: tuple[tuple, dict[str, Any]],
    rest: tuple[tuple, dict[str, Any]],
    values: Mapping[str, Any] | None = None,
) -> list[Reach]:
    """The contexts of every choice of a model that asks a language model.

    A phrase is known where its option number does not depend on anything but ``values``: it is set by
    an intervention to a constant, observed, or comes from sites whose values are given.

    Args:
        fn: the model function.
        bound: its first arguments, positional and by name; the language models are among them.
        rest: the other arguments; arrays among them may have any value.
        values: site name -> array ``[..., *site shape]`` of values that go together along the leading axes.

    Raises:
        SiteError: a site is free text or is given some, has a language model that is not bound, or
            ``values`` names no site or has another shape.
        OptionError: ``values`` has what is no option of a site.
    """
    # The program is sliced (Weiser 1984, "Program slicing"): dead code elimination leaves of its trace what an option
    # number is computed from. Is that nothing but sites of ``values``, the number is evaluated on each of their rows;
    # else it may be any option. So all contexts that can occur are found, and perhaps some that cannot.
    # Twice, as the first trace says which sites there are and what shapes their values have.
    program = _Program(fn, bound, rest)
    program.trace({})
    given = program.checked(values) if values else {}
    if given:
        program.trace({name: x[0] for name, x in given.items()})
    return program.follow(given)


class _Program:
    """A model as a function of noise, unknown arguments and values of sites, with the contexts that it comes to."""

    def __init__(self, fn: Callable, bound: tuple[tuple, dict[str, Any]], rest: tuple[tuple, dict[str, Any]]):
        self.fn = fn
        self.own, self.own_tree = jax.tree.flatten(bound, is_leaf=_is_lm)
        self.rest, self.rest_tree = jax.tree.flatten(rest, is_leaf=_is_lm)
        self.lms = [x for x in self.own if _is_lm(x)]
        leaves = [*self.own, *self.rest]
        self.unknown = [
            i
            for i, x in enumerate(leaves)
            if isinstance(x, jax.core.Tracer) or (i >= len(self.own) and isinstance(x, (Array, np.ndarray)))
        ]
        self.looped: frozenset[str] = frozenset()

    def trace(self, values: Mapping[str, Array]) -> None:
        """Trace the model; sites in ``values`` have values that are inputs."""
        leaves = [*self.own, *self.rest]
        reading = _Reading(self.fn, self.lms)
        places: list[tuple[str, int]] = []
        sites: dict[str, _Seen] = {}

        def run(key: Array, unknown: list[Array], values: dict[str, Array]) -> list[Array]:
            filled = list(leaves)
            for i, x in zip(self.unknown, unknown, strict=True):
                filled[i] = x
            args, kwargs = jax.tree.unflatten(self.own_tree, filled[: len(self.own)])
            more, named = jax.tree.unflatten(self.rest_tree, filled[len(self.own) :])
            model = Followed(exogenous(reading, key), values, self.looped)
            # Handlers around this call must not see these sites: it is no run of the model.
            with numpyro.handlers.block():
                trace = numpyro.handlers.trace(model).get_trace(*args, *more, **{**kwargs, **named})
            sites.update({name: _Seen.of(msg) for name, msg in trace.items() if is_variable(msg)})
            found = []
            for name, read in reading.found.items():
                for j, index in enumerate(read.indices):
                    places.append((name, j))
                    found.append(jnp.asarray(index, jnp.int32))
            return found

        key = jax.ShapeDtypeStruct((2,), jnp.uint32)
        unknown = [jax.ShapeDtypeStruct(jnp.shape(leaves[i]), jnp.result_type(leaves[i])) for i in self.unknown]
        shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in values.items()}
        self.jaxpr = jax.make_jaxpr(run)(key, unknown, shapes)
        self.found, self.places, self.sites = reading.found, places, sites
        self.looped = frozenset(name for name, site in sites.items() if site.looped)
        # Of the inputs, in this order: noise, unknown arguments, then sites by name.
        self.names = [_UNKNOWN] * (1 + len(unknown)) + sorted(values)

    def checked(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Values of sites as arrays with one leading axis."""
        found, leading = {}, {}
        for name, value in values.items():
            if name not in self.sites:
                raise SiteError(f"contexts has values of {name!r}, which is no site; {nearest(name, list(self.sites))}")
            site = self.sites[name]
            try:
                array = value if site.phrase is None else site.phrase.as_value(value, f"contexts of site {name!r}")
                array = np.asarray(array, site.dtype)
                leading[name] = array.shape[: array.ndim - len(site.shape)]
                if array.shape[len(leading[name]) :] != site.shape:
                    raise ValueError(f"its values have shape {site.shape}, those of contexts {array.shape}")
            except OptionError:
                raise
            except (TypeError, ValueError) as error:
                raise SiteError(f"contexts of site {name!r}: {error}") from error
            found[name] = array
        try:
            shape = np.broadcast_shapes(*leading.values())
        except ValueError as error:
            told = ", ".join(f"{name!r} {shape}" for name, shape in leading.items())
            raise SiteError(f"contexts has values that do not go together; their leading axes are {told}") from error
        if 0 in shape:
            raise SiteError("contexts has no rows")
        return {
            name: np.broadcast_to(array, (*shape, *self.sites[name].shape)).reshape(-1, *self.sites[name].shape)
            for name, array in found.items()
        }

    def follow(self, values: Mapping[str, np.ndarray]) -> list[Reach]:
        """The contexts of each choice, where sites have values with one leading axis."""
        sources = self._sources()
        known = {place for place, inputs in zip(self.places, sources, strict=True) if _UNKNOWN not in inputs}
        wanted = [n for n, place in enumerate(self.places) if place in known]
        parts: dict[str, list[np.ndarray]] = {}
        for indices in self._evaluated(wanted, values) if wanted else ():
            at: dict[str, list[np.ndarray]] = {}
            for n, index in zip(wanted, indices, strict=True):
                at.setdefault(self.places[n][0], []).append(index)
            for name, columns in at.items():
                # The leading axis is that of rows; sites in plates and loops have others.
                most = max(x.ndim for x in columns)
                columns = [x.reshape(len(x), *(1,) * (most - x.ndim), *x.shape[1:]) for x in columns]
                together = np.stack(np.broadcast_arrays(*columns), -1).reshape(-1, len(columns))
                parts.setdefault(name, []).append(distinct_contexts(together))
        found = []
        for name, read in self.found.items():
            rows = distinct_contexts(np.concatenate(parts[name])) if name in parts else np.zeros((1, 0), np.int32)
            places = tuple(j for j in range(len(read.choice.phrases)) if (name, j) in known)
            found.append(Reach(name, read.choice, read.asked, places, rows))
        return found

    def _sources(self) -> list[frozenset[str]]:
        """The sites that each index depends on; with ``_UNKNOWN``, if on anything else too."""
        jaxpr, consts = self.jaxpr.jaxpr, self.jaxpr.consts
        again: dict[int, frozenset[str]] = {}
        for n, out in enumerate(jaxpr.outvars):
            if id(out) not in again:
                chosen = [i == n for i in range(len(jaxpr.outvars))]
                _, used, inputs = partial_eval.dce_jaxpr_consts(jaxpr, chosen)
                names = set(itertools.compress(self.names, inputs))
                # What the model's function closes over may be traced too.
                if any(isinstance(x, jax.core.Tracer) for x in itertools.compress(consts, used)):
                    names.add(_UNKNOWN)
                again[id(out)] = frozenset(names)
        return [again[id(out)] for out in jaxpr.outvars]

    def _evaluated(self, wanted: Sequence[int], values: Mapping[str, np.ndarray]) -> Iterator[list[np.ndarray]]:
        """The wanted indices ``[R, ...]``, for some rows of values at a time."""
        chosen = [n in set(wanted) for n in range(len(self.places))]
        jaxpr, used, inputs = partial_eval.dce_jaxpr_consts(self.jaxpr.jaxpr, chosen)
        run = jaxpr_as_fun(ClosedJaxpr(jaxpr, list(itertools.compress(self.jaxpr.consts, used))))
        names = list(itertools.compress(self.names, inputs))
        count = max((len(values[name]) for name in names), default=1)
        size = min(ROWS, count)
        rows = jax.jit(jax.vmap(run, axis_size=size))
        for start in range(0, count, size):
            # The last part has the shape of the others; repeating a row changes nothing.
            own = np.minimum(np.arange(start, start + size), count - 1)
            # Out of the trace that asks, as in ``tabulate``.
            with jax.core.eval_context():
                found = [np.asarray(x) for x in rows(*(values[name][own] for name in names))]
            yield found


def _is_lm(x: Any) -> bool:
    return isinstance(x, LanguageModel)


@dataclass(frozen=True)
class _Seen:
    """What a trace says of a site."""

    shape: tuple[int, ...]
    dtype: Any
    phrase: Phrase | None
    looped: bool

    @classmethod
    def of(cls, msg: dict[str, Any]) -> _Seen:
        phrase = phrase_at(msg, 0, msg["name"])
        stand_in = None if phrase is None else Phrase(0, phrase.template, phrase.options, msg["name"])
        value = msg["value"]
        return cls(jnp.shape(value), jnp.result_type(value), stand_in, from_loop(msg))


@dataclass
class _Read:
    """What one choice is given in a trace; no indices: they are those of a loop's inside."""

    choice: Choice
    asked: bool
    indices: list[Any] = field(default_factory=list)


class _Reading(SiteMessenger):
    """Notes what every choice is given; choices do not ask, all their scores are 0."""

    def __init__(self, fn: Callable | None, lms: Sequence[LanguageModel], found: dict[str, _Read] | None = None):
        self.lms = lms
        self.inside = found is not None
        self.found: dict[str, _Read] = {} if found is None else found
        super().__init__(fn)

    def _process(self, msg: dict[str, Any]) -> None:
        if (mechanism := mechanism_at(msg)) is None:
            return
        name = msg["name"]
        if not isinstance(mechanism, Choice):
            raise SiteError(f"site {name!r} is free text; only choices can be tabulated")
        if mechanism.known_scores is not None:
            # A loop sends its sites on, with what they were given in all steps.
            if name in self.found:
                self.found[name].indices = [phrase.index for phrase in mechanism.phrases]
            return
        if not mechanism.scoring.asks_lm:
            return
        natural = has_mechanism(msg["fn"])
        scores = jnp.zeros((*mechanism.batch_shape, len(mechanism.options)), jnp.float32)
        msg["fn"] = with_mechanism(msg["fn"], lambda choice: choice.replace(known_scores=scores, lm=absent_lm()))
        self.found[name] = _Read(self._bare(mechanism, name), natural)
        if not self.inside:
            self.found[name].indices = [phrase.index for phrase in mechanism.phrases]

    def _bare(self, choice: Choice, name: str) -> Choice:
        if not any(lm is choice.lm for lm in self.lms):
            raise SiteError(f"site {name!r}: its language model is not one of the arguments that were bound")
        given = []
        for item in choice.given:
            if isinstance(item, TextPhrase):
                raise SiteError(f"site {name!r} is given free text; its contexts cannot be tabulated")
            given.append(Phrase(0, item.template, item.options, item.name) if isinstance(item, Phrase) else item)
        return Choice(choice.lm, choice.template, choice.options, given=given, scoring=choice.scoring)

    def _inside(self, step: tuple[Any, int] | None) -> AbstractContextManager:
        return _Reading(None, self.lms, self.found)


def has_mechanism(fn: Any) -> bool:
    """May a distribution need the mechanism inside it to draw? (Not where an intervention replaced it.)"""
    while fn is not None and not isinstance(fn, Mechanism):
        fn = getattr(fn, "base_dist", None)
    return fn is not None
