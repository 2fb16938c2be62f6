"""Training and fine-tuning a language model with optax: all weights, or those of an adapter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial, reduce
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from ..checks import as_path, count, function, instance, real, told
from ..errors import ContextLengthError, ProgramError, ResumeError, SDSCMError
from .adapters import Adapter
from .executable import LookedUp
from .int8 import refuse_rounded
from .language_model import LanguageModel
from .saved_training import Save, SavedTraining, hash_arrays, hash_programs

if TYPE_CHECKING:
    import optax

_HELP = "a smaller rate, a warm-up or optax.clip_by_global_norm may help"


class Batch(NamedTuple):
    """Rows of packed documents.

    The virtual tokens of a soft prompt are not among the tokens: the loss puts them into every document.

    Attributes:
        tokens: int32 ``[B, T]``.
        positions: int32 ``[B, T]``, counted from 0 in each document.
        segments: int32 ``[B, T]``; documents of a row have different numbers, padding has 0.
        weights: float32 ``[B, T]``, weight of each token as a target of prediction; the first
            token of a document has weight 0.
        target_tokens, target_probs: int32 and float32 ``[B, T, A]``: a distribution over A tokens
            that each token is drawn from, where it is known. The loss is then the expected one
            over that draw, which has the same mean and less noise. None: the token itself.
    """

    tokens: Array | np.ndarray
    positions: Array | np.ndarray
    segments: Array | np.ndarray
    weights: Array | np.ndarray
    target_tokens: Array | np.ndarray | None = None
    target_probs: Array | np.ndarray | None = None


class Mean(NamedTuple):
    """A mean of what is trained over the steps so far, and what these weigh together if the last weighs 1."""

    params: nnx.State
    weight: Array


class State(NamedTuple):
    """What a step changes: what is trained, the optimizer's state, and the mean of the former (or None)."""

    params: nnx.State
    optimizer: Any
    mean: Mean | None


class Sums(NamedTuple):
    """What batches add up to: loss and weight (scalars), and the gradient of that loss."""

    loss: Array
    weight: Array
    gradient: nnx.State


# From what is trained, and the model to start from, to the trained model.
Build = Callable[[nnx.State, LanguageModel], LanguageModel]
OnStep = Callable[[int, float, Callable[[], LanguageModel]], Any]


def token_losses(lm: LanguageModel, batch: Batch) -> Array:
    """Loss (nats) of each token but the first: float32 ``[B, T - 1]``."""
    import optax

    logits = _logits(lm, batch)[:, :-1]
    if batch.target_tokens is None or batch.target_probs is None:
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(batch.tokens)[:, 1:])
    likely = jnp.take_along_axis(logits, jnp.asarray(batch.target_tokens)[:, 1:], axis=-1)
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    return normaliser - (likely * jnp.asarray(batch.target_probs)[:, 1:]).sum(-1)


def _logits(lm: LanguageModel, batch: Batch) -> Array:
    """Logits of the token after each token, ``[B, T, V]``; documents do not see each other."""
    tokens, positions, segments = (jnp.asarray(x) for x in batch[:3])
    same = (segments[:, :, None] == segments[:, None, :]) & (segments[:, :, None] > 0)
    if not lm.prompt:
        return lm.logits(tokens, positions, same)
    # All documents see one copy of the prompt, which stands where it stands in each: after BOS.
    bos = () if lm.codec.bos is None else (lm.codec.bos,)
    at = jnp.arange(len(bos) + lm.prompt)
    hidden, past = lm.encode(jnp.array([*bos, *lm.prompt_tokens]), at, jnp.tri(len(at), dtype=bool))
    past = jax.tree.map(lambda x: x[..., len(bos) :, :], past)
    begins = (positions == 0) & (tokens == (-1 if lm.codec.start is None else lm.codec.start))
    seen = same & jnp.tri(tokens.shape[-1], dtype=bool)
    if not bos:
        # The prompt takes the place of a start token.
        positions = positions - (same & begins[:, None, :]).any(-1)
        seen &= ~begins[:, None, :]
    positions = jnp.where(begins, 0, positions + lm.prompt)
    behind = jnp.broadcast_to(~begins[..., None], (*tokens.shape, lm.prompt))
    own, _ = lm.encode(tokens, positions, jnp.concatenate([behind, seen], -1), past, at[len(bos) :])
    # The first token of a text comes after the prompt, not after BOS.
    return lm.decoder.logits(jnp.where(begins[..., None], hidden[-1], own))


