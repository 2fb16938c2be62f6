"""Training: the corpus, the loss and the optimiser's loop."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.models import training
from sdscm_jax.models.corpus import DocumentWriter, packed_batches, write_texts
from sdscm_jax.models.executable import executable
from sdscm_jax.models.training import Batch, train_lm, weighted_loss
from sdscm_jax.vignettes import Vignette, collider, confounder, hiring, oncology

from ..conftest import make_tiny_lm

token_losses = jax.jit(training.token_losses)

VIGNETTES = (oncology, hiring, confounder, collider)


@pytest.fixture(scope="module")
def writers(embedded: sd.LanguageModel) -> list[DocumentWriter]:
    return [DocumentWriter(v, embedded.codec, 0.1, 0.0, 7) for v in VIGNETTES]


@pytest.mark.parametrize("vignette", VIGNETTES, ids=lambda v: v.name)
def test_vignettes_sample_their_mechanisms(vignette: Vignette) -> None:
    values = vignette.sample(np.random.default_rng(0), 40_000)
    for j, variable in enumerate(vignette.variables):
        expected = vignette.probabilities(variable.name, values).mean(0)
        share = np.bincount(values[:, j], minlength=len(variable.options)) / len(values)
        assert np.abs(share - expected).max() < 4 * np.sqrt(0.25 / len(values))
        assert len(set(variable.wordings)) >= 10


def test_documents_are_the_texts(embedded: sd.LanguageModel, writers: list[DocumentWriter]) -> None:
    """Tokens of a document are those of its text, tokenised at once."""
    for writer in writers:
        for document in writer.documents(np.random.default_rng(3), 5):
            text = embedded.codec.decode(document.tokens[1:].tolist())
            assert embedded.codec.encode(text) == tuple(document.tokens[1:].tolist())
            chex.assert_trees_all_close(document.target_probs.sum(1), np.ones(len(document.tokens)), atol=1e-5)
            chex.assert_trees_all_equal(document.target_tokens[:, 0], document.tokens)


def test_targets_are_the_mechanisms(embedded: sd.LanguageModel, writers: list[DocumentWriter]) -> None:
    """Averaged over documents, a token is drawn as often as its target says."""
    expected, drawn, even = np.zeros(0), np.zeros(0), np.zeros(0)
    for document in writers[1].documents(np.random.default_rng(4), 1500):
        open_places = (document.target_probs > 0).sum(1) > 1
        expected = np.append(expected, (document.target_probs[open_places].astype(np.float64) ** 2).sum(1))
        drawn = np.append(drawn, document.target_probs[open_places, 0])
        even = np.append(even, 1 / (document.target_probs > 0).sum(1)[open_places])
    # E[p(drawn)] = E[sum_k p_k^2], and the first candidate is the one that was drawn.
    error = drawn - expected
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(error))
    # That is not how often it would be if candidates were drawn evenly.
    assert abs(drawn.mean() - even.mean()) > 20 * error.std() / np.sqrt(len(error))


@pytest.mark.slow
def test_another_training_compiles_nothing(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Of other weights, by an optimizer that was made anew; one of another rate is compiled, and is another."""
    row = np.arange(8)[None] % 5
    batch = Batch(row, np.arange(8)[None], np.ones_like(row), np.ones(row.shape, np.float32))

    def trained(seed: int, rate: float) -> tuple[sd.LanguageModel, int]:
        before = executable.cache_info().misses
        found = train_lm(make_tiny_lm(tiny_tokenizer, "gpt2", seed), [batch] * 2, optax.sgd(rate))
        return found, executable.cache_info().misses - before

    first, _ = trained(0, 1e-3)
    again, compiled = trained(0, 1e-3)
    assert (again.fingerprint(), compiled) == (first.fingerprint(), 0)
    other, compiled = trained(1, 1e-3)
    assert other.fingerprint() != first.fingerprint()
    assert compiled == 0
    faster, compiled = trained(0, 2e-3)
    assert faster.fingerprint() != first.fingerprint()
    assert compiled == 1


