"""The causal graph of a program."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpyro
import numpyro.distributions as dist
import pytest
from matplotlib.figure import Figure

import sdscm_jax as sd
from sdscm_jax.errors import SiteError
from sdscm_jax.page.graph_layers import implied, layered

from ...needs import needs


def model(lm: sd.LanguageModel) -> None:
    u = sd.sample("u", sd.Choice(lm, "It is {}.", ["sun", "rain"]), exogenous=True)
    x = sd.sample("x", sd.Choice(lm, "Now {}.", ["low", "high"], given=["Some text.", u]))
    z = numpyro.sample("z", dist.Normal((x == "high").astype(float), 1.0))
    numpyro.deterministic("w", z + 1)
    sd.sample("y", sd.Choice(lm, "Then {}.", ["a", "b"], given=[u], temperature=1 + z**2))


def test_edges(lm: sd.LanguageModel) -> None:
    graph = sd.graph(model, lm)
    assert graph.names == ("u", "x", "z", "w", "y")
    assert set(graph.edges) == {("u", "x"), ("x", "z"), ("z", "w"), ("u", "y"), ("z", "y")}
    assert graph["u"].exogenous
    assert graph["x"].options == ("low", "high")
    assert (graph["z"].kind, graph["w"].kind) == ("Normal", "deterministic")
    assert graph.descendants("x") == ("z", "w", "y")
    assert nx.is_directed_acyclic_graph(graph.to_networkx())


def test_an_intervened_site_has_no_parents(lm: sd.LanguageModel) -> None:
    graph = sd.graph(sd.handlers.do(model, {"z": 0.5}), lm)
    assert graph["z"].kind == "intervened"
    assert set(graph.edges) == {("u", "x"), ("z", "w"), ("u", "y"), ("z", "y")}
    for value in ("high", "uniform"):
        forced = sd.graph(sd.handlers.do(model, {"x": value}), lm)["x"]
        assert (forced.kind, forced.parents, forced.options) == ("intervened", (), ("low", "high"))


def test_pictures(lm: sd.LanguageModel, tmp_path: Path) -> None:
    graph = sd.graph(model, lm)
    for name in ("dag.svg", "dag.png", "dag.pdf"):
        graph.draw(tmp_path / name)
        first = (tmp_path / name).read_bytes()
        graph.draw(tmp_path / name)
        assert (tmp_path / name).read_bytes() == first
    svg = (tmp_path / "dag.svg").read_text()
    assert "<svg" in svg
    assert "dc:date" not in svg
    assert b"CreationDate" not in (tmp_path / "dag.pdf").read_bytes()
    dot = graph.to_graphviz()
    assert dot.count("->") == len(graph.edges)
    assert graph.to_mermaid().count("-->") == len(graph.edges)


def test_numpyro_renders_it(lm: sd.LanguageModel) -> None:
    needs("graphviz")
    source = numpyro.render_model(model, model_args=(lm,)).source
    assert all(name in source for name in ("u", "x", "z", "y"))


def test_edges_that_others_imply() -> None:
    """All but the transitive reduction, which networkx computes."""
    names = [str(i) for i in range(9)]
    edges = [(a, b) for i, a in enumerate(names) for j, b in enumerate(names) if i < j and (3 * i + j) % 4 < 2]
    reduced = set(nx.transitive_reduction(nx.DiGraph(edges)).edges)
    assert 0 < len(reduced) < len(edges)
    assert implied(names, edges) == set(edges) - reduced


def test_a_complete_graph_is_a_column_with_bundles() -> None:
    """Of 14 variables that are each given all before: one box in a layer, one way for each cause beside it."""
    names = [str(i) for i in range(14)]
    edges = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    faint = implied(names, edges)
    layers, routes = layered(names, edges, faint)
    assert set(edges) - faint == set(pairwise(names))
    assert [sum(isinstance(stop, str) for stop in layer) for layer in layers] == [1] * 14
    assert max(map(len, layers)) <= 13
    assert set(routes) == set(edges)
    # Ways go straight down: no two of them cross beside the boxes.
    row = {stop: (i, place) for i, layer in enumerate(layers) for place, stop in enumerate(layer)}
    steps = {
        (x, y)
        for route in routes.values()
        for x, y in pairwise(route)
        if not (isinstance(x, str) or isinstance(y, str))
    }
    crossing = [
        (a, c) for a, b in steps for c, d in steps
        if row[a][0] == row[c][0] and (row[a][1] - row[c][1]) * (row[b][1] - row[d][1]) < 0
    ]  # fmt: skip
    assert not crossing


def test_draw_marks_roles_and_returns_the_figure(lm: sd.LanguageModel) -> None:
    graph = sd.graph(model, lm)
    figure = graph.draw(treatment="x", outcome="y")
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert {"treatment", "outcome", "exogenous"} <= set(said)
    assert {"x (treatment)", "y (outcome)", "u (exogenous)", "z (Normal)"} <= {" ".join(text.split()) for text in said}
    own = Figure(figsize=(9, 3))
    axes = own.subplots()
    assert graph.draw(ax=axes) is own
    assert len(axes.patches) >= len(graph.edges)
    with pytest.raises(SiteError, match="site"):
        graph.draw(treatment="xx")
