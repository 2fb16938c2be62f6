"""Small discrete causal models written out as tables, and their effects by going through every joint value."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sdscm_jax.dsl.noise.couplings import registry
from sdscm_jax.effects import Factor, Network

Values = dict[str, int]
Edges = frozenset[tuple[str, str]]
COUPLINGS = tuple(registry.COUPLINGS)


@dataclass(frozen=True)
class Model:
    """Tables ``[K_1, …, K_m, K]`` of sites in program order, given their parents."""

    parents: dict[str, tuple[str, ...]]
    tables: dict[str, np.ndarray]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parents)

    def size(self, name: str) -> int:
        return self.tables[name].shape[-1]

    def options(self, name: str) -> tuple[str, ...]:
        return tuple(f"{name}{k}" for k in range(self.size(name)))

    @property
    def edges(self) -> list[tuple[str, str]]:
        return [(parent, name) for name in self.names for parent in self.parents[name]]

    def below(self, name: str) -> set[str]:
        """Descendants."""
        found: set[str] = set()
        for other in self.names:
            if any(parent == name or parent in found for parent in self.parents[other]):
                found.add(other)
        return found

    def between(self, first: str, last: str) -> tuple[str, ...]:
        """Sites on a directed path, in program order."""
        return tuple(name for name in self.names if name in self.below(first) and last in self.below(name))

    def network(self, coupling: str = "gumbel") -> Network:
        return Network(tuple(Factor(n, self.parents[n], self.tables[n], self.options(n), coupling) for n in self.names))

    def every(self) -> Iterator[Values]:
        """Every joint value of the sites."""
        for numbers in itertools.product(*(range(self.size(name)) for name in self.names)):
            yield dict(zip(self.names, numbers, strict=True))

    def chance(self, name: str, value: int, read: Callable[[str], int]) -> float:
        """``P(name = value | parents)``, where ``read`` says what each parent is."""
        return float(self.tables[name][(*(read(parent) for parent in self.parents[name]), value)])

    def weight(self, values: Values, sites: set[str], read: Callable[[str, str], int] | None = None) -> float:
        """Product of the probabilities of some sites; ``read(site, parent)`` is what a site reads."""
        found = 1.0
        for name in sites:
            own = (lambda p, name=name: values[p]) if read is None else (lambda p, name=name: read(name, p))
            found *= self.chance(name, values[name], own)
        return found

    def law(self, outcome: str, do: Mapping[str, int], given: Mapping[str, int] | None = None) -> np.ndarray:
        """``P(outcome | do, given)``; what is given is not caused by what is set."""
        found = np.zeros(self.size(outcome))
        for values in self.every():
            if all(values[k] == v for k, v in {**do, **(given or {})}.items()):
                found[values[outcome]] += self.weight(values, set(self.names) - set(do))
        return found / found.sum() if found.sum() > 0 else np.full(len(found), np.nan)

    def law_of_group(self, outcome: str, treatment: str, set_to: int, natural: int) -> np.ndarray:
        """``P(outcome_{treatment = set_to} | treatment = natural)``."""
        found = np.zeros(self.size(outcome))
        for values in self.every():
            if values[treatment] == set_to:
                chosen = self.chance(treatment, natural, lambda parent, values=values: values[parent])
                found[values[outcome]] += chosen * self.weight(values, set(self.names) - {treatment})
        return found / found.sum()

    def mixed(self, outcome: str, treatment: str, feels: Callable[[str], int]) -> np.ndarray:
        """Law of the outcome where each site reads the treatment as ``feels(site)``, one value for each site."""
        found = np.zeros(self.size(outcome))
        others = set(self.names) - {treatment}
        for values in self.every():
            if values[treatment]:
                continue
            read = lambda name, p, values=values: feels(name) if p == treatment else values[p]  # noqa: E731
            found[values[outcome]] += self.weight(values, others, read)
        return found


def random_model(seed: int, count: int = 4, treated: int = 2, density: float = 0.7, zeros: float = 0.15) -> Model:
    """Sites c, t, m…, y with 2 or 3 options (t has ``treated``), random edges, and some zeros in the tables."""
    rng = np.random.default_rng(seed)
    names = ("c", "t", *(f"m{i}" for i in range(count - 3)), "y")
    parents: dict[str, tuple[str, ...]] = {}
    tables: dict[str, np.ndarray] = {}
    for i, name in enumerate(names):
        parents[name] = tuple(p for p in names[:i] if rng.random() < density)
        if name == "y" and "t" not in parents[name]:
            parents[name] = tuple(p for p in names[:i] if p in parents[name] or p == "t")
        size = treated if name == "t" else int(rng.integers(2, 4))
        shape = tuple(tables[p].shape[-1] for p in parents[name])
        table = rng.dirichlet(np.full(size, 0.7), shape)
        table = np.where((rng.random(table.shape) < zeros) & (name != "t"), 0.0, table)
        table[..., 0] += table.sum(-1) == 0
        tables[name] = table / table.sum(-1, keepdims=True)
    return Model(parents, tables)


@dataclass
class Units:
    """Units drawn from a model's structural equations; worlds share the noise of every site.

    A version of a site is what it is given what its parents are, so two worlds in which they agree agree too.
    """

    model: Model
    coupling: str
    n: int
    seed: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        shape = {name: (self.n, self.model.size(name)) for name in self.model.names}
        self.factual: dict[str, np.ndarray] | None = None
        if self.coupling in ("gumbel", "maximal"):
            self.noise = {name: rng.gumbel(size=shape[name]) for name in self.model.names}
        else:
            self.noise = {name: rng.random(self.n) for name in self.model.names}
        if self.coupling == "maximal":
            self.threshold = {name: rng.random(self.n) for name in self.model.names}
            self.rest = {name: rng.gumbel(size=shape[name]) for name in self.model.names}
            self.factual = self.world({})

    def respond(self, name: str, read: Mapping[str, np.ndarray]) -> np.ndarray:
        """The value of a site given what it reads, int ``[n]``."""
        probs = self.model.tables[name][tuple(read[p] for p in self.model.parents[name])]
        probs = np.broadcast_to(probs, (self.n, probs.shape[-1]))
        if self.factual is not None:
            own = self.model.tables[name][tuple(self.factual[p] for p in self.model.parents[name])]
            own, option = np.broadcast_to(own, probs.shape), self.factual[name]
            rows = np.arange(self.n)
            stays = self.threshold[name] * own[rows, option] < probs[rows, option]
            with np.errstate(divide="ignore"):
                other = np.argmax(np.log(np.maximum(probs - own, 0.0)) + self.rest[name], -1)
            return np.where(stays, option, other)
        if self.coupling in ("gumbel", "maximal"):
            with np.errstate(divide="ignore"):
                return np.argmax(np.log(probs) + self.noise[name], -1)
        return np.minimum((self.noise[name][:, None] >= probs.cumsum(-1)).sum(-1), probs.shape[-1] - 1)

    def world(self, do: Mapping[str, int | np.ndarray]) -> dict[str, np.ndarray]:
        """All sites under an intervention."""
        values: dict[str, np.ndarray] = {}
        for name in self.model.names:
            values[name] = np.broadcast_to(do[name], self.n) if name in do else self.respond(name, values)
        return values

    def along(self, treatment: str, low: int, high: int, edges: Edges) -> dict[str, np.ndarray]:
        """All sites where the treatment is felt along some edges."""
        base = self.world({treatment: low})
        values = {treatment: np.full(self.n, high)}
        for name in self.model.names:
            if name != treatment:
                read = {p: values[p] if (p, name) in edges else base[p] for p in self.model.parents[name]}
                values[name] = self.respond(name, read)
        return values
