"""Benchmarks of treatment-effect estimators on data whose individual effects are known."""

from ..families import FAMILIES, Family, FamilyVariable, Member, family
from .benchmark import Benchmark
from .dataset import Dataset
from .estimators.foreign import FromEconml, FromSklearn
from .estimators.protocol import Estimator
from .estimators.registry import estimator_names, make_estimator
from .evaluation import Evaluation, evaluate
from .generation import generate
from .opening import open_benchmark
from .read_own import Columns

__all__ = [
    "FAMILIES",
    "Benchmark",
    "Columns",
    "Dataset",
    "Estimator",
    "Evaluation",
    "Family",
    "FamilyVariable",
    "FromEconml",
    "FromSklearn",
    "Member",
    "estimator_names",
    "evaluate",
    "family",
    "generate",
    "make_estimator",
    "open_benchmark",
]
