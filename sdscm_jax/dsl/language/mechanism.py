"""What the sites of a language model have in common: a mechanism is a function of its noise.

``X := f(parents, noise)``. A draw makes noise from its key and responds to it; a counterfactual
responds to the same noise elsewhere; abduction draws the noise given the value.
"""

from __future__ import annotations

import copy
import functools
import inspect
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.distribution import DistributionMeta

from ...checks import told
from ...errors import ContextLengthError, OptionError, ProgramError, SiteError, TemplateError
from ...models.chat import ChatCodec, Joint
from ...models.codec import Tokens
from ...models.language_model import LanguageModel
from ..noise.couplings.base import Coupling
from ..noise.couplings.registry import COUPLINGS, parse_coupling
from ..noise.streams import stream, uniforms
from ..scoring.encoded_texts import EncodedTexts, Readable, Said, encoded_texts, in_trace, known_texts, running
from ..scoring.encoding import Encoding
from ..scoring.score_query import Piece
from ..scoring.template import Template
from .context import Given, chosen_tokens, given_piece, item_texts, longest_tokens, parse_given, pending_tokens
from .phrase import Phrase
from .scores import check_temperature
from .text_phrase import TextPhrase


class _Offered(DistributionMeta):
    """A class that offers its user what NumPyro's distributions have and what it was made of.

    What else is public in a site is there for the other rooms of the package.
    """

    def __dir__(cls) -> list[str]:
        offered = {*dir(dist.CategoricalLogits), *inspect.signature(cls).parameters}
        return [name for name in super().__dir__() if name in offered or name.startswith("_")]