def test_packing(writers: list[DocumentWriter]) -> None:
    batches = list(packed_batches(writers, [0.4, 0.2, 0.2, 0.2], rows=4, length=224, steps=3, seed=1))
    again = list(packed_batches(writers, [0.4, 0.2, 0.2, 0.2], rows=4, length=224, steps=3, seed=1))
    chex.assert_trees_all_equal(batches, again)
    for batch in batches:
        chex.assert_shape(batch.tokens, (4, 224))
        for row in range(4):
            segments, positions = np.asarray(batch.segments)[row], np.asarray(batch.positions)[row]
            for segment in range(1, segments.max() + 1):
                where = np.flatnonzero(segments == segment)
                chex.assert_trees_all_equal(positions[where], np.arange(len(where)).astype(positions.dtype))
        assert (np.asarray(batch.segments) > 0).mean() > 0.8
    with pytest.raises(ValueError, match="does not fit a row of 50"):
        next(packed_batches(writers, [1, 0, 0, 0], rows=1, length=50, steps=1, seed=1))


def test_packed_documents_do_not_see_each_other(embedded: sd.LanguageModel) -> None:
    encode = embedded.codec.encode
    a, b = ([embedded.codec.bos, *encode(t)] for t in ("My name is Bob.", "The weather outside is cold."))
    tokens = np.array([[*a, *b]], np.int32)
    positions = np.array([[*range(len(a)), *range(len(b))]], np.int32)
    segments = np.array([[1] * len(a) + [2] * len(b)], np.int32)
    together = token_losses(embedded, Batch(tokens, positions, segments, np.ones(tokens.shape, np.float32)))[0]
    alone = [
        token_losses(embedded, Batch(*(np.array([x], np.int32) for x in (t, range(len(t)), [1] * len(t))), np.ones(1)))
        for t in (a, b)
    ]
    chex.assert_trees_all_close(together[: len(a) - 1], alone[0][0], atol=5e-4)
    chex.assert_trees_all_close(together[len(a) :], alone[1][0], atol=5e-4)


def test_expected_loss(lm: sd.LanguageModel) -> None:
    """The loss with targets is the mean of the losses of the tokens that could have been drawn."""
    tokens = np.array([[5, 6, 7]], np.int32)
    row = (np.arange(3)[None].astype(np.int32), np.ones((1, 3), np.int32), np.ones((1, 3), np.float32))
    targets = np.array([[[5, 0], [6, 0], [7, 9]]], np.int32)
    probs = np.array([[[1, 0], [1, 0], [0.25, 0.75]]], np.float32)
    expected = token_losses(lm, Batch(tokens, *row, targets, probs))[0, 1]
    each = [token_losses(lm, Batch(np.array([[5, 6, t]], np.int32), *row))[0, 1] for t in (7, 9)]
    assert float(expected) == pytest.approx(0.25 * float(each[0]) + 0.75 * float(each[1]), abs=5e-4)


def test_training_lowers_the_loss(lm: sd.LanguageModel) -> None:
    tokens = jnp.array([[1, 2, 3, 4, 5, 6]])
    ones = jnp.ones_like(tokens)
    batch = Batch(tokens, jnp.arange(6)[None], ones, ones.astype(jnp.float32))
    losses: list[float] = []
    trained = train_lm(lm, [batch] * 20, optax.adam(1e-2), on_step=lambda step, loss, model: losses.append(loss))
    assert losses[-1] < 0.2 * losses[0]
    assert float(weighted_loss(trained, batch)) < losses[0]


def test_texts(writers: list[DocumentWriter]) -> None:
    texts = list(write_texts(VIGNETTES, 2, 0))
    assert len(texts) == 8
    assert texts == list(write_texts(VIGNETTES, 2, 0))
    assert all("{}" not in text for text in texts)
