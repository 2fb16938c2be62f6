"""An audit of language models that chat: the conversation is a part of what is asked, and stands in every report."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import sdscm_jax as sd
import sdscm_jax.audit as sa
from sdscm_jax.testing import mock_lm

CHAT = sd.Chat(system="You are <strict> *and* fair.", user="Go on after this:\n{}  Briefly.", alone="Begin, | please.")
SPEC = sa.AuditSpec.from_dict(
    {
        "name": "level",
        "title": "A level",
        "question": "Does the level matter?",
        "attribute": {
            "name": "level",
            "levels": ["low", "high"],
            "proxies": {"word": {"templates": ["It is {}.", "So {}."], "phrases": {"low": ["low"], "high": ["high"]}}},
        },
        "variables": [{"name": "drug", "options": ["a", "b"], "templates": ["We {}."], "parents": ["level"]}],
        "outcome": {"name": "drug", "option": "b"},
        "scorings": ["mean"],
    }
)


def written(result: sa.AuditResult, where: Path) -> dict[str, str]:
    """The report's text, as it is read: HTML and Markdown."""
    sa.write_audit(where, result)
    page = html.unescape(re.sub("<[^>]+>", "", (where / "report.html").read_text(encoding="utf-8")))
    return {"html": page, "md": (where / "report.md").read_text(encoding="utf-8")}


@pytest.fixture(scope="module")
def result() -> sa.AuditResult:
    return sa.audit(SPEC, {"plain": mock_lm(), "talking": mock_lm(chat=CHAT)}, wordings=2, pairs=0)


def test_what_is_said_stands_in_every_file(result: sa.AuditResult, tmp_path: Path) -> None:
    found = written(result, tmp_path)
    table = pd.read_csv(tmp_path / "chats.csv")
    assert set(table["lm"]) == {"talking"}
    words = table.set_index("what")["words"]
    assert words["system"] == CHAT.system
    assert words["user"] == CHAT.user
    assert words["user, to a sentence that follows none"] == CHAT.alone
    whole = "system: You are <strict> *and* fair.\nuser: Go on after this:\n{}  Briefly.\nassistant: "
    assert words["all that is read"] == whole.replace("{}", "[the sentences before]") + "[the sentence]"
    alone = "system: You are <strict> *and* fair.\nuser: Begin, | please.\nassistant: [the sentence]"
    assert words["all that is read, of a sentence that follows none"] == alone
    for text in words:
        assert text in found["html"]
        assert "`" + text.replace("\n", "↵") + "`" in found["md"]


def test_the_report_says_who_chats(result: sa.AuditResult, tmp_path: Path) -> None:
    for text in written(result, tmp_path / "mixed").values():
        assert "does not chat" not in text
        assert "talking was asked in a conversation" in text
        assert "The others read the sentences as they stand." in text
        assert "In a conversation: talking." in text
        assert "with other instructions, filters or another chat format" in text
    one = sa.audit(SPEC, {"talking": mock_lm(chat=CHAT)}, wordings=2, pairs=0)
    for text in written(one, tmp_path / "one").values():
        assert "The language model was asked in a conversation" in text
        assert "The others" not in text


def test_models_that_do_not_chat(result: sa.AuditResult, tmp_path: Path) -> None:
    plain = replace(result, chats=None)
    for text in written(plain, tmp_path).values():
        assert "The audit does not chat with a language model." in text
        assert "conversation" not in text
    assert not (tmp_path / "chats.csv").exists()


def test_the_words_are_a_part_of_what_is_audited(result: sa.AuditResult) -> None:
    """Another wording of the user is another language model: its cells are its own."""
    other = sa.audit(SPEC, {"talking": mock_lm(chat=replace(CHAT, system="You are lax."))}, wordings=2, pairs=0)
    one, two = (x.lms.set_index("lm")["fingerprint"]["talking"] for x in (result, other))
    assert one != two
