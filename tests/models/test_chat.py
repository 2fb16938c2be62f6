"""Conversations with instruct models: their tokens are those that ``transformers`` gives for the whole of
them; a chat template that a program's texts cannot be written in is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.models.automaton import stop_automaton
from sdscm_jax.models.chat import Chat, ChatCodec
from sdscm_jax.models.codec import Codec
from sdscm_jax.models.options import option_tokens

from ..chats import NO_SYSTEM, SPECIAL, TEMPLATES, VARIABLES, codec, default, tokenizer, truth
from .test_checkpoint import write_model

SPLITS = ("llama3", "gpt2", "sentencepiece")
CHATS = {
    "default": Chat(),
    "nothing": Chat(user="{}", alone=""),
    "after": Chat(user="{}\n\nWhat next?"),
    "around": Chat(user="Go on. {} Who is it?"),
}
BLANKS = {
    "word": ("It is ", ("low", "high", "25"), " today."),
    "first": ("", ("Low", "high"), " it is."),
    "inside a word": ("She", (" goes", "is"), "."),
}
GIVEN = ((), ("It is low.",), ("25 years!", "It is low.", "She runs"))


def all_tokens(
    codec: ChatCodec, texts: tuple[str, ...], blank: tuple[str, tuple[str, ...], str]
) -> list[tuple[int, ...]]:
    """Per option, all tokens: by the methods that the sites use."""
    found = option_tokens(codec, *blank, with_suffix=True, first=not texts)
    pieces = [codec.encode_after(text) if i else codec.encode_first(text) for i, text in enumerate(texts)]
    shared = found.shared
    if texts and (joint := codec.joint(texts[-1:], len(texts) == 1)):
        assert shared[: len(joint.taken)] == joint.taken
        pieces[-1], shared = joint.texts[0], shared[len(joint.taken) :]
    return [(*codec.opening(not texts), *sum(pieces, ()), *shared, *row) for row in found.rows]


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("style", TEMPLATES)
def test_tokens_are_those_of_the_conversation(style: str, split: str, name: str) -> None:
    made = tokenizer(style, split)
    for system in (None,) if style in NO_SYSTEM else (None, "Be brief."):
        chat = replace(CHATS[name], system=system, variables=VARIABLES.get(style, {}))
        talking = ChatCodec(made, chat)
        for texts in GIVEN:
            for prefix, options, suffix in BLANKS.values():
                found = all_tokens(talking, texts, (prefix, options, suffix))
                assert found == [truth(made, chat, texts, prefix + option + suffix) for option in options]


def test_last_texts_that_reach_into_what_follows() -> None:
    """Llama 3 has tokens of a full stop and line ends: without them the test above would say nothing of such."""
    talking = codec("chatml", "llama3", CHATS["after"])
    joint = talking.joint(("It is low.", "She runs"), True)
    assert joint is not None
    assert talking.decode(joint.texts[0]) == "It is low.\n\n"
    assert talking.decode(joint.texts[0][-1:]) == ".\n\n"
    assert talking.decode(joint.texts[1]) == "She runs\n\n"
    assert talking.decode(joint.taken) == "\n\n"
    assert codec("chatml", "gpt2", CHATS["around"]).joint(("It is low.", "She runs"), True) is None
    assert codec("chatml", "llama3").joint(("It is low.", "She runs"), True) is None


@pytest.mark.parametrize("style", TEMPLATES)
def test_free_text_is_asked_for_as_the_template_does(style: str) -> None:
    """Up to the generation prompt, and there the tokens of an answer follow."""
    made, chat = tokenizer(style), default(style)
    talking = ChatCodec(made, chat)
    for texts in ((), ("It is low.",)):
        before = talking.encode_first(texts[0]) if texts else ()
        asked = (*talking.opening(not texts), *before, *talking.before_generated("", not texts))
        assert asked == truth(made, chat, texts, None)
        answer = talking.lead(not texts) + "It is low."
        ids = truth(made, chat, texts, "It is low.")[len(asked) :]
        assert talking.decode(ids) == answer
        assert talking.generated("", answer) == ids


def test_an_answer_ends_as_the_template_ends_it() -> None:
    """Also where that is not the tokenizer's end-of-text token."""
    ends = {
        "gemma": "<end_of_turn>",
        "llama3": "<|eot_id|>",
        "chatml": "<|im_end|>",
        "llama2": "</s>",
        "zephyr": "</s>",
    }
    for style, name in ends.items():
        talking = codec(style)
        assert talking.end == tokenizer(style).convert_tokens_to_ids(name)
        automaton = stop_automaton(talking, len(tokenizer(style)), ())
        assert automaton.ending[automaton.walk(jnp.array([*talking.encode("low"), talking.end]))[-1]] > 0


def test_bos_once() -> None:
    bos = tokenizer("llama3").bos_token_id
    for style in ("llama3", "llama2", "mistral", "gemma"):
        for found in all_tokens(codec(style), ("It is low.", "She runs."), BLANKS["word"]):
            assert found[0] == bos
            assert found.count(bos) == 1


def test_transcript() -> None:
    talking = codec("llama3", chat=Chat(system="Be brief.", user="{} Go on.", alone="Begin."))
    expected = (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>"
        "\n\nIt is low. Go on.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nShe is"
    )
    assert talking.transcript("It is low.", "She is") == expected
    assert talking.transcript("", "She is") == expected.replace("It is low. Go on.", "Begin.")


# -- what is refused ----------------------------------------------------------------------------


def load_error(template: str | None, chat: Chat | None = None) -> str:
    made = tokenizer("")
    made.chat_template = template
    try:
        with pytest.raises(sd.LoadError) as caught:
            ChatCodec(made, Chat() if chat is None else chat)
    finally:
        made.chat_template = None
    return str(caught.value)