class Mechanism(dist.Distribution, metaclass=_Offered):
    """Base of ``Choice`` and ``Text``: a language model, a template, and what it is given.

    Attributes:
        noise: exogenous noise that is at hand (abduced, or made a site of its own); None: that of the site's key.
        anew: below an intervention, where the coupling keeps a share of the noise: the key of the rest.
    """

    arg_constraints: dict[str, Any] = {}
    # NumPyro's default is True where there are no constrained arguments; values here are discrete.
    has_rsample = False

    kind: str
    lm: LanguageModel
    template: Template
    phrases: tuple[Phrase, ...]
    texts: tuple[str | None, ...]
    temperature: Any
    coupling: Coupling
    noise: Any
    anew: Any = None
    # Of the run that it was made in; None: JAX has put it together.
    _encoded: EncodedTexts | None = None
    _in_trace = False

    def __dir__(self) -> list[str]:
        made_of = inspect.signature(type(self)).parameters
        return [*dir(type(self)), *(name for name in vars(self) if name in made_of)]

    def _set_given(self, given: Any) -> Given:
        items = parse_given(given, self.template)
        # Strings are static, phrases are data; None stands where a phrase is.
        self.phrases = tuple(item for item in items if isinstance(item, Phrase))
        self.texts = tuple(None if isinstance(item, Phrase) else item for item in items)
        return items

    def _set_model(self, lm: Any, temperature: Any, coupling: Any) -> None:
        where = repr(str(self.template))
        if not isinstance(lm, LanguageModel):
            raise ProgramError(f"{where}: lm is a LanguageModel (see load_lm), got {told(lm)}")
        check_temperature(temperature, where)
        self.lm, self.temperature, self.noise = lm, temperature, None
        self.coupling = parse_coupling(coupling, where)
        self._encoded = encoded_texts()
        # Its scores are then arrays of a trace, though what it is made of may be none.
        self._in_trace = in_trace()

    @property
    def given(self) -> Given:
        """The phrases and strings that stand before the template."""
        phrases = iter(self.phrases)
        return tuple(next(phrases) if text is None else text for text in self.texts)

    @property
    @abstractmethod
    def inputs(self) -> Any:
        """What the distribution depends on, besides the language model."""

    @abstractmethod
    def _may_have(self, coupling: Coupling) -> bool:
        """Is it a coupling of such sites?"""

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        """Those that the site may have, of those that are listed."""
        return tuple(coupling for coupling in COUPLINGS if self._may_have(coupling))

    @classmethod
    def tree_unflatten(cls, aux_data: Any, params: Any) -> Any:
        new = super().tree_unflatten(aux_data, params)
        new._encoded = encoded_texts()
        return new

    # -- the text before the template -----------------------------------------------------------

    def _given_inside(self) -> Array | None:
        """Has every given phrase a value, bool ``[...]``; None: it is known that they have.

        Raises:
            OptionError: it is known that one has none.
        """
        for phrase in self.phrases:
            phrase.check_inside()
        traced = [phrase for phrase in self.phrases if isinstance(jax.tree.leaves(phrase)[0], jax.core.Tracer)]
        return functools.reduce(jnp.logical_and, (phrase.inside() for phrase in traced)) if traced else None

    def _with_given(self, found: Array) -> Array:
        """A log-probability; -inf where a site that is given has a value that is none of its options.

        Such a value has probability 0, and so has what comes with it, though nothing is known of the latter by itself.
        """
        drawn = [phrase.inside() for phrase in self.phrases if phrase.options and phrase.drawn]
        return functools.reduce(lambda x, inside: jnp.where(inside, x, -jnp.inf), drawn, found)

    @property
    def _leading_space(self) -> bool:
        """Does a space stand before the first text too?"""
        return False

    @property
    @abstractmethod
    def _needs_start(self) -> bool:
        """Does nothing precede what the language model is asked for?"""

    def _start(self) -> Tokens:
        lm = self.lm
        opening = lm.codec.opening(not self.texts)
        bos = int(lm.codec.bos is not None and opening[:1] == (lm.codec.bos,))
        start = (*opening[:bos], *lm.prompt_tokens, *opening[bos:])
        if start or not self._needs_start:
            return start
        if lm.codec.start is None:
            raise OptionError(
                f"{str(self.template)!r} begins the text with its blank, and this tokenizer has no token to begin "
                "with; put a word before the blank or give the site a context"
            )
        return (lm.codec.start,)

    def _check_length(self, own: int) -> None:
        """Refuse a text that may be too long; ``own`` tokens are the template's."""
        joint = self._joint
        longest = len(self._start()) + own
        for i, item in enumerate(self.given):
            if joint is not None and i == len(self.given) - 1:
                longest += max(map(len, joint.texts))
            else:
                longest += longest_tokens(item, self.lm.codec, i == 0, self._leading_space)
        limit = self.lm.config.max_positions
        if longest > limit:
            raise ContextLengthError(
                f"{str(self.template)!r} with its {len(self.given)} given texts needs up to {longest} positions; "
                f"this language model has {limit}. Give the site fewer texts or use a model with more positions"
            )

    def _check_said(self, own: tuple[str, ...]) -> None:
        """In a chat, refuse texts that its template does not write as they stand; ``own`` may be the site's own."""
        codec = self.lm.codec
        if isinstance(codec, ChatCodec):
            # A word stands for what is not yet written.
            texts = ((x.template.fill("x"),) if isinstance(x, TextPhrase) else item_texts(x) for x in self.given)
            codec.check(tuple(texts), own)

    def _text(self, own: int) -> Encoding:
        """The given texts, encoded as far as sites of this trace have done so.

        Args:
            own: how many tokens of the template follow before something is asked. Where there are
                none, the last token of the given texts is pending: what follows it is asked.
        """
        text, known, joint = Encoding.of_tokens(self._start()), 0, self._joint
        for n in range(len(self.given) - (joint is not None), 0, -1):
            last = not own and n == len(self.given)
            read = None if last else self._read(n)
            encoded = self._encoded_up_to(n, last) if read is None else read
            if encoded is not None:
                text, known = encoded, n
                break
        for i in range(known, len(self.given)):
            item = self.given[i]
            if joint is not None and i == len(self.given) - 1:
                text = text.then(*chosen_tokens(item, joint.texts))
            else:
                text = text.then(*pending_tokens(item, self.lm.codec, i == 0, self._leading_space))
        return text

    @property
    def _joint(self) -> Joint | None:
        """In a chat, the last given text where its tokens are not its own; see ``ChatCodec.joint``."""
        codec = self.lm.codec
        if not isinstance(codec, ChatCodec) or not self.texts or isinstance(self.given[-1], TextPhrase):
            return None
        return codec.joint(item_texts(self.given[-1]), len(self.texts) == 1)

    def _without_joint(self, own: Tokens) -> Tokens:
        """Tokens after the given texts, less those that the last of these has taken.

        Raises:
            TemplateError: it has taken some of the site's own text.
        """
        taken = () if (joint := self._joint) is None else joint.taken
        if own[: len(taken)] != taken:
            raise TemplateError(
                f"{str(self.template)!r}: this tokenizer does not split between the last given text and the template; "
                "let Chat(user=...) have a word after its blank"
            )
        return own[len(taken) :]

    def _given_tokens(self) -> tuple[Piece, ...]:
        """Per given text, the tokens of each text that it may be, where these can be listed."""
        codec, given, joint = self.lm.codec, self.given, self._joint
        found = [given_piece(item, codec, i == 0, self._leading_space) for i, item in enumerate(given)]
        return tuple(found) if joint is None else (*found[:-1], joint.texts)

    @property
    def _varying(self) -> tuple[int, ...]:
        """Numbers of the given texts that are phrases."""
        return tuple(i for i, text in enumerate(self.texts) if text is None)

    # -- what the run has had encoded -----------------------------------------------------------

    def _said(self, n: int) -> Said:
        """The first ``n`` given texts as a key."""
        return Said.of(self.lm, self._leading_space, self.given[:n])

    def _find(self, look: Callable[[EncodedTexts], Any]) -> Any:
        """What the run that this was made in has had encoded, or the one that is on."""
        own = self._encoded
        places = [*((own,) if own is not None and own.here else ()), *known_texts()]
        return next((found for texts in places if (found := look(texts)) is not None), None)

    @property
    def _kept(self) -> EncodedTexts:
        """Where to keep what is encoded now."""
        own, handler = self._encoded, running()
        mine = own is not None and own.here and (handler is None or own.of_run(handler))
        return own if own is not None and mine else encoded_texts()

    def _remember(self, text: Encoding, own: int) -> None:
        """Keep the given texts' part of ``text``, all of which is encoded; the last ``own`` tokens are the template's.

        Of no shorter list: a parent that other sites do not have may vary where theirs do not
        (between worlds, in a plate), and the slots of the whole list vary with it.
        """
        if self._joint is None and self.phrases:
            self._kept.read.setdefault(self._said(len(self.given)), text.without_last(own))

    def _read(self, n: int) -> Encoding | None:
        """The first ``n`` given texts, if another site was given exactly those and had them encoded."""
        said = self._said(n)
        found: Encoding | None = self._find(lambda texts: texts.read.get(said))
        return found

    def _encoded_up_to(self, n: int, last: bool) -> Encoding | None:
        """The first ``n`` given texts, if the site of the n-th was given exactly those before.

        Args:
            n: how many.
            last: does nothing follow before this site asks? The last token is pending then.
        """
        item = self.given[n - 1]
        # In a chat, what was the assistant's answer there is what the user says here.
        if isinstance(item, str) or self.lm.chat is not None or (last and isinstance(item, TextPhrase)):
            return None
        before, after = self._said(n - 1), item.reading_key
        found: Readable | None = self._find(lambda texts: texts.written.get((before, after)))
        return None if found is None else found.up_to(item)

    # -- noise ----------------------------------------------------------------------------------

    def replace(self, **changes: Any) -> Any:
        """This mechanism with other values of some attributes; nothing is checked again."""
        new = copy.copy(self)
        new.__dict__.update(changes)
        return new

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw values: the response to fresh noise, or to the noise that is at hand."""
        return self._draw(key, (*sample_shape, *self.batch_shape))

    def _draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """The same with the whole batch shape, which the batch shape broadcasts to."""
        if self.noise is not None:
            return self.respond(self.noise)
        if key is None:
            raise SiteError(
                f"{self.template!s}: no handler gives its site a key: run the model by sd.simulate, or under "
                "handlers.exogenous(model, key)"
            )
        noise = self.draw_noise(key, shape)
        return self.respond(
            noise if self.anew is None else self._partly(key, shape, noise, self.draw_noise(self.anew, shape))
        )

    def _keeps(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Which draws keep their noise below an intervention, bool ``[*shape]``; see ``Coupling.kept``."""
        return uniforms(stream(key, "share"), shape) < self.coupling.kept

    def _partly(self, key: Array, shape: tuple[int, ...], noise: Array, fresh: Array) -> Array:
        """Noise of Gumbels, fresh where a draw does not keep its own."""
        return jnp.where(self._keeps(key, shape)[..., None], noise, fresh)

    def _relative_noise(self, key: Array, value: Array) -> Any:
        """Where this is the mechanism of the factual world: noise for another one, if its coupling is relative."""
        return self.posterior_noise(key, value)

    def expand(self, batch_shape: tuple[int, ...]) -> dist.Distribution:
        """This mechanism for the members of plates."""
        return self if tuple(batch_shape) == self.batch_shape else _Expanded(self, tuple(batch_shape))

    @abstractmethod
    def draw_noise(self, key: Array, shape: tuple[int, ...]) -> Any:
        """Prior noise of ``shape`` draws."""

    @abstractmethod
    def respond(self, noise: Any) -> Array:
        """The value that the noise leads to."""

    @abstractmethod
    def posterior_noise(self, key: Array, value: Array) -> Any:
        """An exact draw of the noise given the value that it led to."""

    @abstractmethod
    def as_value(self, value: Any, where: str | None = None) -> Any:
        """A text, phrase or array as the array that the site takes.

        Raises:
            OptionError: the site cannot take it.
        """

    @abstractmethod
    def phrase(self, value: Any, name: str | None = None, drawn: bool = False) -> Phrase:
        """The phrase that a value stands for."""


