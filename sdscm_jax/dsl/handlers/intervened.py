"""Distributions of sites that are intervened on.

``Fixed``: set to a value; it is observed as far as NumPyro's inference is concerned and adds nothing to the density.
``Drawn``: a distribution has taken the mechanism's place (a stochastic intervention). ``Changed``: the value is a
function of the natural one (a soft intervention, a policy). The last two are latent sites with the intervened law.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from ...errors import InterventionError
from ..noise.streams import option_gumbels, stream

# Values of a site that a change is applied to one after another.
_ONE_BY_ONE = 64
# What changes a natural value: of that value and the site's key (not the one that the natural value is drawn with).
Change = Callable[[Any, Any], Array]


class Fixed(dist.Delta):
    """A site that is set to a constant; it remembers what it replaced, so that another intervention
    on the same site knows its options."""

    def __init__(self, value: Array, replaced: dist.Distribution):
        super().__init__(value, event_dim=replaced.event_dim)
        self.replaced = replaced

    def expand(self, batch_shape: Sequence[int]) -> Fixed:
        shape = tuple(batch_shape)
        return Fixed(jnp.broadcast_to(self.v, (*shape, *self.event_shape)), self.replaced.expand(shape))

    def mask(self, mask: Any) -> Fixed:
        """It adds nothing to the density, masked or not."""
        return self


class Intervened(dist.Distribution):
    """A site whose value an intervention draws, or makes of the natural one.

    Attributes:
        replaced: the site's own distribution.
        name: of the site, for messages.
    """

    pytree_data_fields: tuple[str, ...] = ()
    pytree_aux_fields: tuple[str, ...] = ("name",)
    # NumPyro's default is True where there are no constrained arguments.
    has_rsample = False

    def __init__(self, replaced: dist.Distribution, name: str):
        self.replaced, self.name = replaced, name
        super().__init__(replaced.batch_shape, replaced.event_shape)

    @property
    def inputs(self) -> Any:
        """What its value depends on."""
        raise NotImplementedError


class Uniform(dist.CategoricalProbs):
    """One option as likely as another, drawn with noise that is keyed by their texts."""

    pytree_aux_fields = ("options",)

    def __init__(self, options: tuple[str, ...], batch_shape: tuple[int, ...] = ()):
        self.options = options
        super().__init__(jnp.full((*batch_shape, len(options)), 1 / len(options)))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        gumbels = option_gumbels(key, self.options, (*sample_shape, *self.batch_shape))
        return jnp.argmax(gumbels, axis=-1).astype(jnp.int32)


class Drawn(Intervened):
    """A stochastic intervention. It has noise of its own, which is the same in all worlds.

    Attributes:
        law: the distribution that it is drawn from, of the site's batch shape.
        take: makes what it draws the site's value.
    """

    pytree_data_fields = ("law",)

    def __init__(self, law: dist.Distribution, replaced: dist.Distribution, name: str, take: Callable[[Any], Array]):
        super().__init__(replaced, name)
        self.law, self.take = law.expand(replaced.batch_shape), take

    def expand(self, batch_shape: Sequence[int]) -> Drawn:
        return Drawn(self.law, self.replaced.expand(batch_shape), self.name, self.take)

    @property
    def support(self) -> Any:
        return self.law.support

    @property
    def has_enumerate_support(self) -> bool:
        return self.law.has_enumerate_support

    @property
    def inputs(self) -> Any:
        return getattr(self.law, "inputs", self.law)

    def enumerate_support(self, expand: bool = True) -> Array:
        return self.law.enumerate_support(expand)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.take(self.law.sample(stream(key, "intervention"), sample_shape))

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log-probability of the value that the intervention draws."""
        found, inside = self.law.log_prob(value), self.law.support(value)
        return jnp.where(inside, found, -jnp.inf)


