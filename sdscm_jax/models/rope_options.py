"""How a configuration sets the rotation of its layers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ..errors import LoadError
from .config import Rope

KINDS = ("default", "linear", "llama3", "dynamic", "yarn", "longrope", "proportional")


def head_dim(c: Any) -> int:
    return getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads


def read_rope(parameters: dict[str, Any], c: Any, partial: bool = False) -> Rope:
    """Rotation of one layer, of a head whole or in part.

    Raises:
        LoadError: a scaling that is not known, or an option that it does not have.
    """
    given = {name: value for name, value in parameters.items() if value is not None and name != "type"}
    kind, theta = given.pop("rope_type", "default"), float(given.pop("rope_theta"))
    share = given.pop("partial_rotary_factor", 1.0)
    if kind == "proportional":
        return _proportional(theta, share, given, c)
    if share != 1 and not partial:
        raise LoadError(f"partial_rotary_factor = {share!r} is not supported here (only 1 is)")
    rope = Rope(theta, int(head_dim(c) * share))
    if kind == "linear":
        rope = replace(rope, linear=float(given.pop("factor")))
    elif kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        factor, low, high, original = (float(given.pop(name)) for name in names)
        rope = replace(rope, llama3=(factor, low, high, original))
    elif kind == "dynamic":
        # Scales with the length of a text, beyond the longest one here; see ``longest``.
        for name in ("factor", "original_max_position_embeddings"):
            given.pop(name, None)
    elif kind == "yarn":
        rope = _yarn(rope, given, c)
    elif kind == "longrope":
        rope = _longrope(rope, given, c)
    elif kind != "default":
        raise LoadError(f"rotary scaling {kind!r} is not supported (known: {', '.join(map(repr, KINDS))})")
    if given:
        raise LoadError(f"rotary scaling {kind!r} does not have the options {given}")
    return rope


def _proportional(theta: float, share: float, given: dict[str, Any], c: Any) -> Rope:
    """The first pairs of the whole head turn as if all did, the others stand still."""
    size = head_dim(c)
    turning, factor = int(share * size // 2), float(given.pop("factor", 1.0))
    if given or not 0 <= turning <= size // 2:
        raise LoadError(
            f"proportional rotation: {share:g} of a head of {size}, with the options {given}, is not supported"
        )
    return Rope(theta, size, linear=factor, still=size // 2 - turning)


def _yarn(rope: Rope, given: dict[str, Any], c: Any) -> Rope:
    original = float(given.pop("original_max_position_embeddings"))
    factor = float(given.pop("factor", None) or c.max_position_embeddings / original)
    amplitude = given.pop("attention_factor", None)
    scale, of_all = given.pop("mscale", None), given.pop("mscale_all_dim", None)

    def grown(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1

    if amplitude is None:
        amplitude = grown(scale) / grown(of_all) if scale and of_all else grown(1)
    fast, slow = given.pop("beta_fast", None) or 32, given.pop("beta_slow", None) or 1
    # Ministral 3 lets queries grow behind the original positions; see ``growth``. The other is read by nobody.
    for name in ("llama_4_scaling_beta", "max_position_embeddings"):
        given.pop(name, None)
    bounds = float(fast), float(slow), bool(given.pop("truncate", True))
    return replace(rope, yarn=(factor, original, *bounds), amplitude=float(amplitude))


def _longrope(rope: Rope, given: dict[str, Any], c: Any) -> Rope:
    original = float(given.pop("original_max_position_embeddings"))
    factor = float(given.pop("factor", None) or c.max_position_embeddings / original)
    amplitude = given.pop("attention_factor", None)
    if amplitude is None:
        amplitude = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    given.pop("long_factor")
    # Of texts within the original positions; see ``longest``.
    short = tuple(float(x) for x in given.pop("short_factor"))
    return replace(rope, divisors=short, amplitude=float(amplitude))


def longest(c: Any) -> int:
    """Positions up to which a model's numbers do not depend on how long the whole text is.

    LongRoPE has other frequencies for longer texts: what is computed of a text's beginning would change with its end.
    """
    positions = int(c.max_position_embeddings)
    parameters = c.rope_parameters or {}
    if parameters.get("rope_type") == "longrope":
        return min(positions, int(parameters["original_max_position_embeddings"]))
    return positions


def rope_everywhere(c: Any) -> tuple[Rope | None, ...]:
    return (read_rope(c.rope_parameters, c),) * c.num_hidden_layers


def partial_rope(c: Any) -> tuple[Rope | None, ...]:
    return (read_rope(c.rope_parameters, c, partial=True),) * c.num_hidden_layers


def rope_in_some_layers(c: Any) -> tuple[Rope | None, ...]:
    rope, used = read_rope(c.rope_parameters, c), c.no_rope_layers[: c.num_hidden_layers]
    return tuple(rope if has_rope else None for has_rope in used)


def rope_by_layer_type(c: Any) -> tuple[Rope | None, ...]:
    return tuple(read_rope(c.rope_parameters[kind], c) for kind in c.layer_types)


def rope_in_windows(c: Any) -> tuple[Rope | None, ...]:
    """Only layers with a window rotate."""
    rope = read_rope(c.rope_parameters, c)
    return tuple(rope if kind == "sliding_attention" else None for kind in c.layer_types)


def rope_in_windows_if_any(c: Any) -> tuple[Rope | None, ...]:
    """Only layers with a window rotate, or all where the model has none."""
    return rope_everywhere(c) if c.sliding_window is None else rope_in_windows(c)
