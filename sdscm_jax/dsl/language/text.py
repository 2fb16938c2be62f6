"""``Text``: free text written by a language model, as a NumPyro distribution over tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from ... import checks
from ...checks import count, one_of, real, told
from ...errors import OptionError, ScoreError
from ...models.automaton import pattern_automaton, stop_automaton
from ...models.chat import ChatCodec
from ...models.codec import Tokens
from ...models.language_model import LanguageModel
from ..noise.couplings.base import Coupling, Draws
from ..noise.couplings.gumbel import truncated_gumbels
from ..noise.streams import fold_in, gumbels, stream, token_gumbels, uniforms
from ..scoring.encoding import Encoding, read_along, read_on
from ..scoring.template import Template
from ..scoring.text_buffer import TextBuffer, WrittenText
from .context import check_written
from .mechanism import Mechanism
from .phrase import Phrase
from .text_phrase import PADDING, UNKNOWN, TextForm, TextPhrase, text_tokens
from .text_query import Writing, WritingBeside
from .token_law import TokenLaw

Noise = Callable[[Any], Any]
# Takes a text, the key of its noise (None: noise that is at hand, or the law along a text, is asked for) and a shape
# of draws; gives tokens ``[*shape, T]``. The noise may be ``Beside`` a factual text's.
Writer = Callable[["Text", "Array | None", tuple[int, ...]], Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Beside:
    """Noise that is relative to the factual text of the same unit.

    Attributes:
        text: the site in the factual world.
        tokens: what was written there, int32 ``[..., T]``.
        key: of the site.
    """

    text: Text
    tokens: Array
    key: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Begun:
    """What of a text is written already, and how far it goes.

    Attributes:
        tokens: int32 ``[..., T]``, padded with -1 after its end.
        kept: int scalar, how many of them stay.
        until: int scalar, how many tokens it has at most.
    """

    tokens: Array
    kept: Array
    until: Array


class Text(Mechanism):
    """Free text, written token by token by a language model.

    The distribution of a token is the language model's, at a temperature, cut to what the site allows
    (the pattern; the ``top_k`` most likely tokens; the smallest set of probability ``top_p``) and
    renormalised; ``log_prob`` is of exactly that. The noise of a draw is one Gumbel variable for each
    position and token, so that the same key in another world is the counterfactual text: the same
    as far as the words before it allow (Ravfogel et al. 2025, arXiv 2411.07180; Chatzi et al. 2024,
    arXiv 2409.17027).

    Args:
        lm: the language model; an argument of the model function.
        template: text with one blank ``{}``, where the language model writes.
        given: phrases and strings that it reads before, as for ``Choice``.
        max_tokens: most tokens that it may write (T), including what ends the text.
        stop: strings that end the text; by default the template's suffix, if it has one. A text
            also ends with the tokenizer's end-of-text token. What ended a text is among its tokens.
        temperature: positive scalar or array; broadcasts with the batch shape.
        top_k: keep this many tokens; None: all.
        top_p: keep the most likely tokens of this probability; None: all.
        pattern: a regular expression that the text must match, or a list of the texts that it may
            be (extra ``constrained``). The template's suffix then follows it.
        coupling: ``"gumbel"``, ``"independent"``, ``"maximal"`` or ``"hindsight(share)"``, as for ``Choice``; of each
            token by itself.

    What is written begins with the white space that stands before the blank (a space, where the blank follows given
    texts): tokens that would go on the word before it are not allowed, so that what later sites read is what
    ``sentence`` says.

    Batch shape: that of the given phrases and the temperature. Event shape ``(T,)``: int32 tokens,
    padded with -1 after the end.

    Raises:
        TemplateError, GivenError, ContextLengthError: as for ``Choice``.
        OptionError: a bad number, or a pattern that no text of ``max_tokens`` tokens matches.
        ImportError: a pattern without the extra.

    >>> import jax, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> note = sd.Text(lm, "The tumor {}.", max_tokens=8)
    >>> tokens = note.sample(jax.random.key(0))
    >>> tokens.shape, note.phrase(tokens).sentence.startswith("The tumor ")
    ((8,), True)
    """

    pytree_data_fields = ("lm", "phrases", "temperature", "noise")
    pytree_aux_fields = ("template", "form", "texts", "top_k", "top_p", "coupling")
    kind = "text"
    # Writes instead of the language model; see ``writing``.
    _writer: Writer | None = None
    begun: Begun | None = None

    def __init__(
        self,
        lm: LanguageModel,
        template: str | Template = "{}",
        *,
        given: Sequence[Phrase | str] | Phrase | str = (),
        max_tokens: int = 32,
        stop: str | Sequence[str] | None = None,
        temperature: Any = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        pattern: str | Sequence[str] | None = None,
        coupling: str = "gumbel",
        validate_args: bool | None = None,
    ):
        self.template = Template.parse(template)
        where = repr(str(self.template))
        items = self._set_given(given)
        self._set_model(lm, temperature, coupling)
        if not self._may_have(self.coupling):
            one_of(self.coupling, self.couplings, "coupling of free text", OptionError, where)
        max_tokens = count(max_tokens, f"{where}: max_tokens", OptionError)
        top_k = None if top_k is None else count(top_k, f"{where}: top_k", OptionError)
        top_p = None if top_p is None else real(top_p, f"{where}: top_p", OptionError, above=0, most=1)
        if pattern is not None and stop is not None:
            raise OptionError(f"{where}: a pattern says where the text ends; leave out stop")
        stops = _stops(stop, self.template.suffix, where)
        if isinstance(lm.codec, ChatCodec):
            parts = () if pattern is None else (pattern,) if isinstance(pattern, str) else tuple(map(str, pattern))
            lm.codec.refuse_thought((self.template.prefix, self.template.suffix, *stops, *parts))
        prefix = self.template.prefix
        spaces = prefix[len(prefix.rstrip()) :]
        lead = spaces if prefix.strip() else lm.codec.lead(not self.texts)
        size = lm.config.vocab_size
        if pattern is not None:
            for part in checks.items(pattern, f"{where}: pattern", OptionError, single=str):
                checks.text(part, f"{where}: a part of the pattern", OptionError)
        if pattern is None:
            automaton = stop_automaton(lm.codec, size, stops, lead)
        else:
            whole = pattern if isinstance(pattern, str) else tuple(pattern)
            automaton = pattern_automaton(
                lm.codec, size, whole, self.template.suffix, int(max_tokens), where, lead=lead
            )
        self.form = TextForm(self.template, lm.codec, automaton, int(max_tokens), lead)
        self.top_k, self.top_p = None if top_k is None else min(int(top_k), size), top_p
        self._check_said((f"{self.form.head}{lead}x" if self.form.head else "x",))
        self._check_length(len(self._opening) + self.form.own)
        check_written(lm.codec, items, (prefix, self.template.suffix), where)
        batch_shape = jnp.broadcast_shapes(jnp.shape(temperature), *(phrase.batch_shape for phrase in self.phrases))
        super().__init__(batch_shape, (int(max_tokens),), validate_args=validate_args)

    def _may_have(self, coupling: Coupling) -> bool:
        """Those of tokens; of Gumbels there is one for each position and token."""
        return coupling.of_tokens

    @property
    def inputs(self) -> Any:
        """What the distribution depends on, besides the language model."""
        return self.phrases, self.temperature

    @property
    def _needs_start(self) -> bool:
        return not (self.texts or self._opening or self.lm.codec.opening(True))

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.independent(constraints.integer_interval(PADDING, self.lm.config.vocab_size - 1), 1)

    @property
    def _opening(self) -> Tokens:
        codec, first = self.lm.codec, not self.texts
        if isinstance(codec, ChatCodec):
            return self._without_joint(codec.before_generated(self.form.head, first))
        return self.form.opening(first)

    def _prompt(self) -> Encoding:
        opening = jnp.array(self._opening, jnp.int32)
        return self._text(len(opening)).then(opening, jnp.ones(opening.shape, bool))

    # -- the distribution of a token ------------------------------------------------------------

    @property
    def law(self) -> TokenLaw:
        """Of the next token, given the language model's logits."""
        return TokenLaw(self.form, self.top_k, self.top_p)

    @property
    def query(self) -> Writing:
        """What is asked of the language model."""
        what = self._start(), self._given_tokens(), self._varying, self._opening, self.law
        return WritingBeside(*what, self.coupling) if isinstance(self.noise, Beside) else Writing(*what)

    def writing(self, writer: Writer) -> Text:
        """This text, written by somebody else: ``writer`` is called for a draw."""
        return self.replace(_writer=writer)

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log-probability ``[...]`` of tokens ``[..., T]`` (or, on the host, of a text)."""
        tokens = jnp.asarray(self.as_value(value))
        batch = jnp.broadcast_shapes(tokens.shape[:-1], self.batch_shape)
        tokens = jnp.broadcast_to(tokens, (*batch, self.form.max_tokens))
        log_probs, states = self._along(tokens)
        taken = jnp.take_along_axis(log_probs, jnp.maximum(tokens, 0)[..., None], axis=-1)[..., 0]
        real = tokens != PADDING
        alive = (states[..., :-1] >= 0) & (jnp.asarray(self.form.automaton.ending)[states[..., :-1]] == 0)
        # Tokens up to the end and padding after it, and no token that is not allowed.
        right = (real == alive).all(-1) & (states[..., -1] >= 0)
        found = jnp.where(right, jnp.where(real, taken, 0.0).sum(-1), -jnp.inf)
        inside = self._given_inside()
        return self._with_given(found if inside is None else jnp.where(inside, found, jnp.nan))

    def _along(self, tokens: Array) -> tuple[Array, Array]:
        """Log-probabilities ``[..., T, V]`` along tokens, and the states ``[..., T + 1]`` that they pass."""
        if (writer := self._writer) is not None:
            writer(self, None, tokens.shape[:-1])
        states = self.form.automaton.walk(tokens)
        logits = read_along(self.lm, self._prompt(), jnp.maximum(tokens, 0), tokens != PADDING)
        temperature = jnp.asarray(self.temperature, jnp.float32)[..., None]
        steps = jnp.arange(self.form.max_tokens)
        return self.law.log_probs(logits, temperature, states[..., :-1], steps), states

    # -- noise ----------------------------------------------------------------------------------

    def _draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Draw tokens, int32 ``[*shape, T]``."""
        if (writer := self._writer) is not None:
            beside = isinstance(self.noise, Beside)
            return writer(self, self.noise.key if beside else None if self.noise is not None else key, shape)
        if self.noise is not None:
            return self.respond(self.noise)
        # Noise of one token at a time: that of a whole text would be T x V numbers.
        return self._write(lambda step: self._step_noise(key, step, shape), shape)

    def _step_noise(self, key: Array, step: Any, shape: tuple[int, ...]) -> Array:
        size, own = self.lm.config.vocab_size, fold_in(key, step)
        noise = token_gumbels(own, size, shape)
        return (
            noise
            if self.anew is None
            else super()._partly(own, shape, noise, token_gumbels(fold_in(self.anew, step), size, shape))
        )

    def _of_steps(self, of_step: Callable[[Array], Any], axis: int) -> Any:
        """What there is of each step, with their axis at a place."""
        found = jax.vmap(of_step)(jnp.arange(self.form.max_tokens))
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, axis), found)

    def _partly(self, key: Array, shape: tuple[int, ...], noise: Array, fresh: Array) -> Array:
        """Noise ``[*shape, T, V]``, fresh where a token does not keep its own."""
        kept = self._of_steps(lambda step: self._keeps(fold_in(key, step), shape), -1)
        return jnp.where(kept[..., None], noise, fresh)

    def draw_noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Prior noise, float32 ``[*shape, T, V]``."""
        return self._of_steps(lambda step: self._step_noise(key, step, shape), -2)

    def respond(self, noise: Any) -> Array:
        """The tokens that the noise leads to."""
        if isinstance(noise, Beside):
            noise = noise.text.posterior_noise(noise.key, noise.tokens)
        axis = jax.tree.leaves(noise)[-1].ndim - 2
        return self._write(
            lambda step: jax.tree.map(lambda x: jnp.take(x, step, axis=axis), noise),
            jax.tree.leaves(noise)[-1].shape[:axis],
        )

    def _relative_noise(self, key: Array, value: Array) -> Any:
        """Made where it is asked for: who writes elsewhere has no laws of tokens at hand."""
        return Beside(self, value, key)

    def posterior_noise(self, key: Array, value: Array) -> Any:
        """Noise ``[*batch_shape, T, V]`` given tokens: truncated Gumbels at each token of the text (of a relative
        coupling what it takes over of each, ``[*batch_shape, T, ...]``).

        What would have been written after its end stays as the prior has it.
        """
        batch = jnp.broadcast_shapes(jnp.shape(value)[:-1], self.batch_shape)
        tokens = jnp.broadcast_to(jnp.asarray(value), (*batch, self.form.max_tokens))
        log_probs, _ = self._along(tokens)
        if self.coupling.relative:
            size = log_probs.shape[-1]
            draws = Draws(lambda key: uniforms(key, batch), lambda key: token_gumbels(key, size, batch))

            def of_step(step: Array) -> Any:
                law, token = jnp.take(log_probs, step, axis=-2), jnp.take(tokens, step, axis=-1)
                return self.coupling.beside(fold_in(key, step), draws, law, token)

            return self._of_steps(of_step, len(batch))
        fresh = self.draw_noise(key, batch)
        top = gumbels(stream(key, "top"), tokens.shape)
        observed = jax.nn.one_hot(tokens, log_probs.shape[-1], dtype=bool)
        truncated = truncated_gumbels(fresh, top, log_probs, observed)
        return jnp.where((tokens == PADDING)[..., None], fresh, truncated)

    # -- writing --------------------------------------------------------------------------------

    def _write(self, noise: Noise, shape: tuple[int, ...]) -> Array:
        """Write with the noise of each step; tokens ``[*shape, T]``."""
        lm, law, most = self.lm, self.law, self.form.max_tokens
        classes, after = jnp.asarray(self.form.automaton.classes), jnp.asarray(self.form.automaton.next)
        ending = jnp.asarray(self.form.automaton.ending)
        temperature = jnp.asarray(self.temperature, jnp.float32)

        def pick(logits: Array, state: Array, step: Any) -> tuple[Array, Array]:
            token = law.chosen(law.log_probs(logits, temperature, state, step), noise(step), self.coupling)
            ended = ending[state] > 0
            if (begun := self.begun) is not None:
                token = jnp.where(step < begun.kept, jnp.maximum(jnp.take(begun.tokens, step, axis=-1), 0), token)
                ended = ended | (step >= begun.until)
            return jnp.where(ended, PADDING, token), jnp.where(ended, state, after[state, classes[token]])

        logits, text = read_on(lm, self._prompt())
        self._remember(text, len(self._opening))
        logits = jnp.broadcast_to(logits, (*shape, logits.shape[-1]))
        # One state for all: XLA is slow at folding what it allows where it is a large constant.
        token, state = pick(logits, jnp.int32(0), 0)
        begun = TextBuffer.begin(text, shape, most - 1)

        def step(carry: tuple[TextBuffer, Array, Array], number: Array) -> tuple[Any, Array]:
            written, token, state = carry
            hidden, written = written.append(lm, jnp.maximum(token, 0), token != PADDING, number - 1)
            token, state = pick(lm.decoder.logits(hidden), state, number)
            return (written, token, state), token

        written, tokens = begun, token[..., None]
        if most > 1:
            (written, _, _), later = jax.lax.scan(step, (begun, token, state), jnp.arange(1, most, dtype=jnp.int32))
            tokens = jnp.concatenate([tokens, jnp.moveaxis(later, 0, -1)], axis=-1)
        inside = self._given_inside()
        if inside is not None:
            tokens = jnp.where(inside[..., None], tokens, UNKNOWN)
        if not isinstance(tokens, jax.core.Tracer) and (tokens == UNKNOWN).any():
            raise ScoreError(f"{str(self.template)!r}: the language model gives the next token no probabilities")
        if not self._needs_start:
            phrase = self.phrase(tokens)
            text_written = WrittenText(written._replace(start=begun.start), len(self._opening), not self.texts)
            self._kept.written[self._said(len(self.given)), phrase.reading_key] = text_written
        return tokens

    def as_value(self, value: Any, where: str | None = None) -> Any:
        """Tokens ``[..., T]`` of a text, a list of texts or a phrase; arrays of tokens pass.

        Raises:
            OptionError: the site cannot write the text, or its tokens say something else.
        """
        return text_tokens(value, self.form, where or repr(str(self.template)))

    def phrase(self, value: Any, name: str | None = None, drawn: bool = False) -> TextPhrase:
        """The phrase that tokens stand for."""
        if jnp.ndim(value) == 0:
            value = jnp.broadcast_to(jnp.asarray(value, jnp.int32), self.event_shape)
        return TextPhrase(value, self.form, name, drawn)


def _stops(stop: str | Sequence[str] | None, suffix: str, where: str) -> tuple[str, ...]:
    if stop is None:
        return (suffix,) if suffix else ()
    stops = checks.items(stop, f"{where}: stop", OptionError, single=str)
    for s in stops:
        if not isinstance(s, str) or not s:
            raise OptionError(f"{where}: stop is a non-empty string or a list of them, got {told(s)}")
        checks.text(s, f"{where}: stop", OptionError)
    return stops
