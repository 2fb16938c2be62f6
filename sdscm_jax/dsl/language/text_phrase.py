"""The value of a free text site: tokens that a language model wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...checks import text, told
from ...errors import OptionError
from ...models.automaton import TokenAutomaton
from ...models.chat import ChatCodec
from ...models.codec import Codec, Tokens
from ...models.token_bytes import token_bytes
from ..scoring.option_tree import padded
from ..scoring.template import Template
from .phrase import Phrase, as_array

PADDING = -1
# A token of which nothing can be said: its probabilities are no numbers.
UNKNOWN = -2


@dataclass(frozen=True)
class TextForm:
    """What is static about a free text: how tokens become text, and text tokens.

    The white space at the end of the template's prefix belongs to what is generated, as it would in
    any text that the model was trained on.

    Attributes:
        template: the template.
        codec: the tokenizer.
        automaton: what tokens may follow, and where the text ends.
        max_tokens: most tokens that are generated (T).
        lead: white space that the generated tokens begin with.
    """

    template: Template
    codec: Codec
    automaton: TokenAutomaton
    max_tokens: int
    lead: str

    @property
    def head(self) -> str:
        """The template's text before the generated tokens."""
        return self.template.prefix.rstrip()

    def opening(self, first: bool) -> Tokens:
        """Tokens before the generated ones for a site that reads them, first or after other text."""
        if self.head:
            return self.codec.encode_first(self.head) if first else self.codec.encode_after(self.head)
        if first:
            # The white space that stands there, unless the text was written with it.
            before, word = self.codec.encode_first(""), self.codec.encode("x")
            return () if self.codec.decode((*word, *before)) == "x" + self.lead else before
        # Text that was written without a space before it gets one where it follows other text.
        return () if self.lead else self.codec.suffix_tokens(".", " ") or ()

    def tails(self) -> tuple[str, ...]:
        """Text after the generated tokens: where they were cut off, and for each way to end."""
        suffix = self.template.suffix
        rest = [suffix[len(s) :] if s and suffix.startswith(s) else suffix for s in self.automaton.endings]
        return (suffix, *rest)

    def tail_tokens(self) -> tuple[Tokens, ...]:
        """Tokens of ``tails``."""
        return tuple((self.codec.suffix_tokens("x", tail) or self.codec.encode(tail)) for tail in self.tails())

    def longest(self, first: bool) -> int:
        """Most tokens that the sentence may have."""
        return len(self.opening(first)) + self.own

    @property
    def own(self) -> int:
        """Most tokens that the sentence may have from the generated ones on."""
        return self.max_tokens + max(map(len, self.tail_tokens()))

    def written(self, tokens: np.ndarray) -> list[tuple[str, int]]:
        """What rows of tokens ``[N, T]`` say, and the way in which each ends (0: cut off)."""
        automaton, real = self.automaton, tokens != PADDING
        states = np.zeros(len(tokens), np.int64)
        for t in range(tokens.shape[1]):
            # A row that has met what is forbidden (or its padding) stays as it is.
            going = real[:, t] & (states >= 0)
            states[going] = automaton.next[states[going], automaton.classes[tokens[going, t]]]
        ways = np.where(states >= 0, automaton.ending[np.maximum(states, 0)], 0)
        lengths = real.sum(-1) - np.array((0, *automaton.ending_tokens))[ways]
        kept = real & (np.cumsum(real, axis=-1) <= lengths[:, None])
        pieces = token_bytes(self.codec, len(automaton.classes))
        rows = np.split(tokens[kept], np.cumsum(kept.sum(-1))[:-1])
        said = [b"".join(filter(None, map(pieces.__getitem__, row.tolist()))).decode(errors="replace") for row in rows]
        return list(zip(said, ways.tolist(), strict=True))

    def text(self, tokens: np.ndarray) -> str:
        """The text of tokens ``[T]`` without the string that ended it."""
        return self.texts(tokens[None])[0]

    def texts(self, tokens: np.ndarray) -> list[str]:
        """The texts of rows of tokens ``[N, T]``, each without the string that ended it."""
        found = []
        for written, way in self.written(tokens):
            end = self.automaton.endings[way - 1] if way else None
            text = written.removeprefix(self.lead)
            found.append(text.removesuffix(end) if end else text)
        return found

    def sentences(self, tokens: np.ndarray) -> list[str]:
        """The template with what was written filled in, for rows of tokens ``[N, T]``."""
        tails, head = self.tails(), self.head
        return [
            (head + written if head else written.removeprefix(self.lead)) + tails[way]
            for written, way in self.written(tokens)
        ]

    def tokens_of(self, text: str, where: str) -> np.ndarray:
        """Tokens int32 ``[T]`` of a text, ended and padded.

        Raises:
            OptionError: the text needs too many tokens, cannot be generated, or its tokens say
                something else.
        """
        ends = [end for end in self.automaton.endings if end is not None]
        left = self.head or "."
        for end in (*ends[:1], "") if ends else ("",):
            if isinstance(self.codec, ChatCodec):
                tokens = self.codec.generated(self.head, self.lead + text + end)
            else:
                tokens = self.codec.suffix_tokens(left, self.lead + text + end)
            if tokens is None:
                raise OptionError(f"{where}: the tokens of {text!r} run together with {left!r} before it")
            ended = self._ended(tokens)
            if ended is not None:
                break
        else:
            raise OptionError(
                f"{where} cannot be {text!r}: it is more than {self.max_tokens} tokens, contains what ends the text, "
                "or does not match the pattern"
            )
        array = np.full(self.max_tokens, PADDING, np.int32)
        array[: len(ended)] = ended
        if self.text(array) != text:
            raise OptionError(f"{where}: {text!r} does not tokenise back; its tokens say {self.text(array)!r}")
        return array

    def _ended(self, tokens: Tokens) -> Tokens | None:
        """The tokens with an end, if the site can generate them."""
        state, automaton = 0, self.automaton
        for token in tokens:
            state = int(automaton.next[state, automaton.classes[token]]) if state >= 0 else -1
        if state < 0 or len(tokens) > self.max_tokens:
            return None
        if automaton.ending[state] or (len(tokens) == self.max_tokens and automaton.remaining[state] == 0):
            return tokens
        eos = self.codec.end
        if eos is None or len(tokens) == self.max_tokens:
            return None
        after = int(automaton.next[state, automaton.classes[eos]])
        return (*tokens, eos) if after >= 0 and automaton.ending[after] else None


