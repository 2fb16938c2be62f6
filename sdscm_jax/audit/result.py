"""What an audit found: one table for each question that its report answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from .spec import AuditSpec


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
    """

    lm: str
    proxy: str
    unit: int
    levels: tuple[str, ...]
    texts: tuple[str, ...]
    outcomes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class AuditResult:
    """Effects of an attribute on an outcome according to language models.

    Effects on the probability of the reported option, of a level b against the reference level a: ``total`` = Y(b) −
    Y(a), ``direct`` = Y(b, M(a)) − Y(a), ``illegitimate`` = Y(b, L(a)) − Y(b, M(a)), ``legitimate`` = Y(b) −
    Y(b, L(a)), ``unfair`` = Y(b, L(a)) − Y(a), where M are all mediators and L the legitimate ones (path-specific
    effects; Nabi & Shpitser 2018; Kusner et al. 2017).

    Attributes:
        spec: what was asked.
        lms: one row for each language model: ``lm`` (short name), ``source``, ``fingerprint``, ``parameters``,
            ``context`` (positions), ``tokens`` that what is reported took, be it now or in an earlier run that kept it.
        cells: one row for each (``lm``, ``proxy``, ``level``, ``wording``, ``option_wording``): ``p_reference``,
            ``p_level``, the five effects, ``sd_unit`` (of the individual total effects).
        effects: one row for each (``lm``, ``proxy``, ``level``, ``effect``): ``value``, ``lower``, ``upper``, ``p``,
            ``q`` (Benjamini-Hochberg), ``discovery`` (bool), ``wordings`` (count), ``method``.
        differences: effects of ``lm`` minus those of ``other``, paired by wording: ``lm``, ``other``, ``proxy``,
            ``level``, ``effect``, ``value``, ``lower``, ``upper``, ``p``, ``q``, ``discovery``; empty with one model.
        variance: ``lm``, ``proxy``, ``level``; components of the variance of the individual total effect:
            ``wording``, ``option_wording``, ``unit`` (>= 0).
        scorings: ``lm``, ``proxy``, ``level``, ``scoring``, ``total``, ``lower``, ``upper``.
        couplings: ``lm``, ``proxy``, ``level``, ``coupling``, ``changed`` (share of units for which it would change
            whether the outcome is the reported option), ``lower_bound``, ``upper_bound`` (over all couplings).
        pairs: examples.
        asked: every sentence that was asked: ``proxy``, ``wording``, ``option_wording``, ``site``, ``before`` (context
            of the first combination, verbatim), ``prefix``, ``suffix``, ``options`` (tuple of texts). A language model
            that chats reads ``before`` and the sentence in the conversation of ``chats``.
        dag_svg: a picture of the causal graph.
        settings: ``level`` (of intervals), ``wordings``, ``option_wordings``, ``seed``, ``rate`` (false discovery
            rate), ``versions``.
        truth: ``level``, ``effect``, ``value`` (and ``proxy``, if it depends on that) of the SCM that text was
            generated from, only where it is known.
        chats: what stands around the sentences, verbatim, of language models that were loaded with ``chat=``: ``lm``,
            ``what`` (the system's and the user's words, variables of the chat template, whole conversations) and
            ``words``. They are a part of what is audited. None: no language model chats.
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
    dag_svg: str | None
    settings: dict[str, Any]
    truth: pd.DataFrame | None
    chats: pd.DataFrame | None = None

    @property
    def chatting(self) -> tuple[str, ...]:
        """Language models that were asked in a conversation."""
        return () if self.chats is None else tuple(dict.fromkeys(map(str, self.chats["lm"])))
