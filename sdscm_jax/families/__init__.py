"""Families of SD-SCMs: causal structures over phrases whose sentences come in several wordings."""

from .frequency_tables import Conditional, conditionals, table_family
from .members import Family, Member
from .shipped import FAMILIES, family
from .table_fit import FitWarning, compare_table, fit_table, table_batches
from .variables import FamilyVariable, Written

__all__ = [
    "FAMILIES",
    "Conditional",
    "Family",
    "FamilyVariable",
    "FitWarning",
    "Member",
    "Written",
    "compare_table",
    "conditionals",
    "family",
    "fit_table",
    "table_batches",
    "table_family",
]
