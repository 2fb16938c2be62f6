"""Programs in the whole language, with questions: a hypothesis strategy that shrinks to few, plain statements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from sdscm_jax.dsl.noise.couplings import registry as couplings
from sdscm_jax.dsl.scoring.scorings import registry as scorings

from .families import FAMILIES
from .language import (
    LAST,
    At,
    Case,
    Choice,
    Computed,
    Cond,
    Linear,
    Mask,
    Nested,
    Number,
    Place,
    Plate,
    Policy,
    Program,
    Random,
    Said,
    Scan,
    Scope,
    Set,
    Soft,
    Uniform,
    World,
    observes_effects,
    places,
    plate_dim,
)

Draw = Callable[..., Any]

WORDS = ("up", "to", "it", "go", "so", "a", "ab", "low", "lot")
TEMPLATES = ("It is {}.", "We go {} now", "{}, so", "Be {}")
# Strings among what is given: some are options, some sentences that phrases may be.
STRINGS = ("Now.", "up", "it", "It is up.", "Be to")
# All that are registered: one that the specification has no meaning of fails there. (Programs shrink to the first.)
SCORINGS = tuple(sorted(map(str, scorings.SCORINGS), key=lambda scoring: scoring != "mean"))
COUPLINGS = (*map(str, couplings.COUPLINGS), "hindsight(0.5)")
SITES = "abcdefgh"
NATURAL = ("normal", "bernoulli", "categorical", "poisson", "exponential", "lognormal", "laplace", "gamma", "beta")

# What a search may leave out while a known fault hides others.
FEATURES = frozenset((
    *COUPLINGS[1:], "strings", "plate", "crossed", "scope", "mask", "scan", "cond", "reparam",
    "numbers", "whole", "said", "computed", "obs", "temperature", "bias", "two_lms", "exogenous",
    "worlds", "uniform", "random", "soft", "policy", "nested", "per_unit", "members",
    "forms", "bool", "misfit", "keys", "tails", "unlikely", "nested_plate", "x64", "scorings",
    "repeat",
))  # fmt: skip


@dataclass
class _Writer:
    """Writes a program statement by statement; ``seen`` are the sites that later ones may read."""

    draw: Draw
    skip: frozenset[str]
    most: int
    seen: list[Place] = field(default_factory=list)
    names: int = 0
    blocks: int = 0

    def may(self, feature: str, one_in: int = 2) -> bool:
        """Is a feature used here? (Shrinks to no.) Where few are left they are used often."""
        one_in = min(one_in, 2) if len(self.skip) > 20 else one_in
        return feature not in self.skip and self.draw(st.integers(0, one_in - 1)) == one_in - 1

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def name(self) -> str:
        self.names += 1
        return SITES[self.names - 1]

    def block_name(self, kind: str) -> str:
        self.blocks += 1
        return f"{kind}{self.blocks}"

    def readable(self, plates: tuple[tuple[int, int], ...], loop: bool = False) -> list[Place]:
        """Sites whose members are members here."""
        return [p for p in self.seen if set(p.plates) <= set(plates) and not isinstance(p.loop, Scan)]

    def block(self, prefix: str, plates: tuple[tuple[int, int], ...], depth: int, count: int) -> tuple[Any, ...]:
        found = []
        while count > 0 and self.names < self.most:
            if depth < 2 and self.may("plate" if len(plates) == 0 else "nested_plate", 5):
                dim = -2 if self.may("crossed", 4) and not plates else None
                size = self.pick(2, 3)
                inner = (*plates, (plate_dim(Plate("", size, (), dim), plates), size))
                found.append(Plate(self.block_name("p"), size, self.block(prefix, inner, depth + 1, 2), dim))
            elif depth < 2 and self.may("scope", 8):
                scope = self.block_name("s")
                found.append(Scope(scope, self.block(f"{prefix}{scope}/", plates, depth + 1, 2)))
            elif depth < 2 and self.may("mask", 10):
                found.append(Mask(self.draw(st.booleans()), self.block(prefix, plates, depth + 1, 1)))
            else:
                found.append(self.statement(prefix, plates))
            count -= 1
        return tuple(found)

    def statement(self, prefix: str, plates: tuple[tuple[int, int], ...]) -> Any:
        readable, loop = self.readable(plates), None
        phrases = [p for p in readable if hasattr(p.site, "options")]
        numbers = [p for p in readable if isinstance(p.site, (Number, Computed))]
        scannable = [p for p in phrases if isinstance(p.site, Choice) and not p.plates and p.loop is None]
        if not plates and not prefix and scannable and self.may("scan", 12):
            start = self.draw(st.sampled_from(scannable))
            step = self.choice(plates, (At(LAST),), start.site)
            s = loop = Scan(start.name, step, self.pick(2, 3))
            site: Any = step
        elif not plates and not prefix and readable and self.may("cond", 12):
            on = self.draw(st.sampled_from([p for p in readable if not p.plates] or readable))
            # (Nested worlds refuse noise that is a site of a branch.)
            true = Choice(**{**vars(self.choice(plates, ())), "reparam": ""})
            if couplings.parse_coupling(true.coupling).relative:
                # (What a branch is in the factual world is not at hand in another one.)
                true = Choice(**{**vars(true), "coupling": COUPLINGS[0]})
            false = Choice(
                **{**vars(true), "given": tuple(self.pick(*STRINGS) if isinstance(g, str) else g for g in true.given)}
            )
            s = loop = Cond(on.name, true, false)
            site = true
        elif numbers and self.may("said", 5):
            of = self.draw(st.sampled_from(numbers))
            options = self.options()
            edges = (0.5, 1.5, 2.5)[: len(options) - 1]
            s = site = Said(self.name(), of.name, edges, options, self.pick(*TEMPLATES))
        elif self.may("numbers", 4):
            families = [f for f in NATURAL if not ("whole" in self.skip and FAMILIES[f].whole)]
            s = site = Number(self.name(), self.pick(*families), self.linear(plates), self.pick(1.0, 0.5))
        elif self.seen and self.may("computed", 6):
            s = site = Computed(self.name(), self.linear(plates))
        else:
            s = site = self.choice(plates, ())
        self.seen.append(Place(prefix + site.name, site, plates, loop))
        return s

    def options(self) -> tuple[str, ...]:
        return tuple(self.draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=3, unique=True)))

    def linear(self, plates: tuple[tuple[int, int], ...]) -> Linear:
        """Of sites of these plates, and of those that are left (as sums)."""
        usable = [p for p in self.seen if p in self.readable(plates) or not plates]
        terms = self.draw(st.lists(st.sampled_from(usable), max_size=2, unique=True)) if usable else []
        return Linear(self.pick(0.0, 0.5, -1.0), tuple((p.name, self.pick(1.0, 0.5, -0.5)) for p in terms))

    def choice(self, plates: tuple[tuple[int, int], ...], first: tuple[Any, ...], like: Choice | None = None) -> Choice:
        phrases = [p for p in self.readable(plates) if hasattr(p.site, "options")]
        given: list[Any] = (
            [At(p.name) for p in self.draw(st.lists(st.sampled_from(phrases), max_size=2, unique=True))]
            if phrases
            else []
        )
        if given and self.may("repeat", 12):
            given.append(given[0])
        if self.may("strings", 3):
            given.insert(self.draw(st.integers(0, len(given))), self.pick(*STRINGS))
        options = like.options if like else self.options()
        coupling = next((other for other in COUPLINGS[1:] if first == () and self.may(other, 4)), COUPLINGS[0])
        return Choice(
            self.name(),
            options,
            (*first, *given),
            like.template if like else self.pick(*TEMPLATES),
            scoring=self.pick(*SCORINGS) if self.may("scorings") else "mean",
            temperature=0.5 if self.may("temperature", 5) else 1.0,
            coupling=coupling,
            bias=self.bias(len(options), coupling),
            lm=1 if self.may("two_lms", 6) else 0,
            exogenous=like is None and self.may("exogenous", 10),
            obs=self.observed(options) if like is None and not plates and self.may("obs", 12) else None,
            reparam=self.pick("around", "inside")
            if coupling == "gumbel" and not like and self.may("reparam", 8)
            else "",
        )

    def bias(self, count: int, coupling: str) -> tuple[float, ...] | None:
        if coupling == "inverse_cdf" and count == 3 and self.may("unlikely", 4):
            return 0.0, -20.0, 0.0
        return tuple(self.pick(0.5, -1.0) for _ in range(count)) if self.may("bias", 6) else None

    def observed(self, options: tuple[str, ...]) -> Any:
        return self.pick(options[0], 1, True) if "bool" not in self.skip else self.pick(options[0], 1)

    # -- questions ---------------------------------------------------------------------------------------------

    def world(self, units: int, depth: int = 0) -> World:
        settable = [
            p for p in self.seen
            if not getattr(p.site, "exogenous", False) and getattr(p.site, "obs", None) is None
            and not (isinstance(p.loop, Cond) or getattr(p.site, "reparam", False))
        ]  # fmt: skip
        if not settable:
            return ()
        chosen = self.draw(st.lists(st.sampled_from(settable), min_size=1, max_size=2, unique_by=lambda p: p.name))
        return tuple((p.name, self.change(p, units, depth)) for p in chosen)

    def said(self, world: World) -> dict[str, Any]:
        """What a world says, however it is written: the same one twice is refused."""
        options = {p.name: getattr(p.site, "options", ()) for p in self.seen}
        plain = {name: replace(x, form="plain") if isinstance(x, Set) else x for name, x in world}
        # The same for each unit, or member, is the same for all.
        tuples = {name: x.value for name, x in plain.items() if isinstance(getattr(x, "value", None), tuple)}
        same = [name for name, value in tuples.items() if len(set(value)) == 1]
        plain |= {name: Set(plain[name].value[0]) for name in same}
        return {
            name: Set(options[name].index(x.value)) if isinstance(x, Set) and x.value in options[name] else x
            for name, x in plain.items()
        }

    def change(self, p: Place, units: int, depth: int) -> Any:
        s = p.site
        options = getattr(s, "options", None)
        whole = options is not None or (isinstance(s, Number) and FAMILIES[s.family].whole)
        earlier = [q for q in self.seen[: self.seen.index(p)] if set(q.plates) <= set(p.plates) and q.loop is None]
        if p.loop is None and self.may("soft", 5):
            # Not out of the support.
            bounded = isinstance(s, Number) and (s.family == "beta" or FAMILIES[s.family].finite)
            return Soft(1.0, 0.0) if bounded else Soft(self.pick(1.0, 0.0), self.pick(1.0, 2.0))
        if isinstance(s, Choice) and p.loop is None and self.may("uniform", 4):
            return Uniform()
        if isinstance(s, Number) and self.may("random", 4):
            return Random(s.family, 0.5, 1.0)
        if isinstance(s, Choice) and p.loop is None and self.may("random", 5):
            return Random("choose2" if len(options) == 2 else "choose3")
        if earlier and p.loop is None and self.may("policy", 5):
            return Policy(self.draw(st.sampled_from(earlier)).name, self.constant(s, whole))
        if depth < 2 and p.loop is None and not observes_effects(self.seen) and self.may("nested", 5):
            return Nested(self.world(units, depth + 1))
        if self.may("misfit", 25):
            if options:
                return Set(self.pick(len(options), -1, 0.7))
            return Set(2.7) if whole else Set((1.0,) * 5)
        if depth == 0 and not p.plates and p.loop is None and self.may("per_unit", 6):
            return Set(tuple(self.constant(s, whole) for _ in range(units)), self.form(), per_unit=True)
        if len(p.plates) == 1 and p.loop is None and p.plates[0][0] == -1 and self.may("members", 3):
            return Set(tuple(self.constant(s, whole) for _ in range(p.plates[0][1])), self.form())
        if options and self.may("forms", 2):
            return Set(self.pick(*options))
        if whole and self.may("bool", 6):
            return Set(self.draw(st.booleans()))
        return Set(self.constant(s, whole), self.form())

    def evidence(self, p: Place) -> Any:
        s = p.site
        if isinstance(s, Choice):
            number = self.draw(st.integers(0, len(s.options) - 1))
            if s.bias is not None and min(s.bias) < -10 and self.may("unlikely", 2):
                number = s.bias.index(min(s.bias))
            return s.options[number] if self.draw(st.booleans()) else number
        if FAMILIES[s.family].whole:
            return True if s.family.startswith("bernoulli") and self.may("bool", 3) else self.pick(0, 1)
        far = {"normal": -9.0, "laplace": 12.0, "lognormal": 400.0, "exponential": 30.0}
        return far[s.family] if s.family in far and self.may("tails", 3) else 0.5

    def form(self) -> str:
        return self.pick("plain", "numpy", "jax") if "forms" not in self.skip else "plain"

    def constant(self, s: Any, whole: bool) -> Any:
        if hasattr(s, "options"):
            return self.draw(st.integers(0, len(s.options) - 1))
        if whole:
            return self.draw(st.integers(0, 1))
        if isinstance(s, Number) and s.family == "beta":
            return self.pick(0.5, 0.25)
        return self.pick(1.0, 2.5, 2) if "whole" not in self.skip else self.pick(1.0, 2.5)


@st.composite
def cases(draw: Draw, skip: frozenset[str] = frozenset(), sites: int = 4, units: int = 6) -> Case:
    """A program of at most so many sites, with at most two other worlds."""
    writer = _Writer(draw, skip, draw(st.integers(1, sites)))
    body = writer.block("", (), 0, sites)
    worlds: list[World] = []
    if "worlds" not in skip:
        for _ in range(draw(st.integers(0, 2))):
            world = writer.world(units)
            if world and writer.said(world) not in map(writer.said, worlds):
                worlds.append(world)
    program = Program(body)
    by_unit = any(getattr(change, "per_unit", False) for world in worlds for _, change in world)
    redrawn = any(getattr(p.site, "coupling", None) in ("independent", COUPLINGS[-1]) for p in places(program.body))
    return Case(
        program,
        tuple(worlds),
        units=48 if redrawn and worlds and not by_unit else units,
        seed=draw(st.integers(0, 3)),
        key=writer.pick("int", "typed", "raw", "rbg") if writer.may("keys", 4) else "int",
        x64=writer.may("x64", 12),
    )


@st.composite
def observed_cases(draw: Draw, skip: frozenset[str] = frozenset(), sites: int = 4) -> Case:
    """A case with evidence: of some sites or all, for one unit or for each of two."""
    case = draw(cases(skip | {"scan", "cond", "exogenous", "keys", "x64", "reparam", "misfit"}, sites, 2))
    writer = _Writer(draw, skip, sites, list(places(case.program.body)))
    usable = [p for p in writer.seen if isinstance(p.site, (Choice, Number)) and getattr(p.site, "obs", None) is None]
    if not usable:
        return Case(case.program, case.worlds, units=1, seed=case.seed)
    chosen = draw(st.lists(st.sampled_from(usable), min_size=1, max_size=3, unique_by=lambda p: p.name))
    per_unit = writer.may("per_unit", 3)
    evidence = []
    for place in chosen:
        differ = per_unit and not place.plates
        value = tuple(writer.evidence(place) for _ in range(2)) if differ else writer.evidence(place)
        if differ and len({isinstance(v, str) for v in value}) == 2:
            # NumPy makes texts of a list of both.
            value = tuple(place.site.options.index(v) if isinstance(v, str) else v for v in value)
        evidence.append((place.name, Set(value, writer.form(), per_unit=differ)))
    units = 2 if any(change.per_unit for _, change in evidence) else 1
    set_by_unit = any(getattr(change, "per_unit", False) for world in case.worlds for _, change in world)
    worlds = () if set_by_unit and units == 1 else case.worlds
    return Case(case.program, worlds, tuple(evidence), units, case.seed)
