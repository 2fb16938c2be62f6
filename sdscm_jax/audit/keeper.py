"""What an audit found out in a language model, in files: each of one question, whole and unchanged, or an error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..durable import put_sealed, read_sealed
from ..engine.manifest import environment
from ..errors import ResumeError
from ..models.language_model import LanguageModel


@dataclass(frozen=True)
class Keeper:
    """A directory of answers of one language model.

    Attributes:
        directory: where they are; None: nothing is kept.
        of: what all of them depend on, as JSON values.
    """

    directory: Path | None
    of: Mapping[str, Any]

    @classmethod
    def of_lm(cls, directory: Path | None, lm: LanguageModel, memory: int | None) -> Keeper:
        """The keeper of a language model.

        Args:
            directory: see above.
            lm: the language model.
            memory: as the caller of ``audit`` gave it. Who gives none goes on with what is there.
        """
        return cls(directory, {"language_model": lm.fingerprint(), "memory": memory, **environment([lm])})

    def __call__(
        self, what: Mapping[str, Any], fits: Callable[[Any], bool], compute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """An answer that is there, or that is computed and kept.

        Args:
            what: everything else that the answer depends on, as JSON values.
            fits: is it such an answer?
            compute: the answer, as JSON values.

        Raises:
            ResumeError: the file is damaged, or is no such answer.
            SDSCMError: it cannot be written.
        """
        if self.directory is None:
            return compute()
        # As JSON gives it back.
        asked = json.loads(json.dumps({**self.of, **what}))
        path = self.directory / f"{hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]}.cell"
        if not path.exists():
            put_sealed(path, json.dumps({"asked": asked, "found": compute()}).encode())
        try:
            content = json.loads(read_sealed(path))
            if content["asked"] == asked and fits(content["found"]):
                return dict(content["found"])
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise ResumeError(f"{path} does not hold what its name says: delete it to have it computed again")
