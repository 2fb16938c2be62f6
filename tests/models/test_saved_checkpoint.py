"""A saved model or training is there as a whole, or said not to be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sdscm_jax as sd
from sdscm_jax.durable import locked
from sdscm_jax.errors import LoadError, ResumeError, SDSCMError
from sdscm_jax.models import saved_checkpoint
from sdscm_jax.models.saved_checkpoint import check_saved
from sdscm_jax.models.saved_training import Save, SavedTraining
from sdscm_jax.models.training import train_lm

from ..conftest import make_tiny_lm
from ..damage import contents, damage, enlarge, small_disk
from .random_batches import batches_of


@pytest.fixture(scope="module")
def saved(embedded: sd.LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("saved") / "model"
    embedded.save(where)
    return where


@pytest.fixture(scope="module")
def other(embedded: sd.LanguageModel) -> sd.LanguageModel:
    return jax.tree.map(lambda x: x * 2, embedded)


def test_a_model_is_saved_over_another(saved: Path, other: sd.LanguageModel, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    # Of the model before; it would say where texts end.
    (copy / "generation_config.json").write_text('{"eos_token_id": 7}')
    other.save(copy)
    other.save(tmp_path / "fresh")
    assert contents(copy) == contents(tmp_path / "fresh")
    assert sd.load_lm(copy).fingerprint() == other.fingerprint()


def test_a_save_that_is_cut_is_no_model(
    saved: Path, other: sd.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two moves of files; nothing is tidied up then."""

    class Cut(BaseException):
        pass

    other.save(tmp_path / "fresh")
    moves = len(contents(tmp_path / "fresh"))
    replace, left = os.replace, [0]

    def sometimes(source: Path, target: Path) -> None:
        if not left[0]:
            raise Cut
        left[0] -= 1
        replace(source, target)

    for number in range(moves):
        copy = tmp_path / str(number)
        shutil.copytree(saved, copy)
        with monkeypatch.context() as patch:
            left[0] = number
            patch.setattr(saved_checkpoint.os, "replace", sometimes)
            patch.setattr(saved_checkpoint.shutil, "rmtree", lambda *_, **__: None)
            with pytest.raises(Cut):
                other.save(copy)
        with pytest.raises(LoadError, match=r"has no config\.json: a save there did not end; save the model again"):
            sd.load_lm(copy)
        other.save(copy)
        assert contents(copy) == contents(tmp_path / "fresh")


def test_two_saves_at_a_time(embedded: sd.LanguageModel, tmp_path: Path) -> None:
    with locked(tmp_path / ".sdscm.lock"), pytest.raises(ResumeError, match="another process, or another call"):
        embedded.save(tmp_path)


def test_a_full_disk_leaves_the_model_before(
    embedded: sd.LanguageModel, other: sd.LanguageModel, saved: Path, tmp_path: Path
) -> None:
    need = sum(p.stat().st_size for p in saved.iterdir())
    for room in (8192, 65_536, need - 65_536):
        with small_disk(tmp_path / f"disk{room}", room) as disk:
            with pytest.raises(SDSCMError, match=r"No space left on device.*as it was"):
                embedded.save(disk / "model")
            with pytest.raises(LoadError):
                sd.load_lm(disk / "model")
            enlarge(disk, need + 131_072)
            embedded.save(disk / "model")
            assert contents(disk / "model") == contents(saved)
            with pytest.raises(SDSCMError, match="No space left on device"):
                other.save(disk / "model")
            assert contents(disk / "model") == contents(saved)


def loaded_or_refused(where: Path, expected: str) -> str:
    try:
        found = sd.load_lm(where).fingerprint()
    except LoadError as error:
        found = str(error)
    assert found == expected or str(where) in found
    return "the same" if found == expected else "refused"


@pytest.mark.parametrize("number", range(6))
def test_a_damaged_model(saved: Path, embedded: sd.LanguageModel, tmp_path: Path, number: int) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    damage(tmp_path / "copy", number)
    loaded_or_refused(tmp_path / "copy", embedded.fingerprint())


@pytest.mark.search
def test_many_damaged_models(saved: Path, embedded: sd.LanguageModel, tmp_path: Path) -> None:
    found: list[str] = []
    for number in range(1500):
        copy = tmp_path / "copy"
        shutil.copytree(saved, copy)
        told = damage(copy, number)
        try:
            found.append(loaded_or_refused(copy, embedded.fingerprint()))
        except BaseException:
            print(number, told)
            raise
        shutil.rmtree(copy)
    assert found.count("refused") > 1000


