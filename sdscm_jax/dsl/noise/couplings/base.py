"""What a coupling is: how worlds share the noise of a choice, from noise to option and back.

A coupling never changes the distribution of a site in one world; it says how its values in several
worlds go together. ``docs/counterfactuals.md`` shows by how much that matters.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from ...registered import Registered

# Log-probabilities that are no further apart are the same: this much is lost when a language model is asked again.
SAME, SAME_SHARE = 1e-4, 1e-6


class Draws(NamedTuple):
    """How fresh noise is drawn from a key: for some options or tokens, and some draws.

    Attributes:
        uniforms: one for each draw, ``[...]``.
        gumbels: one for each draw and option, ``[..., K]``.
    """

    uniforms: Callable[[Array], Array]
    gumbels: Callable[[Array], Array]


class Coupling(Registered):
    """How worlds share the noise of a choice.

    A subclass says how noise is drawn (``draw``), which option it picks (``respond``), what it was where the option is
    known (``posterior``), and how the options of two worlds go together (``joint``). Noise is any pytree of arrays
    that begin with the shape of the draws; it is made of the key of the site and of the options' texts alone.

    Attributes:
        gumbels: is the noise one standard Gumbel for each option, and the option ``argmax(log p + noise)``? These
            couple the tokens of free text too, and are what ``GumbelReparam`` makes a site of (unless ``redraws``).
        redraws: is the noise drawn anew in a world where an intervention is upstream?
        kept: the share of the draws of such noise that stay as they are all the same (each choice, and each token of
            a text, is one). Where it is 0 the responses of two worlds are independent.
        relative: is the noise of such a world that of the factual one, given the option and the law that the site has
            there (its ``posterior``)? What two other worlds have in common then hangs on the factual one.
        stable: does an option stay where its odds fall against no other (law 6)?
        ordered: does the option hang on the order in which the options are listed?
        keeps_without_losers: does an option that is added, and does not win, change no value in any world (law 7b)?
        of_cells: is what tells of the noise an option's probability, not the logarithm of it? Where float32 has
            none of it, nothing can be told.
    """

    gumbels: ClassVar[bool] = False
    redraws: ClassVar[bool] = False
    kept: float = 0.0
    relative: ClassVar[bool] = False
    stable: ClassVar[bool] = False
    ordered: ClassVar[bool] = False
    keeps_without_losers: ClassVar[bool] = True
    of_cells: ClassVar[bool] = False

    @property
    def of_tokens(self) -> bool:
        """Does it couple the tokens of free text? A relative one then has ``beside``."""
        return self.gumbels

    @property
    def apart(self) -> bool:
        """Are the responses of two worlds independent, if an intervention is upstream?"""
        return self.redraws and not self.kept

    @abstractmethod
    def draw(self, key: Array, options: tuple[str, ...], shape: tuple[int, ...]) -> Any:
        """Prior noise of a choice.

        Args:
            key: PRNG key of the site.
            options: K texts.
            shape: how many draws.
        """

    @abstractmethod
    def respond(self, logits: Array, noise: Any) -> Array:
        """The option that the noise picks, int32 ``[...]``.

        Args:
            logits: normalised log-probabilities ``[..., K]``.
            noise: see ``draw`` and ``posterior``.
        """

    @abstractmethod
    def posterior(self, key: Array, options: tuple[str, ...], logits: Array, index: Array) -> Any:
        """Noise given the option that it picked: an exact draw from its posterior.

        Args:
            key: PRNG key of the site.
            options: K texts.
            logits: normalised log-probabilities ``[..., K]`` in the world of the evidence.
            index: int ``[...]``, the observed options.

        Returns:
            noise that replays ``index`` under ``logits``, for ``respond``.
        """

    def beside(self, key: Array, draws: Draws, logits: Array, index: Array) -> Any:
        """Of a ``relative`` coupling: what another world takes over of the factual token.

        Args:
            key: PRNG key of the token.
            draws: fresh noise.
            logits: normalised log-probabilities ``[..., V]`` in the factual world.
            index: int ``[...]``, the factual tokens; below 0 where that text has ended before.

        Returns:
            noise, for ``respond``; its arrays begin with the shape of ``index``.
        """
        raise NotImplementedError(f"{self!r} couples no free text")

    @abstractmethod
    def joint(self, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """``P(X = a in one world, X = b in the other)`` where the worlds' laws of X are p and q.

        Args:
            p, q: float64 ``[..., K]``, probabilities of one shape. Of a ``relative`` coupling p is the factual law.

        Returns:
            float64 ``[..., K, K]``; its margins are p and q.
        """

    def joint_of_two(self, p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        """Of a ``relative`` coupling: ``P(X = x in the factual world, a in one other and b in another)``.

        Args:
            p, q, r: float64 ``[..., K]``, the laws in these worlds, of one shape.

        Returns:
            float64 ``[..., K, K, K]``; its margins of factual world and another are ``joint``'s.
        """
        raise NotImplementedError(f"{self!r} has no law of two worlds beside the factual one")

    @abstractmethod
    def unknown(self, noise: Any) -> Array:
        """Is noise none (NaN), as that of a value which is no option, bool ``[...]``?"""

    @abstractmethod
    def lead(self, log_probs: Array, noise: Any) -> Array:
        """How far prior noise is from picking another option, ``[...]``: in nats, or in probability; inf of one option.

        Args:
            log_probs: ``[..., K]``.
            noise: what ``draw`` gives.
        """


def same_law(logits: Array, others: Array) -> Array:
    """Are log-probabilities ``[..., K]`` the same, but for what asking a language model again loses, bool ``[...]``?"""
    far_off = jnp.abs(logits - others) > SAME + SAME_SHARE * jnp.abs(others)
    return ~(far_off & (logits != others)).any(-1)


def product(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The joint law ``[..., K, K]`` of independent responses."""
    return np.asarray(p[..., :, None] * q[..., None, :])
