"""Ways of training: all weights or adapters, accumulated gradients, averages."""

from __future__ import annotations

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sdscm_jax as sd
from sdscm_jax.errors import ContextLengthError
from sdscm_jax.models import training
from sdscm_jax.models.adapters import Adapter
from sdscm_jax.models.checkpoint import parameter_paths
from sdscm_jax.models.families import tiny_config
from sdscm_jax.models.training import Batch, train_lm, weighted_loss

from .random_batches import batches_of

token_losses = jax.jit(training.token_losses)


@pytest.fixture(autouse=True)
def quick_compilation() -> None:
    """Nearly all the time of these tests is compilation."""
    jax.config.update("jax_disable_most_optimizations", True)


def together(batches: list[Batch]) -> Batch:
    """One batch with all their rows."""
    return Batch(*(np.concatenate(x) for x in list(zip(*batches, strict=True))[:4]))


def changed(lm: sd.LanguageModel, other: sd.LanguageModel) -> set[str]:
    a, b = parameter_paths(lm.params), parameter_paths(other.params)
    return {path for path in a if a[path].shape != b[path].shape or (a[path] != b[path]).any()}


# -- adapters -------------------------------------------------------------------------------------


def test_full_weights_in_float32_is_training_of_all(lm: sd.LanguageModel) -> None:
    batches = batches_of(lm, 2)
    plain = train_lm(lm, batches, optax.sgd(0.1))
    adapted = train_lm(lm, batches, optax.sgd(0.1), adapter=sd.FullWeights(lm))
    chex.assert_trees_all_close(plain.params, adapted.params, atol=1e-5)


class Scaled(Adapter):
    """A language model whose last hidden states are scaled, by parameters in bfloat16."""

    def __init__(self, lm: sd.LanguageModel):
        self.scale = nnx.Param(jnp.ones(lm.config.width, jnp.bfloat16))

    def __call__(self, lm: sd.LanguageModel) -> sd.LanguageModel:
        params = nnx.to_flat_state(lm.params)
        path = ("final_norm", "scale")
        return replace(
            lm,
            params=nnx.from_flat_state(
                [(p, x.replace(x[...] * self.scale[...].astype(x[...].dtype)) if p == path else x) for p, x in params]
            ),
        )


@pytest.mark.slow
@pytest.mark.parametrize("average", [None, 0.9])
def test_small_steps_are_kept_in_bfloat16(lm: sd.LanguageModel, average: float | None) -> None:
    """Of 20 steps of 5e-4 bfloat16 keeps none where a weight is 1; all add up to more than it rounds away.

    As with a float32 copy of all weights, to the bit; and whatever is trained.
    """
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), lm)
    batches, optimizer = batches_of(lm, 1) * 20, optax.sign_sgd(5e-4)
    assert bool(jnp.bfloat16(1) - jnp.bfloat16(5e-4) == 1)
    plain = train_lm(half, batches, optimizer, average=average)
    kept = train_lm(half, batches, optimizer, average=average, adapter=sd.FullWeights(half))
    assert plain.dtype == jnp.bfloat16
    chex.assert_trees_all_equal(plain.params, kept.params)
    scaled = train_lm(half, batches, optimizer, average=average, adapter=Scaled(half))
    for trained in (plain, scaled):
        before, after = (np.asarray(parameter_paths(x.params)["final_norm.scale"]) for x in (half, trained))
        assert (before != after)[before >= 1].mean() > 0.5


@pytest.mark.slow
def test_training_in_bfloat16_is_that_in_float32(lm: sd.LanguageModel) -> None:
    """Up to the rounding of weights and activations: the loss falls as far by steps that are all too small."""
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), lm)
    batches = batches_of(lm, 1) * 40
    after = [weighted_loss(train_lm(x, batches, optax.adam(2e-4), average=0.95), batches[0]) for x in (lm, half)]
    fallen = [float(weighted_loss(x, batches[0]) - loss) for x, loss in zip((lm, half), after, strict=True)]
    assert fallen[0] > 0.05
    assert fallen[1] == pytest.approx(fallen[0], rel=0.1)


