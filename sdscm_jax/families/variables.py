"""Variables of a family, and whether they make a program: checked before any language model works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from graphlib import CycleError, TopologicalSorter

from ..checks import count, flag, instance, items, real, text
from ..dsl.scoring.template import BLANK, Template, parse_options
from ..errors import FamilyError, OptionError, nearest


@dataclass(frozen=True)
class Written:
    """How a variable is written that is free text; see ``Text`` for each.

    Attributes:
        max_tokens: most tokens that it may have.
        stop: strings that end it; none: what its template has after the blank.
        pattern: a regular expression that it must match; None: there is none.
        temperature: of its tokens.
        top_k, top_p: what a token is drawn from; None: from all.
    """

    max_tokens: int = 24
    stop: tuple[str, ...] = ()
    pattern: str | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None


@dataclass(frozen=True)
class FamilyVariable:
    """One variable of a family: a choice among options, or a text that the language model writes.

    Attributes:
        name: its name.
        options: the K texts it may take; none, where it is free text.
        templates: wordings, each with one blank; a member uses one of them.
        parents: names of earlier variables whose sentences it is given, in causal order.
        exogenous: may it not be intervened on?
        uniform: is it drawn uniformly, without asking the language model?
        written: how it is written, where it is free text; None: it is a choice.
    """

    name: str
    options: tuple[str, ...]
    templates: tuple[Template, ...]
    parents: tuple[str, ...] = ()
    exogenous: bool = False
    uniform: bool = False
    written: Written | None = None

    @property
    def kind(self) -> str:
        """``"choice"`` or ``"text"``."""
        return "choice" if self.written is None else "text"


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
    variables = items(variables, f"{where}: {keys.variables}", FamilyError)
    if not variables:
        raise FamilyError(f"{where}: {keys.variables}: there are none")
    position: dict[str, int] = {}
    for i, v in enumerate(variables):
        instance(v, FamilyVariable, f"{where}: {keys.variables}[{i}]", FamilyError)
        text(v.name, f"{where}: {keys.variables}[{i}]: name", FamilyError)
        if v.name in position:
            raise FamilyError(f"{where}: {keys.variables}[{position[v.name]}] and [{i}] are both named {v.name!r}")
        position[v.name] = i

    def place(v: FamilyVariable, key: str) -> str:
        return f"{where}: {keys.variables}[{position[v.name]}] ({v.name!r}): {key}"

    for v in variables:
        for key, listed in ((keys.templates, v.templates), (keys.parents, v.parents), (keys.options, v.options)):
            items(listed, place(v, key), FamilyError)
        for what, value in (("exogenous", v.exogenous), ("uniform", v.uniform)):
            flag(value, place(v, what), FamilyError)
        if not v.templates:
            raise FamilyError(f"{place(v, keys.templates)}: there are none")
        for template in v.templates:
            instance(template, Template, place(v, keys.templates), FamilyError, " (Template.parse makes it of a text)")
            for part in template:
                text(part, place(v, keys.templates), FamilyError, empty=True)
            if BLANK in template.prefix or BLANK in template.suffix:
                raise FamilyError(f"{place(v, keys.templates)}: {str(template)!r} has more than one blank {BLANK}")
        if v.written is None:
            _check_options(v, place(v, keys.options))
        else:
            _check_written(v, v.written, partial(place, v))
        for i, parent in enumerate(v.parents):
            text(parent, place(v, keys.parents), FamilyError)
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


def _check_options(v: FamilyVariable, where: str) -> None:
    try:
        parse_options(v.options, v.templates[0])
    except OptionError as error:
        raise FamilyError(f"{where}: {error}") from error


def _check_written(v: FamilyVariable, written: Written, place: Callable[[str], str]) -> None:
    """Refuse what no ``Text`` can be made of, whatever the language model."""
    instance(written, Written, place("written"), FamilyError)
    if v.options:
        raise FamilyError(f"{place('options')}: it is free text, which has none; leave them out, or kind: text")
    if v.uniform:
        raise FamilyError(f"{place('uniform')}: it is free text, which the language model writes; leave out 'uniform'")
    count(written.max_tokens, place("max_tokens"), FamilyError)
    real(written.temperature, place("temperature"), FamilyError, above=0)
    if written.top_k is not None:
        count(written.top_k, place("top_k"), FamilyError)
    if written.top_p is not None:
        real(written.top_p, place("top_p"), FamilyError, above=0, most=1)
    for stop in items(written.stop, place("stop"), FamilyError, single=str):
        text(stop, place("stop"), FamilyError)
    if written.pattern is not None:
        text(written.pattern, place("pattern"), FamilyError)
        if written.stop:
            raise FamilyError(f"{place('stop')}: a pattern says where the text ends; leave out one of them")


def in_causal_order(variables: Sequence[FamilyVariable], order: Sequence[str]) -> tuple[FamilyVariable, ...]:
    """The variables with their parents in the order of ``order``, which is that of a unit's text."""
    place = {name: i for i, name in enumerate(order)}
    return tuple(replace(v, parents=tuple(sorted(v.parents, key=place.__getitem__))) for v in variables)
