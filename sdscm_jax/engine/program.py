"""A program with its language models taken out: what it asks of them goes out, the answers come in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.ops.provenance import eval_provenance

from ..dsl.analysis.structure import Site
from ..dsl.handlers.external_scores import NotSeparable, Visit, asked, is_language_model, language_models
from ..dsl.noise.streams import as_key
from ..dsl.worlds.abduction import LEAST_PARTICLES, latent_causes
from ..dsl.worlds.do import in_world
from ..dsl.worlds.run_worlds import WorldResults, run_once
from ..models.executable import Lowered, executable
from ..models.language_model import LanguageModel
from .run import Explained, PerUnit, Run, Shared, noise_given_evidence, under, unit_key

# Names of visits begin with where they are made, names of sources with what they are.
_EVIDENCE, _WORLD = "evidence ", "world "
_ANSWER, _WHICH = "answer ", "which "


class Outputs(NamedTuple):
    """What a program gives, each with a leading axis of rows.

    Attributes:
        results: values and log-probabilities, right where all answers are in.
        evidence: how it is explained.
        contexts: visit -> int32 ``[*shape, m]``, or ``[worlds, *shape, m]`` where worlds differ.
    """

    results: WorldResults
    evidence: Explained
    contexts: dict[str, Array]


@dataclass(frozen=True, eq=False)
class Program:
    """A model whose language models are asked outside of it.

    Attributes:
        visits: name -> what is asked, in the order of the program.
        levels: names of visits, those first whose contexts do not depend on answers.
        in_worlds: visits whose contexts may differ between worlds.
    """

    visits: dict[str, Visit]
    levels: tuple[tuple[str, ...], ...]
    in_worlds: frozenset[str]

    def same_in_worlds(self, name: str) -> bool:
        """Is a visit made in every world, in the same context?"""
        return name.startswith(_WORLD) and name not in self.in_worlds


def separate(run: Run) -> Program:
    """Find what a program asks of its language models, and in what order.

    Raises:
        NotSeparable: it asks in a way that cannot be taken out.
    """
    try:
        return _separated(_described(run, 1))
    except NotSeparable as error:
        causes = latent_causes(run.observed, run.sites) if run.observed else ()
        if not causes:
            raise
        named = " and ".join(repr(site.name) for site in causes)
        # They are drawn in a loop, where the evidence is asked after for each of their values.
        raise NotSeparable(
            f"what is observed has causes that are not, {named}; give evidence on them too, or run it in graph"
        ) from error


def compiled(run: Run, program: Program, size: int) -> Callable[..., Outputs]:
    """The program for ``size`` rows, compiled: a function of their numbers and of the answers.

    Answers are ``[size, *shape, K]``, or ``[size, worlds, *shape, K]`` for visits in worlds: float32 scores of
    options, or int32 tokens of a text.
    """
    call = executable(_lowered(_described(run, size), program))
    _, rest, _ = _without_parameters(run)
    shared = _any_worlds(run.shared)
    return lambda rows, answers: call(*run.inputs(rows), shared, rest, answers)


def digest(run: Run, program: Program, size: int) -> str:
    """SHA-256 of a program and of what it asks, whatever the language models' parameters."""
    text = _lowered(_described(run, size), program).text
    return hashlib.sha256(f"{program.visits} {text}".encode()).hexdigest()


class _Description(NamedTuple):
    """What the program of some rows depends on, in a form that can be looked up.

    Attributes:
        model, kept, sites: see ``Run``.
        lms: for each argument, the language model without its parameters, or None.
        treedef: of the arguments.
        inputs, shapes: structure and leaves of what the program takes.
    """

    model: Callable
    kept: tuple[str, ...]
    sites: tuple[Site, ...]
    lms: tuple[Any, ...]
    treedef: Any
    inputs: Any
    shapes: tuple

    def abstract_inputs(self) -> Any:
        """What the program takes, as shapes: key, units, draws, what differs, what does not, arguments."""
        return jax.tree.unflatten(self.inputs, [jax.ShapeDtypeStruct(*shape) for shape in self.shapes])


def _described(run: Run, size: int) -> _Description:
    lms, rest, treedef = _without_parameters(run)
    leaves, inputs = jax.tree.flatten((*run.inputs(np.zeros(size, int)), _any_worlds(run.shared), rest))
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    return _Description(run.model, run.kept, run.sites, lms, treedef, inputs, shapes)


def _any_worlds(shared: Shared) -> Shared:
    """Without what is particular to these worlds: others are run by the same program."""
    return shared._replace(worlds=replace(shared.worlds, grid=None))


def _without_parameters(run: Run) -> tuple[tuple[Any, ...], list[Any], Any]:
    """The arguments without language models, whose parameters a separated program never reads."""
    leaves, treedef = jax.tree.flatten(run.args, is_leaf=is_language_model)
    lms = tuple(_Abstract(x) if is_language_model(x) else None for x in leaves)
    return lms, [None if is_language_model(x) else x for x in leaves], treedef


class _Abstract:
    """A language model without its parameters; compares by structure and shapes."""

    def __init__(self, lm: LanguageModel):
        self.lm = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), lm)
        leaves, treedef = jax.tree.flatten(self.lm)
        self._what = treedef, tuple((leaf.shape, leaf.dtype) for leaf in leaves)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Abstract) and self._what == other._what

    def __hash__(self) -> int:
        return hash(self._what)


