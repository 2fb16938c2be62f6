"""The keepers that the harness tries. A new one is an entry here; it is killed, starved and damaged like the others.

Imports stay inside the functions: they run in children of a process in which JAX has not started, too.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

Files = dict[str, bytes]


def every_file(directory: Path) -> Files:
    """Path -> bytes, of all files but locks."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != ".sdscm.lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def only(*patterns: str) -> Callable[[Path], Files]:
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
        again: what is done with a directory that may be damaged, and what came out, name -> bytes; by default it is
            made, and its files came out.
        hurry: what is put in a place of the package for a second run in one process: name of it -> from what is there.
            What a run is does not change between damages, and to say it takes longer than all the rest.
    """

    make: Callable[[Path], object]
    same_bytes: Callable[[Path], Files] = every_file
    again: Callable[[Path], Files] | None = None
    hurry: Mapping[str, Callable[[Any], Any]] | None = None

    def found(self, directory: Path) -> Files:
        """What comes out of a directory that may be damaged."""
        if self.again is not None:
            return self.again(directory)
        self.make(directory)
        return self.same_bytes(directory)

    @contextmanager
    def hurried(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, changed in (self.hurry or {}).items():
                place, _, attribute = name.rpartition(".")
                plain = getattr(import_module(place), attribute)
                stack.enter_context(mock.patch(name, changed(plain)))
            yield


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which is asked the first time only: it would say the same each time."""
    said: list[Any] = []

    def asked(*args: Any, **options: Any) -> Any:
        if not said:
            said.append(function(*args, **options))
        return said[0]

    return asked


def by_size(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """The same of a program, for each number of rows."""
    sizes: dict[int, Any] = {}

    def asked(run: Any, program: Any, size: int) -> Any:
        if size not in sizes:
            sizes[size] = compiled(run, program, size)
        return sizes[size]

    return asked


# What a family's data sets are, and what they are said to be -> their tables; each test draws the same ones.
_FRAMES: dict[str, Any] = {}


def drawn_once(dataset_frame: Callable[..., Any]) -> Callable[..., Any]:
    """The same data sets, each drawn the first time only."""

    def drawn(*args: Any) -> Any:
        key = repr(args)
        if key not in _FRAMES:
            _FRAMES[key] = dataset_frame(*args)
        return _FRAMES[key].copy()

    return drawn


def without_pictures(write_report: Callable[..., None]) -> Callable[..., None]:
    """A page of the same numbers."""

    def write(path: Path, **shown: Any) -> None:
        from sdscm_jax.durable import put_text

        tables = [shown.pop(name).to_csv() for name in ("leaderboard", "scores", "difficulty")]
        tables += [shown["estimates"](name).to_csv() for name in shown["examples"]]
        put_text(path, f"{shown['title']} {shown['card']} {shown['level']} {tables}")

    return write


@cache
def _lm() -> Any:
    from sdscm_jax.testing import mock_lm

    return mock_lm()


@cache
def _embedded() -> Any:
    import sdscm_jax as sd

    return sd.load_lm()


def _program(lm: Any) -> None:
    import sdscm_jax as sd

    x = sd.sample("x", sd.Choice(lm, "It is {}.", ["sun", "rain"]))
    sd.sample("y", sd.Choice(lm, "Then {}.", ["a", "b", "c"], given=[x]))


def simulated(directory: Path) -> None:
    """A simulation in parts."""
    import sdscm_jax as sd

    options: dict[str, Any] = {"worlds": [{"x": "sun"}], "chunk": 3, "out": directory / "run", "progress": False}
    sd.simulate(_program, 0, 14, _lm(), **options).to_pandas()


def stored(directory: Path) -> None:
    """Simulations that share a store of scores, and their numbers."""
    from sdscm_jax.durable import make_directory, put

    make_directory(directory)
    for n in (3, 12):
        put(directory / f"{n}.numbers", _numbers(directory, n))


def _numbers(directory: Path, n: int) -> bytes:
    import sdscm_jax as sd

    data = sd.simulate(_program, 0, n, _lm(), store=directory / "store", progress=False)
    return b"".join(x.tobytes() for x in (*data.values.values(), *data.log_probs.values()))


def stored_again(directory: Path) -> Files:
    """The numbers of a simulation whose scores may be damaged."""
    return {"numbers": _numbers(directory, 12)}


FAMILY: dict[str, Any] = {
    "name": "small",
    "variables": [
        {"name": "age", "options": ["25", "65"], "templates": ["She is {} years old.", "Her age is {}."]},
        {"name": "dose", "options": ["low", "big"], "templates": ["The dose is {}."], "parents": ["age"]},
        {"name": "mood", "options": ["low", "big"], "templates": ["Her mood is {}."], "parents": ["age", "dose"]},
    ],
    "treatment": "dose",
    "outcome": "mood",
}


def generated(directory: Path) -> None:
    """A benchmark of a family."""
    from sdscm_jax.bench.generation import generate
    from sdscm_jax.families import Family

    with mock.patch("sdscm_jax.bench.generation.loaded_lm", return_value=_lm()):
        generate(Family.from_json(FAMILY), directory, datasets=3, wordings=2, units=12, progress=False)


@cache
def _benchmark() -> Path:
    """A benchmark to evaluate, which nobody touches. Processes that follow one another share that of their place."""
    given = os.environ.get("SDSCM_KEEPING_PLACE")
    place = Path(given or tempfile.mkdtemp()) / "benchmark"
    if given is None:
        atexit.register(shutil.rmtree, place.parent, ignore_errors=True)
    if not place.exists():
        generated(place)
    return place


def evaluated(directory: Path, source: Path | None = None) -> None:
    """An evaluation with its page; a clock that stands still makes its times the same."""
    from sdscm_jax.bench.evaluation import evaluate

    with mock.patch("time.process_time", return_value=0.0):
        evaluate(
            source or _benchmark(), directory, estimators="difference_in_means", covariates=["all"], progress=False
        )


def generated_and_evaluated(directory: Path) -> None:
    """A benchmark with its evaluation."""
    from sdscm_jax.durable import make_directory

    make_directory(directory)
    generated(directory / "source")
    evaluated(directory / "out", directory / "source")


def evaluated_again(directory: Path) -> Files:
    """An evaluation of a benchmark of which something may be damaged; one that lacks a data set says so on its card."""
    from sdscm_jax.errors import DataError

    evaluated(directory / "out", directory / "source")
    there = json.loads((directory / "out" / "card.json").read_bytes())["data sets there"]
    if there != "3 of 3":
        raise DataError(f"the card in {directory} says: {there}")
    return every_file(directory / "out")


def _audit(directory: Path) -> Any:
    from sdscm_jax import audit as sa

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
    return sa.audit(spec, _lm(), wordings=3, pairs=1, out=directory, progress=False)


def audited(directory: Path) -> None:
    """An audit with its report."""
    from sdscm_jax import audit as sa

    sa.write_audit(directory, _audit(directory))


def audited_again(directory: Path) -> Files:
    """All that the report of an audit is written from."""
    from sdscm_jax.audit.files import TABLES

    result = _audit(directory)
    tables = [getattr(result, name) for name in TABLES]
    told = [table.to_csv() if hasattr(table, "to_csv") else repr(table) for table in tables]
    return {"tables": "\n".join([*told, repr(result.pairs)]).encode()}


def _batch(seed: int) -> Any:
    import numpy as np

    from sdscm_jax.models.training import Batch

    tokens = np.random.default_rng(seed).integers(1, 90, (1, 6)).astype(np.int32)
    return Batch(tokens, np.arange(6, dtype=np.int32)[None], np.ones((1, 6), np.int32), np.ones((1, 6), np.float32))


@cache
def _small() -> Any:
    """A model of a few thousand numbers."""
    import sdscm_jax as sd
    from sdscm_jax.models.families import tiny_config

    tokenizer = _embedded().tokenizer
    return sd.random_lm(tiny_config("llama", len(tokenizer)), tokenizer)


@cache
def _optimizer() -> Any:
    import optax

    return optax.adam(1e-2)


def trained(directory: Path, steps: int = 3) -> Any:
    """A training that is saved after each step."""
    from sdscm_jax.models.training import train_lm

    return train_lm(_small(), map(_batch, range(steps)), _optimizer(), checkpoint=directory / "run", every=1)


def trained_on(directory: Path) -> Files:
    """A training that goes on from what may be damaged, the model that it gives, and its files."""
    import jax
    import numpy as np

    model = trained(directory, 4)
    # A fingerprint would compile something for each shape.
    numbers = b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(model))
    return {"model": numbers, **every_file(directory)}


