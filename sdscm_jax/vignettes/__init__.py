"""Vignettes with written-down mechanisms: the ground truth that training text is drawn from."""

from .hiring_decision import hiring
from .oncology_case import oncology
from .scm import Variable, Vignette
from .stories import collider, confounder

__all__ = ["Variable", "Vignette", "collider", "confounder", "hiring", "oncology"]
