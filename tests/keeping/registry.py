"""The keepers that the harness tries. A new one is an entry here; it is killed, starved and damaged like the others.

Imports stay inside the functions: they run in children of a process in which JAX has not started.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def every_file(directory: Path) -> dict[str, bytes]:
    """Path -> bytes, of all files but locks."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != ".sdscm.lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def only(*patterns: str) -> Callable[[Path], dict[str, bytes]]:
    """The files that match one of the patterns."""
    return lambda directory: {
        str(path.relative_to(directory)): path.read_bytes() for p in patterns for path in sorted(directory.glob(p))
    }


@dataclass(frozen=True)
class Keeper:
    """Something that keeps what it did in a directory.

    Attributes:
        make: does all of it, or what is not there yet, and writes its results there too.
        same_bytes: the files that are the same whatever happened meanwhile, name -> bytes.
    """

    make: Callable[[Path], object]
    same_bytes: Callable[[Path], dict[str, bytes]] = every_file


def _program(lm: object) -> None:
    import sdscm_jax as sd

    x = sd.sample("x", sd.Choice(lm, "It is {}.", ["sun", "rain"]))  # type: ignore[arg-type]
    y = sd.sample("y", sd.Choice(lm, "Then {}.", ["a", "b", "c"], given=[x]))  # type: ignore[arg-type]
    sd.sample("z", sd.Choice(lm, "So {}.", ["ab", "ba"], given=[x, y]))  # type: ignore[arg-type]


def simulated(directory: Path) -> None:
    """A simulation in parts."""
    import sdscm_jax as sd
    from sdscm_jax.testing import mock_lm

    options = {"worlds": [{"x": "sun"}], "chunk": 3, "out": directory / "run", "progress": False}
    sd.simulate(_program, 0, 25, mock_lm(), **options).to_pandas()  # type: ignore[arg-type]


def stored(directory: Path) -> None:
    """Simulations that share a store of scores, and their numbers."""
    import sdscm_jax as sd
    from sdscm_jax.durable import make_directory, put
    from sdscm_jax.testing import mock_lm

    make_directory(directory)
    for n in (3, 30):
        data = sd.simulate(_program, 0, n, mock_lm(), store=directory / "store", progress=False)
        arrays = [*data.values.values(), *data.log_probs.values()]
        put(directory / f"numbers-{n}", b"".join(x.tobytes() for x in arrays))


def audited(directory: Path) -> None:
    """An audit with its report."""
    from sdscm_jax import audit as sa
    from sdscm_jax.testing import mock_lm

    spec = sa.AuditSpec.from_dict({
        "name": "drug", "title": "A drug", "question": "Does the level matter?",
        "attribute": {"name": "level", "levels": ["low", "high"], "proxies": {"word": {
            "templates": ["The tumor exhibits {} levels.", "The level is {}."],
            "phrases": {"low": ["low"], "high": ["high"]}}}},
        "variables": [
            {"name": "friend", "options": ["old", "young"], "templates": ["My friend is {}.", "She is {}."]},
            {"name": "drug", "options": ["wait", "treat"], "templates": ["The choice is to {}."],
             "parents": ["level", "friend"]},
        ],
        "outcome": {"name": "drug", "option": "treat"},
    })  # fmt: skip
    result = sa.audit(spec, mock_lm(), wordings=3, pairs=1, out=directory, progress=False)
    sa.write_audit(directory, result)


KEEPERS: dict[str, Keeper] = {
    "simulate": Keeper(simulated),
    "store": Keeper(stored, only("numbers-*")),
    "audit": Keeper(audited),
}
