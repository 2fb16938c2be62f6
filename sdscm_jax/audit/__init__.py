"""Audits of language models for causal effects that they should or should not have."""

from .cost import audit_cost
from .declaration import FreeText, Proxy
from .files import write_audit
from .infer import discoveries
from .plan import audit_plan
from .result import AuditResult, Pair
from .run import audit
from .spec import AUDITS, AuditSpec, audit_spec
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