def weighted_loss(lm: LanguageModel, batch: Batch) -> Array:
    """Mean loss per unit of weight, a float32 scalar.

    Raises:
        SDSCMError: no token has weight.
    """
    weights = jnp.asarray(batch.weights)[:, 1:]
    if not isinstance(weights, jax.core.Tracer):
        _check_weight([batch], "the batch")
    return (token_losses(lm, batch) * weights).sum() / weights.sum()


def train_lm(
    lm: LanguageModel,
    batches: Iterable[Batch],
    optimizer: optax.GradientTransformation,
    *,
    adapter: Adapter | None = None,
    accumulate: int = 1,
    average: float | None = None,
    checkpoint: str | Path | None = None,
    every: int = 100,
    on_step: OnStep | None = None,
) -> LanguageModel:
    """Train a language model on weighted next-token prediction.

    Args:
        lm: the model to start from (left unchanged).
        batches: ``accumulate`` of them make a step; the last step takes what is left. A program is compiled for
            each shape.
        optimizer: an optax transformation; the counts of a schedule are steps.
        adapter: what is trained, such as ``LowRank(lm, 8)`` or ``SoftPrompt(lm, 16)``; the weights of ``lm`` stay
            as they are (the adapter given is left unchanged too). None: all weights of ``lm``. Whatever it is, steps
            are taken in float32 at least: those of bfloat16 weights would be lost. What is returned has their dtype.
        accumulate: number of batches whose gradients are added up (in float32) for a step. The step is that of
            one batch with all their rows.
        average: the mean of the weights after each step is returned instead of the last weights; a step weighs
            ``average`` times as much as the next one. The start is no step. 1: the plain mean; None: the last weights.
        checkpoint: directory where the run is saved, with its losses (``losses.csv``). The same call goes on from
            the last save, to the same bytes on the same machine; where the run is over, it gives its model.
            The batches of steps that were made are read again, and compared.
        every: number of steps between saves, and between looks whether the training has diverged.
        on_step: called after each step that this call makes, with its number (from 1), the loss before it, and a
            function that gives the model so far.

    Returns:
        the trained model; with an adapter, the adapted one.

    Raises:
        SDSCMError: the language model was loaded with ``chat=``; it has int8 or int4 weights, and no adapter is given;
            the tokens of a step have no weight; the training has diverged; a number is out of its range; or the disk
            is full (the save before is kept).
        ContextLengthError: a document needs more positions than the model has.
        ResumeError: the checkpoint is of another run (the message says in what it differs), or its save is damaged; or
            another call is writing there.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> lm = load_lm()
    >>> row = np.asarray(lm.tokenizer.encode("The tumor exhibits high levels of PD-L1."))[None]
    >>> batch = Batch(row, np.arange(row.shape[1])[None], np.ones_like(row), np.ones(row.shape, np.float32))
    >>> before = weighted_loss(lm, batch)
    >>> import optax
    >>> after = weighted_loss(train_lm(lm, [batch] * 3, optax.sgd(1e-3)), batch)
    >>> bool(after < before)
    True
    """
    import optax

    instance(lm, LanguageModel, "lm", ProgramError)
    instance(optimizer, optax.GradientTransformation, "optimizer")
    if not isinstance(batches, Iterable) or isinstance(batches, str | bytes | Mapping):
        raise SDSCMError(f"batches is a list or another iterable of batches, got {told(batches)}")
    None if on_step is None else function(on_step, "on_step", SDSCMError)
    None if adapter is None else function(adapter, "adapter", SDSCMError)
    checkpoint = None if checkpoint is None else as_path(checkpoint, "checkpoint")
    if lm.chat is not None:
        raise SDSCMError("training text is read as it stands: load the language model without chat= to train it")
    accumulate, every = count(accumulate, "accumulate", most=1 << 24), count(every, "every")
    average = None if average is None else real(average, "average", least=0, most=1)
    with ExitStack() as stack:
        params, build = _trained(lm, adapter)
        prompt = jax.eval_shape(build, params, lm).prompt
        gradients, update = _programs(build, optimizer, average)
        state = State(params, optimizer.init(params), None if average is None else Mean(params, jnp.zeros(())))
        run, groups = _Training(lm, build, gradients, update, state), _groups(batches, accumulate)
        if checkpoint is not None and (first := next(groups, None)) is not None:
            groups = chain([first], groups)
            saved = SavedTraining(checkpoint, {**run.manifest(first[0]), "accumulate": accumulate})
            run.resume(stack.enter_context(saved))
        number, group = 0, list[Batch]()
        for number, group in enumerate(groups, start=1):
            if len(group) < accumulate:
                # This step is not saved: with more batches it would be another one.
                run.save(number - 1)
            if run.has_made(number, group):
                continue
            for batch in group:
                _check_length(batch, prompt, lm.config.max_positions)
            _check_weight(group, f"step {number}")
            loss = run.step(group)
            if number % every == 0 and len(group) == accumulate:
                run.save(number)
            if on_step is not None:
                on_step(number, float(loss), run.current)
        if number < run.done:
            raise ResumeError(
                f"{checkpoint} is of a longer run: it has made {run.done} steps, and there are batches for {number}"
            )
        if len(group) == accumulate:
            run.save(number)
        run.finish()
        return run.current()


