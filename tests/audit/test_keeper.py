"""What an audit keeps is used again for the same question only, and gives the same bytes."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sdscm_jax as sd
from sdscm_jax import audit as sa
from sdscm_jax.audit import wording_effects
from sdscm_jax.audit.files import TABLES
from sdscm_jax.dsl.scoring.template import Template
from sdscm_jax.durable import LOCK, locked, put_sealed, read_sealed
from sdscm_jax.errors import SDSCMError
from sdscm_jax.testing import mock_lm
from tests.audit.test_auditing import CONTENT

OPTIONS: dict[str, Any] = {"wordings": 2, "option_wordings": 2, "pairs": 1, "progress": False}


@pytest.fixture(scope="module")
def lm() -> sd.LanguageModel:
    return mock_lm()


@pytest.fixture(scope="module")
def spec() -> sa.AuditSpec:
    """Every field says something: a mediator of each kind, other words for options, a pattern, two scorings."""
    friend, mood, plan = CONTENT["variables"]  # type: ignore[misc]
    test = {**mood, "name": "test", "templates": ["The test is {}."], "options": ["bad", "good"]}
    luck = {"name": "luck", "options": ["bad", "good"], "templates": ["The luck is {}."]}
    return sa.AuditSpec.from_dict({
        **CONTENT,
        "variables": [friend, luck, mood, test, {**plan, "parents": ["sky", "friend", "luck", "mood", "test"]}],
        "mediators": {"legitimate": ["test"], "not_legitimate": ["mood"]},
        "option_wordings": {"mood": [["low", "high"], ["down", "up"]]},
        "can_show": "Something.", "cannot_show": "Much.", "source": "Here.", "licence": "CC0", "lms": ["x"],
        "scorings": ["sequence", "mean"],
    })  # fmt: skip


def told(result: sa.AuditResult) -> list[Any]:
    tables = [getattr(result, name) for name in TABLES]
    return [result.pairs, *(x.to_csv() if isinstance(x, pd.DataFrame) else x for x in tables)]


# -- every field of a specification --------------------------------------------------------------

Path_ = tuple[Any, ...]


def items(value: Any) -> list[tuple[Any, Any]]:
    """What a value holds, by name or place."""
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple):
        return list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    return list(value.items()) if isinstance(value, dict) else []


def with_item(value: Any, key: Any, item: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **{key: item})  # type: ignore[type-var]
    if isinstance(value, dict):
        return {**value, key: item}
    return value._replace(**{key: item}) if hasattr(value, "_fields") else (*value[:key], item, *value[key + 1 :])


def places(value: Any, fields: Path_ = (), path: Path_ = ()) -> Iterator[tuple[Path_, Path_, Any]]:
    """Every value in a value, itself included: the fields that it is in, the way to it, and the value."""
    yield fields, path, value
    named = dataclasses.is_dataclass(value) or hasattr(value, "_fields")
    for key, item in items(value):
        within = (*fields, f"{type(value).__name__}.{key}") if named else fields
        yield from places(item, within, (*path, key))


def put_in(value: Any, path: Path_, new: Any) -> Any:
    if not path:
        return new
    return with_item(value, path[0], put_in(dict(items(value))[path[0]], path[1:], new))


def renamed(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return new if value == old else value
    if isinstance(value, dict):
        return {renamed(key, old, new): renamed(item, old, new) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **{k: renamed(x, old, new) for k, x in items(value)})  # type: ignore[type-var]
    if isinstance(value, tuple):
        found = [renamed(x, old, new) for x in value]
        return type(value)(*found) if hasattr(value, "_fields") else tuple(found)
    return value


def others(spec: sa.AuditSpec, value: Any) -> list[Any]:
    """Values that may stand in another's place."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, str):
        texts = {x for _, _, x in places(spec) if isinstance(x, str)} - {value}
        return [f"Also {value}", f"{value} too", *sorted(texts)]
    if value is None:
        return ["[a-z ]+"]
    return [value[::-1], value[1:]] if type(value) is tuple else []


