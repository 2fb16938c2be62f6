"""Adapters: what they change, what they leave, and that inference fits them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from flax import nnx
from numpyro.contrib.module import nnx_module, random_nnx_module
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.util import log_density

import sdscm_jax as sd
from sdscm_jax.models.adapters import Adapter, FullWeights, LowRank, SoftPrompt
from sdscm_jax.models.checkpoint import parameter_paths
from sdscm_jax.models.families import tiny_config

ADAPTERS: dict[str, Callable[[sd.LanguageModel], Adapter]] = {
    "soft prompt": lambda lm: SoftPrompt(lm, 3),
    "low rank": lambda lm: LowRank(lm, 2),
    "full weights": FullWeights,
}
any_adapter = pytest.mark.parametrize("make", ADAPTERS.values(), ids=ADAPTERS)
TEXT = "The weather outside is sunny. It is low or high."


@pytest.fixture(scope="module", params=["llama", "gpt2 bfloat16", "llama bfloat16 untied"])
def model(request: pytest.FixtureRequest, lm: sd.LanguageModel, gpt2: sd.LanguageModel) -> sd.LanguageModel:
    if request.param == "llama":
        return lm
    if request.param == "gpt2 bfloat16":
        return jax.tree.map(lambda x: x.astype(jnp.bfloat16), gpt2)
    config = tiny_config("llama", lm.config.vocab_size, tied=False)
    return jax.tree.map(lambda x: x * 6 if x.ndim > 1 else x, sd.random_lm(config, lm.tokenizer, 0, jnp.bfloat16))


@jax.jit
def _logits(lm: sd.LanguageModel, tokens: jax.Array) -> jax.Array:
    return lm.logits(tokens)


def logits_of(lm: sd.LanguageModel, tokens: Sequence[int]) -> jax.Array:
    """Logits after each token; padded, behind what reads it, so that few programs are compiled."""
    return _logits(lm, jnp.array([*tokens, *[0] * (64 - len(tokens))]))[: len(tokens)]


def prompted_logits(lm: sd.LanguageModel, text: str) -> jax.Array:
    """Logits after the tokens of a text that stands behind the prompt."""
    return logits_of(lm, [*lm.prompt_tokens, *lm.codec.encode(text)])[lm.prompt :]


def params_of(adapter: Adapter) -> dict:
    return nnx.to_pure_dict(nnx.state(adapter, nnx.Param))


def disturbed(adapter: Adapter, seed: int = 0) -> Adapter:
    """The adapter with noise on every parameter."""
    params = params_of(adapter)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return adapter.with_params(jax.tree.unflatten(tree, noisy))


# -- laws of all three ----------------------------------------------------------------------------


@any_adapter
def test_adapted_models_are_values(model: sd.LanguageModel, make: Callable[[sd.LanguageModel], Adapter]) -> None:
    """Same dtype and tokenizer, a pytree with static structure; the given model and the adapter stay as they are."""
    adapter = make(model)
    before, started = model.fingerprint(), jax.tree.map(np.array, params_of(adapter))
    adapted = disturbed(adapter)(model)
    assert model.fingerprint() == before
    chex.assert_trees_all_equal(params_of(adapter), started)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(started))
    assert adapted.dtype == model.dtype
    assert adapted.codec == model.codec
    assert adapted.fingerprint() not in (before, disturbed(adapter, seed=1)(model).fingerprint())
    leaves, tree = jax.tree.flatten(adapted)
    assert jax.tree.unflatten(tree, leaves).prompt == adapted.prompt
    assert replace(adapted, params=adapted.params).fingerprint() == adapted.fingerprint()
    assert prompted_logits(adapted, TEXT).shape[-1] == model.config.vocab_size


@any_adapter
def test_transformations(lm: sd.LanguageModel, make: Callable[[sd.LanguageModel], Adapter]) -> None:
    """Under jit, vmap and grad an adapter is a function of its parameters and the model."""
    adapter = make(lm)
    several = [params_of(disturbed(adapter, seed)) for seed in range(3)]

    def loss(params: dict, lm: sd.LanguageModel) -> jax.Array:
        return jax.nn.logsumexp(prompted_logits(adapter.with_params(params)(lm), TEXT)[-1])

    graded = jax.value_and_grad(loss)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *several)
    together = jax.jit(jax.vmap(graded, in_axes=(0, None)))(stacked, lm)
    alone = jax.jit(graded)
    apart = [alone(params, lm) for params in several]
    chex.assert_trees_all_close(together, jax.tree.map(lambda *x: jnp.stack(x), *apart), rtol=1e-4, atol=1e-4)
    # A step along the gradient, of a length that should change the loss by 0.0005.
    gradient = apart[0][1]
    step = jax.tree.map(lambda x: 5e-4 * x / optax.global_norm(gradient) ** 2, gradient)
    ahead, behind = (
        alone(jax.tree.map(lambda p, s, sign=sign: p + sign * s, several[0], step), lm)[0] for sign in (1, -1)
    )
    np.testing.assert_allclose((ahead - behind) / 2, 5e-4, rtol=0.05)


@any_adapter
def test_numpyro_sees_the_adapters_parameters_only(
    lm: sd.LanguageModel, make: Callable[[sd.LanguageModel], Adapter]
) -> None:
    adapter = make(lm)
    trace = numpyro.handlers.trace(lambda lm: nnx_module("adapter", adapter)(lm)).get_trace(lm)
    assert {name: site["type"] for name, site in trace.items()} == {"adapter$params": "param"}
    registered = sum(x.size for x in jax.tree.leaves(trace["adapter$params"]["value"]))
    c = lm.config
    assert (
        registered
        == {
            SoftPrompt: 3 * c.width,
            LowRank: 2 * c.layers * (2 * c.width + c.heads * c.head_dim + c.kv_heads * c.head_dim),
            FullWeights: sum(x.size for x in jax.tree.leaves(lm)),
        }[type(adapter)]
    )
    chex.assert_trees_all_equal(trace["adapter$params"]["value"], params_of(adapter))


def test_parameters_may_be_random(lm: sd.LanguageModel) -> None:
    """A prior on an adapter: NumPyro's random modules."""
    adapter = SoftPrompt(lm, 3)

    def calibrated(lm: sd.LanguageModel) -> sd.LanguageModel:
        return random_nnx_module("adapter", adapter, prior=dist.Normal(0, 0.1))(lm)

    draws = [numpyro.handlers.seed(calibrated, seed)(lm).fingerprint() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@any_adapter
def test_of_another_model(lm: sd.LanguageModel, make: Callable[[sd.LanguageModel], Adapter]) -> None:
    other = sd.random_lm(tiny_config("llama", lm.config.vocab_size, width=16), lm.tokenizer)
    with pytest.raises(ValueError, match="made for another model"):
        make(lm)(other)
    with pytest.raises(ValueError, match="unknown"):
        make(lm).with_params({"unknown": jnp.zeros(3)})


def test_one_behind_another(lm: sd.LanguageModel) -> None:
    """Adapters compose, and one that touches other parameters may go first or last."""
    prompt, rank = disturbed(SoftPrompt(lm, 3)), disturbed(LowRank(lm, 2))
    assert rank(prompt(lm)).fingerprint() == prompt(rank(lm)).fingerprint()
    weights = FullWeights(prompt(lm))
    assert sum(x.size for x in jax.tree.leaves(params_of(weights))) == sum(
        x.size for x in jax.tree.leaves((lm, params_of(prompt)))
    )
    assert weights(prompt(lm)).fingerprint() == prompt(lm).fingerprint()


# -- soft prompts ---------------------------------------------------------------------------------


def test_prompt_of_real_embeddings_is_real_tokens(model: sd.LanguageModel) -> None:
    words = "My friend goes for a run."
    typed = model.codec.encode(words)
    prompted = SoftPrompt(model, len(typed), init=words)(model)
    assert prompted.prompt == len(typed)
    rest = model.codec.encode(TEXT)
    # A stand-in for BOS stands first.
    virtual = logits_of(prompted, [5, *prompted.prompt_tokens, *rest])
    real = logits_of(model, [5, *typed, *rest])
    chex.assert_trees_all_equal(virtual, real)
    assert jnp.abs(real[-1] - logits_of(model, [5, *rest])[-1]).max() > 1e-3
    # Texts that leave it out read as before.
    chex.assert_trees_all_equal(logits_of(prompted, rest), logits_of(model, rest))


@pytest.mark.parametrize("fixture", ["lm", "gpt2", "embedded"])
def test_choices_read_the_prompt(request: pytest.FixtureRequest, fixture: str) -> None:
    """BOS where there is one, the prompt, the text: against real tokens, a whole sequence for every option.

    The first template begins with its blank: the prompt then takes the place of a start token.
    """
    lm: sd.LanguageModel = request.getfixturevalue(fixture)
    words = "My friend goes for a run."
    typed = lm.codec.encode(words)
    prompted = SoftPrompt(lm, len(typed), init=words)(lm)
    before = [*([] if lm.codec.bos is None else [lm.codec.bos]), *typed]

    def by_hand(text: str, options: list[str]) -> jax.Array:
        rows = [[*before, *lm.codec.encode(text + option)] for option in options]
        scores = []
        for row in rows:
            log_probs = jax.nn.log_softmax(logits_of(lm, row))
            scores.append(sum(log_probs[i - 1, row[i]] for i in range(len(before), len(row))))
        return jax.nn.log_softmax(jnp.array(scores))

    endings = ["a run.", "25."]

    @jax.jit
    def chosen(lm: sd.LanguageModel) -> tuple[jax.Array, jax.Array]:
        first = sd.Choice(lm, "{} is low.", ["She", "It"])
        given = first.phrase(jnp.array([0, 1]))
        return first.logits, sd.Choice(lm, "My friend goes for {}", endings, given=[given]).logits

    first, second = chosen(prompted)
    np.testing.assert_allclose(first, by_hand("", ["She is low.", "It is low."]), rtol=1e-4, atol=1e-5)
    for k, text in enumerate(["She is low.", "It is low."]):
        expected = by_hand(f"{text} My friend goes for ", endings)
        np.testing.assert_allclose(second[k], expected, rtol=1e-4, atol=1e-5)
    assert jnp.abs(first - chosen(lm)[0]).max() > 1e-3


def test_prompt_behind_a_prompt(model: sd.LanguageModel) -> None:
    first, second = "It is low", "She is 25 years old."
    lengths = [len(model.codec.encode(text)) for text in (first, second)]
    once = SoftPrompt(model, lengths[0], init=first)(model)
    twice = SoftPrompt(once, lengths[1], init=second)(once)
    assert twice.prompt == sum(lengths)
    typed = [*model.codec.encode(first), *model.codec.encode(second), *model.codec.encode(TEXT)]
    chex.assert_trees_all_equal(prompted_logits(twice, TEXT), logits_of(model, typed)[twice.prompt :])
    # The length counts in the fingerprint, not only the embeddings.
    assert len({lm.fingerprint() for lm in (model, once, twice, replace(twice, prompt=lengths[0]))}) == 4


def test_prompts_start_from_real_embeddings(model: sd.LanguageModel) -> None:
    table = np.asarray(parameter_paths(model.params)["embedding.embedding"], np.float32)
    typed = model.codec.encode("It is")
    rows = np.asarray(SoftPrompt(model, 6, init="It is").embedding[...])
    chex.assert_trees_all_equal(rows[: len(typed)], table[list(typed)])
    assert all((table == row).all(1).any() for row in rows)
    seeded = [np.asarray(SoftPrompt(model, 6, rngs=rngs).embedding[...]) for rngs in (1, nnx.Rngs(1), 2)]
    chex.assert_trees_all_equal(seeded[0], seeded[1])
    assert (seeded[0] != seeded[2]).any()


def test_lengths(lm: sd.LanguageModel) -> None:
    with pytest.raises(sd.SDSCMError, match="length is an integer from 1 to"):
        SoftPrompt(lm, 0)
    with pytest.raises(sd.SDSCMError, match=f"length is an integer from {len(lm.codec.encode(TEXT))}"):
        SoftPrompt(lm, 2, init=TEXT)


# -- low-rank changes -----------------------------------------------------------------------------


def all_targets(lm: sd.LanguageModel) -> list[str]:
    return ["query", "key", "value", "out", "up", "down"] + ["gate"] * lm.config.gated


def test_low_rank_starts_as_the_given_model(model: sd.LanguageModel) -> None:
    adapter = LowRank(model, 3, targets=all_targets(model))
    adapted = adapter(model)
    chex.assert_trees_all_equal(parameter_paths(adapted.params), parameter_paths(model.params))
    chex.assert_trees_all_equal(prompted_logits(adapted, TEXT), prompted_logits(model, TEXT))

    def loss(params: dict) -> jax.Array:
        return jnp.square(prompted_logits(adapter.with_params(params)(model), TEXT)).mean()

    gradient = jax.jit(jax.grad(loss))(params_of(adapter))
    for target in all_targets(model):
        # With b at zero a does not matter yet; every layer's b does.
        assert (jnp.abs(gradient["b"][target]).max((1, 2)) > 0).all(), target
        assert (gradient["a"][target] == 0).all(), target


def test_low_rank_kernels(model: sd.LanguageModel) -> None:
    """Against sums of outer products in float64; what is no target stays."""
    rank, alpha, targets = 3, 1.5, all_targets(model)[::2]
    adapter = disturbed(LowRank(model, rank, targets=targets, alpha=alpha))
    before, after = (parameter_paths(m.params) for m in (model, adapter(model)))
    for path in before:
        target = path.removeprefix("blocks.").removesuffix(".kernel")
        if target not in targets:
            chex.assert_trees_all_equal(after[path], before[path])
            continue
        expected = np.array(before[path], np.float64)
        a, b = (np.array(factors[target][...], np.float64) for factors in (adapter.a, adapter.b))
        for layer in range(len(expected)):
            for r in range(rank):
                expected[layer] += alpha / rank * np.outer(a[layer, :, r], b[layer, r])
        assert after[path].dtype == model.dtype
        # One rounding to the kernel's dtype.
        ulp = 2.0**-8 if model.dtype == jnp.bfloat16 else 2.0**-22
        np.testing.assert_allclose(np.asarray(after[path], np.float64), expected, rtol=1.01 * ulp, atol=1e-6)
    assert {t for t in targets if (after[f"blocks.{t}.kernel"] != before[f"blocks.{t}.kernel"]).any()} == set(targets)


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, pytest.param("int8", marks=pytest.mark.slow)])
def test_low_rank_where_layers_differ(lm: sd.LanguageModel, weights: str | None) -> None:
    """Each kind of layers has a change of its own; what a layer has beside its projections is none of them."""
    config = replace(tiny_config("gemma4_text", lm.config.vocab_size), weights=weights)
    given = sd.random_lm(config, lm.tokenizer, 0)
    adapter = LowRank(given, 2, targets=["query", "up"])
    assert {*adapter.a} == {"sliding.query", "full.query", "up"}
    for b in adapter.b.values():
        b[...] = jnp.ones(b.shape)
    before, after = parameter_paths(given.params), parameter_paths(adapter(given).params)
    for target, a in adapter.a.items():
        path = target if "." in target else f"blocks.{target}"
        if weights is None:
            change = after[f"{path}.kernel"] - before[f"{path}.kernel"]
            chex.assert_trees_all_close(
                change, jnp.broadcast_to(a[...].sum(-1, keepdims=True), change.shape), atol=1e-6
            )
        else:
            chex.assert_trees_all_equal(after[f"{path}.a"], a[...])
            # (gpt-oss: its sinks stand beside the projections.)
            assert {*LowRank(sd.random_lm(tiny_config("gpt_oss", 50), lm.tokenizer, 0), 1).a} == {"query", "value"}


