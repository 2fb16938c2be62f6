"""``tabulate``: a model whose language model was asked beforehand, in every context."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.primitives import Messenger
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..errors import LoadError, SiteError
from ..models.language_model import LanguageModel, absent_lm
from .choice import Choice
from .control_flow import wrap_bodies
from .mechanism import Mechanism, mechanism_of, with_mechanism
from .phrase import Phrase
from .structure import structure
from .text_phrase import TextPhrase

# Contexts of one site that are scored: beyond, a dense table is the wrong means.
MAX_CONTEXTS = 1 << 16
# Contexts that go through the language model together.
BATCH = 64


def tabulate(fn: Callable, *args: Any, **kwargs: Any) -> Tabulated:
    """Score every choice of a model in every context, and bind the language models.

    Args:
        fn: a model function whose sites of language models are choices.
        *args, **kwargs: its first arguments, language models among them.

    Returns:
        a model function of the remaining arguments, with the same sites and the same values, that
        asks no language model: each site looks its scores up in a table ``[K_1, …, K_m, K]`` over
        the options of the m phrases that it is given. Temperature and bias stay arguments, so
        inference over them (or over phrases) runs no language model.

    Raises:
        SiteError: a site is free text, is given some, or has more than 65,536 contexts.

    >>> import jax, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm, temperature=1.0):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     drug = sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1], temperature=temperature)
    ...     return sd.sample("drug", drug)
    >>> table = tabulate(model, lm)
    >>> table.scores("drug").shape
    (2, 2)
    >>> bool(sd.handlers.exogenous(table, 0)(temperature=2.0) == sd.handlers.exogenous(model, 0)(lm, 2.0))
    True
    """
    table = Tabulated(fn, args, kwargs, {}, {})
    try:
        inspect.signature(fn).bind(*args, **kwargs)
    except TypeError:
        # More arguments are needed to run the model: sites are scored when they are first met.
        return table
    structure(table, ())
    return table


@dataclass(eq=False)
class Tabulated:
    """A model bound to its language models, with tables of scores; see ``tabulate``.

    Attributes:
        fn: the model function.
        args, kwargs: the arguments that were bound.
        tables: scores by what they are of (internal names).
        names: site name -> internal name.
    """

    fn: Callable
    args: tuple
    kwargs: dict[str, Any]
    tables: dict[str, Array]
    names: dict[str, str]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _LookUp(self):
            return self.fn(*self.args, *args, **{**self.kwargs, **kwargs})

    def scores(self, site: str) -> Array:
        """Scores of a site, float32 ``[K_1, …, K_m, K]``, in nats.

        Raises:
            SiteError: no such site was tabulated.
        """
        if site not in self.names:
            raise SiteError(f"no table of site {site!r}; there are {', '.join(map(repr, self.names)) or 'none'}")
        return self.tables[self.names[site]]

    def table_of(self, name: str, choice: Mechanism) -> Array:
        """The table of a choice, made if there is none yet."""
        if not isinstance(choice, Choice):
            raise SiteError(f"site {name!r} is free text; only choices can be tabulated")
        bound = [x for x in (*self.args, *self.kwargs.values()) if isinstance(x, LanguageModel)]
        which = next((i for i, lm in enumerate(bound) if lm is choice.lm), None)
        if which is None:
            raise SiteError(f"site {name!r}: its language model is not one of the arguments that were bound")
        what = _identity(choice, which, name)
        if what not in self.tables:
            if choice.lm.absent:
                raise SiteError(f"site {name!r} is not in the table that was loaded: the model is another one")
            with jax.ensure_compile_time_eval():
                self.tables[what] = _dense_scores(choice, name)
        self.names[name] = what
        return self.tables[what]

    def save(self, path: str | Path) -> None:
        """Write the tables as safetensors; no language model is needed to load them.

        Raises:
            SiteError: an argument that is no language model was bound, or nothing was tabulated.
        """
        if not self.tables:
            raise SiteError("nothing was tabulated yet: run the model once")
        bound = {str(i): x for i, x in enumerate(self.args)} | self.kwargs
        other = [name for name, x in bound.items() if not isinstance(x, LanguageModel)]
        if other:
            raise SiteError(
                f"argument {other[0]!r} is bound and no language model; only those can be left out of a file"
            )
        arguments = {"positional": len(self.args), "keywords": list(self.kwargs)}
        save_file(
            {name: np.asarray(table) for name, table in self.tables.items()},
            path,
            metadata={"sites": json.dumps(self.names), "arguments": json.dumps(arguments)},
        )


def load_table(path: str | Path, fn: Callable) -> Tabulated:
    """Load tables that ``Tabulated.save`` wrote.

    Args:
        path: the file.
        fn: the model function that was tabulated. What stands in for its language models cannot be
            asked; a site that is not in the tables is an error.

    Raises:
        LoadError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            tables = {name: jnp.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        names, arguments = json.loads(metadata["sites"]), json.loads(metadata["arguments"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise LoadError(f"{path} holds no tables: {type(error).__name__}: {error}") from error
    positional = tuple(absent_lm() for _ in range(arguments["positional"]))
    return Tabulated(fn, positional, {name: absent_lm() for name in arguments["keywords"]}, tables, names)


class _LookUp(Messenger):
    """Gives choices their scores from tables."""

    def __init__(self, table: Tabulated):
        self.table = table
        super().__init__()

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "control_flow":
            wrap_bodies(msg, lambda body: partial(self._run_inside, body))
        if msg["type"] != "sample" or (mechanism := mechanism_of(msg["fn"])) is None:
            return
        if getattr(mechanism, "scoring", None) == "uniform" or getattr(mechanism, "known_scores", None) is not None:
            # (A loop sends its sites on, after the scores of every step were looked up.)
            return
        table = self.table.table_of(msg["name"], mechanism)
        index = jnp.broadcast_arrays(*(phrase.index for phrase in mechanism.phrases))
        scores = table[tuple(index)]
        # Without the language model, of which a loop would make a copy for every step.
        msg["fn"] = with_mechanism(msg["fn"], lambda choice: choice.replace(known_scores=scores, lm=absent_lm()))

    def _run_inside(self, body: Callable, *args: Any) -> Any:
        with _LookUp(self.table):
            return body(*args)


def _identity(choice: Choice, which: int, name: str) -> str:
    """A name for what a table depends on: the language model, the template, the options and contexts."""
    given: list[Any] = []
    for item in choice.given:
        if isinstance(item, TextPhrase):
            raise SiteError(f"site {name!r} is given free text; its contexts cannot be tabulated")
        given.append([*item.template, list(item.options)] if isinstance(item, Phrase) else item)
    parts = [which, list(choice.template), list(choice.options), choice.scoring, given]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _dense_scores(choice: Choice, name: str) -> Array:
    """Scores ``[K_1, …, K_m, K]`` in every context of a choice."""
    sizes = [len(phrase.options) for phrase in choice.phrases]
    count = math.prod(sizes)
    if count > MAX_CONTEXTS:
        raise SiteError(
            f"site {name!r} is given {len(sizes)} phrases with {count} joint values, more than the {MAX_CONTEXTS} "
            "that a dense table may have. Give the site fewer phrases"
        )
    template, options, scoring, given = choice.template, choice.options, choice.scoring, choice.given

    @jax.jit
    def score(lm: LanguageModel, indices: tuple[Array, ...]) -> Array:
        numbers = iter(indices)
        # As pytrees, phrases forget what they were drawn by, which belongs to another trace.
        items = [jax.tree.map(lambda _: next(numbers), item) if isinstance(item, Phrase) else item for item in given]
        return Choice(lm, template, options, given=items, scoring=scoring).scores

    contexts = np.indices(sizes).reshape(len(sizes), count)
    parts = []
    for start in range(0, count, BATCH):
        rows = np.minimum(np.arange(start, start + min(BATCH, count)), count - 1)
        found = score(choice.lm, tuple(jnp.asarray(numbers[rows]) for numbers in contexts))
        parts.append(np.broadcast_to(found, (len(rows), len(options)))[: count - start])
    return jnp.asarray(np.concatenate(parts).reshape(*sizes, len(options)))
