"""What a GGUF file says of its model, with a memory of what was read.

Metadata of the architecture that nobody reads must be known to change nothing, as in ``config_options``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..checks import told
from ..errors import LoadError

Shapes = Mapping[str, tuple[int, ...]]

# Changes nothing here: sizes that are stated twice, how the file was made, what llama.cpp does with memory.
_HARMLESS = (
    "vocab_size",
    "tensor_data_layout",
    "attention.value_length",
    "rope.dimension_count",
    "rope.scaling.finetuned",
    "embedding_length_out",
)


class Metadata:
    """Metadata of one architecture, which remember what was read.

    >>> m = Metadata({"llama.block_count": 2, "llama.pooling_type": 1}, "llama", {})
    >>> m("block_count"), m.unread()
    (2, ['pooling_type'])
    """

    def __init__(self, metadata: Mapping[str, Any], architecture: str, shapes: Shapes):
        self.architecture, self.shapes = architecture, shapes
        self._values = {
            key.removeprefix(f"{architecture}."): value
            for key, value in metadata.items()
            if key.startswith(f"{architecture}.")
        }
        self._read: set[str] = set()

    def __call__(self, key: str, default: Any = None) -> Any:
        """A value; one that is given by layer must be the same in all.

        Raises:
            LoadError: it is not there and has no default, or differs between layers.
        """
        self._read.add(key)
        value = self._values.get(key, default)
        if value is None:
            raise LoadError(f"its metadata have no {self.architecture}.{key}")
        if isinstance(value, list) and len(set(value)) == 1:
            return value[0]
        if isinstance(value, list):
            raise LoadError(f"{self.architecture}.{key} differs between layers, which is not supported: {told(value)}")
        return value

    def optional(self, key: str) -> Any:
        """A value, or None."""
        self._read.add(key)
        return self._values.get(key)

    def has(self, tensor: str) -> bool:
        """Is there such a tensor, under llama.cpp's name?"""
        return tensor in self.shapes

    @property
    def head_dim(self) -> int:
        """Dimensions of a head, of keys as of values."""
        size = self.optional("attention.key_length") or self("embedding_length") // self("attention.head_count")
        values = self.optional("attention.value_length")
        if values not in (None, size):
            raise LoadError(f"keys have {size} dimensions and values {values}, which is not supported")
        return int(size)

    def unread(self) -> list[str]:
        """What no row of this table reads, and may matter."""
        known = self._read | {*_HARMLESS, "attention.causal"}
        return [k for k, v in self._values.items() if k not in known and v not in (0, False, 0.0)]
