"""The causal graph of a program."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpyro
import numpyro.distributions as dist

import sdscm_jax as sd

from ..needs import needs


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
