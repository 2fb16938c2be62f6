"""Scores that outlive a run: a directory of what a language model was asked, and answered."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..checks import as_path
from ..dsl.question import Question
from ..errors import LoadError

_KEY = 16


class Store:
    """Log-probabilities by language model, options and the tokens before them.

    New ones are held until ``flush``, which writes them by atomic rename, each file once; several
    processes may share a directory.

    Args:
        directory: where; made where there is none.
        fingerprint: of the language model; see ``LanguageModel.fingerprint``.
    """

    def __init__(self, directory: str | Path, fingerprint: str):
        self.directory = as_path(directory, "store") / fingerprint[:32]
        self.directory.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, dict[bytes, np.ndarray]] = {}
        self._new: dict[str, dict[bytes, np.ndarray]] = {}

    def read(self, question: Question, paths: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """Log-probabilities of the edges ``[E]`` after each path of tokens; None where unknown.

        Raises:
            LoadError: a file of the store is damaged.
        """
        known = self._of(question)
        return [known.get(_key(path)) for path in paths]

    def add(self, question: Question, paths: Sequence[np.ndarray], edges: np.ndarray) -> None:
        """Remember log-probabilities ``[len(paths), E]``."""
        known, new = self._of(question), self._new.setdefault(_digest(question), {})
        for path, row in zip(paths, edges, strict=True):
            known[_key(path)] = new[_key(path)] = row

    def _of(self, question: Question) -> dict[bytes, np.ndarray]:
        digest = _digest(question)
        if digest not in self._known:
            known = self._known[digest] = {}
            for file in sorted(self.directory.glob(f"{digest}-*.safetensors")):
                try:
                    with safe_open(file, framework="numpy") as tensors:
                        keys, edges = tensors.get_tensor("keys"), tensors.get_tensor("edges")
                except (OSError, SafetensorError) as error:
                    raise LoadError(f"{file} cannot be read: {error}; delete it to have it computed again") from error
                known.update(zip((key.tobytes() for key in keys), edges, strict=True))
        return self._known[digest]

    def flush(self) -> None:
        """Write what is new."""
        for digest, new in self._new.items():
            if not new:
                continue
            keys = np.frombuffer(b"".join(new), np.uint8).reshape(-1, _KEY)
            name = hashlib.blake2b(keys.tobytes(), digest_size=8).hexdigest()
            file = self.directory / f"{digest}-{name}.safetensors"
            half = self.directory / f".{digest}-{name}.{os.getpid()}"
            save_file({"keys": keys, "edges": np.stack(list(new.values()))}, half)
            half.replace(file)
        self._new.clear()


def _digest(question: Question) -> str:
    tree = question.tree
    content = f"{tree.tokens.tolist()} {tree.edge_rows.tolist()} {tree.edge_tokens.tolist()}"
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def _key(path: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(path, np.int32).tobytes(), digest_size=_KEY).digest()
