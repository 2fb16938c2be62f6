"""The probability of treatment given covariates, by penalised logistic regression."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Propensity(NamedTuple):
    """A logistic regression on standardised covariates, float64."""

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Probability of treatment, float64 ``[m]``, of covariates ``[m, p]``."""
        logit = self.weights[0] + ((x - self.centre) / self.scale) @ self.weights[1:]
        return 1 / (1 + np.exp(-np.clip(logit, -30, 30)))


def fit_propensity(x: np.ndarray, t: np.ndarray, *, ridge: float = 1.0, steps: int = 25) -> Propensity:
    """Penalised logistic regression by Newton's method.

    The penalty keeps the estimate finite where covariates separate the arms, or repeat each other.

    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> fit_propensity(x, np.array([0, 0, 1, 1]))(x).round(2)
    array([0.22, 0.4 , 0.6 , 0.78])
    """
    centre = x.mean(axis=0)
    scale = np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    design = np.concatenate([np.ones((len(x), 1)), (x - centre) / scale], axis=1)
    penalty = ridge * np.eye(design.shape[1])
    penalty[0, 0] = 1e-6
    weights = np.zeros(design.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        curvature = (design * (p * (1 - p))[:, None]).T @ design + penalty
        weights += np.linalg.solve(curvature, design.T @ (t - p) - penalty @ weights)
    return Propensity(centre, scale, weights)
