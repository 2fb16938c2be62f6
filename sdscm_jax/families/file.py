"""Families in files: the package's own JSON (or TOML), and the JSON of the paper's published code."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..dsl.template import Template
from ..errors import FamilyError, TemplateError, nearest
from .check import REFERENCE_KEYS, check_roles, check_structure
from .family import Family, FamilyVariable

Source = str | Path | Mapping[str, Any]

_ROLES = ("treatment", "arms", "outcome", "outcome_option", "hidden")
_TOP = ("name", "description", "licence", *_ROLES, "variables")
_VARIABLE = ("name", "options", "templates", "parents", "exogenous", "uniform")

_SPACE = REFERENCE_KEYS.variables
_REFERENCE_TOP = (
    "experiment_name",
    _SPACE,
    "index_of_intervention",
    "intervention_choices",
    "index_of_outcome",
    "possible_outcome_choices",
)
_REFERENCE_NEEDED = ("variable_name", "possible_prefix_suffix_pairs", "candidate_set", "parent_indices", "exogenous")


def read(path: str | Path) -> Family:
    """The family of a file of either format, told apart by content.

    Raises:
        FamilyError: the file cannot be read, or is of neither format.
    """
    content, where = _load(path)
    if _SPACE in content:
        return from_reference(content, where)
    if "variables" in content:
        return from_own(content, where)
    raise FamilyError(
        f"{where}: not a family: there is neither the key 'variables' (this package's format) nor {_SPACE!r} "
        f"(the reference's); its keys: {', '.join(map(repr, content)) or 'none'}"
    )


def from_own(source: Source, where: str = "family") -> Family:
    """See ``Family.from_json``.

    Args:
        source: a path, a text or its content.
        where: what a message calls a content.
    """
    content, where = _load(source, where)
    _check_keys(content, _TOP, ("name", "variables"), where)
    variables: list[FamilyVariable] = []
    for i, entry in enumerate(_entries(content["variables"], f"{where}: variables")):
        place = f"{where}: {_label('variables', i, entry, 'name')}"
        _check_keys(entry, _VARIABLE, ("name", "options", "templates"), place)
        variables.append(
            FamilyVariable(
                _text(entry["name"], f"{place}: name"),
                _texts(entry["options"], f"{place}: options"),
                _templates(entry["templates"], f"{place}: templates"),
                _texts(entry.get("parents", ()), f"{place}: parents"),
                _flag(entry.get("exogenous", False), f"{place}: exogenous"),
                _flag(entry.get("uniform", False), f"{place}: uniform"),
            )
        )
    check_structure(variables, where)

    def maybe(key: str) -> str | None:
        return None if content.get(key) is None else _text(content[key], f"{where}: {key}")

    family = Family(
        _text(content["name"], f"{where}: name"),
        tuple(_parents_in_order(variables)),
        maybe("treatment"),
        maybe("outcome"),
        _texts(content.get("hidden", ()), f"{where}: hidden"),
        _arms(content.get("arms"), f"{where}: arms"),
        maybe("outcome_option"),
        maybe("licence") or "",
        maybe("description") or "",
    )
    check_roles(family, where)
    return family


def to_json(family: Family) -> str:
    """See ``Family.to_json``."""
    check_roles(family, f"family {family.name!r}")
    variables = [
        {
            "name": v.name,
            "options": v.options,
            "templates": [str(template) for template in v.templates],
            "parents": v.parents,
            "exogenous": v.exogenous,
            "uniform": v.uniform,
        }
        for v in family.variables
    ]
    content: dict[str, Any] = {key: getattr(family, key) for key in _TOP if key != "variables"}
    content["variables"] = [_stated(v) for v in variables]
    return json.dumps(_stated(content), indent=2, ensure_ascii=False) + "\n"


def from_reference(source: Source, where: str = "family") -> Family:
    """See ``Family.from_reference_json``.

    Args:
        source: a path, a text or its content.
        where: what a message calls a content.
    """
    content, where = _load(source, where)
    _check_keys(content, _REFERENCE_TOP, (_SPACE,), where)
    entries = _entries(content[_SPACE], f"{where}: {_SPACE}")
    places = [f"{where}: {_label(_SPACE, i, entry, 'variable_name')}" for i, entry in enumerate(entries)]
    for entry, place in zip(entries, places, strict=True):
        _check_keys(entry, (*_REFERENCE_NEEDED, "intervention_choice"), _REFERENCE_NEEDED, place)
    names = [_text(e["variable_name"], f"{p}: variable_name") for e, p in zip(entries, places, strict=True)]
    variables: list[FamilyVariable] = []
    for name, entry, place in zip(names, entries, places, strict=True):
        how = entry.get("intervention_choice")
        if how not in (None, "uniform"):
            raise FamilyError(
                f"{place}: intervention_choice: {how!r} is not supported (null or 'uniform' is); use handlers.do"
            )
        parents = sorted(_indices(entry["parent_indices"] or (), len(names), f"{place}: parent_indices"))
        variables.append(
            FamilyVariable(
                name,
                _texts(entry["candidate_set"], f"{place}: candidate_set"),
                _pairs(entry["possible_prefix_suffix_pairs"], f"{place}: possible_prefix_suffix_pairs"),
                tuple(names[i] for i in parents),
                _flag(entry["exogenous"], f"{place}: exogenous"),
                how == "uniform",
            )
        )
    check_structure(variables, where, REFERENCE_KEYS)

    def role(key: str) -> FamilyVariable | None:
        index = content.get(key)
        return None if index is None else variables[_indices([index], len(names), f"{where}: {key}")[0]]

    def chosen(key: str, variable: FamilyVariable | None, needed: int) -> tuple[str, ...] | None:
        if content.get(key) is None or variable is None:
            return None
        indices = _indices(content[key], len(variable.options), f"{where}: {key}")
        if len(indices) < needed:
            raise FamilyError(f"{where}: {key}: {needed} options of {variable.name!r} are needed, got {indices}")
        return tuple(variable.options[i] for i in indices)

    treatment, outcome = role("index_of_intervention"), role("index_of_outcome")
    arms = chosen("intervention_choices", treatment, 2)
    results = chosen("possible_outcome_choices", outcome, 1)
    family = Family(
        str(content.get("experiment_name", "family")),
        tuple(variables),
        treatment.name if treatment else None,
        outcome.name if outcome else None,
        arms=(arms[0], arms[1]) if arms else None,
        outcome_option=results[0] if results else None,
    )
    check_roles(family, where, REFERENCE_KEYS)
    return family


def _load(source: Source, where: str = "family") -> tuple[Mapping[str, Any], str]:
    """The content of a file, a text or a mapping, and what messages call it."""
    if isinstance(source, Mapping):
        return source, where
    if isinstance(source, str) and source.lstrip().startswith("{"):
        text, where, toml = source, f"{where} (JSON text)", False
    else:
        path = Path(source)
        where, toml = str(path), path.suffix == ".toml"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise FamilyError(f"{where}: cannot be read: {reason}") from error

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise FamilyError(f"{where}: the key {key!r} stands twice in one object")
            content[key] = value
        return content

    try:
        content = tomllib.loads(text) if toml else json.loads(text, object_pairs_hook=unique)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise FamilyError(f"{where}: not {'TOML' if toml else 'JSON'}: {error}") from error
    if not isinstance(content, Mapping):
        raise FamilyError(f"{where}: a family is an object with keys, got {_kind(content)}")
    return content, where


def _label(variables: str, i: int, entry: Any, key: str) -> str:
    """How messages call the i-th variable: by number, and by name where it has one."""
    name = entry.get(key) if isinstance(entry, Mapping) else None
    return f"{variables}[{i}] ({name!r})" if isinstance(name, str) else f"{variables}[{i}]"


def _check_keys(content: Any, known: Sequence[str], needed: Sequence[str], where: str) -> None:
    if not isinstance(content, Mapping):
        raise FamilyError(f"{where}: an object with keys is needed, got {_kind(content)}")
    for key in content:
        if key not in known:
            raise FamilyError(f"{where}: unknown key {key!r}; {nearest(key, known)}")
    missing = [key for key in needed if key not in content]
    if missing:
        raise FamilyError(f"{where}: missing key {', '.join(map(repr, missing))}")


def _entries(value: Any, where: str) -> list[Mapping[str, Any]]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise FamilyError(f"{where}: a list of variables is needed, got {_kind(value)}")
    return list(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise FamilyError(f"{where}: a text is needed, got {_kind(value)}")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise FamilyError(f"{where}: a list of texts is needed, got {_kind(value)}")
    return tuple(_text(item, f"{where}[{i}]") for i, item in enumerate(value))


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise FamilyError(f"{where}: true or false is needed, got {_kind(value)}")
    return value


def _arms(value: Any, where: str) -> tuple[str, str] | None:
    if value is None:
        return None
    arms = _texts(value, where)
    if len(arms) != 2:
        raise FamilyError(f"{where}: two options of the treatment are needed, low and high, got {len(arms)}")
    return arms[0], arms[1]


def _templates(value: Any, where: str) -> tuple[Template, ...]:
    templates = []
    for i, text in enumerate(_texts(value, where)):
        try:
            templates.append(Template.parse(text))
        except TemplateError as error:
            raise FamilyError(f"{where}[{i}]: {error}") from error
    return tuple(templates)


def _pairs(value: Any, where: str) -> tuple[Template, ...]:
    """Templates from the reference's pairs of what stands before and after the blank; either may be empty."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise FamilyError(f"{where}: a list of [prefix, suffix] is needed, got {_kind(value)}")
    for i, pair in enumerate(value):
        sound = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        if not sound or isinstance(pair, str):
            raise FamilyError(f"{where}[{i}]: a list of two texts, [prefix, suffix], is needed, got {_kind(pair)}")
    return tuple(Template(*pair) for pair in value)


def _indices(value: Any, count: int, where: str) -> list[int]:
    """A list of numbers of things of which there are ``count``."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise FamilyError(f"{where}: a list of indices is needed, got {_kind(value)}")
    for index in value:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise FamilyError(f"{where}: {index!r} is not an index; they run from 0 to {count - 1}")
    return list(value)


def _parents_in_order(variables: list[FamilyVariable]) -> list[FamilyVariable]:
    """Parents as the text of a unit has them: in causal order, however a file lists them."""
    position = {v.name: i for i, v in enumerate(variables)}
    return [
        FamilyVariable(
            v.name, v.options, v.templates, tuple(sorted(v.parents, key=position.__getitem__)), v.exogenous, v.uniform
        )
        for v in variables
    ]


def _stated(content: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is the default anyway."""
    return {key: value for key, value in content.items() if value not in (None, False, "", ())}


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "the text", type(None): "null"}
    kind = kinds.get(type(value), "")
    return f"{kind} {value!r}".strip() if type(value) not in (dict, list, type(None)) else kind
