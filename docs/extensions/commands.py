"""The directive ``sdscm-command``: a command of ``sdscm`` with its arguments and options, from the program itself."""

from __future__ import annotations

import inspect
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command

from sdscm_jax.cli import app as program


class SdscmCommand(SphinxDirective):
    """``{sdscm-command} generate``: usage, what the command does, and a list of what it takes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes of the command."""
        commands = get_command(program).commands  # type: ignore[attr-defined]
        name = self.arguments[0]
        if name not in commands:
            raise self.error(f"sdscm has no command {name!r} (known: {', '.join(commands)})")
        command = commands[name]
        types = inspect.signature(inspect.unwrap(command.callback), eval_str=True).parameters
        # --help is in every command.
        taken = [p for p in command.params if "--help" not in p.opts]
        arguments = [p for p in taken if p.param_type_name == "argument"]
        usage = " ".join(["sdscm", name, *(f"{p.name.upper()}" for p in arguments), "[OPTIONS]"])
        found = [nodes.literal_block(usage, usage, language="sh"), nodes.paragraph(text=_plain(command.help))]
        items = nodes.definition_list()
        for parameter in taken:
            spelled = parameter.name.upper() if parameter in arguments else ", ".join(parameter.opts)
            term = nodes.term(
                "", "", nodes.literal(text=spelled), nodes.Text(_value(parameter, types[parameter.name].annotation))
            )
            meaning = nodes.definition("", nodes.paragraph(text=_plain(parameter.help)))
            items += nodes.definition_list_item("", term, meaning)
        return [*found, items]


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())


def _value(parameter: Any, annotation: Any) -> str:
    """What stands behind an option: its type, whether it is needed, its default."""
    declared = get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
    if declared is bool:
        return ""
    told = " (needed)" if parameter.required else ""
    if parameter.default not in (None, [], ()):
        told = f" (default: {parameter.default})"
    return f" {_type(declared)}{told}"


def _type(declared: Any) -> str:
    """The name of a type; of ``T | None`` that of T.

    ``list[T]`` may be given several times.
    """
    if get_origin(declared) in (Union, UnionType):
        return _type(next(t for t in get_args(declared) if t is not NoneType))
    if get_origin(declared) is list:
        return f"{_type(get_args(declared)[0])} …"
    return str(declared.__name__).lower()


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("sdscm-command", SdscmCommand)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
