"""How hard a data set is: how much is confounded, how well the arms overlap, how much there is to explain."""

from __future__ import annotations

import math

import numpy as np

from .dataset import Dataset
from .metrics import over, sd

_OVERLAP = (0.1, 0.9)  # Crump, Hotz, Imbens and Mitnik 2009: the rule of thumb for limited overlap.
_SAME = 1e-6  # Propensities are exponentials of float32.
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


def confounding(data: Dataset) -> float:
    """The naive difference of the arms' means minus the average effect, on average over who would be treated.

    Each unit is treated with its propensity: the mean of y1 weighted by it, minus that of y0 weighted by one minus it,
    minus the average effect. What the arms of the data set itself differ in besides is the chance of its draw, which a
    randomised experiment has too; here it is exactly 0, where all propensities are the same. NaN where effects or
    propensities are not known, or nobody could be in one of the arms.

    >>> import pandas as pd
    >>> data = Dataset("a", "0", pd.DataFrame(index=range(4)), (), np.array([0, 0, 1, 1]),
    ...     np.array([0.0, 0.0, 1.0, 1.0]), np.array([[0.0, 0], [0, 0], [1, 1], [1, 1]]), np.zeros(4),
    ...     np.array([0.25, 0.25, 0.75, 0.75]), np.arange(4))
    >>> confounding(data)  # 0.75 - 0.25, and no effect
    0.5
    """
    chance, (below, above) = data.propensity, data.outcomes.T
    if not data.known or not np.isfinite(chance).all() or chance.sum() == 0 or (1 - chance).sum() == 0:
        return math.nan
    if np.ptp(chance) <= _SAME:
        return 0.0
    return float(np.average(above, weights=chance) - np.average(below, weights=1 - chance) - data.ate)


def difficulty(data: Dataset) -> dict[str, str | int | float]:
    """What makes a data set hard, as a row of a table.

    Returns:
        ``dataset, wording, units``; ``treated``: share of units; ``ate``: the sample's; ``sd_y``, ``sd_ite``
        (they divide by n) and their ratio ``sd_ite_sd_y``; ``naive``: mean outcome of the treated minus that of
        the controls; ``confounding``, see there, also in units of sd(y); ``imbalance``: naive - ate - confounding,
        which is the chance of this sample; ``overlap_min``, ``overlap_max``: of the true propensities;
        ``overlap_outside``: share of units whose propensity is outside [0.1, 0.9]; ``signal_to_noise``, see there.
        Undefined ones are NaN, and those that need effects or propensities that are not known.

    >>> import pandas as pd
    >>> data = Dataset("a", "0", pd.DataFrame(index=range(4)), (), np.array([0, 0, 1, 1]),
    ...     np.array([0.0, 1.0, 3.0, 4.0]), np.array([[0.0, 2], [1, 3], [1, 3], [2, 4]]), np.full(4, 2.0),
    ...     np.array([0.05, 0.5, 0.5, 0.5]), np.arange(4))
    >>> row = difficulty(data)
    >>> row["ate"], row["naive"], round(row["confounding"] + row["imbalance"], 9), row["overlap_outside"]
    (2.0, 3.0, 1.0, 0.25)
    """
    treated = data.t == 1
    naive = float(data.y[treated].mean() - data.y[~treated].mean()) if 0 < treated.sum() < len(data) else math.nan
    sd_y, sd_ite, bias = sd(data.y), sd(data.ite) if data.known else math.nan, confounding(data)
    low, high = _OVERLAP
    outside = (data.propensity < low) | (data.propensity > high)
    overlaps = np.isfinite(data.propensity).all()
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
        "confounding": bias,
        "confounding_sd_y": over(bias, sd_y),
        "imbalance": naive - data.ate - bias,
        "overlap_min": float(data.propensity.min()),
        "overlap_max": float(data.propensity.max()),
        "overlap_outside": float(outside.mean()) if overlaps else math.nan,
        "signal_to_noise": signal_to_noise(data),
    }
