"""Causal effects of programs, exact or over simulated units, and what they depend on.

Every effect takes a source: ``exact(model, …)`` contracts the tables of a program whose sites have finitely many
values; ``sampled(model, key, n, …)`` simulates the worlds that an effect needs; a ``Simulation`` has the worlds that
it has; a ``Tabulated`` program is exact.
"""

from .adjustment import Adjustment, adjustment_sets, backdoor, frontdoor, naive
from .average import ate, att, cate, contrasts
from .contraction import Cost, Limits
from .distances import total_variation, wasserstein
from .effect import Effect
from .exact_source import Exact, exact
from .factors import Factor, Network, network
from .identification import Identified, identify
from .individual import Contrast, IndividualEffects, contrast, ite
from .mediation import cde, mediators_between, nde, nie, path_effect
from .necessity import pn, pns, potential_outcomes, ps
from .plot import plot_contrast
from .sampled_source import Sampled, sampled

__all__ = [
    "Adjustment",
    "Contrast",
    "Cost",
    "Effect",
    "Exact",
    "Factor",
    "Identified",
    "IndividualEffects",
    "Limits",
    "Network",
    "Sampled",
    "adjustment_sets",
    "ate",
    "att",
    "backdoor",
    "cate",
    "cde",
    "contrast",
    "contrasts",
    "exact",
    "frontdoor",
    "identify",
    "ite",
    "mediators_between",
    "naive",
    "nde",
    "network",
    "nie",
    "path_effect",
    "plot_contrast",
    "pn",
    "pns",
    "potential_outcomes",
    "ps",
    "sampled",
    "total_variation",
    "wasserstein",
]
