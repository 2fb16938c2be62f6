"""``tabulate``: a model whose language model was asked beforehand, in the contexts that it may come to."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ...checks import as_path, function, one_of, shallow, takes
from ...errors import LoadError, ProgramError, SiteError
from ...models.executable import LookedUp
from ...models.language_model import LanguageModel, absent_lm
from ...page.forms import Form, Shown
from ..analysis.reachable import Reach, reachable
from ..language.choice import Choice
from ..language.mechanism import Mechanism
from ..language.phrase import Phrase
from ..language.scores import check_scores
from ..language.text_phrase import TextPhrase
from ..scoring.contexts import Table
from .look_up import LookUp

if TYPE_CHECKING:
    import pandas as pd

# Contexts of one site that are scored without having been asked for one by one.
MAX_CONTEXTS = 1 << 16
# Contexts that go through the language model together.
BATCH = 64

Scorer = Callable[[Choice, np.ndarray], np.ndarray]


def score_contexts(choice: Choice, indices: np.ndarray) -> np.ndarray:
    """Scores of a choice's options in some contexts.

    Args:
        choice: a choice that is given m phrases; their own values do not matter.
        indices: int ``[C, m]``, the options that the phrases have instead.

    Returns:
        float32 ``[C, K]``.
    """
    template, options, scoring, given = choice.template, choice.options, choice.scoring, choice.given

    def score(lm: LanguageModel, rows: Array) -> Array:
        columns = iter(rows.T)
        # As pytrees, phrases forget what they were drawn by, which belongs to another trace.
        items = [jax.tree.map(lambda _: next(columns), item) if isinstance(item, Phrase) else item for item in given]
        scores = Choice(lm, template, options, given=items, scoring=scoring).scores
        return jnp.broadcast_to(scores, (len(rows), len(options)))

    program, parts = LookedUp(jax.jit(score)), []
    for start in range(0, len(indices), BATCH):
        # The last batch has the shape of the others.
        own = np.minimum(np.arange(start, start + min(BATCH, len(indices))), len(indices) - 1)
        parts.append(np.asarray(program(choice.lm, jnp.asarray(indices[own])))[: len(indices) - start])
    return np.concatenate(parts)


def tabulate(
    fn: Callable, *args: Any, contexts: Any = None, scorer: Scorer = score_contexts, **kwargs: Any
) -> Tabulated:
    """Score the choices of a model in the contexts that they may come to, and bind the language models.

    Args:
        fn: a model function whose sites of language models are choices.
        *args: its first arguments, language models among them.
        **kwargs: those with names.
        contexts: values of sites that go together: something with such ``.values`` as a ``Simulation``
            (site name -> array ``[n, worlds, ...]``), or a mapping from site names to arrays or lists of
            option numbers or texts (numbers of other sites), which broadcast but for the site's own
            shape. Choices are then scored in the contexts that these values lead to.
        scorer: scores contexts; see ``score_contexts``.

    Returns:
        a model function of the remaining arguments, with the same sites and the same values, that
        asks no language model: each site looks its scores up in a table. Temperature and bias stay
        arguments, so inference over them (or over phrases) runs no language model.

    A context has one value for each phrase that the site is given: what an intervention of ``fn``
    sets a phrase to, what it is observed to be, what ``contexts`` say; all its options, if none of
    these says anything. (So a world around the table that sets ``x``, where ``fn`` sets it to
    something else, leaves the table.) Where ``args`` are not all that ``fn`` needs, sites are scored
    when the table is first called.

    In a context that is not in its table a site has the log-probabilities NaN and the value -1, which
    is no option; where the context is no traced value, asking for them is a ``SiteError``.

    Raises:
        SiteError: a site is free text, or is given some; its contexts are more than 65,536 and
            ``contexts`` does not name them; or ``contexts`` does not fit the model's sites.
        OptionError: ``contexts`` has what is no option of a site.
        ProgramError: ``fn`` does not take these arguments, or those of a call besides (each is given once).

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
    >>> seen = tabulate(model, lm, contexts={"pdl1": ["high", "high"]})
    >>> seen.rows("drug")[0].tolist()
    [[1]]
    """
    function(fn)
    takes(scorer, ("choice", "contexts"), what="a scorer", error=SiteError)
    shallow((args, kwargs), "an argument of the model", ProgramError)
    table = Tabulated(fn, args, kwargs, {}, {}, contexts, scorer)
    takes(fn, args, kwargs, some=True)
    try:
        inspect.signature(fn).bind(*args, **kwargs)
    except TypeError:
        return table  # More arguments are needed to run the model.
    table.prepare((), {})
    return table


@dataclass(eq=False, repr=False)
class Tabulated(Shown):
    """A model bound to its language models, with tables of scores; see ``tabulate``.

    It is a function to close over, and no pytree: a call may add to its tables, which are looked up on the host, by
    contexts that JAX cannot trace. The scores of a site (``scores``) are an array, which may be an argument.

    Attributes:
        fn: the model function.
        args, kwargs: the arguments that were bound.
        tables: tables by what they are of (internal names).
        names: site name -> internal name.
        contexts: values of sites whose contexts were asked for, or None.
        scorer: scores contexts.
    """

    fn: Callable
    args: tuple
    kwargs: dict[str, Any]
    tables: dict[str, Table]
    names: dict[str, str]
    contexts: Any = None
    scorer: Scorer = score_contexts
    # Sites that a program need not ask (interventions replace them), and calls that were looked at.
    _later: dict[str, Reach] = field(default_factory=dict, repr=False)
    _calls: set[Any] = field(default_factory=set, repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.prepare(args, kwargs)
        try:
            return self._run(args, kwargs)
        except _NotTabulated:
            if any(lm.absent for lm in self._lms):
                raise
        # What the function reads (a global, say) has changed since: it is another program.
        self._calls.clear()
        self.prepare(args, kwargs)
        return self._run(args, kwargs)

    def _run(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        with LookUp(self.table_of):
            return self.fn(*self.args, *args, **{**self.kwargs, **kwargs})

    def _form(self) -> Form:
        tables = ((site, self.tables[what]) for site, what in self.names.items())
        rows = [(site, len(table.contexts), table.count, table.scores.shape[1]) for site, table in tables]
        title = f"Tabulated: {getattr(self.fn, '__qualname__', type(self.fn).__name__)}, {len(rows)} sites"
        return Form(title, headings=("site", "contexts", "of", "options"), rows=rows)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each ``site``, ``context`` (tuple, see ``rows``), ``option`` (number): its ``score`` in nats."""
        import pandas as pd

        rows = [
            (site, tuple(context.tolist()), k, score)
            for site in self.names
            for context, scores in zip(*self.rows(site), strict=True)
            for k, score in enumerate(np.asarray(scores))
        ]
        return pd.DataFrame(rows, columns=["site", "context", "option", "score"])

    def scores(self, site: str) -> Array:
        """Scores of a site in all contexts, float32 ``[K_1, …, K_m, K]``, in nats.

        Raises:
            SiteError: no such site was tabulated, or not in all its contexts: see ``rows``.
        """
        table = self._of_site(site)
        if not table.is_dense:
            raise SiteError(
                f"site {site!r}: its table has {len(table.contexts)} of {table.count} contexts; see rows({site!r})"
            )
        return jnp.asarray(table.scores.reshape(*table.sizes, -1))

    def rows(self, site: str) -> tuple[np.ndarray, Array]:
        """The contexts of a site that are in its table, and its scores in them.

        Returns:
            int32 ``[C, m]``, option numbers of the m phrases that the site is given, in lexicographic
            order; and scores, float32 ``[C, K]``, in nats.

        Raises:
            SiteError: no such site was tabulated.
        """
        table = self._of_site(site)
        return table.contexts, jnp.asarray(table.scores)

    def _of_site(self, site: str) -> Table:
        return self.tables[self.names[one_of(site, list(self.names), "tabulated site", SiteError)]]

    # -- making tables --------------------------------------------------------------------------

    @property
    def _lms(self) -> list[LanguageModel]:
        return [x for x in (*self.args, *self.kwargs.values()) if isinstance(x, LanguageModel)]

    def prepare(self, args: tuple, kwargs: dict[str, Any]) -> None:
        """Score what a call with these arguments may come to, unless a call like it was looked at before."""
        call = _alike(args, kwargs)
        if call in self._calls or any(lm.absent for lm in self._lms):
            return
        found = reachable(self.fn, (self.args, self.kwargs), (args, kwargs), _values(self.contexts))
        for reach in found:
            if reach.asked:
                self._add(reach)
            else:
                self._later[reach.name] = reach
        if call is not None:
            self._calls.add(call)

    def _add(self, reach: Reach) -> Table:
        """The table of a choice, with the contexts that it has not yet."""
        name, choice = reach.name, reach.choice
        if reach.free and reach.count > MAX_CONTEXTS:
            raise SiteError(_too_many(reach, self.contexts is not None))
        what = self._identity(choice, name)
        known = self.tables.get(what)
        contexts = reach.contexts()
        new = contexts if known is None else contexts[known.lacks(contexts)]
        if len(new):
            if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(choice.lm)):
                raise SiteError(f"site {name!r}: its language model is being traced by JAX; tabulate outside of jit")
            # Out of the trace that asks. ``ensure_compile_time_eval`` would run what is constant in the scorer's own
            # program an operation at a time.
            with jax.core.eval_context():
                scores = self.scorer(choice, new)
            context = choice.question.context
            check_scores(scores, f"site {name!r}", lambda row: context(new[row], choice.lm.codec.decode), choice.lm)
            known = Table.of(reach.sizes, new, scores) if known is None else known.with_more(new, scores)
            self.tables[what] = known
        assert known is not None
        self.names[name] = what
        return known

    def _identity(self, choice: Choice, name: str) -> str:
        """A name for what a table depends on: the language model, the template, the options and contexts."""
        which = next((i for i, lm in enumerate(self._lms) if lm is choice.lm), None)
        if which is None:
            raise SiteError(f"site {name!r}: its language model is not one of the arguments that were bound")
        given: list[Any] = []
        for item in choice.given:
            if isinstance(item, TextPhrase):
                raise SiteError(f"site {name!r} is given free text; its contexts cannot be tabulated")
            given.append([*item.template, list(item.options)] if isinstance(item, Phrase) else item)
        parts = [which, list(choice.template), list(choice.options), choice.scoring, given]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]

    def table_of(self, name: str, choice: Mechanism) -> Table:
        """The table of a choice.

        Raises:
            SiteError: there is none.
        """
        if not isinstance(choice, Choice):
            raise SiteError(f"site {name!r} is free text; only choices can be tabulated")
        if name in self._later:
            self._add(self._later.pop(name))
        what = self._identity(choice, name)
        if what not in self.tables:
            raise _NotTabulated(f"site {name!r} is not in the table that was loaded: the model is another one")
        self.names[name] = what
        return self.tables[what]

    # -- files ----------------------------------------------------------------------------------

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
        tensors = {}
        for name, table in self.tables.items():
            tensors[name] = table.scores.reshape(*table.sizes, -1) if table.is_dense else table.scores
            if not table.is_dense:
                tensors[name + _CONTEXTS] = table.contexts
        sizes = {name: table.sizes for name, table in self.tables.items() if not table.is_dense}
        parts = {"sites": self.names, "arguments": arguments, "sizes": sizes}
        save_file(tensors, as_path(path), metadata={name: json.dumps(part) for name, part in parts.items()})


