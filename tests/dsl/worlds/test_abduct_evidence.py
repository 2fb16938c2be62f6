"""Evidence on sites of NumPyro: far from the centre, on roots, as truth values, under masks, in nested worlds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import sdscm_jax as sd
from sdscm_jax.handlers import abduct, counterfactual, do, exogenous, nested
from sdscm_jax.testing import mock_lm


def in_every_spelling(
    model: Callable, evidence: dict[str, Any], world: dict[str, Any], name: str, *args: Any
) -> list[Any]:
    """A site's value in another world: by ``simulate``, ``abduct`` and ``counterfactual``."""
    runs: list[Callable] = [
        do(abduct(model, evidence, 0), world),
        exogenous(counterfactual(model, world, evidence=evidence), 0),
    ]
    simulated = sd.simulate(model, 0, 1, *args, evidence=evidence, worlds=[world]).values[name][0, 1]
    with numpyro.handlers.trace() as trace:
        runs[0](*args)
    with numpyro.handlers.trace() as worlds:
        runs[1](*args)
    label = next(site for site in worlds if site.startswith(f"{name}|"))
    return [simulated, trace[name]["value"], worlds[label]["value"]]


@pytest.mark.parametrize("scale", [1.0, 0.05, 0.001])
def test_a_student_who_had_done_more_homework(scale: float) -> None:
    """Pearl, Glymour and Jewell (2016), section 4.2.3: the answer does not depend on how unlikely the student is."""

    def model() -> None:
        x = numpyro.sample("x", dist.Normal(0.0, scale))
        h = numpyro.sample("h", dist.Normal(0.5 * x, scale))
        numpyro.sample("y", dist.Normal(0.7 * x + 0.4 * h, scale))

    found = in_every_spelling(model, {"x": 0.5, "h": 1.0, "y": 1.5}, {"h": 2.0}, "y")
    np.testing.assert_allclose(found, 1.9, rtol=1e-6)


@pytest.mark.slow
def test_what_cannot_be_told_is_refused_in_every_spelling() -> None:
    def model() -> None:
        t = numpyro.sample("t", dist.Bernoulli(0.5))
        numpyro.sample("count", dist.Poisson(3.0 + t))

    evidence = {"t": 0, "count": 4}
    for run in (
        lambda: sd.simulate(model, 0, 2, evidence=evidence, worlds=[{"t": 0}, {"t": 1}]),
        do(abduct(model, evidence, 0), {"t": 1}),
        exogenous(counterfactual(model, {"t": 1}, evidence=evidence), 0),
    ):
        with pytest.raises(sd.EvidenceError, match="site 'count', whose value is 4"):
            run()
    # Where nothing differs, nothing needs to be told.
    same = sd.simulate(model, 0, 1, evidence=evidence, worlds=[{"t": 0}]).values
    assert same["count"].tolist() == [[4, 4]]


def test_a_value_beyond_float32_is_refused_by_row_and_world() -> None:
    def model() -> None:
        t = numpyro.sample("t", dist.Bernoulli(0.5))
        numpyro.sample("wait", dist.Gamma(2.0 + t, 1.0))

    worlds = [{"t": 0}, {"t": 1}]
    with pytest.raises(sd.EvidenceError, match=r"site 'wait', whose value is 300.0: .* in do\(t=1\) \(row 1\)"):
        sd.simulate(model, 0, 3, evidence={"t": 0, "wait": [1.0, 300.0, 2.0]}, worlds=worlds)
    found = sd.simulate(model, 0, 3, evidence={"t": 0, "wait": [1.0, 60.0, 2.0]}, worlds=worlds).values["wait"]
    assert (found[:, 0] == found[:, 1]).all()
    np.testing.assert_allclose(found[1, 2], stats.gamma(3.0).isf(stats.gamma(2.0).sf(60.0)), rtol=1e-4)


