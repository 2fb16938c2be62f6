"""A finished run in a directory: its arrays are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..dsl.analysis.structure import Site
from ..errors import ResumeError
from .columns import log_prob_columns, log_probs_of, value_columns, values_of
from .parts import PartFiles

Arrays = Mapping[str, np.ndarray]
# Values and log-probabilities of sites.
Both = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class KeptRun:
    """A run of which all parts are there.

    Attributes:
        files: its parts.
        sites: of the model.
        worlds: labels, the factual world's first.
        logged: sites whose log-probabilities are there.
        rows: number of rows.
        size: rows of a part; the last may have fewer.
    """

    files: PartFiles
    sites: tuple[Site, ...]
    worlds: tuple[str, ...]
    logged: tuple[str, ...]
    rows: int
    size: int

    @property
    def values(self) -> KeptArrays:
        """Site -> values ``[n, worlds, ...]``."""
        return KeptArrays(self, tuple(site.name for site in self.sites), self.values_of)

    @property
    def log_probs(self) -> KeptArrays:
        """Choice site -> log-probabilities ``[n, worlds, ..., K]``."""
        names = tuple(site.name for site in self.sites if site.name in self.logged)
        return KeptArrays(self, names, self.log_probs_of)

    def part(self, i: int) -> Both:
        """Values and log-probabilities of a part's rows.

        Raises:
            ResumeError: it is damaged, or not there any more.
        """
        table = self.files.read(i)
        if len(table) != min(self.size, self.rows - i * self.size):
            raise ResumeError(f"part {i} of {self.files.directory} has {len(table)} rows: it is of another run")
        values = {site.name: values_of(table, site, self.worlds) for site in self.sites}
        logged = [site for site in self.sites if site.name in self.logged]
        return values, {site.name: log_probs_of(table, site, self.worlds) for site in logged}

    def pieces(self, draws: int) -> Iterator[Both]:
        """Values and log-probabilities of all rows, part by part; rows of one unit stay together.

        Args:
            draws: rows of a unit.
        """
        held: list[Both] = []
        for i in range(self.files.count):
            held.append(self.part(i))
            both = held[0] if len(held) == 1 else _joined(held)
            rows = min(self.rows, (i + 1) * self.size)
            # Those of the last unit, which is not whole yet, wait for the next part.
            waiting = rows % draws
            count = len(next(iter(both[0].values()), ())) - waiting
            if count:
                yield _cut(both, slice(None, count))
            held = [_cut(both, slice(count, None))] if waiting else []

    def values_of(self, name: str) -> np.ndarray:
        """Values of a site in all rows."""
        return self._read(name, value_columns, values_of)

    def log_probs_of(self, name: str) -> np.ndarray:
        """Log-probabilities of a choice in all rows."""
        return self._read(name, log_prob_columns, log_probs_of)

    def _read(self, name: str, columns: Callable, read: Callable) -> np.ndarray:
        site = next(site for site in self.sites if site.name == name)
        # A site without numbers has no columns; how many rows there are is told by others.
        wanted = columns(site, self.worlds) or None
        found = None
        for i in range(self.files.count):
            array = read(self.files.read(i, wanted), site, self.worlds)
            if found is None:
                # Not joined in the end: that would take twice the memory.
                found = np.empty((self.rows, *array.shape[1:]), array.dtype)
            found[i * self.size : i * self.size + len(array)] = array
        assert found is not None
        return found


class KeptArrays(Mapping[str, np.ndarray]):
    """Site -> array; each is read when it is first asked for, and kept.

    Args:
        run: where they are.
        names: of the sites.
        read: reads the array of one of them.
    """

    def __init__(self, run: KeptRun, names: tuple[str, ...], read: Callable[[str], np.ndarray]):
        self.run, self._names, self._read = run, names, read
        self._known: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        # Nothing is read for this.
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _cut(both: Both, rows: slice) -> Both:
    values, log_probs = ({name: x[rows] for name, x in arrays.items()} for arrays in both)
    return values, log_probs


def _joined(parts: list[Both]) -> Both:
    values, log_probs = (
        {name: np.concatenate([part[kind][name] for part in parts]) for name in parts[0][kind]} for kind in range(2)
    )
    return values, log_probs
