"""Effect handlers: what runs a model function in another way. They nest with NumPyro's own."""

from .abduct import abduct
from .counterfactual import counterfactual
from .couple import couple
from .do import do
from .exogenous import exogenous
from .intervention import nested

__all__ = ["abduct", "counterfactual", "couple", "do", "exogenous", "nested"]
