"""What a later site reads of free text is what ``sentence`` and tables say of it."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import sdscm_jax as sd

TEMPLATES: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    ("The tumor {}.", (), {}),
    ("The tumor {}.", (), {"stop": ["the", " a"]}),
    ("{}", ("The tumor exhibits high levels of PD-L1.",), {"stop": "."}),
    ("The grade:{}!", ("She is 55 years old.",), {}),
    ("{} end", (), {"top_p": 0.9}),
)


@pytest.mark.slow
@pytest.mark.parametrize(("template", "given", "options"), TEMPLATES)
def test_a_text_says_what_is_read(template: str, given: tuple[str, ...], options: dict[str, Any]) -> None:
    lm = sd.load_lm()
    # Warm, so that tokens which go on a word would be drawn.
    text = sd.Text(lm, template, given=given, max_tokens=5, temperature=3.0, **options)
    tokens = np.asarray(jax.jit(jax.vmap(text.sample))(jax.random.split(jax.random.key(0), 200)))
    log_probs = np.asarray(jax.jit(text.log_prob)(tokens))
    assert np.isfinite(log_probs).all()
    phrase = text.phrase(tokens)
    read, valid = (np.asarray(x) for x in phrase.context_tokens(not given))
    lead = text.form.lead
    for row in range(len(tokens)):
        said = lm.codec.decode(tuple(read[row][valid[row]].tolist()))
        if "�" in said:
            continue  # part of a character
        assert said.removeprefix(" ") == phrase.sentence[row].removeprefix(" ")
        written = lm.codec.decode(tuple(tokens[row][tokens[row] >= 0].tolist()))
        assert written.startswith((lead, "<")) or not written
    # Texts are told apart by what they say: only other tokens of the same characters are the same text.
    assert len(set(phrase.text)) == len(set(phrase.sentence))
