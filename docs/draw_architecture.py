"""Draws ``docs/architecture.svg`` from the imports and docstrings of the package.

    python docs/draw_architecture.py

A room stands above every room that it imports from; lines are drawn where no way through other rooms says the same.
Below stand the rooms of the language. A test compares the picture with what this draws.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

import networkx as nx

PACKAGE = Path(__file__).resolve().parent.parent / "sdscm_jax"
PICTURE = Path(__file__).resolve().parent / "architecture.svg"
WIDTH, HIGH, GAP, ROW = 1000, 64, 18, 100


def rooms_of(place: Path) -> dict[str, str]:
    """Name -> what its docstring says, of the rooms of a package."""
    found = {}
    for path in sorted(place.iterdir()):
        init = path / "__init__.py"
        if init.is_file():
            said = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
            found[path.name] = " ".join(said.split("\n\n")[0].replace("``", "").split())
    return found


def imports(path: Path, root: Path) -> Iterator[tuple[str, ...]]:
    """What a file imports from the package, as parts of a dotted name."""
    own = path.relative_to(root.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = own[: -node.level]
            for alias in node.names:
                yield (*above, *((node.module or "").split(".") if node.module else ()), alias.name)


def graph_of(place: Path, rooms: Mapping[str, str]) -> nx.DiGraph:
    """Which room rests on which."""
    depth, graph = len(place.relative_to(PACKAGE.parent).parts), nx.DiGraph()
    graph.add_nodes_from(rooms)
    for room in rooms:
        for path in (place / room).rglob("*.py"):
            for parts in imports(path, PACKAGE):
                inside = len(parts) > depth and parts[:depth] == place.relative_to(PACKAGE.parent).parts
                if inside and parts[depth] in rooms and parts[depth] != room:
                    graph.add_edge(room, parts[depth])
    return graph


def drawn(graph: nx.DiGraph, rooms: Mapping[str, str], top: float, title: str) -> tuple[list[str], float]:
    """Elements of a picture of rooms, and where it ends."""
    levels = {n: i for i, layer in enumerate(nx.topological_generations(graph.reverse())) for n in layer}
    rows = [sorted(n for n in graph if levels[n] == i) for i in range(max(levels.values()), -1, -1)]
    parts = [f'<text x="20" y="{top + 24:g}" font-size="19" font-weight="600" fill="#1f2933">{escape(title)}</text>']
    boxes: dict[str, tuple[float, float, float]] = {}
    for i, row in enumerate(rows):
        width = min(440.0, (WIDTH - 100 - GAP * (len(row) - 1)) / len(row))
        left = (WIDTH - width * len(row) - GAP * (len(row) - 1)) / 2
        boxes |= {n: (left + k * (width + GAP), top + 44 + i * ROW, width) for k, n in enumerate(row)}
    beside = 0
    for upper, lower in sorted(nx.transitive_reduction(graph).edges):
        (x, y, w), (u, v, t) = boxes[upper], boxes[lower]
        a, b, middle = x + w / 2, u + t / 2, (y + HIGH + v) / 2
        way = f"M{a:g} {y + HIGH:g}C{a:g} {middle:g} {b:g} {middle:g} {b:g} {v:g}"
        if levels[upper] - levels[lower] > 1:
            # Past the rooms between.
            beside += 1
            edge = 5.0 * beside if a + b < WIDTH else WIDTH - 5.0 * beside
            start, end = (x, u) if a + b < WIDTH else (x + w, u + t)
            way = f"M{start:g} {y + HIGH / 2:g}H{edge:g}V{v + HIGH / 2:g}H{end:g}"
        parts.append(f'<path d="{way}" fill="none" stroke="#9aa5b1"/>')
    for name, (x, y, w) in boxes.items():
        box = f'x="{x:g}" y="{y:g}" width="{w:g}" height="{HIGH}"'
        parts.append(f'<rect {box} rx="6" fill="#f5f7fa" stroke="#9aa5b1"/>')
        parts.append(
            f'<text x="{x + 12:g}" y="{y + 22:g}" font-size="15" font-weight="600" fill="#1f2933">{escape(name)}</text>'
        )
        lines = textwrap.wrap(rooms[name], max(12, int(w / 6.9)))
        parts += [
            f'<text x="{x + 12:g}" y="{y + 40 + 15 * k:g}" font-size="12" fill="#52606d">{escape(line)}</text>'
            for k, line in enumerate(lines[:2])
        ]
    return parts, top + 44 + len(rows) * ROW


def picture() -> str:
    """The picture, as it is kept."""
    parts, top = [], 10.0
    for place, title in ((PACKAGE, "The rooms of sdscm-jax"), (PACKAGE / "dsl", "The rooms of the language (dsl)")):
        rooms = rooms_of(place)
        more, top = drawn(graph_of(place, rooms), rooms, top, title)
        parts += more
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:g}" font-family="system-ui, sans-serif" '
        'role="img" aria-label="Rooms of sdscm-jax, each resting on those below it">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{top:g}" fill="#ffffff"/>', *parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
