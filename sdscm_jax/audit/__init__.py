"""Audits of language models for causal effects that they should or should not have."""

from .auditing import audit
from .cost import audit_cost
from .files import write_audit
from .findable import audit_plan
from .infer import discoveries
from .result import AuditResult, Pair
from .spec import AUDITS, AuditSpec, audit_spec
from .spec_fields import FreeText, Proxy
from .truth import truth_of

__all__ = [
    "AUDITS",
    "AuditResult",
    "AuditSpec",
    "FreeText",
    "Pair",
    "Proxy",
    "audit",
    "audit_cost",
    "audit_plan",
    "audit_spec",
    "discoveries",
    "truth_of",
    "write_audit",
]
