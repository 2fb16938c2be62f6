"""The ``abduct`` handler: a unit of which something was observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jax import Array

from ...checks import function
from ...errors import EvidenceError
from ..analysis.structure import structure
from ..handlers.exogenous import exogenous
from ..handlers.factual import visited
from ..noise.streams import as_key
from .abduction import (
    PARTICLES,
    Abduction,
    abduce,
    check_evidence,
    check_explained,
    check_possible,
    latent_texts,
    parse_particles,
)


class abduct:
    """Run a unit whose noise is drawn given evidence (abduction).

    The model replays the evidence, and ``do(abduct(fn, evidence, key), data)`` is what would have
    happened to the same unit (abduction, action, prediction; Pearl 2009, section 7.1). The noise of an
    observed choice is a truncated Gumbel vector (or, for ``"inverse_cdf"``, a uniform in the cell of
    the option); of free text the same for each token; of a NumPyro site its standardised residual or quantile.
    Unobserved causes of evidence are drawn from their posterior: exactly where they are discrete and
    have at most 4096 joint values, by NUTS where some are continuous, by particles where some are free text.
    Different keys give different draws from the posterior.

    Args:
        fn: the model function, as it was when the evidence arose.
        evidence: site name -> value: a text, an option number, a number or an array.
        key: PRNG key, or an int seed; sites that the evidence says nothing about keep its noise.
        particles: how many there are, where free text is an unobserved cause of evidence.

    Raises:
        EvidenceError: a site is unknown, deterministic or intervened on, cannot have the value, the
            evidence is impossible, what causes it cannot be inferred, too few particles explain it, or what a
            value would have been where its distribution is another one cannot be told.

    >>> import jax, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     return sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> unit = sd.handlers.abduct(model, {"pdl1": "low", "drug": "treat"}, jax.random.key(0))
    >>> unit(lm).text
    'treat'
    >>> sd.handlers.do(unit, {"pdl1": "high"})(lm).text in ("wait", "treat")
    True
    """

    def __init__(self, fn: Callable, evidence: Mapping[str, Any], key: Any, particles: int = PARTICLES):
        self.fn, self.evidence = function(fn, "the model of abduct"), evidence
        self.particles = parse_particles(particles)
        self.key: Array = as_key(key)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found = self.posterior(*args, **kwargs)
        with visited() as seen:
            returned = exogenous(self.fn, self.key, found.noise)(*args, **kwargs)
        for name, site in seen.sites.items():
            if site.given and not site.observed:
                raise EvidenceError(
                    f"site {name!r} is given a value around abduct (as NumPyro's samplers do), which drew its noise "
                    "before, without that value; use numpyro.handlers.condition there, or counterfactual(…, evidence=…)"
                )
        return returned

    def posterior(self, *args: Any, **kwargs: Any) -> Abduction:
        """The noise itself, and the log-probability of the evidence."""
        sites = structure(self.fn, args, kwargs)
        evidence = {name: value for name, (value, _) in check_evidence(self.evidence, sites).items()}
        found = abduce(self.fn, evidence, self.key, sites, args, kwargs, self.particles)
        check_explained(found[1:], latent_texts(list(evidence), sites), self.particles, "abduct")
        check_possible(found.log_prob, "abduct")
        return found