ROOTS: dict[str, tuple[Callable[[], Any], Any]] = {
    "Beta": (lambda: dist.Beta(2.0, 2.0), 0.3),
    "Gamma": (lambda: dist.Gamma(2.0, 1.0), 0.3),
    "StudentT": (lambda: dist.StudentT(3.0), 0.3),
    "Poisson": (lambda: dist.Poisson(3.0), 2),
    "NegativeBinomial2": (lambda: dist.NegativeBinomial2(3.0, 2.0), 2),
    "Dirichlet": (lambda: dist.Dirichlet(jnp.ones(3)), [0.2, 0.3, 0.5]),
    "MultivariateNormal": (lambda: dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)), [0.1, 0.2]),
    "Weibull": (lambda: dist.Weibull(1.0, 2.0), 0.4),
    "InverseGamma": (lambda: dist.InverseGamma(2.0, 1.0), 0.4),
    "Geometric": (lambda: dist.Geometric(0.3), 2),
    "ZeroInflatedPoisson": (lambda: dist.ZeroInflatedPoisson(0.3, 2.0), 0),
    "MixtureSameFamily": (
        lambda: dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Normal(jnp.array([0.0, 3.0]), 1.0)),
        0.3,
    ),
    "Multinomial": (lambda: dist.Multinomial(3, jnp.ones(3) / 3), [1, 1, 1]),
    "VonMises": (lambda: dist.VonMises(0.0, 1.0), 0.2),
    "a vector": (lambda: dist.Normal(jnp.zeros(2), 1.0).to_event(1), [0.4, 0.2]),
    "LKJ": (lambda: dist.LKJ(2, 1.5), [[1.0, 0.3], [0.3, 1.0]]),
}


@pytest.mark.slow
def test_evidence_on_a_root_needs_no_quantile_function() -> None:
    def model() -> None:
        t = numpyro.sample("t", dist.Bernoulli(0.5))
        total = sum(jnp.sum(numpyro.sample(name, make())) for name, (make, _) in ROOTS.items())
        numpyro.sample("y", dist.Normal(total + t, 1.0))

    evidence = {name: jnp.asarray(value) for name, (_, value) in ROOTS.items()}
    total = sum(np.sum(np.asarray(value)) for value in evidence.values())
    found = sd.simulate(model, 0, 1, evidence={"t": 0, "y": total + 0.5, **evidence}, worlds=[{"t": 1}]).values
    for name, value in evidence.items():
        assert np.array_equal(found[name][0], np.stack([value, value])), name
    np.testing.assert_allclose(found["y"][0], [total + 0.5, total + 1.5], rtol=1e-6)


@pytest.mark.slow
def test_evidence_in_a_nested_world() -> None:
    def model() -> None:
        x = numpyro.sample("x", dist.Normal(0.0, 1.0))
        b = numpyro.sample("b", dist.Bernoulli(0.3))
        m = numpyro.sample("m", dist.Normal(2 * x + b, 1.0))
        numpyro.sample("y", dist.Normal(x + m, 1.0))

    evidence = {"x": 0.5, "b": 0, "m": 1.2, "y": 1.0}
    # The residual of m is 0.2; that of y is -0.7.
    for world, m in (({"x": 3.0}, 6.2), ({"b": 1}, 2.2), ({"x": lambda x: x + 2.5, "b": True}, 7.2)):
        found = in_every_spelling(model, evidence, {"m": nested(world)}, "y")
        np.testing.assert_allclose(found, 0.5 + m - 0.7, rtol=1e-5)


@pytest.mark.slow
def test_truth_values_are_evidence() -> None:
    def model(lm: sd.LanguageModel) -> None:
        x = sd.sample("x", sd.Choice(lm, "It is {}.", ["no", "yes"]))
        b = numpyro.sample("b", dist.Bernoulli(0.3 + 0.4 * (x == "yes")))
        dose = numpyro.sample("dose", dist.Normal(1.0 * b, 2.0))
        numpyro.sample("y", dist.Normal(dose + b + b, 1.0))

    lm = mock_lm(model, probs={"x": [0.5, 0.5]})
    numbers = {"x": np.array([1, 0]), "b": np.array([1, 0]), "dose": np.array([3, 2]), "y": np.array([3.5, 1.0])}
    truths = {**numbers, "x": np.array([True, False]), "b": [True, np.bool_(False)]}
    runs = [sd.simulate(model, 0, 2, lm, evidence=e, worlds=[{"b": 0}], logp=[]).values for e in (numbers, truths)]
    for name in numbers:
        assert np.array_equal(runs[0][name], runs[1][name]), name
    assert runs[1]["x"][:, 0].tolist() == runs[1]["b"][:, 0].tolist() == [1, 0]
    # A whole number for a real site is not the type of its counterfactuals.
    np.testing.assert_allclose(runs[0]["dose"][:, 1], [2.0, 2.0])
    np.testing.assert_allclose(runs[0]["y"][:, 1], [0.5, 1.0], atol=1e-6)
    assert abduct(model, {"x": True, "b": np.bool_(True)}, 0)(lm) is None


