"""Runs in a directory: killed and resumed is never killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

import sdscm_jax as sd


def model(lm: sd.LanguageModel, shift: float = 0.0) -> None:
    x = sd.sample("x", sd.Choice(lm, "It is {}.", ["sun", "rain"], temperature=9.0))
    z = numpyro.sample("z", dist.Normal(x.map({"sun": 0.0, "rain": 2.0}) + shift, 1.0).expand([2]).to_event(1))
    sd.sample("y", sd.Choice(lm, "Then {}.", ["a", "b"], given=[x], temperature=5.0 + z[0] ** 2))


def other(lm: sd.LanguageModel, shift: float = 0.0) -> None:
    x = sd.sample("x", sd.Choice(lm, "It is {}.", ["sun", "rain"], temperature=8.0))
    z = numpyro.sample("z", dist.Normal(x.map({"sun": 0.0, "rain": 2.0}) + shift, 1.0).expand([2]).to_event(1))
    sd.sample("y", sd.Choice(lm, "Then {}.", ["a", "b"], given=[x], temperature=5.0 + z[0] ** 2))


WORLDS = [{"x": "sun"}, {"x": "rain"}]


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["staged", "in_graph"])
def test_resumed_is_the_same(lm: sd.LanguageModel, tmp_path: Path, execution: str) -> None:
    def run(out: str | None) -> sd.Simulation:
        where = None if out is None else tmp_path / out
        return sd.simulate(model, 0, 25, lm, worlds=WORLDS, chunk=8, out=where, execution=execution)

    whole, plain = run("whole"), run(None)
    again = run("whole")
    assert again.stats.get("tokens", 0) == 0
    for name, x in whole.values.items():
        np.testing.assert_array_equal(x, again.values[name])
        assert x.dtype == again.values[name].dtype
        np.testing.assert_allclose(x, plain.values[name], atol=1e-4)
    for name, x in whole.log_probs.items():
        np.testing.assert_array_equal(x, again.log_probs[name])
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "whole"), whole.to_pandas(), check_categorical=False)

    run("cut")
    for part in (1, 3):
        (tmp_path / "cut" / f"part-{part:05d}.parquet").unlink()
    run("cut")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


@pytest.mark.slow
def test_another_run_is_refused(lm: sd.LanguageModel, gpt2: sd.LanguageModel, tmp_path: Path) -> None:
    def run(fn: Any = model, key: int = 0, n: int = 9, model_lm: Any = lm, shift: float = 0.0, **options: Any) -> None:
        sd.simulate(fn, key, n, model_lm, shift, **{"chunk": 4, "out": tmp_path, **options})

    run()
    before = files(tmp_path)
    for change, named in [
        ({"fn": other}, "program"),
        ({"key": 1}, "key"),
        ({"n": 10}, "units"),
        ({"model_lm": gpt2}, "language_models"),
        ({"shift": 1.0}, "arguments"),
        ({"chunk": 5}, "chunk"),
        ({"worlds": WORLDS}, "worlds"),
        ({"evidence": {"x": "sun"}}, "evidence.sites"),
    ]:
        with pytest.raises(sd.ResumeError, match=named):
            run(**change)
    assert files(tmp_path) == before
    part = tmp_path / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(sd.ResumeError, match=r"part-00001\.parquet"):
        run()


def test_free_text_comes_back(lm: sd.LanguageModel, tmp_path: Path) -> None:
    def writes(lm: sd.LanguageModel) -> None:
        sd.sample("t", sd.Text(lm, "It is {}.", max_tokens=3))

    first, again = (sd.simulate(writes, 0, 5, lm, out=tmp_path, chunk=3) for _ in range(2))
    np.testing.assert_array_equal(first.values["t"], again.values["t"])


SERVER = """
import os, sys, warnings
import jax, pandas, pyarrow.parquet, sdscm_jax as sd
from sdscm_jax.engine import manifest, parts, staged

sys.path.insert(0, {root!r})
jax.config.update("jax_compilation_cache_dir", {cache!r})
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_disable_most_optimizations", True)

def model(lm):
    x = sd.sample("x", sd.Choice(lm, "It is {{}}.", ["sun", "rain"]))
    sd.sample("y", sd.Choice(lm, "Then {{}}.", ["a", "b", "c"], given=[x]))

# One import for all runs; nothing of JAX has started yet when a run is forked.
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        lm = sd.load_lm()
        sd.simulate(model, 0, 60, lm, worlds=[{{"x": "sun"}}], chunk=3, out=line.strip())
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.slow
def test_killed_again_and_again(tmp_path: Path) -> None:
    script = SERVER.format(root=str(Path(__file__).parents[2]), cache=str(tmp_path / "cache"))
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def parts(out: str) -> int:
            return len(list((tmp_path / out).glob("part-*.parquet")))

        def run(out: str, kill_after: float | None = None) -> int:
            """Run; with ``kill_after``, kill that many seconds after one more part has been written."""
            before = parts(out)
            server.stdin.write(f"{tmp_path / out}\n")  # type: ignore[union-attr]
            server.stdin.flush()  # type: ignore[union-attr]
            child = int(server.stdout.readline())  # type: ignore[union-attr]
            if kill_after is not None:
                while before == parts(out) < 20:
                    time.sleep(0.001)
                time.sleep(kill_after)
                with suppress(ProcessLookupError):  # it was done already
                    os.kill(child, signal.SIGKILL)
            return int(server.stdout.readline())  # type: ignore[union-attr]

        assert run("undisturbed") == 0  # compiles
        rng = random.Random(0)
        killed = sum(run("killed", rng.uniform(0, 0.02)) == signal.SIGKILL for _ in range(6))
        assert run("killed") == 0
        server.stdin.close()
    assert killed > 2
    assert files(tmp_path / "killed") == files(tmp_path / "undisturbed")
