"""Chat templates that look at what is said, at the clock, or at a variable: every text is compared with what the
template itself writes, and a conversation that would be another one tomorrow, or in another process, is refused."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import pytest

import sdscm_jax as sd
from sdscm_jax.models.chat import Chat, ChatCodec
from sdscm_jax.models.chat_template import combinations

from ..chats import TEMPLATES, messages, tokenizer

ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'user' %}USER{% else %}ANSWER{% endif %}"
    "<|im_end|>\n{% endfor %}" + ASK
)


def turns(user: str = "{{ m.content }}", answer: str = "{{ m.content }}") -> str:
    return TURNS.replace("USER", user).replace("ANSWER", answer)


def codec(template: str, chat: Chat | None = None) -> ChatCodec:
    made = tokenizer("", "gpt2")
    made.chat_template = template
    try:
        return ChatCodec(made, Chat() if chat is None else chat)
    finally:
        made.chat_template = None


def rendered(template: str, chat: Chat, given: str, answer: str) -> str:
    made = tokenizer("", "gpt2")
    said = messages(chat, [given] if given else [], answer)
    return str(made.apply_chat_template(said, tokenize=False, chat_template=template, **chat.variables))


# What R1 does: an answer without its thought.
R1 = turns(
    answer="{% set c = m.content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}{{ c }}"
)
# What Qwen 3 does, with the switch that leaves the thought empty.
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% set thought = '' %}"
    "{% set c = m.content %}{% if '</think>' in c %}{% set thought = c.split('</think>')[0].rstrip('\n')"
    ".split('<think>')[-1].lstrip('\n') %}{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + c.lstrip('\n') }}{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}" + ASK.replace(
        "{% endif %}",
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    )
)  # fmt: skip
CUT = turns(answer="{{ m.content | truncate(30, true, '') }}")
LOOKS_AT_BOTH = (
    "{% set ns = namespace(tool=false) %}{% for m in messages %}{% if m.content.startswith('<tool>') and "
    "m.content.endswith('</tool>') %}{% set ns.tool = true %}{% endif %}{% endfor %}" + turns(
        answer="{% if ns.tool %}Used a tool. {% endif %}{{ m.content }}"
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("template", "chat", "given", "own"),
    [
        (R1, Chat(), ("It is low.",), "<think>\nLow.\n</think>\n\nYes"),
        (R1, Chat(), (), "a</think>b"),
        (QWEN3, Chat(variables={"enable_thinking": False}), ("It is low.",), "\nYes"),
        (turns(user="{{ m.content.strip('\n') }}"), Chat(user="{}"), ("\nIt is low.",), "Yes"),
        (turns(user="{{ m.content.strip('\n') }}"), Chat(user="{}"), ("It is low.", "So\n"), "Yes"),
        (turns(answer="{{ m.content.strip('\n') }}"), Chat(), (), "Yes\n"),
        (turns(answer="{{ m.content | replace('  ', ' ') }}"), Chat(), (), "Yes  no"),
        (CUT, Chat(), ("It is low.",), "It is higher than anybody thought it would be."),
        (LOOKS_AT_BOTH, Chat(user="{}"), ("<tool> It is low.", "It is high. </tool>"), "Yes"),
    ],
)
def test_a_text_that_the_template_writes_otherwise(template: str, chat: Chat, given: tuple[str, ...], own: str) -> None:
    """Each is another conversation than its texts put together; beside texts that are none, it is still found."""
    talking = codec(template, chat)
    whole = " ".join(given)
    plain = rendered(template, chat, "It is low." if given else "", "Yes")
    assert rendered(template, chat, whole, own) != (
        plain.replace("It is low.", whole).removesuffix("Yes<|im_end|>\n") + own + "<|im_end|>\n"
    )
    harmless = tuple(("It is low.", "She runs.") for _ in given)
    talking.check(harmless, ("No", "It is so."))
    for others in ((), ("25", "She is 25.", "x")):
        with pytest.raises(sd.TemplateError, match="does not write") as caught:
            talking.check(tuple((*others, text) for text in given), (*others, own))
        if not others:
            assert repr(own) in str(caught.value)
            assert not given or repr(whole) in str(caught.value)
    with pytest.raises(sd.TemplateError, match="does not write"):
        talking.transcript(whole, own)


@pytest.mark.parametrize("style", TEMPLATES)
def test_a_text_that_the_template_writes_as_it_stands(style: str) -> None:
    chat = Chat(variables={"enable_thinking": False} if style == "qwen3" else {})
    talking = ChatCodec(tokenizer(style), chat)
    texts = ("It is low.", "[INST] 25 \n\n années 한국", "</tool> <b>")
    talking.check((texts, texts), texts)
    talking.check((), texts)
    made = tokenizer(style)
    for given in ("", "It is low."):
        whole = made.apply_chat_template(
            messages(chat, [given] if given else [], "She runs"), tokenize=False, **chat.variables
        )
        assert whole.startswith(talking.transcript(given, "She runs"))


def test_a_template_that_refuses_a_text() -> None:
    refuses = "{% if 'high' in m.content %}{{ raise_exception('nothing is high') }}{% endif %}{{ m.content }}"
    talking = codec(turns(user=refuses), Chat(user="{}"))
    talking.check((("It is low.",),), ("It is high.",))
    with pytest.raises(sd.TemplateError, match=r"'It is high\.'.*nothing is high"):
        talking.check((("It is low.", "It is high."),), ("Yes",))


def test_combinations() -> None:
    """All of them where they are few; else every two texts of two places meet, or at least every text occurs."""
    few = [("a", "b"), ("c",), ("d", "e", "f")]
    assert len(set(combinations(few))) == 6
    many = [tuple(f"{i}.{k}" for k in range(2 + i % 4)) for i in range(12)]
    rows = list(combinations(many))
    assert len(rows) < math.prod(map(len, many)) / 100
    for i, one in enumerate(many):
        for j in range(i):
            assert {(row[j], row[i]) for row in rows} == {(a, b) for a in many[j] for b in one}
    wide = [tuple(map(str, range(700))), ("x", "y"), ("z", "w")]
    rows = list(combinations(wide))
    assert len(rows) < 2000
    assert all({row[i] for row in rows} == set(own) for i, own in enumerate(wide))
    assert len(list(combinations([tuple(map(str, range(5000)))]))) == 5000


# -- where an answer begins -----------------------------------------------------------------------


@pytest.mark.parametrize("variables", [{}, {"enable_thinking": True}])
def test_a_template_that_asks_for_a_thought(variables: dict[str, Any]) -> None:
    """It asks for an answer elsewhere than it writes one, so an option would not stand where free text does."""
    with pytest.raises(sd.LoadError, match=r"no plain answer.*enable_thinking': False"):
        codec(QWEN3, Chat(variables=variables))
    talking = codec(QWEN3, Chat(variables={"enable_thinking": False}))
    for given in (("It is low.",), ()):
        asked = talking.opening(not given)
        asked += talking.encode_first(given[0]) if given else ()
        asked += talking.before_generated("", not given)
        chat = talking.chat
        made = tokenizer("", "gpt2")
        expected = made.apply_chat_template(
            messages(chat, given), tokenize=False, chat_template=QWEN3, add_generation_prompt=True, **chat.variables
        )
        assert talking.decode(asked) == expected


# R1 and its like open a thought where they ask; gpt-oss names the channel of an answer.
THINKS = R1.replace(ASK, ASK.replace("{% endif %}", "<think>\n{% endif %}"))
CHANNELS = turns(answer="{{ '<|final|>' + m.content }}")


@pytest.mark.parametrize(
    ("template", "thought", "before"),
    [
        (THINKS, "", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (THINKS, "It is low, so", "<|im_start|>assistant\n<think>\nIt is low, so\n</think>\n\n"),
        (QWEN3, "", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (QWEN3, "Low.", "<|im_start|>assistant\n<think>\nLow.\n</think>\n\n"),
        (CHANNELS, "", "<|im_start|>assistant\n<|final|>"),
    ],
)
def test_a_model_that_thinks_before_it_answers(template: str, thought: str, before: str) -> None:
    """Its thought is told, and an answer stands behind it, be it an option or free text."""
    with pytest.raises(sd.LoadError, match=r"no plain answer.*Chat\(thought=''\)"):
        codec(template)
    talking = codec(template, Chat(thought=thought))
    assert codec(template, Chat(thought=thought)).fingerprint == talking.fingerprint
    for given in (("It is low.",), ()):
        asked = rendered_question(template, talking.chat, given).partition("<|im_start|>assistant\n")[0] + before
        whole = talking.transcript(" ".join(given), "Yes it is")
        assert whole == asked + "Yes it is"
        first = not given
        start = talking.opening(first) + (talking.encode_first(given[0]) if given else ())
        assert talking.decode(start + talking.before_generated("", first)) == asked
        assert talking.decode(start + talking.encode_own("Yes it is", first)) == whole
        assert talking.parse(whole) == start + talking.encode_own("Yes it is", first)


def rendered_question(template: str, chat: Chat, given: tuple[str, ...]) -> str:
    made = tokenizer("", "gpt2")
    said = messages(chat, list(given))
    return str(made.apply_chat_template(said, tokenize=False, chat_template=template, add_generation_prompt=True))


def test_a_thought_that_has_no_place() -> None:
    with pytest.raises(sd.LoadError, match="no place for a thought"):
        codec(turns(), Chat(thought=""))
    with pytest.raises(sd.LoadError, match="no place for a thought"):
        codec(CHANNELS, Chat(thought="Low."))
    with pytest.raises(sd.LoadError, match="ends a thought"):
        codec(THINKS, Chat(thought="Low.</think>"))
    with pytest.raises(sd.LoadError, match="special token"):
        codec(THINKS, Chat(thought="Low.<|im_end|>"))
    # What is no thought is not taken for one: the switch does the same.
    off = codec(QWEN3, Chat(variables={"enable_thinking": False}))
    assert off.transcript("It is low.", "Yes") == codec(QWEN3, Chat(thought="")).transcript("It is low.", "Yes")


def test_a_template_that_does_not_ask() -> None:
    """Without a generation prompt, an answer begins where the template writes one."""
    talking = codec(turns().removesuffix(ASK))
    assert talking.decode(talking.opening(True) + talking.before_generated("", True)).endswith(
        "<|im_start|>assistant\n"
    )


# -- the clock ------------------------------------------------------------------------------------

DATES = {
    "before": "{{ strftime_now('%d %b %Y') }}\n" + turns(),
    "by a variable": "{% set f = '%Y-%m-%d' %}{{ strftime_now(f) }}\n" + turns(),
    "after the user's words": turns(user="{{ m.content }} ({{ strftime_now('%Y-%m-%d') }})"),
    "in the system's words": (
        "{% set today = strftime_now('%A, %d %B %Y') %}<|im_start|>system\nToday: {{ today }}<|im_end|>\n" + turns()
    ),
    "as a number": "{% if strftime_now('%m') | int > 6 %}Second half.{% endif %}" + turns(),
    "in a macro": "{% macro day() %}{{ strftime_now('%j') }}{% endmacro %}\n  {{ day() }}\n" + turns(),
}


@pytest.mark.parametrize("name", DATES)
def test_a_template_that_writes_the_date(name: str) -> None:
    """It is refused, whatever the day is; a day that it is told is the one that it writes."""
    with pytest.raises(sd.LoadError, match=r"another one tomorrow.*Chat\(today='2024-07-26'\)"):
        codec(DATES[name])
    talking, other = (codec(DATES[name], Chat(today=day)) for day in ("2024-07-26", "2001-02-03"))
    assert talking.fingerprint != other.fingerprint
    said = talking.transcript("It is low.", "Yes")
    assert said == codec(DATES[name], Chat(today="2024-07-26")).transcript("It is low.", "Yes")
    written = {
        "before": "26 Jul 2024\n", "by a variable": "2024-07-26\n",
        "after the user's words": "It is low. (2024-07-26)<",
        "in the system's words": "Today: Friday, 26 July 2024<", "as a number": "Second half.",
        "in a macro": "  208\n",
    }  # fmt: skip
    assert written[name] in said


def test_a_template_that_could_write_the_date() -> None:
    """It may ask for the date, if what it writes does not depend on it; a date that is said by hand is none."""
    told = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}Today: "
        "{{ date_string }}\n" + turns()
    )
    with pytest.raises(sd.LoadError, match="another one tomorrow"):
        codec(told)
    day = datetime.now().strftime("%d %b %Y")
    for date in (day, "26 Jul 2024"):
        chat = Chat(variables={"date_string": date})
        talking = codec(told, chat)
        assert (
            talking.transcript("It is low.", "Yes") == rendered(told, chat, "It is low.", "Yes")[: -len("<|im_end|>\n")]
        )
    # What stands after an answer is not read.
    after = turns(answer="{{ m.content }}{% if not loop.last %} ({{ strftime_now('%H:%M') }}){% endif %}")
    after += "{% if not add_generation_prompt %}{{ strftime_now('%H:%M') }}{% endif %}"
    assert codec(after).transcript("It is low.", "Yes").endswith("<|im_start|>assistant\nYes")
    unused = "{% set today = strftime_now('%d %b %Y') %}" + turns()
    codec(unused, Chat(user=f"It is the {day}. {{}}"))
    # The first lines are as they are without our clock.
    for lines in ("\n\n", "  {% if true %}\n  x{% endif %}", "{# a note #}\n"):
        template = lines + unused
        assert codec(template).transcript("a", "b") == rendered(template, Chat(), "a", "b")[: -len("<|im_end|>\n")]


def test_a_day_that_is_none() -> None:
    with pytest.raises(sd.TemplateError, match=r"today=.*'26 Jul 2024'"):
        Chat(today="26 Jul 2024")


# -- variables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [lambda x: 1, object(), {1, 2}, (1, 2), b"x", {"a": len}, math.nan, {1: "a"}])
def test_a_variable_whose_content_cannot_be_told(value: Any) -> None:
    """Its fingerprint would be another one at each load, or that of another value."""
    with pytest.raises(sd.TemplateError, match="variable 'style'"):
        Chat(variables={"style": value})


def test_a_variable_that_changes_later() -> None:
    style = {"names": ["plain"]}
    chat = Chat(variables={"style": style})
    style["names"].append("short")
    assert chat.variables == {"style": {"names": ["plain"]}}


def test_a_variable_that_no_template_reads() -> None:
    with pytest.raises(sd.LoadError, match=r"reads no variable 'enable_thinkin'.*did you mean 'enable_thinking'"):
        codec(QWEN3, Chat(variables={"enable_thinkin": False}))
