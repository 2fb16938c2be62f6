"""Checks of a family's structure and of its roles, made before any language model works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from ..dsl.template import BLANK, parse_options
from ..errors import FamilyError, OptionError, nearest

if TYPE_CHECKING:
    from .family import Family, FamilyVariable


@dataclass(frozen=True)
class Keys:
    """What a file calls the parts of a family, so that a message names the key to look at."""

    variables: str = "variables"
    options: str = "options"
    templates: str = "templates"
    parents: str = "parents"
    treatment: str = "treatment"
    arms: str = "arms"
    outcome: str = "outcome"
    outcome_option: str = "outcome_option"
    hidden: str = "hidden"


OWN_KEYS = Keys()
REFERENCE_KEYS = Keys(
    variables="setup_sequence_sample_space",
    options="candidate_set",
    templates="possible_prefix_suffix_pairs",
    parents="parent_indices",
    treatment="index_of_intervention",
    arms="intervention_choices",
    outcome="index_of_outcome",
    outcome_option="possible_outcome_choices",
)


def check_structure(variables: Sequence[FamilyVariable], where: str, keys: Keys = OWN_KEYS) -> None:
    """Refuse variables that do not make a program: a list in causal order, without a cycle.

    Args:
        variables: as declared.
        where: what a message calls the family, such as the path of its file.
        keys: what a message calls its parts.

    Raises:
        FamilyError: there are no variables, two share a name, one has no wordings or unusable options, or its
            parents are unknown, repeated, in a cycle or later.
    """
    if not variables:
        raise FamilyError(f"{where}: {keys.variables}: there are none")
    position: dict[str, int] = {}
    for i, v in enumerate(variables):
        if v.name in position:
            raise FamilyError(f"{where}: {keys.variables}[{position[v.name]}] and [{i}] are both named {v.name!r}")
        position[v.name] = i

    def place(v: FamilyVariable, key: str) -> str:
        return f"{where}: {keys.variables}[{position[v.name]}] ({v.name!r}): {key}"

    for v in variables:
        if not v.templates:
            raise FamilyError(f"{place(v, keys.templates)}: there are none")
        for template in v.templates:
            if BLANK in template.prefix or BLANK in template.suffix:
                raise FamilyError(f"{place(v, keys.templates)}: {str(template)!r} has more than one blank {BLANK}")
        try:
            parse_options(v.options, v.templates[0])
        except OptionError as error:
            raise FamilyError(f"{place(v, keys.options)}: {error}") from error
        for i, parent in enumerate(v.parents):
            if parent not in position:
                known = nearest(parent, [name for name in position if name != v.name])
                raise FamilyError(f"{place(v, keys.parents)}: there is no variable {parent!r}; {known}")
            if parent in v.parents[:i]:
                raise FamilyError(f"{place(v, keys.parents)}: {parent!r} is listed twice")
    try:
        TopologicalSorter({v.name: v.parents for v in variables}).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1][:-1]
        first = min(range(len(cycle)), key=lambda i: position[cycle[i]])
        name, *others = cycle[first:] + cycle[:first]
        path = " -> ".join(map(repr, [name, *others, name]))
        raise FamilyError(
            f"{place(variables[position[name]], keys.parents)}: {name!r} is its own ancestor: {path}"
        ) from error
    for v in variables:
        for parent in v.parents:
            if position[parent] > position[v.name]:
                raise FamilyError(
                    f"{place(v, keys.parents)}: {parent!r} comes later; list {parent!r} before {v.name!r}, "
                    "since variables stand in causal order"
                )


def check_roles(family: Family, where: str, keys: Keys = OWN_KEYS) -> None:
    """Refuse a treatment, an outcome or hidden covariates that no effect can be asked of.

    An outcome that the treatment does not reach is no error: the true effect is 0.

    Args:
        family: its structure is sound.
        where: what a message calls the family, such as the path of its file.
        keys: what a message calls its parts.

    Raises:
        FamilyError: a role names no variable; the treatment is the outcome, is exogenous or has one option only; the
            arms or the outcome's option are no options; or something hidden is no covariate.
    """
    names = [v.name for v in family.variables]
    named = [(keys.treatment, family.treatment), (keys.outcome, family.outcome)]
    for key, name in [*named, *((keys.hidden, name) for name in family.hidden)]:
        if name is not None and name not in names:
            raise FamilyError(f"{where}: {key}: there is no variable {name!r}; {nearest(name, names)}")
    if family.treatment is not None:
        _check_treatment(family, family.treatment, where, keys)
    elif family.arms is not None:
        raise FamilyError(f"{where}: {keys.arms}: {family.arms} are arms of no treatment; {keys.treatment} is missing")
    if family.outcome is None and family.outcome_option is not None:
        raise FamilyError(
            f"{where}: {keys.outcome_option}: {family.outcome_option!r} is an option of no outcome; "
            f"{keys.outcome} is missing"
        )
    if family.outcome is not None:
        options = family[family.outcome].options
        if family.outcome_option not in options:
            raise FamilyError(
                f"{where}: {keys.outcome_option}: the outcome {family.outcome!r} has no option "
                f"{family.outcome_option!r}; {nearest(str(family.outcome_option), options)}"
            )
    reached = () if family.treatment is None else family.descendants(family.treatment)
    for i, name in enumerate(family.hidden):
        if name in family.hidden[:i]:
            raise FamilyError(f"{where}: {keys.hidden}: {name!r} is listed twice")
        reason = {family.treatment: "the treatment", family.outcome: "the outcome"}.get(name)
        if reason is None and name in reached:
            reason = f"a descendant of the treatment {family.treatment!r}"
        if reason is not None:
            known = ", ".join(map(repr, family.covariates))
            raise FamilyError(f"{where}: {keys.hidden}: {name!r} is {reason}, not a covariate (covariates: {known})")


def _check_treatment(family: Family, treatment: str, where: str, keys: Keys) -> None:
    if treatment == family.outcome:
        raise FamilyError(f"{where}: {keys.outcome}: {treatment!r} is the treatment too")
    if family[treatment].exogenous:
        raise FamilyError(f"{where}: {keys.treatment}: {treatment!r} is exogenous, so it cannot be intervened on")
    options = family[treatment].options
    if len(options) < 2:
        raise FamilyError(f"{where}: {keys.treatment}: {treatment!r} has one option only; two arms are needed")
    assert family.arms is not None
    low, high = family.arms
    for arm in family.arms:
        if arm not in options:
            raise FamilyError(
                f"{where}: {keys.arms}: the treatment {treatment!r} has no option {arm!r}; {nearest(arm, options)}"
            )
    if low == high:
        raise FamilyError(f"{where}: {keys.arms}: both are {low!r}; two different options are needed")
