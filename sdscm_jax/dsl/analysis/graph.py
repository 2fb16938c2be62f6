"""The causal graph of a model function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...checks import one_of
from ...errors import SiteError
from ...page.drawing import Panel, figure_style, panel
from ...page.forms import Form, Shown, few
from ...page.graph_picture import EXOGENOUS, INTERVENED, MOST_DRAWN, OBSERVED, Box, graph_axes, marked_boxes
from ...terminal import shown
from .save_figure import save_figure
from .structure import Site, structure

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Graph(Shown):
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

    def _form(self) -> Form:
        def listed(names: tuple[str, ...]) -> str:
            return few(names) if names else ""

        return Form(
            f"Graph: {len(self.sites)} sites, {len(self.edges)} edges",
            headings=("site", "kind", "parents", "options"),
            rows=[(site.name, _kind(site), listed(site.parents), listed(site.options)) for site in self.sites],
            picture=self._panel,
        )

    def _panel(self, treatment: str | None = None, outcome: str | None = None) -> Panel | None:
        """The picture for a page; None: the graph is too large for one."""
        if not 0 < len(self.sites) <= MOST_DRAWN:
            return None
        told = "; ".join(f"{site.name} depends on {', '.join(site.parents) or 'nothing'}" for site in self.sites)
        return panel(lambda: self._axes(treatment, outcome), f"Causal graph. {told}.")

    def to_pandas(self) -> pd.DataFrame:
        """One row a site, in program order.

        Columns: ``kind``, ``parents``, ``options`` (tuples), ``template``, ``exogenous``, ``observed``.
        """
        import pandas as pd

        columns = {
            "kind": [site.kind for site in self.sites],
            "parents": [site.parents for site in self.sites],
            "options": [site.options for site in self.sites],
            "template": [str(site.template) if site.template else "" for site in self.sites],
            "exogenous": [site.exogenous for site in self.sites],
            "observed": [site.observed for site in self.sites],
        }
        return pd.DataFrame(columns, pd.Index(self.names, name="site"))

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

    def draw(
        self, path: str | Path | None = None, ax: Any = None, *, treatment: str | None = None,
        outcome: str | None = None,
    ) -> Figure:  # fmt: skip
        """Draw the graph, causes above effects.

        Exogenous, observed and intervened sites are marked, and where they are named the treatment and the outcome. A
        parent that a site also depends on through its other parents has a faint edge. The same graph is drawn into
        the same bytes.

        Args:
            path: a file; its ending (``.svg``, ``.png``, ``.pdf``) says which kind. None: none is written.
            ax: Matplotlib axes to draw into; None: those of a new figure.
            treatment, outcome: sites that stand out.

        Returns:
            the Matplotlib figure, which a notebook shows.

        Raises:
            SiteError: there is no such treatment or outcome.
            SDSCMError: the file cannot be written.
        """
        with figure_style():
            axes = self._axes(treatment, outcome, ax)
        figure = axes.figure
        if ax is None:
            figure.set_facecolor("white")
        if path is not None:
            save_figure(figure, path)
        return figure

    def _axes(self, treatment: str | None = None, outcome: str | None = None, ax: Any = None) -> Any:
        for name in (treatment, outcome):
            if name is not None:
                one_of(name, self.names, "site", SiteError)
        boxes = marked_boxes({site.name: _box(site) for site in self.sites}, treatment, outcome)
        return graph_axes(boxes, self.edges, key=True, widen=True, axes=ax)


def _kind(site: Site) -> str:
    ending = ", exogenous" if site.exogenous else ", observed" if site.observed else ""
    return site.kind + ending


def _box(site: Site) -> Box | None:
    """How a site is drawn; None: a choice like any other."""
    if site.kind == "intervened":
        return INTERVENED
    box = EXOGENOUS if site.exogenous else OBSERVED if site.observed else None
    if site.kind == "choice":
        return box
    return (box or Box())._replace(note=f"{box.note}, {site.kind}" if box else site.kind)


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