@jax.tree_util.register_pytree_node_class
class TextPhrase(Phrase):
    """Free text: tokens that a language model wrote, filled into a template.

    A pytree whose only leaf is ``tokens``; the rest is static.

    Attributes:
        tokens: int32 ``[..., T]``, padded with -1 after the end; the string or token that ended the
            text is among them.
        form: how tokens become text.
        template, name, drawn: as in ``Phrase``; there are no options.
    """

    __slots__ = ("form", "tokens")

    def __init__(self, tokens: Any, form: TextForm, name: str | None = None, drawn: bool = False):
        self.tokens, self.form = tokens, form
        super().__init__(None, form.template, (), name, drawn)

    def tree_flatten(self) -> tuple[tuple[Any], TextForm]:  # type: ignore[override]
        return (self.tokens,), self.form

    @classmethod
    def tree_unflatten(cls, static: TextForm, leaves: tuple[Any]) -> TextPhrase:  # type: ignore[override]
        return cls(leaves[0], static)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return jnp.shape(self.tokens)[:-1]

    @property
    def length(self) -> Array:
        """How many tokens were generated, int ``[...]``."""
        return (jnp.asarray(self.tokens) != PADDING).sum(-1)

    @property
    def sentences(self) -> tuple[str, ...]:
        raise TypeError(f"{self._where} is free text: it has no list of sentences")

    @property
    def text(self) -> Any:
        """Text on the host, without what ended it: a string, or an object array of the batch shape."""
        return self._on_host(self.form.texts)

    @property
    def sentence(self) -> Any:
        """Filled-in template on the host; like ``text``."""
        return self._on_host(self.form.sentences)

    def inside(self) -> Array:
        """Is it a text, bool ``[...]``? (-2 are the tokens of what has no value.)"""
        return (jnp.asarray(self.tokens) >= PADDING).all(-1)

    def check_inside(self) -> None:
        """Refuse what is no text, where the tokens are known.

        Raises:
            OptionError: with the number that is no token.
        """
        if not isinstance(self.tokens, jax.core.Tracer) and np.min(self.tokens, initial=PADDING) < PADDING:
            raise OptionError(f"{self._where} is free text; it has the token number {np.min(self.tokens)}, so no value")

    def _on_host(self, say: Any) -> Any:
        self._refuse_text()
        self.check_inside()
        tokens = np.asarray(self.tokens)
        # Texts that units and worlds share are spelled once.
        rows = np.ascontiguousarray(tokens.reshape(-1, tokens.shape[-1]))
        place: dict[bytes, int] = {}
        which = [place.setdefault(row.tobytes(), len(place)) for row in rows]
        first = np.full(len(place), -1)
        first[which[::-1]] = np.arange(len(rows))[::-1]
        found = np.array([*say(rows[first]), None], dtype=object)[:-1][which]
        return found[0] if tokens.ndim == 1 else found.reshape(tokens.shape[:-1])

    def __eq__(self, other: object) -> Any:
        """Bool array ``[...]``: are these the tokens of the text (or of the other phrase)?"""
        if isinstance(other, TextPhrase):
            if other.form.max_tokens != self.form.max_tokens:
                raise OptionError(f"{self._where} and {other._where} have different numbers of tokens")
            return (jnp.asarray(self.tokens) == other.tokens).all(-1)
        if not isinstance(other, str):
            return NotImplemented
        return (jnp.asarray(self.tokens) == self.form.tokens_of(other, self._where)).all(-1)

    __hash__ = object.__hash__

    def first_difference(self, other: TextPhrase) -> Array:
        """Number of the first token in which two texts differ, int ``[...]``; -1 where they do not."""
        differ = jnp.asarray(self.tokens) != jnp.asarray(other.tokens)
        return jnp.where(differ.any(-1), jnp.argmax(differ, axis=-1), -1)

    def at(self, value: Any) -> TextPhrase:
        return TextPhrase(value, self.form, self.name, self.drawn)

    @property
    def form_key(self) -> Any:
        return self.form

    @property
    def reading_key(self) -> Any:
        return self.form, self.value_key

    def as_value(self, value: Any, where: str) -> Any:
        return text_tokens(value, self.form, where)

    def map(self, values: Any) -> Array:
        raise TypeError(f"{self._where} is free text: map needs options")

    def one_hot(self, dtype: Any = jnp.float32) -> Array:
        raise TypeError(f"{self._where} is free text: one_hot needs options")

    def context_tokens(self, first: bool) -> tuple[Array, Array]:
        """Tokens of the sentence, int32 and bool ``[..., longest]``, for a site that reads it."""
        form = self.form
        tokens = jnp.asarray(self.tokens)
        way = jnp.asarray(form.automaton.ending)[jnp.maximum(form.automaton.walk(tokens)[..., -1], 0)]
        tails, real = padded(form.tail_tokens())
        dropped = jnp.asarray(np.array((0, *form.automaton.ending_tokens), np.int32))[way]
        kept = jnp.arange(form.max_tokens) < (self.length - dropped)[..., None]
        opening = np.array(form.opening(first), np.int32)
        batch = tokens.shape[:-1]
        parts = (jnp.broadcast_to(opening, (*batch, len(opening))), jnp.maximum(tokens, 0), jnp.asarray(tails)[way])
        valid = (jnp.ones((*batch, len(opening)), bool), kept, jnp.asarray(real)[way])
        return jnp.concatenate(parts, axis=-1).astype(jnp.int32), jnp.concatenate(valid, axis=-1)

    @property
    def _value(self) -> Any:
        return self.tokens

    def __repr__(self) -> str:
        try:
            shown = "traced" if isinstance(self.tokens, jax.core.Tracer) else repr(self.text)
        except OptionError:
            shown = "no text"
        return f"Phrase({self.name or str(self.template)!r}: {shown})"