def test_every_byte_of_a_small_checkpoint_counts(saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    check_saved(copy)
    for path in sorted(p for p in copy.iterdir() if p.suffix in (".json", ".sha256")):
        data = path.read_bytes()
        for at in range(0, len(data), max(1, len(data) // 10)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            with pytest.raises(LoadError, match=r"checksum in .*sdscm\.sha256|sdscm\.sha256.* saved"):
                check_saved(copy)
        path.write_bytes(data)
    check_saved(copy)


# Training.


def run(lm: sd.LanguageModel, where: Path | None, steps: int = 6, **changes: Any) -> str:
    batches = batches_of(lm, steps)
    return train_lm(lm, batches, optax.adam(1e-2), checkpoint=where, every=2, **changes).fingerprint()


@pytest.fixture(scope="module")
def lm(tiny_tokenizer: Any) -> sd.LanguageModel:
    return make_tiny_lm(tiny_tokenizer)


def test_keys_and_all_dtypes_are_kept(tmp_path: Path) -> None:
    state = {
        "key": jax.random.split(jax.random.key(3), 2),
        "half": jnp.arange(5, dtype=jnp.bfloat16) / 3,
        "count": jnp.int32(7),
        "none": jnp.zeros((0, 4)),
        "flags": jnp.array([True, False]),
    }
    with SavedTraining(tmp_path / "run", {}) as kept:
        kept.save(3, Save(state, np.array([1, 2, 3], np.float32), "abc"))
    with SavedTraining(tmp_path / "run", {}) as kept:
        latest = kept.latest(jax.tree.map(jnp.zeros_like, state | {"key": state["half"]}) | {"key": state["key"]})
    assert latest is not None
    step, found = latest
    assert (step, found.data, found.losses.tolist()) == (3, "abc", [1, 2, 3])
    for name in state:
        a, b = state[name], found.state[name]
        assert a.dtype == b.dtype
        if name == "key":
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)
    with (
        SavedTraining(tmp_path / "run", {}) as kept,
        pytest.raises(ResumeError, match=r"steps/3 is damaged \(it holds"),
    ):
        kept.latest({"key": jnp.zeros(2)})


@pytest.mark.slow
def test_two_trainings_at_a_time(lm: sd.LanguageModel, tmp_path: Path) -> None:
    def on_step(step: int, loss: float, current: Any) -> None:
        with pytest.raises(ResumeError, match="another process, or another call"):
            run(lm, tmp_path)

    run(lm, tmp_path, steps=1, on_step=on_step)
    run(lm, tmp_path, steps=1)


@pytest.mark.slow
def test_a_training_on_a_full_disk(lm: sd.LanguageModel, tmp_path: Path) -> None:
    whole = run(lm, tmp_path / "whole")
    need = sum(p.stat().st_size for p in (tmp_path / "whole" / "steps").iterdir())
    # Room for nothing, for half of a save, and for one but not for the next beside it.
    for share in (0.01, 0.5, 1.5):
        with small_disk(tmp_path / f"disk{share}", int(share * need) + 8192) as disk:
            with pytest.raises(SDSCMError, match=r"No space left on device.*the same call goes on from it"):
                run(lm, disk / "run")
            enlarge(disk, 4 * need + 65_536)
            assert run(lm, disk / "run") == whole
            assert contents(disk / "run") == contents(tmp_path / "whole")


def damaged_training(lm: sd.LanguageModel, kept: Path, copy: Path, number: int, whole: str) -> str:
    shutil.copytree(kept, copy)
    told = damage(copy, number)
    try:
        found = run(lm, copy, steps=8)
    except ResumeError as error:
        found = str(error)
    assert found == whole or str(copy) in found, (number, told)
    return "the same" if found == whole else "refused"


@pytest.fixture(scope="module")
def trained(lm: sd.LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("trained") / "run"
    run(lm, where)
    return where


@pytest.mark.parametrize("number", range(5))
def test_a_damaged_training(lm: sd.LanguageModel, trained: Path, tmp_path: Path, number: int) -> None:
    damaged_training(lm, trained, tmp_path / "copy", number, run(lm, None, steps=8))


@pytest.mark.search
def test_many_damaged_trainings(lm: sd.LanguageModel, trained: Path, tmp_path: Path) -> None:
    whole = run(lm, None, steps=8)
    found = [damaged_training(lm, trained, tmp_path / str(i), i, whole) for i in range(100)]
    assert found.count("refused") > 50


def test_what_a_run_is_is_written_as_it_was(lm: sd.LanguageModel, trained: Path, tmp_path: Path) -> None:
    """Where what is there says the same in other bytes."""
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    (copy / "run.json").write_bytes((copy / "run.json").read_bytes()[:-1])
    run(lm, copy)
    assert contents(copy) == contents(trained)


def test_a_save_of_another_run_is_refused(lm: sd.LanguageModel, trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    shutil.move(copy / "steps" / "6", copy / "steps" / "5")
    with pytest.raises(ResumeError, match="steps/5 is of another run, or of another step"):
        run(lm, copy)
    with SavedTraining(tmp_path / "else", {"model": "coin"}) as kept:
        kept.save(6, Save({}, np.zeros(6, np.float32), ""))
    (copy / "steps" / "5").unlink()
    shutil.copy(tmp_path / "else" / "steps" / "6", copy / "steps" / "6")
    with pytest.raises(ResumeError, match="steps/6 is damaged"):
        run(lm, copy)
