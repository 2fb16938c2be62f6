"""A GGUF file: metadata and tensors, quantised or not, in one file, as llama.cpp reads it.

The format is `docs/gguf.md` of the ggml project. The header is read here, with every length checked against the file,
so that a damaged or hostile one ends in an error and not in a loop; blocks of quantised numbers are undone by the
project's own package (extra ``gguf``).
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ..checks import told
from ..errors import LoadError

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_AXES = 4
_ALIGNMENT = 32
# Numbers of the format's value types; 8 is a text and 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
# Types of tensors that are no blocks.
_PLAIN: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
}


@dataclass(frozen=True)
class Block:
    """A tensor in the file.

    Attributes:
        kind: name of its type, such as ``"F32"`` or ``"Q4_K"``.
        shape: its shape, rows first, as NumPy has it.
        offset: of its first byte in the file.
        row: bytes of a row.
    """

    kind: str
    shape: tuple[int, ...]
    offset: int
    row: int


def is_gguf(path: Path) -> bool:
    """Is this a file that begins, or is named, as GGUF files do?"""
    if path.suffix.lower() == ".gguf":
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == MAGIC
    except OSError:
        return False


class GGUFFile:
    """Metadata and tensors of a file; tensors are read part by part.

    Args:
        path: the file.

    Attributes:
        metadata: key -> number, text, or list of them.
        tensors: name -> ``Block``.

    Raises:
        LoadError: the package ``gguf`` is missing; the file cannot be read, is cut or damaged, is of another version
            or byte order, or has a tensor of an unknown type.
    """

    def __init__(self, path: Path):
        self.path = path
        sizes = _block_sizes()
        try:
            # Not what would block: a pipe.
            if not path.is_file():
                raise LoadError(f"{path} cannot be read: it is not there, or is no file")
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                header = _Header(content)
                self.metadata, self.tensors = header.metadata, header.tensors(sizes)
        except (OSError, ValueError, struct.error, UnicodeDecodeError) as error:
            raise LoadError(f"{path} cannot be read as GGUF: {error}") from error

    def dtype(self, name: str) -> np.dtype:
        """What ``read`` gives of a tensor: its own dtype, or float32 where it is quantised."""
        return np.dtype(_PLAIN.get(self.tensors[name].kind, np.float32))

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a tensor (elements, of one with one axis); nothing else of it is read."""
        block = self.tensors[name]
        # One axis: a row of one element, where it is not quantised; the blocks of a quantised one are read whole.
        if len(block.shape) == 1 and block.kind not in _PLAIN:
            found = np.fromfile(self.path, np.uint8, block.row, offset=block.offset)
            return _dequantised(found, block.kind)[start:stop]
        row = block.row if len(block.shape) > 1 else self.dtype(name).itemsize
        inner = math.prod(block.shape[1:-1])
        found = np.fromfile(
            self.path, np.uint8, (stop - start) * inner * row, offset=block.offset + start * inner * row
        )
        shape = (stop - start, *block.shape[1:])
        if block.kind in _PLAIN:
            return found.view(self.dtype(name)).reshape(shape)
        return _dequantised(found.reshape(-1, row), block.kind).reshape(shape)


def _block_sizes() -> dict[int, tuple[str, int, int]]:
    """Number of a type -> its name, its elements a block and its bytes a block."""
    try:
        from gguf import GGML_QUANT_SIZES
    except ImportError as error:
        raise LoadError("GGUF files are read with the package gguf: pip install gguf") from error
    return {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}


