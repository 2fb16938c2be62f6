"""Families of SD-SCMs: causal structures over phrases whose sentences come in several wordings."""

from .family import Family, FamilyVariable, Member
from .shipped import FAMILIES, family

__all__ = ["FAMILIES", "Family", "FamilyVariable", "Member", "family"]
