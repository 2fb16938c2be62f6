"""The former place of ``sdscm_jax.handlers``."""

import warnings

from .abduct import abduct
from .counterfactual import counterfactual
from .couple import couple
from .do import do
from .exogenous import exogenous
from .intervention import nested

__all__ = ["abduct", "counterfactual", "couple", "do", "exogenous", "nested"]

warnings.warn("sdscm_jax.dsl.handlers is now sdscm_jax.handlers", DeprecationWarning, stacklevel=2)
