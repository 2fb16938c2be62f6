"""The list of models says what the loader does, and the page and the command say what the list does."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from transformers import CONFIG_MAPPING, AutoConfig
from typer.testing import CliRunner

import sdscm_jax as sd
from sdscm_jax.cli import app
from sdscm_jax.models.families import FAMILIES, find_family, read_config
from sdscm_jax.models.known_models import known_models, most_used, rows
from sdscm_jax.models.mixer_config import Delta, StateSpace

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_every_family_is_in_it_once() -> None:
    types = [known.model_type for known in known_models()]
    assert len({*types}) == len(types)
    assert {known.model_type for known in known_models() if known.refused is None} == {*FAMILIES}
    assert all(known.models for known in known_models())


def test_what_is_refused_is_a_model_of_transformers_and_refused() -> None:
    for known in known_models():
        assert known.model_type in CONFIG_MAPPING
        if known.refused is not None:
            with pytest.raises(sd.LoadError) as caught:
                find_family(known.model_type)
            assert repr(known.model_type) in str(caught.value)
            assert known.refused in str(caught.value)


def test_the_most_used_load_or_say_why_not(tmp_path: Path) -> None:
    """The list is on the page; what loads has a family, what does not is refused at the door with the page's reason."""
    listed, text = most_used(), PAGE.read_text(encoding="utf-8")
    assert len({name for name, *_ in listed}) == 30
    for name, models, what in listed:
        assert f"| `{name}` | {models} | {what} |" in text
        if what == "loads":
            assert find_family(name) is FAMILIES[name]
            continue
        (tmp_path / "config.json").write_text(f'{{"model_type": "{name}"}}')
        with pytest.raises(sd.LoadError) as caught:
            sd.load_lm(tmp_path)
        assert what.removeprefix("refused: ") in str(caught.value)


def _states(name: str) -> tuple[int, int]:
    """Bytes of the states of a text's end (float32; what convolutions see, in bfloat16), and of a token's keys and
    values (bfloat16), of the sizes that transformers has by default."""
    c = AutoConfig.for_model(name)
    if hasattr(c, "linear_num_value_heads"):  # gated delta networks
        layers, full = c.layer_types.count("linear_attention"), c.layer_types.count("full_attention")
        keys, values = (
            c.linear_num_key_heads * c.linear_key_head_dim,
            c.linear_num_value_heads * c.linear_value_head_dim,
        )
        state, seen, kernel = values * c.linear_key_head_dim, 2 * keys + values, c.linear_conv_kernel_dim
        kept = 2 * full * c.num_key_value_heads * c.head_dim
    elif name == "mamba2":
        layers, inner = c.num_hidden_layers, c.num_heads * c.head_dim
        state, seen, kernel, kept = inner * c.state_size, inner + 2 * c.n_groups * c.state_size, c.conv_kernel, 0
    else:  # in every layer beside attention
        layers, inner = c.num_hidden_layers, c.mamba_n_heads * c.mamba_d_head
        state, kernel = inner * c.mamba_d_state, c.mamba_d_conv
        seen = inner + 2 * c.mamba_n_groups * c.mamba_d_state
        kept = 2 * layers * c.num_key_value_heads * c.hidden_size // c.num_attention_heads
    return layers * (4 * state + 2 * seen * (kernel - 1)), 2 * kept


@pytest.mark.parametrize("name", ["qwen3_next", "qwen3_5_text", "falcon_h1", "mamba2"])
def test_the_page_says_what_is_kept_and_what_states_would_take(name: str) -> None:
    states, attention = _states(name)
    c = read_config(AutoConfig.for_model(name))
    token = sum(kept.bytes(jnp.dtype("bfloat16")) for kept in jax.tree.leaves(c.kept))
    own = next(own for own in dict(c.mixers).values() if isinstance(own, Delta | StateSpace))
    # To change a state and to read it takes each of its numbers twice, and in the delta rule to read it with the key.
    delta = isinstance(own, Delta)
    state = 3 * own.value_heads * own.value_size * own.key_size if delta else 2 * own.inner * own.state
    even = state * len(own.layers) / own.products(c, 1)
    figures = f"{token / 1e3:,.1f} | {attention / 1e3:.1f} | {states / 1e6:.1f} | {states / (token - attention):.0f}"
    assert f"| `{name}` | {figures} | {even:.0f} |" in PAGE.read_text(encoding="utf-8")


def test_the_page_has_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for row in rows():
        assert f"| {' | '.join(f'`{row[0]}`' if i == 0 else cell for i, cell in enumerate(row))} |" in text


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 0, result.output
    assert all(known.model_type in result.output for known in known_models())
