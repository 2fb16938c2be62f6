"""How hard a data set is: how much is confounded, how well the arms overlap, how much there is to explain."""

from __future__ import annotations

import math

import numpy as np

from .dataset import Dataset
from .metrics import over, sd

_OVERLAP = (0.1, 0.9)  # Crump, Hotz, Imbens and Mitnik 2009: the rule of thumb for limited overlap.
_ROUNDING = 1e-20  # Share of the variance below which residuals are rounding.


def signal_to_noise(data: Dataset) -> float:
    """Variance of the outcome that a linear model explains over the variance that it leaves.

    The model is least squares of y on an intercept, the treatment and all covariates, one-hot. Where the
    outcome is a probability it has no noise of its own given treatment and covariates, and "noise" is then what
    is not linear in them: interactions, effects that vary. So the ratio says how far the simplest model gets,
    whatever the outcome; it is R² / (1 - R²) of that model, in sample. Infinite where the model is exact; NaN
    where it has as many coefficients as there are units.

    >>> import pandas as pd
    >>> data = Dataset("a", "0", pd.DataFrame(index=range(4)), (), np.array([0, 0, 1, 1]),
    ...     np.array([0.0, 1.0, 3.0, 4.0]), np.zeros((4, 2)), np.zeros(4), np.full(4, 0.5), np.arange(4))
    >>> round(signal_to_noise(data), 9)  # means 0.5 and 3.5, so 1.5**2 / 0.5**2
    9.0
    """
    x = np.column_stack([data.t, data.encoded("all", "onehot")])
    x, y = x - x.mean(0), data.y - data.y.mean()
    solution, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
    if rank + 1 >= len(y):
        return math.nan
    left, whole = float(np.square(y - x @ solution).mean()), float(np.square(y).mean())
    if left <= _ROUNDING * whole:
        return math.inf if whole > 0 else math.nan
    return max(whole - left, 0.0) / left


def difficulty(data: Dataset) -> dict[str, str | int | float]:
    """What makes a data set hard, as a row of a table.

    Returns:
        ``dataset, wording, units``; ``treated``: share of units; ``ate``: the sample's; ``sd_y``, ``sd_ite``
        (they divide by n) and their ratio ``sd_ite_sd_y``; ``naive``: mean outcome of the treated minus that of
        the controls; ``confounding``: naive - ate, also in units of sd(y); ``overlap_min``, ``overlap_max``: of
        the true propensities; ``overlap_outside``: share of units whose propensity is outside [0.1, 0.9];
        ``signal_to_noise``, see there. Undefined ones are NaN.

    >>> import pandas as pd
    >>> data = Dataset("a", "0", pd.DataFrame(index=range(4)), (), np.array([0, 0, 1, 1]),
    ...     np.array([0.0, 1.0, 3.0, 4.0]), np.array([[0.0, 2], [1, 3], [1, 3], [2, 4]]), np.full(4, 2.0),
    ...     np.array([0.05, 0.5, 0.5, 0.5]), np.arange(4))
    >>> row = difficulty(data)
    >>> row["ate"], row["naive"], row["confounding"], row["overlap_outside"]
    (2.0, 3.0, 1.0, 0.25)
    """
    treated = data.t == 1
    naive = float(data.y[treated].mean() - data.y[~treated].mean()) if 0 < treated.sum() < len(data) else math.nan
    sd_y, sd_ite, confounding = sd(data.y), sd(data.ite), naive - data.ate
    low, high = _OVERLAP
    return {
        "dataset": data.name,
        "wording": data.wording,
        "units": len(data),
        "treated": float(treated.mean()),
        "ate": data.ate,
        "sd_y": sd_y,
        "sd_ite": sd_ite,
        "sd_ite_sd_y": over(sd_ite, sd_y),
        "naive": naive,
        "confounding": confounding,
        "confounding_sd_y": over(confounding, sd_y),
        "overlap_min": float(data.propensity.min()),
        "overlap_max": float(data.propensity.max()),
        "overlap_outside": float(((data.propensity < low) | (data.propensity > high)).mean()),
        "signal_to_noise": signal_to_noise(data),
    }
