"""The causal graph of a model function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...checks import one_of
from ...errors import SiteError
from ...terminal import shown
from .save_figure import save_figure
from .structure import Site, structure

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Graph:
    """Sites with their parents, in program order (a topological order).

    >>> graph = Graph((Site("a", "choice", exogenous=True), Site("b", "choice", parents=("a",))))
    >>> graph.edges
    (('a', 'b'),)
    >>> print(graph.to_mermaid())
    graph TD
        s0(["a"]):::exogenous
        s1["b"]
        s0 --> s1
        classDef exogenous stroke-dasharray: 4 3
    """

    sites: tuple[Site, ...]

    def __getitem__(self, name: str) -> Site:
        name = one_of(name, self.names, "site", SiteError)
        return {site.name: site for site in self.sites}[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Site names in program order."""
        return tuple(site.name for site in self.sites)

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """(parent, child) pairs."""
        return tuple((parent, site.name) for site in self.sites for parent in site.parents)

    def descendants(self, name: str) -> tuple[str, ...]:
        """Sites that ``name`` is a cause of, in program order."""
        import networkx as nx

        below = nx.descendants(self.to_networkx(), self[name].name)
        return tuple(n for n in self.names if n in below)

    def to_networkx(self) -> nx.DiGraph:
        """A ``networkx.DiGraph`` whose nodes carry the fields of ``Site``."""
        import networkx as nx

        graph = nx.DiGraph()
        for site in self.sites:
            graph.add_node(
                site.name,
                kind=site.kind,
                exogenous=site.exogenous,
                observed=site.observed,
                template=str(site.template) if site.template else "",
                options=list(site.options),
            )
        graph.add_edges_from(self.edges)
        return graph

    def to_graphviz(self) -> str:
        """The graph in Graphviz's DOT language."""
        number = {name: f"s{i}" for i, name in enumerate(self.names)}
        lines = ["digraph {", "    node [shape=ellipse];"]
        for site in self.sites:
            style = ' style="dashed"' if site.exogenous else ' style="filled"' if site.observed else ""
            shape = ' shape="box"' if site.kind == "intervened" else ""
            lines.append(f'    {number[site.name]} [label="{_quoted(site.name)}"{style}{shape}];')
        lines += [f"    {number[a]} -> {number[b]};" for a, b in self.edges]
        return "\n".join([*lines, "}"])

    def to_mermaid(self) -> str:
        """The graph in Mermaid's language (GitHub renders it)."""
        number = {name: f"s{i}" for i, name in enumerate(self.names)}
        lines = ["graph TD"]
        for site in self.sites:
            label = _label(site.name)
            node = f'(["{label}"]):::exogenous' if site.exogenous else f'["{label}"]'
            lines.append(f"    {number[site.name]}{node}")
        lines += [f"    {number[a]} --> {number[b]}" for a, b in self.edges]
        if any(site.exogenous for site in self.sites):
            lines.append("    classDef exogenous stroke-dasharray: 4 3")
        return "\n".join(lines)

    def draw(self, path: str | Path) -> None:
        """Draw the graph into a file; the ending (``.svg``, ``.png``, ``.pdf``) says which kind.

        The same graph is drawn into the same bytes.
        """
        import networkx as nx
        from matplotlib.figure import Figure

        place, size = self._layout()
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        graph = self.to_networkx()
        nx.draw_networkx_edges(graph, place, ax=axes, node_size=2200, edge_color="0.55", arrowsize=11, alpha=0.7)
        for site in self.sites:
            nx.draw_networkx_labels(
                graph, place, {site.name: site.name}, ax=axes, font_size=9,
                bbox={
                    "boxstyle": "square,pad=0.35" if site.kind == "intervened" else "round,pad=0.35",
                    "facecolor": "0.9" if site.observed else "white",
                    "edgecolor": "tab:blue",
                    "linestyle": "--" if site.exogenous else "-",
                },
            )  # fmt: skip
        axes.set_axis_off()
        axes.margins(0.14)
        save_figure(figure, path)

    def _layout(self) -> tuple[dict[str, tuple[float, float]], tuple[float, float]]:
        """Place of each site, and width and height of the picture in inches."""
        layer: dict[str, int] = {}
        for site in self.sites:
            layer[site.name] = max((layer[p] + 1 for p in site.parents), default=0)
        columns: dict[int, list[str]] = {}
        for name in self.names:
            columns.setdefault(layer[name], []).append(name)
        if len(columns) > 5:
            # A long chain of causes: program order clockwise on an ellipse, so that no edge hides another.
            angles = np.pi / 2 - 2 * np.pi * np.arange(len(self.names)) / len(self.names)
            round_place = zip(self.names, np.cos(angles), np.sin(angles), strict=True)
            return {name: (float(x), float(y)) for name, x, y in round_place}, (10.0, 7.0)
        place = {
            name: (float(column), (len(names) - 1) / 2 - row - 0.2 * (column % 2))
            for column, names in columns.items()
            for row, name in enumerate(names)
        }
        return place, (2.2 * max(2, len(columns)), 1.0 + max(map(len, columns.values()), default=1))


def _label(text: str) -> str:
    codes = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "`": "#96;"}
    return "".join(codes.get(letter, letter) for letter in shown(" ".join(text.split())))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def graph(fn: Callable, *args: Any, **kwargs: Any) -> Graph:
    """The causal graph of ``fn(*args, **kwargs)``.

    The function is run on abstract values: no language model is asked. Edges are found by following
    values, so they are right under ``do`` (an intervened site has no parents) and for sites that
    are not choices.

    Raises:
        SiteError: two sites have one name.

    >>> import sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> graph(model, lm).edges
    (('pdl1', 'drug'),)
    """
    return Graph(structure(fn, args, kwargs))
