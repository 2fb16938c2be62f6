"""Which effects the observed sites alone determine, and how."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..dsl.analysis.graph import Graph
from ..errors import EffectError
from .adjustment import Adjustment, check_roles, compared, exact_source
from .admg import Mixed, latent_projection
from .estimand import ONE, Estimand, Fraction, Probability, free, latex, product, text, total
from .query import Query
from .source import Score

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Identified:
    """What the graph says of an effect.

    Attributes:
        treatment, outcome: sites.
        hidden: sites that are not observed.
        estimand: ``P(outcome | do(treatment))`` in observational probabilities of the other sites; None where two
            models of this graph have the same observational distribution and another effect.
        reason: why it is identifiable, or why not.
    """

    treatment: str
    outcome: str
    hidden: tuple[str, ...]
    estimand: Estimand | None
    reason: str

    @property
    def identifiable(self) -> bool:
        """Do the observed sites determine the effect, whatever the mechanisms?"""
        return self.estimand is not None

    @property
    def others(self) -> tuple[str, ...]:
        """Sites besides treatment and outcome that the estimand mentions; any option of them gives the same value."""
        return () if self.estimand is None else tuple(sorted(free(self.estimand) - {self.treatment, self.outcome}))

    @property
    def latex(self) -> str:
        """The estimand in LaTeX; empty where there is none."""
        return "" if self.estimand is None else latex(self.estimand)

    def __str__(self) -> str:
        effect = f"P({self.outcome} | do({self.treatment}))"
        if self.estimand is None:
            return f"{effect} is not identifiable:\n  {self.reason}"
        same = f"\n  with any option of {', '.join(self.others)}" if self.others else ""
        return f"{effect} = {text(self.estimand)}{same}"

    def evaluate(self, source: Any, low: Any = None, high: Any = None, *, score: Score = None) -> Adjustment:
        """The effect in the observational distribution of a program that has this graph, and the truth.

        Args:
            source: ``effects.exact(model, …)``, or what may stand for it.
            low, high: options of the treatment; may be left out where it has two.
            score: numbers of the outcome's options, whose mean is then the outcome; None: the probability of each.

        Raises:
            EffectError: the effect is not identifiable, or positivity fails.
        """
        if self.estimand is None:
            raise EffectError(f"P({self.outcome} | do({self.treatment})) is not identifiable: {self.reason}")
        exact = exact_source(source)
        check_roles(exact.names, self.treatment, self.outcome, self.hidden)
        q = Query.of(exact, self.treatment, self.outcome, low, high, score=score)
        options = [range(len(exact.options(name))) for name in self.others]
        refused: list[EffectError] = []
        for values in itertools.product(*options):
            try:
                others = list(zip(self.others, values, strict=True))
                return compared(q, "identification", (), self.estimand, valid=True, reason=self.reason, others=others)
            except EffectError as error:  # another option may occur in every group
                refused.append(error)
        raise refused[0]


def identify(source: Any, treatment: str, outcome: str, *, hidden: Sequence[str] = ()) -> Identified:
    """Is an average effect a function of the observational distribution of the sites that are not hidden?

    The answer holds for all mechanisms of the program's graph. It is by the ID algorithm, which is sound and complete
    (Shpitser and Pearl 2006, "Identification of joint interventional distributions in recursive semi-Markovian causal
    models", figure 3), on the latent projection of the graph.

    Args:
        source: a program (see ``as_source``), a ``Graph`` or a ``networkx.DiGraph``.
        treatment, outcome: sites.
        hidden: sites that are not observed.

    Raises:
        EffectError: treatment and outcome are one or hidden; or the graph has a cycle.
        SiteError: a site is unknown.

    >>> import networkx as nx
    >>> front = nx.DiGraph([("mood", "x"), ("x", "m"), ("m", "y"), ("mood", "y")])
    >>> print(identify(front, "x", "y", hidden=["mood"]))
    P(y | do(x)) = Σ_{m} P(m | x) (Σ_{x'} P(x') P(y | x', m))
    >>> bow = nx.DiGraph([("mood", "x"), ("x", "y"), ("mood", "y")])
    >>> print(identify(bow, "x", "y", hidden=["mood"]))
    P(y | do(x)) is not identifiable:
      hidden common causes tie x, y together, and what they do to y is not told apart from the effect (a hedge)
    """
    graph = _graph(source)
    check_roles(tuple(graph), treatment, outcome, hidden)
    projected = latent_projection(graph, set(hidden))
    try:
        found = _identified(frozenset({outcome}), frozenset({treatment}), None, projected)
    except _Hedge as hedge:
        whole, part = (", ".join(names) for names in hedge.args)
        reason = (
            f"hidden common causes tie {whole} together, and what they do to {part} is not told apart from the effect "
            "(a hedge)"
        )
        return Identified(treatment, outcome, tuple(hidden), None, reason)
    return Identified(treatment, outcome, tuple(hidden), found, "the graph determines it from the observed sites")


class _Hedge(Exception):
    """The two sets of a hedge, which no observational distribution takes apart."""


# A chain of conditional laws, of each node given earlier ones; None: the observational distribution of the graph.
_Law = Mapping[str, Estimand] | None


def _identified(y: frozenset[str], x: frozenset[str], law: _Law, graph: Mixed) -> Estimand:
    """``P(y | do(x))`` in a law and its graph; the lines are those of the ID algorithm.

    Raises:
        _Hedge: it is not identifiable.
    """
    nodes = frozenset(graph.order)
    if not x:  # line 1
        return Probability(_ordered(y, graph)) if law is None else _marginal(law, nodes - y, graph)
    above = graph.ancestors(y)
    if nodes - above:  # line 2
        return _identified(y, x & above, _restricted(law, above, graph), graph.subgraph(above))
    idle = nodes - x - graph.ancestors(y, cut=x)
    if idle:  # line 3
        return _identified(y, x | idle, law, graph)
    districts = graph.subgraph(nodes - x).districts()
    if len(districts) > 1:  # line 4
        parts = [_identified(district, nodes - district, law, graph) for district in districts]
        return total(_ordered(nodes - x - y, graph), product(parts))
    (district,) = districts
    if len(graph.districts()) == 1:  # line 5
        raise _Hedge(graph.order, _ordered(district, graph))
    if district in graph.districts():  # line 6
        parts = [_factor(name, law, graph) for name in _ordered(district, graph)]
        return total(_ordered(district - y, graph), product(parts))
    around = next(nodes for nodes in graph.districts() if district < nodes)  # line 7
    kept = {name: _factor(name, law, graph) for name in _ordered(around, graph)}
    return _identified(y, x & around, kept, graph.subgraph(around))


def _factor(name: str, law: _Law, graph: Mixed) -> Estimand:
    """The law of a node given all earlier ones."""
    return Probability((name,), graph.pillow(name)) if law is None else law[name]


def _restricted(law: _Law, keep: frozenset[str], graph: Mixed) -> _Law:
    """The chain of some of the nodes, the others summed out; ``keep`` has all causes of its members."""
    if law is None:
        return None
    chain: dict[str, Estimand] = {}
    for i, name in enumerate(graph.order):
        if name not in keep:
            continue
        upto = {earlier: law[earlier] for earlier in graph.order[: i + 1]}
        # What shares no summed node with the node, through others, is a common factor of both sums.
        near = _connected(upto, name, frozenset(upto) - keep)
        over = frozenset(near) - keep
        below = _marginal({n: near[n] for n in near if n != name}, over, graph)
        above = _marginal(near, over, graph)
        chain[name] = above if below == ONE else Fraction(above, below)
    return chain


def _connected(law: Mapping[str, Estimand], name: str, over: frozenset[str]) -> dict[str, Estimand]:
    """The factors that nodes of ``over`` connect to that of ``name``."""
    touched = {n: (free(factor) | {n}) & over for n, factor in law.items()}
    near, reached = {name}, set(touched[name])
    while more := {n for n in law if n not in near and touched[n] & reached}:
        near |= more
        reached |= frozenset().union(*(touched[n] for n in more))
    return {n: factor for n, factor in law.items() if n in near}


def _marginal(law: Mapping[str, Estimand], over: frozenset[str], graph: Mixed) -> Estimand:
    """The product of a chain's factors, summed; a node that no other factor mentions sums to one."""
    factors = dict(law)
    while gone := [n for n in over if n in factors and not any(n in free(f) for m, f in factors.items() if m != n)]:
        for name in gone:
            del factors[name]
    return total(_ordered(over & frozenset(factors), graph), product(factors.values()))


def _ordered(names: frozenset[str], graph: Mixed) -> tuple[str, ...]:
    return tuple(name for name in graph.order if name in names)


def _graph(source: Any) -> nx.DiGraph:
    """The causal graph of a program, or the one that was given."""
    import networkx as nx

    if isinstance(source, Graph):
        return source.to_networkx()
    if not isinstance(source, nx.DiGraph):
        return exact_source(source).network.dag
    if not nx.is_directed_acyclic_graph(source):
        raise EffectError("the graph has a cycle; a causal graph of a program has none")
    return source
