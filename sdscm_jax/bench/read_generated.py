"""Benchmarks that ``generate`` wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from ..errors import DataError, FamilyError, nearest
from ..families import Family
from . import columns
from .benchmark import Benchmark, checked_hidden, read_parquet, require_columns
from .card import CARD
from .dataset import Dataset

_PART = re.compile(r"part-(\d+)\.parquet")


def open_generated(path: Path, outcome: str, option: str | None, hidden: tuple[str, ...] | None) -> Benchmark:
    """A directory that ``generate`` wrote, or is still writing; see ``open_benchmark``.

    Raises:
        DataError: its card is damaged, it holds no data set, or a name is not of it.
    """
    try:
        what = json.loads((path / CARD).read_text())
        # A text would be the path of another file.
        family, count = Family.from_json(dict(what["family"])), int(what["datasets"])
    except (ValueError, KeyError, TypeError, FamilyError) as error:
        raise DataError(f"{path / CARD} is damaged: {type(error).__name__}: {error}") from error
    assert family.treatment
    assert family.outcome
    assert family.arms
    option = option or family.outcome_option or ""
    options = family[family.outcome].options
    if option not in options:
        raise DataError(f"option: the outcome {family.outcome!r} has no option {option!r}; {nearest(option, options)}")
    hidden = checked_hidden(family.hidden if hidden is None else hidden, family.covariates)
    found = {int(m[1]): file for file in (path / "data").glob("part-*.parquet") if (m := _PART.fullmatch(file.name))}
    numbers = sorted(found)
    if not numbers:
        raise DataError(f"{path / 'data'} holds no data set: sdscm generate has not written any yet")

    def read(i: int) -> Dataset:
        return _dataset(found[numbers[i]], family, outcome, option, hidden)

    what |= {"outcome": outcome, "option": option, "hidden": list(hidden)}
    return Benchmark(path, tuple(f"{i:05d}" for i in numbers), tuple(numbers), count, what, read)


def _dataset(file: Path, family: Family, outcome: str, option: str, hidden: tuple[str, ...]) -> Dataset:
    treatment, target, arms = family.treatment, family.outcome, family.arms
    assert treatment
    assert target
    assert arms
    worlds = [columns.world(treatment, arm) for arm in arms]
    raw = [columns.log_probability(target, option, label) for label in worlds]
    drawn = [columns.value(target, label) for label in worlds]
    exact = [columns.exact(target, option, label) for label in worlds]
    frame = read_parquet(file)
    needed = [columns.WORDING, columns.UNIT, columns.PROPENSITY, treatment, *family.covariates, *raw, *drawn]
    require_columns(frame, needed, file)
    # Individuals with another treatment say nothing of these two.
    frame = frame[frame[treatment].isin(arms)].reset_index(drop=True)
    t = (frame[treatment] == arms[1]).to_numpy().astype(np.int8)
    if outcome == "drawn":
        outcomes = np.stack([(frame[c] == option).to_numpy().astype(np.float64) for c in drawn], axis=1)
    else:
        outcomes = frame[raw].to_numpy(np.float64)
        outcomes = np.exp(outcomes) if outcome == "probability" else outcomes
    if outcome != "logp" and exact[0] in frame:
        cate = frame[exact[1]].to_numpy(np.float64) - frame[exact[0]].to_numpy(np.float64)
    elif family.mediators:
        # The mean of a log-probability over mediators is not among what was computed.
        cate = np.full(len(frame), np.nan)
    else:
        cate = outcomes[:, 1] - outcomes[:, 0]
    return Dataset(
        file.stem.removeprefix("part-"),
        str(frame[columns.WORDING].iloc[0]) if len(frame) else "",
        frame[list(family.covariates)],
        hidden,
        t,
        outcomes[np.arange(len(t)), t],
        outcomes,
        cate,
        frame[columns.PROPENSITY].to_numpy(np.float64),
        frame[columns.UNIT].to_numpy(np.int64),
    )
