"""Instruct models: what is said to them, and the tokens of it. ``docs/chat.md`` is the prose of this module.

What a site is given stands in the user's turn; its own text is the beginning of the assistant's answer. The
chat template of the tokenizer writes the rest, and the tokens are those of the whole conversation at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

from .. import checks
from ..errors import LoadError, TemplateError
from .chat_template import ConversationWriter, combinations
from .codec import Codec, Tokens, common_prefix

# Stand for what the user and the assistant say: no template gives them a meaning, or takes a part of them away.
_SAID, _ANSWER = "Qsaidq", "Qanswerq"
# A thought that is begun where an answer is asked for; and one of nothing, before an answer.
_OPENED, _EMPTY = re.compile(r"\s*<(\w+)>\s*"), re.compile(r"<(\w+)>(\n?)(\s*</\1>\s*)")
# A text that goes on with any of these shows which of its tokens stay.
_PROBES = ("The", "a", "25", "(", '"', "é", "한")


@dataclass(frozen=True)
class Chat:
    """What is said to an instruct model around the texts of a program.

    Attributes:
        user: the user's words, with a blank ``{}`` for what a site is given.
        alone: the user's words to a site that is given nothing.
        system: the system text; None: what the chat template says by itself.
        variables: that the chat template reads besides, such as ``{"enable_thinking": False}``: JSON values.
        today: the day that a chat template which writes the date is told, such as ``"2024-07-26"``.
        thought: what a model that thinks before it answers is taken to have thought, ``""``: nothing. None: the chat
            template asks for no thought.

    Raises:
        TemplateError: the user's words have no blank, or several; a variable is no JSON value; the day is none.

    >>> Chat(system="You know oncology.").user.endswith("{}")
    True
    """

    user: str = "Continue this text with its next sentence, and nothing else.\n\n{}"
    alone: str = "Write the first sentence of a text, and nothing else."
    system: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    today: str | None = None
    thought: str | None = None

    def __post_init__(self) -> None:
        said_of = {name: getattr(self, name) for name in ("user", "alone", "system", "thought")}
        for what, said in said_of.items():
            if what in ("user", "alone") or said is not None:
                checks.text(said, f"Chat({what}=...)", TemplateError, empty=True)
        if not isinstance(self.today, str | None):
            raise TemplateError(f"Chat(today=...) is a day such as '2024-07-26', got {checks.told(self.today)}")
        checks.mapping(self.variables, "Chat(variables=...)", TemplateError)
        if self.user.count("{}") != 1:
            raise TemplateError(f"Chat(user=...) has one blank {{}} for the given texts, got {checks.told(self.user)}")
        # A copy: what they say later is not what the model was loaded with.
        object.__setattr__(self, "variables", {name: _plain(name, value) for name, value in self.variables.items()})
        try:
            date.fromisoformat("2024-07-26" if self.today is None else self.today)
        except (TypeError, ValueError) as error:
            raise TemplateError(
                f"Chat(today=...) is a day such as '2024-07-26', got {checks.told(self.today)}"
            ) from error


@dataclass(frozen=True)
class _Conversation:
    """A conversation up to the assistant's own words, of which the site's text is the rest.

    Attributes:
        text: all of it, with ``x`` for the given texts.
        asked: the same up to where the template asks for an answer; white space at most is missing.
        end: what stands after an answer.
        kept: tokens that stay whatever follows, and that the site's own tokens are counted from.
        shown: ``text`` as the template writes it once there is an answer: without what was thought, say.
    """

    text: str
    asked: str
    end: str
    kept: Tokens
    shown: str

    @property
    def lead(self) -> str:
        """White space that an answer begins with."""
        return self.text[len(self.asked) :]


class Joint(NamedTuple):
    """A last given text whose tokens reach into what the template writes after it.

    Attributes:
        texts: per text, its tokens with what they reach into.
        taken: tokens of what stands after it that are among those, and no longer apart.
    """

    texts: tuple[Tokens, ...]
    taken: Tokens


class ChatCodec(Codec):
    """A tokenizer whose texts are conversations; see ``Codec``.

    Args:
        tokenizer: the ``transformers`` tokenizer, with its chat template.
        chat: what is said.
        size, listed: as ``size`` and ``ends`` of ``Codec``.

    Raises:
        LoadError: there is no chat template; it refuses the conversation, or has no room for a text before
            which, and after which, it is always the same.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> tokenizer = load_lm().tokenizer
    >>> tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% endfor %}"
    >>> print(ChatCodec(tokenizer, Chat(user="{} Go on.", alone="Begin.")).transcript("It is low.", "She is"))
    user: It is low. Go on.
    assistant: She is
    """

    def __init__(self, tokenizer: Any, chat: Chat, size: int | None = None, listed: Sequence[int] = ()):
        super().__init__(tokenizer, size, listed)
        self.chat = chat
        self._writer = ConversationWriter(tokenizer, chat.system, chat.variables, chat.today)
        self._special = tuple(t.content for t in tokenizer.added_tokens_decoder.values() if t.special)
        for text in (chat.system or "", chat.user, chat.alone, chat.thought or ""):
            self._refuse_special(text, LoadError)
        before, after = chat.user.split("{}")
        self._said, self._closing, end = self._parts(before, after)
        # An answer ends as the template ends one (Gemma's end-of-text token is another).
        ends = [name for name in self._special if end.strip().startswith(name)]
        self.end = tokenizer.convert_tokens_to_ids(max(ends, key=len)) if ends else self.end
        for said in (before + _SAID + after, chat.alone):
            self._writer.refuse_clock(said, _ANSWER)
        told = {name: value for name, value in asdict(chat).items() if name != "thought" or value is not None}
        settings = json.dumps(told, sort_keys=True)
        content = f"{self.fingerprint} {self._writer.template} {settings} {self._said} {self._closing}"
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()
        self._opening = self._steady(self._said)
        self._given = self._conversation(before + _SAID + after, self.parse(self._said + "x"))
        self._alone = self._conversation(chat.alone, None)
        # Tags of a thought that is closed where an answer begins.
        self._thoughts = set(re.findall(r"</(\w+)>\s*$", self._given.text))
        # Behind what the template writes there stands what was thought.
        self._shown, self._closing = self._closing, self._given.text[len(self._said) + 1 :]
        if self.parse(self._given.text)[: len(self._given.kept)] != self._given.kept:
            raise LoadError(
                f"this tokenizer does not split between a given text and {self._closing[:20]!r} after it; begin what "
                "stands after the blank of Chat(user=...) with a space"
            )

    # -- the text of a conversation ---------------------------------------------------------------

    def transcript(self, given: str, text: str) -> str:
        """All that the language model reads: special tokens by their names.

        Args:
            given: the given texts, joined; empty: the site is given nothing.
            text: the site's own text.
        """
        self.check(((given,),) if given else (), (text,))
        return self._whole(given, text)

    def _whole(self, given: str, text: str) -> str:
        return self._said + given + self._closing + text if given else self._alone.text + text

    def check(self, given: tuple[tuple[str, ...], ...], own: tuple[str, ...]) -> None:
        """Refuse texts that the chat template does not write as they stand.

        Templates look into what is said: they strip it, cut a thought off, or move it. So each text is written by
        the template, and compared.

        Args:
            given: for each given text, what it may be.
            own: what the site's own text may be.

        Raises:
            TemplateError: names the texts, and says what the template writes.
        """
        _check(self, given, own)

    def _check(self, given: tuple[tuple[str, ...], ...], own: tuple[str, ...]) -> None:
        self.refuse_thought(own)
        for *texts, answer in combinations((*given, own)):
            told = " ".join(texts)
            named = f"{told!r} and {answer!r}" if texts else repr(answer)
            before = self._said + told + self._shown if texts else self._alone.shown
            ours = before + answer + (self._given if texts else self._alone).end
            try:
                written = self._writer.write(self.chat.user.replace("{}", told) if texts else self.chat.alone, answer)
            except LoadError as error:
                raise TemplateError(f"{named}: {error}") from error
            if written != ours:
                at = common_prefix(*(tuple(map(ord, text)) for text in (written, ours)))
                there, here = (repr(text[max(0, at - 10) : at + 30]) for text in (written, ours))
                raise TemplateError(
                    f"the chat template does not write {named} as they stand: where there should be …{here}… it has "
                    f"…{there}…; word them so that it leaves them alone"
                )

    def _parts(self, before: str, after: str) -> tuple[str, str, str]:
        """The text before what the user is given to say, from there to the assistant's words, and after them."""
        text = self._writer.write(before + _SAID + after, _ANSWER)
        pieces = re.split(f"{_SAID}|{_ANSWER}", text)
        if len(pieces) != 3 or text.find(_SAID) > text.find(_ANSWER):
            raise LoadError(
                "the chat template does not write what the user says once, and after it once what the assistant says; "
                f"it wrote {text!r}"
            )
        said, closing, end = pieces
        for given, answer in (("It is low. A b.", "She is 25."), ("25", "x\n\ny")):
            if self._writer.write(before + given + after, answer) != said + given + closing + answer + end:
                raise LoadError("the chat template changes what is said, and not only what stands around it")
        return said, closing, end

    def _conversation(self, said: str, kept: Tokens | None) -> _Conversation:
        shown, _, end = self._writer.write(said, _ANSWER).partition(_ANSWER)
        asked = self._writer.write(said)
        text, more = shown, shown[len(asked) :].strip() if shown.startswith(asked) else "another text"
        if self.chat.thought is not None:
            asked = text = self._after_thought(asked, shown, self.chat.thought)
        elif more and asked == self._writer.write(said, ask=False):
            # It knows no way to ask.
            asked = text
        elif more:
            there, here = (repr(x[-40:].replace(_SAID, "…")) for x in (asked, text))
            raise LoadError(
                f"the chat template asks for an answer with {there}, and writes an answer after {here}: what it asks "
                "for is no plain answer, but a thought, say. Where the template has a switch for that, set it, as in "
                "Chat(variables={'enable_thinking': False}); or say what was thought: Chat(thought='') is nothing"
            )
        shown, text, asked = (x.replace(_SAID, "x") for x in (shown, text, asked))
        return _Conversation(text, asked, end, self._steady(text) if kept is None else kept, shown)

    def _after_thought(self, asked: str, shown: str, thought: str) -> str:
        """The conversation up to an answer, with a thought before it.

        Args:
            asked: as the template asks for an answer.
            shown: what it writes before an answer that is there.
            thought: what was thought.
        """
        same = common_prefix(tuple(map(ord, asked)), tuple(map(ord, shown)))
        left, bridge = asked[same:], shown[same:]
        opened, empty = _OPENED.fullmatch(left), _EMPTY.search(bridge)
        if opened is not None and not bridge.strip():
            # It opens a thought, and shows none of an answer that is there.
            begun, closed = asked, f"\n</{opened[1]}>\n\n"
        elif not left.strip() and empty is not None:
            begun, closed = shown[: same + empty.end(2)], bridge[empty.start(3) :]
        elif not left.strip() and bridge.strip() and not thought:
            # It says in other words that an answer comes, such as the name of a channel.
            return shown
        else:
            there, here = (repr(x[-40:].replace(_SAID, "…")) for x in (asked, shown))
            raise LoadError(
                f"Chat(thought={checks.told(thought)}): the chat template asks for an answer with {there}, and writes "
                f"one after {here}, so there is no place for a thought; leave it out"
            )
        tag = closed.strip().split(">")[0] + ">"
        if tag in thought:
            raise LoadError(f"Chat(thought={checks.told(thought)}) ends where it has {tag!r}, which ends a thought")
        return begun + thought + closed

    def refuse_thought(self, texts: Sequence[str]) -> None:
        """Refuse the tags of a thought in an answer, which stands behind a closed one.

        Raises:
            TemplateError: names the text and the tag, and says where a reasoning can stand.
        """
        for text, tag in (
            (text, tag) for text in texts for name in self._thoughts for tag in (f"<{name}>", f"</{name}>")
        ):
            if tag in text:
                raise TemplateError(
                    f"{text!r} has {tag!r} in it, but an answer stands behind a thought that is closed already, and "
                    "what a model writes within its thought is no site. Write the reasoning as a Text in plain words, "
                    "without the tags, and give it to the next site; or say a fixed thought: Chat(thought=...)"
                )

    def _refuse_special(self, text: str, error: type[Exception] = TemplateError) -> None:
        for name in self._special:
            if name in text:
                raise error(f"{text!r} contains {name!r}, which is a special token of this tokenizer")

    # -- its tokens -------------------------------------------------------------------------------

    def parse(self, text: str) -> Tokens:
        """Token ids of a conversation: the names of special tokens are those tokens."""
        return _parse(self, text)

    def _steady(self, text: str) -> Tokens:
        whole = self.parse(text)
        return whole[: min(common_prefix(whole, self.parse(text + probe)) for probe in _PROBES)]

    def _after(self, before: str, kept: Tokens, text: str) -> Tokens:
        """Ids that follow ``kept`` in the tokens of ``before`` and ``text``."""
        whole = self.parse(before + text)
        if whole[: len(kept)] != kept:
            raise TemplateError(f"{text!r} runs together with {before[-20:]!r}, which stands before it in the chat")
        return whole[len(kept) :]

    def opening(self, first: bool) -> Tokens:
        return self._alone.kept if first else self._opening

    def encode_first(self, text: str) -> Tokens:
        self._refuse_special(text)
        return self._after(self._said, self._opening, text)

    def encode_after(self, text: str) -> Tokens:
        self._refuse_special(text)
        return super().encode_after(text)

    def encode_own(self, text: str, first: bool) -> Tokens:
        self._refuse_special(text)
        conversation = self._alone if first else self._given
        return self._after(conversation.text, conversation.kept, text)

    def lead(self, first: bool) -> str:
        return (self._alone if first else self._given).lead

    def before_generated(self, head: str, first: bool) -> Tokens:
        """Ids after ``opening`` and the given texts, up to where the language model writes.

        Args:
            head: what the site's own text begins with, without white space at its end; or nothing.
            first: True where the site is given nothing.
        """
        conversation = self._alone if first else self._given
        return self.encode_own(head, first) if head else self._after(conversation.asked, conversation.kept, "")

    def generated(self, head: str, text: str) -> Tokens | None:
        """Ids that ``text`` adds to ``head`` in an answer; None if the boundary does not fall between tokens."""
        self._refuse_special(text)
        before = self._alone.text + head if head else self._alone.asked
        kept, whole = self.parse(before), self.parse(before + text)
        return whole[len(kept) :] if whole[: len(kept)] == kept else None

    def joint(self, texts: tuple[str, ...], first: bool) -> Joint | None:
        """The last given text where it does not end between tokens; None where it does.

        Args:
            texts: what it may be.
            first: True where it is the only one.
        """
        return _joint(self, texts, first)

    def _joint(self, texts: tuple[str, ...], first: bool) -> Joint | None:
        before, kept = (self._said, self._opening) if first else (self._said + "x ", self._given.kept)
        closing = self._after(self._given.text, self._given.kept, "")
        wholes = []
        for text in texts:
            wholes.append(self._after(before, kept, text + self._closing))
        own = min(common_prefix(closing[::-1], whole[::-1]) for whole in wholes)
        tokens = tuple(whole[: len(whole) - own] for whole in wholes)
        plain = tuple(self.encode_first(text) if first else self.encode_after(text) for text in texts)
        return None if tokens == plain else Joint(tokens, closing[: len(closing) - own])


@lru_cache(maxsize=1 << 16)
def _parse(codec: ChatCodec, text: str) -> Tokens:
    return codec.read(text)


@lru_cache(maxsize=4096)
def _joint(codec: ChatCodec, texts: tuple[str, ...], first: bool) -> Joint | None:
    return codec._joint(texts, first)


@lru_cache(maxsize=4096)
def _check(codec: ChatCodec, given: tuple[tuple[str, ...], ...], own: tuple[str, ...]) -> None:
    codec._check(given, own)


def _plain(name: str, value: Any) -> Any:
    """A copy of a JSON value: what it says is the same in every process, and its spelling tells it from others."""
    try:
        copy = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        copy = None
    if copy != value or repr(copy) != repr(value):
        raise TemplateError(
            f"Chat(variables=...): variable {name!r} is {value!r}, which is no JSON value (text, number, true, false, "
            "null, list, or dict of names): it could be another one in another process"
        )
    return copy
