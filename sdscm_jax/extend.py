"""What other packages may add: couplings and scorings of their own.

A class with a ``name`` is registered once, and is then spelt by its name wherever one of ours is; or its object is
given where a name may be (``Choice(…, scoring=Mine())``). A package that is installed registers its own by an entry
point of the group ``sdscm_jax.couplings`` or ``sdscm_jax.scorings``: ``mine = "my_package.module:Mine"``.
"""

from __future__ import annotations

from typing import TypeVar

from .checks import told
from .dsl.noise.couplings.base import Coupling
from .dsl.noise.couplings.registry import COUPLINGS
from .dsl.scoring.scorings.base import Scoring
from .dsl.scoring.scorings.registry import SCORINGS
from .errors import OptionError

__all__ = ["Coupling", "Scoring", "register"]

C = TypeVar("C", bound=type)


def register(own: C) -> C:
    """Make a coupling or a scoring known by its name; a decorator of its class.

    Args:
        own: a class of ``Coupling`` or ``Scoring`` with a ``name``.

    Returns:
        the class.

    Raises:
        OptionError: it is neither, has no name, or the name is taken.

    >>> import jax, sdscm_jax as sd
    >>> from sdscm_jax.extend import Scoring, register
    >>> @register
    ... class LeastLikely(Scoring):
    ...     name = "least_likely"
    ...     says = "the least likely token of each option"
    ...
    ...     def scores(self, tree, edges):
    ...         return jax.numpy.stack([edges[..., list(path)].min(-1) for path in tree.scored], axis=-1)
    >>> lm = sd.load_lm()
    >>> sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"], scoring="least_likely").probs.shape
    (2,)
    >>> from sdscm_jax.dsl.scoring.scorings.registry import SCORINGS
    >>> SCORINGS.forget("least_likely")
    """
    for base, known in ((Coupling, COUPLINGS), (Scoring, SCORINGS)):
        if isinstance(own, type) and issubclass(own, base):
            known.register(own)  # type: ignore[arg-type]
            return own
    raise OptionError(f"what is registered is a class of Coupling or Scoring, got {told(own)}")
