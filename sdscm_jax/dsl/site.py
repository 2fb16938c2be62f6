"""``sample``: a site of a model function."""

from __future__ import annotations

from typing import Any, overload

import numpyro

from ..errors import SiteError
from .mechanism import Mechanism
from .phrase import Phrase


@overload
def sample(name: str, site: Mechanism, *, exogenous: bool = False, obs: Any = None) -> Phrase: ...
@overload
def sample(name: str, site: Any, *, exogenous: bool = False, obs: Any = None) -> Any: ...
def sample(name: str, site: Any, *, exogenous: bool = False, obs: Any = None) -> Any:
    """Draw the value of a site; ``numpyro.sample`` that hands back a phrase.

    Args:
        name: name of the site, unique in the model.
        site: a ``Choice``, a ``Text``, or any NumPyro distribution.
        exogenous: True for a root variable of the paper's U, which may not be intervened on.
        obs: observed value: a text, an option number or an array of them.

    Returns:
        a ``Phrase`` for a ``Choice`` or a ``Text``; the drawn value for other distributions.

    Raises:
        SiteError: the name is not a non-empty string.

    >>> import jax, numpyro, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     return sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    >>> numpyro.handlers.seed(model, jax.random.key(0))(lm).text in ("low", "high")
    True
    """
    if not isinstance(name, str) or not name:
        raise SiteError(f"the name of a site is a non-empty string, got {name!r}")
    mechanism = site if isinstance(site, Mechanism) else None
    if mechanism is not None and obs is not None:
        obs = mechanism.as_value(obs, f"site {name!r}")
    infer = {"exogenous": True} if exogenous else None
    value = numpyro.sample(name, site, obs=obs, infer=infer)
    if mechanism is None or isinstance(value, Phrase):
        return value
    return mechanism.phrase(mechanism.as_value(value, f"site {name!r}"), name)
