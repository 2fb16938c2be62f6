"""``generate``: many data sets of a family, with what is true of every unit."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import jax
import numpy as np
import pandas as pd
import pyarrow as pa

from .. import checks
from ..dsl.analysis.graph import Graph, graph
from ..dsl.handlers.couple import couple
from ..dsl.noise.couplings.registry import parse_coupling
from ..dsl.scoring.scorings.registry import parse_scoring
from ..durable import make_directory, put, refuse_others
from ..engine.manifest import PACKAGES
from ..engine.many import loaded_lm
from ..engine.parallel import parse_backend, spread
from ..engine.parts import Parts
from ..engine.progress import progress_bar
from ..engine.simulate import simulate
from ..engine.simulation import Simulation
from ..errors import DataError, FamilyError, SDSCMError
from ..families import Family, Member
from ..families.declaration import check_roles
from . import column_names
from .card import write_card
from .exact import exact_probabilities, worlds_of

DATA = "data"


@dataclass(frozen=True)
class Recipe:
    """What every data set of a benchmark is made by.

    Attributes:
        family: with treatment, arms and outcome.
        lm: source of the language model (see ``load_lm``), or None for the embedded one.
        units: of each data set.
        seed: of the individuals: those of data set i have the key ``fold_in(key(seed), i)``.
        wordings: data set i is of the family's member ``i % wordings``.
        scoring: of every choice.
        coupling: how the worlds share the individuals' noise.
    """

    family: Family
    lm: str | None = None
    units: int = 1000
    seed: int = 0
    wordings: int = 1
    scoring: str = "sequence"
    coupling: str = "gumbel"


def generate(
    family: Family,
    out: str | Path,
    *,
    lm: str | Path | None = None,
    datasets: int = 1,
    units: int = 1000,
    seed: int = 0,
    wordings: int | None = None,
    scoring: str = "sequence",
    coupling: str = "gumbel",
    jobs: int = 1,
    backend: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Write a benchmark: data sets with known individual effects, and a card that says what they are.

    ``out/data/part-00000.parquet`` is data set 0, one row a unit; the columns are explained in ``out/README.md``.
    A call that was killed goes on where it was, to the same bytes.

    Args:
        family: declares a treatment and an outcome.
        out: directory.
        lm: directory or hub id of the language model; None: the embedded one.
        datasets: how many.
        units: of each.
        seed: of the individuals; the wordings are the family's members 0, 1, … for every seed.
        wordings: number of different members, used in turn; by default each data set has its own.
        scoring, coupling: see ``Choice``.
        jobs: data sets at a time; ``backend``: see ``spread``.
        progress: show a bar on stderr; by default where stderr is a terminal.

    Returns:
        ``out``.

    Raises:
        FamilyError: no treatment or outcome is declared, or they do not fit.
        ResumeError: ``out`` holds another benchmark (says in what it differs), or a damaged data set; or another call
            is writing there.
        SDSCMError: the disk is full, or a file cannot be written otherwise; the data sets before are kept.
        DataError, OptionError: there is no such number, scoring or coupling; or a free text cannot have that coupling.
        DataError: some data sets cannot be made (says which and why); the others are there.

    >>> import tempfile
    >>> import pandas as pd
    >>> from sdscm_jax.families import family
    >>> out = generate(family("confounder"), tempfile.mkdtemp(), datasets=1, units=4)
    >>> pd.read_parquet(out / "data")["ite(marathon=worsen)"].tolist()  # gym does not cause marathon
    [0.0, 0.0, 0.0, 0.0]
    """
    datasets, units, jobs = (
        checks.count(value, name, DataError)
        for name, value in (("datasets", datasets), ("units", units), ("jobs", jobs))
    )
    wordings = datasets if wordings is None else checks.count(wordings, "wordings", DataError)
    seed, backend = checks.seed(seed, error=DataError), None if backend is None else parse_backend(backend)
    scoring, coupling = parse_scoring(scoring, "generate"), parse_coupling(coupling, "generate")
    checks.instance(family, Family, "family", FamilyError)
    check_roles(family, f"family {family.name!r}")
    if family.treatment is None or family.outcome is None:
        raise FamilyError(
            f"family {family.name!r} declares no {'treatment' if family.treatment is None else 'outcome'}"
        )
    if taken := sorted({v.name for v in family.variables} & column_names.OWN):
        raise FamilyError(f"family {family.name!r}: {taken} are names of other columns; call the variables otherwise")
    recipe = Recipe(
        family, None if lm is None else str(checks.as_path(lm, "lm")), units, seed, wordings, scoring, coupling
    )
    model = loaded_lm(recipe.lm)
    # (Before any language-model work: a free text that cannot have the coupling is refused here.)
    picture = graph(_coupled(family.member(0, scoring), coupling), model)
    what = described(recipe, datasets, model.fingerprint())
    directory = checks.as_path(out, "out")
    refuse_others(directory, "a benchmark")
    make_directory(directory)
    failures: dict[int, str] = {}
    with Parts.open(directory / DATA, what, datasets) as parts, progress_bar("data sets", datasets, progress) as told:
        for i in sorted(parts.done):
            # What was damaged since is told now, not when it is evaluated.
            parts.read(i)
        write_card(directory, recipe.family, what)
        put(directory / "dag.svg", _drawn(picture))
        missing = sorted(set(range(datasets)) - parts.done)
        told(before := datasets - len(missing))
        results = spread(_dataset, [(recipe, i) for i in missing], jobs, backend)
        for count, (number, found) in enumerate(results, before + 1):
            if isinstance(found, str):
                failures[missing[number]] = found
            else:
                parts.write(missing[number], found)
            told(count)
    if failures:
        first = min(failures)
        raise DataError(
            f"{len(failures)} of {datasets} data sets could not be made; {directory / DATA} holds the others. "
            f"Data set {first}: {failures[first]}"
        )
    return directory


