"""Training runs on disk: killed and resumed is never killed."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sdscm_jax as sd
from sdscm_jax.errors import ResumeError
from sdscm_jax.models.families import tiny_config
from sdscm_jax.models.training import Batch, train_lm

from ..conftest import make_tiny_lm
from ..needs import ROOT
from .random_batches import batches_of, random_batch


@pytest.fixture(autouse=True)
def quick_compilation() -> None:
    """Nearly all the time of these tests is compilation."""
    jax.config.update("jax_disable_most_optimizations", True)


class Killed(Exception):
    pass


def run_of(lm: sd.LanguageModel, where: Path | None, stop: int | None = None, **changes: Any) -> sd.LanguageModel:
    """Nine steps of two batches, with a schedule; killed where ``stop`` says."""

    def on_step(step: int, loss: float, current: Any) -> None:
        if step == stop:
            raise Killed

    arguments = {
        "batches": batches_of(lm, 18),
        "optimizer": optax.adam(optax.cosine_decay_schedule(changes.pop("rate", 1e-2), 9)),
        "adapter": sd.LowRank(lm, 2),
        "average": 0.5,
        "accumulate": 2,
        **changes,
    }
    return train_lm(lm, checkpoint=where, every=2, on_step=on_step, **arguments)


def files(where: Path) -> dict[str, bytes]:
    return {name: (where / name).read_bytes() for name in ("run.json", "losses.csv")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adapter", "all weights, of bfloat16"])
def test_killed_and_resumed_is_never_killed(lm: sd.LanguageModel, tmp_path: Path, kind: str) -> None:
    """Killed twice, between saves; weights, losses and their files."""
    run = partial(run_of, **({} if kind == "adapter" else {"adapter": None}))
    lm = lm if kind == "adapter" else jax.tree.map(lambda x: x.astype(jnp.bfloat16), lm)
    whole = run(lm, tmp_path / "whole")
    assert run(lm, None).fingerprint() == whole.fingerprint()
    for stop in (3, 8):
        with pytest.raises(Killed):
            run(lm, tmp_path / "killed", stop)
    assert [p.name for p in (tmp_path / "killed" / "steps").iterdir()] == ["8"]
    resumed = run(lm, tmp_path / "killed")
    assert resumed.fingerprint() == whole.fingerprint()
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    # The run is over: its model is read, and no step made.
    again = run(lm, tmp_path / "whole", stop=9)
    assert again.fingerprint() == whole.fingerprint()


def small_run(where: str | Path, kill: int | None = None) -> str:
    """Six steps; the process kills itself in step ``kill``."""
    lm, rng = sd.random_lm(tiny_config("llama"), sd.load_lm().tokenizer), np.random.default_rng(0)
    # JAX's draws depend, in the last place, on how an earlier test had them compiled.
    lm = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.1, x.shape), x.dtype), lm)

    def on_step(step: int, loss: float, current: Any) -> None:
        if step == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    batches = batches_of(lm, 6)
    return train_lm(lm, batches, optax.adam(1e-2), checkpoint=where, every=2, on_step=on_step).fingerprint()


@pytest.mark.slow
def test_killed_by_the_system(tmp_path: Path) -> None:
    """This process goes on from what a killed one left."""
    where = tmp_path / "killed"
    command = f"from tests.models.test_training_runs import small_run; small_run({str(where)!r}, kill=5)"
    env = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [p.name for p in (where / "steps").iterdir()] == ["4"]
    assert small_run(where) == small_run(tmp_path / "whole")
    assert files(where) == files(tmp_path / "whole")


def test_losses_are_kept(lm: sd.LanguageModel, tmp_path: Path) -> None:
    """The file has what ``on_step`` is told, also of a last step that has fewer batches."""
    told: list[float] = []

    def train(batches: list[Batch], checkpoint: Path | None) -> sd.LanguageModel:
        told.clear()
        return train_lm(
            lm,
            batches,
            optax.sgd(0.1),
            accumulate=2,
            checkpoint=checkpoint,
            on_step=lambda step, loss, current: told.append(loss),
        )

    train(batches_of(lm, 5), tmp_path)
    with (tmp_path / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    np.testing.assert_array_equal([np.float32(row["loss"]) for row in rows], np.float32(told))
    # The last step was not saved, since with more batches it is another one.
    longer = train(batches_of(lm, 6), tmp_path)
    assert len(told) == 1
    assert longer.fingerprint() == train(batches_of(lm, 6), None).fingerprint()


@pytest.fixture(scope="module")
def killed(lm: sd.LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that was killed in its third step."""
    where = tmp_path_factory.mktemp("killed")
    with pytest.raises(Killed):
        run_of(lm, where, stop=3)
    return where


@pytest.mark.parametrize("change", ["model", "rate", "adapter", "seed", "average", "accumulate", "shape"])
def test_another_run(lm: sd.LanguageModel, killed: Path, change: str) -> None:
    kept = files(killed)
    other = make_tiny_lm(lm.tokenizer, seed=1) if change == "model" else lm
    changes, said = {
        "model": ({"batches": batches_of(lm, 18), "adapter": sd.LowRank(lm, 2)}, "language model is"),
        "rate": ({"rate": 2e-2}, "program of a step"),
        "adapter": ({"adapter": sd.LowRank(lm, 2, alpha=1.0)}, "program of a step"),
        "seed": ({"adapter": sd.LowRank(lm, 2, rngs=1)}, "start of what is trained"),
        "average": ({"average": 0.6}, "program of a step"),
        "accumulate": ({"accumulate": 3}, "accumulate is 2 there and 3 here"),
        "shape": ({"batches": [random_batch(0, 9, rows=3)] * 18}, "program of a step"),
    }[change]
    with pytest.raises(ResumeError, match=f"is of another run: {said}[^;]*; use another directory"):
        run_of(other, killed, **changes)
    assert files(killed) == kept


def test_other_batches(lm: sd.LanguageModel, killed: Path) -> None:
    batches = batches_of(lm, 18)

    def others() -> Iterator[Batch]:
        yield from batches[:3]
        yield batches[3]._replace(weights=2 * batches[3].weights)
        yield from batches[4:]

    with pytest.raises(ResumeError, match="other batches made its 2 steps"):
        run_of(lm, killed, batches=others())
    with pytest.raises(ResumeError, match="of a longer run: it has made 2 steps, and there are batches for 1"):
        run_of(lm, killed, batches=batches[:2])


def test_another_directory(lm: sd.LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ResumeError, match=r"is of no training run: it has 'thesis\.txt' and no run\.json"):
        run_of(lm, tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ResumeError, match=r"run\.json cannot be read"):
        run_of(lm, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.json", "thesis.txt"]
