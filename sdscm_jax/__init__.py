"""Causal models whose structure is a Python function and whose mechanisms are a language model's."""

from . import vignettes
from .dsl import handlers
from .dsl.choice import Choice
from .dsl.graph import Graph, graph
from .dsl.phrase import Phrase
from .dsl.site import sample
from .effects.contrast import Contrast, contrast
from .effects.plot import plot_contrast
from .engine.simulate import simulate
from .engine.simulation import Simulation
from .errors import (
    ContextLengthError,
    EvidenceError,
    GivenError,
    InterventionError,
    LoadError,
    OptionError,
    ResumeError,
    SDSCMError,
    SiteError,
    TemplateError,
)
from .models.language_model import LanguageModel, load_lm, random_lm
from .models.training import train_lm

__all__ = [
    "Choice",
    "ContextLengthError",
    "Contrast",
    "EvidenceError",
    "GivenError",
    "Graph",
    "InterventionError",
    "LanguageModel",
    "LoadError",
    "OptionError",
    "Phrase",
    "ResumeError",
    "SDSCMError",
    "Simulation",
    "SiteError",
    "TemplateError",
    "contrast",
    "graph",
    "handlers",
    "load_lm",
    "plot_contrast",
    "random_lm",
    "sample",
    "simulate",
    "train_lm",
    "vignettes",
]
__version__ = "0.1.0"
