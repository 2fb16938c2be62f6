"""Which wordings of an audit are asked: draws from all that its specification allows."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from ..families import Member
from .declaration import Proxy
from .spec import AuditSpec


@dataclass(frozen=True)
class Wording:
    """One way to ask: a template for every sentence, a phrase for every level, texts for every option.

    Attributes:
        proxy: how the attribute is conveyed.
        wording: number of the choice of templates.
        option_wording: number of the choice of phrases and option texts, within the wording.
        templates: number of each sentence's template, the attribute's first.
        phrases: level -> the text that stands for it.
        options: variable -> texts of its options, where they are not its own.
    """

    proxy: Proxy
    wording: int
    option_wording: int
    templates: tuple[int, ...]
    phrases: dict[str, str]
    options: dict[str, tuple[str, ...]]

    def member(self, spec: AuditSpec, scoring: str) -> Member:
        """The program that asks in this way."""
        return Member(spec.family(self.proxy, self.phrases, self.options), self.templates, scoring)


def draw_wordings(spec: AuditSpec, wordings: int, option_wordings: int, seed: int) -> list[Wording]:
    """Draw wordings for every proxy.

    Every template of a sentence is used as often as any other, in random combinations; phrases and option texts are
    drawn anew within each wording.
    Where every level has as many phrases, those at one place of their lists are drawn together (Emily with Lakisha);
    else each by itself. Where there are fewer combinations than are asked for, all are used.

    Args:
        spec: the audit.
        wordings: choices of templates for each proxy.
        option_wordings: choices of phrases and option texts within each.
        seed: of the draws.

    >>> from sdscm_jax.audit.spec import audit_spec
    >>> [w.phrases["Black-sounding name"] for w in draw_wordings(audit_spec("hiring"), 1, 5, 0)]
    ['Jamal', 'Lakisha']
    """
    found = []
    for number, proxy in enumerate(spec.proxies):
        rng = np.random.default_rng([seed, number])
        sizes = [len(proxy.templates), *(len(v.templates) for v in spec.variables)]
        choices = option_choices(spec, proxy)
        for w, templates in enumerate(_balanced(rng, sizes, wordings)):
            chosen = rng.permutation(len(choices))[:option_wordings]
            for o, place in enumerate(chosen.tolist()):
                found.append(Wording(proxy, w, o, templates, *choices[place]))
    return found


def option_choices(spec: AuditSpec, proxy: Proxy) -> list[tuple[dict[str, str], dict[str, tuple[str, ...]]]]:
    """Every choice of a phrase for each level and of texts for the options of variables that have several."""
    phrases = [proxy.phrases[level] for level in spec.levels]
    paired = len({len(texts) for texts in phrases}) == 1
    of_levels = list(zip(*phrases, strict=True)) if paired else list(itertools.product(*phrases))
    names = [v.name for v in spec.variables if v.name in spec.option_wordings]
    of_options = list(itertools.product(*(spec.option_wordings[name] for name in names)))
    return [
        (dict(zip(spec.levels, levels, strict=True)), dict(zip(names, options, strict=True)))
        for levels in of_levels
        for options in of_options
    ]


def _balanced(rng: np.random.Generator, sizes: list[int], count: int) -> list[tuple[int, ...]]:
    """Places in a grid, each number of each axis as often as any other (give or take one)."""
    if math.prod(sizes) <= count:
        return list(itertools.product(*map(range, sizes)))
    columns = [np.concatenate([rng.permutation(size) for _ in range(-(-count // size))])[:count] for size in sizes]
    return [tuple(row) for row in np.stack(columns, 1).tolist()]