@pytest.mark.slow
def test_low_rank_changes_its_targets_alone(lm: sd.LanguageModel) -> None:
    adapter = sd.LowRank(lm, 2, targets=["value", "down"])
    before = lm.fingerprint()
    batches = batches_of(lm, 1) * 5
    trained = train_lm(lm, batches, optax.adam(1e-2), adapter=adapter)
    assert changed(lm, trained) == {"blocks.value.kernel", "blocks.down.kernel"}
    assert float(weighted_loss(trained, batches[0])) < float(weighted_loss(lm, batches[0]))
    assert lm.fingerprint() == before
    assert not np.asarray(adapter.b["value"][...]).any()


@pytest.mark.parametrize("fixture", ["lm", "gpt2", "embedded"])
def test_loss_behind_a_prompt_is_that_of_real_tokens(request: pytest.FixtureRequest, fixture: str) -> None:
    """With a prompt of real embeddings: as with those tokens typed, after BOS or in a start token's place."""
    lm: sd.LanguageModel = request.getfixturevalue(fixture)
    words = lm.codec.encode("It is low.")
    prompted = sd.SoftPrompt(lm, len(words), init="It is low.")(lm)
    bos = [] if lm.codec.bos is None else [lm.codec.bos]
    texts = [lm.codec.encode(text) for text in ("The weather outside is sunny.", "She is 25 years old.")]
    # The second has a start token, which is BOS where there is one.
    documents = [[*bos, *texts[0]], [lm.codec.start, *texts[1]]]
    row = [token for document in documents for token in document]
    positions = [i for document in documents for i in range(len(document))]
    segments = [n for n, document in enumerate(documents, start=1) for _ in document]
    batch = Batch(*(np.array([x], np.int32) for x in (row, positions, segments)), np.ones((1, len(row)), np.float32))
    losses = np.asarray(token_losses(prompted, batch))[0]
    found = losses[: len(documents[0]) - 1], losses[len(documents[0]) :]
    for text, own in zip(texts, found, strict=True):
        typed = [*bos, *words, *text]
        one = Batch(*(np.array([x], np.int32) for x in (typed, range(len(typed)), [1] * len(typed))), np.ones(1))
        expected = np.asarray(token_losses(lm, one))[0, -len(text) :]
        np.testing.assert_allclose(own, expected[len(text) - len(own) :], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_soft_prompt_is_trained_alone(lm: sd.LanguageModel) -> None:
    batches = batches_of(lm, 1) * 10
    trained = train_lm(lm, batches, optax.adam(0.05), adapter=sd.SoftPrompt(lm, 3))
    assert trained.prompt == 3
    assert changed(lm, trained) == {"embedding.embedding"}
    table = trained.params["embedding"]["embedding"][...]
    chex.assert_trees_all_equal(table[:-3], lm.params["embedding"]["embedding"][...])
    started = weighted_loss(sd.SoftPrompt(lm, 3)(lm), batches[0])
    assert float(weighted_loss(trained, batches[0])) < float(started) - 0.1


def test_lengths_count_the_prompt(lm: sd.LanguageModel) -> None:
    short = sd.random_lm(replace(tiny_config("llama", lm.config.vocab_size), max_positions=8), lm.tokenizer)
    batches = batches_of(lm, 1)
    train_lm(short, batches, optax.sgd(0.1), adapter=sd.SoftPrompt(short, 2))
    with pytest.raises(ContextLengthError, match=r"has 9 tokens \(3 of them virtual\); .* 8 positions"):
        train_lm(short, batches, optax.sgd(0.1), adapter=sd.SoftPrompt(short, 3))


# -- accumulated gradients, averages --------------------------------------------------------------


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_the_larger_batch(lm: sd.LanguageModel) -> None:
    """Steps of three batches, whose weights differ; the last step has one batch only."""
    batches = batches_of(lm, 7)
    found: list[float] = []
    expected: list[float] = []
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9))
    apart = train_lm(lm, batches, optimizer, accumulate=3, on_step=lambda step, loss, _: found.append(loss))
    whole = [together(batches[:3]), together(batches[3:6]), batches[6]]
    joint = train_lm(lm, whole, optimizer, on_step=lambda step, loss, _: expected.append(loss))
    assert len(found) == 3
    # A loss of 6 has units of 5e-7 in the last place.
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=0)
    chex.assert_trees_all_close(apart.params, joint.params, atol=1e-5, rtol=0)
    # They moved by much more than that.
    assert max(float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (apart, lm)), strict=True)) > 1e-3


