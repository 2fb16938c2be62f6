"""``Choice``: a language model choosing among phrases, as a NumPyro distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints
from numpyro.distributions.batch_util import promote_batch_shape
from numpyro.distributions.kl import kl_divergence

from ...checks import flag
from ...errors import OptionError, ScoreError, SiteError
from ...models.language_model import LanguageModel, absent_lm
from ...models.options import OptionTokens
from ..noise.couplings.base import Coupling
from ..scoring.encoded_texts import Said, Same, Scored
from ..scoring.encoding import score_tree
from ..scoring.option_tree import OptionTree
from ..scoring.score_query import Question
from ..scoring.scorings.registry import parse_scoring
from ..scoring.template import Template, parse_options
from .context import check_boundaries, check_written
from .mechanism import Mechanism
from .phrase import Phrase, option_numbers
from .scores import as_bias, tempered, without_probabilities


class Choice(Mechanism):
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
        scoring: what a score is (``docs/scoring.md``).
            ``"sequence"``: log-probability of the option and the suffix, summed over tokens.
            ``"option"``: of the option's tokens only. ``"mean"``: ``"sequence"`` per token.
            ``"masked"``: of the walk of constrained decoding, which renormalises at every token
            over those that some option allows (so an option's odds against another depend on the
            rest). ``"pmi"``: ``"sequence"`` less the same without
            ``given`` (Holtzman et al. 2021, arXiv 2104.08315): what the context adds.
            ``"reference"``: what the authors' published code computes: the mean over the
            option's tokens of their log-probability in the one distribution *after* the option.
            ``"uniform"``: 0, the language model is not asked. Or a ``Scoring`` of your own.
        temperature: positive scalar or array; broadcasts with the batch shape.
        coupling: how worlds share the noise (``docs/counterfactuals.md``).
            ``"gumbel"``: ``argmax(log p + G)``, one Gumbel an option. ``"inverse_cdf"``: one
            uniform, options in their listed order: monotone, for ordinal options.
            ``"independent"``: Gumbels that are drawn anew in every world whose intervention is
            upstream (the paper's Algorithm 1). ``"maximal"``: each world agrees with the factual
            one as often as their probabilities allow; it asks for the factual ones too.
            ``"hindsight(0.5)"``: the share 0.5 of units keep their Gumbels, the others draw anew.
            Probabilities in a world do not depend on it. Or a ``Coupling`` of your own.
        bias: added to the log-probabilities after the temperature, ``[..., K]``, in nats;
            calibrates the language model to observed frequencies. None: nothing.

    ``P(k | given)`` with a bias is ``softmax_k(score_k / temperature + bias_k)``. Batch shape: that
    of the given phrases' indices, the temperature and the bias without its last axis, broadcast.
    Values are int32 option numbers in ``0..K-1``.

    Raises:
        TemplateError: not exactly one blank.
        OptionError: no options, an empty or repeated one, or two with the same tokens; an unknown
            scoring or coupling; a bias whose last axis is not the options.
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

    pytree_data_fields = ("lm", "phrases", "temperature", "bias", "noise", "known_scores")
    pytree_aux_fields = ("template", "options", "texts", "scoring", "coupling")
    has_enumerate_support = True
    kind = "choice"
    # Asked instead of the language model; see ``asking``.
    _answer: Callable[[Choice], Array] | None = None

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
        bias: Any = None,
        validate_args: bool | None = None,
    ):
        self.template = Template.parse(template)
        self.options = parse_options(options, self.template)
        items = self._set_given(given)
        self._set_model(lm, temperature, coupling)
        scoring = parse_scoring(scoring, repr(str(self.template)))
        if not scoring.in_chat and lm.chat is not None:
            raise OptionError(f"{str(self.template)!r}: the published code knows no chat; use another scoring than it")
        bias = None if bias is None else as_bias(bias, len(self.options), repr(str(self.template)))
        self.scoring, self.bias, self.known_scores = scoring, bias, None
        if scoring.asks_lm and not lm.absent:
            self._check_said(tuple(map(self.template.fill, self.options)))
            self._check_length(len(self._blank.shared) + max(map(len, self._blank.rows)))
            # In a chat, the site's text does not follow those that it is given.
            own = tuple(self.template.fill(option) for option in self.options)
            check_boundaries(lm.codec, items, () if lm.chat is not None else own, repr(str(self.template)))
            check_written(lm.codec, items, own, repr(str(self.template)))
        batch_shape = jnp.broadcast_shapes(
            jnp.shape(temperature),
            () if bias is None else jnp.shape(bias)[:-1],
            *(phrase.batch_shape for phrase in self.phrases),
        )
        validate_args = None if validate_args is None else flag(validate_args, f"{str(self.template)!r}: validate_args")
        super().__init__(batch_shape, (), validate_args=validate_args)

    def _may_have(self, coupling: Coupling) -> bool:
        """All that there are."""
        return True

    # -- static structure -----------------------------------------------------------------------

    @property
    def inputs(self) -> Any:
        """What the distribution depends on, besides the language model."""
        return self.phrases, self.temperature, self.bias, self.known_scores

    @property
    def _leading_space(self) -> bool:
        return self.scoring.leading_space

    @property
    def _blank(self) -> OptionTokens:
        blank = self.scoring.tokens(self.lm, self.template, self.options, first=not self.texts)
        return blank if self.lm.chat is None else replace(blank, shared=self._without_joint(blank.shared))

    @property
    def _tree(self) -> OptionTree:
        return self.scoring.tree(self._blank.rows)

    @property
    def question(self) -> Question:
        """What is asked of the language model."""
        alone = None if (choice := self._alone) is None else choice.question
        blank = self._blank
        return Question(
            start=self._start(),
            pieces=self._given_tokens(),
            varying=self._varying,
            shared=blank.shared,
            rows=blank.rows,
            scoring=self.scoring,
            alone=alone,
        )

    # -- the language model ---------------------------------------------------------------------

    @property
    def _needs_start(self) -> bool:
        return self._blank.needs_start

    @property
    def _key(self) -> tuple[Said, Any, Any, Any]:
        """What the language model is asked, hashable."""
        return self._said(len(self.given)), self.template, self.options, Same(self.scoring)

    def _score(self) -> Scored:
        key = self._key
        found: Scored | None = self._find(lambda texts: texts.scored.get(key))
        if found is None:
            if self.lm.absent:
                raise SiteError(f"{str(self.template)!r} has no scores at hand, and no language model to ask")
            blank, tree = self._blank, self._tree
            own = len(blank.shared)
            edges, after = score_tree(self.lm, self._text(own), blank.shared, tree)
            self._remember(after.text, own)
            scores = self.scoring.scores(tree, edges)
            if (alone := self._alone) is not None:
                scores = scores - alone.scores if self.texts else jnp.zeros_like(scores)
            inside = self._given_inside()
            if inside is not None:
                # What is after a phrase that is none of its options is not known.
                scores = jnp.where(inside[..., None], scores, jnp.nan)
            found = Scored(scores, after, blank, tree)
            texts = self._kept
            texts.scored[key] = found
            if not blank.needs_start:
                texts.written.setdefault((key[0], (self.template, self.options)), found)
        return found

    def asking(self, answer: Callable[[Choice], Array]) -> Choice:
        """This choice with its scores from ``answer``, which is called once, where they are needed first."""
        return self.replace(_answer=answer)

    def _answered(self, answer: Callable[[Choice], Array]) -> Array:
        key = Same(answer), *self._key
        found: Array | None = self._find(lambda texts: texts.answered.get(key))
        if found is None:
            found = self._kept.answered[key] = answer(self)
        return found

    @property
    def _alone(self) -> Choice | None:
        """The same choice without what it is given, where the scoring takes its scores off."""
        scoring = self.scoring.less_alone
        return None if scoring is None else Choice(self.lm, self.template, self.options, scoring=scoring)

    @property
    def scores(self) -> Array:
        """Unnormalised scores, float32 ``[..., K]``: nats, before temperature and bias."""
        if self.known_scores is not None:
            return self.known_scores
        if not self.scoring.asks_lm:
            return jnp.zeros((*self.batch_shape, len(self.options)), jnp.float32)
        return self._score().scores if self._answer is None else self._answered(self._answer)

    @property
    def logits(self) -> Array:
        """Log-probabilities of the options, float32 ``[*batch_shape, K]``, normalised."""
        logits = tempered(self.scores, self.temperature)
        if self.bias is not None:
            logits = logits + jnp.asarray(self.bias, jnp.float32)
        logits = jax.nn.log_softmax(logits, axis=-1)
        # A loop stacks what it recorded of its steps, and leaves the batch shape as it was.
        batch_shape = jnp.broadcast_shapes(self.batch_shape, logits.shape[:-1])
        return jnp.broadcast_to(logits, (*batch_shape, len(self.options)))

    @property
    def probs(self) -> Array:
        """Probabilities of the options, float32 ``[*batch_shape, K]``."""
        return jnp.exp(self.logits)

    def tree_flatten(self) -> Any:
        # What leaves a trace (NumPyro's scan stacks its sites) takes its scores, not the parameters.
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(self.inputs))
        if not (traced or self._in_trace):
            return super().tree_flatten()
        asked = isinstance(self.lm, LanguageModel) and not self.lm.absent and self.scoring.asks_lm
        choice = self if self.known_scores is not None or not asked else self._with_known(self.scores)
        # Nor the strings that it was given, which may differ between the branches of a cond.
        return super(Choice, choice.replace(texts=(None,) * len(self.phrases))._spread()).tree_flatten()

    def _with_known(self, scores: Array) -> Choice:
        return self.replace(lm=absent_lm(), known_scores=scores)

    def _spread(self) -> Choice:
        """This choice with all that it depends on of one batch shape, so that a loop may put an axis before."""
        shape, options = self._shape_of_inputs(), len(self.options)

        def to(x: Any, *event: int) -> Any:
            return None if x is None else jnp.broadcast_to(x, (*shape, *event))

        phrases = tuple(
            phrase.at(to(phrase.index) if phrase.options else to(phrase.tokens, *jnp.shape(phrase.tokens)[-1:]))  # type: ignore[attr-defined]
            for phrase in self.phrases
        )
        own = {"phrases": phrases, "temperature": to(self.temperature), "bias": to(self.bias, options)}
        return self.replace(**own, known_scores=to(self.known_scores, options))

    def _shape_of_inputs(self) -> tuple[int, ...]:
        """The batch shape, with axes that a loop or ``vmap`` has put before it."""
        with_options = [jnp.shape(x)[:-1] for x in (self.bias, self.known_scores) if x is not None]
        phrases = [phrase.batch_shape for phrase in self.phrases]
        return jnp.broadcast_shapes(self.batch_shape, jnp.shape(self.temperature), *with_options, *phrases)

    # -- NumPyro ----------------------------------------------------------------------------------

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, len(self.options) - 1)

    def draw_noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Prior noise, as the coupling has it."""
        return self.coupling.draw(key, self.options, shape)

    def respond(self, noise: Array) -> Array:
        """The option numbers that the noise picks, int32; -1 where it is NaN, or the options have no probabilities.

        Raises:
            ScoreError: they have none, outside of a trace.
        """
        logits = self.logits
        # An argmax over NaN would be option 0.
        unknown = jnp.isnan(logits).any(-1)
        if not isinstance(unknown, jax.core.Tracer) and unknown.any():
            raise ScoreError(f"{str(self.template)!r}: {without_probabilities(self.given)}")
        nothing = unknown | self.coupling.unknown(noise)
        return jnp.where(nothing, jnp.int32(-1), self.coupling.respond(logits, noise))

    def posterior_noise(self, key: Array, value: Array) -> Array:
        """Noise given the option numbers ``value`` ``[*batch_shape]``; NaN where they are those of no option."""
        value = jnp.asarray(value)
        inside = (value >= 0) & (value < len(self.options))
        noise = self.coupling.posterior(key, self.options, self.logits, jnp.where(inside, value, 0))
        nan = jnp.where(inside, 0.0, jnp.nan)
        return jax.tree.map(
            lambda x: x + nan.reshape(*nan.shape, *(1,) * (x.ndim - nan.ndim)) if x.dtype.kind == "f" else x, noise
        )

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log-probability of option numbers (or, on the host, of an option's text); -inf of those of no option."""
        value = jnp.asarray(self.as_value(value))
        logits = self.logits
        shape = jnp.broadcast_shapes(value.shape, logits.shape[:-1])
        logits = jnp.broadcast_to(logits, (*shape, logits.shape[-1]))
        value = jnp.broadcast_to(value, shape)
        inside = (value >= 0) & (value < len(self.options))
        found = jnp.take_along_axis(logits, jnp.where(inside, value, 0)[..., None], axis=-1)[..., 0]
        # NaN stays: where nothing is known of the options, nothing is known of what is none.
        return self._with_given(jnp.where(inside | jnp.isnan(found), found, -jnp.inf))

    def entropy(self) -> Array:
        """Entropy ``[*batch_shape]`` in nats."""
        return _expected(self.logits, -self.logits)

    def enumerate_support(self, expand: bool = True) -> Array:
        """All option numbers, along a new leading axis."""
        values = jnp.arange(len(self.options)).reshape((-1,) + (1,) * len(self.batch_shape))
        return jnp.broadcast_to(values, (len(self.options), *self.batch_shape)) if expand else values

    def as_value(self, value: Any, where: str | None = None) -> Any:
        """Option numbers, int32, of an option's text, or of a phrase, or of numbers.

        Raises:
            OptionError: no option has that text, or a number is not in ``0..K-1``.
        """
        return option_numbers(value, self.options, where or repr(str(self.template)))

    def phrase(self, value: Any, name: str | None = None, drawn: bool = False) -> Phrase:
        """The phrase that an option number stands for."""
        return Phrase(value, self.template, self.options, name, drawn)


def _expected(log_probs: Array, values: Array) -> Array:
    """Mean of values over options; what has probability 0 counts nothing."""
    probs = jnp.exp(log_probs)
    return jnp.where(probs > 0, probs * values, 0.0).sum(-1)


@kl_divergence.register(Choice, Choice)
def _kl_divergence(p: Choice, q: Choice) -> Array:
    """Of two choices among the same texts, in nats.

    Raises:
        OptionError: they are among others.
    """
    if sorted(p.options) != sorted(q.options):
        raise OptionError(f"{str(p.template)!r} has the options {p.options}, {str(q.template)!r} has {q.options}")
    order = [q.options.index(option) for option in p.options]
    return _expected(p.logits, p.logits - q.logits[..., order])


@promote_batch_shape.register
def _promote(choice: Choice) -> Choice:
    # What NumPyro asks of a site that a loop has stacked.
    return choice.replace(_batch_shape=choice._shape_of_inputs())
