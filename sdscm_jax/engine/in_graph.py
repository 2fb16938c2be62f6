"""In graph: units in all worlds in one jitted function, the language model included."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..dsl.analysis.causes import AT_ONCE
from ..dsl.analysis.structure import Site
from ..dsl.handlers.external_scores import is_language_model, language_models
from ..dsl.language.context import longest_tokens
from ..dsl.worlds.abduction import latent_causes
from ..dsl.worlds.run_worlds import WorldResults, run_worlds
from ..models.executable import Lowered, executable
from ..models.language_model import LanguageModel
from ..models.on_mesh import mesh_of
from ..models.sharding import data_axis_size, over_data, place, replicated
from .forward import token_bytes
from .memory import exhausted, with_less
from .run import Explained, PerUnit, Progress, Run, Shared, joined, noise_given_evidence, under, unit_key
from .traced_tokens import traced_tokens

# Rows that go together where no language model limits them.
ROWS = 1 << 16
# So few, without a language model, run sooner than a program for them is optimised.
FEW_ROWS = 1 << 12


class Compiled(NamedTuple):
    """A program of some rows.

    Attributes:
        lowered: before compilation.
        run: the compiled function.
        tokens: that go through language models, padding included.
    """

    lowered: Lowered
    run: Any
    tokens: int


class InGraph:
    """Runs rows of a simulation in one jitted function.

    Args:
        run: the simulation.
        size: rows that go together; a call with fewer is padded.
        memory: bytes that ``size`` was chosen for.
    """

    execution = "in_graph"

    def __init__(self, run: Run, size: int, memory: int):
        self.run, self.memory = run, memory
        lms = language_models(run.args)
        self._mesh = mesh_of(lms[0]) if lms else None
        lanes = data_axis_size(self._mesh)
        self.size = self._together = -(-size // lanes) * lanes
        self.compile_seconds, self._tokens = 0.0, 0
        self._program = self._compile()

    def _compile(self) -> Compiled:
        started = time.perf_counter()
        leaves, treedef = jax.tree.flatten(self._inputs(np.zeros(self._together, int)))
        placed = self._mesh is not None
        shapes = tuple((jnp.shape(x), jnp.result_type(x), x.sharding if placed else None) for x in leaves)
        run = self.run
        program = _compiled(run.model, run.kept, run.sites, run.particles, treedef, shapes)
        self.compile_seconds += time.perf_counter() - started
        return program

    def _inputs(self, rows: np.ndarray) -> tuple[Any, ...]:
        mesh, (key, *of_rows) = self._mesh, self.run.inputs(rows)
        if mesh is None:
            return key, *of_rows, self.run.shared, self.run.args

        def put(tree: Any, where: Any) -> Any:
            return jax.tree.map(lambda x: place(x, where), tree)

        # Rows are split over the data axis; the language models are where they are.
        leaves, treedef = jax.tree.flatten(self.run.args, is_leaf=is_language_model)
        args = [x if is_language_model(x) else put(x, replicated(mesh)) for x in leaves]
        return (
            put(key, replicated(mesh)),
            *put(of_rows, over_data(mesh)),
            put(self.run.shared, replicated(mesh)),
            jax.tree.unflatten(treedef, args),
        )

    def __call__(self, rows: np.ndarray, progress: Progress = lambda _: None) -> tuple[WorldResults, Explained]:
        """Results of rows, as NumPy arrays ``[R, worlds, ...]``, and how they explain their evidence."""
        parts, start = [], 0
        while start < len(rows):
            own = rows[start : start + self._together]
            padded = np.concatenate([own, np.full(self._together - len(own), own[-1])])
            try:
                found = self._program.run(*self._inputs(padded))
                parts.append(jax.tree.map(lambda x, own=own: np.asarray(x)[: len(own)], found))
            except jax.errors.JaxRuntimeError as error:
                if not exhausted(error) or self._together <= data_axis_size(self._mesh):
                    raise
                self._together = max(data_axis_size(self._mesh), self._together // 2)
                with_less(f"{self._together} rows")
                self._program = self._compile()
                continue
            self._tokens += self._program.tokens
            start += len(own)
            progress(start / len(rows))
        return joined(parts)

    def stats(self) -> dict[str, float]:
        """Figures of the run."""
        return {"compile_seconds": self.compile_seconds, "tokens": self._tokens}

    def forget(self) -> None:
        """Nothing is remembered."""

    def finish(self) -> None:
        """Nothing outlives the run."""

    def digest(self) -> str:
        """SHA-256 of the program, whatever the language models' parameters."""
        return hashlib.sha256(self._program.lowered.text.encode()).hexdigest()


