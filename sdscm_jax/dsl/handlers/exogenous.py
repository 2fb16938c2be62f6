"""The ``exogenous`` handler: the noise of one unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpyro
from jax import Array
from numpyro.primitives import apply_stack

from ...checks import function, mapping, takes, told
from ...errors import GivenError, SiteError
from ..language.messages import mechanism_at, noted, take_redraws
from ..noise.streams import as_key, fold_text
from .intervened import takes_noise
from .redraw import redraw
from .site_messenger import SiteMessenger


class exogenous(SiteMessenger):
    """Give every site the noise of one unit: a key folded from the site's name.

    A draw then depends on the key, the site's name and its parents, not on what else the model
    has or on which sites are observed or intervened on. Running with the same key in another world
    is the counterfactual of the same unit.

    Args:
        fn: the model function.
        key: PRNG key of the unit, or an int seed.
        noise: site name -> noise that is at hand (see ``abduct``) instead of the key's.

    Raises:
        SiteError: two sites have one name.
        GivenError: a site is given a text that is the name of an earlier one.

    >>> import jax, numpyro, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     return sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    >>> first, again = (sd.handlers.exogenous(model, jax.random.key(3))(lm) for _ in range(2))
    >>> bool(first == again)
    True
    """

    def __init__(self, fn: Callable | None = None, key: Any = None, noise: Mapping[str, Any] | None = None):
        fn = None if fn is None else function(fn, "the model of exogenous")
        self.key = as_key(key)
        self.noise = {} if noise is None else dict(mapping(noise, "the noise of exogenous"))
        for name, known in self.noise.items():
            if not hasattr(known, "carried_to"):
                raise SiteError(f"the noise of site {name!r} is what abduct gives, got {told(known)}")
        self._names: set[str] = set()
        self._unnamed = 0
        super().__init__(fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fn is not None:
            takes(self.fn, args, kwargs)
        return super().__call__(*args, **kwargs)

    def __enter__(self) -> exogenous:
        self._names, self._unnamed = set(), 0
        super().__enter__()
        return self

    def _wrap(self, msg: dict[str, Any]) -> None:
        if not _has_noise(msg):
            super()._wrap(msg)
            self._give_key(msg, None)

    def _process(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "unit":
            if msg["value"] is None:
                msg["value"] = self.key, self.noise
            return
        if msg["type"] not in ("sample", "prng_key", "plate"):
            return
        if msg["type"] == "sample":
            if msg["name"] in self._names:
                raise SiteError(f"two sites are named {msg['name']!r}; names are unique, since noise is keyed by them")
            self._check_texts(msg)
            self._names.add(msg["name"])
        if _has_noise(msg):
            return
        name = self._give_key(msg, noted(msg).noise_of or msg.get("name"))
        if msg["type"] == "sample":
            self._give_noise(msg, name)

    def _give_key(self, msg: dict[str, Any], name: str | None) -> str:
        """The key of a name; what has none is called by its number."""
        if name is None:
            name, self._unnamed = f"{msg['type']} {self._unnamed}", self._unnamed + 1
        msg["kwargs"]["rng_key"] = fold_text(self.key, name)
        return name

    def _check_texts(self, msg: dict[str, Any]) -> None:
        """Refuse a text that is the name of an earlier site: its phrase was meant."""
        mechanism = mechanism_at(msg)
        for text in () if mechanism is None else mechanism.texts:
            if text is not None and text.strip() in self._names:
                raise GivenError(
                    f"site {msg['name']!r} is given the text {text!r}, which is the name of an earlier site: list the "
                    "phrase that sd.sample returned, not its name"
                )

    def _give_noise(self, msg: dict[str, Any], name: str) -> None:
        """Noise that is at hand, and fresh noise for what interventions redraw."""
        noise = self.noise.get(name)
        if noise is not None and not takes_noise(msg["fn"]):
            noise = None
        if noise is not None:
            msg["fn"] = noise.carried_to(msg["fn"], name)
        for upstream in take_redraws(msg):
            # Noise that is at hand is that of the world of the evidence, with its interventions.
            if upstream.beside or noise is None:
                redraw(msg, upstream)

    def _inside(self, step: tuple[Any, int] | None) -> AbstractContextManager:
        # NumPyro hands each step of a loop a key of its own; names are folded into that.
        key = numpyro.prng_key()
        return nullcontext() if key is None else exogenous(key=key)


def _has_noise(msg: dict[str, Any]) -> bool:
    """Has another handler, further in, given a message its value or its noise?"""
    return msg["value"] is not None or msg["kwargs"].get("rng_key") is not None


def unit_noise() -> tuple[Array, dict[str, Any]] | None:
    """The key and the noise of the unit that is being run under ``exogenous``, or None."""
    message = {"type": "unit", "fn": lambda: None, "args": (), "kwargs": {}, "value": None}
    return apply_stack(message)["value"]


def next_key() -> Array | None:
    """A key from a handler that gives out one after another (``numpyro.handlers.seed``), or None."""
    # numpyro.prng_key warns where there is none.
    message = {
        "type": "prng_key",
        "fn": lambda rng_key: rng_key,
        "args": (),
        "kwargs": {"rng_key": None},
        "value": None,
    }
    return apply_stack(message)["value"]
