"""Rotations and logits far into a text, against float64."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import AutoConfig

import sdscm_jax as sd
from sdscm_jax.models.checkpoint import parameter_paths
from sdscm_jax.models.config import DecoderConfig, Rope
from sdscm_jax.models.families import read_config, tiny_config
from sdscm_jax.models.rope import angles_at, inverse_frequencies, turns

FAR = np.unique(np.r_[0:5, 650, 4095, 32767, 99_991, 131_071, 1_000_003, 2**20 - 1])
ROPES = {
    "plain": Rope(10_000.0, 64),
    "llama3": Rope(500_000.0, 64, llama3=(8.0, 1.0, 4.0, 8192.0)),
    "linear": Rope(1_000_000.0, 64, linear=8.0),
    "small base": Rope(1.5, 64),
}


@pytest.mark.parametrize("name", ROPES)
def test_angles(name: str) -> None:
    """Cosine and sine to float32's last bits, at every position that a model has."""
    frequency = inverse_frequencies(ROPES[name], 64)
    found = jax.jit(lambda at, f: angles_at(at)(f))(jnp.array(FAR, jnp.int32), turns(frequency))
    angle = FAR[:, None] * frequency
    np.testing.assert_allclose(found.cos[0], np.cos(angle), atol=3e-7)
    np.testing.assert_allclose(found.sin[0], np.sin(angle), atol=3e-7)


def test_what_does_not_turn() -> None:
    found = angles_at(jnp.array([0, 7, 99_991]))(turns(inverse_frequencies(None, 8)))
    np.testing.assert_array_equal(found.cos, np.ones((1, 3, 4)))
    np.testing.assert_array_equal(found.sin, np.zeros((1, 3, 4)))


def in_float64(lm: sd.LanguageModel, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Logits ``[T, V]`` of a Llama, in plain NumPy."""
    c = lm.config
    p = {path: np.asarray(value, np.float64) for path, value in parameter_paths(lm.params).items()}

    def norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + c.norm_eps) * scale

    def heads(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1, c.head_dim).swapaxes(0, 1)

    def turned(x: np.ndarray, rope: Rope) -> np.ndarray:
        half = rope.rotary_dim // 2
        angle = positions[:, None] * rope.theta ** -(np.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)

    x = p["embedding.embedding"][tokens]
    for i in range(c.layers):
        own = {path.removeprefix("blocks."): v[i] for path, v in p.items() if path.startswith("blocks.")}
        rope = c.rope[i]
        assert rope is not None
        h = norm(x, own["attention_norm.scale"])
        q, k = (turned(heads(h @ own[f"{name}.kernel"]), rope) for name in ("query", "key"))
        v = heads(h @ own["value.kernel"])
        k, v = (np.repeat(z, c.heads // c.kv_heads, 0) for z in (k, v))
        scores = np.where(np.tri(len(tokens), dtype=bool), q @ k.swapaxes(1, 2) * c.query_scale, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        x = x + mixed.swapaxes(0, 1).reshape(len(x), -1) @ own["out.kernel"]
        h = norm(x, own["mlp_norm.scale"])
        gate = h @ own["gate.kernel"]
        x = x + (gate / (1 + np.exp(-gate)) * (h @ own["up.kernel"])) @ own["down.kernel"]
    return norm(x, p["final_norm.scale"]) @ p["embedding.embedding"].T


def long_config() -> DecoderConfig:
    config = tiny_config("llama", 96)
    return replace(config, max_positions=2**17, rope=(Rope(10_000.0, 8), Rope(1_000_000.0, 8)))


@pytest.mark.parametrize("start", [0, 650, 20_000, 100_000])
def test_logits(start: int, tiny_tokenizer: object) -> None:
    """As near to float64 at the end of a context as at its beginning."""
    lm = sd.random_lm(replace(long_config(), vocab_size=len(tiny_tokenizer)), tiny_tokenizer, 2)
    lm = jax.tree.map(lambda x: x * 6 if x.ndim > 1 else x, lm)
    tokens = np.random.default_rng(start).integers(96, size=24)
    positions = start + np.arange(24) ** 2
    expected = in_float64(lm, tokens, positions)
    found = np.asarray(jax.jit(lambda lm, t, at: lm.logits(t, at))(lm, tokens, positions), np.float64)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_more_positions_than_angles_are_exact_for() -> None:
    read_config(AutoConfig.for_model("llama", max_position_embeddings=2**20))
    with pytest.raises(sd.LoadError, match="1048577 positions are not supported"):
        read_config(AutoConfig.for_model("llama", max_position_embeddings=2**20 + 1))
