"""Which wordings of an audit are asked: draws from all that its specification allows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..families import Member
from .design import Design, Dimension, deal, design
from .spec import AuditSpec
from .spec_fields import Proxy, SpecFields


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
        repetition: number of the repetition of the audit that it belongs to; see ``design``.
    """

    proxy: Proxy
    wording: int
    option_wording: int
    templates: tuple[int, ...]
    phrases: dict[str, str]
    options: dict[str, tuple[str, ...]]
    repetition: int = 0

    def member(self, spec: AuditSpec, scoring: str) -> Member:
        """The program that asks in this way."""
        return Member(spec.family(self.proxy, self.phrases, self.options), self.templates, scoring)


def dimensions_of(spec: SpecFields, proxy: Proxy) -> tuple[Dimension, ...]:
    """What is chosen in a wording, as far as the outcome depends on it.

    The sentence of the attribute and those of ``relevant``; names or other phrases of the levels, together where they
    are paired; texts of options.

    >>> from sdscm_jax.audit.spec import audit_spec
    >>> spec = audit_spec("hiring")
    >>> [(d.name, d.levels) for d in dimensions_of(spec, spec.proxies[0])][::7]
    [('sentence of applicant', 10), ('first name', 20)]
    """
    found = [Dimension(f"sentence of {spec.attribute}", len(proxy.templates))]
    found += [Dimension(f"sentence of {name}", len(spec.variable(name).templates)) for name in spec.relevant]
    if proxy.paired:
        found.append(Dimension(proxy.name, len(proxy.phrases[spec.levels[0]]), proxy.drawn, within=True))
    else:
        found += [
            Dimension(f"{proxy.name} ({level})", len(proxy.phrases[level]), proxy.drawn, within=True)
            for level in spec.levels
        ]
    return (
        *found,
        *(
            Dimension(f"options of {name}", len(spec.option_wordings[name]), within=True)
            for name in spec.relevant
            if name in spec.option_wordings
        ),
    )


def design_of(spec: SpecFields, proxy: Proxy, wordings: int, option_wordings: int) -> Design:
    """How the wordings of a proxy are dealt out."""
    return design(dimensions_of(spec, proxy), wordings, option_wordings)


def design_table(spec: SpecFields, wordings: int, option_wordings: int) -> pd.DataFrame:
    """What is drawn and what is fixed; see ``AuditResult.design``."""
    rows = []
    for proxy in spec.proxies:
        found = design_of(spec, proxy, wordings, option_wordings)
        rows += [
            {
                "proxy": proxy.name, "dimension": d.name, "levels": d.levels, "drawn": not d.fixed,
                "repetitions": found.repetitions, "wordings": found.wordings, "option_wordings": found.option_wordings,
            }
            for d in found.dimensions
        ]  # fmt: skip
    return pd.DataFrame(rows)


def draw_wordings(spec: AuditSpec, wordings: int, option_wordings: int, seed: int) -> list[Wording]:
    """Draw wordings for every proxy.

    They are dealt out in repetitions that have no template, phrase or option text in common (see ``design``). Where
    every level has as many phrases, those at one place of their lists are drawn together (Emily with Lakisha); else
    each by itself. A sentence that nothing of interest reads takes turns, and makes no wording another.

    Args:
        spec: the audit.
        wordings: at most so many choices of templates for each proxy.
        option_wordings: at most so many choices of phrases and option texts within each.
        seed: of the draws.

    >>> from sdscm_jax.audit.spec import audit_spec
    >>> drawn = draw_wordings(audit_spec("hiring"), 10, 2, 0)
    >>> len(drawn), len({w.phrases["Black-sounding name"] for w in drawn}), len({w.repetition for w in drawn})
    (20, 20, 10)
    """
    found = []
    for number, proxy in enumerate(spec.proxies):
        chosen = design_of(spec, proxy, wordings, option_wordings)
        for dealt in deal(chosen, np.random.default_rng([seed, number])):
            levels = list(dealt.levels)
            sentences = dict(zip((spec.attribute, *spec.relevant), levels, strict=False))
            templates = [sentences[spec.attribute]]
            templates += [sentences.get(v.name, dealt.wording % len(v.templates)) for v in spec.variables]
            rest = levels[len(sentences) :]
            phrases = {level: rest[0] if proxy.paired else rest.pop(0) for level in spec.levels}
            rest = rest[1:] if proxy.paired else rest
            options = dict(zip((name for name in spec.relevant if name in spec.option_wordings), rest, strict=True))
            found.append(
                Wording(
                    proxy,
                    dealt.wording,
                    dealt.option_wording,
                    tuple(templates),
                    {level: proxy.phrases[level][place] for level, place in phrases.items()},
                    {name: spec.option_wordings[name][place] for name, place in options.items()},
                    dealt.repetition,
                )
            )
    return found


def option_choices(spec: AuditSpec, proxy: Proxy) -> list[tuple[dict[str, str], dict[str, tuple[str, ...]]]]:
    """Every choice of a phrase for each level and of texts for the options of variables that have several."""
    phrases = [proxy.phrases[level] for level in spec.levels]
    of_levels = list(zip(*phrases, strict=True)) if proxy.paired else list(itertools.product(*phrases))
    names = [v.name for v in spec.variables if v.name in spec.option_wordings]
    of_options = list(itertools.product(*(spec.option_wordings[name] for name in names)))
    return [
        (dict(zip(spec.levels, levels, strict=True)), dict(zip(names, options, strict=True)))
        for levels in of_levels
        for options in of_options
    ]
