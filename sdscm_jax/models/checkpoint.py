"""Between checkpoint files (``config.json`` + safetensors, single or sharded) and parameters.

Torch is never imported: tensors go from the files straight into arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from safetensors.numpy import save_file

from ..errors import LoadError
from .config import DecoderConfig
from .decoder import Decoder
from .families import FAMILIES, Family, find_family, read_config
from .int8 import ROUNDED, refuse_rounded
from .quantised.registry import directory_tensors, settings_of
from .saved_checkpoint import UNFINISHED
from .sharding import parameter_sharding
from .sound_config import check_files, check_raw, check_switches, read_json
from .tensor_files import DTYPES, StoredTensors
from .tensors import Tensor
from .weight_streaming import Bounds, Source, filled, filled_rounded

_ROWS = 1024


@lru_cache(maxsize=64)
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
    from transformers import AutoConfig

    if not directory.is_dir():
        raise LoadError(f"{directory} is not a directory")
    if not (directory / "config.json").is_file():
        cut = ": a save there did not end; save the model again" if (directory / UNFINISHED).is_dir() else ""
        raise LoadError(f"{directory} has no config.json{cut}")
    check_files(directory)
    try:
        content = read_json(directory / "config.json")
        model_type = content.get("model_type")
        # Before transformers reads it, which knows other families, and may not know this one.
        if isinstance(model_type, str):
            find_family(model_type)
        check_raw(content)
        settings = settings_of(content)
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except LoadError as error:
        where = "" if str(directory) in str(error) else f"{directory}/config.json: "
        raise LoadError(f"{where}{error}") from None
    except Exception as error:  # transformers raises many kinds here
        raise LoadError(f"{directory}/config.json cannot be read: {error}") from error
    try:
        if settings is not None:
            # Read beside the tensors; see ``directory_tensors``.
            _forget_settings(config)
        return switches_of(config)
    except LoadError as error:
        raise LoadError(f"{directory}/config.json: {error}") from error.__cause__


def _forget_settings(config: Any) -> None:
    for part in (config, getattr(config, "text_config", None)):
        for name in ("quantization_config", "compression_config"):
            if getattr(part, name, None):
                delattr(part, name)


def switches_of(config: Any) -> DecoderConfig:
    """Switches of a Hugging Face configuration, of which a decoder can be made.

    Raises:
        LoadError: none can.
    """
    try:
        switches = read_config(config)
        check_switches(switches)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        # A text in place of a number, no heads to divide by, a list that is too short.
        raise LoadError(f"it cannot be used: {type(error).__name__}: {error}") from error
    return switches


def load_parameters(
    stored: StoredTensors | Path, config: DecoderConfig, dtype: Any, mesh: Mesh | None = None
) -> nnx.State:
    """Parameters of a decoder from files, read piece by piece.

    Args:
        stored: the tensors, or a directory whose safetensors they are in.
        config: the switches of the decoder.
        dtype: dtype of the parameters, but for kernels that are rounded to integers.
        mesh: where they are placed (see ``sharding.parameter_spec``); each process reads only what
            its own devices hold. None: on JAX's default device.

    Raises:
        LoadError: lists every missing, mis-shaped and unexpected tensor.
        SDSCMError: the axes of the mesh have other names.
    """
    files = directory_tensors(stored) if isinstance(stored, Path) else stored
    family = FAMILIES[config.family]
    family = replace(family, tensors=family.tensors | dict(files.renamed or _instead(files, family, config)))
    _, state = abstract_decoder(config, dtype)
    wanted = parameter_paths(state)
    # Kernel -> the scales that are made of it, and stored nowhere.
    scales = {path: _scale_path(path) for path, target in wanted.items() if target.dtype in ROUNDED}
    plain = (
        parameter_paths(abstract_decoder(replace(config, weights=None, low_rank=()), dtype)[1]) if scales else wanted
    )
    read = {path: plain[path] for path in wanted if path not in scales.values()}
    names = _find_tensors(files, family, config, {path: target.shape for path, target in read.items()})

    def where(path: str) -> NamedSharding | None:
        return None if mesh is None else parameter_sharding(path, wanted[path].shape, config, mesh)

    filled_by_path: dict[str, jax.Array] = {}
    for path, target in read.items():
        source = _source(files, names[path], family.names(config)[path], target.shape, path, config)
        if path in scales:
            found = filled_rounded(source, config.weights or "", where(path), where(scales[path]))
            filled_by_path[path], filled_by_path[scales[path]] = found
        else:
            filled_by_path[path] = filled(source, target.dtype, where(path))
    flat = [(path, leaf.replace(filled_by_path[".".join(map(str, path))])) for path, leaf in nnx.to_flat_state(state)]
    return nnx.from_flat_state(flat)


def _instead(files: StoredTensors, family: Family, config: DecoderConfig) -> Mapping[str, Tensor]:
    """The other names that a family's files may have, where these have them."""
    sources = {tensor.source.format(i=i) for tensor in family.instead.values() for i in range(config.layers)}
    there = any(prefix + source in files.entries for prefix in (*family.prefixes, "") for source in sources)
    return family.instead if there else {}