def _row(of: _Description, visits: dict[str, Visit], in_worlds: frozenset[str] | None) -> Callable:
    """The function of one row; it notes the visits that it meets, which differ in worlds (None: all)."""
    # A row is one draw of one unit's noise: abduction, action, prediction (Pearl 2009, section 7.1). Worlds are a
    # ``vmap`` over the action alone. What no intervention reaches is not batched, hence asked and computed once, and
    # the same in all worlds bit for bit (law 3). So an answer has an axis of worlds only where ``in_worlds`` says so.

    def silent(*args: Any) -> None:
        of.model(*args)

    def row(
        key: Any, unit: Any, draw: Any, of_unit: PerUnit, shared: Shared, rest: list[Any], answers: Mapping[str, Array]
    ) -> Outputs:
        args = jax.tree.unflatten(of.treedef, [x if lm is None else lm.lm for lm, x in zip(of.lms, rest, strict=True)])
        models = language_models(args)
        key = unit_key(key, unit, draw)

        def named(prefix: str) -> dict[str, Array]:
            return {name.removeprefix(prefix): x for name, x in answers.items() if name.startswith(prefix)}

        seen = asked(silent, models, named(_EVIDENCE))
        # (Particles are not asked here.)
        regime = under(seen, shared.regime, of_unit.regime)
        found = noise_given_evidence(regime, of_unit, shared, key, of.sites, args, LEAST_PARTICLES)
        visits.update({_EVIDENCE + name: visit for name, visit in seen.visits.items()})
        contexts = {_EVIDENCE + name: x for name, x in seen.contexts.items()}
        worlds = shared.worlds.of_unit(of_unit.worlds)

        def one(which: dict[str, Array], constants: dict[str, Array], answers: dict[str, Array]) -> Any:
            fn = asked(silent, models, answers)
            intervened = in_world(under(fn, shared.regime, of_unit.regime), worlds.data(which, constants))
            results = run_once(intervened, key, {}, args, log_probs=of.kept, noise=found.noise)
            visits.update({_WORLD + name: visit for name, visit in fn.visits.items()})
            return results, {_WORLD + name: x for name, x in fn.contexts.items()}

        own = named(_WORLD)
        axes = {name: 0 if in_worlds is None or _WORLD + name in in_worlds else None for name in own}
        if worlds.which:
            results, asked_in = jax.vmap(one, in_axes=(0, 0, axes))(worlds.which, worlds.constants, own)
        else:
            results, asked_in = jax.tree.map(lambda x: jnp.asarray(x)[None], one({}, {}, own))
        # Where worlds agree, one of them speaks for all.
        contexts |= {name: x if in_worlds is None or name in in_worlds else x[0] for name, x in asked_in.items()}
        return Outputs(results, Explained(*found[1:]), contexts)

    return row


def _separated(of: _Description) -> Program:
    key, *of_rows, shared, rest = of.abstract_inputs()
    of_row = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), of_rows)
    visits: dict[str, Visit] = {}
    row = _row(of, visits, None)
    jax.eval_shape(row, key, *of_row, shared, rest, {})
    if not visits:
        return Program({}, (), frozenset())
    which = shared.worlds.which
    answers = {}
    for name, visit in visits.items():
        worlds = next(iter(which.values())).shape if which and name.startswith(_WORLD) else ()
        answers[name] = jax.ShapeDtypeStruct((*worlds, *visit.answer_shape), visit.question.dtype)

    # Which answers, and which interventions, the contexts of a visit depend on.
    def contexts_of(**named: Any) -> dict[str, Array]:
        def filled(tree: Any) -> Any:
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)

        own = {name: named[_ANSWER + name] for name in answers}
        worlds = replace(filled(shared.worlds), which={name: named[_WHICH + name] for name in which})
        same = shared._replace(regime=filled(shared.regime), worlds=worlds, evidence=filled(shared.evidence))
        return row(as_key(0), *filled(of_row), same, filled(rest), own).contexts

    inputs = {_ANSWER + name: x for name, x in answers.items()} | {_WHICH + name: x for name, x in which.items()}
    sources = eval_provenance(contexts_of, **inputs)
    return _ordered(visits, {name: set().union(*jax.tree.leaves(x)) for name, x in sources.items()})


def _ordered(visits: dict[str, Visit], sources: Mapping[str, set[str]]) -> Program:
    level: dict[str, int] = {}
    in_worlds: set[str] = set()
    for name in visits:
        answers = [source.removeprefix(_ANSWER) for source in sources[name] if source.startswith(_ANSWER)]
        level[name] = max((level[answer] + 1 for answer in answers), default=0)
        if any(source.startswith(_WHICH) for source in sources[name]) or in_worlds & set(answers):
            in_worlds.add(name)
    levels = [tuple(n for n in visits if level[n] == i) for i in range(1 + max(level.values()))]
    return Program(visits, tuple(levels), frozenset(in_worlds))


def _lowered(of: _Description, program: Program) -> Lowered:
    key, *of_rows, shared, rest = of.abstract_inputs()
    row = _row(of, {}, program.in_worlds)
    which = shared.worlds.which
    answers = {}
    for name, visit in program.visits.items():
        worlds = next(iter(which.values())).shape if name in program.in_worlds else ()
        shape = (len(of_rows[0]), *worlds, *visit.answer_shape)
        answers[name] = jax.ShapeDtypeStruct(shape, visit.question.dtype)
    over_rows = jax.vmap(row, in_axes=(None, 0, 0, 0, None, None, 0))
    # It is run a few times and is small next to the language models: compiling it is what takes time.
    return Lowered.of(jax.jit(over_rows).lower(key, *of_rows, shared, rest, answers), quick=True)
