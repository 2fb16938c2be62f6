"""A program as a discrete causal network: the probability table of every site, given its parents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from ..checks import flag, instance, items, one_of, text, told
from ..dsl.analysis.structure import Site, structure
from ..dsl.handlers.exogenous import exogenous
from ..dsl.handlers.external_scores import language_models
from ..dsl.handlers.given_values import Given
from ..dsl.handlers.intervened import Fixed, Intervened, unmasked
from ..dsl.language.mechanism import Mechanism
from ..dsl.language.phrase import as_array
from ..dsl.noise.couplings.registry import parse_coupling
from ..dsl.scoring.contexts import all_contexts
from ..dsl.tables.tabulate import Tabulated, tabulate
from ..errors import EffectError, SiteError
from .table_factors import read_off

if TYPE_CHECKING:
    import networkx as nx

# Entries of one site's table; more are not held.
MOST_ENTRIES = 1 << 24
# By how much the sum of probabilities may differ from 1.
_ROUNDING = 1e-6
# How NumPyro draws. A Bernoulli compares one uniform; two options are coupled alike by that and by Gumbels.
_NUMPYRO_COUPLINGS: dict[type, str] = {
    dist.BernoulliProbs: "inverse_cdf",
    dist.BernoulliLogits: "inverse_cdf",
    dist.CategoricalProbs: "inverse_cdf",
    dist.CategoricalLogits: "gumbel",
}


@dataclass(frozen=True, eq=False)
class Factor:
    """One site's mechanism.

    Attributes:
        site: its name.
        parents: names of the sites that it reads, in program order.
        table: float64 ``[K_1, …, K_m, K]``: ``P(site = k | parents)``.
        options: the K options' texts (numbers as texts, for a site that is not language).
        coupling: how worlds share its noise; see ``Choice``. None: it is not known.
        exogenous: may it not be intervened on?

    Raises:
        EffectError: there is no such coupling.
    """

    site: str
    parents: tuple[str, ...]
    table: np.ndarray
    options: tuple[str, ...]
    coupling: str | None = "gumbel"
    exogenous: bool = False

    def __post_init__(self) -> None:
        text(self.site, "the name of a site", SiteError)
        what = f"site {self.site!r}"
        for part in (
            *items(self.parents, f"{what}: parents", SiteError),
            *items(self.options, f"{what}: options", SiteError),
        ):
            text(part, f"{what}: a parent or an option", SiteError)
        table = as_array(self.table)
        if table is None or table.dtype.kind not in "fiub":
            raise SiteError(f"{what}: its table is of probabilities, got {told(self.table)}")
        flag(self.exogenous, f"{what}: exogenous", SiteError)
        if self.coupling is not None:
            object.__setattr__(self, "coupling", parse_coupling(self.coupling, f"site {self.site!r}", EffectError))


@dataclass(frozen=True, eq=False)
class Network:
    """Factors in program order: a causal Bayesian network, whose noises are independent between sites.

    >>> rain = Factor("rain", (), np.array([0.8, 0.2]), ("no", "yes"))
    >>> wet = Factor("wet", ("rain",), np.array([[0.9, 0.1], [0.2, 0.8]]), ("no", "yes"))
    >>> Network((rain, wet)).descendants("rain")
    ('wet',)
    """

    factors: tuple[Factor, ...]

    def __post_init__(self) -> None:
        seen: dict[str, Factor] = {}
        for factor in items(self.factors, "factors of a network", SiteError):
            instance(factor, Factor, "a factor of a network", SiteError)
            unknown = [name for name in factor.parents if name not in seen]
            if unknown or factor.site in seen:
                what = f"is given {unknown[0]!r}, which is no earlier site" if unknown else "is there twice"
                raise SiteError(f"site {factor.site!r} {what}")
            if len(set(factor.options)) < len(factor.options) or not factor.options:
                raise SiteError(f"site {factor.site!r}: options are different texts, got {told(factor.options)}")
            shape = (*(len(seen[name].options) for name in factor.parents), len(factor.options))
            if np.shape(factor.table) != shape:
                raise SiteError(f"site {factor.site!r}: its table has shape {np.shape(factor.table)}, expected {shape}")
            object.__setattr__(factor, "table", np.asarray(factor.table))
            wrong = ~((factor.table >= 0).all(-1) & (np.abs(factor.table.sum(-1) - 1) < _ROUNDING))
            if wrong.any():
                raise SiteError(
                    f"site {factor.site!r}: its table is of probabilities, which are not negative and sum to 1 in each "
                    f"context; got {factor.table[wrong][0]}"
                )
            seen[factor.site] = factor

    def __getitem__(self, name: str) -> Factor:
        return self._by_name[one_of(name, self.names, "site", SiteError)]

    @cached_property
    def _by_name(self) -> dict[str, Factor]:
        return {factor.site: factor for factor in self.factors}

    @property
    def names(self) -> tuple[str, ...]:
        """Sites in program order."""
        return tuple(self._by_name)

    @cached_property
    def dag(self) -> nx.DiGraph:
        """The causal graph."""
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_nodes_from(self.names)
        graph.add_edges_from((p, factor.site) for factor in self.factors for p in factor.parents)
        return graph

    def descendants(self, name: str) -> tuple[str, ...]:
        """Sites that ``name`` is a cause of, in program order."""
        import networkx as nx

        below = nx.descendants(self.dag, self[name].site)
        return tuple(n for n in self.names if n in below)

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Sites that are causes of ``name``, in program order."""
        import networkx as nx

        above = nx.ancestors(self.dag, self[name].site)
        return tuple(n for n in self.names if n in above)

    def read_beside(self, treatment: str, outcome: str) -> list[str]:
        """Sites that the treatment does not cause and that what it causes reads, up to the outcome.

        Units that are alike in these differ in their effects by noise alone.
        """
        between = {outcome, *(name for name in self.descendants(treatment) if name in self.ancestors(outcome))}
        read = {parent for name in between for parent in self[name].parents}
        return [name for name in self.names if name in read - between - {treatment}]


