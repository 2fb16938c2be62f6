"""Networks against catenets 0.2.4: with its weights, the same predictions, the same loss, the same gradient.

Its losses are closures of its training functions; they are caught on their way to ``grad``.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sdscm_jax.bench.estimators.nets import outcome_nets as outcome
from sdscm_jax.bench.estimators.nets import pseudo_outcome_nets as pseudo
from sdscm_jax.bench.estimators.nets.estimator import Options
from sdscm_jax.bench.estimators.nets.train import Params, Training, Units

from ...needs import absent

pytestmark = pytest.mark.oracle

L2, PRIVATE_L2, BALANCE, ORTHOGONALITY = 0.03, 0.05, 0.2, 0.04
TRAINING = Training(l2=L2)
ONE_EPOCH = {"n_iter": 1, "val_split_prop": 0, "step_size": 0.05}
NARROW = {"n_layers_r": 1, "n_units_r": 5, "n_layers_out": 1, "n_units_out": 4}


def theirs(name: str) -> Any:
    """A module of catenets; the test skips where it is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(f"catenets.models.jax.{name}")
        except ImportError as error:
            pytest.skip(f"{absent('catenets')} ({error})")


def trained(
    monkeypatch: pytest.MonkeyPatch, module: Any, function: Callable[..., Any], *data: np.ndarray, **options: Any
) -> tuple[Any, Any, list[Callable[..., Any]]]:
    """Their weights after one step, their prediction functions, and the losses that they minimised."""
    losses: list[Callable[..., Any]] = []

    def spy(loss: Callable[..., Any]) -> Callable[..., Any]:
        losses.append(loss)
        return jax.grad(loss)

    monkeypatch.setattr(module, "grad", spy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        params, predict = function(*data, **ONE_EPOCH, **options)
    return params, predict, losses


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(40, 3)).astype(np.float32),
        rng.normal(size=40).astype(np.float32),
        rng.integers(2, size=40).astype(np.float32),
    )


def linear(weights: Any) -> Params:
    kernel, bias = weights
    return {"kernel": kernel, "bias": bias}


def mlp(weights: Any) -> Params:
    """Their layers, between which stand nonlinearities without weights, as ours."""
    return {"layers": dict(enumerate(linear(one) for one in weights if len(one)))}


def built(module: Any, options: Any, params: Params) -> Any:
    made = module(options, 3, rngs=nnx.Rngs(0))
    own = nnx.to_pure_dict(nnx.state(made, nnx.Param))
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, params)
    return nnx.merge(nnx.graphdef(made), nnx.State(params))


def compare(
    module: Any,
    options: Any,
    port: Callable[[Any], Params],
    params: Any,
    loss: Callable[[Any], Any],
    units: Units,
    predicted: Any,
) -> None:
    """Predictions, loss, and the loss's gradient, which is ported as weights are."""

    def my_loss(weights: Params) -> tuple[Any, Any]:
        ours = built(module, options, weights)
        return ours.loss(units), ours(units.x)

    (value, mine), gradient = jax.jit(jax.value_and_grad(my_loss, has_aux=True))(port(params))
    other_value, other_gradient = jax.value_and_grad(loss)(params)
    for own, other in zip(jax.tree.leaves(mine), predicted, strict=True):
        np.testing.assert_allclose(own, np.asarray(other)[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value, other_value, rtol=1e-5)
    for (path, own), other in zip(
        jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(port(other_gradient)), strict=True
    ):
        np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-5, err_msg=jax.tree_util.keystr(path))


def units(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> Units:
    return Units(jnp.asarray(x), jnp.asarray(t), jnp.asarray(y), jnp.ones(len(t)), jnp.array(3))


PLAIN = Options(representation=(5,), head=(4,), training=TRAINING)


def test_tnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each arm's network is the same regression."""
    tnet, base = theirs("tnet"), theirs("base")
    x, y, t = data()
    arms, functions, losses = trained(monkeypatch, base, tnet.train_tnet, x, y, t, **NARROW)
    effect, *_ = tnet.predict_t_net(x, arms, functions, return_po=True)
    for arm, weights in enumerate(arms):
        own = t == arm
        compare(
            outcome.Regression,
            PLAIN,
            lambda w: {"value": mlp(w)},
            weights,
            lambda w, arm=arm, own=own: losses[arm](w, (x[own], y[own, None]), L2),
            units(x[own], y[own], t[own]),
            [functions[arm](weights, x[own])],
        )
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *({"value": mlp(w)} for w in arms))
    mine = outcome.TNet.effects(PLAIN, stacked, jnp.asarray(x))
    np.testing.assert_allclose(mine, np.asarray(effect)[:, 0], rtol=1e-4, atol=1e-5)


def shared(weights: Any) -> Params:
    return {"representation": mlp(weights[0]), "heads": {0: mlp(weights[1]), 1: mlp(weights[2])}}


@pytest.mark.parametrize("balance", [0.0, BALANCE])
def test_tarnet_and_cfr(monkeypatch: pytest.MonkeyPatch, balance: float) -> None:
    module = theirs("representation_nets")
    x, y, t = data()
    params, predict, (loss,) = trained(monkeypatch, module, module.train_snet1, x, y, t, **NARROW)
    _, *predicted = module.predict_snet1(x, params, predict, return_po=True)
    compare(
        outcome.SharedModule,
        outcome.BalanceOptions(representation=(5,), head=(4,), training=TRAINING, balance=balance),
        shared,
        params,
        lambda w: loss(w, (x, y[:, None], t[:, None]), L2, balance, L2),
        units(x, y, t),
        predicted,
    )


