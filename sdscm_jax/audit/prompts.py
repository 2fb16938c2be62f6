"""The sentences of an audit, verbatim."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pandas as pd

from ..models.chat import ChatCodec
from ..models.language_model import LanguageModel
from .spec import AuditSpec
from .wordings import Wording

COLUMNS = ["proxy", "wording", "option_wording", "site", "before", "prefix", "suffix", "options"]

# Stand for a sentence and for those that it follows, where a whole conversation is shown.
# Stands for options, and for a text, where the language model writes.
WRITTEN = "what the model writes"
BEFORE, OWN = "[the sentences before]", "[the sentence]"


def chats_table(lms: Mapping[str, LanguageModel]) -> pd.DataFrame | None:
    """What stands around the sentences of language models that chat; see ``AuditResult.chats``."""
    rows = []
    for name, lm in lms.items():
        if not isinstance(lm.codec, ChatCodec):
            continue
        chat = lm.codec.chat
        said = {
            "system": chat.system,
            "user": chat.user,
            "user, to a sentence that follows none": chat.alone,
            "variables of the chat template": json.dumps(dict(chat.variables)) if chat.variables else None,
            "day that the chat template is told": chat.today,
            "thought before an answer": chat.thought,
            "all that is read": lm.codec.transcript(BEFORE, OWN),
            "all that is read, of a sentence that follows none": lm.codec.transcript("", OWN),
        }
        rows += [(name, what, words) for what, words in said.items() if words is not None]
    return pd.DataFrame(rows, columns=["lm", "what", "words"]) if rows else None


def asked_table(spec: AuditSpec, wordings: Sequence[Wording]) -> pd.DataFrame:
    """Every sentence that a language model is asked to complete; see ``AuditResult.asked``.

    The attribute's sentence is among them, although it is told and not asked. What stands before a sentence is
    shown for the first option of everything.
    """
    rows = []
    for w in wordings:
        family = spec.family(w.proxy, w.phrases, w.options)
        first: dict[str, str] = {}
        for variable, number in zip(family.variables, w.templates, strict=True):
            template = variable.templates[number]
            rows.append({
                "proxy": w.proxy.name, "wording": w.wording, "option_wording": w.option_wording,
                "site": variable.name, "before": " ".join(first[parent] for parent in variable.parents),
                "prefix": template.prefix, "suffix": template.suffix, "options": tuple(variable.options) or (WRITTEN,),
            })  # fmt: skip
            first[variable.name] = template.fill((*variable.options, f"[{WRITTEN}]")[0])
    return pd.DataFrame(rows, columns=COLUMNS)