def changes(spec: sa.AuditSpec) -> Iterator[tuple[Path_, sa.AuditSpec]]:
    """Specifications that differ in one place, or that call one thing otherwise."""
    for fields, path, value in places(spec):

        def tried(value: Any = value, path: Path_ = path) -> Iterator[sa.AuditSpec]:
            makers = [lambda new=new: put_in(spec, path, new) for new in others(spec, value)]
            if isinstance(value, str):
                makers.append(lambda: renamed(spec, value, f"{value} or so"))
            for make in makers:
                try:
                    yield make()
                except SDSCMError:
                    continue

        for other in islice(tried(), 2):
            yield fields, other


@pytest.mark.search
def test_any_field_that_is_changed_is_asked_anew(spec: sa.AuditSpec, lm: sd.LanguageModel, tmp_path: Path) -> None:
    """A field that is added to a specification is tried by itself: none may be left without a change."""
    sa.audit(spec, lm, out=tmp_path, **OPTIONS)
    seen: set[str] = set()
    times = dict.fromkeys([fields for fields, _, _ in places(spec)], 0)
    for fields, other in changes(spec):
        if not fields or times[fields] == 2:
            continue
        times[fields] += 1
        seen |= set(fields)
        require_as_fresh(other, lm, tmp_path, pairs=int("AuditSpec.text" in fields), option_wordings=times[fields])
    assert seen == {name for fields in times for name in fields}


def require_as_fresh(spec: sa.AuditSpec, lm: sd.LanguageModel, out: Path, **options: Any) -> None:
    options = OPTIONS | options
    try:
        fresh = told(sa.audit(spec, lm, **options))
    except SDSCMError as error:
        with pytest.raises(type(error)):
            sa.audit(spec, lm, out=out, **options)
    else:
        assert told(sa.audit(spec, lm, out=out, **options)) == fresh


@pytest.mark.slow
def test_what_is_drawn_uniformly_is_another_question(spec: sa.AuditSpec, lm: sd.LanguageModel, tmp_path: Path) -> None:
    """Also where nothing that is written differs; and a wording keeps its own numbers where another comes before it."""
    few = dataclasses.replace(spec, text=None, scorings=("sequence",))
    sa.audit(few, lm, out=tmp_path, **OPTIONS, memory=1 << 24)
    first, *rest = few.variables
    uniform = dataclasses.replace(first, uniform=True)
    more = dataclasses.replace(first, templates=(*first.templates[::-1], Template.parse("You know {}.")))
    for variable in (uniform, more):
        require_as_fresh(dataclasses.replace(few, variables=(variable, *rest)), lm, tmp_path)
    require_as_fresh(few, lm, tmp_path, seed=1)
    require_as_fresh(few, lm, tmp_path, memory=1 << 24)


