"""Checkpoints that ``LanguageModel.save`` writes: a model as a whole, or none."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ..durable import make_directory, put_text, sync_directory, writing
from ..errors import LoadError, SDSCMError

# Where files are until they are all there.
UNFINISHED = ".unfinished"
# Of the files of the last save, in the format of sha256sum.
CHECKSUMS = ".sdscm.sha256"

# What ``load_lm`` looks for first, so that a directory without it is no model.
_FIRST = "config.json"
# Files that would be read with the new ones, though they are of another model.
_OTHERS = ("generation_config.json",)
_PIECE = 1 << 24


def save_checkpoint(directory: Path, write: Callable[[Path], None], texts: Mapping[str, str]) -> None:
    """Write a checkpoint: under another name, synced, and then moved to its place, ``config.json`` last.

    Args:
        directory: made where it is absent.
        write: writes weights and tokenizer to a directory.
        texts: other files by their names, ``config.json`` among them.

    Raises:
        SDSCMError: the directory holds the shards of another model, or cannot be written to; what was there is as it
            was, or, where the last moves failed, is no model until it is saved again.
        ResumeError: another call is saving there.
    """
    make_directory(directory)
    others = sorted({*directory.glob("model-*-of-*.safetensors"), *directory.glob("model.safetensors.index.json")})
    if others:
        raise SDSCMError(f"{directory} has {others[0].name}, of another set of weights; save to another directory")
    unfinished = directory / UNFINISHED
    try:
        with writing(directory):
            try:
                shutil.rmtree(unfinished, ignore_errors=True)
                _write(unfinished, write, texts)
                _move(unfinished, directory)
            finally:
                # Not where the moves failed: it says that what is there is no whole save.
                if (directory / _FIRST).exists() or not any(directory.glob("*.safetensors")):
                    shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise SDSCMError(f"cannot save to {directory}: {error.strerror or error}") from error


def _write(unfinished: Path, write: Callable[[Path], None], texts: Mapping[str, str]) -> None:
    after = "What was there before is as it was: once that is put right, save again"
    unfinished.mkdir()
    try:
        write(unfinished)
    except SDSCMError:
        raise
    except Exception as error:  # safetensors and tokenizers have their own, of a full disk too
        raise SDSCMError(f"cannot write the files of {unfinished.parent}: {error}. {after}") from error
    for name, text in texts.items():
        put_text(unfinished / name, text, after)
    lines = [f"{_sha256(path)}  {path.name}\n" for path in sorted(unfinished.iterdir())]
    put_text(unfinished / CHECKSUMS, "".join(lines), after)
    for path in unfinished.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _move(unfinished: Path, directory: Path) -> None:
    """Nothing here needs room on the disk."""
    new = [path.name for path in unfinished.iterdir() if path.name != _FIRST]
    listed: dict[str, str] = {}
    with suppress(LoadError):
        listed = _listed(directory)
    gone = {name for name in (*listed, *_OTHERS) if "/" not in name} - {*new, _FIRST}
    (directory / _FIRST).unlink(missing_ok=True)
    sync_directory(directory)
    for name in gone:
        (directory / name).unlink(missing_ok=True)
    for name in new:
        os.replace(unfinished / name, directory / name)
    sync_directory(directory)
    os.replace(unfinished / _FIRST, directory / _FIRST)
    sync_directory(directory)


def check_saved(directory: Path) -> None:
    """Refuse a checkpoint whose files are not those that were saved; one that others wrote has no checksums, and one
    without ``config.json`` is none.

    Raises:
        LoadError: names the file.
    """
    if not (directory / _FIRST).is_file():
        return
    checksums = directory / CHECKSUMS
    for name, expected in _listed(directory).items():
        path = directory / name
        try:
            found = _sha256(path)
        except (OSError, ValueError) as error:
            raise LoadError(f"{path} cannot be read, and {checksums} says that it was saved: {error}") from error
        if found != expected:
            raise LoadError(
                f"{path} is not what its checksum in {checksums} says: it is damaged, or was edited. Save the model "
                f"again, or delete {CHECKSUMS} to have the files taken as they are"
            )


def _listed(directory: Path) -> dict[str, str]:
    """Checksums of the last save by the names of its files."""
    path = directory / CHECKSUMS
    if not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} cannot be read: {error}; delete it to have the files taken as they are") from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
