"""Floating-point numbers of eight bits, with scales of blocks (DeepSeek V3, Qwen 3), outputs (FBGEMM) or whole weights.

The scale is called ``weight_scale_inv`` where a block has one (DeepSeek-AI 2024, arXiv 2412.19437, section 3.3) and
multiplies all the same, as in transformers' ``integrations/finegrained_fp8.py``. Activations are not quantised here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...checks import told
from ...errors import LoadError
from ..tensor_files import StoredTensors
from .scaled import FP8, scaled
from .weight import FLOATS, Found, Parts, Weight, modules

_SCALES = ("weight_scale_inv", "weight_scale")


def fp8(settings: Mapping[str, Any], files: StoredTensors) -> Found:
    """Weights of the modules that have a scale."""
    size = settings.get("weight_block_size")
    if size is not None and not (isinstance(size, list) and len(size) == 2 and all(_count(n) for n in size)):
        raise LoadError(f"weight_block_size is two counts, got {told(size)}")
    if settings.get("fmt", "e4m3") not in ("e4m3", "float8_e4m3fn"):
        raise LoadError(f"fp8 with fmt = {told(settings['fmt'])} is not supported ('e4m3' is)")
    found = Found()
    for scale in _SCALES:
        for module in modules(files, scale):
            parts = Parts(files, module, found)
            if f"{module}weight" in found.weights:
                raise parts.refuse(f"there are both {' and '.join(_SCALES)}")
            found.weights[f"{module}weight"] = _weight(parts, scale, None if size is None else (size[0], size[1]))
            parts.skip("activation_scale", "input_scale", "input_scale_ub", "k_scale", "v_scale")
    return found


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _weight(parts: Parts, scale: str, block: tuple[int, int] | None) -> Weight:
    weight = scaled(parts, "weight", scale, FP8, (*FLOATS, "F8_E8M0"), block if scale == _SCALES[0] else None)
    if (parts.scales(scale) < 0).any():
        raise parts.refuse(f"{scale} has negative values")
    return weight