def network(fn: Callable, *args: Any, **kwargs: Any) -> Network:
    """The factors of a program whose sites all have finitely many values.

    Language models are asked once in every context that a site may have (``tabulate``). Deterministic sites are
    no factors: what reads them reads their parents.

    Args:
        fn: a model function or a ``Tabulated`` one.
        *args: its arguments.
        **kwargs: those with names.

    Raises:
        EffectError: a site has infinitely many values or is an array, is in a loop, is observed, or has a soft or
            stochastic intervention; or its table is too large.
        SiteError: from ``tabulate``: free text, or more contexts than are scored.

    >>> import sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> network(model, lm)["drug"].table.shape
    (2, 2)
    """
    if not isinstance(fn, Tabulated) and language_models((args, kwargs)):
        _check(structure(fn, args, kwargs))
        fn, args, kwargs = tabulate(fn, *args, **kwargs), (), {}
    sites = structure(fn, args, kwargs)
    _check(sites)
    parents = _direct_parents(sites)
    tabled = read_off(fn, args, kwargs, tuple(parents))
    sizes: dict[str, int] = {}
    factors = []
    for site in sites:
        if site.kind == "deterministic":
            continue
        of = parents[site.name]
        shape = tuple(sizes[name] for name in of)
        if math.prod(shape) * max(len(site.options), 2) > MOST_ENTRIES:
            raise EffectError(
                f"site {site.name!r} has {math.prod(shape)} contexts, more than are held exactly; use effects.sampled"
            )
        contexts, own = all_contexts(shape), tabled.get(site.name)
        logits = None if own is None else own.in_contexts(of, shape, contexts)
        if own is None or logits is None:
            logits, options, coupling = _evaluated(fn, args, kwargs, site, of, contexts, tuple(parents))
        else:
            options, coupling = own.options, own.coupling
        table = np.exp(logits - logits.max(-1, keepdims=True))
        table /= table.sum(-1, keepdims=True)
        sizes[site.name] = len(options)
        shape = (*shape, len(options))
        factors.append(Factor(site.name, of, table.reshape(shape), options, coupling, site.exogenous))
    return Network(tuple(factors))