def _dequantised(blocks: np.ndarray, kind: str) -> np.ndarray:
    """Float32 numbers of blocks ``[..., bytes]``, by the ggml project's package."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    try:
        # (A damaged scale is not finite; the check of scores finds what comes of it.)
        with np.errstate(all="ignore"):
            return np.asarray(dequantize(blocks, GGMLQuantizationType[kind]), np.float32)
    except NotImplementedError as error:
        raise LoadError(f"numbers of type {kind} cannot be read: {error}") from error


class _Header:
    """What stands before the tensors, read from the beginning on.

    Every method raises ValueError, or what ``struct`` raises at the end of the file.
    """

    def __init__(self, content: mmap.mmap):
        self.content, self.at = content, 0
        if content[:4] != MAGIC:
            raise ValueError("it does not begin with GGUF")
        self.at = 4
        version = self._number("I")
        if version not in _VERSIONS:
            swapped = int.from_bytes(struct.pack(">I", version), "little")
            why = ", in the other byte order" if swapped in _VERSIONS else ""
            raise ValueError(f"version {version}{why} is not read (known: {', '.join(map(str, _VERSIONS))})")
        # The shortest entries there are bound the counts, so that no loop is longer than the file.
        self.tensor_count, self.key_count = self._count(24), self._count(13)
        self.metadata = self._metadata()

    def _number(self, code: str) -> Any:
        value = struct.unpack_from("<" + code, self.content, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return value

    def _count(self, least: int) -> int:
        """A count of things of which each takes at least so many bytes."""
        count = self._number("Q")
        if count * least > len(self.content) - self.at:
            raise ValueError(f"it is cut, or damaged: it says that {count} more entries follow byte {self.at}")
        return count

    def _text(self) -> str:
        length = self._count(1)
        self.at += length
        return self.content[self.at - length : self.at].decode("utf-8")

    def _metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(self.key_count):
            key = self._text()
            if key in found:
                raise ValueError(f"{told(key)} stands in it twice")
            found[key] = self._value(self._number("I"))
        return found

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind in _SCALARS:
            return _shortest(self._number(_SCALARS[kind]), kind)
        if kind != _ARRAY:
            raise ValueError(f"a value has the unknown type {kind}")
        inner = self._number("I")
        if inner == _TEXT:
            return [self._text() for _ in range(self._count(8))]
        if inner not in _SCALARS:
            raise ValueError(f"a list has elements of type {inner}, which is not known")
        code = _SCALARS[inner]
        size = struct.calcsize("<" + code)
        count = self._count(size)
        values = struct.unpack_from(f"<{count}{code}", self.content, self.at)
        self.at += count * size
        return [_shortest(value, inner) for value in values]

    def tensors(self, sizes: dict[int, tuple[str, int, int]]) -> dict[str, Block]:
        """What tensors there are."""
        found: dict[str, tuple[str, tuple[int, ...], int, int, int]] = {}
        for _ in range(self.tensor_count):
            name = self._text()
            axes = self._number("I")
            if not 1 <= axes <= _MOST_AXES:
                raise ValueError(f"tensor {told(name)} has {axes} axes")
            shape = tuple(self._number("Q") for _ in range(axes))[::-1]
            kind, offset = self._number("I"), self._number("Q")
            if kind not in sizes:
                raise ValueError(
                    f"tensor {told(name)} has the type number {kind}, which the package gguf does not know"
                )
            label, elements, size = sizes[kind]
            if min(shape) < 1 or shape[-1] % elements:
                raise ValueError(f"tensor {told(name)} of type {label} has the shape {shape}")
            if name in found:
                raise ValueError(f"tensor {told(name)} stands in it twice")
            row = shape[-1] // elements * size
            found[name] = label, shape, offset, row, row * math.prod(shape[:-1])
        start = self._aligned()
        for name, (*_, offset, _row, length) in found.items():
            if start + offset + length > len(self.content):
                raise ValueError(f"it is cut: tensor {told(name)} goes beyond its end")
        return {name: Block(kind, shape, start + offset, row) for name, (kind, shape, offset, row, _) in found.items()}

    def _aligned(self) -> int:
        """Where the tensors begin."""
        alignment = self.metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"general.alignment is a power of two, got {told(alignment)}")
        return -(-self.at // alignment) * alignment


def _shortest(value: Any, kind: int) -> Any:
    """A float32 as the shortest decimal number that rounds to it: 1e-06, not 9.999999974752427e-07."""
    return float(str(np.float32(value))) if _SCALARS[kind] == "f" else value