def test_average(lm: sd.LanguageModel) -> None:
    """Against the mean taken by hand of what each step gave."""
    models: list[sd.LanguageModel] = []
    batches = batches_of(lm, 3)
    train_lm(lm, batches, optax.sgd(0.1), on_step=lambda step, loss, current: models.append(current()))
    averaged = train_lm(lm, batches, optax.sgd(0.1), average=0.75)
    plain = train_lm(lm, batches, optax.sgd(0.1), average=1.0)
    for found, weights in ((averaged, [0.75**2, 0.75, 1.0]), (plain, [1.0, 1.0, 1.0])):
        trees = [model.params for model in models]
        expected = jax.tree.map(lambda *x, w=weights: np.average([np.asarray(y) for y in x], 0, w), *trees)
        chex.assert_trees_all_close(found.params, expected, atol=1e-5)
    # The start is no step.
    first = train_lm(lm, batches[:1], optax.sgd(0.1), average=0.75)
    chex.assert_trees_all_close(first.params, models[0].params, atol=1e-6)


def test_arguments(lm: sd.LanguageModel) -> None:
    said = {"accumulate": "accumulate is an integer from 1 to 16777216", "every": "every is an integer of at least 1"}
    for name, message in said.items():
        with pytest.raises(sd.SDSCMError, match=f"{message}, got 0"):
            train_lm(lm, [], optax.sgd(0.1), **{name: 0})
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(sd.SDSCMError, match="average is a finite number, at least 0 and at most 1"):
            train_lm(lm, [], optax.sgd(0.1), average=wrong)
    assert train_lm(lm, [], optax.sgd(0.1)).fingerprint() == lm.fingerprint()


def test_no_weight(lm: sd.LanguageModel) -> None:
    """A step of batches without weight is an error; a batch among others may have none."""
    batches = batches_of(lm, 2)
    for weights in (np.zeros_like(batches[0].weights), np.full_like(batches[0].weights, np.nan)):
        empty = batches[0]._replace(weights=weights)
        with pytest.raises(sd.SDSCMError, match="step 2 has tokens whose weights add up to"):
            train_lm(lm, [batches[1], empty], optax.sgd(0.1))
        with pytest.raises(sd.SDSCMError, match="the batch has tokens"):
            weighted_loss(lm, empty)
    empty = batches[0]._replace(weights=0 * batches[0].weights)
    # The first token is no target, whatever it weighs.
    first = batches[0]._replace(weights=np.eye(1, batches[0].weights.shape[1], dtype=np.float32).repeat(2, 0))
    with pytest.raises(sd.SDSCMError, match="add up to 0,"):
        train_lm(lm, [first], optax.sgd(0.1))
    together = train_lm(lm, [empty, batches[1]], optax.sgd(0.1), accumulate=2)
    chex.assert_trees_all_close(together.params, train_lm(lm, batches[1:], optax.sgd(0.1)).params, atol=1e-6)


def test_training_that_diverges(lm: sd.LanguageModel) -> None:
    """Its end is an error, and so is the next look at it."""
    batches = batches_of(lm, 1) * 6
    for steps, optimizer in ((2, optax.sgd(1e30)), (1, optax.sgd(float("inf")))):
        with pytest.raises(sd.SDSCMError, match="diverged"):
            train_lm(lm, batches[:steps], optimizer)
    made: list[int] = []
    with pytest.raises(sd.SDSCMError, match=r"the loss of step [23] is not finite"):
        train_lm(lm, batches, optax.sgd(1e30), every=3, on_step=lambda step, loss, current: made.append(step))
    assert made == [1, 2]
