"""The base of handlers that act on every site of a program, also on those inside NumPyro's ``scan`` and ``cond``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from numpyro.primitives import Messenger

from ..scoring.encoded_texts import EncodedTexts, encoded_texts
from .control_flow import wrap_bodies


class SiteMessenger(Messenger, ABC):
    """A handler that acts on sites in loops and branches too.

    NumPyro runs the body of a ``scan`` or ``cond`` under a ``block``: no handler around sees the sites inside. So a
    handler wraps the bodies when it sees the message of the loop, and a handler of its own kind acts in there.
    Invariant: a body is entered once for each time that it runs or is traced, after NumPyro has given it its key
    and inside of everything that NumPyro puts around it.
    """

    # Kept between sites, whose mechanisms may be gone when the next one reads on.
    _encoded: tuple[EncodedTexts, ...] = ()

    def __enter__(self) -> Any:
        entered = super().__enter__()
        self._encoded = (*self._encoded, encoded_texts())
        return entered

    def __exit__(self, *error: Any) -> None:
        self._encoded = self._encoded[:-1]
        super().__exit__(*error)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Act on a message on its way outward."""
        if msg["type"] == "control_flow":
            self._wrap(msg)
        else:
            self._process(msg)

    @abstractmethod
    def _process(self, msg: dict[str, Any]) -> None:
        """Act on a message that is no loop or branch."""

    @abstractmethod
    def _inside(self, step: tuple[Any, int] | None) -> AbstractContextManager:
        """What acts on the sites of a body while that runs.

        Args:
            step: at which step of a loop the body is, and how many there are, where ``_wrap`` counts them.
        """

    def _wrap(self, msg: dict[str, Any]) -> None:
        """Have bodies run with the handler that acts inside."""
        wrap_bodies(msg, lambda body: partial(self._run_inside, body, None))

    def _run_inside(self, body: Callable, step: tuple[Any, int] | None, *args: Any) -> Any:
        with self._inside(step):
            return body(*args)
