"""A site by itself: its draws, its density, its support and its noise agree."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import Distribution
from scipy.stats import kstest

from ..checks import count, told
from ..dsl.handlers.recovered_noise import enumerable
from ..dsl.language.mechanism import Mechanism
from ..dsl.noise.streams import as_key
from ..errors import SDSCMError
from .distributions import FALSE_ALARM, surprise
from .failure import require, same_rows

# Beyond it memory is what is found out about.
MOST_DRAWS = 10_000_000


def check_site(site: Any, key: Any = 0, *, draws: int = 4000) -> None:
    """A distribution (a ``Choice``, a ``Text``, NumPyro's or your own) may be a site.

    - A draw depends on its key only: one at a time, vectorised and jitted it is the same; and the
      distribution is a pytree, which comes out of ``jax.jit`` as it went in.
    - Draws lie in the support and have a finite log-probability, of the batch shape.
    - With finitely many values: probabilities sum to 1, and draws have these frequencies. With a ``cdf``: draws are
      distributed by it.
    - Of a mechanism: a draw is the response to the noise of its key, and noise that was drawn given
      a value replays it.

    Args:
        site: the distribution.
        key: PRNG key, or an int seed.
        draws: how many draws.

    Raises:
        AssertionError: names what does not hold, with values. Frequencies fail by chance with probability 1e-7.

    >>> import numpyro.distributions as dist
    >>> check_site(dist.Binomial(3, 0.2))
    """
    key, draws = as_key(key), count(draws, "draws", most=MOST_DRAWS)
    if not isinstance(site, Distribution):
        raise SDSCMError(f"a site is a distribution of NumPyro, a Choice or a Text, got {told(site)}")
    keys = jax.random.split(key, draws)
    name = type(site).__name__
    values = np.asarray(jax.jit(lambda site, keys: jax.vmap(site.sample)(keys))(site, keys))
    shape = (*site.batch_shape, *site.event_shape)
    require(values.shape[1:] == shape, name, f"a draw has the shape {values.shape[1:]}, expected {shape}")
    alone = np.asarray(site.sample(keys[0]))
    require(_close(alone, values[0]), name, f"a draw from the same key is {alone}, vectorised it is {values[0]}")
    inside = np.asarray(site.support(jnp.asarray(values)))
    require(inside.all(), name, f"a draw lies outside of the support: {_first(values, ~inside)}")
    density = np.asarray(jax.jit(lambda site, x: jax.vmap(site.log_prob)(x))(site, values))
    expected = (draws, *site.batch_shape)
    require(density.shape == expected, name, f"log_prob of draws has the shape {density.shape}, expected {expected}")
    finite = np.isfinite(density)
    require(finite.all(), name, f"log_prob of a draw is {_first(density, ~finite)}: of {_first(values, ~finite)}")
    if enumerable(site):
        _check_frequencies(site, name, values)
    elif not site.event_shape and not site.support.is_discrete:
        _check_cdf(site, name, values)
    if isinstance(site, Mechanism):
        _check_noise(site, name, keys, values)


def _check_frequencies(site: Any, name: str, values: np.ndarray) -> None:
    support = site.enumerate_support(expand=False)
    probs = np.exp(np.asarray(site.log_prob(support), np.float64))
    probs = np.broadcast_to(probs, (len(support), *site.batch_shape)).reshape(len(support), -1)
    total = probs.sum(0)
    require(np.allclose(total, 1, atol=1e-3), name, f"its probabilities sum to {total.tolist()}, not to 1")
    counts = np.stack([(values == x).sum(0).reshape(-1) for x in np.asarray(support).reshape(-1)])
    for drawn, expected in zip(counts.T, (probs / total).T, strict=True):
        require(drawn.sum() == len(values), name, "draws are not among the values of enumerate_support")
        unlikely = surprise(drawn, expected).min() < FALSE_ALARM / probs.size
        what = f"its values have the shares {(drawn / len(values)).tolist()}, expected {expected.round(4).tolist()}"
        require(not unlikely, name, what)


def _check_cdf(site: Any, name: str, values: np.ndarray) -> None:
    try:
        quantiles = np.asarray(site.cdf(jnp.asarray(values)), np.float64)
    except NotImplementedError:
        return
    columns = quantiles.reshape(len(values), -1).T
    for column in columns:
        found = kstest(column, "uniform")
        what = f"its draws are not distributed by its cdf (Kolmogorov-Smirnov {found.statistic:.3f})"
        require(found.pvalue > FALSE_ALARM / len(columns), name, what)


def _check_noise(site: Mechanism, name: str, keys: Array, values: np.ndarray) -> None:
    @jax.jit
    def answers(site: Mechanism, keys: Array, values: Array) -> tuple[Array, Array]:
        def one(key: Array, value: Array) -> tuple[Array, Array]:
            noise = site.draw_noise(key, site.batch_shape)
            given = site.posterior_noise(jax.random.fold_in(key, 1), value)
            return site.respond(noise), site.respond(given)

        return jax.vmap(one)(keys, values)

    some = slice(0, 500)
    drawn, replayed = answers(site, keys[some], jnp.asarray(values[some]))
    for found, law in (
        (drawn, "a draw is the response to the noise of its key"),
        (replayed, "noise given a value replays it"),
    ):
        wrong = ~same_rows(np.asarray(found), values[some])
        what = f"{law}: {_first(np.asarray(found), wrong)}, expected {_first(values[some], wrong)}"
        require(not wrong.any(), name, what)


def _first(values: np.ndarray, where: np.ndarray) -> Any:
    rows = where.reshape(len(where), -1).any(1)
    return values[rows][0].tolist() if rows.any() else None


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=1e-4, atol=1e-5) if a.dtype.kind == "f" else (a == b).all())
