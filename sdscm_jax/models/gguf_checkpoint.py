"""A GGUF file as a checkpoint: a configuration, and tensors as the family's own files have them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..checks import told
from ..errors import LoadError
from .checkpoint import usual_name
from .families import FAMILIES
from .gguf_architectures import ROPE_FACTORS, Architecture, find_architecture, llama3_scaling
from .gguf_file import Block, GGUFFile
from .gguf_metadata import Metadata
from .sound_config import check_raw


def config_of(file: GGUFFile) -> dict[str, Any]:
    """What ``config.json`` would say of the model in a file.

    Raises:
        LoadError: the architecture is not supported, a number is missing, or something is said that is not understood.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    row, metadata = _described(file)
    if "token_embd.weight" not in file.tensors:
        raise LoadError("it has no token_embd.weight")
    try:
        options = row.options(metadata)
        if ROPE_FACTORS in file.tensors:
            (size,) = file.tensors[ROPE_FACTORS].shape
            theta, head = options["rope_parameters"]["rope_theta"], metadata.head_dim
            if options["rope_parameters"]["rope_type"] != "default" or size != head // 2:
                raise LoadError(f"{ROPE_FACTORS} stands beside another rotary scaling, or has another size")
            options["rope_parameters"] = llama3_scaling(file.read(ROPE_FACTORS, 0, size), theta, head)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise LoadError(f"its metadata cannot be used: {type(error).__name__}: {error}") from error
    if unread := metadata.unread():
        raise LoadError(
            f"its metadata say {', '.join(f'{metadata.architecture}.{key}' for key in unread)}, which is not supported"
        )
    ids = {key: file.metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("bos", "eos")}
    content = {"model_type": row.model_type, **options, **{f"{key}_token_id": number for key, number in ids.items()}}
    check_raw(content)
    try:
        config = AutoConfig.for_model(**content)
        config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[row.model_type]]
        return dict(config.to_dict())
    except Exception as error:  # transformers raises many kinds here
        raise LoadError(f"its metadata cannot be used: {error}") from error


def _described(file: GGUFFile) -> tuple[Architecture, Metadata]:
    """The row of a file's architecture, and what the file says under its name."""
    name, row = find_architecture(file.metadata)
    return row, Metadata(file.metadata, name, {key: block.shape for key, block in file.tensors.items()})


@dataclass(frozen=True)
class _Named:
    """A tensor of the family's.

    Attributes:
        name: in the file.
        turned: is it stored with its axes the other way round?
        offset: what the file adds to it.
        rows: where the file has its rows; None: in order.
        expert: which one of those that are stored together it is; None: it is stored alone.
        row: it is a matrix of one row, which the file has without that axis.
    """

    name: str
    turned: bool
    offset: float
    rows: np.ndarray | None
    expert: int | None = None
    row: bool = False


class GGUFTensors:
    """A file's tensors under the family's names; what no name of the family is for keeps its own.

    It has the methods of ``tensor_files.TensorFiles``.

    Args:
        file: the file.
        layers: how many layers there are.
    """

    def __init__(self, file: GGUFFile, layers: int):
        from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

        self.file, self.place = file, file.path
        row, metadata = _described(file)
        number = next(number for number, name in MODEL_ARCH_NAMES.items() if name == metadata.architecture)
        names = get_tensor_name_map(number, layers)
        family = FAMILIES[row.model_type]
        self.renamed = row.renamed
        self.entries: dict[str, _Named] = {}
        for path, tensor in (family.tensors | dict(row.renamed)).items():
            for layer in range(layers) if path.startswith("blocks.") else range(1):
                usual = usual_name(family, tensor, layer)
                together = replace(tensor, source=tensor.source.replace(".{e}", ""))
                stored = names.get_name(usual_name(family, together, layer), try_suffixes=(".weight", ".bias"))
                # (The package has no ending for what the family's own files have none for.)
                stored = stored if stored in file.tensors else f"{stored}.weight"
                if stored not in file.tensors:
                    continue
                if together == tensor:
                    self.entries[usual] = _named(row, metadata, usual, stored, file.tensors[stored])
                    continue
                for expert in range(file.tensors[stored].shape[0]):
                    of_expert = usual_name(family, tensor, layer, expert)
                    self.entries[of_expert] = _Named(stored, False, 0.0, None, expert)
        taken = {entry.name for entry in self.entries.values()} | {ROPE_FACTORS}
        self.entries |= {key: _Named(key, False, 0.0, None) for key in file.tensors if key not in taken}

    def shape(self, name: str) -> tuple[int, ...]:
        entry = self.entries[name]
        shape = self.file.tensors[entry.name].shape
        if entry.expert is not None:
            return shape[1:]
        if entry.row:
            return (1, *shape)
        return shape[::-1] if entry.turned else shape

    def kind(self, name: str) -> str:
        """Name of a tensor's dtype, after blocks are undone."""
        return {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}[self.dtype(name).name]

    def dtype(self, name: str) -> np.dtype:
        return self.file.dtype(self.entries[name].name)

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Part of a tensor; rows of the file that do not lie between those of the part are not read."""
        entry = self.entries[name]
        shape = self.file.tensors[entry.name].shape
        if entry.expert is not None:
            return self.file.read(entry.name, entry.expert, entry.expert + 1)[0][index]
        if entry.row:
            return self.file.read(entry.name, 0, shape[0])[None][index]
        wanted = index[::-1] if entry.turned else index
        rows, *columns = (slice(*s.indices(n)[:2]) for s, n in zip(wanted, shape, strict=True))
        if entry.rows is None:
            found = self.file.read(entry.name, rows.start, rows.stop)
        else:
            places = entry.rows[rows]
            first = int(places.min()) if len(places) else 0
            found = self.file.read(entry.name, first, int(places.max()) + 1 if len(places) else 0)[places - first]
        found = found[(slice(None), *columns)]
        if entry.offset:
            found = (found - found.dtype.type(entry.offset)).astype(found.dtype)
        return found.T if entry.turned else found


def _named(row: Architecture, metadata: Metadata, usual: str, stored: str, block: Block) -> _Named:
    rows = None
    if row.rows is not None:
        try:
            rows = row.rows(metadata, usual, block.shape[0])
        except ValueError as error:
            raise LoadError(f"{stored} has the shape {told(block.shape)}, which no heads make up: {error}") from error
    if usual.endswith("shared_expert_gate.weight") and len(block.shape) == 1:
        return _Named(stored, False, 0.0, None, row=True)
    norm = usual.endswith("norm.weight")
    return _Named(
        stored, usual.endswith(row.transposed) if row.transposed else False, row.offset if norm else 0.0, rows
    )