# -- bytes -------------------------------------------------------------------------------------


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_killed_and_gone_on_with_is_never_killed(
    spec: sa.AuditSpec, lm: sd.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file, with the report and the tokens that were asked."""

    def run(out: str) -> sa.AuditResult:
        result = sa.audit(spec, {"a": lm, "again": lm}, out=tmp_path / out, **OPTIONS)
        sa.write_audit(tmp_path / out, result)
        return result

    whole = run("whole")
    assert (whole.lms["tokens"] > 0).all()
    assert told(whole) == told(run("whole"))
    plain, calls = wording_effects.tables_of, []

    def killed(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return plain(*args)

    with monkeypatch.context() as patch:
        patch.setattr(wording_effects, "tables_of", killed)
        with pytest.raises(KeyboardInterrupt):
            run("cut")
    run("cut")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    # One cell, and one example.
    for kept in sorted((tmp_path / "cut" / "cells").iterdir())[::2]:
        kept.unlink()
    run("cut")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_who_gives_no_memory_goes_on_with_what_is_there(
    spec: sa.AuditSpec, lm: sd.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dataclasses.replace(spec, text=None, scorings=("sequence",))
    first = sa.audit(few, lm, out=tmp_path, **OPTIONS)
    before = files(tmp_path)
    monkeypatch.setattr("sdscm_jax.engine.tabulation.default_memory", lambda lms: 1 << 22)
    assert told(sa.audit(few, lm, out=tmp_path, **OPTIONS)) == told(first)
    assert files(tmp_path) == before


@pytest.fixture(scope="module")
def kept(spec: sa.AuditSpec, lm: sd.LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A small audit, and where it is kept."""
    few, out = dataclasses.replace(spec, text=None, scorings=("sequence",)), tmp_path_factory.mktemp("kept")

    def run() -> sa.AuditResult:
        return sa.audit(few, lm, out=out, wordings=2, option_wordings=1, pairs=1, progress=False)

    run()
    return run, out


def test_a_cell_that_is_damaged_is_named(kept: tuple[Any, Path]) -> None:
    run, out = kept
    rng, good = np.random.default_rng(0), run()
    for path in sorted((out / "cells").iterdir()):
        data = path.read_bytes()
        flipped = bytearray(data)
        flipped[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        for damaged in (b"", b"[]", data[:-9], bytes(flipped), data + b"\n"):
            path.write_bytes(damaged)
            with pytest.raises(sd.ResumeError, match=path.name):
                run()
        path.unlink()
        path.mkdir()
        with pytest.raises(sd.ResumeError, match=path.name):
            run()
        path.rmdir()
        path.write_bytes(data)
    assert told(run()) == told(good)


def test_a_cell_that_is_another_or_no_cell_is_named(kept: tuple[Any, Path]) -> None:
    """Whole files, with their checksums, of which the numbers are not the wording's."""
    run, out = kept
    first, *_ = paths = sorted((out / "cells").iterdir())
    was = [path.read_bytes() for path in paths]
    first.write_bytes(was[1])
    with pytest.raises(sd.ResumeError, match=first.name):
        run()
    first.write_bytes(was[0])
    for path in paths:
        content = json.loads(read_sealed(path))
        wrong: list[Any] = [[], None, {}, {**content, "found": []}, {**content, "found": {"rows": [], "tokens": 1}}]
        wrong += [{**content, "found": {**content["found"], "tokens": None}}]
        wrong += [{**content, "found": {**content["found"], "rows": content["found"]["rows"][:-1]}}]
        for other in wrong:
            put_sealed(path, json.dumps(other).encode())
            with pytest.raises(sd.ResumeError, match=path.name):
                run()
        put_sealed(path, json.dumps(content).encode())
    assert [path.read_bytes() for path in paths] == was


def test_one_audit_at_a_time_writes_to_a_directory(kept: tuple[Any, Path]) -> None:
    run, out = kept
    with locked(out / LOCK), pytest.raises(sd.ResumeError, match="is writing to") as error:
        run()
    assert str(out) in str(error.value)
    result = run()
    with locked(out / LOCK), pytest.raises(sd.ResumeError, match="is writing to"):
        sa.write_audit(out, result)


@pytest.mark.slow
def test_a_full_disk_is_one_error_and_then_the_same_bytes(
    spec: sa.AuditSpec, lm: sd.LanguageModel, kept: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dataclasses.replace(spec, text=None, scorings=("sequence",))
    plain, left = os.write, 0

    def write(descriptor: int, data: Any) -> int:
        nonlocal left
        if left < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left -= len(data)
        return plain(descriptor, data)

    def run(out: Path) -> None:
        result = sa.audit(few, lm, out=out, wordings=2, option_wordings=1, pairs=1, progress=False)
        sa.write_audit(out, result)

    run(tmp_path / "whole")
    size = sum(map(len, files(tmp_path / "whole").values()))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        for share in (0.0, 0.02, 0.3, 0.6):
            left = int(share * size)
            with pytest.raises(SDSCMError, match="No space left"):
                run(tmp_path / "full")
    run(tmp_path / "full")
    assert files(tmp_path / "full") == files(tmp_path / "whole")


def test_a_place_that_cannot_be_written_to_is_one_error(
    kept: tuple[Any, Path], spec: sa.AuditSpec, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SDSCMError, match="file"):
            sa.audit(spec, mock_lm(), out=place, **OPTIONS)
