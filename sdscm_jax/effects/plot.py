"""Pictures of a contrast."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import instance
from ..dsl.analysis.save_figure import save_figure
from ..page.drawing import INK, MUTED, SERIES, figure_style
from ..page.spoken_numbers import fixed
from .individual import Contrast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Blue and vermilion, which nobody confuses (Okabe and Ito 2008); on paper without colours, the second is hatched.
_COLOURS, _HATCHES = SERIES[:2], ("", "////")
_UNITS, _ATE, _NAIVE = "#c3cad2", INK, SERIES[1]


def plot_contrast(
    contrast: Contrast, path: str | Path | None = None, ax: Any = None, *, level: float = 0.95
) -> Figure:  # fmt: skip
    """Draw a contrast: potential outcomes, individual effects and their mean with its interval, and propensities.

    One row per option of the outcome: its probability in the two worlds; the distribution of the individual effects
    on it, with the average effect, its interval and the naive difference of the factual data. The picture says how
    many units there are and what the language model is. The same contrast is drawn into the same bytes.

    Args:
        contrast: see ``contrast``.
        path: a file; its ending (``.png``, ``.svg``, ``.pdf``) says which kind. None: none is written.
        ax: Matplotlib axes, which get the average effects with their intervals and the naive differences only.
        level: confidence of the interval.

    Returns:
        the Matplotlib figure, which a notebook shows.

    Raises:
        EffectError: ``level`` is not between 0 and 1.
        SDSCMError: the file cannot be written.
    """
    instance(contrast, Contrast, "contrast")
    table = contrast.to_pandas(level)
    if ax is not None:
        _forest(contrast, table, ax, level)
        figure = ax.figure
    else:
        with figure_style():
            figure = _whole(contrast, table, level)
    if path is not None:
        save_figure(figure, path, dpi=200)
    return figure


def _told(contrast: Contrast) -> str:
    units = f"{len(contrast.propensity) // contrast.draws:,} units"
    return f"{units}; language model: {'; '.join(contrast.lms)}" if contrast.lms else units


def _naive(contrast: Contrast, of: str = "") -> str:
    levels = " or ".join(f"{contrast.treatment}={level}" for level in contrast.absent)
    return f"no naive difference: no unit has {levels}" if levels else f"naive difference{of}"


def _forest(contrast: Contrast, table: Any, axes: Any, level: float) -> None:
    """The average effects alone, one above the other."""
    place = np.arange(len(table))
    ate, naive = table["ate"].to_numpy(), table["naive"].to_numpy()
    axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=":")
    axes.hlines(place, table["lower"], table["upper"], color=_COLOURS[0], linewidth=2.5)
    axes.plot(ate, place, "o", color=_COLOURS[0], label=f"average effect, {level:.0%} interval")
    axes.plot(naive, place, "D", color=_NAIVE, fillstyle="none", label=_naive(contrast))
    axes.set_yticks(place, [textwrap.fill(option, 28) for option in contrast.options])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel(f"change of P({contrast.outcome}), {contrast.treatment}: {contrast.low} → {contrast.high}")
    axes.set_title(_told(contrast), fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="best")


def _whole(contrast: Contrast, table: Any, level: float) -> Figure:
    from ..page.picture import Picture

    count = len(contrast.options)
    figure = Picture(figsize=(12, 2.0 + 0.95 * count), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(count, 3, width_ratios=[1.0, 1.25, 0.75])
    rows = table.to_dict("records")
    effects = contrast.individual
    ends = np.concatenate([effects.ravel(), table[["lower", "upper", "naive"]].to_numpy().ravel()])
    reach = max(float(np.nanmax(np.abs(ends))), 1e-3)
    bins = np.linspace(-1.05 * reach, 1.05 * reach, 61).tolist()
    for k, option in enumerate(contrast.options):
        outcome, effect = figure.add_subplot(grid[k, 0]), figure.add_subplot(grid[k, 1])
        for w, (level_, mean) in enumerate(((contrast.low, rows[k]["p_low"]), (contrast.high, rows[k]["p_high"]))):
            outcome.barh(
                -w, mean, 0.8, color=_COLOURS[w], hatch=_HATCHES[w], edgecolor="white", linewidth=0,
                label=f"do({contrast.treatment}={level_})",
            )  # fmt: skip
            outcome.text(mean, -w, f" {fixed(mean, 2)}", va="center", fontsize=9)
        outcome.set_yticks([-0.5], [textwrap.fill(option, 28)])
        outcome.tick_params(axis="y", length=0)
        outcome.grid(False, axis="y")
        outcome.set_xlim(0, 1.15 * float(table[["p_low", "p_high"]].to_numpy().max()))
        effect.hist(effects[:, k], bins=bins, color=_UNITS, label="individual effects")
        effect.axvline(0, color=MUTED, linewidth=0.8, linestyle=":")
        effect.axvspan(rows[k]["lower"], rows[k]["upper"], color=_ATE, alpha=0.25, linewidth=0)
        effect.axvline(
            rows[k]["ate"], color=_ATE, linewidth=1.6, label=f"their mean, the ATE, with {level:.0%} interval"
        )
        if np.isfinite(rows[k]["naive"]):
            effect.axvline(rows[k]["naive"], color=_NAIVE, linewidth=1.8, linestyle=(0, (4, 2)))
        # (A label, also where no unit has a level and there is no such difference.)
        effect.plot([], [], color=_NAIVE, linewidth=1.8, linestyle=(0, (4, 2)), label=_naive(contrast, " of the data"))
        effect.set_xlim(bins[0], bins[-1])
        effect.set_ylabel("units")
        if k == 0:
            outcome.set_title(f"P({contrast.outcome}), mean over units", fontsize=10.5)
            effect.set_title("effects", fontsize=10.5)
        if k < count - 1:
            outcome.set_xticklabels([])
            effect.set_xticklabels([])
    outcome.set_xlabel("probability")
    effect.set_xlabel(f"change of probability, {contrast.high} − {contrast.low}")
    figure.legend(*outcome.get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=9, frameon=False)
    figure.legend(*effect.get_legend_handles_labels(), loc="outside lower right", ncols=3, fontsize=9, frameon=False)
    propensity = figure.add_subplot(grid[:, 2])
    propensity.hist(contrast.propensity, bins=np.linspace(0, 1, 41).tolist(), color=_UNITS)
    propensity.set_xlim(0, 1)
    propensity.set_xlabel(f"P({contrast.treatment}={contrast.high} | parents)")
    propensity.set_ylabel("units")
    propensity.set_title("propensity", fontsize=10.5)
    figure.suptitle(
        f"Effect of {contrast.treatment} ({contrast.low} → {contrast.high}) on {contrast.outcome}\n{_told(contrast)}",
        fontsize=11,
    )
    return figure