def text_tokens(value: Any, form: TextForm, where: str) -> Any:
    """Tokens ``[..., T]`` of a text, of an array of texts or of a phrase; arrays of tokens pass.

    Raises:
        OptionError: a text cannot be that of the site, or an array has another last axis.
    """
    if isinstance(value, TextPhrase):
        value = value.tokens if value.form.max_tokens == form.max_tokens else value.text
    if isinstance(value, str):
        return form.tokens_of(text(value, where, OptionError, empty=True), where)
    if not isinstance(value, jax.Array):
        array = as_array(value)
        if array is None or not array.size or array.dtype.kind not in "OUiub":
            raise OptionError(
                f"{where} is free text: it takes a text or {form.max_tokens} token numbers, got {told(value)}"
            )
        if array.dtype.kind in "OU":
            if not all(isinstance(text, str) for text in array.ravel()):
                raise OptionError(f"{where} is free text: it takes texts, got {told(value)}")
            found = [text_tokens(text, form, where) for text in array.ravel()]
            return np.stack(found).reshape(*array.shape, form.max_tokens)
        value = array
    if jnp.ndim(value) == 0 or value.shape[-1] != form.max_tokens or not jnp.issubdtype(value.dtype, jnp.integer):
        raise OptionError(
            f"{where} is free text: it takes a text or {form.max_tokens} token numbers, got {value.dtype}{value.shape}"
        )
    return value
