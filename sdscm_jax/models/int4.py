"""Weight-only int4: kernels of the layers as integers of four bits, with a scale for each group of inputs of an output.

Round to nearest, with the scale that makes the largest weight of a group 7 (group-wise absmax, as in Dettmers and
Zettlemoyer 2023, arXiv 2212.09720, section 2). A group is 32 inputs that follow one another, its scale a bfloat16: 4.5
bits for a weight. Two integers share a byte; inputs that are no whole number of groups are filled up with zeros. What
that costs in scores is measured in ``benchmarks/results/int8.md``, beside int8.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from .int8 import Int8Linear

# Inputs of a group, and the largest integer.
GROUP = 32
_LARGEST = 7
# A group whose weights are all smaller has none: the inverse of its scale would overflow.
_NOTHING = np.float32(1e-30)


class Int4Linear(Int8Linear):
    """``x @ kernel + bias``, and a change of low rank where there is one; see ``Int8Linear``.

    Attributes:
        kernel: uint8 ``[groups * 16, outputs]``, see ``packed``.
        scale: bfloat16 ``[groups, outputs]``.

    >>> from flax import nnx
    >>> layer = Int4Linear(40, 2, False, 0, jnp.float32, None, nnx.Rngs(0))
    >>> layer.kernel.shape, layer.scale.shape, layer(jnp.ones(40)).shape
    ((32, 2), (2, 2), (2,))
    """

    def _round(self, values: Array) -> tuple[Array, Array]:
        scale, inverse = scales(largest(values))
        return packed(values, inverse), scale

    def _main(self, x: Array) -> Array:
        return self._product(x, unpacked(self.kernel[...], self.scale[...], x.shape[-1]).astype(x.dtype))


def _grouped(kernel: Array) -> Array:
    """``[..., groups, 32, outputs]`` of ``[..., inputs, outputs]``, float32, with zeros at the end."""
    inputs, outputs = kernel.shape[-2:]
    missing = -inputs % GROUP
    kernel = jnp.pad(kernel.astype(jnp.float32), [*[(0, 0)] * (kernel.ndim - 2), (0, missing), (0, 0)])
    return kernel.reshape(*kernel.shape[:-2], -1, GROUP, outputs)


def largest(kernel: Array) -> Array:
    """The largest absolute weight of each group: float32 ``[..., groups, outputs]`` of ``[..., inputs, outputs]``."""
    return jnp.abs(_grouped(kernel)).max(-2)


def scales(largest: Any) -> tuple[Any, Any]:
    """The bfloat16 scale of each group, and what its weights are multiplied by before they are rounded (float32).

    Args:
        largest: float32 ``[..., groups, outputs]``; NumPy's stay so, whose divisions are the same on every machine.

    >>> scale, inverse = scales(np.array([3.5, 0.0], np.float32))
    >>> scale.tolist(), inverse.tolist()
    ([0.5, 1.0], [2.0, 1.0])
    """
    array = np if isinstance(largest, np.ndarray) else jnp
    some = largest > _NOTHING
    scale = array.where(some, largest / np.float32(_LARGEST), np.float32(1)).astype(jnp.bfloat16)
    return scale, np.float32(1) / scale.astype(np.float32)


def packed(kernel: Array, inverse: Any) -> Array:
    """A kernel as integers: uint8 ``[..., groups * 16, outputs]``, a group's first 16 inputs in the lower bits.

    Args:
        kernel: ``[..., inputs, outputs]``.
        inverse: of ``scales``, ``[..., groups, outputs]``.

    >>> kernel = jnp.zeros((32, 1)).at[0].set(3.0).at[16].set(-7.0)
    >>> packed(kernel, scales(largest(kernel))[1])[:2, 0].tolist()  # 3 + 8 and (-7 + 8) * 16; 8 + 8 * 16
    [27, 136]
    """
    integers = jnp.rint(_grouped(kernel) * inverse[..., None, :])
    # (The scale is rounded: the largest weight may be a little more than 7 of it.)
    integers = (jnp.clip(integers, -_LARGEST, _LARGEST) + 8).astype(jnp.uint8)
    low, high = integers[..., : GROUP // 2, :], integers[..., GROUP // 2 :, :]
    both = low | (high << 4)
    return both.reshape(*both.shape[:-3], -1, both.shape[-1])


def unpacked(kernel: Array, scale: Array, inputs: int) -> Array:
    """The kernel that integers stand for: float32 ``[..., inputs, outputs]``.

    Args:
        kernel, scale: of ``packed`` and ``scales``.
        inputs: how many there are, without what they were filled up with.
    """
    both = kernel.reshape(*kernel.shape[:-2], -1, GROUP // 2, kernel.shape[-1])
    integers = jnp.concatenate([both & 15, both >> 4], -2).astype(jnp.float32) - 8
    values = integers * scale.astype(jnp.float32)[..., None, :]
    return values.reshape(*kernel.shape[:-2], -1, kernel.shape[-1])[..., :inputs, :]
