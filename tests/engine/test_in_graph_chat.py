"""What a chat template writes around the texts of a site is counted where memory and positions are."""

from __future__ import annotations

from dataclasses import replace

import pytest

import sdscm_jax as sd
import sdscm_jax.audit as sa
from sdscm_jax.audit.fits_model import check_context
from sdscm_jax.engine.forward import token_bytes
from sdscm_jax.engine.in_graph import rows_in_memory
from sdscm_jax.errors import AuditError
from sdscm_jax.models.chat import ChatCodec
from sdscm_jax.models.families import tiny_config

from ..chats import codec

STYLES = ("chatml", "llama3", "mistral", "vicuna")
TEXTS = ("It is low.", "The weather outside is sunny.")


def talking(style: str, positions: int = 4096) -> tuple[sd.LanguageModel, ChatCodec]:
    own = codec(style)
    lm = sd.random_lm(tiny_config("llama", len(own.tokenizer), max_positions=positions), own.tokenizer)
    return replace(lm, codec=own), own


def plain(style: str, positions: int = 4096) -> sd.LanguageModel:
    own = codec(style)
    return sd.random_lm(tiny_config("llama", len(own.tokenizer), max_positions=positions), own.tokenizer)


def program(lm: sd.LanguageModel) -> None:
    weather = sd.sample("weather", sd.Choice(lm, "The weather outside is {}.", ["sunny", "low"]))
    sd.sample("level", sd.Choice(lm, "It is {}.", ["low", "high"], given=[weather]))


@pytest.mark.parametrize("style", STYLES)
def test_tokens_of_a_conversation(style: str) -> None:
    """As many as its texts have, and those around them; a text takes a token of the template at most."""
    lm, own = talking(style)
    for given, text in (TEXTS, TEXTS[::-1]):
        whole = len(own.parse(own.transcript(given, text)))
        counted = lm.around + len(own.encode_first(given)) + len(own.encode_after(text))
        assert whole <= counted <= whole + 4
    assert lm.around > plain(style).around


@pytest.mark.parametrize("style", STYLES)
def test_rows_in_memory(style: str) -> None:
    """The keys and values of the conversations of all rows fit."""
    lm, own = talking(style)
    sites = sd.graph(program, lm).sites
    conversations = ("", TEXTS[1]), (TEXTS[1], TEXTS[0])
    tokens = sum(len(own.parse(own.transcript(*said))) for said in conversations)
    memory = 200 * token_bytes(lm) * tokens
    rows = rows_in_memory(sites, 1, (), [lm], memory)
    assert 1 < rows * token_bytes(lm) * tokens <= memory
    assert rows_in_memory(sites, 1, (), [lm], memory) <= rows_in_memory(sites, 1, (), [plain(style)], memory)


@pytest.mark.slow
def test_an_audit_that_fits_without_a_chat() -> None:
    spec = replace(sa.audit_spec("hiring"), text=None)

    def fits(lm: sd.LanguageModel) -> bool:
        try:
            check_context(spec, "tiny", lm)
        except AuditError:
            return False
        return True

    least = next(n for n in range(8, 2000, 8) if fits(plain("chatml", n)))
    around = talking("chatml")[0].around
    assert not fits(talking("chatml", least)[0])
    assert not fits(talking("chatml", least + around - 16)[0])
    assert fits(talking("chatml", least + around)[0])
