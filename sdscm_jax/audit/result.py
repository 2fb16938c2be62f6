"""What an audit found: one table for each question that its report answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..page.forms import Form, Interval, Shown, few

if TYPE_CHECKING:
    from .spec import AuditSpec


@dataclass(frozen=True)
class FreeTexts:
    """What a variable that is free text says at every level of the attribute, in one unit.

    Attributes:
        name: of the variable.
        texts: one for each level.
        parts: number of the first token, from 0, in which each differs from that of the reference; -1: in none.
    """

    name: str
    texts: tuple[str, ...]
    parts: tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """One unit's texts at every level of the attribute, with the same noise.

    Attributes:
        lm: short name of the language model.
        proxy: how the attribute is conveyed.
        unit: number of the unit.
        levels: of the attribute; the first is the reference.
        texts: the whole text at each level.
        outcomes: option of the outcome at each level.
        notes: free text written after the outcome at each level; ``""`` where there is none.
        wording: number of the wording.
        written: of each variable that is free text, in causal order, what it says at each level.
    """

    lm: str
    proxy: str
    unit: int
    levels: tuple[str, ...]
    texts: tuple[str, ...]
    outcomes: tuple[str, ...]
    notes: tuple[str, ...]
    wording: int = 0
    written: tuple[FreeTexts, ...] = ()


@dataclass(frozen=True, repr=False)
class AuditResult(Shown):
    """Effects of an attribute on an outcome according to language models.

    Effects on the probability of the reported option, of a level b against the reference level a: ``total`` = Y(b) −
    Y(a), ``direct`` = Y(b, M(a)) − Y(a), ``illegitimate`` = Y(b, L(a)) − Y(b, M(a)), ``legitimate`` = Y(b) −
    Y(b, L(a)), ``unfair`` = Y(b, L(a)) − Y(a), where M are all mediators and L the legitimate ones (path-specific
    effects; Nabi & Shpitser 2018; Kusner et al. 2017).

    Attributes:
        spec: what was asked.
        lms: one row for each language model: ``lm`` (short name), ``source``, ``fingerprint``, ``parameters``,
            ``context`` (positions), ``tokens`` that what is reported took, be it now or in an earlier run that kept it.
        cells: one row for each (``lm``, ``proxy``, ``level``, ``wording``, ``option_wording``): ``repetition``,
            (of the audit: no two share anything that was drawn), ``templates``, ``phrases`` (of the reference and of
            the level), ``p_reference``, ``p_level``, the five effects, ``sd_unit`` (of the individual total effects).
        effects: one row for each (``lm``, ``proxy``, ``level``, ``effect``): ``value``; ``lower``, ``upper``, ``p``
            (nan without two repetitions, and where these do not differ); ``detectable``, the least effect that such an
            audit finds in four of five cases, before any correction for many tests; ``wordings`` and ``repetitions``
            (counts); ``same_as``, an effect above that is the same number in every wording (``""``: none);
            ``least`` and ``greatest``, bounds over couplings, of a part that depends on these (its ``value`` is nan);
            ``method`` (``exact``, ``drawn``: means over units, ``bounds`` or ``none``); ``q``, ``q_any`` and
            ``discovery`` (see ``discoveries``).
        differences: effects of ``lm`` minus those of ``other``, paired by wording: ``lm``, ``other``, ``proxy``,
            ``level``, ``effect``, ``value``, ``lower``, ``upper``, ``p``, ``detectable``, ``same_as``, ``q``,
            ``q_any``, ``discovery``; empty with one model.
        variance: ``lm``, ``proxy``, ``level``; components of the variance of the individual total effect:
            ``wording``, ``option_wording``, ``unit`` (>= 0).
        scorings: ``lm``, ``proxy``, ``level``, ``scoring``, ``total``, ``lower``, ``upper``; and ``difference`` from
            the first scoring in the same wordings, with ``difference_lower`` and ``difference_upper``.
        couplings: ``lm``, ``proxy``, ``level``, ``coupling``, ``changed`` (share of units for which it would change
            whether the outcome is the reported option), ``lower_bound``, ``upper_bound`` (no coupling goes beyond
            them; with mediators, none need reach them).
        pairs: examples.
        asked: every sentence that was asked: ``proxy``, ``wording``, ``option_wording``, ``site``, ``before`` (context
            of the first combination, verbatim), ``prefix``, ``suffix``, ``options`` (tuple of texts). A language model
            that chats reads ``before`` and the sentence in the conversation of ``chats``.
        settings: ``level`` (of intervals), ``wordings``, ``option_wordings``, ``seed``, ``rate`` (false discovery
            rate), ``draws`` (units of each wording, where a variable is free text), ``versions``.
        truth: ``level``, ``effect``, ``value`` (and ``proxy``, if it depends on that) of the SCM that text was
            generated from, only where it is known.
        chats: what stands around the sentences, verbatim, of language models that were loaded with ``chat=``: ``lm``,
            ``what`` (the system's and the user's words, variables of the chat template, whole conversations) and
            ``words``. They are a part of what is audited. None: no language model chats.
        design: one row for each ``proxy`` and ``dimension`` (a sentence, the phrases, texts of options) that bears on
            the outcome: ``levels`` (how many there are), ``drawn`` (no two repetitions of the audit share a level; or
            there is one, or they are declared to be all there are, and results are for these), ``repetitions``,
            ``wordings`` in each, and ``option_wordings`` in each wording.
    """

    spec: AuditSpec
    lms: pd.DataFrame
    cells: pd.DataFrame
    effects: pd.DataFrame
    differences: pd.DataFrame
    variance: pd.DataFrame
    scorings: pd.DataFrame
    couplings: pd.DataFrame
    pairs: tuple[Pair, ...]
    asked: pd.DataFrame
    settings: dict[str, Any]
    truth: pd.DataFrame | None
    chats: pd.DataFrame | None = None
    design: pd.DataFrame = field(default_factory=pd.DataFrame)

    def _form(self) -> Form:
        spec, table = self.spec, self.effects
        level = self.settings.get("level")
        headings = ["language model", "proxy", "level", "effect", "value", "lower", "upper", ""]
        rows, intervals = list[list[Any]](), list[Interval]()
        for row in table.sort_values("effect", key=lambda x: x != "total", kind="stable").to_dict("records"):
            numbers = [float(row[name]) for name in ("value", "lower", "upper")]
            said = "discovery" if row.get("discovery") else ""
            rows.append([row["lm"], row["proxy"], row["level"], row["effect"], *numbers, said])
            intervals.append((numbers[0], numbers[1], numbers[2]))
        facts = [
            ("effect of", f"{spec.attribute} (against {spec.levels[0]}) on P({spec.outcome} = {spec.option})"),
            ("language models", few(self.lms["lm"])),
        ]
        if level is not None:
            facts.append(("intervals", f"{level:.0%}, over repetitions of the wording"))
        return Form(f"AuditResult: {spec.title}, {len(table)} effects", facts, headings, rows, intervals=intervals)

    def to_pandas(self) -> pd.DataFrame:
        """The effects: one row for each language model, proxy, level and effect; see ``effects``."""
        return self.effects.copy()

    @property
    def chatting(self) -> tuple[str, ...]:
        """Language models that were asked in a conversation."""
        return () if self.chats is None else tuple(dict.fromkeys(map(str, self.chats["lm"])))