def _coupled(member: Member, coupling: str) -> couple:
    """A member with the coupling that the card names, at all of its sites."""
    return couple(member, coupling, [v.name for v in member.family.variables])


def _drawn(picture: Graph) -> bytes:
    try:
        with TemporaryDirectory() as place:
            picture.draw(Path(place, "dag.svg"))
            return Path(place, "dag.svg").read_bytes()
    except OSError as error:
        raise SDSCMError(f"cannot draw the graph in {gettempdir()}: {error.strerror or error}") from error


def described(recipe: Recipe, datasets: int, fingerprint: str) -> dict[str, Any]:
    """Everything that the bytes of a benchmark depend on, as JSON values."""
    family = recipe.family
    return {
        "family": json.loads(family.to_json()),
        "language_model": {"source": recipe.lm or "embedded", "fingerprint": fingerprint},
        "datasets": datasets,
        "units": recipe.units,
        "seed": recipe.seed,
        "wordings": recipe.wordings,
        "scoring": recipe.scoring,
        "coupling": recipe.coupling,
        "versions": {package: version(package) for package in PACKAGES},
    }


def _dataset(recipe: Recipe, i: int) -> pa.Table | str:
    """Data set i, or why there is none."""
    try:
        return pa.Table.from_pandas(dataset_frame(recipe, i), preserve_index=False)
    except SDSCMError as error:
        return f"{type(error).__name__}: {error}"


def dataset_frame(recipe: Recipe, i: int) -> pd.DataFrame:
    """The table of data set i, one row a unit."""
    family, wording = recipe.family, i % recipe.wordings
    member = family.member(wording, recipe.scoring)
    model = _coupled(member, recipe.coupling)
    worlds = worlds_of(family)
    assert family.treatment
    assert family.arms
    assert family.outcome
    between = [name for name in family.mediators if family[name].written is None]
    kept = [family.treatment, *between, family.outcome]
    key = jax.random.fold_in(jax.random.key(recipe.seed), i)
    lm = loaded_lm(recipe.lm)
    data = simulate(model, key, recipe.units, lm, worlds=worlds, logp=kept, progress=False)
    probabilities = exact_probabilities(family, data, worlds)
    treatment, outcome, (low, high) = family.treatment, family.outcome, family.arms
    frame = _without(data, 3).to_pandas(logp=[treatment, outcome])
    levels, options = family[treatment].options, family[outcome].options
    arms = np.exp(data.log_probs[treatment][:, 0, [levels.index(low), levels.index(high)]].astype(np.float64))
    individual = np.diff(np.exp(data.log_probs[outcome][:, 1:3].astype(np.float64)), axis=1)[:, 0]
    added: dict[str, Any] = {column_names.PROPENSITY: arms[:, 1] / arms.sum(1)}
    for k, option in enumerate(options):
        added[column_names.individual(outcome, option)] = individual[:, k]
    if probabilities is not None:
        for a, arm in enumerate(family.arms):
            for k, option in enumerate(options):
                added[column_names.exact(outcome, option, column_names.world(treatment, arm))] = probabilities[:, a, k]
    numbers = {column_names.DATASET: i, column_names.WORDING: wording, column_names.UNIT: np.arange(recipe.units)}
    return pd.concat([pd.DataFrame(numbers).astype(np.int32), frame, pd.DataFrame(added)], axis=1)


def _without(data: Simulation, worlds: int) -> Simulation:
    """The first worlds of a simulation."""
    return replace(
        data,
        worlds=data.worlds[:worlds],
        values={name: x[:, :worlds] for name, x in data.values.items()},
        log_probs={name: x[:, :worlds] for name, x in data.log_probs.items()},
    )
