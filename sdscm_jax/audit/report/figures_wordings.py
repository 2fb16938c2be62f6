"""Figures of what varies: total effects of single combinations of wordings, and variance components."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...page.drawing import COVERED, INK, MUTED, PAPER, SERIES, WIDE, Panel, new_axes, panel, short
from ..result import AuditResult
from .rows import Group, agreement, effects_of, groups, panels_of
from .spoken import change, percent

_PARTS = {"wording": (SERIES[0], ""), "option_wording": (SERIES[1], "////"), "unit": (COVERED, "....")}
_BLOCK = 0.78
_BAR = 0.5


def wording_panels(result: AuditResult) -> list[Panel]:
    """Total effects of every combination of wordings, with the mean and its interval; one panel for each language
    model and proxy, all to one scale."""
    totals = {group: np.array([row["total"] for row in group.of(result.cells)], float) for group in groups(result)}
    numbers = [v for values in totals.values() for v in values] + [
        float(effects_of(result, group)["total"][end]) for group in totals for end in ("lower", "upper")
    ]
    finite = np.array([0.0, *(v for v in numbers if np.isfinite(v))])
    pad = 0.05 * float(np.ptp(finite)) or 0.01
    limits = float(finite.min()) - pad, float(finite.max()) + pad
    panels = []
    for (lm, proxy), members in panels_of(result).items():
        told = " ".join(_told_totals(result, group, totals[group]) for group in members)
        label = f"Total effect by combination of wordings, {lm}, by {proxy}. {told}"
        panels.append(panel(partial(_draw_totals, result, members, totals, limits), label, f"{lm}, by {proxy}"))
    return panels


def _told_totals(result: AuditResult, group: Group, totals: np.ndarray) -> str:
    if not len(totals):
        return f"“{group.level}”: no combinations."
    same, count = agreement(result, group)
    mean = float(effects_of(result, group)["total"]["value"])
    reach = f"from {change(totals.min())} to {change(totals.max())}"
    return f"“{group.level}”: {reach}, mean {change(mean)}; {same} of {count} in the direction of the mean."


def _draw_totals(
    result: AuditResult, members: list[Group], totals: dict[Group, np.ndarray], limits: tuple[float, float]
) -> Any:
    axes = new_axes(WIDE, _BLOCK * len(members) + 0.6, left=0.12, bottom=0.5, right=0.12)
    axes.set_ylim(_BLOCK * len(members), 0)
    axes.set_xlim(*limits)
    axes.axvline(0, color=MUTED, linewidth=0.9)
    for i, group in enumerate(members):
        top, values = i * _BLOCK, totals[group]
        _heading(axes, f"“{group.level}”", top + 0.15)
        # Golden-ratio steps spread neighbours without chance.
        heights = top + 0.3 + 0.26 * ((np.arange(len(values)) * 0.618034) % 1.0)
        axes.plot(values, heights, "o", color=COVERED, markersize=4, alpha=0.75, markeredgewidth=0)
        row = effects_of(result, group)["total"]
        y = top + 0.66
        axes.plot([row["lower"], row["upper"]], [y, y], color=INK, linewidth=1.8, solid_capstyle="butt", zorder=3)
        axes.plot([row["value"]], [y], "D", color=INK, markersize=6, zorder=4)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("change of the probability (total effect)")
    return axes


def variance_panels(result: AuditResult) -> list[Panel]:
    """Stacked bars of the shares of the variance; one panel for each language model."""
    shares: dict[str, list[tuple[str, np.ndarray]]] = {}
    for group in groups(result):
        for row in group.of(result.variance):
            parts = np.array([row[name] for name in _PARTS], float)
            if np.isfinite(parts).all() and parts.sum() > 0:
                shares.setdefault(group.lm, []).append((f"{group.proxy}: “{group.level}”", parts / parts.sum()))
    panels = []
    for lm, bars in shares.items():
        told = " ".join(
            f"{name}: {', '.join(f'{_named(p)} {percent(s)}' for p, s in zip(_PARTS, share, strict=True))}."
            for name, share in bars
        )
        panels.append(panel(partial(_draw_shares, bars), f"Shares of the variance, {lm}. {told}", lm))
    return panels


def variance_key() -> list[tuple[str, bool, str]]:
    """Keys of the stacked bars' colours; the parts stand in the same order in every bar."""
    variables = ("--series-0", "--series-1", "--covered")
    patterns = ("plain", "striped", "dotted")
    return [(v, True, f"{_named(p)} ({how})") for v, p, how in zip(variables, _PARTS, patterns, strict=True)]


def _draw_shares(bars: list[tuple[str, np.ndarray]]) -> Any:
    axes = new_axes(WIDE, _BAR * len(bars) + 0.6, left=0.12, bottom=0.5, right=0.2)
    axes.set_ylim(_BAR * len(bars), 0)
    axes.set_xlim(0, 100)
    for i, (name, share) in enumerate(bars):
        _heading(axes, name, i * _BAR + 0.12)
        start = 0.0
        for part, (colour, hatch) in zip(share, _PARTS.values(), strict=True):
            place = {"y": i * _BAR + 0.34, "width": 100 * part, "height": 0.2, "left": start}
            axes.barh(**place, color=colour, edgecolor=PAPER, linewidth=0.6)
            # A bar of its own, since the page's theme reaches the lines of a pattern but not the colour behind them.
            axes.barh(**place, color="none", hatch=hatch, edgecolor=PAPER, linewidth=0)
            start += 100 * part
    axes.set_yticks([])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of the variance (%)")
    return axes


def _heading(axes: Any, text: str, y: float) -> None:
    axes.annotate(
        short(text, 58), (0, y), (2, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
        fontweight="bold", fontsize=9, bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0},
    )  # fmt: skip


def _named(part: str) -> str:
    return part.replace("_", " ")
