"""Programs on instruct models, against full forwards over the tokens that ``transformers`` makes of the whole
conversation: in the graph, staged, tabulated, and for free text."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers

import sdscm_jax as sd
from sdscm_jax.handlers import abduct
from sdscm_jax.models.adapters import SoftPrompt
from sdscm_jax.models.chat import Chat, ChatCodec

from ...chats import NO_SYSTEM, tokenizer, truth
from ...conftest import make_tiny_lm
from .test_choice import count_tokens

WEATHER = ("The weather outside is {}.", ("sunny", "rainy", "25"))
FRIEND = ("My friend {} for a run.", ("goes", "is"))
LEVEL = ("It is {} today.", ("low", "high", "higher than high"))
CHATS = {
    "default": Chat(),
    # With the splitting of Llama 3, the last given text reaches into this.
    "after": Chat(user="{}\n\nWhat next?", alone="Go on."),
}


@cache
def talking(style: str, name: str = "default", system: str | None = None) -> sd.LanguageModel:
    made = tokenizer(style)
    return replace(make_tiny_lm(made), codec=ChatCodec(made, replace(CHATS[name], system=system)))


@jax.jit
def token_log_probs(lm: sd.LanguageModel, tokens: jax.Array, forbidden: jax.Array | None = None) -> jax.Array:
    """Log-probability of each token but the first given those before; ``tokens [B, T]``, padded."""
    logits = lm.logits(tokens)[:, :-1]
    log_probs = jax.nn.log_softmax(logits if forbidden is None else logits.at[..., forbidden].set(-jnp.inf))
    return jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)[..., 0]


def log_probs(lm: sd.LanguageModel, texts: tuple[str, ...], template: str, options: tuple[str, ...]) -> np.ndarray:
    """Log-probabilities of whole conversations, normalised over the options, float64 ``[K]``."""
    assert lm.chat is not None
    wholes = [truth(lm.tokenizer, lm.chat, texts, template.replace("{}", option)) for option in options]
    tokens = np.zeros((len(wholes), 128), np.int32)
    for row, whole in zip(tokens, wholes, strict=True):
        row[: len(whole)] = whole
    found = np.asarray(token_log_probs(lm, jnp.asarray(tokens)), np.float64)
    scores = np.array([x[: len(whole) - 1].sum() for x, whole in zip(found, wholes, strict=True)])
    return scores - np.logaddexp.reduce(scores)


def program(lm: sd.LanguageModel) -> None:
    weather = sd.sample("weather", sd.Choice(lm, *WEATHER))
    friend = sd.sample("friend", sd.Choice(lm, *FRIEND, given=[weather]))
    level = sd.sample("level", sd.Choice(lm, *LEVEL, given=[weather, friend]))
    sd.sample("last", sd.Choice(lm, *FRIEND, given=[weather, "And so on.", level], scoring="pmi"))


def said(site: tuple[str, tuple[str, ...]], number: Any) -> str:
    return site[0].replace("{}", site[1][int(number)])


def check(lm: sd.LanguageModel, values: dict[str, Any], found: dict[str, np.ndarray]) -> None:
    """Log-probabilities of all options in one unit, against full forwards."""
    weather, friend, level = (
        said(site, values[name]) for name, site in (("weather", WEATHER), ("friend", FRIEND), ("level", LEVEL))
    )
    expected = {
        "weather": log_probs(lm, (), *WEATHER),
        "friend": log_probs(lm, (weather,), *FRIEND),
        "level": log_probs(lm, (weather, friend), *LEVEL),
    }
    pmi = log_probs(lm, (weather, "And so on.", level), *FRIEND) - log_probs(lm, (), *FRIEND)
    expected["last"] = pmi - np.logaddexp.reduce(pmi)
    for name, scores in expected.items():
        np.testing.assert_allclose(found[name], scores, atol=5e-4, rtol=0, err_msg=name)


@pytest.mark.parametrize(("style", "name"), [("llama3", "after"), ("gemma", "default")])
def test_scores_are_those_of_full_forwards(style: str, name: str) -> None:
    """Within one trace, where sites share what was encoded."""
    lm = talking(style, name, None if style in NO_SYSTEM else "Be brief.")
    values = {"weather": 1, "friend": 0, "level": 2}

    @jax.jit
    def run(lm: sd.LanguageModel, values: dict[str, jax.Array]) -> dict[str, jax.Array]:
        weather = sd.Choice(lm, *WEATHER)
        friend = sd.Choice(lm, *FRIEND, given=[given := weather.phrase(values["weather"])])
        level = sd.Choice(lm, *LEVEL, given=[given, second := friend.phrase(values["friend"])])
        third = level.phrase(values["level"])
        last = sd.Choice(lm, *FRIEND, given=[given, "And so on.", third], scoring="pmi")
        again = sd.Choice(lm, *LEVEL, given=[given, second])
        sites = {"weather": weather, "friend": friend, "level": level, "last": last}
        return {k: v.logits for k, v in sites.items()} | {"again": again.logits}

    found = run(lm, jax.tree.map(jnp.asarray, values))
    check(lm, values, {k: np.asarray(v) for k, v in found.items()})
    chex.assert_trees_all_close(found["again"], found["level"], atol=5e-4)


@pytest.mark.slow
def test_staged_and_tabulated() -> None:
    lm = talking("llama3", "after", "Be brief.")
    worlds = [{"weather": "rainy"}]
    staged, graph = (
        sd.simulate(program, 3, 16, lm, worlds=worlds, execution=execution) for execution in ("staged", "in_graph")
    )
    table = sd.tabulate(program, lm)
    for site in ("weather", "friend", "level", "last"):
        np.testing.assert_array_equal(staged.values[site], graph.values[site])
        np.testing.assert_allclose(staged.log_probs[site], graph.log_probs[site], atol=5e-4, rtol=0)
    for unit, world in ((0, 0), (1, 0), (5, 1)):
        at = {site: staged.values[site][unit, world] for site in staged.values}
        found = of_all_options(table, at)
        check(lm, at, found)
        check(lm, at, {site: staged.log_probs[site][unit, world] for site in found})


def of_all_options(table: sd.Tabulated, values: dict[str, Any]) -> dict[str, np.ndarray]:
    """Log-probabilities of the options in one unit, from tables."""
    trace = handlers.trace(handlers.seed(handlers.substitute(table, values), 0)).get_trace()
    return {name: np.asarray(trace[name]["fn"].log_prob(trace[name]["fn"].enumerate_support())) for name in values}


def test_what_sites_share_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sites with the same first given texts share them, up to the end of what the user is given to say."""
    lm = talking("chatml")
    calls = count_tokens(monkeypatch)
    weather = sd.Choice(lm, *WEATHER).phrase(jnp.asarray(1))
    for choice in (sd.Choice(lm, *LEVEL, given=[weather]), sd.Choice(lm, *LEVEL, given=[weather, "And so on."])):
        _ = choice.logits
    question = choice.question
    own = len(question.shared) + question.tree.size
    assert calls == [
        len(question.start) + max(map(len, question.pieces[0])) + own,
        len(lm.codec.encode_after("And so on.")) + own,
    ]


