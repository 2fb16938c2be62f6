"""Specifications of audits in YAML files and in mappings of their layout."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..dsl.template import Template
from ..errors import AuditError, TemplateError, nearest
from ..families import FamilyVariable
from .spec import AuditSpec, FreeText, Proxy

_NEEDED = ("name", "title", "question", "attribute", "variables", "outcome")
_LIMITS = ("can_show", "cannot_show", "source", "licence")
_TOP = (*_NEEDED, "mediators", "option_wordings", "text", "scorings", "lms", *_LIMITS)
_VARIABLE = ("name", "options", "templates", "parents", "exogenous", "uniform")


def read(path: str | Path) -> AuditSpec:
    """See ``AuditSpec.read``."""
    where = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise AuditError(f"{where}: cannot be read: {reason}") from error
    try:
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise AuditError(f"{where}: not YAML: {error.problem}{place}") from error
    except yaml.YAMLError as error:
        raise AuditError(f"{where}: not YAML: {error}") from error
    return from_content(content, where)


def from_content(content: Any, path: str | None = None) -> AuditSpec:
    """See ``AuditSpec.from_dict``.

    Args:
        content: a mapping.
        path: of its file, if any, for messages.
    """
    where = path or "audit"
    _check_keys(content, _TOP, _NEEDED, where)
    attribute, outcome = content["attribute"], content["outcome"]
    _check_keys(attribute, ("name", "levels", "proxies"), ("name", "levels", "proxies"), f"{where}: attribute")
    _check_keys(outcome, ("name", "option"), ("name", "option"), f"{where}: outcome")
    mediators = content.get("mediators") or {}
    _check_keys(mediators, ("legitimate", "not_legitimate"), (), f"{where}: mediators")
    parts: dict[str, Any] = {
        **{key: _text(content[key], f"{where}: {key}") for key in ("name", "title", "question")},
        "attribute": _text(attribute["name"], f"{where}: attribute: name"),
        "levels": _texts(attribute["levels"], f"{where}: attribute: levels"),
        "proxies": _proxies(attribute["proxies"], f"{where}: attribute: proxies"),
        "variables": _variables(content["variables"], f"{where}: variables"),
        "outcome": _text(outcome["name"], f"{where}: outcome: name"),
        "option": _text(outcome["option"], f"{where}: outcome: option"),
        **{key: _texts(value or (), f"{where}: mediators: {key}") for key, value in mediators.items()},
        "option_wordings": _option_wordings(content.get("option_wordings") or {}, f"{where}: option_wordings"),
        "text": _free_text(content.get("text"), f"{where}: text"),
        **{key: _texts(content[key] or (), f"{where}: {key}") for key in ("scorings", "lms") if key in content},
        **{key: _text(content[key], f"{where}: {key}") for key in _LIMITS if content.get(key)},
    }
    try:
        return AuditSpec(**parts)
    except AuditError as error:
        if path is None:
            raise
        # A specification calls itself by its name; who reads a file looks for the file.
        raise AuditError(str(error).replace(f"audit {parts['name']!r}", path, 1)) from error


def to_dict(spec: AuditSpec) -> dict[str, Any]:
    """See ``AuditSpec.to_dict``."""
    text = spec.text
    content: dict[str, Any] = {
        "name": spec.name,
        "title": spec.title,
        "question": spec.question,
        "attribute": {
            "name": spec.attribute,
            "levels": list(spec.levels),
            "proxies": {
                proxy.name: {
                    "templates": [str(template) for template in proxy.templates],
                    "phrases": {level: list(proxy.phrases[level]) for level in spec.levels},
                }
                for proxy in spec.proxies
            },
        },
        "variables": [_stated(_variable_dict(v)) for v in spec.variables],
        "outcome": {"name": spec.outcome, "option": spec.option},
        "mediators": _stated({"legitimate": list(spec.legitimate), "not_legitimate": list(spec.not_legitimate)}),
        "option_wordings": {name: [list(texts) for texts in all_] for name, all_ in spec.option_wordings.items()},
        "text": text and _stated({"template": text.template, "max_tokens": text.max_tokens, "pattern": text.pattern}),
        "scorings": list(spec.scorings),
        "lms": list(spec.lms),
        **{key: getattr(spec, key) for key in _LIMITS},
    }
    return _stated(content)


def to_yaml(spec: AuditSpec) -> str:
    """See ``AuditSpec.to_yaml``."""
    return yaml.safe_dump(to_dict(spec), sort_keys=False, allow_unicode=True, width=120)


class _Loader(yaml.SafeLoader):
    """YAML without repeated keys, of which the loader would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands twice in one mapping", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _proxies(value: Any, where: str) -> tuple[Proxy, ...]:
    _check_mapping(value, "proxies by name", where)
    proxies = []
    for name, entry in value.items():
        place = f"{where}: {_text(name, where)!r}"
        _check_keys(entry, ("templates", "phrases"), ("templates", "phrases"), place)
        _check_mapping(entry["phrases"], "texts by level", f"{place}: phrases")
        phrases = {
            _text(level, f"{place}: phrases"): _texts(texts or (), f"{place}: phrases: {level!r}")
            for level, texts in entry["phrases"].items()
        }
        proxies.append(Proxy(name, _templates(entry["templates"], f"{place}: templates"), phrases))
    return tuple(proxies)


