"""AWQ: integers of four bits with a scale and a zero for each output and group of inputs.

The layout is AutoAWQ's for matrix products, ``version: gemm`` (Lin et al. 2023, arXiv 2306.00978;
``awq/modules/linear/gemm.py``): integers and zeros are packed along the outputs, eight to a word in the order 0, 2, 4,
6, 1, 3, 5, 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...checks import told
from ...errors import LoadError
from ..tensor_files import StoredTensors
from .weight import FLOATS, WORD, Bounds, Found, Parts, Weight, integer, modules, some, unpacked

_BITS = 4
_EACH = WORD // _BITS
# Place in a word of each of its outputs.
_PLACE = np.argsort([0, 2, 4, 6, 1, 3, 5, 7])


def awq(settings: Mapping[str, Any], files: StoredTensors) -> Found:
    """Weights of the modules that have a ``qweight``."""
    bits = integer(settings, "bits" if "bits" in settings else "w_bit", _BITS)
    version = str(settings.get("version") or settings.get("format") or "gemm").lower()
    if bits != _BITS or version != "gemm" or settings.get("zero_point", True) is not True:
        what = f"{bits} bits, version {told(version)}, zero_point = {told(settings.get('zero_point', True))}"
        raise LoadError(f"awq with {what} is not supported (4 bits, version 'gemm' and zero_point = True are)")
    found = Found()
    for module in modules(files, "qweight"):
        found.weights[f"{module}weight"] = _weight(Parts(files, module, found))
    return found


def _weight(parts: Parts) -> Weight:
    shapes = [parts.shape(part, ("I32",)) for part in ("qweight", "qzeros")] + [parts.shape("scales", FLOATS)]
    if any(len(shape) != 2 for shape in shapes):
        raise parts.refuse(f"qweight, qzeros and scales have shapes {shapes}, expected two axes each")
    (inputs, words), zeros_shape, (groups, outputs) = shapes
    if outputs != words * _EACH or zeros_shape != (groups, words) or not groups or inputs % groups:
        raise parts.refuse(f"qweight, qzeros and scales have shapes {shapes}, which are of no one weight")
    size = inputs // groups

    def integers(part: str, first: tuple[int, int], rows: tuple[int, int]) -> np.ndarray:
        def words_of(at: tuple[int, int]) -> np.ndarray:
            values = unpacked(parts.read(part, first, at), _BITS, 1)
            return values.reshape(-1, _EACH)[:, _PLACE].reshape(values.shape)

        return some(words_of, rows, _EACH, 1)

    def read(bounds: Bounds) -> np.ndarray:
        rows, columns = bounds
        of = np.arange(*columns) // size
        values = integers("qweight", columns, rows).astype(np.float32)
        factors = parts.scales("scales", (0, groups), rows)
        return np.ascontiguousarray(((values - integers("qzeros", (0, groups), rows)[of]) * factors[of]).T)

    return Weight((outputs, inputs), read)
