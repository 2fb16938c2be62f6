"""Tensors in safetensors files, single or sharded: which there are, and any part of one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from ..checks import told
from ..errors import LoadError
from .tensors import Tensor

# What parameters may be stored as.
DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
}
# What parts of quantised ones may be stored as, too.
_PARTS: dict[str, Any] = {
    "I8": np.int8,
    "U8": np.uint8,
    "I32": np.int32,
    "I64": np.int64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}

# Weights that other libraries write: pickles, TensorFlow's, Flax's.
_OTHER_FORMATS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


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


class StoredTensors(Protocol):
    """Tensors in files, by the names that a family's own files have.

    Attributes:
        place: where they are, for messages.
        entries: what there is of each.
        renamed: parameters of the decoder that are stored in another way than in the family's own files.
    """

    place: Path
    entries: dict[str, Any]
    renamed: Mapping[str, Tensor]

    def shape(self, name: str) -> tuple[int, ...]: ...

    def kind(self, name: str) -> str: ...

    def dtype(self, name: str) -> np.dtype: ...

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray: ...


class TensorFiles:
    """All tensors of a directory's safetensors files, by name, read one at a time.

    Raises:
        LoadError: there is no such file, one cannot be read, or the directory says two things: an index beside a
            file of all tensors, several files without an index, a tensor in two files or not where the index has it.
    """

    renamed: Mapping[str, Tensor] = MappingProxyType({})

    def __init__(self, directory: Path):
        self.place = directory
        self.entries: dict[str, Entry] = {}
        files, mapped = _files(directory)
        problems = []
        for file in files:
            for name, entry in _entries(directory / file).items():
                if name in self.entries:
                    problems.append(f"{name} is in {self.entries[name].path.name} and in {file}")
                elif mapped.get(name, file) != file:
                    problems.append(f"{name} is in {file}, and the index has it in {mapped[name]}")
                self.entries[name] = entry
        if problems:
            raise LoadError(f"{directory} says two things about its tensors:\n  " + "\n  ".join(problems))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entries[name].shape

    def kind(self, name: str) -> str:
        """The file's name of a tensor's dtype."""
        return self.entries[name].kind

    def dtype(self, name: str) -> np.dtype:
        """Dtype of a tensor, where it is one of ``DTYPES`` or of parts of quantised ones."""
        kind = self.kind(name)
        return np.dtype(DTYPES[kind] if kind in DTYPES else _PARTS[kind])

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Part of a tensor; nothing else of it is read, and no file stays mapped."""
        entry = self.entries[name]
        dtype = self.dtype(name)
        if not entry.shape:
            return np.fromfile(entry.path, dtype, 1, offset=entry.offset).reshape(())
        bounds = [s.indices(n)[:2] for s, n in zip(index, entry.shape, strict=True)]
        if all(pair == (0, n) for pair, n in zip(bounds[1:], entry.shape[1:], strict=True)):
            # One stretch of the file: read in one go, by which network drives too are fast.
            row, (start, stop) = math.prod(entry.shape[1:]) * dtype.itemsize, bounds[0]
            found = np.fromfile(entry.path, np.uint8, (stop - start) * row, offset=entry.offset + start * row)
            return found.view(dtype).reshape(stop - start, *entry.shape[1:])
        return np.array(np.memmap(entry.path, dtype, "r", entry.offset, entry.shape)[index])


def _files(directory: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the files that hold the tensors, and the file of each tensor by the index, if there is one."""
    index, whole = directory / "model.safetensors.index.json", "model.safetensors"
    there = sorted(path.name for path in directory.glob("*.safetensors"))
    shards = [name for name in there if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)]
    if index.is_file():
        try:
            content = json.loads(index.read_text(encoding="utf-8"))
            mapped = {str(name): str(file) for name, file in content["weight_map"].items()}
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise LoadError(f"{index} cannot be read: {type(error).__name__}: {error}") from error
        files = sorted(set(mapped.values()))
        for file in files:
            if "\0" in file or Path(file).is_absolute() or ".." in Path(file).parts:
                raise LoadError(f"{index} names {told(file)}, which is no file of {directory}")
        if whole in there and whole not in files:
            raise LoadError(
                f"{directory} has {whole}, and {index.name} for {', '.join(files)}: two sets of weights. "
                "Remove the one that is not meant"
            )
        return files, mapped
    if whole in there and shards:
        raise LoadError(
            f"{directory} has {whole}, and {', '.join(shards)} without an index: two sets of weights. "
            "Remove the one that is not meant"
        )
    if whole in there or len(there) == 1:
        return [whole] if whole in there else there, {}
    if there:
        raise LoadError(
            f"{directory} has {', '.join(there)} and no {index.name}, which would say what is in which. Where they are "
            f"several sets of weights, keep one, as {whole}"
        )
    others = sorted(path.name for path in directory.iterdir() if path.suffix in _OTHER_FORMATS)
    if others:
        raise LoadError(
            f"{directory} has no *.safetensors file; it has {', '.join(others)}, which is not read. Where PyTorch and "
            "transformers are installed: AutoModelForCausalLM.from_pretrained(directory).save_pretrained(another)"
        )
    raise LoadError(f"{directory} has no *.safetensors file")


def _entries(path: Path) -> dict[str, Entry]:
    """The tensors of one file."""
    if not path.is_file():
        raise LoadError(f"{path} cannot be read: it is not there, or is no file")
    try:
        # Checks the file.
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error
    return {
        name: Entry(path, found["dtype"], tuple(found["shape"]), 8 + size + found["data_offsets"][0])
        for name, found in header.items()
        if name != "__metadata__"
    }
