"""``along``: an intervention that acts along some edges of the causal graph only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpyro
from numpyro.primitives import Messenger

from ..errors import InterventionError, nearest
from .do import do
from .exogenous import exogenous, next_key, unit_noise
from .graph import graph
from .mechanism import with_mechanism
from .phrase import Phrase


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
        InterventionError: there is no such edge; ``base`` and ``active`` are of different sites; along an inactive
            edge a number is read, not a phrase; or there is no ``exogenous`` around it, which makes both runs one
            unit.

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
        other: Callable = do(fn, base)
        unit = unit_noise()
        if unit is not None:
            other = exogenous(other, *unit)
        elif next_key() is not None:
            raise InterventionError("along runs the same unit twice, which needs handlers.exogenous")
        with numpyro.handlers.block():
            trace = numpyro.handlers.trace(other).get_trace(*args, **kwargs)
        reached = {*active, *(name for site in active for name in natural.descendants(site))}
        differ = {(p, c) for p, c in natural.edges if p in reached and (p, c) not in chosen}
        text = {(p, site.name) for site in natural.sites for p in site.text_parents}
        for parent, child in sorted(differ - text - {(p, c) for p, c in differ if c in active}):
            raise InterventionError(
                f"site {child!r} reads {parent!r} as a number; an edge that is not in edges is read as a phrase"
            )
        with _Reads({name: msg["value"] for name, msg in trace.items() if name in reached}, differ):
            return do(fn, active)(*args, **kwargs)

    return model


class _Reads(Messenger):
    """Lets sites read other values of some of the phrases that they are given."""

    def __init__(self, values: Mapping[str, Any], edges: set[tuple[str, str]]):
        self.values, self.edges = values, edges
        super().__init__()

    def process_message(self, msg: dict[str, Any]) -> None:
        name = msg.get("name")
        if msg["type"] == "sample" and any(child == name for _, child in self.edges):
            msg["fn"] = with_mechanism(msg["fn"], lambda mechanism: self._reading(mechanism, str(name)))

    def _reading(self, mechanism: Any, site: str) -> Any:
        phrases = tuple(self._read(phrase, site) for phrase in mechanism.phrases)
        return mechanism.replace(phrases=phrases, _memo={})

    def _read(self, phrase: Phrase, site: str) -> Phrase:
        if phrase.name is None or (phrase.name, site) not in self.edges:
            return phrase
        other = phrase.at(self.values[phrase.name])
        # It stands in another text than the one that its site has encoded.
        other.origin = None
        return other
