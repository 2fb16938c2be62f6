"""The couplings that there are, by name."""

from __future__ import annotations

from typing import Any

from ....errors import OptionError, SDSCMError
from ...registered import Registry
from .base import Coupling
from .gumbel import Gumbel
from .hindsight import Hindsight
from .independent import Independent
from .inverse_cdf import InverseCDF
from .maximal import Maximal

GROUP = "sdscm_jax.couplings"
COUPLINGS: Registry[Coupling] = Registry(
    Coupling, "coupling", GROUP, (Gumbel(), InverseCDF(), Independent(), Maximal(), Hindsight)
)


def parse_coupling(value: Any, where: str | None = None, error: type[SDSCMError] = OptionError) -> Coupling:
    """A coupling, as every function takes it: by its name, or the object itself.

    Args:
        value: what was given.
        where: what a message begins with.
        error: the caller's.

    Raises:
        SDSCMError: it is none; the message has the nearest that is.

    >>> parse_coupling("inverse_cdf")
    'inverse_cdf'
    >>> parse_coupling("inverse_cdf").ordered
    True
    >>> parse_coupling("hindsight(.5)"), parse_coupling("hindsight(.5)").kept
    ('hindsight(0.5)', 0.5)
    """
    return COUPLINGS.parse(value, where, error)
