"""compressed-tensors (vLLM's llm-compressor): packed integers, integers of eight bits, and fp8.

The library's formats ``pack-quantized`` (``compressors/pack_quantized``: integers less their lowest value, packed along
the inputs; zeros packed along the outputs), ``int-quantized``, ``naive-quantized`` and ``float-quantized``
(``compressors/naive_quantized``). Activations are not quantised here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...checks import told
from ...errors import LoadError
from ..tensor_files import StoredTensors
from .scaled import FP8, scaled
from .weight import BITS, FLOATS, WORD, Bounds, Found, Parts, Weight, modules, refuse_set, some, unpacked

_FORMATS = ("pack-quantized", "int-quantized", "naive-quantized", "float-quantized", "dense", "mixed-precision")
_STRATEGIES = ("tensor", "channel", "group", "block")
_OF_ACTIVATIONS = ("input_scale", "input_zero_point", "output_scale", "output_zero_point")


def compressed(settings: Mapping[str, Any], files: StoredTensors) -> Found:
    """Weights that have a ``weight_scale``."""
    refuse_set(settings, ("transform_config",))
    if settings.get("quantization_status") not in (None, "compressed"):
        status = told(settings["quantization_status"])
        raise LoadError(f"compressed-tensors with quantization_status = {status} is not supported ('compressed' is)")
    if (settings.get("sparsity_config") or {}).get("format") not in (None, "dense"):
        raise LoadError(f"compressed-tensors: sparse weights are not supported: {told(settings['sparsity_config'])}")
    groups = settings.get("config_groups")
    groups = list(groups.values()) if isinstance(groups, dict) else []
    schemes = [
        group["weights"] for group in groups if isinstance(group, dict) and isinstance(group.get("weights"), dict)
    ]
    formats = [settings.get("format"), *(group.get("format") for group in groups if isinstance(group, dict))]
    for name in formats:
        if name is not None and name not in _FORMATS:
            raise LoadError(
                f"compressed-tensors in the format {told(name)} is not supported ({', '.join(_FORMATS)} are)"
            )
    for scheme in schemes:
        if scheme.get("strategy") not in _STRATEGIES:
            what = told(scheme.get("strategy"))
            raise LoadError(f"compressed-tensors by {what} is not supported ({', '.join(_STRATEGIES)} are)")
    found = Found()
    for module in modules(files, "weight_scale"):
        parts = Parts(files, module, found)
        parts.skip(*_OF_ACTIVATIONS)
        packed = parts.has("weight_packed")
        found.weights[f"{module}weight"] = _packed(parts, schemes) if packed else _plain(parts, schemes)
    for name in files.entries:
        if name.endswith((".k_scale", ".v_scale", ".q_scale")):
            found.used.add(name)
    return found


def _only(parts: Parts, found: list[Any], what: str) -> Any:
    different = [value for i, value in enumerate(found) if value not in found[:i]]
    if len(different) != 1:
        raise parts.refuse(f"{what} is not one of what config_groups say: {told(different)}")
    return different[0]


def _plain(parts: Parts, schemes: list[dict[str, Any]]) -> Weight:
    kind = parts.files.kind(f"{parts.module}weight") if parts.has("weight") else "I8"
    own = [scheme for scheme in schemes if (scheme.get("type") == "float") == (kind in FP8) and scheme["num_bits"] == 8]
    blocks = [scheme.get("block_structure") for scheme in own if scheme["strategy"] == "block"]
    block = None
    if blocks:
        size = _only(parts, [s.get("block_structure") if s["strategy"] == "block" else None for s in own], "its block")
        if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
            raise parts.refuse(f"block_structure is two counts, got {told(size)}")
        block = size[0], size[1]
    elif not own:
        raise parts.refuse(f"config_groups have no weights of dtype {kind}")
    zero = "weight_zero_point" if parts.has("weight_zero_point") else None
    if zero is not None and kind in FP8:
        raise parts.refuse("numbers of fp8 with a zero are not supported")
    return scaled(parts, "weight", "weight_scale", ("I8", *FP8), FLOATS, block, zero)


def _packed(parts: Parts, schemes: list[dict[str, Any]]) -> Weight:
    rows_of, words = _two(parts, "weight_packed")
    if parts.shape("weight_shape", ("I64", "I32")) != (2,):
        raise parts.refuse("weight_shape is not of two numbers")
    outputs, inputs = (int(n) for n in parts.read("weight_shape"))
    own = [s for s in schemes if s.get("type", "int") == "int" and s.get("num_bits") in BITS]
    own = [s for s in own if words == -(-inputs * s["num_bits"] // WORD)]
    bits = _only(parts, [s["num_bits"] for s in own], f"weight_packed of shape {(rows_of, words)}")
    symmetric = _only(parts, [s.get("symmetric", True) for s in own], "symmetric")
    scale_shape = parts.shape("weight_scale", FLOATS)
    if rows_of != outputs or len(scale_shape) > 2 or scale_shape[:1] not in ((outputs,), (1,), ()):
        raise parts.refuse(f"weight_packed and weight_scale are of shapes {(rows_of, words)} and {scale_shape}")
    grid = (*scale_shape, 1, 1)[:2]
    groups, each, lowest = grid[1], WORD // bits, 1 << (bits - 1)
    if not groups or (inputs % groups and not parts.has("weight_g_idx")):
        raise parts.refuse(f"{inputs} inputs do not make {groups} groups")
    group_of = np.arange(inputs) // -(-inputs // groups)
    if parts.has("weight_g_idx"):
        if parts.shape("weight_g_idx", ("I32", "I64")) != (inputs,):
            raise parts.refuse(f"weight_g_idx is not of {inputs} inputs")
        named = parts.read("weight_g_idx")
        if named.min() >= 0 and named.max() < groups:
            group_of = named
        elif not (named == -1).all():  # what is left where nothing was reordered
            raise parts.refuse(f"weight_g_idx names groups that are not among the {groups}")
    if symmetric:
        parts.skip("weight_zero_point")
    elif parts.shape("weight_zero_point", ("I32",)) != (-(-outputs * bits // WORD), groups):
        raise parts.refuse("weight_zero_point has another shape than weight_scale")

    def read(bounds: Bounds) -> np.ndarray:
        rows, columns = bounds
        values = some(lambda at: unpacked(parts.read("weight_packed", rows, at), bits, 1), columns, each, 1)
        values = values.astype(np.float32) - np.float32(lowest)
        of = group_of[slice(*columns)]
        if not symmetric:
            zeros = some(lambda at: unpacked(parts.read("weight_zero_point", at, (0, groups)), bits, 0), rows, each, 0)
            values = values - (zeros.astype(np.float32) - np.float32(lowest))[:, of]
        factors = np.broadcast_to(parts.scales("weight_scale").reshape(grid), (outputs, groups))[slice(*rows)]
        return values * factors[:, of]

    return Weight((outputs, inputs), read)


def _two(parts: Parts, part: str) -> tuple[int, int]:
    shape = parts.shape(part, ("I32",))
    if len(shape) != 2:
        raise parts.refuse(f"{part} has shape {shape}, expected two axes")
    return shape[0], shape[1]
