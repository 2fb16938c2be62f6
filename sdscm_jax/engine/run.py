"""What a simulation is of: a checked model with its worlds, evidence and arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ..dsl.analysis.structure import Site
from ..dsl.language.fit import check_marks
from ..dsl.noise.streams import chosen_key, fold_in, stream
from ..dsl.worlds.abduction import PARTICLES, Abduction, abduce, latent_texts
from ..dsl.worlds.do import do
from ..dsl.worlds.run_worlds import WorldResults
from ..dsl.worlds.worlds import Regime, Worlds


class Shared(NamedTuple):
    """What all units have in common."""

    regime: Regime
    worlds: Worlds
    evidence: dict[str, Any]


class Explained(NamedTuple):
    """How rows explain their evidence; see ``Abduction``.

    Attributes:
        log_prob, ess: float32 ``[R]``.
    """

    log_prob: Any
    ess: Any


class PerUnit(NamedTuple):
    """What differs between units, with a leading axis of them: interventions, worlds, evidence."""

    regime: dict[str, Any]
    worlds: dict[str, Any]
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A simulation, checked.

    Attributes:
        model: the model function.
        key: PRNG key of the run.
        args: arguments of the model.
        sites: its structure, under the run's intervention.
        kept: choice sites whose log-probabilities are wanted.
        shared, per_unit: interventions, worlds and evidence.
        units: number of units.
        draws: rows for each of them.
        particles: how many there are for each row, where free text is an unobserved cause of evidence.
    """

    model: Callable
    key: Any
    args: tuple
    sites: tuple[Site, ...]
    kept: tuple[str, ...]
    shared: Shared
    per_unit: PerUnit
    units: int
    draws: int
    particles: int = PARTICLES

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.units * self.draws

    @property
    def worlds(self) -> int:
        """Number of worlds, the factual one included."""
        which = self.shared.worlds.which
        return len(next(iter(which.values()))) if which else 1

    @property
    def observed(self) -> tuple[str, ...]:
        """Sites that there is evidence on."""
        return (*self.shared.evidence, *self.per_unit.evidence)

    @property
    def latent_texts(self) -> tuple[str, ...]:
        """Free texts that are unobserved causes of the evidence."""
        return latent_texts(self.observed, self.sites)

    def check_set(self, values: Mapping[str, np.ndarray]) -> None:
        """Refuse values that interventions gave and that their sites cannot take.

        Args:
            values: site -> array ``[n, worlds, ...]``.

        Raises:
            InterventionError: with the first such site.
        """
        regime, which = self.shared.regime, self.shared.worlds.which
        everywhere = {*regime.constants, *self.per_unit.regime, *(name for name, _ in regime.changes)}
        set_in = {
            site.name: (np.asarray(which.get(site.name, np.zeros(self.worlds))) > 0) | (site.name in everywhere)
            for site in self.sites
            if site.name in which or site.name in everywhere
        }
        check_marks(values, set_in, {site.name: site.options for site in self.sites})

    def inputs(self, rows: np.ndarray) -> tuple[Any, ...]:
        """What the program of some rows takes: key, units, draws, and what differs between units.

        Args:
            rows: int ``[R]``; numbers past the end stand for nothing and get any unit's data.
        """
        unit = np.minimum(rows // self.draws, self.units - 1)
        return self.key, rows // self.draws, rows % self.draws, jax.tree.map(lambda x: x[unit], self.per_unit)


def under(model: Callable, regime: Regime, of_unit: Mapping[str, Any]) -> Callable:
    """The model under the intervention of a run."""
    data = regime.data(of_unit)
    return do(model, data) if data else model


def unit_key(key: Any, unit: Any, draw: Any) -> Any:
    """Key of a row."""
    # The first draw is the unit itself; the others are streams of it that are no other unit's.
    own = fold_in(key, unit)
    return chosen_key(draw == 0, own, fold_in(stream(own, "draw"), draw))


def noise_given_evidence(
    fn: Callable, of_unit: PerUnit, shared: Shared, key: Any, sites: tuple[Site, ...], args: tuple, particles: int
) -> Abduction:
    """Noise of a row; nothing is known of it where there is no evidence."""
    evidence = {**shared.evidence, **of_unit.evidence}
    if not evidence:
        return Abduction({}, jnp.float32(0.0), jnp.float32(jnp.nan))
    return abduce(fn, evidence, key, sites, args, particles=particles)


def joined(parts: Sequence[Any]) -> Any:
    """Results of rows one after another, from those of some of them each; one part is not copied."""
    return jax.tree.map(lambda *xs: np.concatenate(xs) if len(xs) > 1 else xs[0], *parts)


# Is told which share of some work is done.
Progress = Callable[[float], None]


class Executor(Protocol):
    """A way to run the rows of a simulation.

    Attributes:
        execution: its name.
        size: rows that go together.
        memory: bytes that it keeps to.
    """

    execution: str
    size: int
    memory: int

    def __call__(self, rows: np.ndarray, progress: Progress = lambda _: None) -> tuple[WorldResults, Explained]:
        """Run rows.

        Args:
            rows: their numbers.
            progress: told now and then how much of it is done.

        Returns:
            results as NumPy arrays ``[R, worlds, ...]``, and what is known of the evidence.
        """

    def stats(self) -> dict[str, float]:
        """Figures of the run so far; ``compile_seconds`` is among them."""

    def forget(self) -> None:
        """Let nothing that follows depend on what was computed before."""

    def finish(self) -> None:
        """Write what is to outlive the run."""

    def digest(self) -> str:
        """SHA-256 of the program, whatever the language models' parameters."""
