"""Who owns the keys and values that a run of a program has computed: ``EncodedTexts``.

Sites read on from what earlier sites have had encoded. What is encoded is found by *what the text is* (``Said``): the
language model, and each piece by its words or, of a phrase, by its template and the very array that its value is.
So a phrase is a plain value, which need not know where it came from.

- **Who makes it**: the outermost NumPyro handler of a run, through the first mechanism that is made, or handler of this
  package that is entered (``encoded_texts``). A loop, branch or ``vmap`` in a run has one of its own.
- **How long it lives**: as long as a mechanism of it, or as what runs the program: handlers of this package while they
  are open (``SiteMessenger``), and NumPyro's ``seed``, which is made anew for each run and each loop. Nothing else
  holds it, and it holds no mechanism; so it goes with its run.
- **What may be used where**: what a trace of JAX has computed, in that trace only; elsewhere it would be a leaked
  tracer. Outside of a run and of a trace, each mechanism keeps what it has computed, for all to look at.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array
from jax.extend.core import get_opaque_trace_state
from numpyro.handlers import seed
from numpyro.primitives import _PYRO_STACK, Messenger

from ...models.language_model import LanguageModel
from ...models.options import OptionTokens
from .encoding import Encoding, ScoredTree, choose
from .option_tree import OptionTree

# Asked in a thread of its own: where this module is imported, something may be being traced.
with ThreadPoolExecutor(1) as _aside:
    _NO_TRACE = _aside.submit(get_opaque_trace_state).result()


class Same:
    """A value as a key: equal to itself alone. It is held, so that no other can take its place."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def value_key(value: Any) -> Any:
    """A value as a key: arrays of JAX, which may be traced, by identity, other numbers by content."""
    if isinstance(value, jax.Array):
        return Same(value)
    array = np.asarray(value)
    return array.dtype.str, array.shape, array.tobytes()


class Said(NamedTuple):
    """A list of texts as a key.

    Attributes:
        lm: the language model that reads them.
        leading_space: does a space stand before the first?
        pieces: of each, a string or the key of a phrase.
    """

    lm: Same
    leading_space: bool
    pieces: tuple[Any, ...]

    @classmethod
    def of(cls, lm: LanguageModel, leading_space: bool, pieces: Sequence[Any]) -> Said:
        """The key of strings and phrases."""
        return cls(
            Same(lm), leading_space, tuple(p if isinstance(p, str) else (p.form_key, p.value_key) for p in pieces)
        )


class Readable(Protocol):
    """A text that a site has had encoded, from which others may read on."""

    def up_to(self, phrase: Any) -> Encoding:
        """The text up to and with the value of the site as a phrase has it."""


class Scored(NamedTuple):
    """What scoring a choice leaves behind.

    Attributes:
        scores: float32 ``[..., K]``.
        after: the text before the blank, and the nodes of the tree.
        blank, tree: of the options.
    """

    scores: Array
    after: ScoredTree
    blank: OptionTokens
    tree: OptionTree

    def up_to(self, phrase: Any) -> Encoding:
        """The text with the option of a phrase filled in."""
        return choose(self.after, self.blank, self.tree, jax.numpy.asarray(phrase.index))


class EncodedTexts:
    """What a run has had encoded, in one trace of JAX.

    Attributes:
        scored: (texts before, template, options, scoring) -> a choice that was scored there.
        read: texts -> all of them, encoded.
        written: (texts before, what stands after them) -> a site's text.
        answered: (who answered, and the key of ``scored``) -> scores that did not come from the language model.
    """

    __slots__ = ("__weakref__", "_handler", "_trace", "answered", "read", "scored", "written")

    def __init__(self, handler: Messenger | None = None):
        self._trace = get_opaque_trace_state()
        self._handler = None if handler is None else weakref.ref(handler)
        self.scored: dict[Any, Scored] = {}
        self.read: dict[Said, Encoding] = {}
        self.written: dict[tuple[Said, Any], Readable] = {}
        self.answered: dict[Any, Array] = {}

    @property
    def here(self) -> bool:
        """May what it holds be used in the trace that JAX is in?"""
        return bool(self._trace == get_opaque_trace_state())

    def of_run(self, handler: Messenger | None) -> bool:
        """Is it that of a handler's run?"""
        return handler is None if self._handler is None else self._handler() is handler

    def __reduce__(self) -> tuple[type[EncodedTexts], tuple[()]]:
        # What is copied or written to disk takes nothing of a run with it.
        return EncodedTexts, ()


_ALIVE: weakref.WeakSet[EncodedTexts] = weakref.WeakSet()
_SEEDED: weakref.WeakKeyDictionary[seed, EncodedTexts] = weakref.WeakKeyDictionary()


def in_trace() -> bool:
    """Is JAX tracing?"""
    return bool(get_opaque_trace_state() != _NO_TRACE)


def running() -> Messenger | None:
    """The outermost of the handlers that run a program."""
    return _PYRO_STACK[0] if _PYRO_STACK else None


def known_texts() -> Iterator[EncodedTexts]:
    """All that may be looked at in the run and the trace that are on."""
    handler = running()
    return (texts for texts in list(_ALIVE) if texts.of_run(handler) and texts.here)


def encoded_texts() -> EncodedTexts:
    """Those of the run and the trace that are on; the caller holds them."""
    handler = running()
    # (Outside of both there is nothing that would end: each keeps its own.)
    found = None if handler is None and not in_trace() else next(known_texts(), None)
    if found is None:
        found = EncodedTexts(handler)
        _ALIVE.add(found)
    seeds = (around for around in reversed(_PYRO_STACK) if isinstance(around, seed))
    # (A block under ``with seed(…)`` may be any number of runs, whose arrays would pile up.)
    if (innermost := next(seeds, None)) is not None and (innermost.fn is not None or in_trace()):
        _SEEDED[innermost] = found
    return found