def test_the_opening_is_computed_once_by_the_staged_engine() -> None:
    lm = talking("chatml")
    simulation = sd.simulate(program, 0, 32, lm)
    question = sd.Choice(lm, *LEVEL, given=["It is low."]).question
    stats = simulation.stats
    assert stats["tokens"] == stats["trie_tokens"]
    # Three sites read it, in each of 32 units, and one forward each would compute it anew.
    assert stats["tokens"] < stats["reference_tokens"] - 3 * 31 * len(question.start)


# -- free text ----------------------------------------------------------------------------------


def written_log_prob(lm: sd.LanguageModel, whole: tuple[int, ...], start: int) -> float:
    """Log-probability of the tokens from ``start`` on, of a text that a full stop ends.

    It has no special tokens but that which ends an answer, and none that goes on after a full stop.
    """
    special = {i for i, token in lm.tokenizer.added_tokens_decoder.items() if token.special} - {lm.codec.end}
    beyond = {i for token, i in lm.tokenizer.get_vocab().items() if "." in token[:-1]}
    return float(token_log_probs(lm, jnp.asarray([whole]), jnp.array(sorted(special | beyond)))[0, start - 1 :].sum())


def read_before(site: sd.Choice | sd.Text) -> tuple[int, ...]:
    """The tokens before a site's own text, none of which is encoded."""
    text = site._text(1)
    assert text.cache is None
    return tuple(int(t) for t, real in zip(text.pending, text.pending_valid, strict=True) if real)


