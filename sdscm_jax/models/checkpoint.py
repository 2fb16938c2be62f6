"""Between checkpoint files (``config.json`` + safetensors, single or sharded) and parameters.

Torch is never imported: tensors are read by ``safetensors`` straight into arrays.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes  # noqa: F401  safetensors reads bfloat16 only once numpy knows the dtype
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers import AutoConfig

from ..errors import LoadError
from .config import DecoderConfig
from .decoder import Decoder
from .families import FAMILIES, Family, Tensor, read_config
from .sharding import parameter_sharding

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

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Part of a tensor; nothing else of it is read."""
        return self.sources[name].get_slice(name)[index]


def load_parameters(directory: Path, config: DecoderConfig, dtype: Any, mesh: Mesh | None = None) -> nnx.State:
    """Parameters of a decoder from a directory's safetensors, read one at a time.

    Args:
        directory: the directory.
        config: the switches of the decoder.
        dtype: dtype of the parameters.
        mesh: where they are placed (see ``sharding.parameter_spec``); each process reads only what
            its own devices hold. None: on JAX's default device.

    Raises:
        LoadError: lists every missing, mis-shaped and unexpected tensor.
        SDSCMError: the axes of the mesh have other names.
    """
    files = TensorFiles(directory)
    family = FAMILIES[config.family]
    _, state = abstract_decoder(config, dtype)
    wanted = parameter_paths(state)
    names = _find_tensors(files, family, config, {path: target.shape for path, target in wanted.items()})
    filled: dict[str, jax.Array] = {}
    for path, target in wanted.items():
        read = _reader(files, names[path], family.tensors[path], target.shape, path.startswith(_STACKED), dtype)
        if mesh is None:
            filled[path] = jnp.asarray(read(None))
        else:
            sharding = parameter_sharding(path, target.shape, config, mesh)
            filled[path] = jax.make_array_from_callback(target.shape, sharding, read)
    flat = [(path, leaf.replace(filled[".".join(map(str, path))])) for path, leaf in nnx.to_flat_state(state)]
    return nnx.from_flat_state(flat)


def _find_tensors(
    files: TensorFiles, family: Family, config: DecoderConfig, wanted: dict[str, tuple[int, ...]]
) -> dict[str, list[str]]:
    """Path of a parameter -> the names of its stored tensors, one for each layer."""
    problems: list[str] = []
    names: dict[str, list[str]] = {}

    def stored_name(source: str) -> str | None:
        return next((p + source for p in (*family.prefixes, "") if p + source in files.sources), None)

    for path, whole in wanted.items():
        tensor: Tensor = family.tensors[path]
        stacked = path.startswith(_STACKED)
        shape = whole[1:] if stacked else whole
        names[path] = []
        for i in range(config.layers) if stacked else range(1):
            name = stored_name(tensor.source.format(i=i))
            if name is None:
                problems.append(f"missing {usual_name(family, tensor, i)} (for {path}, shape {shape})")
                continue
            names[path].append(name)
            stored, expected = files.shape(name), _stored_shape(tensor, shape)
            if stored != expected:
                problems.append(f"{name} has shape {stored}, expected {expected}")
    used = {name for found in names.values() for name in found}
    tied_copies = {"lm_head.weight"} if config.tied else set()
    for name in sorted(set(files.sources) - used - tied_copies):
        if not name.endswith(family.ignored or ("\0",)):
            problems.append(f"unexpected {name}")
    if problems:
        raise LoadError(
            f"{files.directory} does not fit its config.json ({config.family}):\n  " + "\n  ".join(problems)
        )
    return names


def _reader(
    files: TensorFiles, names: list[str], tensor: Tensor, shape: tuple[int, ...], stacked: bool, dtype: Any
) -> Callable[[tuple[slice, ...] | None], np.ndarray]:
    """A function from an index of the parameter (None: all of it) to the values there."""
    # Devices along the data axis ask for the same values.
    kept: dict[tuple[tuple[int, int], ...], np.ndarray] = {}

    def read(index: tuple[slice, ...] | None) -> np.ndarray:
        index = (slice(None),) * len(shape) if index is None else index
        bounds = tuple(s.indices(n)[:2] for s, n in zip(index, shape, strict=True))
        if bounds not in kept:
            if stacked:
                part = _stored_index(tensor, shape[1:], bounds[1:])
                layers = names[slice(*bounds[0])]
                values = np.empty((len(layers), *(s.stop - s.start for s in part)), dtype)
                for i, name in enumerate(layers):
                    values[i] = files.read(name, part)
            else:
                values = files.read(names[0], _stored_index(tensor, shape, bounds)).astype(dtype, copy=False)
            # A view: JAX copies it anyway, and transposes faster than NumPy.
            kept[bounds] = np.swapaxes(values, -1, -2) if tensor.transpose else values
        return kept[bounds]

    return read


def usual_name(family: Family, tensor: Tensor, layer: int) -> str:
    """Name under which the family's published checkpoints store a tensor."""
    return (family.prefixes[0] if tensor.prefixed else "") + tensor.source.format(i=layer)


def _stored_shape(tensor: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    if tensor.transpose:
        shape = shape[::-1]
    if tensor.part is not None:
        shape = (*shape[:-1], shape[-1] * tensor.part[1])
    return shape


def _stored_index(tensor: Tensor, shape: tuple[int, ...], bounds: tuple[tuple[int, int], ...]) -> tuple[slice, ...]:
    """Where the stored tensor has the part of a parameter (of one layer's ``shape``) within bounds."""
    if tensor.transpose:
        shape, bounds = shape[::-1], bounds[::-1]
    if tensor.part is not None:
        offset = tensor.part[0] * shape[-1]
        bounds = (*bounds[:-1], (bounds[-1][0] + offset, bounds[-1][1] + offset))
    return tuple(slice(*pair) for pair in bounds)


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
