"""Estimators that read covariates that are texts: a language model makes vectors of them, and these a few columns.

A text that carries a confounder adjusts for it as far as the vectors tell what it says (Veitch, Sridhar and Blei 2020,
arXiv 1905.12741; Mozer et al. 2020, arXiv 1801.00644). The columns are the directions in which the units' texts differ
most; they are found without outcome or treatment, over all units of a data set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd

from ...checks import count
from ...engine.many import loaded_lm
from ...errors import EstimatorError
from .crossfitted import independent
from .forests import ForestT
from .linear import LinearT
from .orthogonal import LinearDML


@dataclass(eq=False)
class ReadsTexts:
    """What such an estimator has beside the others: ``columns_of``, whose columns stand behind the other covariates.

    Args:
        lm: the language model whose ``embed`` is asked, as ``load_lm`` takes it; None: the embedded one.
        components: how many columns there are, however many of the covariates are texts (a unit's are read one after
            the other).

    Raises:
        EstimatorError: ``components`` is no number of at least 1.
    """

    lm: str | None = field(default=None, kw_only=True)
    components: int = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        self.components = count(self.components, "components", EstimatorError)

    def columns_of(self, texts: pd.DataFrame) -> np.ndarray:
        """Columns of units' texts, float64 ``[n, components]``: principal components of their vectors, the first of
        standard deviation 1; 0 where there are no more.

        Args:
            texts: ``[n]`` rows, one column for each covariate that is a text; there may be none.

        >>> texts = pd.DataFrame({"note": ["She is well.", "She is ill.", "She is well."]})
        >>> found = ReadsTexts(components=2).columns_of(texts)
        >>> found.shape, bool((found[0] == found[2]).all()), bool((found[0] == found[1]).any())
        ((3, 2), True, True)
        """
        n, found = len(texts), np.zeros((len(texts), self.components))
        if not n or not texts.shape[1]:
            return found
        whole = texts.astype(str).agg(" ".join, axis=1)
        distinct, which = np.unique(whole.to_numpy(object), return_inverse=True)
        vectors = _vectors(self.lm, tuple(distinct))
        # What float32 tells apart of vectors of this size.
        least = max(n, vectors.shape[1]) * np.finfo(np.float32).eps * np.linalg.norm(vectors[which])
        vectors = vectors - vectors[which].mean(0)
        _, s, vt = np.linalg.svd(vectors[which], full_matrices=False)
        some = s[: self.components] > least
        kept = int(some.sum())
        if kept:
            # The sign of a direction is nobody's: its largest part is positive.
            largest = vt[np.arange(kept), np.abs(vt[:kept]).argmax(1)]
            # (Of each distinct text once, so that equal ones have equal columns.)
            found[:, :kept] = ((vectors @ vt[:kept].T) * np.sign(largest) * np.sqrt(n) / s[0])[which]
        return found


@lru_cache(maxsize=4)
def _vectors(lm: str | None, texts: tuple[str, ...]) -> np.ndarray:
    """Vectors of distinct texts, float64 ``[N, width]``; estimators of one data set ask for the same."""
    return loaded_lm(lm).embed(texts).astype(np.float64)


@dataclass(eq=False)
class TextLinearT(ReadsTexts, LinearT):
    """``linear_t`` whose regressions read texts too (embedding + outcome learners).

    >>> import jax
    >>> texts = pd.DataFrame({"note": ["She is well.", "She is ill."] * 4})
    >>> model, t = TextLinearT(components=1), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> x = model.columns_of(texts)
    >>> model.fit(jax.random.key(0), x, t, 3.0 * t + x[:, 0]).effect(x).round(3).tolist()[:2]
    [3.0, 3.0]
    """


@dataclass(eq=False)
class TextForestT(ReadsTexts, ForestT):
    """``forest_t`` whose forests read texts too (embedding + outcome learners)."""


@dataclass(eq=False)
class TextLinearDML(ReadsTexts, LinearDML):
    """``linear_dml`` that reads texts too (embedding + double machine learning): its nuisances and its effects."""

    name = "text_linear_dml"


@dataclass(eq=False)
class TextTrainingDML(ReadsTexts, LinearDML):
    """``linear_dml`` whose nuisances alone read texts (text at training only).

    Effects are linear in the other covariates, so a unit without a text has one.
    """

    name = "text_training_dml"

    def _varying(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([independent(x[:, : -self.components]), np.zeros(self.components, bool)])
