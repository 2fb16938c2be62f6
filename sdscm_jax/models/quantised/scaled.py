"""Numbers of eight bits with a scale for the whole weight, for each output, group of inputs, or block of both."""

from __future__ import annotations

import numpy as np

from .weight import Bounds, Parts, Weight

FP8 = ("F8_E4M3", "F8_E5M2")


def scaled(
    parts: Parts,
    part: str,
    scale: str,
    kinds: tuple[str, ...],
    scale_kinds: tuple[str, ...],
    block: tuple[int, int] | None = None,
    zero: str | None = None,
    divisor: float = 1.0,
) -> Weight:
    """The weight ``(value - zero) * scale / divisor``.

    Args:
        parts: tensors of the module.
        part, scale: names of the values and of their scales.
        kinds, scale_kinds: what dtypes they may have.
        block: of how many outputs and inputs each scale is; None: by the shape of the scales, which is that of a
            number, of outputs, or of outputs and equal groups of inputs.
        zero: name of the zeros, which have the scales' shape; None: there are none.
        divisor: see above.

    Raises:
        LoadError: the shapes do not fit together, or a scale is not finite.
    """
    shape, found = parts.shape(part, kinds), parts.shape(scale, scale_kinds)
    if len(shape) != 2 or not all(shape):
        raise parts.refuse(f"{part} has shape {shape}, expected two axes")
    outputs, inputs = shape
    if block is not None:
        grid = -(-outputs // block[0]), -(-inputs // block[1])
        if found != grid:
            raise parts.refuse(f"{scale} has shape {found}, expected {grid} for blocks of {block[0]} by {block[1]}")
    elif found in ((), (1,), (1, 1)):
        grid, block = (1, 1), shape
    elif found in ((outputs,), (outputs, 1)):
        grid, block = (outputs, 1), (1, inputs)
    elif len(found) == 2 and found[0] == outputs and found[1] and inputs % found[1] == 0:
        grid, block = (outputs, found[1]), (1, inputs // found[1])
    else:
        raise parts.refuse(f"{scale} has shape {found}, which is of no scales of {shape}")
    if zero is not None and parts.shape(zero, ("I8", "U8", "I32")) != found:
        raise parts.refuse(f"{zero} has another shape than {scale}, {found}")
    factors = parts.scales(scale).reshape(grid) / np.float32(divisor)
    zeros = None if zero is None else parts.read(zero).reshape(grid).astype(np.float32)

    def read(bounds: Bounds) -> np.ndarray:
        rows, columns = (np.arange(*pair) // size for pair, size in zip(bounds, block, strict=True))
        values = parts.read(part, *bounds).astype(np.float32)
        if not np.isfinite(values).all():
            raise parts.refuse(f"{part} has values that are not finite")
        if zeros is not None:
            values = values - zeros[np.ix_(rows, columns)]
        return values * factors[np.ix_(rows, columns)]

    return Weight((outputs, inputs), read)
