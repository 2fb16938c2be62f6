"""Estimands: expressions in observational probabilities, which read as text and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Probability:
    """``P(sites | given)`` in the factual world; all names differ."""

    sites: tuple[str, ...]
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Product:
    """A product; of nothing: 1."""

    factors: tuple[Estimand, ...]


@dataclass(frozen=True)
class Sum:
    """A sum over all options of some sites, which are bound in it: outside, their names mean something else."""

    over: tuple[str, ...]
    of: Estimand


@dataclass(frozen=True)
class Fraction:
    """A ratio."""

    numerator: Estimand
    denominator: Estimand


Estimand = Probability | Product | Sum | Fraction
ONE = Product(())


def product(factors: Iterable[Estimand]) -> Estimand:
    """A product without products in it; of one factor, that factor."""
    flat: list[Estimand] = []
    for factor in factors:
        flat += factor.factors if isinstance(factor, Product) else (factor,)
    return flat[0] if len(flat) == 1 else Product(tuple(flat))


def total(over: Iterable[str], of: Estimand) -> Estimand:
    """A sum; over no site, what would be summed."""
    over = tuple(over)
    return Sum(over, of) if over else of


def free(estimand: Estimand) -> frozenset[str]:
    """The sites whose values the estimand is a function of.

    >>> sorted(free(Sum(("c",), Product((Probability(("c",)), Probability(("y",), ("x", "c")))))))
    ['x', 'y']
    """
    match estimand:
        case Probability(sites, given):
            return frozenset(sites) | frozenset(given)
        case Product(factors):
            return frozenset().union(*map(free, factors))
        case Sum(over, of):
            return free(of) - frozenset(over)
        case Fraction(numerator, denominator):
            return free(numerator) | free(denominator)


def text(estimand: Estimand) -> str:
    """The estimand in plain text; a sum's site gets a prime where its name means something else outside.

    >>> inner = Sum(("x",), Product((Probability(("x",)), Probability(("y",), ("x", "m")))))
    >>> text(Sum(("m",), Product((Probability(("m",), ("x",)), inner))))
    "Σ_{m} P(m | x) (Σ_{x'} P(x') P(y | x', m))"
    """
    return _written(estimand, {name: name for name in free(estimand)}, _TEXT)


def latex(estimand: Estimand) -> str:
    r"""The estimand in LaTeX, without dollars.

    >>> print(latex(Sum(("a_1",), Probability(("y", "a_1")))))
    \sum_{\text{a\_1}} P(\text{y}, \text{a\_1})
    """
    return _written(estimand, {name: name for name in free(estimand)}, _LATEX)


class _Style(NamedTuple):
    name: Callable[[str], str]
    given: str
    sum: str
    parentheses: tuple[str, str]
    fraction: Callable[[str, str], str]


def _latex_name(name: str) -> str:
    primes = len(name) - len(name.rstrip("'"))
    plain = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    safe = re.sub(r"[\\~^_#$%&{}]", lambda m: plain.get(m[0], "\\" + m[0]), name.rstrip("'"))
    return rf"\text{{{safe}}}" + "'" * primes


_TEXT = _Style(str, " | ", "Σ", ("(", ")"), lambda top, bottom: f"({top}) / ({bottom})")
_LATEX = _Style(_latex_name, r" \mid ", r"\sum", (r"\left(", r"\right)"), lambda t, b: rf"\frac{{{t}}}{{{b}}}")


def _written(estimand: Estimand, shown: Mapping[str, str], style: _Style) -> str:
    match estimand:
        case Probability(sites, given):
            left, right = (", ".join(style.name(shown[name]) for name in names) for names in (sites, given))
            return f"P({left}{style.given}{right})" if given else f"P({left})"
        case Product(factors):
            parts = [_written(factor, shown, style) for factor in factors]
            closed = [
                part if isinstance(factor, Probability) or (style is _LATEX and isinstance(factor, Fraction))
                else part.join(style.parentheses)
                for factor, part in zip(factors, parts, strict=True)
            ]  # fmt: skip
            return " ".join(closed) or "1"
        case Sum(over, of):
            inside = dict(shown)
            for name in over:
                label = name
                while label in shown.values():
                    label += "'"
                inside[name] = label
            names = ", ".join(style.name(inside[name]) for name in over)
            return f"{style.sum}_{{{names}}} {_written(of, inside, style)}"
        case Fraction(numerator, denominator):
            return style.fraction(_written(numerator, shown, style), _written(denominator, shown, style))
