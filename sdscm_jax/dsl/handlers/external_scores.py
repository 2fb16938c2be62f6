"""The ``asked`` handler: a program whose language models are asked outside of it."""

from __future__ import annotations

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
from ..language.mechanism import with_mechanism
from ..language.messages import mechanism_at
from ..language.text_phrase import TextPhrase
from ..scoring.score_query import Question
from .site_messenger import SiteMessenger


class NotSeparable(SDSCMError):
    """A program asks its language models in a way that cannot be taken out of it."""


@dataclass(frozen=True)
class Visit:
    """One time that a program needs to know what a language model thinks of a choice.

    Attributes:
        site: name of the choice.
        question: what is asked.
        lm: number of the language model among those that the program was given.
        shape: shape of the batch of contexts in one run.
    """

    site: str
    question: Question
    lm: int
    shape: tuple[int, ...]

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """Shape ``[*shape, K]`` of the answer: scores of the options."""
        return (*self.shape, len(self.question.rows))


class asked(SiteMessenger):
    """Run a model whose language models are asked elsewhere.

    Choices are scored from ``answers``; which contexts they needed them in, and what for, is
    recorded. A choice that nobody asks for probabilities (it is intervened on, say) is not recorded.

    Args:
        fn: the model function.
        lms: the language models among its arguments.
        answers: name of a visit -> scores ``[*shape, K]`` of its question's options; zeros where there are
            none yet. The visits of a site are called by its name and a number.

    Attributes:
        visits: name -> ``Visit``, in the order of the program.
        contexts: name -> int32 ``[*shape, m]``: option numbers of the phrases that the site is given.
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
        if mechanism.kind != "choice":
            raise NotSeparable(f"site {msg['name']!r} is free text")
        answer = partial(self._answer, msg["name"])
        msg["fn"] = with_mechanism(msg["fn"], lambda choice: choice.asking(answer))

    def _inside(self, step: tuple[Any, int] | None) -> AbstractContextManager:
        return _Refuse()

    def _answer(self, site: str, choice: Choice) -> Array:
        if get_opaque_trace_state() != self._trace:
            raise NotSeparable(f"site {site!r} is asked inside a loop of another program")
        which = next((i for i, lm in enumerate(self.lms) if lm is choice.lm), None)
        if which is None:
            raise NotSeparable(f"site {site!r}: its language model is made inside the program")
        if any(isinstance(phrase, TextPhrase) for phrase in choice.phrases):
            raise NotSeparable(f"site {site!r} is given free text")
        indices = jnp.broadcast_arrays(*(jnp.asarray(phrase.index, jnp.int32) for phrase in choice.phrases))
        question = choice.question
        # What is asked for has to be an option; where the phrase is none, the answer does not count.
        inside = choice._given_inside()
        indices = [jnp.clip(x, 0, len(p.options) - 1) for x, p in zip(indices, choice.phrases, strict=True)]
        scores = self._scores(site, Visit(site, question, which, indices[0].shape if indices else ()), indices)
        if question.alone is not None:
            scores = scores - self._scores(f"{site} alone", Visit(site, question.alone, which, ()), [])
        return scores if inside is None else jnp.where(inside[..., None], scores, jnp.nan)

    def _scores(self, what: str, visit: Visit, indices: list[Array]) -> Array:
        """Scores ``[*visit.shape, K]`` of what is asked."""
        number = 0
        while (name := f"{what} {number}") in self.visits:
            number += 1
        self.visits[name] = visit
        self.contexts[name] = jnp.stack(indices, axis=-1) if indices else jnp.zeros((0,), jnp.int32)
        scores = self.answers.get(name)
        return jnp.zeros(visit.answer_shape, jnp.float32) if scores is None else scores


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
