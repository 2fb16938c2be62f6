"""A run in a directory goes on with what it began with, and comes back a part at a time."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

import sdscm_jax as sd
from sdscm_jax.engine import manifest
from sdscm_jax.engine import simulate as module
from sdscm_jax.engine.parts import PartFiles
from sdscm_jax.testing import mock_lm

WORLDS = [{"a.b": "high"}, {"a.b": "low"}]


def model(lm: sd.LanguageModel) -> None:
    """Names of which one begins another, numbers, a site without any, free text."""
    a = sd.sample("a", sd.Choice(lm, "It is {}.", ["low", "high"]))
    b = sd.sample("a.b", sd.Choice(lm, "Then {}.", ["low", "high", "no"], given=[a]))
    numpyro.sample("z", dist.Normal(a.map({"low": 0.0, "high": 2.0}), 1.0).expand([2, 3]).to_event(2))
    numpyro.sample("none", dist.Normal(np.zeros((0, 2), np.float32), 1.0))
    sd.sample("t", sd.Text(lm, "So {}.", max_tokens=2, given=[b]))


@pytest.fixture(scope="module")
def lm() -> sd.LanguageModel:
    return mock_lm()


@pytest.fixture(scope="module")
def both(lm: sd.LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[sd.Simulation, sd.Simulation]:
    """The same rows in memory and in a directory: 14 rows of 7 units, in parts of 5 rows."""
    options: dict[str, Any] = {"worlds": WORLDS, "draws": 2, "chunk": 5, "progress": False, "execution": "in_graph"}
    options["evidence"] = {"a": "high"}
    kept = sd.simulate(model, 0, 7, lm, out=tmp_path_factory.mktemp("kept") / "run", **options)
    return sd.simulate(model, 0, 7, lm, **options), kept


def fresh(kept: sd.Simulation) -> sd.Simulation:
    """The same, of which nothing has been read."""
    run = kept.values.run  # type: ignore[attr-defined]
    return replace(kept, values=run.values, log_probs=run.log_probs)


@pytest.mark.slow
def test_every_way_to_read_it_gives_the_same(both: tuple[sd.Simulation, sd.Simulation], tmp_path: Path) -> None:
    plain, kept = both
    assert (len(kept), list(kept.values), list(kept.log_probs)) == (14, list(plain.values), list(plain.log_probs))
    assert repr(kept) == repr(plain)
    for one, other in ((plain.values, kept.values), (plain.log_probs, kept.log_probs)):
        for name, x in one.items():
            assert x.dtype == other[name].dtype
            np.testing.assert_array_equal(x, other[name])
    pd.testing.assert_frame_equal(kept.to_pandas(), plain.to_pandas())
    pd.testing.assert_frame_equal(kept.to_pandas(logp=["a"]), plain.to_pandas(logp=["a"]))
    assert [fresh(kept).text(i, w) for i in range(-1, 14) for w in range(3)] == [
        plain.text(i, w) for i in range(-1, 14) for w in range(3)
    ]
    with pytest.raises(sd.SiteError, match="from -14 to 13"):
        kept.text(14)
    for data, name in ((plain, "plain"), (fresh(kept), "kept")):
        data.to_parquet(tmp_path / name)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "kept"), pd.read_parquet(tmp_path / "plain"))
    with pytest.raises(sd.SDSCMError, match="unknown site with kept log-probabilities"):
        kept.to_pandas(logp=["z"])
    with pytest.raises(KeyError):
        kept.values["other"]


def test_pieces_are_of_whole_units(both: tuple[sd.Simulation, sd.Simulation]) -> None:
    plain, kept = both
    assert [len(batch) for batch in plain.batches()] == [14]
    pieces = list(fresh(kept).batches())
    # Parts of 5, 5 and 4 rows; a unit has two.
    assert [len(batch) for batch in pieces] == [4, 6, 4]
    for name, x in plain.values.items():
        np.testing.assert_array_equal(np.concatenate([batch.values[name] for batch in pieces]), x)
    for name, x in plain.log_probs.items():
        np.testing.assert_array_equal(np.concatenate([batch.log_probs[name] for batch in pieces]), x)
    assert all(batch.draws == 2 for batch in pieces)


@pytest.mark.parametrize(("draws", "sizes"), [(3, [3, 3, 6, 3]), (5, [5, 5, 5]), (15, [15])])
def test_units_that_are_longer_than_a_part(lm: sd.LanguageModel, tmp_path: Path, draws: int, sizes: list[int]) -> None:
    def one(lm: sd.LanguageModel) -> None:
        sd.sample("a", sd.Choice(lm, "It is {}.", ["low", "high"]))

    kept = sd.simulate(one, 0, 15 // draws, lm, draws=draws, chunk=4, out=tmp_path, progress=False)
    assert [len(batch) for batch in kept.batches()] == sizes
    found = np.concatenate([batch.values["a"] for batch in kept.batches()])
    np.testing.assert_array_equal(found, kept.values["a"])


def test_one_site_is_read_where_one_is_asked_for(
    both: tuple[sd.Simulation, sd.Simulation], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = fresh(both[1])
    asked: list[tuple[int, Any]] = []
    plain = PartFiles.read

    def read(files: PartFiles, i: int, columns: Any = None) -> Any:
        asked.append((i, columns))
        return plain(files, i, columns)

    monkeypatch.setattr(PartFiles, "read", read)
    assert "a" in kept.values
    assert len(kept.values) == 5
    assert not asked
    kept.values["a"]
    kept.values["a"]
    assert asked == [(i, ["a", "a|do(a.b=high)", "a|do(a.b=low)"]) for i in range(3)]
    asked.clear()
    kept.text(6)
    assert [i for i, _ in asked] == [1]


def test_arrays_in_place_of_those_that_are_kept_are_the_ones_that_count(
    both: tuple[sd.Simulation, sd.Simulation],
) -> None:
    kept = both[1]
    first = replace(
        kept,
        values={name: x[:3] for name, x in kept.values.items()},
        log_probs={name: x[:3] for name, x in kept.log_probs.items()},
    )
    pd.testing.assert_frame_equal(first.to_pandas(), kept.to_pandas().head(3))
    assert len(first) == 3


def test_what_is_damaged_or_gone_afterwards_is_an_error(lm: sd.LanguageModel, tmp_path: Path) -> None:
    def one(lm: sd.LanguageModel) -> None:
        sd.sample("a", sd.Choice(lm, "It is {}.", ["low", "high"]))

    kept = sd.simulate(one, 0, 20, lm, chunk=8, out=tmp_path / "run", progress=False)
    part = tmp_path / "run" / "part-00001.parquet"
    good = part.read_bytes()
    part.write_bytes(good[:-1] + b"0")
    for read in (lambda: kept.values["a"], kept.to_pandas, lambda: kept.text(9), lambda: list(kept.batches())):
        with pytest.raises(sd.ResumeError, match="part-00001"):
            read()
    part.write_bytes(good)
    kept.to_pandas()
    shutil.rmtree(tmp_path / "run")
    sd.simulate(one, 1, 20, lm, chunk=8, out=tmp_path / "run", progress=False)
    with pytest.raises(sd.ResumeError, match="another run"):
        kept.to_pandas()


@pytest.mark.slow
def test_never_are_two_parts_in_memory(lm: sd.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a part is begun, nothing holds an array of those before; neither where they are computed nor where read."""

    def one(lm: sd.LanguageModel) -> None:
        sd.sample("a", sd.Choice(lm, "It is {}.", ["low", "high"]))

    held: list[weakref.ref] = []
    plain, plain_kept = module._part, module._simulation

    def note(part: Any) -> Any:
        gc.collect()
        assert not [ref for ref in held if ref() is not None]
        held.extend(weakref.ref(x) for arrays in part for x in arrays.values())
        return part

    monkeypatch.setattr(module, "_part", lambda *args: note(plain(*args)))
    sd.simulate(one, 0, 40, lm, chunk=8, out=tmp_path, progress=False)
    assert len(held) == 10
    held.clear()
    monkeypatch.setattr(module, "_simulation", lambda run, labels, part: plain_kept(run, labels, note(part)))
    sd.simulate(one, 0, 40, lm, chunk=8, out=tmp_path, progress=False)
    assert len(held) == 10


