"""The ``asked`` handler: a program whose language models are asked outside of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import get_opaque_trace_state
from numpyro.primitives import Messenger

from ...checks import shallow
from ...errors import ProgramError, SDSCMError
from ...models.language_model import LanguageModel
from ..language.choice import Choice
from ..language.mechanism import Mechanism, with_mechanism
from ..language.messages import mechanism_at
from ..language.text import Text
from ..language.text_elsewhere import Beside, Writer
from ..language.text_phrase import PADDING, UNKNOWN, TextPhrase
from ..language.text_query import Reading, Writing
from ..noise.streams import key_words
from ..scoring.score_query import Question
from .site_messenger import SiteMessenger


class NotSeparable(SDSCMError):
    """A program asks its language models in a way that cannot be taken out of it."""


@dataclass(frozen=True)
class Visit:
    """One time that a program needs to know what a language model thinks of a choice or a text, or would write.

    Attributes:
        site: name of the site.
        question: what is asked.
        lm: number of the language model among those that the program was given.
        shape: shape of the batch of contexts in one run.
    """

    site: str
    question: Question | Writing | Reading
    lm: int
    shape: tuple[int, ...]

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """Shape of the answer: ``[*shape, K]``, scores of the options; ``[*shape, T]``, tokens of a text or theirs."""
        return (*self.shape, self.question.answers)

    def nothing(self) -> Array:
        """What stands for an answer that is not there yet."""
        return jnp.full(self.answer_shape, self.question.nothing, self.question.dtype)


class asked(SiteMessenger):
    """Run a model whose language models are asked elsewhere.

    Choices and observed texts are scored from ``answers``, and free texts are taken from them; which contexts they
    needed them in, and what for, is recorded. A site that nobody asks (it is intervened on, say) is not recorded.

    Args:
        fn: the model function.
        lms: the language models among its arguments.
        answers: name of a visit -> scores ``[*shape, K]`` of its question's options, zeros where there are
            none yet; or tokens ``[*shape, T]`` or their log-probabilities. The visits of a site are called by its name
            and a number.

    Attributes:
        visits: name -> ``Visit``, in the order of the program.
        contexts: name -> int32 ``[*shape, m]``: option numbers, or tokens, of the phrases that the site is given; of a
            text also what ``Writing`` says.
    """

    def __init__(self, fn: Callable | None, lms: tuple[LanguageModel, ...], answers: Any = None):
        self.lms, self.answers = lms, {} if answers is None else answers
        self.visits: dict[str, Visit] = {}
        self.contexts: dict[str, Array] = {}
        self._trace = get_opaque_trace_state()
        super().__init__(fn)

    def _process(self, msg: dict[str, Any]) -> None:
        if (mechanism := mechanism_at(msg)) is None:
            return
        if mechanism.kind == "text":
            writer = Writer(partial(self._write, msg["name"]), partial(self._read, msg["name"]))
            msg["fn"] = with_mechanism(msg["fn"], lambda text: text.writing(writer))
            return
        answer = partial(self._answer, msg["name"])
        msg["fn"] = with_mechanism(msg["fn"], lambda choice: choice.asking(answer))

    def _inside(self, step: tuple[Any, int] | None) -> AbstractContextManager:
        return _Refuse()

    def _answer(self, site: str, choice: Choice) -> Array:
        given, inside = self._given(site, choice)
        question, which = choice.question, self._number(site, choice)
        scores = self._asked(site, Visit(site, question, which, given.shape[:-1]), given)
        if question.alone is not None:
            alone = Visit(site, question.alone, which, ())
            scores = scores - self._asked(f"{site} alone", alone, jnp.zeros((0,), jnp.int32))
        return scores if inside is None else jnp.where(inside[..., None], scores, jnp.nan)

    def _write(self, site: str, text: Text, key: Array, shape: tuple[int, ...]) -> Array:
        """Tokens ``[*shape, T]`` of a text."""
        noise = text.noise
        if noise is not None and not isinstance(noise, Beside):
            raise NotSeparable(f"site {site!r} is free text whose noise is at hand for every token")
        given, inside = self._given(site, text)
        place = jnp.arange(math.prod(shape), dtype=jnp.int32).reshape(shape)
        if noise is None:
            columns = [given, _noise(key, text.anew, text.coupling.kept), place[..., None], _bits(text.temperature)]
        else:
            known = noise.text
            own = _noise(noise.key if noise.own is None else noise.own, noise.anew, noise.kept)
            columns = [given, self._given(site, known)[0], noise.tokens, own, place[..., None], _bits(text.temperature)]
            columns += [_noise(noise.key, known.anew, known.coupling.kept), _bits(known.temperature)]
        tokens = self._asked(
            site, Visit(site, text.query, self._number(site, text), shape), _side_by_side(columns, shape)
        )
        return tokens if inside is None else jnp.where(inside[..., None], tokens, UNKNOWN)

    def _read(self, site: str, text: Text, tokens: Array) -> Array:
        """Log-probabilities ``[..., T]`` of the tokens of a text."""
        shape = tokens.shape[:-1]
        columns = [self._given(site, text)[0], tokens, _bits(text.temperature)]
        visit = Visit(site, text.reading_query, self._number(site, text), shape)
        return self._asked(site, visit, _side_by_side(columns, shape))

    def _number(self, site: str, mechanism: Mechanism) -> int:
        """Number of the language model of a site that is asked here."""
        if get_opaque_trace_state() != self._trace:
            raise NotSeparable(f"site {site!r} is asked inside a loop of another program")
        which = next((i for i, lm in enumerate(self.lms) if lm is mechanism.lm), None)
        if which is None:
            raise NotSeparable(f"site {site!r}: its language model is made inside the program")
        return which

    def _given(self, site: str, mechanism: Mechanism) -> tuple[Array, Array | None]:
        """What a site is given, int32 ``[..., m]``, and where all of it has a value (None: everywhere).

        What is asked for has to be an option; where the phrase is none, the answer does not count.
        """
        inside = mechanism._given_inside()
        columns = [
            jnp.maximum(jnp.asarray(phrase.tokens, jnp.int32), PADDING)
            if isinstance(phrase, TextPhrase)
            else jnp.clip(jnp.asarray(phrase.index, jnp.int32), 0, len(phrase.options) - 1)[..., None]
            for phrase in mechanism.phrases
        ]
        batch = jnp.broadcast_shapes(*(x.shape[:-1] for x in columns))
        columns = [jnp.broadcast_to(x, (*batch, x.shape[-1])) for x in columns]
        return jnp.concatenate([*columns, jnp.zeros((*batch, 0), jnp.int32)], axis=-1), inside

    def _asked(self, what: str, visit: Visit, context: Array) -> Array:
        """The answer ``visit.answer_shape`` to what is asked."""
        number = 0
        while (name := f"{what} {number}") in self.visits:
            number += 1
        self.visits[name], self.contexts[name] = visit, context
        found = self.answers.get(name)
        return visit.nothing() if found is None else found


def _bits(x: Any) -> Array:
    """Numbers ``[...]`` as int32 ``[..., 1]`` of the same bits as float32."""
    return jax.lax.bitcast_convert_type(jnp.asarray(x, jnp.float32), jnp.int32)[..., None]


def _noise(key: Array, anew: Array | None, kept: Any) -> Array:
    """The words of noise, int32 ``[5]``; see ``Writing``."""
    keys = key, key if anew is None else anew
    words = [jax.lax.bitcast_convert_type(key_words(x), jnp.int32) for x in keys]
    return jnp.concatenate([*words, _bits(1.0 if anew is None else kept)])


def _side_by_side(columns: list[Array], shape: tuple[int, ...]) -> Array:
    """Columns ``[..., m]`` together, int32 ``[*shape, M]``."""
    return jnp.concatenate([jnp.broadcast_to(x, (*shape, x.shape[-1])).astype(jnp.int32) for x in columns], axis=-1)


class _Refuse(Messenger):
    """Refuses sites of language models."""

    def process_message(self, msg: dict[str, Any]) -> None:
        if mechanism_at(msg) is not None:
            raise NotSeparable(f"site {msg['name']!r} is inside scan or cond")


def language_models(args: Any) -> tuple[LanguageModel, ...]:
    """The language models among a model's arguments."""
    shallow(args, "an argument of the model", ProgramError)
    return tuple(x for x in jax.tree.leaves(args, is_leaf=is_language_model) if is_language_model(x))


def is_language_model(x: Any) -> bool:
    """Is it a language model? (What takes arguments apart leaves these whole.)"""
    return isinstance(x, LanguageModel)
