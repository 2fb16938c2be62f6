"""The sites of a model function, found by running it on abstract values: no language model is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpyro
from numpyro.ops.provenance import eval_provenance
from numpyro.primitives import _PYRO_STACK, Messenger

from ...checks import shallow, takes
from ...errors import ProgramError, SiteError
from ..handlers.exogenous import exogenous
from ..handlers.given_values import Followed, set_stand_in
from ..handlers.intervened import Changed, Drawn, Fixed, Intervened, intervened, natural
from ..language.fit import is_static
from ..language.mechanism import mechanism_of
from ..language.messages import from_loop, is_variable, mechanism_at, noted
from ..language.phrase import Phrase
from ..noise.couplings.base import Coupling
from ..noise.couplings.registry import parse_coupling
from ..scoring.scorings.base import Scoring
from ..scoring.scorings.registry import parse_scoring
from ..scoring.template import Template


@dataclass(frozen=True)
class Site:
    """One site of a model, in program order.

    Attributes:
        name: its name.
        kind: ``"choice"``, ``"text"``, the name of another NumPyro distribution, ``"intervened"``
            or ``"deterministic"``.
        parents: names of the sites that its distribution reads, in program order.
        template, options, scoring: of a choice.
        exogenous: may it not be intervened on?
        observed: was its value given by the program?
        shape: shape of its value in one unit.
        dtype: its dtype.
        phrase: a phrase of the site (static: its value is a stand-in), or None.
        looped: is it inside NumPyro's ``scan`` or ``cond``?
        text_parents: those of the parents that are in the text that its language model reads.
        coupling: how worlds share the noise of a site of a language model; None of other sites.
        random: is it intervened on, by what is drawn or made of its natural value?
        event_dim: how many axes one value of its distribution has.
        support: NumPyro's constraint on its values, where that is known whatever the other sites' values.
    """

    name: str
    kind: str
    parents: tuple[str, ...] = ()
    template: Template | None = None
    options: tuple[str, ...] = ()
    scoring: Scoring | None = None
    exogenous: bool = False
    observed: bool = False
    shape: tuple[int, ...] = ()
    dtype: Any = None
    phrase: Phrase | None = field(default=None, repr=False, compare=False)
    looped: bool = False
    text_parents: tuple[str, ...] = ()
    coupling: Coupling | None = None
    random: bool = False
    event_dim: int = 0
    support: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        # What is written by hand has the names of both.
        for name, parse in (("coupling", parse_coupling), ("scoring", parse_scoring)):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, parse(value))


class _Placeholders(Messenger):
    """Sets every phrase to a stand-in, so that no language model is asked."""

    def process_message(self, msg: dict[str, Any]) -> None:
        set_stand_in(msg)


def looked_at() -> bool:
    """Is a program run to see which sites it has, and not for their values?"""
    return any(isinstance(handler, _Placeholders) for handler in _PYRO_STACK)


def structure(fn: Callable, args: tuple, kwargs: Mapping[str, Any] | None = None) -> tuple[Site, ...]:
    """Sites of ``fn(*args, **kwargs)``, with their parents.

    Parents are found by following the values of earlier sites into the distribution of each site
    (not by what the program says), so they are right however the model was written.

    Raises:
        SiteError: two sites have one name, or the branches of a ``cond`` have a site that differs between them.
    """
    kwargs = kwargs or {}
    inner = fn
    while isinstance(inner, Messenger) and inner.fn is not None:
        inner = inner.fn
    takes(inner, args, kwargs)
    shallow((args, kwargs), "an argument of the model", ProgramError)
    found: dict[str, Site] = {}
    looped: set[str] = set()

    def traced(replaced: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        # From the inside out: the model, noise by name, stand-ins for phrases, values from outside.
        model: Any = Followed(_Placeholders(exogenous(fn, 0)), replaced)
        # Handlers around this call must not see these sites: it is no run of the model.
        with numpyro.handlers.block():
            trace = numpyro.handlers.trace(model).get_trace(*args, **kwargs)
        values, inputs, texts = {}, {}, {}
        for name, msg in trace.items():
            if not is_variable(msg):
                continue
            if from_loop(msg):
                looped.add(name)
            values[name] = msg["value"]
            inputs[name] = _inputs(msg["fn"]) if msg["type"] == "sample" else _computed(msg)
            mechanism = _natural_mechanism(msg)
            texts[name] = () if mechanism is None else mechanism.phrases
            found[name] = _describe(name, msg)
        return values, inputs, texts

    try:
        shapes = jax.eval_shape(lambda: traced({})[0])
    except TypeError as error:
        if "branch outputs must have the same pytree structure" not in str(error):
            raise
        raise SiteError(
            "the branches of a cond differ in a site of one name: its template, options or number of given phrases "
            f"(other strings among given are fine); give it one name in each branch. JAX says: {error}"
        ) from error
    if not shapes:
        return ()
    reads, texts = eval_provenance(lambda **values: traced(values)[1:], **shapes)
    order = list(found)

    def followed(into: Any, name: str) -> tuple[str, ...]:
        sources: set[str] = set().union(*jax.tree.leaves(into))
        return tuple(p for p in order if p in sources and p != name)

    return tuple(
        replace(
            found[name],
            parents=followed(reads[name], name),
            text_parents=followed(texts[name], name),
            shape=shapes[name].shape,
            dtype=shapes[name].dtype,
            looped=name in looped,
        )
        for name in order
    )


def _computed(msg: dict[str, Any]) -> Any:
    return noted(msg).computed if noted(msg).followed else msg["value"]


def _natural_mechanism(msg: dict[str, Any]) -> Any:
    return None if msg["type"] != "sample" or intervened(msg["fn"]) is not None else mechanism_at(msg)


def _inputs(fn: Any) -> Any:
    """What a distribution reads; of a mechanism not the language model's parameters."""
    found = intervened(fn)
    if isinstance(found, Fixed):
        return ()
    if isinstance(found, Drawn):
        return _inputs(found.law)
    if isinstance(found, Changed):
        # (One that a loop has sent on is no function any more.)
        return _inputs(found.base_dist), found.inputs
    mechanism = mechanism_of(fn)
    return fn if mechanism is None else mechanism.inputs


def _describe(name: str, msg: dict[str, Any]) -> Site:
    if msg["type"] == "deterministic":
        phrase = noted(msg).phrase
        if phrase is None:
            return Site(name, "deterministic")
        return Site(name, "deterministic", (), phrase.template, phrase.options, phrase=phrase.at(0))
    fn = msg["fn"]
    mechanism = mechanism_of(fn)
    common: dict[str, Any] = {"exogenous": bool(msg["infer"].get("exogenous"))}
    done = intervened(fn)
    common |= {"random": isinstance(done, Intervened), "event_dim": fn.event_dim}
    if done is None:
        common["observed"] = bool(msg["is_observed"])
    if mechanism is not None:
        kind = mechanism.kind if done is None else "intervened"
        options, scoring = getattr(mechanism, "options", ()), getattr(mechanism, "scoring", None)
        common |= {"phrase": mechanism.phrase(0, name), "coupling": mechanism.coupling}
        return Site(name, kind, (), mechanism.template, options, scoring, **common)
    own = natural(fn)
    support = getattr(own, "support", None)
    common["support"] = support if is_static(support) else None
    while done is None and hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return Site(name, type(fn).__name__ if done is None else "intervened", **common)
