"""Exact probabilities of sites in several worlds, from the tables of a discrete program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import instance
from ..dsl.noise.couplings.base import Coupling
from ..dsl.noise.couplings.registry import parse_coupling
from ..errors import EffectError
from .contraction import LIMITS, Limits, contract
from .counterfactual_graph import Copies, Target
from .estimate import Estimate
from .factors import Network, network
from .responses import joint_responses, with_axes
from .sites import Sites

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Exact(Sites):
    """Where effects come from: tables of a discrete program, contracted.

    Attributes:
        network: the tables.
        limits: what a contraction may take.
        coupling: how worlds share the noise of every site; None: as each site says.

    Raises:
        EffectError: there is no such coupling.
    """

    network: Network
    limits: Limits = LIMITS
    coupling: str | None = None

    def __post_init__(self) -> None:
        instance(self.network, Network, "network", EffectError)
        instance(self.limits, Limits, "limits", EffectError)
        if self.coupling is not None:
            object.__setattr__(self, "coupling", parse_coupling(self.coupling, "effects.exact", EffectError))

    @property
    def names(self) -> tuple[str, ...]:
        """Sites in program order."""
        return self.network.names

    def parents(self, site: str) -> tuple[str, ...]:
        """Parents of a site."""
        return self.network[site].parents

    def descendants(self, site: str) -> tuple[str, ...]:
        """Sites that a site is a cause of."""
        return self.network.descendants(site)

    def options(self, site: str) -> tuple[str, ...]:
        """Texts of a site's options."""
        return self.network[site].options

    def exogenous(self, site: str) -> bool:
        """May the site not be intervened on?"""
        return self.network[site].exogenous

    def coupling_of(self, site: str) -> Coupling | None:
        """How worlds share the site's noise; None: it is not known."""
        found = self.coupling or self.network[site].coupling
        return None if found is None else parse_coupling(found)

    def table(self, site: str) -> pd.DataFrame:
        """``P(site | its parents)``: what the language model said in each context, after scoring and temperature.

        Args:
            site: its name.

        Returns:
            float64; a column for each option of the site, and a row for each combination of the parents' options in
            program order (a ``MultiIndex`` where there are several parents). Without parents there is one row.

        Raises:
            SiteError: no such site.

        >>> from sdscm_jax.effects import Factor
        >>> rain = Factor("rain", (), np.array([0.8, 0.2]), ("no", "yes"))
        >>> wet = Factor("grass", ("rain",), np.array([[0.9, 0.1], [0.2, 0.8]]), ("dry", "wet"))
        >>> source = Exact(Network((rain, wet)))
        >>> source.table("grass").to_dict("index")
        {'no': {'dry': 0.9, 'wet': 0.1}, 'yes': {'dry': 0.2, 'wet': 0.8}}
        >>> source.table("rain").shape
        (1, 2)
        """
        import pandas as pd

        factor = self.network[site]
        options = [self.options(parent) for parent in factor.parents]
        rows: pd.Index | None = pd.MultiIndex.from_product(options, names=factor.parents) if options else None
        if len(options) == 1:
            rows = pd.Index(options[0], name=factor.parents[0])
        columns = pd.Index(factor.options, name=site)
        return pd.DataFrame(factor.table.reshape(-1, len(columns)), rows, columns)

    def joint(self, targets: Sequence[Target], evidence: Sequence[tuple[Target, int]] = ()) -> Estimate:
        """``P(targets, evidence)``, with an axis for each target.

        Args:
            targets: sites in worlds.
            evidence: sites in worlds, and the option number that each has.

        Returns:
            float64 ``[K_1, …]``; its sum is the probability of the evidence.

        Raises:
            EffectError: it takes more than the limits; or a site has three versions whose noise is shared.
        """
        copies = self.copies()
        wanted = [copies.of(target) for target in targets]
        seen: dict[int, int] = {}
        for target, value in evidence:
            if seen.setdefault(copies.of(target), value) != value:
                return Estimate(np.zeros([len(self.options(target.site)) for target in targets]))
        operands = self.operands(copies, [*wanted, *seen])
        for copy in dict.fromkeys([*wanted, *seen]):
            constant = copies.copies[copy].constant
            if constant is not None:
                operands.append((np.eye(len(self.options(copies.copies[copy].site)))[constant], [copy]))
        for copy, value in seen.items():
            operands.append((np.eye(len(self.options(copies.copies[copy].site)))[value], [copy]))
        keep = list(dict.fromkeys(wanted))
        found, cost = contract(operands, keep, self.limits)
        return Estimate(with_axes(found, [keep.index(copy) for copy in wanted]), None, cost)

    def operands(
        self, copies: Copies, wanted: Sequence[int], without: str | None = None
    ) -> list[tuple[np.ndarray, Sequence[int]]]:
        """The law of every version that is needed, given those that it reads; but for those of one site."""
        operands: list[tuple[np.ndarray, Sequence[int]]] = []
        for site, versions in self._with_factual(copies, wanted).items():
            if site == without:
                continue
            tables = [self.given_constants(copies, version) for version in versions]
            coupling = self.coupling_of(site)
            if len(versions) == 1 or (coupling is not None and coupling.apart):
                operands += [(table, [*axes, v]) for (table, axes), v in zip(tables, versions, strict=True)]
                continue
            relative = coupling is not None and coupling.relative
            if len(versions) > 2 + relative:
                raise EffectError(
                    f"site {site!r} has {len(versions)} versions whose noise is shared, and exact effects know two; "
                    "use effects.sampled"
                )
            if coupling is None:
                raise EffectError(
                    f"how worlds share the noise of site {site!r} is not known; say it with "
                    "effects.exact(…, coupling=…), or use effects.sampled"
                )
            axes = list(dict.fromkeys(axis for _, own in tables for axis in own))
            laws = [_aligned(table, own, axes) for table, own in tables]
            size = float(np.prod(np.broadcast_shapes(*(p.shape for p in laws)))) * laws[0].shape[-1] ** (len(laws) - 1)
            if size > self.limits.largest:
                raise EffectError(
                    f"the exact effect needs an array of {size:.2g} numbers for the two versions of site {site!r}, "
                    f"more than {self.limits.largest:.2g}; use effects.sampled, or raise limits="
                )
            joint = joint_responses(coupling, *laws)
            joint = np.broadcast_to(
                joint, (*(len(self.options(copies.copies[a].site)) for a in axes), *joint.shape[-len(laws) :])
            )
            operands.append((joint, [*axes, *versions]))
        return operands

    def _with_factual(self, copies: Copies, wanted: Sequence[int]) -> dict[str, list[int]]:
        """Versions by site; of a site whose noise is relative the factual one leads, wherever it has several."""
        needed, found = list(wanted), copies.responses(wanted)
        while True:
            lacking = [
                factual
                for site, versions in found.items()
                if len(versions) > 1
                and (coupling := self.coupling_of(site)) is not None
                and coupling.relative
                and (factual := copies.of(Target(site))) not in versions
            ]
            if not lacking:
                break
            needed += lacking
            found = copies.responses(needed)
        for site, versions in found.items():
            if len(versions) > 1 and (coupling := self.coupling_of(site)) is not None and coupling.relative:
                factual = copies.of(Target(site))
                found[site] = [factual, *(version for version in versions if version != factual)]
        return found

    def given_constants(self, copies: Copies, version: int) -> tuple[np.ndarray, list[int]]:
        """The table of a version, without the parents that are set to a constant; and the others."""
        site, _, parents = copies.copies[version]
        constants = [copies.copies[parent].constant for parent in parents]
        at = tuple(slice(None) if constant is None else constant for constant in constants)
        return self.network[site].table[at], [p for p, c in zip(parents, constants, strict=True) if c is None]