class _Training:
    """A training under way: what has been reached, and where it is kept, if anywhere.

    Attributes:
        state, losses: after the steps so far.
        done: steps that the last save has.
    """

    def __init__(self, lm: LanguageModel, build: Build, gradients: Any, update: Any, state: State):
        self._lm, self._build, self._gradients, self._update = lm, build, gradients, update
        # Another training of such a model, by such an optimizer, compiles nothing.
        self._sums_of, self._updated = LookedUp(gradients), LookedUp(update)
        self.state, self.losses, self.done = state, list[Any](), 0
        # Digests of the batches that were read, and of those that the save was made from.
        self._saved: SavedTraining | None = None
        self._read = self._expected = ""

    def manifest(self, batch: Batch) -> dict[str, Any]:
        """What the result depends on besides the batches, with one of them as the example of their shape."""
        sums = jax.eval_shape(self._gradients, self.state.params, self._lm, batch)
        programs = self._gradients.lower(self.state.params, self._lm, batch), self._update.lower(self.state, sums)
        return {
            "language model": self._lm.fingerprint(),
            "start of what is trained": hash_arrays(self.state),
            "program of a step (adapter, shape of a batch, optimizer, average)": hash_programs(programs),
        }

    def resume(self, saved: SavedTraining) -> None:
        """Keep the run there, and go on from what is."""
        self._saved = saved
        if (latest := saved.latest(self.state)) is not None:
            self.done, (self.state, losses, self._expected) = latest
            self.losses = list(losses)

    def has_made(self, number: int, group: list[Batch]) -> bool:
        """Is the step in the save? A save that was made from other batches is refused."""
        if self._saved is not None:
            self._read = hash_arrays(group, self._read)
            if number == self.done and self._read != self._expected:
                raise ResumeError(
                    f"{self._saved.directory} is of another run: other batches made its {self.done} steps"
                )
        return number <= self.done

    def step(self, group: list[Batch]) -> Array:
        """Make a step; the loss before it."""
        sums = reduce(_added, (self._sums_of(self.state.params, self._lm, batch) for batch in group))
        self.state, loss = self._updated(self.state, sums)
        self.losses.append(loss)
        return loss

    def current(self) -> LanguageModel:
        """The model so far."""
        state = self.state
        return self._build(state.params if state.mean is None else state.mean.params, self._lm)

    def save(self, step: int) -> None:
        """Look whether the training has diverged, and keep the state after a step that is not kept yet."""
        _check_finite(self.losses, self.state)
        self.losses[:] = np.array(self.losses, np.float32)
        if self._saved is not None and step > self.done:
            self._saved.save(step, Save(self.state, np.array(self.losses, np.float32), self._read))
            self.done = step

    def finish(self) -> None:
        """Write the losses of all steps."""
        _check_finite(self.losses, self.state)
        if self._saved is not None:
            self._saved.write_losses(np.array(self.losses, np.float32))


