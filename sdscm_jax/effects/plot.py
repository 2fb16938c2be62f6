"""Pictures of a contrast."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np

from ..checks import instance
from ..dsl.analysis.save_figure import save_figure
from .individual import Contrast

_COLOURS = ("tab:blue", "tab:orange")


def plot_contrast(contrast: Contrast, path: str | Path) -> None:
    """Draw potential outcomes, individual effects and propensities into a file.

    One row per option of the outcome: its probability in the two worlds, and the distribution of
    the individual effects on it. The ending of ``path`` says which kind of file (``.png``, ``.svg``,
    ``.pdf``); the same contrast is drawn into the same bytes.
    """
    from matplotlib.figure import Figure

    instance(contrast, Contrast, "contrast")
    count = len(contrast.options)
    figure = Figure(figsize=(12, 1.4 + 0.95 * count), layout="constrained")
    grid = figure.add_gridspec(count, 3, width_ratios=[1.0, 1.15, 0.8])
    means = contrast.probabilities.mean(0)
    effects = contrast.individual
    reach = max(float(np.abs(effects).max()), 1e-3)
    bins = np.linspace(-1.05 * reach, 1.05 * reach, 61).tolist()
    for k, option in enumerate(contrast.options):
        outcome = figure.add_subplot(grid[k, 0])
        for w, level in enumerate((contrast.low, contrast.high)):
            label = f"do({contrast.treatment}={level})"
            outcome.barh(-w, means[w, k], 0.8, color=_COLOURS[w], label=label)
            outcome.text(means[w, k], -w, f" {means[w, k]:.2f}", va="center", fontsize=8)
        outcome.set_yticks([-0.5], [textwrap.fill(option, 28)], fontsize=8)
        outcome.tick_params(axis="y", length=0)
        outcome.set_xlim(0, 1.15 * means.max())
        effect = figure.add_subplot(grid[k, 1])
        effect.hist(effects[:, k], bins=bins, color="tab:green", alpha=0.75)
        effect.axvline(0, color="0.3", linewidth=0.8, linestyle=":")
        effect.axvline(contrast.average[k], color="black", linewidth=1.5)
        effect.set_ylabel("units", fontsize=8)
        effect.tick_params(labelsize=8)
        outcome.tick_params(axis="x", labelsize=8)
        if k == 0:
            outcome.set_title(f"P({contrast.outcome}), mean over units", fontsize=10)
            effect.set_title("individual effects (line: their mean, the ATE)", fontsize=10)
        if k < count - 1:
            outcome.set_xticklabels([])
            effect.set_xticklabels([])
    outcome.set_xlabel("probability", fontsize=9)
    effect.set_xlabel(f"change of probability, {contrast.high} − {contrast.low}", fontsize=9)
    handles, labels = outcome.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, fontsize=9, frameon=False)

    propensity = figure.add_subplot(grid[:, 2])
    propensity.hist(contrast.propensity, bins=np.linspace(0, 1, 41).tolist(), color="0.5")
    propensity.set_xlim(0, 1)
    propensity.set_xlabel(f"P({contrast.treatment}={contrast.high} | parents)", fontsize=9)
    propensity.set_ylabel("units", fontsize=8)
    propensity.tick_params(labelsize=8)
    propensity.set_title("propensity", fontsize=10)
    save_figure(figure, path, dpi=150)