def _check(sites: tuple[Site, ...]) -> None:
    for site in sites:
        if site.kind == "text":
            what = "is free text"
        elif site.shape:
            what = f"is an array of shape {site.shape}"
        elif site.looped:
            what = "is inside scan or cond"
        elif site.observed:
            what = "is observed; leave obs= out and give the value to the effect"
        else:
            continue
        if site.kind != "deterministic":
            raise EffectError(f"exact effects need sites with finitely many values: site {site.name!r} {what}")


def _direct_parents(sites: tuple[Site, ...]) -> dict[str, tuple[str, ...]]:
    """Parents without deterministic sites: theirs stand for them."""
    found: dict[str, tuple[str, ...]] = {}
    order = [site.name for site in sites]
    kinds = {site.name: site.kind for site in sites}
    for site in sites:
        above: set[str] = set()
        for name in site.parents:
            above.update(found[name] if kinds[name] == "deterministic" else (name,))
        found[site.name] = tuple(name for name in order if name in above)
    return found


def _evaluated(
    fn: Callable, args: tuple, kwargs: Mapping[str, Any], site: Site, of: tuple[str, ...], contexts: np.ndarray,
    names: tuple[str, ...],
) -> tuple[np.ndarray, tuple[str, ...], str | None]:  # fmt: skip
    """Log-probabilities ``[C, K]`` in some contexts, option texts, and the coupling."""
    static: list[Any] = []

    def one(numbers: Any) -> Any:
        # Sites that this one does not read may have any value.
        values = dict.fromkeys(names, jnp.int32(0)) | {name: numbers[j] for j, name in enumerate(of)}
        messenger = Given(fn, values)
        with numpyro.handlers.block():
            exogenous(messenger, 0)(*args, **kwargs)
        logits, *told = _law(messenger.fns.get(site.name), site.name)
        static.append(told)
        return logits

    return np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(contexts)), np.float64), *static[-1]


def _law(fn: Any, name: str) -> tuple[Any, tuple[str, ...], str | None]:
    """Log-probabilities ``[K]``, option texts and the coupling of a site's distribution."""
    fn = unmasked(fn)
    if fn is None or isinstance(fn, Intervened):
        what = "has a value that a handler gives it" if fn is None else "has a soft or stochastic intervention"
        raise EffectError(f"exact effects need the mechanisms of sites: site {name!r} {what}; use effects.sampled")
    # What an intervention replaced is not asked.
    own = fn
    while isinstance(own, Fixed | Intervened):
        own = unmasked(own.replaced)
    mechanism = own if isinstance(own, Mechanism) else None
    values = _support(own, name) if mechanism is None else np.arange(len(mechanism.options))
    options = tuple(str(int(value)) for value in values) if mechanism is None else mechanism.options
    coupling = _NUMPYRO_COUPLINGS.get(type(own)) if mechanism is None else mechanism.coupling
    if isinstance(fn, Fixed):
        return jnp.log(jnp.eye(len(options))[fn.v]), options, coupling
    logits = jnp.stack([fn.log_prob(value) for value in values]) if mechanism is None else mechanism.logits
    return logits, options, coupling


def _support(fn: Any, name: str) -> np.ndarray:
    """The values 0..K-1 of a NumPyro distribution."""
    if not getattr(fn, "has_enumerate_support", False):
        raise EffectError(
            f"exact effects need sites with finitely many values: site {name!r} is {type(fn).__name__}; "
            "use effects.sampled"
        )
    try:
        with jax.ensure_compile_time_eval():
            values = np.asarray(fn.enumerate_support(expand=False)).ravel()
    except (NotImplementedError, jax.errors.TracerArrayConversionError) as error:
        raise EffectError(
            f"site {name!r}: which values it may have depends on other sites; use effects.sampled"
        ) from error
    if not np.array_equal(values, np.arange(len(values))):
        raise EffectError(f"site {name!r}: its values are not 0, 1, …; use effects.sampled")
    return values
