"""Programs, sites and language models that break one law each."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from flax import nnx
from jax import Array

import sdscm_jax as sd
from sdscm_jax.models.pages import Pages, length
from sdscm_jax.models.sight import Rows
from sdscm_jax.testing.mock_decoder import HashDecoder


class Uncontrolled(dist.BernoulliProbs):
    """Draws from a generator that no key controls."""

    generator = np.random.default_rng(0)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        def draw(p: np.ndarray) -> np.ndarray:
            return (self.generator.random(np.shape(p)) < p).astype(np.int32)

        p = jnp.broadcast_to(self.probs, (*sample_shape, *self.batch_shape))
        return jax.pure_callback(draw, jax.ShapeDtypeStruct(p.shape, jnp.int32), p, vmap_method="expand_dims")


class Counted(dist.BernoulliProbs):
    """Depends on how often it was drawn."""

    numbers = itertools.count()

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        def draw(p: np.ndarray) -> np.ndarray:
            return np.full(np.shape(p), (next(self.numbers) * 2654435761 >> 7) % 2, np.int32)

        p = jnp.broadcast_to(self.probs, (*sample_shape, *self.batch_shape))
        return jax.pure_callback(draw, jax.ShapeDtypeStruct(p.shape, jnp.int32), p, vmap_method="sequential")


class Biased(dist.BernoulliProbs):
    """Draws with other probabilities than it says."""

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return dist.BernoulliProbs(0.8 * self.probs).sample(key, sample_shape)


class Unnormalised(dist.BernoulliProbs):
    """Its probabilities sum to 1.5."""

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        return super().log_prob(value) + np.log(1.5)


class Outside(dist.Uniform):
    """Draws from a wider interval than its support."""

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return 1.5 * super().sample(key, sample_shape)


class Tilted(dist.Uniform):
    """Is not distributed by its ``cdf``."""

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return super().sample(key, sample_shape) ** 1.3


class Forgetful(sd.Choice):
    """Does not look at the evidence."""

    def posterior_noise(self, key: Array, value: Array) -> Array:
        return self.coupling.draw(key, self.options, jnp.shape(value))


class Unstable(sd.Choice):
    """Deals its noise out anew where the best option is another one."""

    def respond(self, noise: Array) -> Array:
        return super().respond(jnp.roll(noise, jnp.argmax(self.logits, axis=-1), axis=-1))


class ByNumber(sd.Choice):
    """Its noise belongs to the places of options, not to their texts."""

    def draw_noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.gumbel(key, (*shape, len(self.options)))


OPTIONS = ("sun", "rain", "snow")
TABLE = np.array([[0.4, 0.3, 0.3], [0.1, 0.6, 0.3]])


def program(kind: type = sd.Choice, chance: type = dist.BernoulliProbs) -> Any:
    """Three sites, none of which asks the language model: ``x``, ``day`` (a choice) and ``y``."""

    def model(lm: sd.LanguageModel) -> None:
        x = numpyro.sample("x", dist.BernoulliProbs(0.4))
        law = jnp.log(jnp.asarray(TABLE, jnp.float32))[x]
        day = sd.sample("day", kind(lm, "It is {}.", OPTIONS, scoring="uniform", bias=law))
        numpyro.sample("y", chance(0.2 + 0.3 * (day == "rain")))

    return model


class ForgetsCache(HashDecoder):
    """What was cached counts for nothing."""

    def encode(self, tokens: Array, positions: Array, mask: Array, past: Any = None, past_positions: Any = None) -> Any:
        cached = 0 if past is None else length(past)
        return super().encode(tokens, positions, mask[..., cached:])


class SeesPadding(HashDecoder):
    """Looks at all tokens before one, real or not."""

    def encode(self, tokens: Array, positions: Array, mask: Array, past: Any = None, past_positions: Any = None) -> Any:
        cached = 0 if past is None else length(past)
        new = jnp.tri(tokens.shape[-1], dtype=bool)
        seen = jnp.concatenate([jnp.ones((len(new), cached), bool), new], axis=-1)
        return super().encode(tokens, positions, jnp.broadcast_to(seen, mask.shape), past)


class SeesAhead(HashDecoder):
    """Looks at the tokens that follow."""

    def encode(self, tokens: Array, positions: Array, mask: Array, past: Any = None, past_positions: Any = None) -> Any:
        return super().encode(tokens, positions, mask | jnp.swapaxes(mask, -1, -2) if past is None else mask, past)


class ForgetsPool(HashDecoder):
    """In the packed calls of the staged engine, earlier tokens count for nothing."""

    def encode_rows(self, tokens: Array, positions: Array, rows: Rows, pool: Pages) -> Any:
        return super().encode_rows(tokens, positions, rows._replace(lengths=jnp.zeros_like(rows.lengths)), pool)


class NotFinite(HashDecoder):
    """One token has the logit -inf."""

    def logits(self, hidden: Array) -> Array:
        return super().logits(hidden).at[..., 3].set(-jnp.inf)


def with_decoder(lm: sd.LanguageModel, kind: type[HashDecoder]) -> sd.LanguageModel:
    """A mock language model with another decoder."""
    decoder = lm.decoder
    decoder.__class__ = kind
    graph, params = nnx.split(decoder)
    return sd.LanguageModel(params, graph, lm.codec)
