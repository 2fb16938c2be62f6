"""Logits of tiny random checkpoints equal those that PyTorch gave (see ``make_golden.py``)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import Array
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.models.checkpoint import load_parameters, read_directory_config
from sdscm_jax.models.config import DecoderConfig, Rope
from sdscm_jax.models.pages import KeyValues, followed_by
from sdscm_jax.models.pages import length as pages_length

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(p.name for p in GOLDEN.iterdir() if p.is_dir())


@cache
def arrays(name: str) -> dict[str, np.ndarray]:
    """Inputs and PyTorch's logits."""
    with np.load(GOLDEN / name / "golden.npz") as file:
        return dict(file)


@cache
def parameters(name: str, dtype: str) -> nnx.State:
    return load_parameters(GOLDEN / name, read_directory_config(GOLDEN / name), jnp.dtype(dtype))


def load(
    name: str, tokenizer: PreTrainedTokenizerFast, dtype: str = "float32", config: DecoderConfig | None = None
) -> sd.LanguageModel:
    """The model of a golden directory (these have no tokenizer), or its weights under other switches."""
    config = config or read_directory_config(GOLDEN / name)
    return replace(sd.random_lm(config, tokenizer, dtype=dtype), params=parameters(name, dtype))


@jax.jit
def _logits(lm: sd.LanguageModel, tokens: Array, positions: Array, mask: Array) -> Array:
    return lm.logits(tokens, positions, mask)


