"""Tensors in safetensors files, single or sharded: which there are, and any part of one."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import LoadError

# What parameters may be stored as.
DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
}


@dataclass(frozen=True)
class Entry:
    """Where a tensor is.

    Attributes:
        path: its file.
        kind: the file's name of its dtype.
        shape: its shape.
        offset: of its first byte in the file.
    """

    path: Path
    kind: str
    shape: tuple[int, ...]
    offset: int


class TensorFiles:
    """All tensors of a directory's safetensors files, by name, read one at a time.

    Raises:
        LoadError: there is no such file, or one cannot be read.
    """

    def __init__(self, directory: Path):
        index = directory / "model.safetensors.index.json"
        if index.is_file():
            try:
                files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise LoadError(f"{index} cannot be read: {type(error).__name__}: {error}") from error
        elif (directory / "model.safetensors").is_file():
            files = ["model.safetensors"]
        else:
            files = sorted(p.name for p in directory.glob("*.safetensors"))
        if not files:
            raise LoadError(f"{directory} has no *.safetensors file")
        self.directory = directory
        self.entries: dict[str, Entry] = {}
        for name in files:
            self.entries |= _entries(directory / name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entries[name].shape

    def kind(self, name: str) -> str:
        """The file's name of a tensor's dtype."""
        return self.entries[name].kind

    def dtype(self, name: str) -> np.dtype:
        """Dtype of a tensor, where it is one of ``DTYPES``."""
        return np.dtype(DTYPES[self.kind(name)])

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Part of a tensor; nothing else of it is read, and no file stays mapped."""
        entry = self.entries[name]
        dtype = self.dtype(name)
        bounds = [s.indices(n)[:2] for s, n in zip(index, entry.shape, strict=True)]
        if all(pair == (0, n) for pair, n in zip(bounds[1:], entry.shape[1:], strict=True)):
            # One stretch of the file: read in one go, by which network drives too are fast.
            row, (start, stop) = math.prod(entry.shape[1:]) * dtype.itemsize, bounds[0]
            found = np.fromfile(entry.path, np.uint8, (stop - start) * row, offset=entry.offset + start * row)
            return found.view(dtype).reshape(stop - start, *entry.shape[1:])
        return np.array(np.memmap(entry.path, dtype, "r", entry.offset, entry.shape)[index])


def _entries(path: Path) -> dict[str, Entry]:
    """The tensors of one file."""
    try:
        # Checks the file.
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
    except (OSError, SafetensorError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error
    return {
        name: Entry(path, found["dtype"], tuple(found["shape"]), 8 + size + found["data_offsets"][0])
        for name, found in header.items()
        if name != "__metadata__"
    }
