"""``GumbelReparam``: the noise of a choice as a site of its own, so that it can be inferred."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.infer.reparam import Reparam
from numpyro.primitives import _PYRO_STACK

from ...errors import SiteError
from ..language.choice import Choice
from ..language.mechanism import mechanism_of
from ..language.messages import in_infer
from ..noise.couplings.gumbel import truncated_gumbels
from ..noise.streams import option_gumbels
from .exogenous import exogenous
from .external_scores import NotSeparable, asked
from .intervened import Changed, Drawn, Fixed, intervened


class OptionNoise(dist.Gumbel):
    """One standard Gumbel for each option, ``[*batch, K]``, drawn as a ``Choice`` draws them."""

    pytree_aux_fields = ("options",)

    def __init__(self, options: tuple[str, ...], batch_shape: tuple[int, ...] = ()):
        self.options = options
        super().__init__(jnp.zeros((*batch_shape, len(options))), 1.0)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return option_gumbels(key, self.options, (*sample_shape, *self.batch_shape[:-1]))


class GumbelReparam(Reparam):
    """Turn a choice into a noise site ``<name>_noise`` and a deterministic one.

    ``X = argmax(log p + noise)`` with one standard Gumbel for each option: the joint distribution is
    the same, and under ``handlers.exogenous`` so are the values. An observed choice becomes a noise
    site and a factor ``<name>_evidence``: given the observation the Gumbels are truncated ones, made from
    the noise site (recorded as ``<name>_gumbels``), and the factor is the log-probability of what was
    observed.

    Use it as ``numpyro.handlers.reparam(model, config={"pdl1": GumbelReparam()})``.

    Raises:
        SiteError: the site is no ``Choice`` with the coupling ``"gumbel"`` (under ``"independent"`` worlds do not
            share the noise that would be inferred), or has a soft intervention inside.

    >>> import jax, numpyro, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     return sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    >>> explicit = numpyro.handlers.reparam(model, config={"pdl1": sd.GumbelReparam()})
    >>> a, b = (sd.handlers.exogenous(fn, jax.random.key(0))(lm) for fn in (model, explicit))
    >>> bool(a == b)
    True
    """

    def _as_noise_sees(self, name: str) -> str:
        """The name that a site has where its noise is keyed: with the prefixes of the scopes from here on outward.

        Raises:
            SiteError: which scopes these are is open.
        """
        found = set()
        for place, handler in enumerate(_PYRO_STACK):
            config = handler.config if isinstance(handler, numpyro.handlers.reparam) else None
            if config is None or (isinstance(config, dict) and config.get(name) is not self):
                continue
            outer = name
            for around in reversed(_PYRO_STACK[:place]):
                if isinstance(around, exogenous):
                    break
                if isinstance(around, numpyro.handlers.scope) and "sample" not in around.hide_types:
                    outer = f"{around.prefix}{around.divider}{outer}"
            found.add(outer)
        if len(found) > 1:
            raise SiteError(f"site {name!r}: several reparam handlers with scopes between them; use one of them")
        return found.pop() if found else name

    def __call__(self, name: str, fn: Any, obs: Any) -> tuple[Any, Any]:
        choice, done = mechanism_of(fn), intervened(fn)
        if isinstance(done, Fixed | Drawn):
            # An intervention has taken the choice's place.
            return fn, obs
        if isinstance(done, Changed):
            raise SiteError(f"site {name!r} has a soft intervention; put GumbelReparam inside of do")
        if not isinstance(choice, Choice) or not choice.coupling.gumbels or choice.coupling.redraws:
            raise SiteError(
                f"site {name!r} is no choice with Gumbel noise that worlds share; GumbelReparam cannot take it apart"
            )
        if any(isinstance(handler, asked) for handler in _PYRO_STACK):
            # The choice is asked here, inside of what would answer for the language model.
            raise NotSeparable(f"site {name!r} is taken apart by GumbelReparam")
        logits = jnp.broadcast_to(choice.logits, (*fn.batch_shape, len(choice.options)))
        noise = numpyro.sample(
            f"{name}_noise",
            OptionNoise(choice.options, fn.batch_shape).to_event(1),
            # Keyed as the site itself: the reparametrised model draws the same values.
            infer=in_infer(noise_of=self._as_noise_sees(name)),
        )
        if obs is None:
            return None, jnp.argmax(logits + noise, axis=-1).astype(jnp.int32)
        observed = jax.nn.one_hot(jnp.asarray(obs), len(choice.options), dtype=bool)
        # The observed option's own Gumbel serves as the maximum, whose law does not depend on it.
        top = jnp.where(observed, noise, 0.0).sum(-1)
        numpyro.deterministic(f"{name}_gumbels", truncated_gumbels(noise, top, logits, observed))
        numpyro.factor(f"{name}_evidence", jnp.where(observed, logits, 0.0).sum(-1))
        return None, jnp.asarray(obs, jnp.int32)