@pytest.mark.parametrize("template", ["{}.", "It is {}."])
@pytest.mark.parametrize("style", ["chatml", "llama2"])
def test_tokens_of_free_text(style: str, template: str) -> None:
    """They stand where the template asks for an answer; read later, they stand in the user's turn."""
    lm = talking(style)
    given, answer = ("The weather outside is rainy.",), template.replace("{}", "low or high")
    weather = sd.Choice(lm, *WEATHER).phrase(jnp.asarray(1))
    note = sd.Text(lm, template, given=[weather], max_tokens=12)
    value = note.as_value("low or high")
    asked = truth(lm.tokenizer, lm.chat, given, "It is" if "It is" in template else None)
    assert (*read_before(note), *note._opening) == asked
    assert (*asked, *value[value >= 0].tolist()) == truth(lm.tokenizer, lm.chat, given, answer)
    phrase = note.phrase(value)
    assert (phrase.text, phrase.sentence) == ("low or high", answer)
    # Tokens are kept: what was written after a space is read so, and what was not is, too.
    head, spaced = "It is" in template, lm.codec.lead(False) == " "
    for texts, items, alike in (((*given, answer), [weather, phrase], spaced), ((answer,), [phrase], not spaced)):
        if head or alike:
            level = sd.Choice(lm, *LEVEL, given=items)
            whole = (*read_before(level), *level._blank.shared, *level._blank.rows[0])
            assert whole == truth(lm.tokenizer, lm.chat, texts, said(LEVEL, 0))


@pytest.mark.slow
def test_drawn_text_has_the_probability_of_its_tokens() -> None:
    lm = talking("chatml")
    note = sd.Text(lm, "{}.", max_tokens=6, given=["It is low."])
    tokens = note.sample(jax.random.key(0))
    written = tuple(int(t) for t in tokens if t >= 0)
    whole = (*truth(lm.tokenizer, lm.chat, ("It is low.",), None), *written)
    found = written_log_prob(lm, whole, len(whole) - len(written))
    np.testing.assert_allclose(note.log_prob(tokens), found, atol=5e-4, rtol=0)


# -- the rest of the language ---------------------------------------------------------------------


def test_carried_cache_is_the_same_as_a_fresh_one() -> None:
    """One site after others, and the same with nothing that was encoded before."""
    lm = talking("llama3")

    def model(lm: sd.LanguageModel, carried: bool) -> list[jax.Array]:
        found, given = [], []
        for number, site in enumerate((WEATHER, FRIEND, LEVEL, FRIEND)):
            choice = sd.Choice(lm, *site, given=given, scoring="mean")
            found.append(choice.scores)
            phrase = choice.phrase(jnp.asarray(number % 2))
            given = [*given, phrase if carried else jax.tree.map(lambda x: x + 0, phrase)]
        return found

    carried, fresh = (jax.jit(model, static_argnums=1)(lm, flag) for flag in (True, False))
    chex.assert_trees_all_close(carried, fresh, atol=5e-4, rtol=0)


def test_option_scores_leave_out_the_suffix() -> None:
    lm = talking("chatml")
    choice = sd.Choice(lm, *LEVEL, given=["It is low."], scoring="option")
    expected = log_probs(lm, ("It is low.",), "It is {}", LEVEL[1])
    np.testing.assert_allclose(choice.logits, expected, atol=5e-4, rtol=0)


def test_abduction_replays_its_evidence() -> None:
    lm = talking("llama3")
    evidence, numbers = {"weather": "25", "level": "high"}, {"weather": 2, "level": 1}

    def model(lm: sd.LanguageModel) -> None:
        sd.sample("level", sd.Choice(lm, *LEVEL, given=[sd.sample("weather", sd.Choice(lm, *WEATHER))]))

    abduced = abduct(model, evidence, jax.random.key(0))
    trace = handlers.trace(handlers.seed(abduced, 0)).get_trace(lm)
    assert {name: int(trace[name]["value"]) for name in numbers} == numbers


def test_a_soft_prompt_stands_after_bos() -> None:
    lm = talking("llama3")
    adapted = SoftPrompt(lm, 2)(lm)
    start = sd.Choice(adapted, *LEVEL, given=["It is low."]).question.start
    plain = sd.Choice(lm, *LEVEL, given=["It is low."]).question.start
    assert start == (plain[0], *adapted.prompt_tokens, *plain[1:])