def exact(fn: Callable | Network, *args: Any, limits: Limits = LIMITS, coupling: str | None = None) -> Exact:
    """A source of exact effects of a program whose sites all have finitely many values.

    Args:
        fn: a model function, a ``Tabulated`` one, or a ``Network``.
        *args: its arguments, such as the language model, which is asked in every context that a site may have.
        limits: what a contraction may take; more is an ``EffectError`` that says what it would take.
        coupling: how worlds share the noise of every site; None: as each site says.

    Raises:
        EffectError: there is no such coupling.
        EffectError, SiteError: see ``network``.

    >>> import sdscm_jax as sd
    >>> from sdscm_jax import effects
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> effect = effects.ate(effects.exact(model, lm), "pdl1", "drug", "low", "high")
    >>> effect.labels, bool(abs(effect.value.sum()) < 1e-9)
    (('wait', 'treat'), True)
    """
    if coupling is not None:
        parse_coupling(coupling, "effects.exact", EffectError)
    return Exact(fn if isinstance(fn, Network) else network(fn, *args), limits, coupling)


def _aligned(table: np.ndarray, own: Sequence[int], axes: Sequence[int]) -> np.ndarray:
    """A table ``[*own, K]`` with the axes ``[*axes, K]``, of length 1 where it has none."""
    order = [own.index(axis) for axis in axes if axis in own]
    table = table.transpose([*order, len(own)])
    shape = iter(table.shape[:-1])
    return table.reshape([next(shape) if axis in own else 1 for axis in axes] + [table.shape[-1]])
