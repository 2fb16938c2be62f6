"""What part each variable of an audit plays, and the causal graph as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...page.markdown_text import mermaid_label

if TYPE_CHECKING:
    from ..spec import AuditSpec

ROLES = {
    "varied": "what the audit sets, first to the reference and then to another level",
    "background": "does not depend on what is varied",
    "legitimate": "may depend on what is varied, and the outcome may rightly depend on it",
    "not legitimate": "may depend on what is varied, but the outcome should not depend on it for that reason",
    "outcome": "what the effect is on",
    "aside": "depends on what is varied, but the outcome does not depend on it",
}


def roles(spec: AuditSpec) -> dict[str, str]:
    """The role of every variable (a key of ``ROLES``), by name, in causal order; what is varied comes first."""
    reached = {spec.attribute}
    found = {spec.attribute: "varied"}
    for variable in spec.variables:
        name = variable.name
        if reached.intersection(variable.parents):
            reached.add(name)
        if name == spec.outcome:
            found[name] = "outcome"
        elif name in spec.legitimate:
            found[name] = "legitimate"
        elif name in spec.not_legitimate:
            found[name] = "not legitimate"
        else:
            found[name] = "aside" if name in reached else "background"
    return found


def edges(spec: AuditSpec) -> list[tuple[str, str]]:
    """(cause, effect) pairs."""
    return [(parent, variable.name) for variable in spec.variables for parent in variable.parents]


def paths(spec: AuditSpec) -> set[tuple[str, str]]:
    """The edges by which what is varied can act on the outcome."""
    between = {spec.attribute, *spec.legitimate, *spec.not_legitimate}
    return {(a, b) for a, b in edges(spec) if a in between and b in {*between, spec.outcome}}


def mermaid(spec: AuditSpec) -> str:
    """The graph with its roles in Mermaid's language."""
    found = roles(spec)
    number = {name: f"v{i}" for i, name in enumerate(found)}
    lines = ["graph TD"]
    for name, role in found.items():
        lines.append(
            f'    {number[name]}["{mermaid_label(name)}: {role}"]{":::doubtful" if role == "not legitimate" else ""}'
        )
    ways = paths(spec)
    lines += [f"    {number[a]} {'==>' if (a, b) in ways else '-->'} {number[b]}" for a, b in edges(spec)]
    if "not legitimate" in found.values():
        lines.append("    classDef doubtful stroke-dasharray: 4 3")
    return "\n".join(lines)


def spoken_graph(spec: AuditSpec) -> str:
    """The graph for those who do not see it."""
    told = [
        f"{v.name} ({roles(spec)[v.name]}) depends on {', '.join(v.parents) if v.parents else 'nothing'}"
        for v in spec.variables
    ]
    return f"Causal graph. {spec.attribute} is varied. {'; '.join(told)}."
