"""The noise of a choice as a site."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import handlers as nh
from numpyro.infer.util import log_density

import sdscm_jax as sd
from sdscm_jax.handlers import exogenous

from ...dice import die

P = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])


def model(lm: sd.LanguageModel, face: object = None) -> sd.Phrase:
    side = sd.sample("side", die(lm, [0.4, 0.6], ("left", "right")))
    return sd.sample("face", die(lm, jnp.asarray(P)[side.index]), obs=face)


CONFIG = {"side": sd.GumbelReparam(), "face": sd.GumbelReparam()}


def test_values_are_those_of_the_model(lm: sd.LanguageModel) -> None:
    explicit = nh.reparam(model, config=CONFIG)
    run = jax.jit(jax.vmap(lambda key, lm: [exogenous(fn, key)(lm).index for fn in (model, explicit)], (0, None)))
    a, b = run(jax.random.split(jax.random.key(0), 100), lm)
    assert a.tolist() == b.tolist()
    trace = nh.trace(exogenous(explicit, 0)).get_trace(lm)
    assert trace["face_noise"]["fn"].event_shape == (3,)
    assert trace["face"]["type"] == "deterministic"


def test_density_of_noise_and_evidence(lm: sd.LanguageModel) -> None:
    noise = {"side_noise": jnp.array([0.3, -0.2]), "face_noise": jnp.array([1.0, 0.1, -0.5])}
    found, trace = log_density(nh.reparam(model, config=CONFIG), (lm, "snow"), {}, noise)
    side = int(np.argmax(np.log([0.4, 0.6]) + noise["side_noise"]))
    prior = sum(float((-x - jnp.exp(-x)).sum()) for x in noise.values())
    np.testing.assert_allclose(found, prior + np.log(P[side, 2]), rtol=1e-4)
    # The Gumbels that the evidence leaves pick what was observed.
    assert int(jnp.argmax(jnp.log(P[side]) + trace["face_gumbels"]["value"])) == 2


@pytest.mark.slow
def test_noise_can_be_inferred(lm: sd.LanguageModel) -> None:
    """NUTS on the noise of an unobserved site, given what it causes."""
    kernel = numpyro.infer.NUTS(nh.reparam(model, config={"side": sd.GumbelReparam()}))
    mcmc = numpyro.infer.MCMC(kernel, num_warmup=300, num_samples=4000, progress_bar=False)
    mcmc.run(jax.random.key(0), lm, "rain")
    right = 0.6 * 0.1 / (0.4 * 0.5 + 0.6 * 0.1)
    np.testing.assert_allclose(np.asarray(mcmc.get_samples()["side"]).mean(), right, atol=0.06)


def test_only_choices(lm: sd.LanguageModel) -> None:
    def text(lm: sd.LanguageModel) -> None:
        sd.sample("note", sd.Text(lm, "It {}", max_tokens=2))

    with pytest.raises(sd.SiteError, match="'note' is no choice"):
        nh.seed(nh.reparam(text, config={"note": sd.GumbelReparam()}), 0)(lm)
