"""Effect handlers: what runs a model function in another way. They nest with NumPyro's own."""

from .counterfactual import counterfactual
from .do import do
from .exogenous import exogenous

__all__ = ["counterfactual", "do", "exogenous"]
