"""Effect handlers: what runs a model function in another way. They nest with NumPyro's own."""

from .dsl.abduct import abduct
from .dsl.counterfactual import counterfactual
from .dsl.couple import couple
from .dsl.do import do
from .dsl.exogenous import exogenous
from .dsl.intervention import nested

__all__ = ["abduct", "counterfactual", "couple", "do", "exogenous", "nested"]
