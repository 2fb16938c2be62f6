"""Scores and probabilities of a choice, against a plain scorer; and what NumPyro needs of it."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax.dsl.scoring import encoding

from ...plain import option_log_probs

WEATHER = ("The weather outside is {}.", ["sunny", "rainy", "25"])
LEVEL = ("It is {} today.", ["low", "high", "higher than high"])


def weather(lm: sd.LanguageModel, index: object = 0) -> sd.Phrase:
    return sd.Choice(lm, *WEATHER).phrase(jnp.asarray(index))


@pytest.mark.parametrize("scoring", ["sequence", "option", "mean"])
@pytest.mark.parametrize("family", ["lm", "gpt2"])
@pytest.mark.parametrize("given", [(), ("My friend is here.",), ("phrase",), ("She runs.", "phrase", "And so on.")])
def test_scores(request: pytest.FixtureRequest, family: str, scoring: str, given: tuple[str, ...]) -> None:
    lm = request.getfixturevalue(family)
    items = [weather(lm, 1) if item == "phrase" else item for item in given]
    texts = ["The weather outside is rainy." if item == "phrase" else item for item in given]
    choice = sd.Choice(lm, *LEVEL, given=items, scoring=scoring)
    plain = option_log_probs(lm, " ".join(texts), *LEVEL, scoring)
    chex.assert_trees_all_close(np.asarray(choice.scores, np.float64), plain, atol=5e-4, rtol=0)


def walk(lm: sd.LanguageModel, rows: list[list[int]], before: list[int]) -> np.ndarray:
    """Probabilities of constrained decoding, by following every option one token at a time."""
    log_probs = []
    for row in rows:
        total = 0.0
        for i in range(len(row) + 1):
            padded = np.zeros(64, np.int32)
            padded[: len(before) + i] = [*before, *row[:i]]
            probs = np.exp(np.asarray(log_softmax(lm, jnp.asarray(padded)), np.float64)[len(before) + i - 1])
            along = {r[i] for r in rows if r[:i] == row[:i] and len(r) > i}
            others = sum(probs[token] for token in along)
            if i < len(row):
                # Where an option ends here, all tokens that do not go on count as its end.
                ends = row[:i] in rows
                total += np.log(probs[row[i]]) - (0.0 if ends else np.log(others))
            elif along:
                total += np.log1p(-others)
        log_probs.append(total)
    return np.array(log_probs)


@jax.jit
def log_softmax(lm: sd.LanguageModel, tokens: jax.Array) -> jax.Array:
    return jax.nn.log_softmax(lm.logits(tokens))


@pytest.mark.parametrize("options", [LEVEL[1], ["a", "a run", "a run home", "b"]], ids=["split", "nested"])
@pytest.mark.parametrize("suffix", ["", " today."])
def test_masked_scores_are_those_of_constrained_decoding(lm: sd.LanguageModel, options: list[str], suffix: str) -> None:
    template = "It is {}" + suffix
    choice = sd.Choice(lm, template, options, given=["My friend is here."], scoring="masked")
    encode = lambda text: lm.tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    context = "My friend is here. It is "
    wholes = [encode(context + option + suffix) for option in options]
    base = encode(context)
    start = min(next((i for i, a in enumerate(base) if w[i : i + 1] != [a]), len(base)) for w in wholes)
    scores = walk(lm, [w[start:] for w in wholes], wholes[0][:start])
    chex.assert_trees_all_close(np.asarray(choice.scores, np.float64), scores, atol=5e-4, rtol=0)
    # The walk is a distribution already.
    np.testing.assert_allclose(np.exp(choice.scores).sum(), 1.0, rtol=1e-4)


def test_pmi_is_what_the_context_adds(lm: sd.LanguageModel) -> None:
    given = [weather(lm, 1), "And so on."]
    choice = sd.Choice(lm, *LEVEL, given=given, scoring="pmi")
    plain = option_log_probs(lm, "The weather outside is rainy. And so on.", *LEVEL) - option_log_probs(lm, "", *LEVEL)
    chex.assert_trees_all_close(np.asarray(choice.scores, np.float64), plain, atol=5e-4, rtol=0)
    alone = sd.Choice(lm, *LEVEL, scoring="pmi")
    np.testing.assert_allclose(alone.probs, 1 / 3, rtol=1e-4)


def test_bias_and_temperature(lm: sd.LanguageModel) -> None:
    plain = sd.Choice(lm, *LEVEL)
    bias = jnp.array([[0.0, 1.0, -2.0], [3.0, 0.0, 0.0]])
    moved = sd.Choice(lm, *LEVEL, temperature=2.0, bias=bias)
    assert moved.batch_shape == (2,)
    chex.assert_trees_all_close(moved.logits, jax.nn.log_softmax(plain.scores / 2.0 + bias), atol=1e-4)
    with pytest.raises(sd.OptionError, match=r"bias has shape \(2,\)"):
        sd.Choice(lm, *LEVEL, bias=[1.0, 2.0])


def test_blank_at_the_start_of_a_text_is_conditioned_on_end_of_text(gpt2: sd.LanguageModel) -> None:
    options = ["low", "high"]
    choice = sd.Choice(gpt2, "{} it is.", options)
    plain = option_log_probs(gpt2, "", "{} it is.", options)
    chex.assert_trees_all_close(np.asarray(choice.scores, np.float64), plain, atol=5e-4, rtol=0)


@pytest.mark.parametrize("scoring", ["sequence", "option", "mean", "masked", "pmi", "reference"])
def test_carried_cache_is_the_same_as_a_fresh_one(lm: sd.LanguageModel, scoring: str) -> None:
    def model(lm: sd.LanguageModel, carried: bool) -> list[jax.Array]:
        out: list[jax.Array] = []
        given: list[sd.Phrase] = []
        for i, (template, options) in enumerate([WEATHER, LEVEL, WEATHER, ("Then {}", ["a", "a run", "b"])]):
            choice = sd.Choice(lm, template, options, given=given, scoring=scoring)
            out.append(choice.scores)
            phrase = choice.phrase(jnp.asarray([1, 2, 0, 1][i]))
            given.append(phrase if carried else jax.tree.map(lambda x: x + 0, phrase))
        return out

    carried, fresh = (jax.jit(model, static_argnums=1)(lm, flag) for flag in (True, False))
    chex.assert_trees_all_close(carried, fresh, atol=5e-4, rtol=0)


def count_tokens(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens per text of every call of the language model from now on."""
    calls: list[int] = []
    original = sd.LanguageModel.encode

    def counted(self: sd.LanguageModel, tokens: jax.Array, *args: object) -> object:
        calls.append(tokens.shape[-1])
        return original(self, tokens, *args)

    monkeypatch.setattr(encoding.LanguageModel, "encode", counted)
    return calls