def _variables(value: Any, where: str) -> tuple[FamilyVariable, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise AuditError(f"{where}: a list of variables is needed, got {_kind(value)}")
    variables = []
    for i, entry in enumerate(value):
        named = isinstance(entry, Mapping) and isinstance(entry.get("name"), str)
        place = f"{where}[{i}] ({entry['name']!r})" if named else f"{where}[{i}]"
        _check_keys(entry, _VARIABLE, ("name", "options", "templates"), place)
        variables.append(
            FamilyVariable(
                _text(entry["name"], f"{place}: name"),
                _texts(entry["options"], f"{place}: options"),
                _templates(entry["templates"], f"{place}: templates"),
                _texts(entry.get("parents") or (), f"{place}: parents"),
                _flag(entry.get("exogenous", False), f"{place}: exogenous"),
                _flag(entry.get("uniform", False), f"{place}: uniform"),
            )
        )
    return tuple(variables)


def _variable_dict(v: FamilyVariable) -> dict[str, Any]:
    return {
        "name": v.name,
        "options": list(v.options),
        "templates": [str(template) for template in v.templates],
        "parents": list(v.parents),
        "exogenous": v.exogenous,
        "uniform": v.uniform,
    }


def _option_wordings(value: Any, where: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    _check_mapping(value, "alternative texts by variable", where)
    wordings = {}
    for name, lists in value.items():
        place = f"{where}: {_text(name, where)!r}"
        if isinstance(lists, str) or not isinstance(lists, Sequence):
            raise AuditError(f"{place}: a list of lists of texts is needed, got {_kind(lists)}")
        wordings[name] = tuple(_texts(texts, f"{place}[{j}]") for j, texts in enumerate(lists))
    return wordings


def _free_text(value: Any, where: str) -> FreeText | None:
    if value is None:
        return None
    _check_keys(value, ("template", "max_tokens", "pattern"), ("template",), where)
    pattern = value.get("pattern")
    return FreeText(
        _text(value["template"], f"{where}: template"),
        value.get("max_tokens", FreeText.max_tokens),
        None if pattern is None else _text(pattern, f"{where}: pattern"),
    )


def _templates(value: Any, where: str) -> tuple[Template, ...]:
    templates = []
    for i, text in enumerate(_texts(value, where)):
        try:
            templates.append(Template.parse(text))
        except TemplateError as error:
            raise AuditError(f"{where}[{i}]: {error}") from error
    return tuple(templates)


def _check_mapping(value: Any, what: str, where: str) -> None:
    if not isinstance(value, Mapping):
        raise AuditError(f"{where}: {what} are needed, got {_kind(value)}")


def _check_keys(content: Any, known: Sequence[str], needed: Sequence[str], where: str) -> None:
    if not isinstance(content, Mapping):
        raise AuditError(f"{where}: a mapping with keys is needed, got {_kind(content)}")
    for key in content:
        if key not in known:
            raise AuditError(f"{where}: unknown key {key!r}; {nearest(str(key), known)}")
    missing = [key for key in needed if key not in content]
    if missing:
        raise AuditError(f"{where}: missing key {', '.join(map(repr, missing))}")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        # YAML reads yes, no, 25 and the like as something else.
        quote = "; write it in quotes" if isinstance(value, bool | int | float) else ""
        raise AuditError(f"{where}: a text is needed, got {_kind(value)}{quote}")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise AuditError(f"{where}: a list of texts is needed, got {_kind(value)}")
    return tuple(_text(item, f"{where}[{i}]") for i, item in enumerate(value))


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise AuditError(f"{where}: true or false is needed, got {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    return f"the text {value!r}" if isinstance(value, str) else "a list" if isinstance(value, list) else repr(value)


def _stated(content: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is the default anyway."""
    return {key: value for key, value in content.items() if value not in (None, False, "", [], {})}
