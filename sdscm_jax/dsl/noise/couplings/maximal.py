"""``"maximal"``: a world agrees with the factual one as often as the two laws allow."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..streams import option_gumbels, stream, uniforms
from .base import Draws, same_law
from .gumbel import Gumbel, races


class Matched(NamedTuple):
    """What the factual world leaves to others.

    Attributes:
        option: int32 ``[...]``, the factual option; below 0 where there is none (a text that has ended).
        logits: float32 ``[..., K]``, the law that it was drawn from.
        threshold: float32 ``[...]``, uniform: the option stays where its probability falls by no more than this factor.
        rest: float32 ``[..., K]``, a Gumbel for each option, which picks another one where it does not stay.
    """

    option: Array
    logits: Array
    threshold: Array
    rest: Array


class Maximal(Gumbel):
    """Where X is x in the factual world, by the law p, it stays x in a world of the law q with chance ``q(x) / p(x)``
    (or 1, where that is more).

    Else it is drawn from what q has more than p, ``(q - p)+`` normalised. So X has the law q there, and agrees with the
    factual one with probability ``sum_k min(p_k, q_k) = 1 - TV(p, q)``, which no coupling exceeds: the maximal coupling
    (Thorisson 2000, "Coupling, Stationarity, and Regeneration", chapter 1; drawn as in Jacob, O'Leary and Atchadé 2020,
    arXiv 1708.03625, section 4.1, with one Gumbel an option in place of their rejection).

    Of free text this is done token by token: each token of a world's text is drawn beside the one that the factual text
    has at its place, with the laws that the two have after what was written before them. (That is how a draft is
    accepted in speculative decoding: Leviathan, Kalman and Matias 2023, arXiv 2211.17192, Algorithm 1.) Beyond the end
    of the factual text the law is drawn from alone.

    In the factual world X is that of ``"gumbel"``. A world's noise is relative to it: the factual law of the site is
    asked for too, wherever an intervention is upstream (inside ``scan`` and ``cond`` it is not at hand, and refused).
    No function of one world's law and of noise alone attains the maximum for all pairs of laws (Bavarian et al. 2016,
    arXiv 1612.01041). Of more than two worlds, each is maximal with the factual one; two others share the threshold
    and the Gumbels, and agree as often as that makes them. The threshold is a ratio of normalised probabilities, so an
    option that is added may change other worlds' values without winning (law 7b holds of the factual world, and of the
    order of options everywhere).
    """

    name = "maximal"
    says = "a world agrees with the real one as often as the probabilities allow"
    gumbels = False
    relative = True
    keeps_without_losers = False

    def respond(self, logits: Array, noise: Any) -> Array:
        """The option of ``"gumbel"``, or what the factual option leads to.

        >>> p, q = jnp.log(jnp.array([0.5, 0.5, 0.0])), jnp.log(jnp.array([0.25, 0.5, 0.25]))
        >>> noise = Matched(jnp.array([0, 0, 1]), jnp.stack([p] * 3), jnp.array([0.4, 0.6, 0.9]), jnp.zeros((3, 3)))
        >>> Maximal().respond(q, noise).tolist()
        [0, 2, 1]
        """
        if not isinstance(noise, Matched):
            return super().respond(logits, noise)
        logits, p = jnp.broadcast_arrays(logits, noise.logits)
        more = jnp.where(logits > p, logits + jnp.log1p(-jnp.exp(jnp.minimum(p - logits, 0.0))), -jnp.inf)
        option = jnp.maximum(noise.option, 0)[..., None]
        before, here = (jnp.take_along_axis(x, option, axis=-1)[..., 0] for x in (p, logits))
        stays = same_law(logits, p) | (jnp.log(noise.threshold) < here - before)
        # (Where rounding has left q nothing more than p, the laws are the same.)
        stays |= ~jnp.isfinite(more).any(-1)
        none = noise.option < 0
        return jnp.where(
            stays & ~none, noise.option, super().respond(jnp.where(none[..., None], logits, more), noise.rest)
        )

    def posterior(self, key: Array, options: tuple[str, ...], logits: Array, index: Array) -> Matched:
        """The option and its law; threshold and Gumbels are independent of these, so theirs is the prior.

        >>> import jax
        >>> logits = jnp.log(jnp.array([0.2, 0.5, 0.3]))
        >>> noise = Maximal().posterior(jax.random.key(0), ("a", "b", "c"), logits, jnp.array(2))
        >>> int(Maximal().respond(logits, noise))
        2
        """
        draws = Draws(lambda key: uniforms(key, index.shape), lambda key: option_gumbels(key, options, index.shape))
        return self.beside(key, draws, logits, index)

    @property
    def of_tokens(self) -> bool:
        """It does."""
        return True

    def beside(self, key: Array, draws: Draws, logits: Array, index: Array) -> Matched:
        """The same of a token."""
        logits = jnp.broadcast_to(logits, (*index.shape, logits.shape[-1])).astype(jnp.float32)
        threshold, rest = draws.uniforms(stream(key, "threshold")), draws.gumbels(stream(key, "rest"))
        return Matched(index.astype(jnp.int32), logits, threshold, rest)

    def joint(self, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """``min(p_a, q_a)`` on the diagonal, and ``(p_a - q_a)+ (q_b - p_b)+ / TV`` beside it."""
        less, more = np.maximum(p - q, 0.0), np.maximum(q - p, 0.0)
        apart = less.sum(-1)[..., None, None]
        moved = less[..., :, None] * more[..., None, :] / np.where(apart > 0, apart, 1.0)
        return np.asarray(np.eye(p.shape[-1]) * np.minimum(p, q)[..., :, None] + moved)

    def joint_of_two(self, p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        """``P(X = x in the factual world, a and b in two others)``, float64 ``[..., K, K, K]``; see ``Coupling``."""
        kept = [np.divide(np.minimum(law, p), p, out=np.ones_like(p), where=p > 0) for law in (q, r)]
        first, second = (x[..., :, None, None] for x in kept)
        rest = [_normalised(np.maximum(law - p, 0.0)) for law in (q, r)]
        eye = np.eye(p.shape[-1])
        stays_a, stays_b = eye[:, :, None], eye[:, None, :]
        goes_a, goes_b = rest[0][..., None, :, None], rest[1][..., None, None, :]
        both = np.minimum(first, second) * stays_a * stays_b
        one = np.maximum(first - second, 0.0) * stays_a * goes_b + np.maximum(second - first, 0.0) * goes_a * stays_b
        neither = (1 - np.maximum(first, second)) * races(*rest)[..., None, :, :]
        return np.asarray(p[..., :, None, None] * (both + one + neither))

    def unknown(self, noise: Any) -> Array:
        """NaN in the threshold, or in the first of the Gumbels, stands for all."""
        return jnp.isnan(noise.threshold) if isinstance(noise, Matched) else super().unknown(noise)


def _normalised(weights: np.ndarray) -> np.ndarray:
    """Weights ``[..., K]`` as probabilities; uniform where there are none (they are not used)."""
    total = weights.sum(-1, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1.0), 1.0 / weights.shape[-1])