EACH = "{% for message in messages %}<|im_start|>{{ message.role }}\n%s<|im_end|>\n{% endfor %}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
PLAIN = EACH.replace("%s", "{{ message.content }}")


def test_no_chat_template() -> None:
    assert "has no chat template" in load_error(None)


@pytest.mark.parametrize("style", NO_SYSTEM)
def test_no_system_role(style: str) -> None:
    said = load_error(TEMPLATES[style], Chat(system="Be brief."))
    assert "['system', 'user', 'assistant']" in said
    assert "roles" in said or "System role not supported" in said
    assert "put the system text into Chat(user=" in said


@pytest.mark.parametrize(
    ("template", "chat", "expected"),
    [
        ("{% for m in messages if m.role != 'system' %}" + PLAIN.split("%}", 1)[1].replace("message", "m") + ASK,
         Chat(system="Be brief."), "leaves out the system text"),
        (EACH.replace("%s", "{{ message.content | upper }}") + ASK, Chat(), "does not write what the user says once"),
        (EACH.replace("%s", "{{ message.content }} {{ message.content }}") + ASK, Chat(), "says once"),
        ("{% for message in messages | reverse %}" + PLAIN.split("%}", 1)[1] + ASK, Chat(), "and after it once"),
        ("{% for message in messages if message.role == 'user' %}" + PLAIN.split("%}", 1)[1] + ASK, Chat(), "once"),
        (EACH.replace("%s", "{{ message.content | replace('25', 'a number') }}") + ASK, Chat(), "changes what is said"),
        (PLAIN + ASK[:-11] + "<think>\n{% endif %}", Chat(), "asks for an answer with"),
        ("{{ strftime_now('%d %b %Y') }}" + PLAIN + ASK, Chat(), "writes today's date"),
        (PLAIN + ASK, Chat(system="Say <|im_end|>"), "special token"),
        (PLAIN + ASK, Chat(user="{}ylem is it"), "does not split between a given text and 'ylem is it"),
    ],
)  # fmt: skip
def test_refused_templates(template: str, chat: Chat, expected: str) -> None:
    assert expected in load_error(template, chat)


def test_a_date_that_is_said() -> None:
    made = tokenizer("")
    made.chat_template = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}Today: "
        "{{ date_string }}\n" + PLAIN + ASK
    )
    talking = ChatCodec(made, Chat(variables={"date_string": "26 Jul 2024"}))
    made.chat_template = None
    assert talking.transcript("", "").startswith("Today: 26 Jul 2024\n")


def test_a_blank_in_the_user_text() -> None:
    with pytest.raises(sd.TemplateError, match=re.escape("got 'Go on.'")):
        Chat(user="Go on.")


def test_white_space_that_is_taken_away() -> None:
    """Llama 3 trims what is said; ChatML does not."""
    for style, trims in (("llama3", True), ("chatml", False)):
        talking = codec(style, chat=CHATS["nothing"])
        for given, own in ((" It is low.", "It is"), ("It is low. ", "It is"), ("It is low.", " It"), ("a", "It is ")):
            if trims:
                with pytest.raises(sd.TemplateError, match=re.escape(f"not write {given!r} and {own!r} as they stand")):
                    talking.check(((given,),), (own,))
            else:
                talking.check(((given,),), (own,))
    # Inside the user's words nothing is trimmed.
    talking = codec("llama3", chat=CHATS["around"])
    made, chat = tokenizer("llama3"), CHATS["around"]
    assert all_tokens(talking, (" It is low. ",), BLANKS["word"])[0] == truth(
        made, chat, (" It is low. ",), "It is low today."
    )


@pytest.mark.parametrize("name", [SPECIAL[1], "<|eot_id|>"])
def test_no_text_can_end_a_turn(name: str) -> None:
    talking = codec("llama3")
    for step in (talking.encode_first, talking.encode_after, lambda text: talking.encode_own(text, True)):
        with pytest.raises(sd.TemplateError, match="is a special token"):
            step(f"It is low.{name}")


# -- the language model -------------------------------------------------------------------------


def test_chat_is_a_part_of_the_codec() -> None:
    """Static to JAX, and in the fingerprint: settings, and the template."""
    made = tokenizer("chatml")
    a, b = ChatCodec(made, Chat()), ChatCodec(made, Chat())
    assert a == b
    assert hash(a) == hash(b)
    different = [
        a,
        ChatCodec(made, Chat(system="Be brief.")),
        ChatCodec(made, Chat(user="{}")),
        ChatCodec(made, Chat(alone="Begin.")),
        ChatCodec(made, Chat(user="{}", variables={"message": 1})),
        ChatCodec(tokenizer("qwen3"), default("qwen3")),
        Codec(made),
    ]
    assert len({c.fingerprint for c in different}) == len(different)


def test_loading(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    write_model(tmp_path, tokenizer("llama3"))
    plain, chat = sd.load_lm(tmp_path), Chat(system="Be brief.")
    assert plain.chat is None
    talking, again = sd.load_lm(tmp_path, chat=chat), sd.load_lm(tmp_path, chat=chat)
    assert talking.chat == chat
    assert sd.load_lm(tmp_path, chat=True).chat == Chat()
    assert talking.fingerprint() == again.fingerprint() != plain.fingerprint()
    assert jax.tree.structure(talking) == jax.tree.structure(again) != jax.tree.structure(plain)
    assert jax.tree.map(lambda x: x, talking).chat == chat
    # A tokenizer without a template.
    write_model(tmp_path / "bare", tiny_tokenizer)
    with pytest.raises(sd.LoadError, match="bare: this tokenizer has no chat template"):
        sd.load_lm(tmp_path / "bare", chat=True)
    assert sd.load_lm(tmp_path / "bare").dtype == jnp.float32
