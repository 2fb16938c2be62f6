"""Weight-only int8: kernels of the layers as integers, with a scale for each output.

Round to nearest, with the scale that makes the largest weight of an output 127 (absmax by output channel: ``LLM.int8``
without its outliers, Dettmers et al. 2022, arXiv 2208.07339). Activations, norms, biases, embeddings and the head keep
their dtype. The layers take a quarter of float32's memory and half of bfloat16's; what that costs in scores is measured
in ``benchmarks/results/int8.md``.

What is not known here is refused: int8 weights cannot be trained or saved. ``SoftPrompt`` and ``LowRank`` can be: the
latter is added to what a layer gives (Dettmers et al. 2023, QLoRA, arXiv 2305.14314).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from ..errors import SDSCMError

INT8 = "int8"
INT4 = "int4"
# What ``load_lm(weights=…)`` knows.
KNOWN = (None, INT8, INT4)
# Dtype of such kernels -> what they are called; integers of four bits are two in a byte.
ROUNDED = {np.dtype(np.int8): INT8, np.dtype(np.uint8): INT4}

_LARGEST = 127
# An output whose weights are all smaller has none: the inverse of its scale would overflow.
_NOTHING = np.float32(1e-30)


class Int8Linear(nnx.Module):
    """``x @ (kernel * scale) + bias`` with an int8 kernel, and a change of low rank where there is one.

    Args:
        inputs, outputs: sizes.
        bias: is there one?
        rank: of the change; 0: there is none.
        dtype: of bias and change.
        precision: of products.
        rngs: randomness of the weights.

    Attributes:
        kernel: int8 ``[inputs, outputs]``.
        scale: float32 ``[outputs]``.
        bias: ``[outputs]``, or None.
        a, b: ``[inputs, rank]`` and ``[rank, outputs]``: ``x @ a @ b`` is added.

    >>> layer = Int8Linear(3, 2, False, 0, jnp.float32, None, nnx.Rngs(0))
    >>> layer.kernel.dtype, layer(jnp.ones(3)).dtype
    (dtype('int8'), dtype('float32'))
    """

    def __init__(self, inputs: int, outputs: int, bias: bool, rank: int, dtype: Any, precision: Any, rngs: nnx.Rngs):
        values = nnx.initializers.normal(0.02)(rngs.params(), (inputs, outputs), jnp.float32)
        self.kernel, self.scale = map(nnx.Param, self._round(values))
        self.bias = nnx.Param(jnp.zeros(outputs, dtype)) if bias else None
        self.a = nnx.Param(jnp.zeros((inputs, rank), dtype)) if rank else None
        self.b = nnx.Param(jnp.zeros((rank, outputs), dtype)) if rank else None
        self.precision = precision

    def __call__(self, x: Array) -> Array:
        """Outputs ``[..., outputs]`` in the dtype of ``x`` ``[..., inputs]``."""
        y = self._main(x)
        if self.a is not None and self.b is not None:
            y = y + self._product(self._product(x, self.a[...]).astype(x.dtype), self.b[...])
        y = y.astype(x.dtype)
        return y if self.bias is None else y + self.bias[...]

    def _round(self, values: Array) -> tuple[Array, Array]:
        scale, inverse = scales(largest(values))
        return rounded(values, inverse), scale

    def _main(self, x: Array) -> Array:
        # Integers up to 127 are exact in bfloat16 too; sums are float32 and rounded once.
        return self._product(x, self.kernel[...].astype(x.dtype)) * self.scale[...]

    def _product(self, x: Array, kernel: Array) -> Array:
        return jnp.matmul(x, kernel, precision=self.precision, preferred_element_type=jnp.float32)


def largest(kernel: Array) -> Array:
    """The largest absolute weight of each output: float32 ``[..., outputs]`` of ``[..., inputs, outputs]``."""
    return jnp.abs(kernel.astype(jnp.float32)).max(-2)


def scales(largest: Any) -> tuple[Any, Any]:
    """The scale of each output, and what its weights are multiplied by before they are rounded.

    Args:
        largest: float32 ``[..., outputs]``; NumPy's stay so, whose divisions are the same on every machine.

    >>> scale, inverse = scales(np.array([1.27, 0.0], np.float32))
    >>> scale.round(5).tolist(), inverse.round(2).tolist()
    ([0.009999999776482582, 1.0], [100.0, 1.0])
    """
    array = np if isinstance(largest, np.ndarray) else jnp
    some = largest > _NOTHING
    safe = array.where(some, largest, np.float32(1))
    return array.where(some, safe / _LARGEST, np.float32(1)), array.where(some, _LARGEST / safe, np.float32(1))


def rounded(kernel: Array, inverse: Any) -> Array:
    """A kernel as integers: int8 ``[..., inputs, outputs]``.

    Args:
        kernel: ``[..., inputs, outputs]``.
        inverse: of ``scales``, ``[..., outputs]``.

    >>> kernel = jnp.array([[0.5, 1.27], [-1.0, 0.0]])
    >>> rounded(kernel, scales(largest(kernel))[1]).tolist()
    [[64, 127], [-127, 0]]
    """
    return jnp.rint(kernel.astype(jnp.float32) * inverse[..., None, :]).astype(jnp.int8)


def numbers(leaf: Any) -> int:
    """How many numbers an array of parameters holds.

    >>> numbers(jnp.zeros((16, 2), jnp.uint8)), numbers(jnp.zeros((16, 2)))
    (64, 32)
    """
    dtype: Any = getattr(leaf, "dtype", None)
    return int(getattr(leaf, "size", 0)) * (2 if ROUNDED.get(dtype) == INT4 else 1)


def rounded_as(params: Any) -> str | None:
    """``"int8"`` or ``"int4"`` where there are such weights among parameters."""
    return next((ROUNDED[leaf.dtype] for leaf in jax.tree.leaves(params) if leaf.dtype in ROUNDED), None)


def refuse_rounded(params: Any, what: str) -> None:
    """Say that something needs other weights.

    Args:
        params: of a language model.
        what: the subject of the sentence.

    Raises:
        SDSCMError: there are weights that are integers.
    """
    if kind := rounded_as(params):
        raise SDSCMError(
            f"{what} needs weights that are floating-point numbers, and this language model has {kind} weights: load "
            f"it without weights={kind!r}, or fit a LowRank or SoftPrompt adapter, which leaves them as they are"
        )