def test_low_rank_arguments(lm: sd.LanguageModel, gpt2: sd.LanguageModel) -> None:
    with pytest.raises(sd.SDSCMError, match=r"unknown target 'querry'; did you mean 'query'\? .*'gate'"):
        LowRank(lm, 2, targets=["value", "querry"])
    with pytest.raises(sd.SDSCMError, match="unknown target 'gate'"):
        LowRank(gpt2, 2, targets=["gate"])
    with pytest.raises(sd.SDSCMError, match="unknown target 'attention_norm'"):
        LowRank(lm, 2, targets=["attention_norm"])
    with pytest.raises(sd.SDSCMError, match="targets is a list, got 'query'"):
        LowRank(lm, 2, targets="query")
    with pytest.raises(sd.SDSCMError, match=r"targets names no projection \(known: "):
        LowRank(lm, 2, targets=[])
    with pytest.raises(sd.SDSCMError, match="from 1 to"):
        LowRank(lm, 0)


# -- inference ------------------------------------------------------------------------------------


def story(lm: sd.LanguageModel, weather: np.ndarray, activity: np.ndarray) -> None:
    with numpyro.plate("units", len(weather)):
        seen = sd.sample("weather", sd.Choice(lm, "The weather is {}.", ["sunny", "low"]), obs=weather)
        sd.sample("activity", sd.Choice(lm, "My friend goes for {}.", ["a run", "25"], given=[seen]), obs=activity)


