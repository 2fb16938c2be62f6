"""Vignettes with written-down mechanisms: the ground truth that training text is drawn from."""

from .clinical_note import clinical_note
from .hiring_decision import hiring
from .oncology_case import oncology
from .reference_letter import reference_letter
from .scm import Variable, Vignette
from .stories import collider, confounder

SHIPPED = (oncology, hiring, confounder, collider, clinical_note, reference_letter)
"""What the embedded language model has read."""

__all__ = [
    "SHIPPED",
    "Variable",
    "Vignette",
    "clinical_note",
    "collider",
    "confounder",
    "hiring",
    "oncology",
    "reference_letter",
]