def _scale_path(kernel: str) -> str:
    return kernel.removesuffix("kernel") + "scale"


def _find_tensors(
    files: StoredTensors, family: Family, config: DecoderConfig, wanted: dict[str, tuple[int, ...]]
) -> dict[str, list[str]]:
    """Path of a parameter -> the names of its stored tensors, one for each layer, or for each expert of each."""
    problems: list[str] = []
    names: dict[str, list[str]] = {}
    tensors = family.names(config)

    def stored_name(tensor: Tensor, layer: int, expert: int) -> str | None:
        source = tensor.source.format(i=layer, e=expert)
        return next(
            (n for n in (*(p + source for p in (*family.prefixes, "")), *tensor.also) if n in files.entries), None
        )

    for path, whole in wanted.items():
        tensor = tensors[path]
        apart = _apart(path, tensor, config)
        shape = whole[apart:]
        names[path] = []
        for layer, expert in _places(path, whole[:apart], config):
            name = stored_name(tensor, layer, expert)
            if name is None:
                problems.append(f"missing {usual_name(family, tensor, layer, expert)} (for {path}, shape {shape})")
                continue
            names[path].append(name)
            stored, expected = files.shape(name), _stored_shape(tensor, shape, config)
            if stored != expected:
                problems.append(f"{name} has shape {stored}, expected {expected}")
            elif files.kind(name) not in DTYPES:
                problems.append(f"{name} has dtype {files.kind(name)}, which is not supported ({', '.join(DTYPES)})")
    used = {name for found in names.values() for name in found}
    head = tensors["head"]
    tied_copies = {head.source, *head.also} if config.tied else set()
    table = names["embedding.embedding"]
    for name in sorted(tied_copies & set(files.entries)):
        if table and not _same_values(files, name, table[0]):
            problems.append(
                f"{name} differs from {table[0]}, and config.json says that they are one (tie_word_embeddings); where "
                "the model has a head of its own, say false there, otherwise take it out of the file"
            )
    passed_over = family.passed_over(config)
    for name in sorted(set(files.entries) - used - tied_copies):
        if not name.endswith(family.ignored) and not name.startswith(passed_over):
            problems.append(f"unexpected {name}")
    if problems:
        raise LoadError(f"{files.place} does not fit its configuration ({config.family}):\n  " + "\n  ".join(problems))
    return names


def _same_values(files: StoredTensors, a: str, b: str) -> bool:
    """Have two tensors of the files the same shape and the same values?"""
    shape = files.shape(a)
    if files.shape(b) != shape or not {files.kind(a), files.kind(b)} <= set(DTYPES):
        return False
    for start in range(0, shape[0], _ROWS):
        rows = (slice(start, start + _ROWS), *(slice(None) for _ in shape[1:]))
        one, other = (files.read(name, rows).astype(np.float64) for name in (a, b))
        if not np.array_equal(one, other, equal_nan=True):
            return False
    return True


def _source(
    files: StoredTensors, names: list[str], tensor: Tensor, shape: tuple[int, ...], path: str, config: DecoderConfig
) -> Source:
    """Where a parameter is read."""

    stored, apart = files.dtype(names[0]), _apart(path, tensor, config)
    places = np.arange(len(names)).reshape(shape[:apart])

    def read(bounds: Bounds, dtype: Any) -> np.ndarray:
        within = _stored_bounds(tensor, bounds[apart:])
        sizes = [stop - start for start, stop in within]
        if apart:
            some = places[tuple(slice(*pair) for pair in bounds[:apart])]
            values = np.empty((*some.shape, *sizes), dtype)
            for place in np.ndindex(some.shape):
                # Experts that are stored together are read one at a time.
                for number in range(sizes[0]) if len(sizes) > 2 and ".experts." in path else (None,):
                    part = within
                    if number is not None:
                        part = ((within[0][0] + number, within[0][0] + number + 1), *within[1:])
                    target = values[(*place, ...)] if number is None else values[place][number : number + 1]
                    target[...] = _read_part(files, names[some[place]], tensor, part, config)
            return values
        if stored == dtype:
            return _read_part(files, names[0], tensor, within, config)
        # Rows that are cast together: the table is not there in both dtypes.
        values, ((first, last), *rest) = np.empty(sizes, dtype), within
        for start in range(first, last, _ROWS):
            rows = start, min(start + _ROWS, last)
            values[start - first : rows[1] - first] = _read_part(files, names[0], tensor, (rows, *rest), config)
        return values

    return Source(read, shape, stored, tensor.transpose)


def _apart(path: str, tensor: Tensor, config: DecoderConfig) -> int:
    """How many leading axes of a parameter are those of the tensors that it is stored as."""
    return int(config.layers_of(path) is not None) + ("{e}" in tensor.source)


def _places(path: str, shape: tuple[int, ...], config: DecoderConfig) -> Iterator[tuple[int, int]]:
    """Layer and expert of each tensor that a parameter is stored as; ``shape`` is of its leading axes."""
    layers = config.layers_of(path)
    for place in np.ndindex(shape):
        of_expert = place if layers is None else place[1:]
        yield (0 if layers is None else layers[place[0]]), (of_expert[0] if of_expert else 0)


