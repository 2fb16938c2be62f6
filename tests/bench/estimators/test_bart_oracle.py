"""Posteriors by trees beside those of stochtree, on the same units: as sure of the effects, and as near to them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pytest

from sdscm_jax.bench.estimators.bart import Bart
from sdscm_jax.bench.estimators.bcf import Bcf
from sdscm_jax.bench.estimators.propensity import fit_propensity

from ...needs import needs

pytestmark = pytest.mark.search
needs("bartz")
SETS, UNITS, NEAR = 4, 250, 1.1


def logistic(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def units_of(law: str, seed: int) -> tuple[np.ndarray, ...]:
    """Covariates, treatment, outcome and expected effects. Without overlap a third of the units are all treated."""
    rng = np.random.default_rng([seed, len(law)])
    x = np.column_stack([rng.integers(0, options, UNITS) for options in (2, 3, 2, 4)]).astype(float)
    chance = logistic(1.1 * x[:, 0] + 0.5 * x[:, 1] - 1)
    t = (rng.random(UNITS) < np.where((x[:, 1] == 2) & (law == "no overlap"), 1, chance)).astype(int)
    if law == "noise-free":
        low, high = (
            logistic(x[:, 0] + 0.5 * x[:, 1] - 0.4 * x[:, 0] * x[:, 3] - 1 + a * (0.5 + x[:, 2])) for a in (0, 1)
        )
        return x, t, np.where(t == 1, high, low), high - low
    effect = 0.5 + 0.5 * x[:, 2]
    return x, t, x[:, 0] + 0.5 * x[:, 1] + t * effect + 0.5 * rng.normal(size=UNITS), effect


def bcf_of_stochtree(x: np.ndarray, t: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    model = needs("stochtree").BCFModel()
    how = {"num_gfr": 0, "num_burnin": 400, "num_mcmc": 400, "general_params": {"random_seed": seed}}
    model.sample(X_train=x, Z_train=t.astype(float), y_train=y, **how)
    return np.asarray(model.tau_hat_train).reshape(UNITS, -1).T


def bart_of_stochtree(x: np.ndarray, t: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    model, seen = needs("stochtree").BARTModel(), np.column_stack([x, fit_propensity(x, t)(x)])
    how = {"num_gfr": 0, "num_burnin": 400, "num_mcmc": 400, "general_params": {"random_seed": seed}}
    model.sample(X_train=np.column_stack([seen, t]), y_train=y, **how)
    low, high = (model.predict(np.column_stack([seen, np.full(UNITS, arm)]), terms="y_hat") for arm in (0.0, 1.0))
    return np.asarray(high - low).T


@pytest.mark.parametrize("law", ["noisy", "noise-free", "no overlap"])
@pytest.mark.parametrize(("make", "other"), [(Bcf, bcf_of_stochtree), (Bart, bart_of_stochtree)], ids=["bcf", "bart"])
def test_as_sure_and_as_near(make: type, other: Callable[..., np.ndarray], law: str) -> None:
    needs("stochtree")
    covered, errors = [], []
    for seed in range(SETS):
        x, t, y, effect = units_of(law, seed)
        model = make().fit(jax.random.key(seed), x, t, y)
        lower, upper = model.interval(x, 0.95)
        covered.append(np.mean((lower <= effect) & (effect <= upper)))
        estimates = model.effect(x), other(x, t, y, seed).mean(0)
        errors.append([np.sqrt(np.mean((estimate - effect) ** 2)) for estimate in estimates])
    own, theirs = np.mean(errors, axis=0)
    assert np.mean(covered) >= 0.92
    assert own <= NEAR * theirs