def logits(
    lm: sd.LanguageModel, tokens: np.ndarray, positions: np.ndarray | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """Logits by one compiled program per model, whether or not there are positions and a mask."""
    if positions is None:
        positions = np.broadcast_to(np.arange(tokens.shape[-1]), tokens.shape)
    return np.asarray(_logits(lm, tokens, positions, np.ones_like(tokens) if mask is None else mask))


encode = jax.jit(lambda lm, *arguments: lm.encode(*arguments))


def assert_close(actual: Array | np.ndarray, expected: np.ndarray, atol: float = 2e-4) -> None:
    chex.assert_trees_all_close(np.asarray(actual), expected, atol=atol, rtol=0)


def test_golden_covers_the_switches() -> None:
    """The files are there, and hold what a decoder could forget to pass on."""
    configs = {name: read_directory_config(GOLDEN / name) for name in NAMES}
    assert {c.family for c in configs.values()} == {"gpt2", "llama"}
    assert any(c.mlp_width not in (4 * c.width,) for c in configs.values() if c.family == "gpt2")
    llamas = [c for c in configs.values() if c.family == "llama"]
    assert all(c.norm_eps == 1e-3 for c in configs.values())
    assert all(r is not None and r.theta == 5000 for c in llamas for r in c.rope)
    assert any(c.kv_heads < c.heads for c in llamas)
    assert any(c.head_dim != c.width // c.heads for c in llamas)
    assert any(c.qkv_bias and c.out_bias and c.mlp_bias and not c.tied for c in llamas)
    scalings = {(r.llama3, r.linear) for c in llamas for r in c.rope if r is not None}
    assert scalings == {(None, 1.0), (None, 4.0), ((8.0, 1.0, 4.0, 64.0), 1.0)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["plain", "padded", "padded_positions", "positions"])
def test_logits(name: str, case: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    lm, given = load(name, tiny_tokenizer), arrays(name)
    positions = {"padded_positions": given["padding_positions"], "positions": given["positions"]}.get(case)
    mask = given["padding"] if case.startswith("padded") else np.ones_like(given["padding"])
    actual = logits(lm, given["tokens"], positions, mask)
    assert actual.dtype == np.float32
    assert np.isfinite(actual).all()
    # What padding "predicts" means nothing, and differs.
    assert_close(actual[mask == 1], given[f"logits_{case}"][mask == 1])
    if case != "plain":
        assert np.abs(actual - given["logits_plain"]).max() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_not_looked_at(name: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """A row with padding on its left has the logits of the row without it, whatever the padding is."""
    lm, given = load(name, tiny_tokenizer), arrays(name)
    real = given["padding"] == 1
    other = np.where(real, given["tokens"], 63 - given["tokens"])
    padded = logits(lm, other, given["padding_positions"], given["padding"])
    assert_close(padded[real], given["logits_padded_positions"][real])
    alone = logits(lm, other[2:, real[2]])
    assert_close(alone[0], padded[2][real[2]])


@pytest.mark.parametrize("name", ["gpt2", "llama-grouped"])
def test_defaults_and_leading_axes(name: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """No positions and no mask; no batch axis, two of them, or ``vmap``; a full mask: the same logits."""
    lm, given = load(name, tiny_tokenizer), arrays(name)
    tokens = jnp.asarray(given["tokens"])
    assert_close(jax.jit(sd.LanguageModel.logits)(lm, tokens[0]), given["logits_plain"][0])
    assert_close(jax.jit(sd.LanguageModel.logits)(lm, tokens[:, None])[:, 0], given["logits_plain"])
    assert_close(jax.jit(jax.vmap(lambda row: lm.logits(row)))(tokens), given["logits_plain"])
    full = np.broadcast_to(given["padding"][:, None, :], (*tokens.shape, tokens.shape[1]))
    real = given["padding"] == 1
    actual = logits(lm, given["tokens"], given["padding_positions"], full)
    assert_close(actual[real], given["logits_padded_positions"][real])


@pytest.mark.parametrize(
    ("name", "split"), [*((name, 6) for name in NAMES), ("gpt2", 1), ("llama-grouped", 1), ("llama-grouped", 9)]
)
def test_cache(name: str, split: int, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """A prefix and then the rest, from its keys and values, is the whole."""
    lm, given = load(name, tiny_tokenizer), arrays(name)
    tokens, positions = jnp.asarray(given["tokens"]), jnp.asarray(given["positions"])
    rows, length = tokens.shape
    seen = jnp.broadcast_to(jnp.tri(length, dtype=bool), (rows, length, length))
    before, past = encode(lm, tokens[:, :split], positions[:, :split], seen[:, :split, :split])
    after, new = encode(lm, tokens[:, split:], positions[:, split:], seen[:, split:], past, positions[:, :split])
    assert (pages_length(past), pages_length(new)) == (split, length - split)
    hidden = jnp.concatenate([before, after], axis=1)
    assert_close(lm.decoder.logits(hidden), given["logits_positions"])


@pytest.mark.parametrize("name", ["gpt2", "llama-grouped"])
def test_cache_with_holes_and_two_readers(name: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Slots that the mask hides do not count, and rows of one batch share one row's cache."""
    lm, given = load(name, tiny_tokenizer), arrays(name)
    split, hidden_slots = 5, 2
    tokens, length = jnp.asarray(given["tokens"][:1]), given["tokens"].shape[1]
    tri = jnp.tri(split, dtype=bool)[None]
    _, past = encode(lm, tokens[:, :split], jnp.arange(split)[None], tri)
    # Garbage in front: large, so that it would be seen if it were looked at.
    garbage = jax.tree.map(lambda x: jnp.full_like(x[..., :hidden_slots, :], 1e3), past)
    past = followed_by(KeyValues(*garbage), past)
    rest = length - split
    readers = jnp.concatenate([tokens[:, split:], (tokens[:, split:] + 1) % 64])
    columns = jnp.concatenate([jnp.zeros(hidden_slots, bool), jnp.ones(split, bool)])
    mask = jnp.concatenate(
        [
            jnp.broadcast_to(columns, (2, rest, len(columns))),
            jnp.broadcast_to(jnp.tri(rest, dtype=bool), (2, rest, rest)),
        ],
        axis=-1,
    )
    at = jnp.broadcast_to(jnp.arange(split, length), (2, rest))
    out, _ = encode(lm, readers, at, mask, past)
    wholes = jnp.concatenate([jnp.repeat(tokens[:, :split], 2, axis=0), readers], axis=1)
    assert_close(lm.decoder.logits(out), logits(lm, np.asarray(wholes))[:, split:])
    assert_close(lm.decoder.logits(out)[0], given["logits_plain"][0, split:])


@pytest.mark.parametrize("name", ["gpt2", "llama-biased", "llama-grouped", "llama-llama3"])
def test_bfloat16(name: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    lm, given = load(name, tiny_tokenizer, "bfloat16"), arrays(name)
    assert lm.dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(lm.params)} == {jnp.dtype(jnp.bfloat16)}
    actual = logits(lm, given["tokens"])
    assert actual.dtype == jnp.float32
    difference = np.abs(actual - given["logits_plain"])
    spread = given["logits_plain"].std()
    assert difference.mean() < 0.02 * spread
    assert difference.max() < 0.2 * spread
    # It does not compute in float32 after all.
    assert difference.max() > 1e-3


def _forgotten(config: DecoderConfig) -> dict[str, DecoderConfig]:
    """The switches with one of them at its usual value, as a decoder has them that does not read it."""

    def rope(**changes: object) -> DecoderConfig:
        return replace(config, rope=tuple(replace(r, **changes) if r is not None else None for r in config.rope))

    changed = {"norm_eps": replace(config, norm_eps=1e-6)}
    if config.family == "llama":
        first = config.rope[0]
        assert isinstance(first, Rope)
        changed["theta"] = rope(theta=10000.0)
        if first.llama3 is not None:
            changed["llama3"] = rope(llama3=None)
        if first.linear != 1:
            changed["linear"] = rope(linear=1.0)
        if config.head_dim != config.width // config.heads:
            changed["query_scale"] = replace(config, query_scale=(config.width // config.heads) ** -0.5)
    else:
        changed["activation"] = replace(config, activation="gelu")
    return changed


@pytest.mark.parametrize(
    ("name", "switch"),
    [
        (name, switch)
        for name in ("gpt2", "llama-grouped", "llama-linear", "llama-llama3")
        for switch in _forgotten(read_directory_config(GOLDEN / name))
    ],
)
def test_a_forgotten_switch_shows(name: str, switch: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """The tolerance is tight enough: a value that is not passed on moves the logits by more."""
    given = arrays(name)
    config = _forgotten(read_directory_config(GOLDEN / name))[switch]
    actual = logits(load(name, tiny_tokenizer, config=config), given["tokens"], given["positions"])
    assert np.abs(actual - given["logits_positions"]).max() > 2e-4
