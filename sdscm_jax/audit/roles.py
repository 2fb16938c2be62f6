"""What an audit's specification says of a program's sites."""

from __future__ import annotations

from .measure import Roles
from .spec import AuditSpec


def roles_of(spec: AuditSpec) -> Roles:
    """The roles of a specification's sites, by names and numbers."""
    option = spec.variable(spec.outcome).options.index(spec.option)
    return Roles(spec.attribute, spec.outcome, option, spec.mediators, spec.legitimate)