def test_dragonnet(monkeypatch: pytest.MonkeyPatch) -> None:
    module = theirs("representation_nets")
    x, y, t = data()
    propensity = {"n_layers_out_prop": 1, "n_units_out_prop": 2}
    params, predict, (loss,) = trained(monkeypatch, module, module.train_snet2, x, y, t, **NARROW, **propensity)
    _, *predicted = module.predict_snet2(x, params, predict, return_po=True)
    compare(
        outcome.DragonModule,
        outcome.PropensityOptions(representation=(5,), head=(4,), propensity=(2,), training=TRAINING),
        lambda w: {**shared(w), "propensity": mlp(w[3])},
        params,
        lambda w: loss(w, (x, y[:, None], t[:, None]), L2, L2),
        units(x, y, t),
        predicted,
    )


def test_offsetnet(monkeypatch: pytest.MonkeyPatch) -> None:
    module = theirs("offsetnet")
    x, y, t = data()
    params, predict, (loss,) = trained(monkeypatch, module, module.train_offsetnet, x, y, t, **NARROW)
    _, *predicted = module.predict_offsetnet(x, params, predict, return_po=True)
    compare(
        outcome.OffsetModule,
        outcome.OffsetOptions(representation=(5,), head=(4,), training=TRAINING, l2=PRIVATE_L2),
        lambda w: {"base": mlp(w[0]), "effect": mlp(w[1])},
        params,
        lambda w: loss(w, (x, y[:, None], t[:, None]), L2, PRIVATE_L2),
        units(x, y, t),
        predicted,
    )


@pytest.mark.parametrize(
    ("name", "names", "ours"),
    [
        ("snet", ("confounder", "outcome", "control", "treated", "treatment"), outcome.SNetModule),
        ("snet3", ("confounder", "outcome", "treatment"), outcome.SNet3Module),
    ],
)
def test_snet_and_snet3(monkeypatch: pytest.MonkeyPatch, name: str, names: tuple[str, ...], ours: Any) -> None:
    module = theirs({"snet": "snet", "snet3": "disentangled_nets"}[name])
    x, y, t = data()
    widths: dict[str, Any] = {**NARROW, "n_units_r_small": 3, "n_layers_out_prop": 1, "n_units_out_prop": 4}
    # The heads' penalty is what training was asked for, whatever the loss is asked for.
    widths["penalty_l2"] = L2
    params, predict, (loss,) = trained(monkeypatch, module, getattr(module, f"train_{name}"), x, y, t, **widths)
    _, *predicted = getattr(module, f"predict_{name}")(x, params, predict, return_po=True)
    heads = ("head0", "head1", "propensity")
    compare(
        ours,
        outcome.SplitOptions(
            wide=(5,), narrow=(3,), head=(4,), orthogonality=ORTHOGONALITY, balance=BALANCE, training=TRAINING
        ),
        lambda w: {
            "representations": dict(zip(names, map(mlp, w[: len(names)]), strict=True)),
            **dict(zip(heads, map(mlp, w[len(names) :]), strict=True)),
        },
        params,
        lambda w: loss(w, (x, y[:, None], t[:, None]), L2, ORTHOGONALITY, BALANCE),
        units(x, y, t),
        predicted,
    )


def test_flextenet(monkeypatch: pytest.MonkeyPatch) -> None:
    module = theirs("flextenet")
    x, y, t = data()
    widths = {"n_layers_r": 1, "n_units_s_r": 5, "n_units_p_r": 4, "n_layers_out": 1, "n_units_s_out": 3}
    params, predict, (loss,) = trained(
        monkeypatch, module, module.train_flextenet, x, y, t, **widths, n_units_p_out=2, same_init=False
    )
    _, *predicted = module.predict_flextenet(x, params, predict, return_po=True)

    def port(weights: Any) -> Params:
        layers = [layer for layer in weights if len(layer)]
        parts = ("shared", "private0", "private1")
        return {part: {i: linear(layer[p]) for i, layer in enumerate(layers)} for p, part in enumerate(parts)}

    compare(
        outcome.FlexModule,
        outcome.FlexOptions(
            shared=(5, 3), private=(4, 2), orthogonality=ORTHOGONALITY, private_l2=PRIVATE_L2, training=TRAINING
        ),
        port,
        params,
        lambda w: loss(w, ((x, t[:, None]), y[:, None]), L2, PRIVATE_L2, ORTHOGONALITY, 1),
        units(x, y, t),
        predicted,
    )


def test_rnet(monkeypatch: pytest.MonkeyPatch) -> None:
    module = theirs("rnet")
    x, y, t = data()
    left = t - 0.4
    params, predict, (loss,) = trained(monkeypatch, module, module.train_r_stage2, x, y, left, **NARROW)
    compare(
        pseudo.ResidualModule,
        PLAIN,
        lambda w: {"value": mlp(w)},
        params,
        lambda w: loss(w, (x, y[:, None], left[:, None]), L2),
        units(x, y, left),
        [predict(params, x)],
    )


def test_pseudo_outcomes() -> None:
    module = theirs("transformation_utils")
    _, y, t = data()
    rng = np.random.default_rng(1)
    e, mu0, mu1 = rng.uniform(0.1, 0.9, 40), *rng.normal(size=(2, 40))
    np.testing.assert_allclose(
        pseudo.doubly_robust(y, t, e, mu0, mu1), module.aipw_te_transformation(y, t, e, mu0, mu1), rtol=1e-5
    )
    np.testing.assert_allclose(pseudo.inversely_weighted(y, t, e), module.ht_te_transformation(y, t, e), rtol=1e-5)
    np.testing.assert_allclose(
        pseudo.regression_adjusted(y, t, mu0, mu1), module.ra_te_transformation(y, t, None, mu0, mu1), rtol=1e-5
    )
