"""bitsandbytes: numbers of four bits out of a table (nf4, fp4), or LLM.int8.

Four bits (Dettmers et al. 2023, QLoRA, arXiv 2305.14314): the weight is one line of numbers, two to a byte, the higher
bits first, in blocks that share their largest absolute value; these values may be quantised themselves (nested). What
the numbers stand for is in the file, beside its shape (``bitsandbytes/functional.py``, ``QuantState.as_dict``).
Eight bits (arXiv 2208.07339): ``weight * SCB / 127``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...checks import told
from ...errors import LoadError
from ..tensor_files import StoredTensors
from .scaled import scaled
from .weight import FLOATS, Bounds, Found, Parts, Weight, modules

_KINDS = ("nf4", "fp4")


def bitsandbytes(settings: Mapping[str, Any], files: StoredTensors) -> Found:
    """Weights that have a state of quantisation, and weights of int8."""
    if settings.get("bnb_4bit_quant_storage") not in (None, "uint8"):
        raise LoadError(
            f"bitsandbytes stored as {told(settings['bnb_4bit_quant_storage'])} is not supported (uint8 is)"
        )
    found = Found()
    for kind in _KINDS:
        for module in modules(files, f"weight.quant_state.bitsandbytes__{kind}"):
            found.weights[f"{module}weight"] = _four_bits(Parts(files, module, found), kind)
    for module in modules(files, "SCB"):
        parts = Parts(files, module, found)
        found.weights[f"{module}weight"] = scaled(parts, "weight", "SCB", ("I8",), FLOATS, divisor=127)
        parts.skip("weight_format")
    return found


def _state(parts: Parts, kind: str) -> dict[str, Any]:
    name = f"weight.quant_state.bitsandbytes__{kind}"
    parts.shape(name, ("U8",))
    try:
        state = json.loads(bytes(parts.read(name)))
        sizes = [int(state["blocksize"]), *(int(n) for n in state["shape"])]
        nested = [int(state["nested_blocksize"])] if "nested_blocksize" in state else []
        offset = float(state["nested_offset"]) if nested else 0.0
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise parts.refuse(f"its state cannot be read: {type(error).__name__}: {error}") from error
    if state.get("quant_type") != kind or len(sizes) != 3 or min(sizes + nested) < 1 or not math.isfinite(offset):
        raise parts.refuse(f"its state is of no {kind} weight: {told(state)}")
    return {"block": sizes[0], "shape": tuple(sizes[1:]), "nested": nested[0] if nested else None, "offset": offset}


def _four_bits(parts: Parts, kind: str) -> Weight:
    state = _state(parts, kind)
    (outputs, inputs), block, nested = state["shape"], state["block"], state["nested"]
    count = outputs * inputs
    blocks = -(-count // block)
    packed = parts.shape("weight", ("U8",))
    if math.prod(packed) != -(-count // 2) or packed[0] != math.prod(packed):
        raise parts.refuse(f"weight has shape {packed}, expected {(-(-count // 2), 1)} for {outputs} by {inputs}")
    if parts.shape("weight.quant_map", FLOATS) != (16,):
        raise parts.refuse("weight.quant_map is not of 16 values")
    table = parts.scales("weight.quant_map")
    if parts.shape("weight.absmax", ("U8",) if nested else FLOATS) != (blocks,):
        raise parts.refuse(f"weight.absmax is not of {blocks} blocks")
    if nested:
        if parts.shape("weight.nested_absmax", FLOATS) != (-(-blocks // nested),):
            raise parts.refuse(f"weight.nested_absmax is not of {-(-blocks // nested)} blocks")
        if parts.shape("weight.nested_quant_map", FLOATS) != (256,):
            raise parts.refuse("weight.nested_quant_map is not of 256 values")

    def largest(first: int, last: int) -> np.ndarray:
        if not nested:
            return parts.scales("weight.absmax", (first, last))
        outer = parts.scales("weight.nested_absmax")[np.arange(first, last) // nested]
        inner = parts.scales("weight.nested_quant_map")[parts.read("weight.absmax", (first, last))]
        return inner * outer + np.float32(state["offset"])

    def read(bounds: Bounds) -> np.ndarray:
        (first, last), columns = bounds
        start, stop = first * inputs, last * inputs
        # Two to a byte: an odd start is the second of its byte.
        axes = ((0, 1),) * (len(packed) - 1)
        pairs = parts.read("weight", (start // 2, -(-stop // 2)), *axes).reshape(-1)
        values = table[np.stack([pairs >> 4, pairs & 15], -1).reshape(-1)][start % 2 : start % 2 + stop - start]
        of = np.arange(start, stop) // block
        own = largest(start // block, -(-stop // block))
        return (values * own[of - start // block]).reshape(last - first, inputs)[:, slice(*columns)]

    return Weight((outputs, inputs), read)