def usual_name(family: Family, tensor: Tensor, layer: int = 0, expert: int = 0) -> str:
    """Name under which the family's published checkpoints store a tensor."""
    return (family.prefixes[0] if tensor.prefixed else "") + tensor.source.format(i=layer, e=expert)


def _turned(axes: tuple[Any, ...]) -> tuple[Any, ...]:
    """The last two, matrices' rows and columns, the other way round."""
    return (*axes[:-2], axes[-1], axes[-2])


def _output_axis(tensor: Tensor) -> int:
    """The axis of the outputs, in a stored matrix; a bias has no other."""
    return -2 if tensor.transpose else -1


def _cut(tensor: Tensor, config: DecoderConfig, outputs: int) -> tuple[int, tuple[int, ...]]:
    """Groups of parts in a stored tensor, and the outputs of each part of one; ``outputs``: those of a part in all."""
    assert tensor.part is not None
    return tensor.cut(config) if tensor.cut is not None else (1, (outputs,) * tensor.part[1])


def _stored_shape(tensor: Tensor, shape: tuple[int, ...], config: DecoderConfig) -> tuple[int, ...]:
    stored = list(_turned(shape) if tensor.transpose else shape)
    if tensor.part is not None:
        groups, sizes = _cut(tensor, config, stored[_output_axis(tensor)])
        stored[_output_axis(tensor)] = groups * sum(sizes)
    return tuple(stored)


def _stored_bounds(tensor: Tensor, bounds: Bounds) -> Bounds:
    """Bounds within one layer's parameter, with axes in the order in which they are stored."""
    return _turned(bounds) if tensor.transpose else bounds


def _read_part(files: StoredTensors, name: str, tensor: Tensor, bounds: Bounds, config: DecoderConfig) -> np.ndarray:
    """What a stored tensor has of a parameter, within the parameter's bounds; nothing else of it is read."""
    index = [slice(*pair) for pair in bounds]
    if tensor.part is None:
        return files.read(name, tuple(index))
    axis, (number, parts) = _output_axis(tensor), tensor.part
    start, stop = bounds[axis]
    if tensor.alternating:
        index[axis] = slice(start * parts, stop * parts)
        found = files.read(name, tuple(index))
        return found[(*(slice(None),) * (found.ndim + axis), slice(number, None, parts), *(slice(None),) * (-1 - axis))]
    # Outputs that stand together in the file, how far apart the next ones are, and where they begin.
    _, sizes = _cut(tensor, config, files.shape(name)[axis] // parts)
    together, each, begin = sizes[number], sum(sizes), sum(sizes[:number])
    pieces = []
    for first in range(start - start % together, stop, together):
        offset = first // together * each + begin - first
        index[axis] = slice(max(start, first) + offset, min(stop, first + together) + offset)
        pieces.append(files.read(name, tuple(index)))
    return np.concatenate(pieces, axis)


def save_parameters(directory: Path, config: DecoderConfig, state: nnx.State, dtype: Any) -> None:
    """Write ``model.safetensors`` under the family's own tensor names (so that other libraries
    read it).

    Raises:
        SDSCMError: the weights are integers.
    """
    refuse_rounded(state, "a checkpoint that others read")
    family = FAMILIES[config.family]
    tensors: dict[str, np.ndarray] = {}
    joined: dict[str, dict[int, np.ndarray]] = {}
    fused: dict[str, Tensor] = {}
    kept = parameter_paths(abstract_decoder(config, dtype)[1])
    for path, value in parameter_paths(state).items():
        tensor = family.names(config)[path]
        array = np.asarray(jnp.asarray(value, kept[path].dtype))
        apart = array.shape[: _apart(path, tensor, config)]
        for place, numbers in zip(np.ndindex(apart), _places(path, apart, config), strict=True):
            name, layer = usual_name(family, tensor, *numbers), array[place]
            layer = np.swapaxes(layer, -1, -2) if tensor.transpose else layer
            if tensor.part is None:
                # (Which would give a number an axis: ``ascontiguousarray``.)
                tensors[name] = np.asarray(layer, order="C")
            else:
                joined.setdefault(name, {})[tensor.part[0]] = layer
                fused[name] = tensor
    for name, parts in joined.items():
        tensors[name] = np.ascontiguousarray(_join(fused[name], [parts[k] for k in sorted(parts)], config))
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def _join(tensor: Tensor, parts: list[np.ndarray], config: DecoderConfig) -> np.ndarray:
    """The stored tensor that has these parts."""
    axis = _output_axis(tensor)
    if tensor.alternating:
        beside = np.stack([np.moveaxis(part, axis, -1) for part in parts], -1)
        return np.moveaxis(beside.reshape(*beside.shape[:-2], -1), -1, axis)
    moved = [np.moveaxis(part, axis, 0) for part in parts]
    groups, _ = _cut(tensor, config, len(moved[0]))
    by_group = np.concatenate([x.reshape(groups, -1, *x.shape[1:]) for x in moved], axis=1)
    return np.moveaxis(by_group.reshape(-1, *by_group.shape[2:]), 0, axis)
