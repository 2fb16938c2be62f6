"""Formats of quantised weights by the name that ``quantization_config`` has for them, and a directory that has one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...checks import told
from ...errors import LoadError
from ..sound_config import read_json
from ..tensor_files import StoredTensors, TensorFiles
from .awq import awq
from .bitsandbytes import bitsandbytes
from .compressed import compressed
from .fp8 import fp8
from .gptq import gptq
from .mxfp4 import mxfp4
from .weight import Format, Found

# quant_method -> what reads it.
FORMATS: dict[str, Format] = {
    "fp8": fp8,
    "fbgemm_fp8": fp8,
    "mxfp4": mxfp4,
    "gptq": gptq,
    "awq": awq,
    "compressed-tensors": compressed,
    "bitsandbytes": bitsandbytes,
}
# Where a configuration says it: the second is an older name.
_OPTIONS = ("quantization_config", "compression_config")


def settings_of(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a ``config.json`` says of quantised weights; None: nothing.

    Raises:
        LoadError: a method that is not read; the message names it, and those that are.

    >>> settings_of({"model_type": "llama"})
    """
    inside = content.get("text_config")
    said = [c[name] for c in (content, inside) if isinstance(c, dict) for name in _OPTIONS if c.get(name)]
    if not said:
        return None
    settings = said[0]
    if any(other != settings for other in said):
        raise LoadError("it says two things about how its weights are quantised")
    known = ", ".join(FORMATS)
    if not isinstance(settings, dict):
        raise LoadError(f"quantization_config is not supported: {told(settings)} (quant_method is read of: {known})")
    method = settings.get("quant_method")
    if not isinstance(method, str) or method not in FORMATS:
        raise LoadError(f"quantization_config: quant_method {told(method)} is not supported (read are: {known})")
    return settings


def without_settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the same model with weights that are not quantised."""
    kept = {name: value for name, value in content.items() if name not in _OPTIONS}
    if isinstance(kept.get("text_config"), dict):
        kept["text_config"] = without_settings(kept["text_config"])
    return kept


class QuantisedTensors:
    """A directory's tensors, of which some are made of several; it has the methods of ``tensor_files.TensorFiles``.

    Args:
        files: what is stored.
        found: what a format found in it.

    Raises:
        LoadError: a weight is stored both quantised and not.
    """

    def __init__(self, files: StoredTensors, found: Found):
        self.place, self.renamed, self._files, self._weights = files.place, files.renamed, files, found.weights
        twice = sorted(name for name in found.weights if name in files.entries and name not in found.used)
        if twice:
            raise LoadError(f"{files.place} says two things about its tensors: {', '.join(twice)}: quantised, and not")
        self.entries: dict[str, Any] = {name: e for name, e in files.entries.items() if name not in found.used}
        self.entries |= found.weights

    def shape(self, name: str) -> tuple[int, ...]:
        return self._weights[name].shape if name in self._weights else self._files.shape(name)

    def kind(self, name: str) -> str:
        """Name of a tensor's dtype, after quantisation is undone."""
        return "F32" if name in self._weights else self._files.kind(name)

    def dtype(self, name: str) -> np.dtype:
        return np.dtype(np.float32) if name in self._weights else self._files.dtype(name)

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Part of a tensor; of what is packed, whole words are read."""
        if name not in self._weights:
            return self._files.read(name, index)
        weight = self._weights[name]
        pairs = [s.indices(n)[:2] for s, n in zip(index, weight.shape, strict=True)]
        return weight.read(tuple((start, max(start, stop)) for start, stop in pairs))


def directory_tensors(directory: Path) -> StoredTensors:
    """The tensors of a directory, whose ``config.json`` says how they are quantised.

    Raises:
        LoadError: they cannot be read; see ``TensorFiles`` and ``settings_of``.
    """
    files, config = TensorFiles(directory), directory / "config.json"
    settings = settings_of(read_json(config)) if config.is_file() else None
    if settings is None:
        return files
    try:
        found = FORMATS[settings["quant_method"]](settings, files)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise LoadError(f"{config}: quantization_config cannot be used: {type(error).__name__}: {error}") from error
    except LoadError as error:
        where = "" if str(directory) in str(error) else f"{config}: "
        raise LoadError(f"{where}{error}") from error.__cause__
    if not found.weights:
        raise LoadError(f"{config} says that weights are quantised ({settings['quant_method']}), and none of them is")
    return QuantisedTensors(files, found)