def observed(seed: int, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Sunny for three of four; a run for nine of ten where it is, for two of ten where it is not."""
    rng = np.random.default_rng(seed)
    weather = (rng.random(units) > 0.75).astype(int)
    return weather, (rng.random(units) > np.array([0.9, 0.2])[weather]).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize(("fixture", "name"), [("lm", "soft prompt"), ("gpt2", "low rank"), ("lm", "full weights")])
def test_svi_fits_choices(request: pytest.FixtureRequest, fixture: str, name: str) -> None:
    lm: sd.LanguageModel = request.getfixturevalue(fixture)
    adapter = ADAPTERS[name](lm)

    def calibrated(lm: sd.LanguageModel, *data: np.ndarray) -> None:
        story(nnx_module("adapter", adapter)(lm), *data)

    before = lm.fingerprint()
    svi = SVI(calibrated, lambda *args: None, optax.adam(0.02), Trace_ELBO())
    result = svi.run(jax.random.key(0), 60, lm, *observed(0, 96), progress_bar=False)
    adapted = adapter.with_params(result.params["adapter$params"])(lm)
    assert lm.fingerprint() == before

    held_out = observed(1, 256)
    likelihood = jax.jit(lambda lm: log_density(story, (lm, *held_out), {}, {})[0] / 256)
    started, fitted = likelihood(lm), likelihood(adapted)
    # The data's own entropy bounds what there is to find.
    best = float(np.mean(np.log(np.array([0.75, 0.25]))[held_out[0]]))
    best += float(np.mean(np.log(np.array([[0.9, 0.1], [0.2, 0.8]]))[held_out]))
    assert best - fitted < 0.3 * (best - started)