_CONTEXTS = ".contexts"


class _NotTabulated(SiteError):
    """A site asks for what there is no table of."""


def load_table(path: str | Path, fn: Callable) -> Tabulated:
    """Load tables that ``Tabulated.save`` wrote.

    Args:
        path: the file.
        fn: the model function that was tabulated. What stands in for its language models cannot be
            asked; a site that is not in the tables is an error.

    Raises:
        LoadError: the file cannot be read.
    """
    path = as_path(path, "a file of tables", LoadError)
    function(fn)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        names, arguments = json.loads(metadata["sites"]), json.loads(metadata["arguments"])
        sizes = json.loads(metadata.get("sizes", "{}"))
        tables = {
            name: Table.of(sizes[name], tensors[name + _CONTEXTS], scores) if name in sizes else Table.dense(scores)
            for name, scores in tensors.items()
            if not name.endswith(_CONTEXTS)
        }
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise LoadError(f"{path} holds no tables: {type(error).__name__}: {error}") from error
    positional = tuple(absent_lm() for _ in range(arguments["positional"]))
    return Tabulated(fn, positional, {name: absent_lm() for name in arguments["keywords"]}, tables, names)


def _values(contexts: Any) -> Mapping[str, Any] | None:
    """What was asked for, as values of sites."""
    values = contexts if isinstance(contexts, Mapping) else getattr(contexts, "values", None)
    if contexts is not None and not isinstance(values, Mapping):
        raise SiteError(
            f"contexts is a simulation, or a mapping from site names to values; got {type(contexts).__name__}"
        )
    return values


def _too_many(reach: Reach, asked: bool) -> str:
    phrases = [reach.choice.phrases[j] for j in reach.free]
    named = ", ".join(repr(phrase.name or str(phrase.template)) for phrase in phrases)
    return (
        f"site {reach.name!r} is given {len(reach.sizes)} phrases with {reach.count} joint values, more than the "
        f"{MAX_CONTEXTS} that are scored where nothing says which of them matter. "
        + (
            f"contexts does not determine {named}"
            if asked
            else "Name those that do with contexts=, such as a simulation"
        )
    )


def _alike(args: tuple, kwargs: dict[str, Any]) -> Any:
    """What calls have in common that come to the same contexts, hashable; None if it is not known."""
    leaves, treedef = jax.tree.flatten((args, kwargs))
    parts: list[tuple[Any, Any]] = [
        (np.shape(x), jnp.result_type(x))
        if isinstance(x, (Array, np.ndarray))
        else (type(x), None if isinstance(x, float) else x)
        for x in leaves
    ]
    alike = treedef, tuple(parts)
    try:
        hash(alike)
    except TypeError:
        return None
    return alike
