"""What an audit's specification says of a program's sites."""

from __future__ import annotations

from dataclasses import dataclass

from .spec import AuditSpec


@dataclass(frozen=True)
class Roles:
    """What is asked of a program, by names and numbers.

    Attributes:
        attribute, outcome: sites.
        option: number of the outcome's option whose probability is reported.
        mediators, legitimate: the sites between them, and those through which the attribute may rightly act.
    """

    attribute: str
    outcome: str
    option: int
    mediators: tuple[str, ...]
    legitimate: tuple[str, ...]


def roles_of(spec: AuditSpec) -> Roles:
    """The roles of a specification's sites, by names and numbers."""
    option = spec.variable(spec.outcome).options.index(spec.option)
    return Roles(spec.attribute, spec.outcome, option, spec.mediators, spec.legitimate)
