"""Configurations of which no model can be made, refused before memory is taken or a read blocks.

``transformers`` builds lists as long as the number of layers while it reads a file, and takes NaN for a number: so
the file is looked at before it does, and the switches after.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..checks import reason_of, told
from ..errors import LoadError
from .config import DecoderConfig, Rope

MOST_LAYERS = 4096
# Sizes beyond are no model's, and would overflow.
MOST = 2**31 - 1
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_SIZES = ("vocab_size", "width", "heads", "kv_heads", "head_dim", "mlp_width", "max_positions")
# Whose upper end may be none.
_ENDLESS = "time_step_limit"
# Files that a checkpoint is read from.
_READ = (".json", ".safetensors", ".model", ".txt", ".jinja")


def check_files(directory: Path) -> None:
    """Refuse a directory some of whose files are none: to open a named pipe would wait for ever.

    Raises:
        LoadError: names the first.
    """
    for path in sorted(directory.iterdir()):
        if path.suffix in _READ and not path.is_file() and not path.is_dir():
            what = "leads nowhere" if path.is_symlink() and not path.exists() else "is a pipe or a device"
            raise LoadError(f"{path} is no file: it {what}")


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file, whose numbers are finite.

    Raises:
        LoadError: it cannot be read, or is something else.
    """

    def constant(name: str) -> float:
        if name != "Infinity":
            raise ValueError(f"{name} is no number")
        return math.inf

    def endless(value: Any) -> bool:
        return value == math.inf or (isinstance(value, list) and any(map(endless, value)))

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Steps of state spaces may have no upper limit.
        if any(endless(value) for name, value in pairs if name != _ENDLESS):
            raise ValueError("Infinity is no number")
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=constant, object_pairs_hook=checked)
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} cannot be read: {reason_of(error)}") from error
    if not isinstance(content, dict):
        raise LoadError(f"{path} cannot be read: it holds no object, but {told(content)}")
    return content


def check_raw(content: dict[str, Any]) -> None:
    """Refuse numbers of a ``config.json`` that no model has.

    Raises:
        LoadError: names the option.
    """
    for name, value in _numbers(content):
        if name in _LAYERS:
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not 1 <= value <= MOST_LAYERS:
                raise LoadError(f"{name} is an integer from 1 to {MOST_LAYERS}, got {told(value)}")
        elif not abs(value) <= (MOST if isinstance(value, int) else math.inf) or value != value:
            raise LoadError(f"{name} is beyond what a model has: {told(value)}")
        elif isinstance(value, float) and math.isinf(value) and name != _ENDLESS:
            raise LoadError(f"{name} is not finite")


def _numbers(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers of a file, with the option that has them; what stands in place of a number of layers, too."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _numbers(value, key)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, name)
    elif (isinstance(content, int | float) and not isinstance(content, bool)) or name in _LAYERS:
        yield name, content


def check_switches(config: DecoderConfig) -> None:
    """Refuse switches with which a decoder computes nothing, or no numbers.

    Raises:
        LoadError: names the switch.
    """
    for name in _SIZES:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
            raise LoadError(f"{name} is an integer of at least 1, got {told(value)}")
    for part, what, names in (
        (config.latent, "latent attention", ("rank", "plain", "turned", "value")),
        (config.experts, "experts", ("count", "chosen", "width")),
        (config.layer_inputs, "vectors for each layer", ("vocabulary", "size")),
        (config.streams, "streams", ("count", "rank")),
    ):
        for name in names if part is not None else ():
            value = getattr(part, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
                raise LoadError(f"{name} of {what} is an integer of at least 1, got {told(value)}")
    if config.experts is not None and config.experts.chosen > config.experts.count:
        raise LoadError(f"{config.experts.chosen} of {config.experts.count} experts cannot be chosen")
    for name, mixer in config.mixers:
        for size in fields(mixer):
            value = getattr(mixer, size.name)
            if size.type == "int" and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST):
                raise LoadError(f"{size.name} of {name} is an integer of at least 1, got {told(value)}")
    for own in (config, *(config.of(mixer) for _, mixer in config.mixers)):
        if not 1 <= own.head_dim <= MOST or not 1 <= own.kv_heads <= MOST or own.heads % own.kv_heads:
            raise LoadError(f"{own.heads} heads do not share {own.kv_heads} keys and values, of {own.head_dim} numbers")
    scales = {"norm_eps": config.norm_eps, "query_scale": config.query_scale, "embedding_scale": config.embedding_scale}
    caps = {"attention_cap": config.attention_cap, "logit_cap": config.logit_cap, "qkv_clip": config.qkv_clip}
    if config.experts is not None:
        caps["limit of experts"] = config.experts.limit
        caps["scale of experts"] = config.experts.scale
    if config.growth is not None:
        caps["growth of queries"], caps["what queries grow with"] = config.growth[:2]
    for name, number in {**scales, **{name: cap for name, cap in caps.items() if cap is not None}}.items():
        _positive(name, number)
    for window in config.windows:
        if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
            raise LoadError(f"a window is an integer of at least 1, got {told(window)}")
    per_layer = {"rotations": config.rope, "windows": config.windows, "spreads": config.spreads}
    for what, count in ((what, len(of_layers)) for what, of_layers in per_layer.items()):
        if count not in (0, config.layers):
            raise LoadError(f"there are {count} {what} for {config.layers} layers")
    for rope in dict.fromkeys(config.rope):
        if rope is not None:
            _check_rope(rope, config.head_dim)


def _check_rope(rope: Rope, head_dim: int) -> None:
    _positive("rope_theta", rope.theta)
    _positive("the factor of rotary scaling", rope.linear)
    if not 0 <= rope.rotary_dim <= head_dim or rope.rotary_dim % 2:
        raise LoadError(f"{rope.rotary_dim} of {head_dim} dimensions of a head rotate; it is an even number of them")
    if rope.llama3 is not None:
        factor, low, high, original = rope.llama3
        numbers = {"factor": factor, "low_freq_factor": low, "high_freq_factor": high, "original positions": original}
        for name, number in numbers.items():
            _positive(f"{name} of rotary scaling", number)
        if high < low:
            raise LoadError(f"high_freq_factor = {high:g} of rotary scaling is below low_freq_factor = {low:g}")


def _positive(name: str, number: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
        raise LoadError(f"{name} is a finite number above 0, got {told(number)}")