def test_sites_are_refused_whose_texts_the_template_writes_otherwise() -> None:
    """What is given, options and the beginning of a free text: all that a site says is written by the template."""
    made = tokenizer("chatml")
    shown = made.chat_template.replace("message['content']", "message['content'].split('</think>')[-1].strip('\n')")
    lm = make_tiny_lm(made)
    made.chat_template, kept = shown, made.chat_template
    try:
        lm = replace(lm, codec=ChatCodec(made, Chat(user="{}")))
    finally:
        made.chat_template = kept
    weather = sd.Choice(lm, *WEATHER).phrase(jnp.asarray(0))
    sites = [
        lambda: sd.Choice(lm, "{}", ["Yes", "So.</think>Yes"]),
        lambda: sd.Choice(lm, "{}", ["Yes", "\nYes"], given=[weather]),
        lambda: sd.Choice(lm, *LEVEL, given=[weather, "It is so.\n"]),
        lambda: sd.Choice(lm, *LEVEL, given=[sd.Choice(lm, "{}\n", ["Yes", "No"], scoring="uniform").phrase(0)]),
        lambda: sd.Text(lm, "So.</think>\n\nIt is {}.", given=[weather]),
        lambda: sd.Text(lm, "{}.", given=[weather, "It is so.\n"]),
    ]
    for site in sites:
        with pytest.raises(sd.TemplateError, match="does not write"):
            site()
    sd.Choice(lm, *LEVEL, given=[weather, sd.Text(lm, "It is {}.", given=[weather]).phrase(jnp.full(64, -1))])


# -- errors -------------------------------------------------------------------------------------


def test_errors() -> None:
    lm = talking("llama3")
    with pytest.raises(sd.OptionError, match="knows no chat"):
        sd.Choice(lm, *LEVEL, scoring="reference")
    with pytest.raises(sd.TemplateError, match="does not write 'It is low ' as they stand"):
        sd.Choice(lm, "It is {} ", ["low", "high"])
    with pytest.raises(sd.TemplateError, match="special token"):
        sd.Choice(lm, *LEVEL, given=["It is low.<|eot_id|>"])
    long = [f"It is {'low or high ' * 20}."] * 20
    with pytest.raises(sd.ContextLengthError):
        sd.Choice(lm, *LEVEL, given=long)
    with warnings.catch_warnings():
        # The template does not follow the given texts, so there is no boundary to warn of.
        warnings.simplefilter("error")
        sd.Choice(lm, "s {}.", ["low", "high"], given=["It"])


def test_a_reasoning_within_the_tags_is_no_text_of_an_answer() -> None:
    """A chat's answers stand behind a closed thought: a text with its tags would be a second one."""
    made = tokenizer("qwen3")
    for chat in (Chat(variables={"enable_thinking": False}), Chat(thought=""), Chat(thought="It is low.")):
        lm = replace(make_tiny_lm(made), codec=ChatCodec(made, chat))
        for site in (
            lambda lm: sd.Text(lm, "<think>{}</think>", max_tokens=4),
            lambda lm: sd.Text(lm, "<think>{}", max_tokens=4),
            lambda lm: sd.Text(lm, "{}</think>", max_tokens=4),
            lambda lm: sd.Text(lm, "{}", stop="</think>", max_tokens=4),
            lambda lm: sd.Text(lm, "{}", stop=[".", "\n</think>"], max_tokens=4),
            lambda lm: sd.Text(lm, "{}", pattern=["<think>a", "b"], max_tokens=9),
            lambda lm: sd.Choice(lm, "<think>It is {}.</think>", ["low", "high"]),
        ):
            with pytest.raises(sd.TemplateError, match=r"think>' in it.*no site.*Chat\(thought=\.\.\.\)"):
                site(lm)
        # The remedy: words of the answer, that the next site is given.
        reason = sd.Text(lm, "It is so, as {}.", max_tokens=4)
        sd.Choice(lm, *LEVEL, given=[reason.phrase(jnp.full(4, -1))])
    # So it is of a whole conversation.
    with pytest.raises(sd.TemplateError, match="no site"):
        ChatCodec(made, Chat(variables={"enable_thinking": False})).transcript(
            "It is low.", "<think>\nLow.\n</think>\n\nYes"
        )
    # Where no thought is written, they are words as any.
    sd.Text(talking("chatml"), "<think>{}</think>", max_tokens=4)