def test_each_token_is_encoded_once(lm: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_tokens(monkeypatch)
    first = sd.Choice(lm, *WEATHER)
    _ = first.logits
    second = sd.Choice(lm, *LEVEL, given=[first.phrase(jnp.asarray(1))])
    _ = second.logits, second.probs
    encode = lm.codec.encode
    wholes = [encode(WEATHER[0].format(o)) for o in WEATHER[1]]
    # Distinct prefixes of the options' texts, less each whole text: its last token is not needed.
    nodes = {w[:i] for w in wholes for i in range(1, len(w) + 1)} - set(wholes)
    assert calls[0] == len(nodes)
    after = {w[:i] for o in LEVEL[1] for w in [lm.codec.encode_after(LEVEL[0].format(o))] for i in range(1, len(w))}
    # One pending token: the last of the chosen option.
    assert calls[1:] == [1 + len(after)]


def test_the_model_is_not_run_where_a_site_is_set(lm: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_tokens(monkeypatch)

    def model(lm: sd.LanguageModel) -> sd.Phrase:
        return sd.sample("x", sd.Choice(lm, *WEATHER))

    assert sd.handlers.exogenous(sd.handlers.do(model, {"x": "rainy"}), 0)(lm).text == "rainy"
    assert sd.sample("x", sd.Choice(lm, *WEATHER, scoring="uniform"), obs="sunny").text == "sunny"
    sd.graph(model, lm)
    assert calls == []


def test_temperature_and_normalisation(lm: sd.LanguageModel) -> None:
    plain = option_log_probs(lm, "", *LEVEL)
    for temperature in (0.5, 1.0, 7.0):
        probs = np.asarray(sd.Choice(lm, *LEVEL, temperature=temperature).probs)
        scaled = np.exp((plain - plain.max()) / temperature)
        chex.assert_trees_all_close(probs, (scaled / scaled.sum()).astype(np.float32), atol=1e-4)
    assert np.asarray(sd.Choice(lm, *LEVEL, scoring="uniform").probs) == pytest.approx([1 / 3] * 3, abs=1e-5)


@pytest.mark.slow
def test_parents_of_any_shape_broadcast(lm: sd.LanguageModel) -> None:
    a = sd.Choice(lm, *WEATHER).phrase(jnp.arange(3)[:, None])
    middle = sd.Choice(lm, *LEVEL, given=[a])
    b = middle.phrase(jnp.arange(3)[:, None, None])
    choice = sd.Choice(lm, "So {}.", ["low", "25"], given=[a, b])
    assert choice.batch_shape == (3, 3, 1)
    assert middle.batch_shape == (3, 1)
    _ = middle.logits
    logits = choice.logits
    chex.assert_shape(logits, (3, 3, 1, 2))
    for j in range(3):
        for i in range(3):
            context = f"{WEATHER[0].format(WEATHER[1][i])} {LEVEL[0].format(LEVEL[1][j])}"
            plain = option_log_probs(lm, context, "So {}.", ["low", "25"])
            chex.assert_trees_all_close(
                np.asarray(logits[j, i, 0], np.float64), plain - np.logaddexp(*plain), atol=5e-4, rtol=0
            )


def test_distribution(lm: sd.LanguageModel) -> None:
    choice = sd.Choice(lm, *LEVEL, temperature=20.0)
    chex.assert_trees_all_equal(choice.enumerate_support(), jnp.arange(3))
    chex.assert_trees_all_close(choice.log_prob(choice.enumerate_support()), choice.logits)
    chex.assert_trees_all_close(choice.log_prob("high"), choice.logits[1])
    draws = choice.sample(jax.random.key(0), (4000,))
    chex.assert_type(draws, jnp.int32)
    share = np.bincount(draws, minlength=3) / 4000
    probs = np.asarray(choice.probs)
    assert (np.abs(share - probs) < 4 * np.sqrt(probs * (1 - probs) / 4000) + 1e-9).all()
    assert choice.support.is_discrete
    assert choice.support(jnp.array([0, 2, 3])).tolist() == [True, True, False]
    leaves, treedef = jax.tree.flatten(choice)
    again = jax.tree.unflatten(treedef, leaves)
    chex.assert_trees_all_close(again.logits, choice.logits)


def test_jit_does_not_leak(lm: sd.LanguageModel) -> None:
    choice = sd.Choice(lm, *LEVEL)
    jitted = jax.jit(lambda key: choice.sample(key))(jax.random.key(1))
    assert int(jitted) == int(choice.sample(jax.random.key(1)))
    with jax.checking_leaks():
        jax.jit(lambda lm: sd.Choice(lm, *LEVEL).logits)(lm)


def test_an_option_of_probability_zero_is_never_drawn(lm: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = jnp.array([-jnp.inf, 0.0, -1.0])
    monkeypatch.setattr(sd.Choice, "scores", property(lambda self: scores))
    choice = sd.Choice(lm, *LEVEL)
    draws = choice.sample(jax.random.key(0), (2000,))
    assert set(np.asarray(draws).tolist()) == {1, 2}
    assert not np.isnan(np.asarray(choice.logits)).any()
    assert np.asarray(choice.log_prob(0)) == -np.inf


def test_scores_are_float32_for_a_bfloat16_model(lm: sd.LanguageModel) -> None:
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), lm)
    chex.assert_type(sd.Choice(low, *LEVEL).logits, jnp.float32)
