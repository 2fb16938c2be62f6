"""Free text: what it is sampled from, what it is given the noise of, and how it is read."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.contrib.control_flow import scan

import sdscm_jax as sd
from sdscm_jax.handlers import abduct, counterfactual, couple, do, exogenous

from ...dice import die
from ...needs import needs

STEPS = 6


def tumor(lm: sd.LanguageModel, **cut: float) -> sd.Text:
    return sd.Text(lm, "The tumor {}.", max_tokens=STEPS, temperature=1.5, **cut)


# The language model is an argument: XLA would fold a constant one for minutes.
@partial(jax.jit, static_argnums=(2, 3))
def draw_tumors(lm: sd.LanguageModel, key: jax.Array, count: int, cut: tuple = ()) -> jax.Array:
    return tumor(lm, **dict(cut)).sample(key, (count,))


@partial(jax.jit, static_argnums=2)
def tumor_log_prob(lm: sd.LanguageModel, tokens: jax.Array, cut: tuple = ()) -> jax.Array:
    return tumor(lm, **dict(cut)).log_prob(tokens)


@jax.jit
def log_softmax(lm: sd.LanguageModel, tokens: jax.Array) -> jax.Array:
    return jax.nn.log_softmax(lm.logits(tokens))


def token_by_token(lm: sd.LanguageModel, tokens: np.ndarray, context: str, **cut: float) -> float:
    """Log-probability by full forward passes, one a token, on the host."""
    bos = [] if lm.codec.bos is None else [lm.codec.bos]
    before = [*bos, *lm.tokenizer.encode(context, add_special_tokens=False)]
    pieces = [lm.tokenizer.decode([i]) for i in range(lm.config.vocab_size)]
    total, start, ends = 0.0, len(before), lm.tokenizer.all_special_ids
    for token in tokens:
        if token < 0:
            break
        row = np.zeros(64, np.int32)
        row[: len(before)] = before
        logits = np.asarray(log_softmax(lm, jnp.asarray(row)), np.float64)[len(before) - 1] / 1.5
        special = [i for i in lm.tokenizer.all_special_ids if i != lm.tokenizer.eos_token_id]
        beyond = [i for i, piece in enumerate(pieces) if "." in piece[:-1]]
        logits[special + beyond] = -np.inf
        if len(before) == start:
            # What goes on the last word of the template is not written.
            logits[[i for i, piece in enumerate(pieces) if i not in ends and not piece.startswith(" ")]] = -np.inf
        if "top_k" in cut:
            logits[np.argsort(-logits)[int(cut["top_k"]) :]] = -np.inf
        probs = np.exp(logits - np.logaddexp.reduce(logits))
        if "top_p" in cut:
            order = np.argsort(-probs)
            kept = order[: int(np.searchsorted(np.cumsum(probs[order]), cut["top_p"])) + 1]
            cut_probs = np.zeros_like(probs)
            cut_probs[kept] = probs[kept]
            probs = cut_probs / cut_probs.sum()
        total += float(np.log(probs[token]))
        before.append(int(token))
    return total


@pytest.mark.slow
@pytest.mark.parametrize("cut", [{}, {"top_k": 4}, {"top_p": 0.8}], ids=["whole", "top_k", "top_p"])
def test_log_prob_is_that_of_what_is_sampled(embedded: sd.LanguageModel, cut: dict) -> None:
    key, static = jax.random.key(0), tuple(cut.items())
    draws = np.asarray(draw_tumors(embedded, key, 300, static))
    chex.assert_shape(draws, (300, STEPS))
    found, counts = np.unique(draws, axis=0, return_counts=True)
    log_probs = np.asarray(tumor_log_prob(embedded, jnp.asarray(found), static))
    assert np.isfinite(log_probs).all()
    if cut.get("top_k"):
        assert len(found) < 30
    for i in np.argsort(-counts)[:3]:
        np.testing.assert_allclose(log_probs[i], token_by_token(embedded, found[i], "The tumor", **cut), atol=1e-3)
    # A set of texts that is likely in advance is as frequent as it should be.
    likely = log_probs > np.quantile(log_probs, 0.7)
    half = np.asarray(draw_tumors(embedded, jax.random.key(1), 300, static))
    share = np.mean([(half == row).all(1).sum() for row in found[likely]]) * likely.sum() / 300
    expected = np.exp(log_probs[likely]).sum()
    np.testing.assert_allclose(share, expected, atol=4 * np.sqrt(expected * (1 - expected) / 300))


def test_impossible_tokens_have_no_probability(embedded: sd.LanguageModel) -> None:
    tokens = np.asarray(draw_tumors(embedded, jax.random.key(3), 1))[0]
    ended = tumor(embedded).as_value("is low")
    assert ended[-1] == -1
    for bad in (
        np.full(STEPS, -1),
        np.where(np.arange(STEPS) == 2, -1, np.maximum(tokens, 5)),
        np.where(np.arange(STEPS) == STEPS - 1, 7, ended),
    ):
        assert np.isneginf(tumor_log_prob(embedded, jnp.asarray(bad[None], jnp.int32)))
    for good in (tokens, ended):
        assert np.isfinite(tumor_log_prob(embedded, jnp.asarray(good[None])))


@pytest.mark.slow
def test_texts_end_where_they_should(embedded: sd.LanguageModel) -> None:
    text = sd.Text(embedded, "{}.", given=["A 55-year-old woman arrives at the oncology clinic."], max_tokens=24)
    sample = jax.jit(lambda lm, key: text.replace(lm=lm).sample(key, (200,)))
    phrase = text.phrase(sample(embedded, jax.random.key(0)))
    sentences, texts = phrase.sentence, phrase.text
    assert sum(s.endswith(".") and s.count(".") == 1 for s in sentences) > 190
    assert not any("." in t for t in texts)
    lengths = np.asarray(phrase.length)
    assert len(set(lengths.tolist())) > 3
    for tokens, length in zip(np.asarray(phrase.tokens), lengths, strict=True):
        assert (tokens[:length] >= 0).all()
        assert (tokens[length:] == -1).all()
    for i in range(5):
        np.testing.assert_array_equal(text.as_value(texts[i]), phrase.tokens[i])
    assert bool(text.phrase(phrase.tokens[0]) == texts[0])


def journey(lm: sd.LanguageModel) -> sd.Phrase:
    age = sd.sample("age", sd.Choice(lm, "A {}-year-old woman arrives at the oncology clinic.", ["25", "55", "75"]))
    note = sd.sample("note", sd.Text(lm, "{}.", given=[age], max_tokens=16, temperature=1.5))
    return sd.sample(
        "drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[age, note], temperature=4.0)
    )


@pytest.mark.slow
def test_a_text_is_read_as_it_was_written(embedded: sd.LanguageModel) -> None:
    """Scores after texts of different lengths, against the whole text scored at once."""
    lm = embedded
    result = sd.simulate(journey, 0, 12, lm)
    assert len({len(result.text(i)) for i in range(12)}) > 4

    for i in range(6):
        context = " ".join(result.graph[n].phrase.at(result.values[n][i, 0]).sentence for n in ("age", "note"))
        scores = []
        for option in ("wait", "treat"):
            head = lm.tokenizer.encode(context + " The best choice is to", add_special_tokens=False)
            whole = lm.tokenizer.encode(context + f" The best choice is to {option}.", add_special_tokens=False)
            bos = [] if lm.codec.bos is None else [lm.codec.bos]
            row = np.zeros(96, np.int32)
            row[: len(bos + whole)] = bos + whole
            table = np.asarray(log_softmax(lm, jnp.asarray(row)), np.float64)
            places = range(len(bos + head), len(bos + whole))
            scores.append(sum(table[p - 1, row[p]] for p in places) / 4.0)
        expected = np.array(scores) - np.logaddexp.reduce(scores)
        np.testing.assert_allclose(result.log_probs["drug"][i, 0], expected, atol=5e-4)


@pytest.mark.slow
def test_counterfactual_texts(embedded: sd.LanguageModel) -> None:
    levels = ["25", "55", "75"]
    result = sd.simulate(journey, 3, 60, embedded, worlds=[{"age": a} for a in levels])
    notes = result.values["note"]
    age = result.values["age"][:, 0]
    for k in range(3):
        chex.assert_trees_all_equal(notes[age == k, k + 1], notes[age == k, 0])
    table = result.to_pandas(logp=False)
    parts = table["parts(note)|do(age=75)"]
    assert ((parts < 0) == (table["note"] == table["note|do(age=75)"])).all()
    for i in range(60):
        if (at := parts[i]) >= 0:
            assert (notes[i, 0, :at] == notes[i, 3, :at]).all()
            assert notes[i, 0, at] != notes[i, 3, at]
    # Shared noise keeps more of a text than fresh noise does.
    fresh = sd.simulate(couple(journey, "independent"), 3, 60, embedded, worlds=[{"age": "75"}])
    others = age != 2
    same = [(r.values["note"][others, 0] == r.values["note"][others, -1]).all(1).mean() for r in (result, fresh)]
    assert same[0] > same[1]


@pytest.mark.slow
def test_abduced_texts_are_replayed(embedded: sd.LanguageModel) -> None:
    seen = sd.simulate(journey, 3, 8, embedded, logp=[])
    texts = seen.to_pandas()["note"].tolist()
    evidence = {"age": seen.values["age"][:, 0], "note": texts}
    again = sd.simulate(journey, 9, 8, embedded, evidence=evidence, worlds=[{"age": "25"}], draws=2, logp=[])
    table = again.to_pandas()
    assert table["note"].tolist() == np.repeat(texts, 2).tolist()
    kept = again.values["age"][:, 0] == 0
    assert (table["note"] == table["note|do(age=25)"])[kept].all()
    # The same by the handlers, with the noise of the second draw of a unit.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(9), 1), 1)

    @jax.jit
    def by_handlers(key: jax.Array, lm: sd.LanguageModel) -> sd.Phrase:
        seen_of_unit = {name: values[1] for name, values in evidence.items()}
        return do(abduct(journey, seen_of_unit, key), {"age": "25"})(lm)

    assert by_handlers(key, embedded).text == table["drug|do(age=25)"][3]


@pytest.mark.slow
def test_texts_in_worlds(embedded: sd.LanguageModel) -> None:
    told = "She has no other illness"
    result = sd.simulate(journey, 1, 4, embedded, worlds=[{"note": told}, {"note": [told, "She is well", told, told]}])
    table = result.to_pandas()
    assert (table[f"note|do(note={told})"] == told).all()
    assert table["note|do(note=4 values)"].tolist() == [told, "She is well", told, told]
    run = jax.jit(lambda key, lm: exogenous(counterfactual(journey, {"note": told}), key)(lm).index)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(1), i))(jnp.arange(4))
    drugs = jax.vmap(run, in_axes=(0, None))(keys, embedded)
    chex.assert_trees_all_equal(np.asarray(drugs), result.values["drug"][:, 1])


@pytest.mark.slow
def test_constrained_text(embedded: sd.LanguageModel) -> None:
    needs("outlines_core")

    def model(lm: sd.LanguageModel) -> None:
        age = sd.sample("age", sd.Text(lm, "age: {}", max_tokens=8, pattern=r"4\d", temperature=5.0))
        sd.sample("said", sd.Text(lm, "He said {}!", given=[age], max_tokens=12, pattern=["yes", "no", "not now"]))

    result = sd.simulate(model, 0, 80, embedded)
    table = result.to_pandas()
    assert set(table["age"]) <= {f"4{d}" for d in range(10)}
    assert table["age"].nunique() > 3
    assert set(table["said"]) <= {"yes", "no", "not now"}
    assert result.text(0).startswith("age: 4")
    assert result.text(0).endswith("!")
    text = sd.Text(embedded, "age: {}", max_tokens=8, pattern=r"4\d")
    spelled = jnp.asarray(np.stack([text.as_value(f"4{d}") for d in range(10)]))
    total = float(jnp.exp(jax.jit(lambda lm, x: text.replace(lm=lm).log_prob(x))(embedded, spelled)).sum())
    # Another way to spell a text, which a tokenizer may have, is another value.
    assert 0.5 < total <= 1.0001
    with pytest.raises(sd.OptionError, match=r"age: .*cannot be '52'"):
        text.log_prob("52")
    with pytest.raises(sd.OptionError, match=r"at least .* tokens; max_tokens is 2"):
        sd.Text(embedded, "age: {}", max_tokens=2, pattern=r"\d{9}")
    with pytest.raises(sd.OptionError, match=r"pattern '4\(' cannot be used"):
        sd.Text(embedded, "age: {}", pattern="4(")


def test_bad_texts(embedded: sd.LanguageModel) -> None:
    for kwargs, message in (
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"temperature": 0.0}, "temperature"),
        ({"stop": ""}, "stop"),
        ({"coupling": "inverse_cdf"}, "unknown coupling of free text"),
        ({"pattern": "a", "stop": "."}, "leave out stop"),
    ):
        with pytest.raises(sd.OptionError, match=message):
            sd.Text(embedded, "It is {}", **kwargs)
    with pytest.raises(sd.ContextLengthError, match="needs up to"):
        sd.Text(embedded, "It is {}", max_tokens=5000)
    text = sd.Text(embedded, "The tumor {}.", max_tokens=4)
    with pytest.raises(sd.OptionError, match="more than 4 tokens"):
        text.as_value("grew and grew and grew and grew and grew")
    with pytest.raises(sd.OptionError, match="takes a text or 4 token numbers"):
        text.as_value(jnp.zeros(3, jnp.int32))
    with pytest.raises(sd.InterventionError, match=r"site 'note'.*contains what ends the text"):
        sd.simulate(journey, 0, 2, embedded, worlds=[{"note": "Well. Better"}])
    with pytest.raises(TypeError, match="free text: map needs options"):
        text.phrase(text.sample(jax.random.key(0))).map({})


@pytest.mark.slow
def test_text_after_dice(lm: sd.LanguageModel) -> None:
    """A tokenizer without BOS, a batch of contexts, and a text that begins the whole."""

    def model(lm: sd.LanguageModel) -> sd.Phrase:
        first = sd.sample("first", sd.Text(lm, "{}", max_tokens=3))
        face = sd.sample("face", die(lm, [0.2, 0.3, 0.5]))
        return sd.sample("last", sd.Text(lm, "It {}!", given=[face, first], max_tokens=3, stop=["!", " so"]))

    result = sd.simulate(model, 0, 20, lm, worlds=[{"face": "sun"}])
    assert result.values["last"].shape == (20, 2, 3)
    faces = die(lm, [0.2, 0.3, 0.5]).phrase(jnp.arange(3))
    batch = sd.Text(lm, "It {}", given=[faces], max_tokens=3)
    tokens = batch.sample(jax.random.key(0), (5,))
    assert tokens.shape == (5, 3, 3)
    assert batch.log_prob(tokens).shape == (5, 3)


@pytest.mark.slow
def test_notes_in_a_loop(lm: sd.LanguageModel) -> None:
    def visits(lm: sd.LanguageModel) -> None:
        def visit(last: sd.Phrase, _: None) -> tuple[sd.Phrase, None]:
            return sd.sample("note", sd.Text(lm, "It {}.", given=[last], max_tokens=3)), None

        scan(visit, sd.sample("first", sd.Text(lm, "It {}.", max_tokens=3)), None, length=2)

    result = sd.simulate(visits, 0, 3, lm, worlds=[{"first": "is"}])
    chex.assert_shape(result.values["note"], (3, 2, 2, 3))
    first = result.graph["first"].phrase.at(result.values["first"][0, 0]).sentence
    notes = result.graph["note"].phrase.at(result.values["note"][0, 0]).sentence
    assert result.text(0) == " ".join([first, *notes])
