"""How templates, names and texts of options are dealt out to wordings: independent repetitions of one audit.

What an audit draws are crossed dimensions: a name is asked about in several sentences, a sentence of several names. Two
wordings that share any of them are not independent, and a mean over many such wordings is no surer than the few names
in it. So what is drawn is divided into groups that have nothing in common: each group is a repetition of the whole
audit with names and sentences of its own, and repetitions are independent whatever wordings have in common within them
(interpenetrating samples: Mahalanobis 1946, "Recent experiments in statistical sampling in the Indian Statistical
Institute", Journal of the Royal Statistical Society 109(4); random groups: Wolter 2007, "Introduction to variance
estimation", chapter 2). There are no more of them than the scarcest dimension has levels: with two names, two.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

# Tries to deal out templates without two equal combinations in one repetition.
_TRIES = 100


@dataclass(frozen=True)
class Dimension:
    """Something that others might have chosen otherwise.

    Attributes:
        name: what it is, such as ``"sentence of decision"``.
        levels: how many there are.
        drawn: they are some of many (True), or all that there are.
        within: chosen anew within a wording, as names and texts of options are, not with its sentences.
    """

    name: str
    levels: int
    drawn: bool = True
    within: bool = False

    @property
    def fixed(self) -> bool:
        """Is nothing drawn? Results are for these levels alone."""
        return not self.drawn or self.levels < 2


@dataclass(frozen=True)
class Design:
    """How often an audit is repeated, and what in.

    Attributes:
        dimensions: what is chosen of.
        repetitions: groups of wordings that share nothing that was drawn; 1: nothing is drawn.
        wordings: choices of templates in each repetition.
        option_wordings: choices of names and texts of options in each wording.
    """

    dimensions: tuple[Dimension, ...]
    repetitions: int
    wordings: int
    option_wordings: int

    @property
    def cells(self) -> int:
        """How many combinations are asked."""
        return self.repetitions * self.wordings * self.option_wordings

    @property
    def scarcest(self) -> tuple[Dimension, ...]:
        """Drawn dimensions of which there would have to be more for more repetitions; none: wordings are too few."""
        return tuple(d for d in self.dimensions if not d.fixed and d.levels // (self.repetitions + 1) == 0)


@dataclass(frozen=True)
class Dealt:
    """One combination: its numbers, and the level of each dimension."""

    repetition: int
    wording: int
    option_wording: int
    levels: tuple[int, ...]


def design(dimensions: Sequence[Dimension], wordings: int, option_wordings: int) -> Design:
    """The design with the shortest interval to be expected.

    More repetitions give more degrees of freedom, fewer give each more combinations. What is expected is under a
    working model, in which every dimension matters as much as any other and what combinations have beyond that varies
    as much as all dimensions together; whether the interval is right does not depend on it.

    Args:
        dimensions: what is chosen of.
        wordings: at most so many choices of templates.
        option_wordings: at most so many choices of names and texts of options in each.

    >>> found = design([Dimension("sentence", 10), Dimension("name", 20, within=True)], 16, 2)
    >>> found.repetitions, found.wordings, found.option_wordings
    (10, 1, 2)
    """
    dimensions = tuple(dimensions)
    most = min((d.levels for d in dimensions if not d.fixed), default=1)
    sizes = range(2, min(wordings, most) + 1)
    # Of equals the one with more repetitions.
    return min(
        [_sized(dimensions, r, wordings, option_wordings) for r in reversed(sizes)], key=_expected,
        default=_sized(dimensions, 1, 1, option_wordings),
    )  # fmt: skip


def _sized(dimensions: tuple[Dimension, ...], repetitions: int, wordings: int, option_wordings: int) -> Design:
    """As many combinations in each repetition as are there and asked for."""
    each = {
        within: math.prod(d.levels if d.fixed else d.levels // repetitions for d in dimensions if d.within == within)
        for within in (False, True)
    }
    return Design(
        dimensions, repetitions, min(wordings // repetitions, each[False]), min(option_wordings, each[True])
    )  # fmt: skip


def _expected(found: Design) -> float:
    """The expected square of half an interval under the working model."""
    drawn = [d for d in found.dimensions if not d.fixed]
    variance = len(drawn) / found.cells
    for d in drawn:
        most = found.wordings * (found.option_wordings if d.within else 1)
        sizes = [min(len(part), most) for part in np.array_split(np.arange(d.levels), found.repetitions)]
        variance += sum(1 / size for size in sizes) / found.repetitions**2
    return variance * float(stats.t.ppf(0.975, found.repetitions - 1)) ** 2


def deal(found: Design, rng: np.random.Generator) -> list[Dealt]:
    """Deal out the levels of every dimension, each as often as any other as far as numbers allow.

    >>> two = Design((Dimension("sentence", 2), Dimension("name", 4, within=True)), 2, 1, 2)
    >>> dealt = deal(two, np.random.default_rng(0))
    >>> [one.repetition for one in dealt], sorted(one.levels[1] for one in dealt)
    ([0, 0, 1, 1], [0, 1, 2, 3])
    """
    shuffled = [rng.permutation(d.levels) for d in found.dimensions]
    # Fixed ones first: they go on through their levels from one repetition to the next.
    inner = sorted((i for i, d in enumerate(found.dimensions) if d.within), key=lambda i: not found.dimensions[i].fixed)
    outer = [i for i, d in enumerate(found.dimensions) if not d.within]
    inside, dealt = found.wordings * found.option_wordings, []
    for r in range(found.repetitions):
        pools = [
            levels if d.fixed else np.array_split(levels, found.repetitions)[r]
            for d, levels in zip(found.dimensions, shuffled, strict=True)
        ]
        sentences = _balanced(rng, [len(pools[i]) for i in outer], found.wordings)
        texts = itertools.islice(_round(tuple(len(pools[i]) for i in inner)), r * inside, (r + 1) * inside)
        for number, places in enumerate(texts):
            w, o = divmod(number, found.option_wordings)
            place = dict(zip(outer, sentences[w], strict=True)) | dict(zip(inner, places, strict=True))
            levels = tuple(int(pools[i][place[i]]) for i in range(len(pools)))
            dealt.append(Dealt(r, r * found.wordings + w, o, levels))
    return dealt


def _balanced(rng: np.random.Generator, sizes: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Places in a grid, each number of each axis as often as any other (give or take one), no two alike if possible."""
    if math.prod(sizes) == count:
        return list(itertools.product(*map(range, sizes)))
    rows: list[tuple[int, ...]] = []
    for _ in range(_TRIES):
        columns = [np.concatenate([rng.permutation(size) for _ in range(-(-count // size))])[:count] for size in sizes]
        rows = [tuple(row) for row in np.stack(columns, 1).tolist()]
        if len(set(rows)) == count:
            break
    return rows


def _round(sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All places in a grid, round and round, so that each axis goes through its numbers in turn.

    >>> list(itertools.islice(_round((2, 2)), 4))
    [(0, 0), (1, 1), (0, 1), (1, 0)]
    """
    if not sizes:
        while True:
            yield ()
    *others, last = sizes
    common, all_ = math.lcm(math.prod(others), last), math.prod(sizes)
    for i, first in enumerate(_round(tuple(others))):
        yield (*first, (i + i % all_ // common) % last)
