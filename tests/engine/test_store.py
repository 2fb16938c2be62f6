"""What a store says is what a language model answered, or an error that names the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

import sdscm_jax as sd
from sdscm_jax.durable import LOCK, put_sealed, read_sealed
from sdscm_jax.engine import manifest
from sdscm_jax.engine.store import Store
from sdscm_jax.testing import mock_lm


@pytest.fixture(scope="module")
def lm() -> sd.LanguageModel:
    return mock_lm()


def model(lm: sd.LanguageModel) -> None:
    x = sd.sample("x", sd.Choice(lm, "It is {}.", ["sun", "rain", "hail"]))
    y = sd.sample("y", sd.Choice(lm, "Then {}.", ["a", "b"], given=[x]))
    sd.sample("z", sd.Choice(lm, "So {}.", ["ab", "ba", "b"], given=[x, y]))


def run(lm: sd.LanguageModel, store: Path, n: int = 20, **options: Any) -> sd.Simulation:
    return sd.simulate(model, 0, n, lm, store=store, progress=False, **options)


def same(a: sd.Simulation, b: sd.Simulation) -> bool:
    pairs = [(a.values[x], b.values[x]) for x in a.values] + [(a.log_probs[x], b.log_probs[x]) for x in a.log_probs]
    return all(x.tobytes() == y.tobytes() for x, y in pairs)


def scores(store: Path) -> list[Path]:
    return sorted(store.glob("*/*.scores"))


@pytest.mark.slow
def test_no_damage_changes_a_number(lm: sd.LanguageModel, tmp_path: Path) -> None:
    first = run(lm, tmp_path)
    rng, refused = np.random.default_rng(0), 0
    assert len(scores(tmp_path)) == 3
    for path in scores(tmp_path) * 2:
        data = path.read_bytes()
        flipped = bytearray(data)
        flipped[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        for damaged in (bytes(flipped), data[: int(rng.integers(len(data)))], data + b"0"):
            path.write_bytes(damaged)
            with pytest.raises(sd.ResumeError, match=path.name):
                run(lm, tmp_path)
            refused += 1
        path.write_bytes(data)
    assert refused == 18
    again = run(lm, tmp_path)
    assert again.stats["tokens"] == 0
    assert same(first, again)


@pytest.mark.slow
def test_a_file_of_something_else_is_named(lm: sd.LanguageModel, tmp_path: Path) -> None:
    """Whole files with their checksums: of other options, or of no log-probabilities."""
    first = run(lm, tmp_path / "store")
    x, y, z = scores(tmp_path / "store")
    was = x.read_bytes(), y.read_bytes(), z.read_bytes()
    x.write_bytes(was[1])
    with pytest.raises(sd.ResumeError, match=x.name):
        run(lm, tmp_path / "store")
    x.write_bytes(was[0])
    tensors = load(read_sealed(z))
    edges, keys = tensors["edges"], tensors["keys"]
    wrong = [
        {"edges": np.where(np.arange(edges.size).reshape(edges.shape) == 1, value, edges)}
        for value in (np.float32("nan"), np.float32("inf"), np.float32(0.5))
    ]
    wrong += [{"edges": edges[:, :-1]}, {"edges": edges[:-1]}, {"edges": edges.astype(np.float64)}, {"edges": edges[0]}]
    wrong += [{"keys": keys[:, :-1]}, {"keys": keys.astype(np.int32)}, {"of": tensors["of"][:-1]}]
    for change in wrong:
        put_sealed(z, save({name: np.ascontiguousarray(a) for name, a in {**tensors, **change}.items()}))
        with pytest.raises(sd.ResumeError, match=z.name):
            run(lm, tmp_path / "store")
    for data in (b"", b"[]", save({"keys": keys})):
        put_sealed(z, data)
        with pytest.raises(sd.ResumeError, match=z.name):
            run(lm, tmp_path / "store")
    z.write_bytes(was[2])
    assert same(first, run(lm, tmp_path / "store"))


def test_another_version_is_another_store(
    lm: sd.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(lm, tmp_path)
    assert run(lm, tmp_path).stats["stored"] > 0
    plain = manifest.version
    monkeypatch.setattr(manifest, "version", lambda name: "999" if name == "sdscm-jax" else plain(name))
    assert run(lm, tmp_path).stats["stored"] == 0


def test_what_is_no_score_is_not_kept(lm: sd.LanguageModel, tmp_path: Path) -> None:
    question = sd.Choice(lm, "It is {}.", ["sun", "rain"]).question
    store = Store(tmp_path, lm)
    rows = np.full((4, len(question.tree.edge_rows)), -1.0, np.float32)
    rows[0, 0], rows[1, 0], rows[2, 0] = np.nan, 1.0, -np.inf
    paths = [np.array([i]) for i in range(4)]
    store.add(question, paths, rows)
    store.flush()
    found = Store(tmp_path, lm).read(question, paths)
    assert found[0] is None
    assert found[1] is None
    np.testing.assert_array_equal(np.stack(found[2:]), rows[2:])  # type: ignore[arg-type]


def test_a_place_that_is_no_directory_is_one_error(lm: sd.LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(sd.SDSCMError, match="file"):
            run(lm, place)


def test_a_directory_that_vanishes_or_is_full_is_one_error(
    lm: sd.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(lm, tmp_path / "whole")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with pytest.raises(sd.SDSCMError, match="No space left"):
            run(lm, tmp_path / "full")
    assert not scores(tmp_path / "full")
    assert same(first, run(lm, tmp_path / "full"))
    # A process that was killed while it wrote.
    (half := next((tmp_path / "full").iterdir()) / ".half.scores.tmp").write_bytes(b"half")
    assert run(lm, tmp_path / "full").stats["tokens"] == 0
    assert not half.exists()
    assert {p.name for p in half.parent.iterdir()} == {LOCK, *(p.name for p in scores(tmp_path / "full"))}


def test_two_write_to_one_store(lm: sd.LanguageModel, tmp_path: Path) -> None:
    """Each waits for the other; who asked the same does not write it again."""
    question = sd.Choice(lm, "It is {}.", ["sun", "rain"]).question
    a, b = Store(tmp_path, lm), Store(tmp_path, lm)
    row = np.full((1, len(question.tree.edge_rows)), -1.0, np.float32)
    a.add(question, [np.array([1])], row)
    b.add(question, [np.array([1])], row - 1e-6)
    b.add(question, [np.array([2])], row)
    for store in (a, b, a):
        store.flush()
    found = Store(tmp_path, lm).read(question, [np.array([1]), np.array([2])])
    assert all(x is not None for x in found)
