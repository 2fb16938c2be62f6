"""What travels between handlers: NumPyro's message, and on it one record of ours.

A site is a dict (a *message*) that NumPyro sends from the innermost handler to the outermost and back. Fields of
NumPyro's say what everybody must know (``type``, ``name``, ``fn``, ``value``, ``is_observed``, ``infer``, …). What only
the handlers of this package tell each other is a ``Note``: one typed record under one key, which ``noted`` reads and
``note`` changes.

Three facts about messages are no part of the record, because NumPyro's own handlers or users say them:

- ``from_loop``: NumPyro runs the body of a ``scan`` or ``cond`` where no handler around sees its sites, and sends them
  on when the loop is done, with the values of all steps. Their record is still that of the body.
- ``infer["exogenous"]``: what ``sd.sample(…, exogenous=True)``, or a user of ``numpyro.sample``, says of a site.
- ``is_observed == HELD``: see there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jax import Array

from .mechanism import Mechanism, mechanism_of
from .phrase import Phrase

KEY = "sdscm_jax"

# In place of True in ``is_observed`` while ``do`` lets the handlers around it see a site that it has set. It counts as
# true; an observation by one of them (``numpyro.handlers.condition``) overwrites it, and only so can be told apart.
HELD = "intervened"

# 64 bits, as two words of 32; both are 0 where nothing is done.
Words = tuple[Array, Array]


class Upstream(NamedTuple):
    """What a handler knows of the interventions above a site; asked only where the site's coupling wants to know.

    Attributes:
        words: the sum of their signatures; None where there are none.
        factual: the site's mechanism and value in the factual world of the unit; None where there are none.
        beside: is it another world than the one of the evidence? Else noise that is at hand is of this very world.
    """

    words: Callable[[], Words | None]
    factual: Callable[[], tuple[Any, Array] | None]
    beside: bool = False


@dataclass(frozen=True, eq=False)
class Note:
    """What the handlers of this package tell each other of a site.

    Two are equal that say the same of a site, whatever its value and whoever stands around it: NumPyro's ``cond``
    compares the messages of its branches, which would otherwise never agree.

    Attributes:
        phrase: what the value of a deterministic site says (``verbalize``); its own value is a stand-in.
        noise_of: the site whose noise this one is (``GumbelReparam``), by the name that its key is made of.
        redraws: interventions above a site, each known by one ``do`` inside; ``exogenous`` takes them when it gives
            the site its key.
        followed: is the value one that is being followed through the program, or set from outside of it? It holds
            against interventions.
        computed: what a deterministic site that is followed was computed to be.
        stand_in: does the value stand for one that nobody has asked for?
    """

    phrase: Phrase | None = None
    noise_of: str | None = None
    redraws: tuple[Upstream, ...] = ()
    followed: bool = False
    computed: Any = None
    stand_in: bool = False

    @property
    def _says(self) -> tuple[Any, ...]:
        phrase = None if self.phrase is None else (self.phrase.template, self.phrase.options, self.phrase.name)
        return phrase, self.noise_of, self.followed, self.stand_in

    def __eq__(self, other: object) -> bool:
        return self._says == other._says if isinstance(other, Note) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._says)


_NOTHING = Note()


def noted(msg: dict[str, Any]) -> Note:
    """The record of a message: what was put on it, else what came with the site in ``infer`` (see ``in_infer``)."""
    found: Note = msg[KEY] if KEY in msg else msg.get("infer", {}).get(KEY, _NOTHING)
    return found


def note(msg: dict[str, Any], **changes: Any) -> None:
    """Change the record of a message; ``infer``, which may be the user's own dict, stays as it is."""
    msg[KEY] = replace(noted(msg), **changes)


def in_infer(**values: Any) -> dict[str, Any]:
    """The record as ``numpyro.sample(…, infer=…)`` hands it on, for sites that are not sent by this package."""
    return {KEY: Note(**values)}


def take_redraws(msg: dict[str, Any]) -> tuple[Upstream, ...]:
    """The interventions above a site, which are off the message then: each is answered once."""
    found = noted(msg).redraws
    if found:
        note(msg, redraws=())
    return found


def is_variable(msg: dict[str, Any]) -> bool:
    """Is it a site that has a value in a world, drawn or computed?"""
    return msg["type"] in ("sample", "deterministic")


def from_loop(msg: dict[str, Any]) -> bool:
    """Has NumPyro sent the site on from a ``scan`` or ``cond``, where its value was found?"""
    return bool(msg.get("_control_flow_done"))


def mechanism_at(msg: dict[str, Any]) -> Mechanism | None:
    """The mechanism of a site of a language model, also of one that an intervention replaced; None of others."""
    return mechanism_of(msg["fn"]) if msg["type"] == "sample" else None


def phrase_at(msg: dict[str, Any], value: Any, name: str) -> Phrase | None:
    """What a value says at a site of this name (scopes around rename a message); None where it is no language."""
    mechanism, phrase = mechanism_at(msg), noted(msg).phrase
    if mechanism is not None:
        found: Phrase = mechanism.phrase(value, name)
        return found
    return None if phrase is None else phrase.at(value)


def set_value(msg: dict[str, Any], value: Any, **changes: Any) -> None:
    """Set a site to a value, and note what kind of value it is."""
    msg["value"] = value
    if changes:
        note(msg, **changes)
