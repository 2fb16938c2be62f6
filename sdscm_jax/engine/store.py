"""Scores and texts that outlive a run: a directory of what a language model was asked, and answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..checks import as_path
from ..dsl.language.text_phrase import PADDING
from ..dsl.language.text_query import OfText, Reading, Writing, WritingBeside
from ..dsl.scoring.score_query import Question
from ..durable import put_sealed, read_sealed, writing
from ..errors import ResumeError
from ..models.language_model import LanguageModel
from .manifest import environment

Asked = Question | Writing | Reading

_KEY = 16
# Log-probabilities of float32 are rounded; what is farther above 0 is none.
_ROUNDING = 1e-2


class Store:
    """Log-probabilities by language model, options and the tokens before them; texts by their law, the tokens before
    them and their noise; log-probabilities of the tokens of observed texts by law, the tokens before them and these.

    New ones are held until ``flush``, which writes each file once, whole and with a checksum; several
    processes may share a directory. What other versions of the packages, or other devices, computed is not read.

    Args:
        directory: where; made where there is none.
        lm: the language model.

    Raises:
        SDSCMError: the directory cannot be written to.
    """

    def __init__(self, directory: str | Path, lm: LanguageModel):
        # As JSON: it is compared with what files say.
        asked = {"fingerprint": lm.fingerprint(), **environment([lm])}
        self._lm = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        # Absolute: the program may change the working directory.
        self.directory = as_path(directory, "store").absolute() / self._lm[:32]
        self._known: dict[str, dict[bytes, np.ndarray]] = {}
        self._new: dict[str, dict[bytes, np.ndarray]] = {}
        with writing(self.directory, wait=True):
            for half in self.directory.glob(".*.tmp"):
                half.unlink()

    def read(self, question: Asked, paths: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """Log-probabilities of the edges ``[E]``, or tokens ``[T]``, after each path of tokens; None where unknown.

        Raises:
            ResumeError: a file of the store is damaged, or of something else.
        """
        known = self._of(question)
        return [known.get(_key(path)) for path in paths]

    def add(self, question: Asked, paths: Sequence[np.ndarray], edges: np.ndarray) -> None:
        """Remember answers ``[len(paths), E]``; of rows that are none, the site will say so."""
        known, new = self._of(question), self._new.setdefault(_digest(question), {})
        for path, row, sound in zip(paths, edges, _sound(question, edges), strict=True):
            if sound:
                known[_key(path)] = new[_key(path)] = row

    def _of(self, question: Asked) -> dict[bytes, np.ndarray]:
        digest = _digest(question)
        if digest not in self._known:
            known = self._known[digest] = {}
            for file in sorted(self.directory.glob(f"{digest[:16]}-*.scores")):
                known.update(self._read(file, digest, question))
        return self._known[digest]

    def _read(self, file: Path, digest: str, question: Asked) -> dict[bytes, np.ndarray]:
        data = read_sealed(file)
        try:
            tensors = load(data)
            told, keys, found = bytes(tensors["of"]).decode(), tensors["keys"], tensors["edges"]
        except (SafetensorError, KeyError, ValueError) as error:
            raise ResumeError(f"{file} holds no scores ({error}): delete it to have them computed again") from error
        if told != f"{self._lm} {digest}":
            raise ResumeError(f"{file} is of another language model or other options: delete it, or put it back")
        shapes = keys.dtype == np.uint8, keys.shape == (len(found), _KEY), found.dtype == question.dtype
        if not all(shapes) or found.shape[1:] != (_width(question),) or not _sound(question, found).all():
            raise ResumeError(f"{file} holds what can be no scores: delete it to have them computed again")
        return dict(zip((key.tobytes() for key in keys), found, strict=True))

    def flush(self) -> None:
        """Write what is new.

        Raises:
            SDSCMError: the disk is full, or the directory cannot be written to.
        """
        if not any(self._new.values()):
            return
        with writing(self.directory, wait=True):
            for digest, new in self._new.items():
                if not new:
                    continue
                keys = np.frombuffer(b"".join(new), np.uint8).reshape(-1, _KEY)
                name = hashlib.blake2b(keys.tobytes(), digest_size=8).hexdigest()
                file = self.directory / f"{digest[:16]}-{name}.scores"
                told = np.frombuffer(f"{self._lm} {digest}".encode(), np.uint8)
                # Of the same questions: what is there has been read, and stays.
                if not file.exists():
                    put_sealed(file, save({"of": told, "keys": keys, "edges": np.stack(list(new.values()))}))
        self._new.clear()


def _sound(question: Asked, answers: np.ndarray) -> np.ndarray:
    """Which rows are log-probabilities ``[n, E]``: no NaN, none above 0 (-inf is one); or tokens ``[n, T]``."""
    if isinstance(question, Writing):
        size = len(question.law.form.automaton.classes)
        return np.all((answers >= PADDING) & (answers < size), axis=1)
    return np.all(answers <= _ROUNDING, axis=1)


def _width(question: Asked) -> int:
    return question.answers if isinstance(question, OfText) else len(question.tree.edge_rows)


def _digest(question: Asked) -> str:
    if isinstance(question, WritingBeside | Reading):
        how = question.coupling if isinstance(question, WritingBeside) else "read"
        return hashlib.sha256(f"{how} {question.law.digest}".encode()).hexdigest()
    if isinstance(question, Writing):
        return question.law.digest
    tree = question.tree
    arrays = tree.tokens, tree.ancestors.astype(int), tree.edge_rows, tree.edge_tokens
    return hashlib.sha256(" ".join(str(x.tolist()) for x in arrays).encode()).hexdigest()


def _key(path: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(path, np.int32).tobytes(), digest_size=_KEY).digest()