def saved(directory: Path) -> None:
    """A language model."""
    _embedded().save(directory / "model")


def loaded(directory: Path) -> Files:
    """The language model of a directory that may be damaged."""
    import sdscm_jax as sd

    return {"model": sd.load_lm(directory / "model").fingerprint().encode()}


_GENERATION: dict[str, Callable[[Any], Any]] = {
    "sdscm_jax.bench.generation._drawn": once,
    "sdscm_jax.bench.generation.dataset_frame": drawn_once,
}
# What an estimator is, is asked for each of them.
_EVALUATION = _GENERATION | {
    "sdscm_jax.bench.evaluation.described": cache,
    "sdscm_jax.bench.evaluation.write_report": without_pictures,
}
_SIMULATION = {
    "sdscm_jax.engine.simulate.separate": once,
    "sdscm_jax.engine.staged.digest": once,
    "sdscm_jax.engine.staged.compiled": by_size,
}
_STEPS = ("_trained", "_programs", "hash_programs")

KEEPERS: dict[str, Keeper] = {
    "simulate": Keeper(simulated, hurry=_SIMULATION),
    "store": Keeper(stored, only("*.numbers"), stored_again, _SIMULATION),
    "generate": Keeper(generated, hurry=_GENERATION),
    "evaluate": Keeper(evaluated, hurry=_EVALUATION),
    "audit": Keeper(audited, again=audited_again),
    "train": Keeper(trained, again=trained_on, hurry={f"sdscm_jax.models.training.{name}": once for name in _STEPS}),
    "save": Keeper(saved, again=loaded),
}
# What one keeper wrote, read by another.
READERS: dict[str, Keeper] = {
    "benchmark": Keeper(generated_and_evaluated, again=evaluated_again, hurry=_EVALUATION),
}
