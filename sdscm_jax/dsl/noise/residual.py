"""What a value becomes where its distribution is another one of the same family, and its noise is the same.

The noise of a value is the standard variable that the distribution makes it of, as its own draws do: the
standardised residual of a location-scale family, the exponential of a Weibull, what a transform is applied to.
Where the shape of the family differs too, it is the quantile (``tails``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import transforms

from .tails import BETA, GAMMA, LOG_CDFS, SKEWED_LAPLACE, STUDENT, Between, Tails, carried, truncated

# A quantile that is off by this share of a value has been lost.
_LOST = 1e-3
_WRAPPERS = (dist.ExpandedDistribution, dist.Independent, dist.MaskedDistribution)
_NOT_INVERTIBLE = (transforms.AbsTransform, transforms.L1BallTransform)


class Form(NamedTuple):
    """How a distribution makes values of a standard variable: ``value = realise(standard)``.

    Attributes:
        parameters: all that it depends on, of the shape of a value or one that broadcasts to it.
        standard: from a value to the standard variable.
        realise: back.
        shape: what the law of the standard variable depends on.
        tails: that law.
    """

    parameters: tuple[Any, ...]
    standard: Callable[[Array], Any]
    realise: Callable[[Any], Array]
    shape: tuple[Any, ...] = ()
    tails: Tails | None = None


def core(fn: dist.Distribution) -> dist.Distribution:
    """A distribution without what handlers put around it, which changes no draw."""
    while isinstance(fn, _WRAPPERS):
        fn = fn.base_dist
    return fn


def moved(old: dist.Distribution, new: dist.Distribution, value: Array) -> tuple[Array, Array] | None:
    """A value of ``old`` as a value of ``new`` with the same noise.

    Returns:
        the value, and where the distributions are the same (there it is the value, bit for bit); infinite where
        float32 cannot hold it. None: the noise cannot be told from a value of this distribution.
    """
    old, new = core(old), core(new)
    if type(old) is not type(new):
        return None
    if isinstance(old, dist.TransformedDistribution):
        found = _transformed(old, new, value)
    elif isinstance(old, dist.MultivariateNormal):
        found = _multivariate(old, new, value)
    else:
        found = _scalar(old, new, value)
    if found is None:
        return None
    other, alike = found
    if jnp.issubdtype(jnp.result_type(other), jnp.floating):
        other = jnp.where(jnp.isfinite(other), other, jnp.inf)
    return jnp.where(alike, value, other), alike


def same(old: dist.Distribution, new: dist.Distribution) -> Array:
    """Are two distributions the same in all their parameters?"""
    a, b = (jax.tree.leaves(core(fn)) for fn in (old, new))
    if len(a) != len(b):
        return jnp.bool_(False)
    return jnp.stack([jnp.bool_(True), *(jnp.array_equal(x, y) for x, y in zip(a, b, strict=True))]).all()


def _equal(a: tuple[Any, ...], b: tuple[Any, ...]) -> Array:
    found = jnp.bool_(True)
    for x, y in zip(a, b, strict=True):
        found = found & (jnp.asarray(x) == jnp.asarray(y))
    return found


def _scalar(old: Any, new: Any, value: Array) -> tuple[Array, Array] | None:
    make = next((_FORMS[kind] for kind in type(old).__mro__ if kind in _FORMS), None)
    before, after = (None, None) if make is None else (make(old), make(new))
    if before is None or after is None:
        return _by_quantile(old, new, value)
    standard = before.standard(value)
    other = after.realise(standard)
    if not _known_equal(before.shape, after.shape):
        alike = _equal(before.shape, after.shape)
        if before.tails is None:
            other = jnp.where(alike, other, jnp.nan)
        else:
            far, told = carried(before.tails, before.shape, after.shape, standard)
            other = jnp.where(alike, other, jnp.where(told, after.realise(far), jnp.inf))
    return other, _equal(before.parameters, after.parameters)


def _known_equal(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    if any(isinstance(x, jax.core.Tracer) for x in (*a, *b)):
        return False
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _transformed(old: Any, new: Any, value: Array) -> tuple[Array, Array] | None:
    steps = list(zip(old.transforms, new.transforms, strict=True))
    if any(isinstance(step, _NOT_INVERTIBLE) or type(step) is not type(other) for step, other in steps):
        return None
    base = value
    try:
        for step, _ in reversed(steps):
            base = step._inverse(base)
    except NotImplementedError:
        return None
    found = moved(old.base_dist, new.base_dist, base)
    if found is None:
        return None
    other, alike = found
    for _, step in steps:
        other = step(other)
    if jnp.shape(alike) != () and any(step.domain.event_dim or step.codomain.event_dim for step, _ in steps):
        alike = alike.all()
    unchanged = _equal(*(tuple(jax.tree.leaves(x.transforms)) for x in (old, new)))
    return other, alike & unchanged


def _multivariate(old: Any, new: Any, value: Array) -> tuple[Array, Array]:
    def scale(fn: Any) -> Array:
        return jnp.broadcast_to(fn.scale_tril, (*jnp.shape(value), jnp.shape(value)[-1]))

    centred = (value - old.loc)[..., None]
    standard = jax.lax.linalg.triangular_solve(scale(old), centred, left_side=True, lower=True)
    return new.loc + (scale(new) @ standard)[..., 0], same(old, new)


def _by_quantile(old: Any, new: Any, value: Array) -> tuple[Array, Array] | None:
    """By the distribution function that NumPyro has, as far as float32 goes."""
    if old.event_shape or old.support.is_discrete:
        return None
    try:
        jax.eval_shape(lambda value: old.icdf(old.cdf(value)), value)
    except (NotImplementedError, ImportError):  # some need a package that is not installed
        return None
    quantile, step = old.cdf(value), jnp.finfo(jnp.float32).eps
    other = new.icdf(quantile)

    def lost(fn: Any, value: Array, error: Array) -> Array:
        width = jnp.abs(fn.icdf(jnp.float32(0.75)) - fn.icdf(jnp.float32(0.25)))
        return ~(jnp.abs(error) <= _LOST * jnp.maximum(jnp.abs(value), width))

    spread = new.icdf(jnp.minimum(quantile + step, 1.0)) - new.icdf(jnp.maximum(quantile - step, 0.0))
    gone = lost(old, value, old.icdf(quantile) - value) | lost(new, other, spread)
    return jnp.where(gone, jnp.inf, other), same(old, new)


# -- families ------------------------------------------------------------------------------------------------


def _located(loc: Any, scale: Any, shape: tuple[Any, ...] = (), tails: Tails | None = None) -> Form:
    def standard(value: Array) -> Array:
        return (value - loc) / scale

    return Form((loc, scale, *shape), standard, lambda z: loc + scale * z, shape, tails)


def _kumaraswamy(fn: Any) -> Form:
    a, b = fn.concentration1, fn.concentration0

    def standard(x: Array) -> Array:
        power = a * jnp.log(x)
        # log(1 - x**a), whichever of the two is small.
        small = jnp.log1p(-jnp.exp(jnp.minimum(power, -0.5)))
        return -b * jnp.where(power < -0.5, small, jnp.log(-jnp.expm1(jnp.maximum(power, -0.5))))

    return Form((a, b), standard, lambda e: jnp.exp(jnp.log(-jnp.expm1(-e / b)) / a))


def _weibull(fn: Any) -> Form:
    k, scale = fn.concentration, fn.scale
    # The exponential's logarithm: its powers leave float32 soon.
    return Form((k, scale), lambda x: k * (jnp.log(x) - jnp.log(scale)), lambda e: jnp.exp(e / k + jnp.log(scale)))


def _gompertz(fn: Any) -> Form:
    c, rate = fn.concentration, fn.rate
    return Form((c, rate), lambda x: c * jnp.expm1(rate * x), lambda e: jnp.log1p(e / c) / rate)


def _uniform(fn: Any) -> Form:
    form = _located(fn.low, fn.high - fn.low)
    return form._replace(parameters=(fn.low, fn.high), realise=lambda z: jnp.clip(form.realise(z), fn.low, fn.high))


def _circular(fn: Any) -> Form:
    def realise(angle: Array) -> Array:
        return (angle + fn.loc + jnp.pi) % (2 * jnp.pi) - jnp.pi

    return Form((fn.loc, fn.concentration), lambda x: x - fn.loc, realise, (fn.concentration,))


def _truncated(fn: Any) -> Form | None:
    base = fn.base_dist
    kind = type(base).__name__
    if kind not in LOG_CDFS:
        return None
    bounds = tuple(getattr(fn, end) for end in ("low", "high") if hasattr(fn, end))
    low, high = getattr(fn, "low", -jnp.inf), getattr(fn, "high", jnp.inf)

    def standard(value: Array) -> Between:
        return Between((value - base.loc) / base.scale, (value - low) / base.scale, (high - value) / base.scale)

    def realise(point: Between) -> Array:
        from_bound = jnp.where(
            point.above_low <= point.below_high,
            low + base.scale * point.above_low,
            high - base.scale * point.below_high,
        )
        return jnp.clip(from_bound, low, high)

    ends = ((low - base.loc) / base.scale, (high - base.loc) / base.scale)
    return Form((base.loc, base.scale, *bounds), standard, realise, ends, truncated(kind))


def _gamma(fn: Any) -> Form:
    return _located(0.0, 1 / fn.rate, (fn.concentration,), GAMMA)


_FORMS: dict[type, Callable[[Any], Form | None]] = {
    **dict.fromkeys(
        (dist.Normal, dist.Laplace, dist.Logistic, dist.Cauchy, dist.Gumbel, dist.SoftLaplace, dist.Levy),
        lambda fn: _located(fn.loc, fn.scale),
    ),
    **dict.fromkeys((dist.HalfNormal, dist.HalfCauchy), lambda fn: _located(0.0, fn.scale)),
    dist.Delta: lambda fn: Form((fn.v,), lambda x: x, lambda x: jnp.broadcast_to(fn.v, jnp.shape(x))),
    dist.Exponential: lambda fn: _located(0.0, 1 / fn.rate),
    dist.Uniform: _uniform,
    dist.StudentT: lambda fn: _located(fn.loc, fn.scale, (fn.df,), STUDENT),
    dist.AsymmetricLaplace: lambda fn: _located(fn.loc, fn.scale, (fn.asymmetry,), SKEWED_LAPLACE),
    dist.AsymmetricLaplaceQuantile: lambda fn: _located(
        fn._ald.loc, fn._ald.scale, (fn._ald.asymmetry,), SKEWED_LAPLACE
    ),
    dist.Gamma: _gamma,
    dist.Beta: lambda fn: _located(0.0, 1.0, (fn.concentration1, fn.concentration0), BETA),
    dist.Weibull: _weibull,
    dist.Gompertz: _gompertz,
    dist.Kumaraswamy: _kumaraswamy,
    dist.VonMises: _circular,
    **dict.fromkeys(
        (dist.LeftTruncatedDistribution, dist.RightTruncatedDistribution, dist.TwoSidedTruncatedDistribution),
        _truncated,
    ),
}