def _compiled(
    model: Callable, kept: tuple[str, ...], sites: tuple[Site, ...], particles: int, treedef: Any, shapes: tuple
) -> Compiled:
    """The program of some rows, compiled for inputs of these shapes."""

    def silent(*args: Any) -> None:
        model(*args)

    def row(key: Any, unit: Any, draw: Any, of_unit: PerUnit, shared: Shared, args: tuple) -> Any:
        key = unit_key(key, unit, draw)
        fn = under(silent, shared.regime, of_unit.regime)
        found = noise_given_evidence(fn, of_unit, shared, key, sites, args, particles)
        worlds = shared.worlds.of_unit(of_unit.worlds)
        return run_worlds(fn, key, worlds, args, log_probs=kept, noise=found.noise), Explained(*found[1:])

    def run(key: Any, units: Any, draws: Any, per_unit: PerUnit, shared: Shared, args: tuple) -> Any:
        return jax.vmap(row, in_axes=(None, 0, 0, 0, None, None))(key, units, draws, per_unit, shared, args)

    abstract = jax.tree.unflatten(treedef, [jax.ShapeDtypeStruct(s, d, sharding=where) for s, d, where in shapes])
    where = next((sharding for _, _, sharding in shapes if sharding is not None), None)
    # Results are read on every host.
    options: dict[str, Any] = {} if where is None else {"out_shardings": replicated(where.mesh)}
    traced = jax.jit(run, **options).trace(*abstract)
    quick = len(abstract[1]) <= FEW_ROWS and not language_models(abstract)
    lowered = Lowered.of(traced.lower(), quick, where and tuple(where.mesh.devices.flat))
    return Compiled(lowered, executable(lowered), traced_tokens(traced.jaxpr.jaxpr))


def rows_in_memory(
    sites: Sequence[Site], worlds: int, observed: Collection[str], lms: Sequence[LanguageModel], memory: int
) -> int:
    """Rows whose keys, values and logits take about ``memory`` bytes; a power of two.

    Args:
        sites: of the model.
        worlds: number of worlds, the factual one included.
        observed: sites that there is evidence on.
        lms: the language models.
        memory: in bytes.
    """
    if not lms:
        return ROWS
    # Runs of a row that are in memory together: its worlds, and the values of unobserved causes.
    causes = [site.name for site in latent_causes(list(observed), sites)] if observed else []
    runs = worlds + (0 if not observed else AT_ONCE if causes else 1)
    lm = lms[0]
    phrases = [site.phrase for site in sites if site.phrase is not None]
    tokens = sum(longest_tokens(phrase, lm.codec, False, False) for phrase in phrases)
    # In a chat every site has a conversation of its own around what is given.
    tokens += lm.around * (len(phrases) if lm.chat is not None else 1)

    def distributions(site: Site) -> int:
        if site.kind == "text":
            # Abducing a text keeps those of all its tokens, with their noise.
            whole = (
                site.name in observed or site.name in causes or (site.coupling is not None and site.coupling.relative)
            )
            return 4 * (site.shape[-1] if whole else 1)
        return sum(len(lm.codec.encode(option)) for option in site.options)

    scored = 4 * lm.config.vocab_size * max(map(distributions, sites), default=1)
    units = max(1, memory // max(1, runs * (2 * token_bytes(lm) * tokens + scored)))
    return 1 << min(10, int(units).bit_length() - 1)
