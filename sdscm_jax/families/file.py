"""Families in files: the package's own JSON (or TOML), and the JSON of the paper's published code."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checks import as_path, reason_of
from ..dsl.scoring.template import Template
from ..errors import FamilyError
from .declaration import Declaration, check_roles
from .file_content import Reader, labelled, stated, variable_content
from .variables import REFERENCE_KEYS, FamilyVariable, check_structure, in_causal_order

FamilySource = str | Path | Mapping[str, Any]

_ROLES = ("treatment", "arms", "outcome", "outcome_option", "hidden")
_TOP = ("name", "description", "licence", *_ROLES, "variables")
_READ = Reader(FamilyError, "an object", "null")

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
# Texts and comments of TOML, in which dots part no key. One that is never closed matches too: each letter is read once.
_TOML_TEXT = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+(?:""")?|"(?:[^"\\\n]|\\.)*+"?'
    r"|'''(?:[^']|'(?!''))*+(?:''')?|'[^'\n]*+'?|#[^\n]*+",
    re.DOTALL,
)
_MOST_DOTS = 100


def read(path: str | Path) -> Declaration:
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


def from_own(source: FamilySource, where: str = "family") -> Declaration:
    """See ``Family.from_json``.

    Args:
        source: a path, a text or its content.
        where: what a message calls a content.
    """
    content, where = _load(source, where)
    _READ.check_keys(content, _TOP, ("name", "variables"), where)
    variables = _READ.variables(content["variables"], f"{where}: variables")
    check_structure(variables, where)

    def maybe(key: str) -> str | None:
        return None if content.get(key) is None else _READ.text(content[key], f"{where}: {key}")

    family = Declaration(
        _READ.text(content["name"], f"{where}: name"),
        in_causal_order(variables, [v.name for v in variables]),
        maybe("treatment"),
        maybe("outcome"),
        _READ.texts(content.get("hidden", ()), f"{where}: hidden"),
        _arms(content.get("arms"), f"{where}: arms"),
        maybe("outcome_option"),
        maybe("licence") or "",
        maybe("description") or "",
    )
    check_roles(family, where)
    return family


def to_json(family: Declaration) -> str:
    """See ``Family.to_json``."""
    check_roles(family, f"family {family.name!r}")
    content: dict[str, Any] = {key: getattr(family, key) for key in _TOP if key != "variables"}
    content["variables"] = [variable_content(v) for v in family.variables]
    return json.dumps(stated(content), indent=2, ensure_ascii=False) + "\n"


def from_reference(source: FamilySource, where: str = "family") -> Declaration:
    """See ``Family.from_reference_json``.

    Args:
        source: a path, a text or its content.
        where: what a message calls a content.
    """
    content, where = _load(source, where)
    _READ.check_keys(content, _REFERENCE_TOP, (_SPACE,), where)
    space = f"{where}: {_SPACE}"
    entries = labelled(_READ.items(content[_SPACE], "variables", space), space, "variable_name")
    for place, entry in entries:
        _READ.check_keys(entry, (*_REFERENCE_NEEDED, "intervention_choice"), _REFERENCE_NEEDED, place)
    names = [_READ.text(entry["variable_name"], f"{place}: variable_name") for place, entry in entries]
    variables: list[FamilyVariable] = []
    for name, (place, entry) in zip(names, entries, strict=True):
        how = entry.get("intervention_choice")
        if how not in (None, "uniform"):
            raise FamilyError(
                f"{place}: intervention_choice: {how!r} is not supported (null or 'uniform' is); use handlers.do"
            )
        parents = sorted(
            _indices(
                () if entry["parent_indices"] is None else entry["parent_indices"],
                len(names),
                f"{place}: parent_indices",
            )
        )
        variables.append(
            FamilyVariable(
                name,
                _READ.texts(entry["candidate_set"], f"{place}: candidate_set"),
                _pairs(entry["possible_prefix_suffix_pairs"], f"{place}: possible_prefix_suffix_pairs"),
                tuple(names[i] for i in parents),
                _READ.flag(entry["exogenous"], f"{place}: exogenous"),
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
    family = Declaration(
        str(content.get("experiment_name", "family")),
        tuple(variables),
        treatment.name if treatment else None,
        outcome.name if outcome else None,
        arms=(arms[0], arms[1]) if arms else None,
        outcome_option=results[0] if results else None,
    )
    check_roles(family, where, REFERENCE_KEYS)
    return family


def _load(source: FamilySource, where: str = "family") -> tuple[Mapping[str, Any], str]:
    """The content of a file, a text or a mapping, and what messages call it."""
    if isinstance(source, Mapping):
        return source, where
    if isinstance(source, str) and source.lstrip().startswith("{"):
        text, where, toml = source, f"{where} (JSON text)", False
    else:
        path = as_path(source, "a family's file", FamilyError)
        text, where, toml = _READ.file(path), str(path), path.suffix == ".toml"

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise FamilyError(f"{where}: the key {key!r} stands twice in one object")
            content[key] = value
        return content

    # Python's reader takes the square of a dotted key's parts in steps.
    if toml and max((line.count(".") for line in _TOML_TEXT.sub("", text).splitlines()), default=0) > _MOST_DOTS:
        raise FamilyError(f"{where}: a key has more than {_MOST_DOTS} parts")
    try:
        content = tomllib.loads(text) if toml else json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        # (An integer of thousands of digits is a ValueError, too.)
        raise FamilyError(f"{where}: not {'TOML' if toml else 'JSON'}: {reason_of(error)}") from error
    if not isinstance(content, Mapping):
        raise FamilyError(f"{where}: a family is an object with keys, got {_READ.kind(content)}")
    return content, where


def _arms(value: Any, where: str) -> tuple[str, str] | None:
    if value is None:
        return None
    arms = _READ.texts(value, where)
    if len(arms) != 2:
        raise FamilyError(f"{where}: two options of the treatment are needed, low and high, got {len(arms)}")
    return arms[0], arms[1]


def _pairs(value: Any, where: str) -> tuple[Template, ...]:
    """Templates from the reference's pairs of what stands before and after the blank; either may be empty."""
    pairs = _READ.items(value, "[prefix, suffix]", where)
    for i, pair in enumerate(pairs):
        sound = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        if not sound or isinstance(pair, str):
            raise FamilyError(f"{where}[{i}]: a list of two texts, [prefix, suffix], is needed, got {_READ.kind(pair)}")
    return tuple(Template(*pair) for pair in pairs)


def _indices(value: Any, count: int, where: str) -> list[int]:
    """A list of numbers of things of which there are ``count``."""
    indices = _READ.items(value, "indices", where)
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise FamilyError(f"{where}: {index!r} is not an index; they run from 0 to {count - 1}")
    return indices
