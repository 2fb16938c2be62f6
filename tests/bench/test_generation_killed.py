"""generate and evaluate killed by the system at random moments, gone on with, and compared."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from ..damage import contents
from ..needs import ROOT
from .conftest import SMALL

pytestmark = pytest.mark.search

GENERATE = """
import json, sys
from sdscm_jax.bench.generation import generate
from sdscm_jax.families import Family
generate(Family.from_json(json.loads(sys.argv[1])), sys.argv[2], datasets=3, wordings=2, units=60, progress=False)
"""
EVALUATE = """
import sys
from sdscm_jax.bench.evaluation import evaluate
evaluate(sys.argv[1], sys.argv[2], estimators="linear_t,linear_s", progress=False)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=ROOT, env=env)


def killed_and_resumed(program: str, source: str, where: Path, seconds: float, seed: int, kills: int) -> int:
    """Killed a few times at moments between the first file and the end; how often it was."""
    moments, done = random.Random(seed), 0
    for _ in range(kills):
        child = start(program, source, str(where))
        while not where.exists() and child.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, seconds))
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            done += 1
        child.wait()
    assert start(program, source, str(where)).wait() == 0
    return done


@pytest.mark.parametrize("seed", range(3))
def test_generate(benchmark: Path, tmp_path: Path, seed: int) -> None:
    # Another process compiles otherwise than this one, whose tests ran before it.
    assert start(GENERATE, json.dumps(SMALL), str(tmp_path / "whole")).wait() == 0
    assert killed_and_resumed(GENERATE, json.dumps(SMALL), tmp_path / "killed", 10, seed, 3)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("seed", range(3))
def test_evaluate(benchmark: Path, tmp_path: Path, seed: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(EVALUATE, str(benchmark), str(whole)).wait() == 0
    assert killed_and_resumed(EVALUATE, str(benchmark), killed, 10, seed, 3)
    assert {*contents(killed)} == {*contents(whole)}
    for name in ("scores.csv", "leaderboard.csv", "difficulty.csv"):
        a, b = (pd.read_csv(where / name).drop(columns="seconds", errors="ignore") for where in (killed, whole))
        pd.testing.assert_frame_equal(a, b)
    # Whatever the times were: once it is whole, another call gives the same bytes.
    before = contents(killed)
    assert start(EVALUATE, str(benchmark), str(killed)).wait() == 0
    assert contents(killed) == before
