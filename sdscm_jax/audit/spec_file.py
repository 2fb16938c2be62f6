"""Specifications of audits in YAML files and in mappings of their layout."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..checks import as_path, reason_of
from ..errors import AuditError
from ..families.file_content import Reader, stated, variable_content
from .spec_fields import FreeText, Proxy, SpecFields

_NEEDED = ("name", "title", "question", "attribute", "variables", "outcome")
_LIMITS = ("can_show", "cannot_show", "source", "licence")
_TOP = (*_NEEDED, "mediators", "option_wordings", "text", "scorings", "lms", *_LIMITS)
# YAML reads yes, no, 25 and the like as something else.
_READ = Reader(AuditError, unquoted="; write it in quotes")


def read(path: str | Path) -> SpecFields:
    """See ``AuditSpec.read``."""
    where = str(as_path(path, "an audit's file", AuditError))
    text = _READ.file(path)
    try:
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise AuditError(f"{where}: not YAML: {error.problem}{place}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # (An integer of thousands of digits, a date that is none; nested too deeply.)
        raise AuditError(f"{where}: not YAML: {reason_of(error)}") from error
    return from_content(content, where)


def from_content(content: Any, where: str = "audit") -> SpecFields:
    """See ``AuditSpec.from_dict``.

    Args:
        content: a mapping.
        where: what messages call it, such as the path of its file.
    """
    _READ.check_keys(content, _TOP, _NEEDED, where)
    attribute, outcome = content["attribute"], content["outcome"]
    _READ.check_keys(attribute, ("name", "levels", "proxies"), ("name", "levels", "proxies"), f"{where}: attribute")
    _READ.check_keys(outcome, ("name", "option"), ("name", "option"), f"{where}: outcome")
    mediators = content.get("mediators") or {}
    _READ.check_keys(mediators, ("legitimate", "not_legitimate"), (), f"{where}: mediators")
    parts: dict[str, Any] = {
        **{key: _READ.text(content[key], f"{where}: {key}") for key in ("name", "title", "question")},
        "attribute": _READ.text(attribute["name"], f"{where}: attribute: name"),
        "levels": _READ.texts(attribute["levels"], f"{where}: attribute: levels"),
        "proxies": _proxies(attribute["proxies"], f"{where}: attribute: proxies"),
        "variables": _READ.variables(content["variables"], f"{where}: variables"),
        "outcome": _READ.text(outcome["name"], f"{where}: outcome: name"),
        "option": _READ.text(outcome["option"], f"{where}: outcome: option"),
        **{key: _READ.texts(_given(value), f"{where}: mediators: {key}") for key, value in mediators.items()},
        "option_wordings": _option_wordings(content.get("option_wordings") or {}, f"{where}: option_wordings"),
        "text": _free_text(content.get("text"), f"{where}: text"),
        **{key: _READ.texts(_given(content[key]), f"{where}: {key}") for key in ("scorings", "lms") if key in content},
        **{key: _READ.text(content[key], f"{where}: {key}") for key in _LIMITS if content.get(key)},
    }
    return SpecFields(**parts)


def to_dict(spec: SpecFields) -> dict[str, Any]:
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
                    **({} if proxy.drawn else {"drawn": False}),
                }
                for proxy in spec.proxies
            },
        },
        "variables": [variable_content(v) for v in spec.variables],
        "outcome": {"name": spec.outcome, "option": spec.option},
        "mediators": stated({"legitimate": list(spec.legitimate), "not_legitimate": list(spec.not_legitimate)}),
        "option_wordings": {name: [list(texts) for texts in all_] for name, all_ in spec.option_wordings.items()},
        "text": text and stated({"template": text.template, "max_tokens": text.max_tokens, "pattern": text.pattern}),
        "scorings": list(spec.scorings),
        "lms": list(spec.lms),
        **{key: getattr(spec, key) for key in _LIMITS},
    }
    return stated(content)


def to_yaml(spec: SpecFields) -> str:
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


def _given(value: Any) -> Any:
    """A list, which in YAML may be left empty."""
    return () if value is None else value


def _proxies(value: Any, where: str) -> tuple[Proxy, ...]:
    _check_mapping(value, "proxies by name", where)
    proxies = []
    for name, entry in value.items():
        place = f"{where}: {_READ.text(name, where)!r}"
        _READ.check_keys(entry, ("templates", "phrases", "drawn"), ("templates", "phrases"), place)
        _check_mapping(entry["phrases"], "texts by level", f"{place}: phrases")
        phrases = {
            _READ.text(level, f"{place}: phrases"): _READ.texts(_given(texts), f"{place}: phrases: {level!r}")
            for level, texts in entry["phrases"].items()
        }
        templates, drawn = entry["templates"], entry.get("drawn", True)
        templates = _READ.templates(templates, f"{place}: templates")
        proxies.append(Proxy(name, templates, phrases, _READ.flag(drawn, f"{place}: drawn")))
    return tuple(proxies)


def _option_wordings(value: Any, where: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    _check_mapping(value, "alternative texts by variable", where)
    wordings = {}
    for name, lists in value.items():
        place = f"{where}: {_READ.text(name, where)!r}"
        found = _READ.items(lists, "lists of texts", place)
        wordings[name] = tuple(_READ.texts(texts, f"{place}[{j}]") for j, texts in enumerate(found))
    return wordings


def _free_text(value: Any, where: str) -> FreeText | None:
    if value is None:
        return None
    _READ.check_keys(value, ("template", "max_tokens", "pattern"), ("template",), where)
    pattern = value.get("pattern")
    return FreeText(
        _READ.text(value["template"], f"{where}: template"),
        value.get("max_tokens", FreeText.max_tokens),
        None if pattern is None else _READ.text(pattern, f"{where}: pattern"),
    )


def _check_mapping(value: Any, what: str, where: str) -> None:
    if not isinstance(value, Mapping):
        raise AuditError(f"{where}: {what} are needed, got {_READ.kind(value)}")
