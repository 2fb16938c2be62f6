"""``along``: an intervention that acts along some edges of the causal graph only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
from numpyro.primitives import Messenger

from ...errors import InterventionError, nearest
from ..analysis.graph import graph
from ..handlers.exogenous import exogenous, next_key, unit_noise
from ..handlers.external_scores import NotSeparable
from ..language.mechanism import with_mechanism
from ..language.messages import is_variable, set_value
from ..language.phrase import Phrase
from ..tables.look_up import LookUp
from ..tables.tabulate import Tabulated
from .around import values_apart
from .do import do

Edges = frozenset[tuple[str, str]]


def along(
    fn: Callable, base: Mapping[str, Any], active: Mapping[str, Any], edges: Iterable[tuple[str, str]]
) -> Callable:
    """A model function in which ``active`` is felt along ``edges`` only.

    A site reads a parent along an edge of ``edges`` as it is in this world, along any other edge as it is in the
    world ``base`` of the same unit (Avin, Shpitser and Pearl 2005, "Identifiability of path-specific effects").
    With all edges it is ``do(fn, active)``, with none every other site is as under ``do(fn, base)``.

    Args:
        fn: the model function.
        base, active: interventions on the same sites; see ``do``.
        edges: (parent, child) pairs of the causal graph.

    Raises:
        InterventionError: there is no such edge; ``base`` and ``active`` are of different sites; a site that feels
            ``active`` along one edge reads, along an inactive one, anything but phrases that it is given; ``fn`` is
            a table inside other handlers; or there is no ``exogenous`` around it, which makes both runs one unit.

    >>> import sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     test = sd.sample("test", sd.Choice(lm, "The test was {}.", ["clear", "unclear"], given=[pdl1]))
    ...     return sd.sample("drug", sd.Choice(lm, "The choice is to {}.", ["wait", "treat"], given=[pdl1, test]))
    >>> direct = along(model, {"pdl1": "low"}, {"pdl1": "high"}, [("pdl1", "drug")])
    >>> sd.handlers.exogenous(direct, 0)(lm).text in ("wait", "treat")
    True
    """
    chosen = frozenset(edges)
    if set(base) != set(active):
        raise InterventionError(f"base sets {sorted(base)} and active sets {sorted(active)}; they set the same sites")

    def model(*args: Any, **kwargs: Any) -> Any:
        natural = graph(fn, *args, **kwargs)
        for parent, child in sorted(chosen - set(natural.edges)):
            known = [" -> ".join(edge) for edge in natural.edges]
            raise InterventionError(
                f"the model has no edge {parent!r} -> {child!r}; {nearest(f'{parent} -> {child}', known)}"
            )
        felt = _felt(active, chosen)
        inactive = frozenset((p, c) for p, c in natural.edges if p in felt and c not in active) - chosen
        # Scores are looked up outside of what replaces the phrases that are read.
        tabled = fn if isinstance(fn, Tabulated) else None
        program = fn if tabled is None else partial(tabled.fn, *tabled.args, **tabled.kwargs)
        _check_readable(program, args, kwargs, natural.names, inactive, felt)
        if any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves((args, kwargs))):
            raise NotSeparable("along some edges it asks for one site in two worlds")
        other: Callable = do(fn, base)
        unit = unit_noise()
        if unit is not None:
            other = exogenous(other, *unit)
        elif next_key() is not None:
            raise InterventionError("along runs the same unit twice, which needs handlers.exogenous")
        found = values_apart(other, fn, base, args, kwargs)
        values = {name: found[name] for name in natural.names}
        # What feels nothing is as in base, also where its coupling would draw it anew.
        same = frozenset(name for site in active for name in natural.descendants(site)) - felt
        with nullcontext() if tabled is None else LookUp(tabled.table_of), _Reads(values, inactive, same):
            return do(program, active)(*args, **kwargs)

    return model


def _felt(active: Mapping[str, Any], chosen: Edges) -> frozenset[str]:
    """Sites that an intervention reaches along the chosen edges, its own among them."""
    import networkx as nx

    found = nx.DiGraph(list(chosen))
    found.add_nodes_from(active)
    return frozenset({*active, *(name for site in active for name in nx.descendants(found, site))})


def _check_readable(
    program: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    names: Iterable[str],
    inactive: Edges,
    felt: frozenset[str],
) -> None:
    """Refuse a site that would still read what it must not when the phrases that it is given are replaced."""
    constants = dict.fromkeys(names, 0)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        with _Reads(constants, inactive, frozenset()):
            return program(*args, **kwargs)

    for parent, child in graph(replaced, *args, **kwargs).edges if inactive else ():
        if (parent, child) in inactive and child in felt:
            raise InterventionError(
                f"site {child!r} reads {parent!r} as a number, not (only) as a phrase that it is given; such an edge "
                "must be one of edges"
            )


class _Reads(Messenger):
    """Lets sites read other values of some of the phrases that they are given, and gives some sites their values.

    Args:
        values: site name -> value.
        edges: (parent, child): the child reads the parent as it is in ``values``.
        same: sites that have their value in ``values``.
    """

    def __init__(self, values: Mapping[str, Any], edges: Edges, same: frozenset[str]):
        self.values, self.edges, self.same = values, edges, same
        super().__init__()

    def process_message(self, msg: dict[str, Any]) -> None:
        name = msg.get("name")
        if msg["type"] == "sample" and any(child == name for _, child in self.edges):
            msg["fn"] = with_mechanism(msg["fn"], lambda mechanism: self._reading(mechanism, str(name)))
        if is_variable(msg) and name in self.same:
            set_value(msg, self.values[name])

    def _reading(self, mechanism: Any, site: str) -> Any:
        if getattr(mechanism, "known_scores", None) is not None:
            raise InterventionError(
                f"site {site!r} has its scores from a table, inside of handlers; put those around: do(along(table, …))"
            )
        phrases = tuple(self._read(phrase, site) for phrase in mechanism.phrases)
        return mechanism.replace(phrases=phrases)

    def _read(self, phrase: Phrase, site: str) -> Phrase:
        if phrase.name is None or (phrase.name, site) not in self.edges:
            return phrase
        return phrase.at(self.values[phrase.name])
