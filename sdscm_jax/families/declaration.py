"""What a family is declared to be: variables in causal order, with roles that questions give to some of them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ..checks import text, told
from ..errors import FamilyError, SiteError, nearest
from .variables import OWN_KEYS, FamilyVariable, Keys, check_structure


@dataclass(frozen=True)
class Declaration:
    """What files hold of a family; ``Family`` says what the fields are."""

    name: str
    variables: tuple[FamilyVariable, ...]
    treatment: str | None = None
    outcome: str | None = None
    hidden: tuple[str, ...] = ()
    arms: tuple[str, str] | None = None
    outcome_option: str | None = None
    licence: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        text(self.name, "the name of a family", FamilyError)
        for key, value in (("licence", self.licence), ("description", self.description)):
            text(value, f"family {self.name!r}: {key}", FamilyError, empty=True)
        check_structure(self.variables, f"family {self.name!r}")
        options = {v.name: v.options for v in self.variables}
        treated, results = options.get(self.treatment or "", ()), options.get(self.outcome or "", ())
        if self.arms is None and len(treated) > 1:
            object.__setattr__(self, "arms", treated[:2])
        if self.outcome_option is None and results:
            object.__setattr__(self, "outcome_option", results[0])

    def __getitem__(self, name: str) -> FamilyVariable:
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise SiteError(
            f"family {self.name!r} has no variable {name!r}; {nearest(name, [v.name for v in self.variables])}"
        )

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Names of the variables that ``name`` depends on, through any number of others, in causal order.

        Raises:
            SiteError: there is no such variable.
        """
        found = set(self[name].parents)
        for v in reversed(self.variables):
            if v.name in found:
                found.update(v.parents)
        return self._in_order(found)

    def descendants(self, name: str) -> tuple[str, ...]:
        """Names of the variables that depend on ``name``, through any number of others, in causal order.

        Raises:
            SiteError: there is no such variable.
        """
        found = {self[name].name}
        for v in self.variables:
            if found.intersection(v.parents):
                found.add(v.name)
        return self._in_order(found - {name})

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the variables that neither the treatment nor the outcome reaches, in causal order."""
        roles = [name for name in (self.treatment, self.outcome) if name is not None]
        reached = {*roles, *(name for role in roles for name in self.descendants(role))}
        return self._in_order({v.name for v in self.variables} - reached)

    @property
    def mediators(self) -> tuple[str, ...]:
        """Names of the variables between the treatment and the outcome, in causal order."""
        if self.treatment is None or self.outcome is None:
            return ()
        return self._in_order({*self.descendants(self.treatment)} & {*self.ancestors(self.outcome)})

    def _in_order(self, names: AbstractSet[str | None]) -> tuple[str, ...]:
        return tuple(v.name for v in self.variables if v.name in names)


def check_roles(family: Declaration, where: str, keys: Keys = OWN_KEYS) -> None:
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
        if family[family.outcome].written is not None:
            raise FamilyError(
                f"{where}: {keys.outcome}: {family.outcome!r} is free text, which is no number; add a variable with "
                f"options that reads it (a judge: parents: [{family.outcome!r}]), and name that one"
            )
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


def _check_treatment(family: Declaration, treatment: str, where: str, keys: Keys) -> None:
    if treatment == family.outcome:
        raise FamilyError(f"{where}: {keys.outcome}: {treatment!r} is the treatment too")
    if family[treatment].exogenous:
        raise FamilyError(f"{where}: {keys.treatment}: {treatment!r} is exogenous, so it cannot be intervened on")
    if family[treatment].written is not None:
        raise FamilyError(
            f"{where}: {keys.treatment}: {treatment!r} is free text, whose values are not two arms; name a variable "
            "with options that the text is given, or write the texts that are compared as options"
        )
    options = family[treatment].options
    if len(options) < 2:
        raise FamilyError(f"{where}: {keys.treatment}: {treatment!r} has one option only; two arms are needed")
    if family.arms is None or len(family.arms) != 2:
        raise FamilyError(f"{where}: {keys.arms}: two options of {treatment!r} are compared, got {told(family.arms)}")
    low, high = family.arms
    for arm in family.arms:
        if arm not in options:
            raise FamilyError(
                f"{where}: {keys.arms}: the treatment {treatment!r} has no option {arm!r}; {nearest(arm, options)}"
            )
    if low == high:
        raise FamilyError(f"{where}: {keys.arms}: both are {low!r}; two different options are needed")
