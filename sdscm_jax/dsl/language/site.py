"""``sample``: a site of a model function."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import numpyro
from numpyro.primitives import _PYRO_STACK, apply_stack

from ...checks import flag, text, told
from ...errors import SiteError
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
        SiteError: the name is not a non-empty string; or nothing runs the model, so that there is no noise to draw by.

    >>> import jax, numpyro, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     return sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    >>> numpyro.handlers.seed(model, jax.random.key(0))(lm).text in ("low", "high")
    True
    """
    name, exogenous = (
        text(name, "the name of a site", SiteError),
        flag(exogenous, f"site {name!r}: exogenous", SiteError),
    )
    if not hasattr(site, "log_prob") or isinstance(site, type):
        raise SiteError(f"site {name!r} is drawn from a Choice, a Text or a distribution of NumPyro, got {told(site)}")
    if not _PYRO_STACK and obs is None:
        raise SiteError(
            f"site {name!r} is drawn outside of a model: give the function itself, not what it returns, to "
            "sd.simulate, say; or run it under handlers.exogenous(model, key)"
        )
    mechanism = site if isinstance(site, Mechanism) else None
    if mechanism is not None and obs is not None:
        obs = mechanism.as_value(obs, f"site {name!r}")
    infer = {"exogenous": True} if exogenous else {}
    if mechanism is None:
        return numpyro.sample(name, site, obs=obs, infer=infer)
    value = _send(name, mechanism, obs, infer)
    if isinstance(value, Phrase):
        return value
    return mechanism.phrase(mechanism.as_value(value, f"site {name!r}"), name, drawn=True)


def _send(name: str, mechanism: Mechanism, obs: Any, infer: dict[str, Any]) -> Any:
    """``numpyro.sample``, where handlers may set texts."""
    if not _PYRO_STACK:
        return numpyro.sample(name, mechanism, obs=obs, infer=infer)
    message = {
        "type": "sample",
        "name": name,
        "fn": mechanism,
        "args": (),
        "kwargs": {"rng_key": None, "sample_shape": ()},
        "value": obs,
        "scale": None,
        "is_observed": obs is not None,
        "intermediates": [],
        "cond_indep_stack": [],
        "infer": infer,
    }
    return apply_stack(_Message(mechanism, name, message))["value"]


class _Message(dict):
    """A message of NumPyro's whose value is an array, though a handler may set it to a text or a phrase."""

    def __init__(self, mechanism: Mechanism, name: str, message: dict[str, Any]):
        self.mechanism, self.name = mechanism, name
        super().__init__(message)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "value" and (isinstance(value, (str, Phrase, list, tuple)) or _holds_texts(value)):
            if value == self.name and any(isinstance(handler, numpyro.handlers.collapse) for handler in _PYRO_STACK):
                raise SiteError(
                    f"site {self.name!r} cannot be collapsed: what is given its phrase would need its text. Sum it out "
                    "with config_enumerate"
                )
            value = self.mechanism.as_value(value, f"site {self.name!r}")
        super().__setitem__(key, value)


def _holds_texts(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "OU"
