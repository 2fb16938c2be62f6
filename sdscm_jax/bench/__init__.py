"""Benchmarks of treatment-effect estimators on data whose individual effects are known."""

from .benchmark import Benchmark, open_benchmark
from .dataset import Dataset
from .estimators.protocol import Estimator
from .estimators.registry import estimator_names, make_estimator
from .evaluate import Evaluation, evaluate
from .families import FAMILIES, family
from .family import Family, FamilyVariable, Member
from .generate import generate

__all__ = [
    "FAMILIES",
    "Benchmark",
    "Dataset",
    "Estimator",
    "Evaluation",
    "Family",
    "FamilyVariable",
    "Member",
    "estimator_names",
    "evaluate",
    "family",
    "generate",
    "make_estimator",
    "open_benchmark",
]
