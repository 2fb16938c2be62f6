"""Between checkpoint files (``config.json`` + safetensors, single or sharded) and parameters.

Torch is never imported: tensors are read by ``safetensors`` straight into arrays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes  # noqa: F401  safetensors reads bfloat16 only once numpy knows the dtype
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers import AutoConfig

from ..errors import LoadError
from .config import DecoderConfig
from .decoder import Decoder
from .families import FAMILIES, Family, Tensor, read_config

_STACKED = "blocks."


def abstract_decoder(config: DecoderConfig, dtype: Any) -> tuple[nnx.GraphDef, nnx.State]:
    """Structure and shapes of a decoder, without allocating it."""
    graph, state = nnx.split(nnx.eval_shape(lambda: Decoder(config, dtype, nnx.Rngs(0))), nnx.Param, ...)[:2]
    return graph, state


def parameter_paths(state: nnx.State) -> dict[str, jax.ShapeDtypeStruct]:
    """Dotted path -> array (or shape) of every parameter."""
    return {".".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}


def read_directory_config(directory: Path) -> DecoderConfig:
    """Switches from a directory's ``config.json``.

    Raises:
        LoadError: the directory or the file is missing, unreadable or of an unsupported family.
    """
    if not directory.is_dir():
        raise LoadError(f"{directory} is not a directory")
    if not (directory / "config.json").is_file():
        raise LoadError(f"{directory} has no config.json")
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # transformers raises many kinds here
        raise LoadError(f"{directory}/config.json cannot be read: {error}") from error
    return read_config(config)


class TensorFiles:
    """All tensors of a directory's safetensors files, by name, read one at a time."""

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
        self.sources: dict[str, Any] = {}
        for name in files:
            try:
                handle = safe_open(directory / name, framework="numpy")
            except (OSError, SafetensorError) as error:
                raise LoadError(f"{directory / name} cannot be read: {error}") from error
            self.sources.update(dict.fromkeys(handle.keys(), handle))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.sources[name].get_slice(name).get_shape())

    def read(self, name: str) -> np.ndarray:
        return self.sources[name].get_tensor(name)


def load_parameters(directory: Path, config: DecoderConfig, dtype: Any) -> nnx.State:
    """Parameters of a decoder from a directory's safetensors.

    Raises:
        LoadError: lists every missing, mis-shaped and unexpected tensor.
    """
    files = TensorFiles(directory)
    family = FAMILIES[config.family]
    _, state = abstract_decoder(config, dtype)
    wanted = parameter_paths(state)
    problems: list[str] = []
    used: set[str] = set()
    filled: dict[str, jax.Array] = {}

    def stored_name(source: str) -> str | None:
        return next((p + source for p in (*family.prefixes, "") if p + source in files.sources), None)

    for path, target in wanted.items():
        tensor: Tensor = family.tensors[path]
        stacked = path.startswith(_STACKED)
        layers = range(config.layers) if stacked else range(1)
        shape = target.shape[1:] if stacked else target.shape
        parts: list[np.ndarray] = []
        for i in layers:
            source = tensor.source.format(i=i)
            name = stored_name(source)
            if name is None:
                problems.append(f"missing {usual_name(family, tensor, i)} (for {path}, shape {shape})")
                continue
            used.add(name)
            stored = files.shape(name)
            expected = _stored_shape(tensor, shape)
            if stored != expected:
                problems.append(f"{name} has shape {stored}, expected {expected}")
                continue
            parts.append(tensor.convert(files.read(name)))
        if len(parts) == len(layers):
            filled[path] = jnp.asarray(np.stack(parts) if stacked else parts[0], dtype)
    tied_copies = {"lm_head.weight"} if config.tied else set()
    for name in sorted(set(files.sources) - used - tied_copies):
        if not name.endswith(family.ignored or ("\0",)):
            problems.append(f"unexpected {name}")
    if problems:
        raise LoadError(f"{directory} does not fit its config.json ({config.family}):\n  " + "\n  ".join(problems))
    flat = [(path, leaf.replace(filled[".".join(map(str, path))])) for path, leaf in nnx.to_flat_state(state)]
    return nnx.from_flat_state(flat)


def usual_name(family: Family, tensor: Tensor, layer: int) -> str:
    """Name under which the family's published checkpoints store a tensor."""
    return (family.prefixes[0] if tensor.prefixed else "") + tensor.source.format(i=layer)


def _stored_shape(tensor: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    if tensor.transpose:
        shape = shape[::-1]
    if tensor.part is not None:
        shape = (*shape[:-1], shape[-1] * tensor.part[1])
    return shape


def save_parameters(directory: Path, config: DecoderConfig, state: nnx.State, dtype: Any) -> None:
    """Write ``model.safetensors`` under the family's own tensor names (so that other libraries
    read it)."""
    family = FAMILIES[config.family]
    tensors: dict[str, np.ndarray] = {}
    joined: dict[str, dict[int, np.ndarray]] = {}
    for path, value in parameter_paths(state).items():
        tensor = family.tensors[path]
        array = np.asarray(jnp.asarray(value, dtype))
        layers = enumerate(array) if path.startswith(_STACKED) else enumerate([array])
        for i, layer in layers:
            name = usual_name(family, tensor, i)
            layer = layer.T if tensor.transpose else layer
            if tensor.part is None:
                tensors[name] = np.ascontiguousarray(layer)
            else:
                joined.setdefault(name, {})[tensor.part[0]] = layer
    for name, parts in joined.items():
        tensors[name] = np.ascontiguousarray(np.concatenate([parts[k] for k in sorted(parts)], axis=-1))
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