def test_evidence_that_no_site_takes() -> None:
    def model() -> None:
        numpyro.sample("u", dist.Uniform(0.0, 1.0))
        numpyro.sample("n", dist.Poisson(2.0))

    for evidence, message in (
        ({"u": 2.0}, r"site 'u' takes values that are interval\(0.0, 1.0\); got 2.0"),
        ({"u": float("nan")}, "site 'u' takes numbers, got nan"),
        ({"n": 2.5}, "site 'n' takes whole numbers .int32., got 2.5"),
    ):
        for run in (abduct(model, evidence, 0), lambda e=evidence: sd.simulate(model, 0, 1, evidence=e)):
            with pytest.raises(sd.EvidenceError, match=message):
                run()


def test_a_mask_hides_no_cause() -> None:
    """A unit's causes are drawn from their distribution; what inference is to leave out is an observation."""

    def model() -> None:
        with numpyro.handlers.mask(mask=False):
            race = numpyro.sample("race", dist.Categorical(jnp.array([0.7, 0.2, 0.1])))
            numpyro.sample("missing", dist.Normal(race * 5.0, 1.0), obs=0.0)
        numpyro.sample("y", dist.Bernoulli(jnp.array([0.1, 0.4, 0.9])[race]))

    draws = 4000
    found = sd.simulate(model, 0, 1, evidence={"y": 1}, draws=draws).values["race"][:, 0]
    truth = np.array([0.07, 0.08, 0.09]) / 0.24
    np.testing.assert_allclose(np.bincount(found) / draws, truth, atol=4 * 0.5 / np.sqrt(draws))


@pytest.mark.slow
def test_a_continuous_cause_with_two_modes() -> None:
    def model() -> None:
        sides = dist.Categorical(jnp.array([0.5, 0.5]))
        x = numpyro.sample("x", dist.MixtureSameFamily(sides, dist.Normal(jnp.array([-6.0, 6.0]), 1.0)))
        numpyro.sample("y", dist.Bernoulli(jnp.where(x > 0, 0.7, 0.3)))

    draws = 500
    x = sd.simulate(model, 0, 1, evidence={"y": 1}, draws=draws).values["x"][:, 0]
    np.testing.assert_allclose((x > 0).mean(), 0.7, atol=4 * 0.46 / np.sqrt(draws))
    np.testing.assert_allclose([np.abs(x).mean(), x[x > 0].std()], [6.0, 1.0], atol=4 / np.sqrt(draws))


@pytest.mark.parametrize("logits", [False, True])
def test_evidence_on_categories_has_the_noise_of_their_draws(logits: bool) -> None:
    """NumPyro draws a category as the best of Gumbels: given one, the others are what rejection leaves of them."""
    p = np.array([[0.3, 0.3, 0.4], [0.1, 0.6, 0.3]])
    law = dist.CategoricalLogits if logits else dist.CategoricalProbs
    table = jnp.log(p) if logits else jnp.asarray(p)

    def model() -> None:
        t = numpyro.sample("t", dist.Bernoulli(0.5))
        numpyro.sample("k", law(table[t]))

    data = sd.simulate(model, 0, 1, evidence={"t": 0, "k": 2}, worlds=[{"t": 1}, {"t": 0}], draws=4000)
    found = np.bincount(data.values["k"][:, 1], minlength=3) / 4000
    gumbels = np.random.default_rng(0).gumbel(size=(400_000, 3))
    seen = (np.log(p[0]) + gumbels).argmax(1) == 2
    expected = np.bincount((np.log(p[1]) + gumbels[seen]).argmax(1), minlength=3) / seen.sum()
    np.testing.assert_allclose(found, expected, atol=0.035)
    assert (data.values["k"][:, [0, 2]] == 2).all()
