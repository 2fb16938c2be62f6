"""``Choice``: a language model choosing among phrases, as a NumPyro distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.extend.core import get_opaque_trace_state
from numpyro.distributions import constraints

from ..errors import ContextLengthError, OptionError, nearest
from ..models.codec import Tokens
from ..models.language_model import LanguageModel
from ..models.options import OptionTokens, option_tokens
from .context import Given, check_boundaries, item_tokens, parse_given, pending_tokens, same_items
from .encoding import Encoding, ScoredTree, choose, score_tree
from .noise import option_gumbels
from .phrase import Phrase
from .template import Template, option_index, parse_options
from .tree import OptionTree, bag_tree, chain_tree, padded

SCORINGS = ("sequence", "option", "mean", "reference", "uniform")
COUPLINGS = ("gumbel",)


class Choice(dist.Distribution):
    """A choice among K phrases, made by a language model.

    ``P(k | given) = softmax_k(score_k / temperature)`` where ``score_k`` is the language model's
    log-probability of option k after the texts in ``given`` and the template's prefix (the
    domain-restricted law of Bynum and Cho 2024, arXiv 2411.08019, Definition A.5). The noise of a
    draw is one Gumbel variable per option, keyed by the option's text: the same key in another
    world is the counterfactual.

    The model is not run before a probability is needed: a site that is intervened on never runs it.

    Args:
        lm: the language model; an argument of the model function.
        template: text with one blank ``{}``.
        options: the K texts that may fill the blank.
        given: phrases (values of earlier sites) and strings, in the order in which their texts
            stand before the template, joined by spaces.
        scoring: what a score is.
            ``"sequence"``: log-probability of the option and the suffix, summed over tokens.
            ``"option"``: of the option's tokens only. ``"mean"``: ``"sequence"`` per token.
            ``"reference"``: what the authors' published code computes: the mean over the
            option's tokens of their log-probability in the one distribution *after* the option.
            ``"uniform"``: 0, the language model is not asked.
        temperature: positive scalar or array; broadcasts with the batch shape.
        coupling: how worlds share the noise; ``"gumbel"``.

    Batch shape: that of the given phrases' indices and the temperature, broadcast. Values are int32
    option numbers in ``0..K-1``.

    Raises:
        TemplateError: not exactly one blank.
        OptionError: no options, an empty or repeated one, or two with the same tokens.
        GivenError: something in ``given`` is neither a phrase nor a string.
        ContextLengthError: the text may need more positions than the language model has.

    >>> import sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> pdl1 = sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"])
    >>> pdl1.probs.shape, bool(jnp.isclose(pdl1.probs.sum(), 1))
    ((2,), True)
    >>> int(pdl1.sample(jax.random.key(0))) in (0, 1)
    True
    """

    arg_constraints: dict[str, Any] = {}
    pytree_data_fields = ("lm", "phrases", "temperature")
    pytree_aux_fields = ("template", "options", "texts", "scoring", "coupling")
    has_enumerate_support = True

    def __init__(
        self,
        lm: LanguageModel,
        template: str | Template,
        options: Sequence[str],
        *,
        given: Sequence[Phrase | str] | Phrase | str = (),
        scoring: str = "sequence",
        temperature: Any = 1.0,
        coupling: str = "gumbel",
        validate_args: bool | None = None,
    ):
        self.template = Template.parse(template)
        self.options = parse_options(options, self.template)
        items = parse_given(given, self.template)
        # Strings are static, phrases are data; None stands where a phrase is.
        self.phrases = tuple(item for item in items if isinstance(item, Phrase))
        self.texts = tuple(None if isinstance(item, Phrase) else item for item in items)
        if not isinstance(lm, LanguageModel):
            raise TypeError(f"{str(self.template)!r}: lm is a LanguageModel (see load_lm), got {type(lm).__name__}")
        for value, known, what in ((scoring, SCORINGS, "scoring"), (coupling, COUPLINGS, "coupling")):
            if value not in known:
                raise OptionError(f"{str(self.template)!r}: unknown {what} {value!r}; {nearest(value, known)}")
        if not isinstance(temperature, jax.core.Tracer) and not np.all(np.asarray(temperature) > 0):
            raise OptionError(f"{str(self.template)!r}: temperature is positive, got {temperature!r}")
        self.lm, self.scoring, self.coupling, self.temperature = lm, scoring, coupling, temperature
        if scoring != "uniform":
            self._check_length()
            next_texts = tuple(self.template.fill(option) for option in self.options)
            check_boundaries(lm.codec, items, next_texts, repr(str(self.template)))
        batch_shape = jnp.broadcast_shapes(
            jnp.shape(temperature), *(jnp.shape(phrase.index) for phrase in self.phrases)
        )
        super().__init__(batch_shape, (), validate_args=validate_args)

    # -- static structure -----------------------------------------------------------------------

    @property
    def given(self) -> Given:
        """The phrases and strings that stand before the template."""
        phrases = iter(self.phrases)
        return tuple(next(phrases) if text is None else text for text in self.texts)

    @property
    def _leading_space(self) -> bool:
        # The reference puts a space before every text, the first one too.
        return self.scoring == "reference"

    @property
    def _blank(self) -> OptionTokens:
        codec, first = self.lm.codec, not self.texts
        if self.scoring == "reference":
            return _reference_tokens(self.lm, self.template, self.options, first)
        return option_tokens(codec, *_around(self), with_suffix=self.scoring != "option", first=first)

    @property
    def _tree(self) -> OptionTree:
        return (bag_tree if self.scoring == "reference" else chain_tree)(self._blank.rows)

    def _start(self) -> Tokens:
        codec, blank = self.lm.codec, self._blank
        if codec.bos is not None:
            return (codec.bos,)
        if not blank.needs_start:
            return ()
        if codec.start is None:
            raise OptionError(
                f"{str(self.template)!r} begins the text with its blank, and this tokenizer has no token to begin "
                "with; put a word before the blank or give the site a context"
            )
        return (codec.start,)

    def _check_length(self) -> None:
        blank = self._blank
        longest = len(self._start()) + len(blank.shared) + max(map(len, blank.rows))
        for i, item in enumerate(self.given):
            longest += max(map(len, item_tokens(item, self.lm.codec, i == 0, self._leading_space)))
        limit = self.lm.config.max_positions
        if longest > limit:
            raise ContextLengthError(
                f"{str(self.template)!r} with its {len(self.given)} given texts needs up to {longest} positions; "
                f"this language model has {limit}. Give the site fewer texts or use a model with more positions"
            )

    # -- the language model ---------------------------------------------------------------------

    def _text(self) -> Encoding:
        """The given texts, encoded as far as the sites they come from have done so."""
        start = Encoding.of_tokens(self._start())
        text, known = start, 0
        for n in range(len(self.given), 0, -1):
            encoded = self._encoded(n)
            if encoded is not None:
                text, known = encoded, n
                break
        for i in range(known, len(self.given)):
            text = text.then(*pending_tokens(self.given[i], self.lm.codec, i == 0, self._leading_space))
        return text

    def _encoded(self, n: int) -> Encoding | None:
        """The first ``n`` given texts, if the site of the n-th was given exactly those before."""
        item = self.given[n - 1]
        if not isinstance(item, Phrase) or not isinstance(item.origin, Choice):
            return None
        origin = item.origin
        usable = (
            origin.lm is self.lm
            and origin._leading_space == self._leading_space
            and same_items(origin.given, self.given[: n - 1])
            and (item.template, item.options) == (origin.template, origin.options)
            and not origin._blank.needs_start
        )
        scored = origin._scored_here() if usable else None
        return None if scored is None else choose(scored[1], origin._blank, origin._tree, jnp.asarray(item.index))

    def _scored_here(self) -> tuple[Array, ScoredTree] | None:
        """Scores that were computed in this very JAX trace (those of another may be dead)."""
        found = self.__dict__.get("_scored")
        return found[1] if found is not None and found[0] == get_opaque_trace_state() else None

    def _score(self) -> tuple[Array, ScoredTree]:
        found = self._scored_here()
        if found is None:
            blank, tree = self._blank, self._tree
            edges, after = score_tree(self.lm, self._text(), blank.shared, tree)
            scored, real = padded(tree.scored)
            scores = jnp.where(real, edges[..., scored], 0.0).sum(-1)
            if self.scoring in ("mean", "reference"):
                scores = scores / real.sum(-1)
            found = scores, after
            self._scored = (get_opaque_trace_state(), found)
        return found

    @property
    def scores(self) -> Array:
        """Unnormalised scores, float32 ``[..., K]``: nats, before the temperature."""
        if self.scoring == "uniform":
            return jnp.zeros((*self.batch_shape, len(self.options)), jnp.float32)
        return self._score()[0]

    @property
    def logits(self) -> Array:
        """Log-probabilities of the options, float32 ``[*batch_shape, K]``, normalised."""
        temperature = jnp.asarray(self.temperature, jnp.float32)[..., None]
        logits = jax.nn.log_softmax(self.scores / temperature, axis=-1)
        return jnp.broadcast_to(logits, (*self.batch_shape, len(self.options)))

    @property
    def probs(self) -> Array:
        """Probabilities of the options, float32 ``[*batch_shape, K]``."""
        return jnp.exp(self.logits)

    # -- NumPyro ----------------------------------------------------------------------------------

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, len(self.options) - 1)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw option numbers, int32 ``[*sample_shape, *batch_shape]``: argmax(log p + Gumbel)."""
        noise = option_gumbels(key, self.options, (*sample_shape, *self.batch_shape))
        return jnp.argmax(self.logits + noise, axis=-1).astype(jnp.int32)

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log-probability of option numbers (or, on the host, of an option's text)."""
        value = jnp.asarray(self.index_of(value))
        logits = self.logits
        shape = jnp.broadcast_shapes(value.shape, logits.shape[:-1])
        logits = jnp.broadcast_to(logits, (*shape, logits.shape[-1]))
        return jnp.take_along_axis(logits, jnp.broadcast_to(value, shape)[..., None], axis=-1)[..., 0]

    def enumerate_support(self, expand: bool = True) -> Array:
        """All option numbers, along a new leading axis."""
        values = jnp.arange(len(self.options)).reshape((-1,) + (1,) * len(self.batch_shape))
        return jnp.broadcast_to(values, (len(self.options), *self.batch_shape)) if expand else values

    def index_of(self, value: Any, where: str | None = None) -> Any:
        """Option number of an option's text or of a phrase; numbers and arrays pass through.

        Raises:
            OptionError: no option has that text, or a number is not in ``0..K-1``.
        """
        where = where or repr(str(self.template))
        if isinstance(value, Phrase):
            if value.options != self.options:
                raise OptionError(f"{where} has the options {self.options}, the phrase {value.options}")
            return value.index
        if isinstance(value, str):
            return option_index(value, self.options, where)
        if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype.kind in "OU"):
            array = np.asarray(value, dtype=object)
            numbers = [self.index_of(v, where) for v in array.ravel()]
            return np.array(numbers, np.int32).reshape(array.shape)
        if not isinstance(value, jax.core.Tracer):
            array = np.asarray(value)
            if array.dtype.kind not in "iub" or not ((array >= 0) & (array < len(self.options))).all():
                raise OptionError(f"{where} has {len(self.options)} options, numbered from 0; got {value!r}")
        return value

    def phrase(self, index: Any, name: str | None = None) -> Phrase:
        """The phrase that an option number stands for."""
        return Phrase(index, self.template, self.options, name, self)


def _around(choice: Choice) -> tuple[str, tuple[str, ...], str]:
    return choice.template.prefix, choice.options, choice.template.suffix


def _reference_tokens(lm: LanguageModel, template: Template, options: tuple[str, ...], first: bool) -> OptionTokens:
    """The reference's tokens: prefix and option apart, BOS before each where the tokenizer has it."""
    codec = lm.codec
    encode = (lambda text: codec.encode(" " + text)) if first else codec.encode_after
    bos = () if codec.bos is None else (codec.bos,)
    return OptionTokens(
        shared=encode(template.prefix),
        rows=tuple((*bos, *codec.encode(option)) for option in options),
        sentences=tuple(encode(template.fill(option)) for option in options),
        needs_start=False,
    )
