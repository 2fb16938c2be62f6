"""Causal models whose structure is a Python function and whose mechanisms are a language model's."""

from . import vignettes
from .dsl import handlers
from .dsl.choice import Choice
from .dsl.graph import Graph, graph
from .dsl.phrase import Phrase
from .dsl.predictive import Predictive
from .dsl.reparam import GumbelReparam
from .dsl.site import sample
from .dsl.tabulate import Tabulated, load_table, tabulate
from .dsl.text import Text
from .dsl.verbalize import verbalize
from .effects.individual import Contrast, contrast
from .effects.plot import plot_contrast
from .engine.compare import Comparison, compare
from .engine.many import simulate_many
from .engine.plan import Plan, plan
from .engine.simulate import simulate
from .engine.simulation import Simulation
from .errors import (
    ContextLengthError,
    EvidenceError,
    GivenError,
    InterventionError,
    LoadError,
    OptionError,
    RandomKeyError,
    ResumeError,
    ScoreError,
    SDSCMError,
    SiteError,
    TemplateError,
)
from .models.adapters import FullWeights, LowRank, SoftPrompt
from .models.chat import Chat
from .models.language_model import LanguageModel, load_lm, random_lm
from .models.training import train_lm

__all__ = [
    "Chat",
    "Choice",
    "Comparison",
    "ContextLengthError",
    "Contrast",
    "EvidenceError",
    "FullWeights",
    "GivenError",
    "Graph",
    "GumbelReparam",
    "InterventionError",
    "LanguageModel",
    "LoadError",
    "LowRank",
    "OptionError",
    "Phrase",
    "Plan",
    "Predictive",
    "RandomKeyError",
    "ResumeError",
    "SDSCMError",
    "ScoreError",
    "Simulation",
    "SiteError",
    "SoftPrompt",
    "Tabulated",
    "TemplateError",
    "Text",
    "compare",
    "contrast",
    "graph",
    "handlers",
    "load_lm",
    "load_table",
    "plan",
    "plot_contrast",
    "random_lm",
    "sample",
    "simulate",
    "simulate_many",
    "tabulate",
    "train_lm",
    "verbalize",
    "vignettes",
]
__version__ = "0.1.0"
