"""What varies between wordings."""

from __future__ import annotations

from ..result import AuditResult
from .spoken import counted


def what_varies(result: AuditResult) -> list[tuple[str, list[str]]]:
    """For every proxy and variable: what there is of it, and the texts one by one."""
    spec = result.spec
    told = []
    for proxy in spec.proxies:
        phrases = [f"{level}: {' or '.join(texts)}" for level, texts in proxy.phrases.items()]
        most = max(len(texts) for texts in proxy.phrases.values())
        head = f"{spec.attribute}, by {proxy.name}: {counted(len(proxy.templates), 'wording')}"
        told.append((f"{head}, {counted(most, 'phrase')} for a level", [*map(str, proxy.templates), *phrases]))
    for variable in spec.variables:
        sets = spec.option_wordings.get(variable.name, (variable.options,)) if variable.written is None else ()
        head = f"{variable.name}: {counted(len(variable.templates), 'wording')}"
        head += f", {counted(len(sets), 'set')} of options" if sets else ", free text"
        told.append((head, [*map(str, variable.templates), *(f"options: {' / '.join(texts)}" for texts in sets)]))
    return told
