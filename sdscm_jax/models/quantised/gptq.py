"""GPTQ: integers with a scale and a zero for each output and group of inputs.

The layout is AutoGPTQ's and GPTQModel's (Frantar et al. 2022, arXiv 2210.17323; ``qlinear_cuda_old.py``): ``qweight``
packs integers along the inputs, ``qzeros`` along the outputs. Version 1 stores each zero less one, modulo the range.
``g_idx`` says which group an input belongs to, where they were quantised in another order (``desc_act``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...checks import told
from ...errors import LoadError
from ..tensor_files import StoredTensors
from .weight import BITS, FLOATS, WORD, Bounds, Found, Parts, Weight, integer, modules, refuse_set, some, unpacked


def gptq(settings: Mapping[str, Any], files: StoredTensors) -> Found:
    """Weights of the modules that have a ``qweight``."""
    bits = integer(settings, "bits")
    if bits not in BITS:
        raise LoadError(f"gptq with {bits} bits is not supported ({', '.join(map(str, BITS))} are)")
    version = settings.get("checkpoint_format") or settings.get("format") or "gptq"
    if version not in ("gptq", "gptq_v2"):
        raise LoadError(f"gptq in the format {told(version)} is not supported ('gptq' and 'gptq_v2' are)")
    refuse_set(settings, ("is_marlin_format", "rotation", "adapter"))
    if settings.get("pack_dtype") not in (None, "int32"):
        raise LoadError(f"gptq packed in {told(settings['pack_dtype'])} is not supported (int32 is)")
    found = Found()
    for module in modules(files, "qweight"):
        parts = Parts(files, module, found)
        # Some modules may have other bits than most.
        expected = None if settings.get("dynamic") else bits
        found.weights[f"{module}weight"] = _weight(parts, expected, version == "gptq", bool(settings.get("desc_act")))
    return found


def _weight(parts: Parts, expected: int | None, less_one: bool, reordered: bool) -> Weight:
    words, outputs = _two(parts, "qweight", ("I32",))
    groups, zero_words = _two(parts, "qzeros", ("I32",))
    scaled = _two(parts, "scales", FLOATS)
    bits = zero_words * WORD // outputs if outputs else 0
    if bits not in BITS or zero_words * WORD != bits * outputs or (expected is not None and bits != expected):
        raise parts.refuse(
            f"qzeros {(groups, zero_words)} are not of {expected or 'so many'} bits and {outputs} outputs"
        )
    if scaled != (groups, outputs):
        raise parts.refuse(f"scales have shape {scaled}, expected {(groups, outputs)}")
    each = WORD // bits
    inputs = words * each
    if not 1 <= groups <= inputs:
        raise parts.refuse(f"{groups} groups of {inputs} inputs")
    if parts.has("g_idx"):
        if parts.shape("g_idx", ("I32", "I64")) != (inputs,):
            raise parts.refuse(f"g_idx is not of {inputs} inputs")
        group_of = parts.read("g_idx")
        if group_of.size and (group_of.min() < 0 or group_of.max() >= groups):
            raise parts.refuse(f"g_idx names groups that are not among the {groups}")
    elif reordered:
        raise parts.refuse("desc_act is set, and g_idx is missing")
    else:
        group_of = np.arange(inputs) // -(-inputs // groups)

    def read(bounds: Bounds) -> np.ndarray:
        rows, columns = bounds
        values = some(lambda at: unpacked(parts.read("qweight", at, rows), bits, 0), columns, each, 0)
        zeros = some(lambda at: unpacked(parts.read("qzeros", (0, groups), at), bits, 1), rows, each, 1)
        if less_one:
            zeros = (zeros + np.uint8(1)) & np.uint8((1 << bits) - 1)
        of = group_of[slice(*columns)]
        factors = parts.scales("scales", (0, groups), rows)
        return np.ascontiguousarray(((values.astype(np.float32) - zeros[of]) * factors[of]).T)

    return Weight((outputs, inputs), read)


def _two(parts: Parts, part: str, kinds: tuple[str, ...]) -> tuple[int, int]:
    shape = parts.shape(part, kinds)
    if len(shape) != 2:
        raise parts.refuse(f"{part} has shape {shape}, expected two axes")
    return shape[0], shape[1]
