"""Effect handlers: what runs a model function in another way. They nest with NumPyro's own."""

from .dsl.handlers.couple import couple
from .dsl.handlers.exogenous import exogenous
from .dsl.handlers.intervention import nested
from .dsl.worlds.abduct import abduct
from .dsl.worlds.counterfactual import counterfactual
from .dsl.worlds.do import do

__all__ = ["abduct", "counterfactual", "couple", "do", "exogenous", "nested"]
