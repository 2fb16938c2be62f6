"""``Predictive``: NumPyro's, compiled once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer
from jax import Array

from ...checks import count, function, items, mapping, shallow, takes, told
from ...errors import ProgramError, SiteError, nearest
from ...models.executable import Lowered, executable
from ..noise.streams import as_key
from .do import intervened_sites


def _numeric(leaf: Any) -> bool:
    """Is it an array of NumPy's that JAX takes?"""
    plain = isinstance(leaf, np.ndarray) and not isinstance(leaf, np.ma.MaskedArray)
    return plain and (leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number))


class Predictive:
    """``numpyro.infer.Predictive``, jitted: NumPyro's compiles the model anew at every call.

    Args:
        model: a model function.
        posterior_samples: site -> samples with a leading axis, as from ``MCMC.get_samples``. Those of
            sites that ``do`` intervenes on are left out.
        num_samples: how many samples, where there are no posterior ones.
        **options: further arguments of ``numpyro.infer.Predictive``, such as ``return_sites``.

    Raises:
        SDSCMError: ``num_samples`` is no number of at least 1.

    Calling it with a PRNG key and the model's arguments (arrays and language models are traced; a
    call with the same shapes does not compile again, unless what the model reads has changed) gives site -> samples.

    >>> import jax, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     return sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    >>> draws = sd.Predictive(model, num_samples=5)
    >>> draws(jax.random.key(0), lm)["pdl1"].shape
    (5,)
    """

    def __init__(
        self,
        model: Callable,
        posterior_samples: Mapping[str, Any] | None = None,
        *,
        num_samples: int | None = None,
        return_sites: Sequence[str] | None = None,
        **options: Any,
    ):
        num_samples = None if num_samples is None else count(num_samples, "num_samples", most=2**31 - 1)
        return_sites = None if return_sites is None else list(items(return_sites, "return_sites", single=str))
        self._model = function(model)
        done = intervened_sites(model)
        self._posterior = None
        if posterior_samples is not None:
            # An intervention holds whatever was inferred of the site.
            self._posterior = {
                name: x for name, x in mapping(posterior_samples, "posterior_samples").items() if name not in done
            }
        options = {"parallel": True, **options}

        def run(key: Array, posterior: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
            draw = numpyro.infer.Predictive(
                model, posterior, num_samples=num_samples, return_sites=return_sites, **options
            )
            found = draw(key, *args, **kwargs)
            for name in return_sites or ():
                if name and name not in found:
                    raise SiteError(f"return_sites are sites of the model, got {told(name)}; {nearest(name, found)}")
            return found

        self._run = run

    def __call__(self, key: Array, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Samples of the sites that are not among the posterior samples."""
        key = key if isinstance(key, jax.core.Tracer) else as_key(key)
        takes(self._model, args, kwargs)
        shallow((args, kwargs), "an argument of the model", ProgramError)
        for leaf in jax.tree.leaves((args, kwargs)):
            if isinstance(leaf, int) and not -(2**31) <= leaf < 2**31:
                raise ProgramError(f"an integer among the model's arguments has 32 bits, got {told(leaf)}")
            if not isinstance(leaf, jax.Array | bool | int | float | np.generic) and not _numeric(leaf):
                raise ProgramError(f"the model's arguments are arrays and language models, got {told(leaf)}")
        inputs = key, self._posterior, args, kwargs
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(inputs)):
            return self._run(*inputs)
        # A function of this call, so that JAX traces what the model says now.
        lowered = jax.jit(lambda *inputs: self._run(*inputs)).lower(*inputs)
        return executable(Lowered.of(lowered, quick=False))(*inputs)