# -- what a caller leaves to us -----------------------------------------------------------------


@pytest.mark.parametrize("first", [{}, {"chunk": 4}, {"memory": 1 << 22}, {"execution": "in_graph"}])
def test_a_run_goes_on_with_what_it_began_with(
    lm: sd.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: dict[str, Any]
) -> None:
    """Though the memory that a device has left is another one by now."""

    def one(lm: sd.LanguageModel) -> None:
        sd.sample("a", sd.Choice(lm, "It is {}.", ["low", "high"]))

    def run(**options: Any) -> sd.Simulation:
        return sd.simulate(one, 0, 11, lm, out=tmp_path, progress=False, **options)

    run(**first)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(module, "default_memory", lambda lms: 12_345_678)
    (tmp_path / "part-00000.parquet").unlink()
    run()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    for other in ({"chunk": 3}, {"memory": 1 << 21}):
        with pytest.raises(sd.ResumeError, match=next(iter(other))):
            run(**other)
    with pytest.raises(sd.ResumeError, match="execution"):
        run(execution="staged" if "execution" in first else "in_graph")


@pytest.mark.parametrize(
    "wrong",
    [b"", b"[]", b"{", b"3", b'{"memory": 0, "chunk": -1}', b'{"memory": "many", "chunk": true, "execution": 3}'],
)
def test_a_manifest_that_says_nothing_of_use_is_an_error(lm: sd.LanguageModel, tmp_path: Path, wrong: bytes) -> None:
    def one(lm: sd.LanguageModel) -> None:
        sd.sample("a", sd.Choice(lm, "It is {}.", ["low", "high"]))

    (tmp_path / "_manifest.json").write_bytes(wrong)
    with pytest.raises(sd.ResumeError):
        sd.simulate(one, 0, 11, lm, out=tmp_path, progress=False)


def test_another_device_or_precision_is_another_run(
    lm: sd.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(lm: sd.LanguageModel) -> None:
        sd.sample("a", sd.Choice(lm, "It is {}.", ["low", "high"]))

    sd.simulate(one, 0, 4, lm, out=tmp_path, progress=False)
    told = json.loads((tmp_path / "_manifest.json").read_bytes())
    assert told["devices"] == {"cpu": 1}
    with jax.default_matmul_precision("bfloat16"), pytest.raises(sd.ResumeError, match=r"precision\..*matmul"):
        sd.simulate(one, 0, 4, lm, out=tmp_path, progress=False)
    plain = manifest.version
    monkeypatch.setattr(manifest, "version", lambda name: "999" if name == "numpyro" else plain(name))
    with pytest.raises(sd.ResumeError, match=r"versions\.numpyro"):
        sd.simulate(one, 0, 4, lm, out=tmp_path, progress=False)
