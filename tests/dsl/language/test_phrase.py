"""Phrases as JAX values: under jit, vmap, cond and scan, and as numbers."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdscm_jax as sd

from ...dice import die


def test_phrases_are_pytrees(lm: sd.LanguageModel) -> None:
    face = die(lm, [0.2, 0.3, 0.5]).phrase(jnp.array([0, 2, 1]), "face")
    note = sd.Text(lm, "It {}!", max_tokens=3)
    texts = note.phrase(jnp.array([[4, 5, 6], [7, 8, 9], [4, 5, 6]], jnp.int32), "note")

    @jax.jit
    def swap(flag: jax.Array, pair: tuple[sd.Phrase, sd.Phrase]) -> tuple[sd.Phrase, sd.Phrase]:
        flipped = jax.tree.map(lambda x: x[::-1], pair)
        return jax.lax.cond(flag, lambda: pair, lambda: flipped)

    kept, kept_texts = swap(jnp.array(True), (face, texts))
    turned, turned_texts = swap(jnp.array(False), (face, texts))
    assert kept.text.tolist() == ["sun", "snow", "rain"]
    assert turned.text.tolist() == ["rain", "snow", "sun"]
    assert (turned_texts.text == texts.text[::-1]).all()
    assert np.asarray(kept_texts == texts).all()
    _, seen = jax.lax.scan(lambda last, now: (now, now == last), jax.tree.map(lambda x: x[0], face), face)
    assert seen.tolist() == [True, False, False]
    mapped = jax.vmap(lambda f, t: (f.map({"sun": 1.0, "rain": 2.0, "snow": 3.0}), t.length))(face, texts)
    chex.assert_trees_all_close(mapped, (jnp.array([1.0, 3.0, 2.0]), jnp.array([3, 3, 3])))


def test_phrases_as_numbers(lm: sd.LanguageModel) -> None:
    face = die(lm, [0.2, 0.3, 0.5]).phrase(jnp.array([0, 2]))
    chex.assert_trees_all_equal(face.one_hot(), jnp.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert (face == "snow").tolist() == [False, True]
    assert (face != "snow").tolist() == [True, False]
    texts = sd.Text(lm, "It {}!", max_tokens=3).phrase(jnp.array([[4, 5, -1], [4, 6, -1]], jnp.int32))
    first = jax.tree.map(lambda x: x[:1], texts)
    assert texts.first_difference(first).tolist() == [-1, 1]
    for broken in (lambda: texts.one_hot(), lambda: texts.map({}), lambda: texts.sentences):
        with pytest.raises(TypeError, match="free text"):
            broken()
    with pytest.raises(TypeError, match="another text in each unit"):
        jax.jit(lambda t: t.text)(texts)
