"""Values of files, read with messages that say where a wrong one stands, what is needed there and what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import checks
from ..checks import as_path, told
from ..dsl.scoring.template import Template
from ..errors import SDSCMError, TemplateError, nearest
from .variables import FamilyVariable, Written

_VARIABLE = ("name", "kind", "options", "templates", "parents", "exogenous", "uniform")
_WRITTEN = ("max_tokens", "stop", "pattern", "temperature", "top_k", "top_p")
KINDS = ("choice", "text")


@dataclass(frozen=True)
class Reader:
    """Reads values of one format; ``where`` names a value's file and its place in it.

    Attributes:
        error: what is raised.
        mapping, nothing: what messages call a mapping and an empty value.
        unquoted: added to the message where a number or truth value stands in place of a text.

    >>> Reader(SDSCMError).texts(["a", 25], "F: options")
    Traceback (most recent call last):
    sdscm_jax.errors.SDSCMError: F: options[1]: a text is needed, got 25
    """

    error: type[SDSCMError]
    mapping: str = "a mapping"
    nothing: str = "nothing"
    unquoted: str = ""

    def file(self, path: str | Path) -> str:
        """The text of a file."""
        try:
            return as_path(path, "a file", self.error).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise self.error(f"{path}: cannot be read: {reason}") from error

    def check_keys(self, content: Any, known: Sequence[str], needed: Sequence[str], where: str) -> None:
        """Refuse what is no mapping, has an unknown key or lacks one."""
        if not isinstance(content, Mapping):
            raise self.error(f"{where}: {self.mapping} with keys is needed, got {self.kind(content)}")
        for key in content:
            if key not in known:
                raise self.error(f"{where}: unknown key {told(key)}; {nearest(key, known)}")
        missing = [key for key in needed if key not in content]
        if missing:
            raise self.error(f"{where}: missing key {', '.join(map(repr, missing))}")

    def items(self, value: Any, what: str, where: str) -> list[Any]:
        """A list of something."""
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self.error(f"{where}: a list of {what} is needed, got {self.kind(value)}")
        return list(value)

    def text(self, value: Any, where: str) -> str:
        """A text that is not blank."""
        if not isinstance(value, str) or not value.strip():
            unquoted = self.unquoted if isinstance(value, bool | int | float) else ""
            raise self.error(f"{where}: a text is needed, got {self.kind(value)}{unquoted}")
        return checks.text(value, where, self.error)

    def texts(self, value: Any, where: str) -> tuple[str, ...]:
        """A list of such texts."""
        return tuple(self.text(item, f"{where}[{i}]") for i, item in enumerate(self.items(value, "texts", where)))

    def flag(self, value: Any, where: str) -> bool:
        """True or false."""
        if not isinstance(value, bool):
            raise self.error(f"{where}: true or false is needed, got {self.kind(value)}")
        return value

    def templates(self, value: Any, where: str) -> tuple[Template, ...]:
        """A list of texts with one blank each."""
        templates = []
        for i, text in enumerate(self.texts(value, where)):
            try:
                templates.append(Template.parse(text))
            except TemplateError as error:
                raise self.error(f"{where}[{i}]: {error}") from error
        return tuple(templates)

    def variables(self, value: Any, where: str) -> tuple[FamilyVariable, ...]:
        """A list of variables in the package's own format."""
        return tuple(
            self._variable(entry, place) for place, entry in labelled(self.items(value, "variables", where), where)
        )

    def _variable(self, entry: Any, place: str) -> FamilyVariable:
        kind = entry.get("kind", KINDS[0]) if isinstance(entry, Mapping) else KINDS[0]
        written = checks.one_of(kind, KINDS, "kind of variable", self.error, f"{place}: kind") == "text"
        if written:
            self.check_keys(entry, (*_VARIABLE, *_WRITTEN), ("name", "templates"), place)
        else:
            self.check_keys(entry, _VARIABLE, ("name", "options", "templates"), place)
        return FamilyVariable(
            self.text(entry["name"], f"{place}: name"),
            self.texts(entry.get("options", ()), f"{place}: options"),
            self.templates(entry["templates"], f"{place}: templates"),
            self.texts(() if entry.get("parents") is None else entry["parents"], f"{place}: parents"),
            self.flag(entry.get("exogenous", False), f"{place}: exogenous"),
            self.flag(entry.get("uniform", False), f"{place}: uniform"),
            self._written(entry, place) if written else None,
        )

    def _written(self, entry: Mapping[str, Any], place: str) -> Written:
        """How a text is written; numbers are checked with the family."""
        given = {key: entry[key] for key in _WRITTEN if entry.get(key) is not None}
        if "stop" in given:
            stops = [given["stop"]] if isinstance(given["stop"], str) else self.items(given["stop"], "texts", place)
            given["stop"] = tuple(checks.text(stop, f"{place}: stop", self.error) for stop in stops)
        if "pattern" in given:
            given["pattern"] = self.text(given["pattern"], f"{place}: pattern")
        return Written(**given)

    def kind(self, value: Any) -> str:
        """What a message calls a value."""
        if value is None:
            return self.nothing
        if isinstance(value, Mapping):
            return self.mapping
        return (
            f"the text {told(value)}"
            if isinstance(value, str)
            else "a list"
            if isinstance(value, list)
            else told(value)
        )


def labelled(entries: Sequence[Any], where: str, key: str = "name") -> list[tuple[str, Any]]:
    """Entries with what messages call them: by number, and by name where they have one.

    >>> labelled([{"name": "sky"}, 3], "F: variables")
    [("F: variables[0] ('sky')", {'name': 'sky'}), ('F: variables[1]', 3)]
    """
    names = [entry.get(key) if isinstance(entry, Mapping) else None for entry in entries]
    return [
        (f"{where}[{i}] ({name!r})" if isinstance(name, str) else f"{where}[{i}]", entry)
        for i, (name, entry) in enumerate(zip(names, entries, strict=True))
    ]


def variable_content(v: FamilyVariable) -> dict[str, Any]:
    """A variable as ``Reader.variables`` reads it."""
    content: dict[str, Any] = {
        "name": v.name,
        "options": list(v.options),
        "templates": [str(template) for template in v.templates],
        "parents": list(v.parents),
        "exogenous": v.exogenous,
        "uniform": v.uniform,
    }
    if v.written is not None:
        default = asdict(Written())
        # How long it may be is said always: it is what a text costs.
        own = {k: x for k, x in asdict(v.written).items() if k == "max_tokens" or x != default[k]}
        content |= {"kind": v.kind, **own}
    return stated(content)


def stated(content: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is the default anyway."""
    return {key: value for key, value in content.items() if value not in (None, False, "", (), [], {})}