def _trained(lm: LanguageModel, adapter: Adapter | None) -> tuple[nnx.State, Build]:
    """What is trained, in float32 at least, and how it makes a model."""
    if adapter is None:
        refuse_rounded(lm.params, "training all weights")
        own: nnx.State = lm.params

        def build(params: nnx.State, lm: LanguageModel) -> LanguageModel:
            return replace(lm, params=params)
    else:
        graph, own, rest = nnx.split(adapter, nnx.Param, ...)

        def build(params: nnx.State, lm: LanguageModel) -> LanguageModel:
            return nnx.merge(graph, params, rest)(lm)

    dtypes = [x.dtype for x in jax.tree.leaves(own)]

    def in_own_dtypes(params: nnx.State, lm: LanguageModel) -> LanguageModel:
        leaves, structure = jax.tree.flatten(params)
        cast = [x.astype(dtype) for x, dtype in zip(leaves, dtypes, strict=True)]
        return build(jax.tree.unflatten(structure, cast), lm)

    return jax.tree.map(_wide, own), in_own_dtypes


def _wide(x: Array) -> Array:
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)) if floating else x


def _programs(build: Build, optimizer: optax.GradientTransformation, average: float | None) -> tuple[Any, Any]:
    """The jitted parts of a step: sums of one batch, and the update by those of all."""
    import optax

    @jax.jit
    def gradients(params: nnx.State, lm: LanguageModel, batch: Batch) -> Sums:
        def total(params: nnx.State) -> tuple[Array, Array]:
            weights = jnp.asarray(batch.weights)[:, 1:]
            return (token_losses(build(params, lm), batch) * weights).sum(), weights.sum()

        (loss, weight), gradient = jax.value_and_grad(total, has_aux=True)(params)
        return Sums(loss, weight, gradient)

    @jax.jit
    def update(state: State, sums: Sums) -> tuple[State, Array]:
        gradient = jax.tree.map(lambda g, p: (g / sums.weight).astype(p.dtype), sums.gradient, state.params)
        updates, optimized = optimizer.update(gradient, state.optimizer, state.params)
        params, mean = optax.apply_updates(state.params, updates), state.mean
        if average is not None and mean is not None:
            # By hand, since an average that begins with the start, or with nothing, is drawn towards that.
            weight = 1 + average * mean.weight
            mean = Mean(jax.tree.map(lambda m, p: m + (p - m) / weight, mean.params, params), weight)
        return State(params, optimized, mean), sums.loss / sums.weight

    return gradients, update


_added = jax.jit(partial(jax.tree.map, jnp.add))


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of ``size`` batches; the last one has what is left."""
    try:
        source = iter(batches)
    except TypeError as error:
        raise SDSCMError(f"batches are an iterable of Batch, got {told(batches)}") from error
    while group := [instance(batch, Batch, "a batch") for batch in islice(source, size)]:
        yield group


def _check_weight(group: list[Batch], which: str) -> None:
    total = sum(float(batch.weights[:, 1:].sum()) for batch in group)
    if not 0 < total < math.inf:
        raise SDSCMError(f"{which} has tokens whose weights add up to {total:g}, so there is no mean loss of them")


def _check_finite(losses: list[Any], state: State) -> None:
    found = np.isfinite(np.array(losses, np.float32))
    if not found.all():
        raise SDSCMError(
            f"the training has diverged: the loss of step {1 + int(found.argmin())} is not finite; {_HELP}"
        )
    if not all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(state.params)):
        raise SDSCMError(f"the training has diverged: after step {len(found)} a weight is not finite; {_HELP}")


def _check_length(batch: Batch, prompt: int, available: int) -> None:
    needed = int(np.max(batch.positions)) + 1 + prompt
    if needed > available:
        virtual = f" ({prompt} of them virtual)" if prompt else ""
        raise ContextLengthError(
            f"a document has {needed} tokens{virtual}; the language model has {available} positions"
        )
