"""Several devices and several processes give what one device gives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

COMMON = """
import sys, numpy as np, jax, jax.numpy as jnp
sys.path.insert(0, {root!r})
jax.config.update("jax_disable_most_optimizations", True)
import sdscm_jax as sd
from sdscm_jax.models.families import tiny_config
from sdscm_jax.models.on_mesh import shard_lm
from sdscm_jax.dsl.language.choice import Choice

def model(lm):
    x = sd.sample("x", Choice(lm, "It is {{}}.", ["sun", "rain"], temperature=5.0))
    y = sd.sample("y", Choice(lm, "We saw {{}} today.", ["low", "high", "25"], given=[x], temperature=5.0))
    sd.sample("z", Choice(lm, "Then {{}}.", ["a", "b"], given=[x, y], temperature=5.0))

def run(lm, execution):
    return sd.simulate(model, 0, 24, lm, worlds=[{{"y": "low"}}, {{"y": "25"}}], execution=execution, memory=1 << 22)

def agree(a, b):
    for name, x in a.values.items():
        assert (x == b.values[name]).mean() > 0.98, name
    for name, x in a.log_probs.items():
        np.testing.assert_allclose(x[:, 1:], b.log_probs[name][:, 1:], atol=5e-4)

embedded = sd.load_lm()
config = tiny_config("llama", embedded.config.vocab_size)
lm = sd.random_lm(config, embedded.tokenizer)
"""

EIGHT = """
one = run(lm, "staged")
sharded = shard_lm(lm, jax.make_mesh((2, 4), ("data", "tensor")))
staged = run(sharded, "staged")
agree(staged, one)
# Every place on the data axis has a trie of its own; nothing else is computed twice.
assert staged.stats["trie_tokens"] <= 2 * one.stats["trie_tokens"]
agree(run(sharded, "in_graph"), one)

def story(lm):
    said = sd.sample("said", sd.Text(lm, "We saw {}.", max_tokens=4))
    sd.sample("z", Choice(lm, "Then {}.", ["a", "b"], given=[said], temperature=5.0))

def tell(lm):
    return sd.simulate(story, 0, 12, lm, worlds=[{"said": "rain"}], execution="staged", memory=1 << 22)

agree(tell(sharded), tell(lm))

def seen(lm):
    notes = ["rain", "sun", "rain", "the end"]
    return sd.simulate(story, 0, 4, lm, evidence={"said": notes}, worlds=[{"z": "a"}], draws=2, execution="staged")

a, b = seen(sharded), seen(lm)
agree(a, b)
assert (a.values["said"] == b.values["said"]).all()
print("done")
"""

TWO = """
assert jax.process_count() == 2 and len(jax.devices()) == 4
agree(run(shard_lm(lm, jax.make_mesh((2, 2), ("data", "tensor"))), "staged"), run(lm, "staged"))
print("done")
"""


def start(script: str, devices: int) -> subprocess.Popen[str]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
    )


def finished(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-4000:]
    assert out.strip().endswith("done")


@pytest.mark.slow
def test_eight_devices() -> None:
    finished(start(COMMON.format(root=str(ROOT)) + EIGHT, 8))


@pytest.mark.slow
def test_two_processes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        start(
            f"import jax; jax.distributed.initialize('127.0.0.1:{port}', num_processes=2, process_id={i})\n"
            + COMMON.format(root=str(ROOT))
            + TWO,
            2,
        )
        for i in range(2)
    ]
    try:
        for process in processes:
            finished(process)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
