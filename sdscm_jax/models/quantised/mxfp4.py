"""MXFP4: numbers of four bits, 32 of which share a power of two, as gpt-oss has its experts.

The Open Compute Project's MX specification 1.0 (2023), sections 5.2 and 5.3.3: e2m1 numbers, e8m0 scales. The
layout is that of gpt-oss: blocks ``[experts, outputs, inputs / 32, 16]``, of which each byte has two inputs, the lower
bits first; what it stands for is ``[experts, inputs, outputs]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..tensor_files import StoredTensors
from .weight import Bounds, Found, Parts, Weight, some

_BLOCK = 32
_POSITIVE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1 = np.array([*_POSITIVE, *(-x for x in _POSITIVE)], np.float32)
_BIAS, _NOT_A_NUMBER = 127, 255


def mxfp4(settings: Mapping[str, Any], files: StoredTensors) -> Found:
    """Weights that are stored as blocks and scales."""
    found = Found()
    for name in sorted(files.entries):
        if name.endswith("_blocks"):
            found.weights[name.removesuffix("_blocks")] = _weight(Parts(files, name.removesuffix("blocks"), found))
    return found


def _weight(parts: Parts) -> Weight:
    shape, scales = parts.shape("blocks", ("U8",)), parts.shape("scales", ("U8",))
    if len(shape) != 4 or shape[-1] * 2 != _BLOCK or scales != shape[:-1]:
        raise parts.refuse(f"blocks and scales have shapes {shape} and {scales}, which are of no one weight")
    experts, outputs, groups, _ = shape

    def read(bounds: Bounds) -> np.ndarray:
        own, columns, rows = bounds

        def whole(at: tuple[int, int]) -> np.ndarray:
            packed, exponents = (
                parts.read("blocks", own, rows, at, (0, _BLOCK // 2)),
                parts.read("scales", own, rows, at),
            )
            if (exponents == _NOT_A_NUMBER).any():
                raise parts.refuse("scales has values that are not finite")
            values = E2M1[np.stack([packed & 15, packed >> 4], -1)].reshape(*exponents.shape, _BLOCK)
            values = np.ldexp(values, exponents.astype(np.int32)[..., None] - _BIAS)
            return np.swapaxes(values.reshape(*exponents.shape[:2], -1), 1, 2)

        return some(whole, columns, _BLOCK, 1)

    return Weight((experts, groups * _BLOCK, outputs), read)
