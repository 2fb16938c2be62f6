"""Units of which something was observed, held to the specification: replayed exactly, answered in law."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import sdscm_jax as sd

from .evidence import Impossible, Posterior
from .executors import LMS, PLAIN, Disagreement, key_of
from .language import Case, places
from .programs import build, written
from .specification import Refused

# Draws of an executor, and of the specification.
DRAWS, TOLD = 1000, 150


def hold_evidence(case: Case, name: str) -> None:
    """Units of which something was observed: replayed exactly, and in each world of the specified law.

    Raises:
        Disagreement: they are not.
    """
    model = build(case.program)
    evidence = written(case.evidence, case.program)
    worlds = [written(world, case.program) for world in case.worlds]
    options = {"execution": "in_graph"} if name == "in_graph" else {}
    try:
        data: Any = sd.simulate(
            model, key_of(case), case.units, *LMS, evidence=evidence, worlds=worlds, draws=DRAWS, **options
        )
    except Exception as error:
        data = error
    rng = np.random.default_rng(case.seed)
    for i in range(case.units):
        try:
            posterior = Posterior(case.program, PLAIN, case.evidence, i)
            keys = [tuple(int(w) for w in rng.integers(0, 2**32, 2)) for _ in range(TOLD)]
            units = [posterior.draw(key, rng) for key in keys]  # type: ignore[arg-type]
            for unit in units:
                unit.number = i
            told = [[unit.run(world) for world in ((), *case.worlds)] for unit in units]
        except (Impossible, Refused) as refused:
            if isinstance(data, (sd.EvidenceError, sd.InterventionError)):
                return
            instead = f"{type(data).__name__}: {data}" if isinstance(data, Exception) else "no error"
            raise Disagreement(f"{name}: {instead}; specified an error: {refused}") from refused
        if isinstance(data, Exception):
            raise Disagreement(f"{name}: {type(data).__name__}: {data}") from data
        rows = slice(i * DRAWS, (i + 1) * DRAWS)
        for place in places(case.program.body):
            site = place.name
            factual = np.stack([runs[0].values[site] for runs in told]).astype(float)
            for w in range(1 + len(worlds)):
                where = f"{name}: given evidence, unit {i}, world {w}, site {site}"
                found = np.asarray(data.values[site][rows, w], float)
                law = np.stack([runs[w].values[site] for runs in told]).astype(float)
                if found.shape[1:] != law.shape[1:]:
                    raise Disagreement(f"{where}: shape {found.shape[1:]}, specified {law.shape[1:]}")
                if w == 0 and site in posterior.known:
                    wrong = [value for value in found if not np.array_equal(value, law[0])]
                    if wrong:
                        raise Disagreement(f"{where}: evidence {law[0].tolist()} is replayed as {wrong[0].tolist()}")
                    continue
                for at in np.ndindex(law.shape[1:]):
                    _same_law(f"{where}{list(at) or ''}", found[:, *at], law[:, *at])
                    same = np.isclose(np.asarray(data.values[site][rows, 0], float), found, 1e-4, 1e-5)
                    agree = np.isclose(factual, law, 1e-4, 1e-5)
                    _same_law(
                        f"{where}{list(at) or ''} equals the factual one", same[:, *at] * 1.0, agree[:, *at] * 1.0
                    )


def _same_law(where: str, found: np.ndarray, law: np.ndarray) -> None:
    """Two samples of one law (Kolmogorov and Smirnov; a false alarm has a chance below 1e-9)."""
    close = 1e-3 * np.abs(law) + 1e-4
    points = np.unique(law)
    far = 0.0
    for x, eps in zip(points, np.unique(np.stack([law, close], -1), axis=0)[:, 1], strict=False):
        ours, theirs = (law <= x).mean(), (found <= x + eps).mean()
        strictly, found_strictly = (law < x).mean(), (found < x - eps).mean()
        far = max(far, ours - theirs, found_strictly - strictly)
    bound = 3.3 * math.sqrt(1 / len(found) + 1 / len(law))
    if far > bound or not np.isfinite(found).all():
        means = f"mean {found.mean():.3f}, specified {law.mean():.3f}"
        raise Disagreement(f"{where}: another law ({means}; {far:.2f} apart, {bound:.2f} allowed)")