class _Expanded(dist.ExpandedDistribution):
    """A mechanism for the members of plates, each with the noise of its number.

    NumPyro would draw for the batch shape of what the mechanism reads, and move the axes of the values: draws would
    hang on what is read, and noise that is at hand would be another member's.
    """

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.base_dist._draw(key, (*sample_shape, *self.batch_shape))

    def sample_with_intermediates(self, key: Array, sample_shape: tuple[int, ...] = ()) -> tuple[Array, list]:
        return self.sample(key, sample_shape), []

    def expand(self, batch_shape: tuple[int, ...]) -> dist.Distribution:
        return self.base_dist.expand(batch_shape)


def mechanism_of(fn: Any) -> Mechanism | None:
    """The ``Mechanism`` inside a distribution that handlers have wrapped, if there is one."""
    while fn is not None and not isinstance(fn, Mechanism):
        fn = getattr(fn, "replaced", None) or getattr(fn, "base_dist", None)
    return fn


def with_mechanism(fn: Any, change: Callable[[Any], Any]) -> Any:
    """The distribution with ``change`` applied to the ``Mechanism`` inside it."""
    if isinstance(fn, Mechanism):
        return change(fn)
    if getattr(fn, "base_dist", None) is None:
        return fn
    new = copy.copy(fn)
    new.base_dist = with_mechanism(fn.base_dist, change)
    return new