class Changed(Intervened):
    """A soft intervention or a policy: its value is a function of the natural one.

    Its law is known where the natural value is one of finitely many: that of the images of these, each member of a
    plate by itself.

    Attributes:
        base_dist: the natural distribution.
        change: what it is changed by.
        drawn: whether a value was drawn (shared by copies).
    """

    pytree_data_fields = ("base_dist", "_table")

    def __init__(
        self, base_dist: dist.Distribution, change: Change, replaced: dist.Distribution, name: str, dtype: Any
    ):
        super().__init__(replaced, name)
        self.base_dist, self.change, self.dtype = base_dist, change, dtype
        self.drawn: list[bool] = []
        self._table: Any = None
        # Of the natural value, where it is not the site's.
        self.natural_key: Any = None

    def expand(self, batch_shape: Sequence[int]) -> Changed:
        new = copy.copy(self)
        new.base_dist, new.replaced = self.base_dist.expand(batch_shape), self.replaced.expand(batch_shape)
        dist.Distribution.__init__(new, new.replaced.batch_shape, new.replaced.event_shape)
        return new

    @property
    def support(self) -> Any:
        return self.base_dist.support

    @property
    def has_enumerate_support(self) -> bool:
        return self.base_dist.has_enumerate_support and not self.event_shape

    @property
    def inputs(self) -> Any:
        """What the natural value depends on is found by following ``base_dist``; this is what the change reads."""
        change = self.__dict__.get("change")
        return () if change is None else change(jnp.zeros(self.shape(), self.dtype), None)

    def enumerate_support(self, expand: bool = True) -> Array:
        values = self.base_dist.enumerate_support(expand=False).reshape(-1, *(1,) * len(self.batch_shape))
        return jnp.broadcast_to(values, (len(values), *self.batch_shape)) if expand else values

    def widened(self) -> Changed:
        """The same with the axes of enumerated sites that the change reads."""
        images, log_probs = self.table
        shape = jnp.broadcast_shapes(self.batch_shape, images.shape[:-1], log_probs.shape[:-1])
        new = copy.copy(self)
        dist.Distribution.__init__(new, shape, self.event_shape)
        return new

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        self.drawn.append(True)
        own = key if self.natural_key is None else self.natural_key
        return self.change(self.base_dist.sample(own, sample_shape), key)

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log-probability of the value after the change.

        Raises:
            InterventionError: the natural value is not one of finitely many, so that the law is not known.
        """
        if not self.has_enumerate_support:
            raise no_density(self.name)
        images, log_probs = self.table
        value = jnp.asarray(value)
        same = images == value[..., None]
        return jax.nn.logsumexp(jnp.where(same, log_probs, -jnp.inf), axis=-1)

    @property
    def table(self) -> tuple[Array, Array]:
        """Images ``[..., K]`` of the natural values, and the log-probabilities ``[..., K]`` of these."""
        if self._table is None:
            self._table = self._images()
        return self._table

    def _images(self) -> tuple[Array, Array]:
        support = self.base_dist.enumerate_support(expand=True)
        log_probs = jnp.moveaxis(self.base_dist.log_prob(support), 0, -1)
        if len(support) > _ONE_BY_ONE:
            changed = jnp.moveaxis(jax.vmap(lambda value: self.change(value, None))(support), 0, -1)
        else:
            changed = jnp.stack([jnp.asarray(self.change(value, None)) for value in support], -1)
        by_member = self._by_member(support, changed)
        return changed, log_probs if by_member is True else jnp.where(by_member, log_probs, jnp.nan)

    def _by_member(self, support: Array, changed: Array) -> Any:
        """Is each member of a plate changed by itself?

        Raises:
            InterventionError: it is known not to be.
        """
        members, size = support[0].size, len(support)
        if members < 2:
            return True
        right = jnp.bool_(True)
        for shift in range(min(size, _ONE_BY_ONE)):
            # Members have different values: the image of each must be the one that it has among its like.
            mixed = (jnp.arange(members) * (jnp.arange(members) + 1) // 2 + shift).reshape(support[0].shape) % size
            given = jnp.take_along_axis(support, mixed[None], axis=0)[0]
            expected = jnp.take_along_axis(changed, jnp.broadcast_to(mixed, changed.shape[:-1])[..., None], -1)[..., 0]
            right = right & (jnp.asarray(self.change(given, None)) == expected).all()
        if not isinstance(right, jax.core.Tracer):
            if not right:
                raise InterventionError(
                    f"site {self.name!r}: the intervention changes a member of a plate by what others are; its density "
                    "is known only where each is changed by itself"
                )
            return True
        return right

    def tree_flatten(self) -> Any:
        # What leaves a trace (a loop stacks what it recorded) takes its law with it, and no function: that may
        # hold values of the trace.
        table = self._table
        if table is None and self.has_enumerate_support and self.__dict__.get("change") is not None:
            try:
                table = self.table
            except InterventionError:
                table = None
        fields = type(self).gather_pytree_data_fields()
        aux = type(self).gather_pytree_aux_fields()
        data = {"base_dist": self.base_dist, "_table": table}
        return tuple(data[f] for f in fields), tuple(self.__dict__.get(f) for f in aux)


def no_density(name: str) -> InterventionError:
    """The error where inference asks for the law of a soft intervention that has none in closed form."""
    return InterventionError(
        f"site {name!r} has a soft intervention (a function of its natural value) and infinitely many values: its "
        "density is not known, so inference can only draw it. Give no value for it, or intervene with a distribution"
    )


def unmasked(fn: Any) -> Any:
    """A distribution without masks and expansions around it."""
    while isinstance(fn, dist.MaskedDistribution | dist.ExpandedDistribution):
        fn = fn.base_dist
    return fn


def intervened(fn: Any) -> Fixed | Intervened | None:
    """What an intervention has made of a site's distribution; None where there is none."""
    fn = unmasked(fn)
    return fn if isinstance(fn, Fixed | Intervened) else None


def natural_key(fn: Any, key: Array) -> Array:
    """The key that a site's natural value is drawn with; ``key`` is the site's."""
    found = getattr(intervened(fn), "natural_key", None)
    return key if found is None else found


def keyed(fn: Any, natural: Array, key: Array) -> tuple[Any, Array]:
    """A site's distribution and key, with another key for its natural value.

    What an intervention draws is the same in all worlds, so its key stays.
    """
    if intervened(fn) is None:
        return fn, natural
    new = copy.copy(fn)
    if isinstance(fn, Intervened):
        new.natural_key = natural
    elif not isinstance(fn, Fixed):
        new.base_dist, _ = keyed(fn.base_dist, natural, key)
    return new, key


def takes_noise(fn: Any) -> bool:
    """Does a site's natural noise matter to its value?"""
    while isinstance(found := intervened(fn), Changed):
        fn = found.base_dist
    return found is None


def natural(fn: Any) -> Any:
    """The distribution of a site's natural value."""
    while (found := intervened(fn)) is not None and getattr(found, "replaced", None) is not None:
        fn = found.replaced
    return fn
