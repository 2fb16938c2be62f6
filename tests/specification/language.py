"""Programs as data: what the specification interprets, and what ``programs.build`` makes a model function of.

A ``repr`` is Python that makes the same thing again. Sites read earlier ones by their full name (``"scope/x"``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any

# What a loop's site is given of itself.
LAST = "__last__"


class Data:
    """Prints as what makes it, without what is left as it is by default."""

    def __repr__(self) -> str:
        shown = []
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if f.default is MISSING:
                shown.append(repr(value))
            elif value != f.default or type(value) is not type(f.default):
                shown.append(f"{f.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


# -- statements --------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class At(Data):
    """The phrase that a site has, in a list of what is given (a string there is a text)."""

    site: str


@dataclass(frozen=True, repr=False)
class Linear(Data):
    """``constant + Σ coefficient · value``; a phrase counts as its option's number. A site of a plate that is left
    counts as the sum over its members."""

    constant: float = 0.0
    terms: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, repr=False)
class Choice(Data):
    name: str
    options: tuple[str, ...]
    given: tuple[Any, ...] = ()
    template: str = "It is {}."
    scoring: str = "sequence"
    temperature: float = 1.0
    coupling: str = "gumbel"
    bias: tuple[float, ...] | None = None
    lm: int = 0
    exogenous: bool = False
    obs: Any = None
    # ``GumbelReparam``: "around" the program, or "inside" of its scope.
    reparam: str = ""


@dataclass(frozen=True, repr=False)
class Number(Data):
    """A site of a NumPyro distribution; see ``FAMILIES``."""

    name: str
    family: str
    of: Linear = Linear()
    scale: float = 1.0
    exogenous: bool = False


@dataclass(frozen=True, repr=False)
class Computed(Data):
    """``numpyro.deterministic``."""

    name: str
    of: Linear


@dataclass(frozen=True, repr=False)
class Said(Data):
    """``sd.verbalize``."""

    name: str
    of: str
    edges: tuple[float, ...]
    options: tuple[str, ...]
    template: str = "So {}."


@dataclass(frozen=True, repr=False)
class Plate(Data):
    name: str
    size: int
    body: tuple[Any, ...]
    dim: int | None = None


@dataclass(frozen=True, repr=False)
class Scope(Data):
    prefix: str
    body: tuple[Any, ...]


@dataclass(frozen=True, repr=False)
class Mask(Data):
    on: bool
    body: tuple[Any, ...]


@dataclass(frozen=True, repr=False)
class Scan(Data):
    """``length`` steps of a site, whose ``At(LAST)`` is its own last phrase: at first that of ``start``, which has the
    same options and template."""

    start: str
    step: Choice
    length: int


@dataclass(frozen=True, repr=False)
class Cond(Data):
    """One of two versions of a site, by the truth of ``on``'s number (not 0)."""

    on: str
    true: Choice
    false: Choice


@dataclass(frozen=True, repr=False)
class Program(Data):
    body: tuple[Any, ...]


Site = Choice | Number | Computed | Said


# -- values of an intervention -----------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Set(Data):
    """A constant: a text, number, boolean or (nested) tuple of them; ``per_unit``: one for each unit.

    ``form`` is how it is written: plain Python, a NumPy or JAX scalar or array, or a list.
    """

    value: Any
    form: str = "plain"
    per_unit: bool = False


@dataclass(frozen=True, repr=False)
class Uniform(Data):
    """``"uniform"``."""


@dataclass(frozen=True, repr=False)
class Random(Data):
    """A distribution of NumPyro, of no batch."""

    family: str
    location: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, repr=False)
class Soft(Data):
    """A callable of the natural value x: ``a x + b``, of an option number modulo how many there are."""

    a: float
    b: float


@dataclass(frozen=True, repr=False)
class Policy(Data):
    """A callable of the natural value and the earlier sites: ``value`` where ``site``'s number is positive."""

    site: str
    value: Any


@dataclass(frozen=True, repr=False)
class Nested(Data):
    world: tuple[tuple[str, Any], ...]


World = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, repr=False)
class Case(Data):
    """A program with a question.

    Attributes:
        worlds: beside the factual one.
        evidence: site -> ``Set``.
        seed, units: of the run; ``key``: how its key is written (``int``, ``typed``, ``raw``, ``rbg``).
    """

    program: Program
    worlds: tuple[World, ...] = ()
    evidence: World = ()
    units: int = 8
    seed: int = 0
    key: str = "int"
    x64: bool = False


# -- looking at programs -----------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Place(Data):
    """A site where it stands: its full name, its plates (dimension -> size) and the loop around it."""

    name: str
    site: Any
    plates: tuple[tuple[int, int], ...] = ()
    loop: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.plates)


def shape_of(plates: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """NumPyro's: dimension -1 is the last one, what is not there has size 1."""
    sizes = dict(plates)
    return tuple(sizes.get(d, 1) for d in range(min(sizes, default=0), 0))


def places(body: tuple[Any, ...], prefix: str = "", plates: tuple[tuple[int, int], ...] = ()) -> Iterator[Place]:
    """The sites of a program, in its order."""
    for s in body:
        match s:
            case Plate():
                yield from places(s.body, prefix, (*plates, (plate_dim(s, plates), s.size)))
            case Scope():
                yield from places(s.body, f"{prefix}{s.prefix}/", plates)
            case Mask():
                yield from places(s.body, prefix, plates)
            case Scan():
                yield Place(prefix + s.step.name, s.step, plates, s)
            case Cond():
                yield Place(prefix + s.true.name, s.true, plates, s)
            case _:
                yield Place(prefix + s.name, s, plates)


def plate_dim(plate: Plate, plates: tuple[tuple[int, int], ...]) -> int:
    """Where a plate says nothing: the last dimension that is free."""
    return plate.dim or next(d for d in range(-1, -9, -1) if d not in dict(plates))


def reads(site: Any) -> set[str]:
    """Sites that a statement reads."""
    match site:
        case Choice():
            return {g.site for g in site.given if isinstance(g, At)}
        case Number() | Computed():
            return {name for name, _ in site.of.terms}
        case Said():
            return {site.of}
        case Scan():
            return {site.start} | reads(site.step)
        case Cond():
            return {site.on} | reads(site.true) | reads(site.false)
    return set()


def descendants(program: Program, name: str) -> set[str]:
    found: set[str] = set()
    for place in places(program.body):
        if reads(place.loop or place.site) & {name, *found}:
            found.add(place.name)
    return found


def observes_effects(found: Iterable[Place]) -> bool:
    """Is a site that has causes observed? In another world of the same unit it answers to noise that is not at hand."""
    return any(getattr(p.site, "obs", None) is not None and reads(p.loop or p.site) for p in found)
