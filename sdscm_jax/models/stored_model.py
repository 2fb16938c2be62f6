"""What a language model is loaded from: a directory of safetensors, or a GGUF file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LoadError
from .checkpoint import read_directory_config, switches_of
from .config import DecoderConfig
from .gguf_checkpoint import GGUFTensors, config_of
from .gguf_file import GGUFFile, is_gguf
from .gguf_tokenizer import gguf_ends, gguf_tokenizer
from .quantised.registry import directory_tensors, settings_of, without_settings
from .saved_checkpoint import check_saved
from .sound_config import read_json
from .tensor_files import StoredTensors
from .tokenizer import GENERATION, listed_ends, load_tokenizer


@dataclass(frozen=True)
class Published:
    """Files of a checkpoint that are kept to be written again; programs do not depend on them.

    Attributes:
        text: ``config.json``.
        generation: ``generation_config.json``, which says where texts end; None: there is none.
    """

    text: str = field(default="", compare=False, repr=False)
    generation: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class StoredModel:
    """All of a checkpoint but its parameters, which are read from ``tensors``.

    Attributes:
        config: switches of the decoder.
        tokenizer: of ``transformers``.
        ends: ids that end a text by its own account.
        tensors: by the names of the family's own files.
        published: what ``save`` writes again.
    """

    config: DecoderConfig
    tokenizer: Any
    ends: tuple[int, ...]
    tensors: StoredTensors
    published: Published


def stored_model(place: Path) -> StoredModel:
    """What lies in a directory or a file.

    Raises:
        LoadError: nothing that can be read; see ``load_lm``.
    """
    return _of_gguf(place) if is_gguf(place) else _of_directory(place)


def _of_directory(directory: Path) -> StoredModel:
    check_saved(directory)
    config = read_directory_config(directory)
    tokenizer = load_tokenizer(directory)
    generation = directory / GENERATION
    content = read_json(directory / "config.json")
    text = (directory / "config.json").read_text(encoding="utf-8")
    published = Published(
        # What is saved again is not quantised.
        text if settings_of(content) is None else json.dumps(without_settings(content), indent=2) + "\n",
        generation.read_text(encoding="utf-8") if generation.is_file() else None,
    )
    return StoredModel(config, tokenizer, listed_ends(directory), directory_tensors(directory), published)


def _of_gguf(path: Path) -> StoredModel:
    from transformers import AutoConfig

    file = GGUFFile(path)
    try:
        content = config_of(file)
        config = switches_of(AutoConfig.for_model(**content))
        tokenizer = gguf_tokenizer(file.metadata)
        ends = gguf_ends(file.metadata)
        tensors = GGUFTensors(file, config.layers)
    except LoadError as error:
        raise LoadError(f"{path}: {error}") from error
    generation = json.dumps({"eos_token_id": list(ends)}, indent=2) + "\n" if len(ends) > 1 else None
    published = Published(json.dumps(content, indent=2) + "\n", generation)
    return StoredModel(config, tokenizer, ends, tensors, published)
