"""Pictures of a contrast."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .contrast import Contrast


def plot_contrast(contrast: Contrast, path: str | Path) -> None:
    """Draw potential outcomes, individual effects and propensities into a file.

    The ending of ``path`` says which kind (``.png``, ``.svg``, ``.pdf``).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.15, 1, 0.8])
    options = [_short(option) for option in contrast.options]
    places = np.arange(len(options))
    for w, level in enumerate((contrast.low, contrast.high)):
        left.barh(
            places + (w - 0.5) * 0.38,
            contrast.probabilities[:, w].mean(0),
            0.36,
            color=("tab:blue", "tab:orange")[w],
            label=f"do({contrast.treatment}={level})",
        )
    left.set_yticks(places, options, fontsize=8)
    left.invert_yaxis()
    left.set_xlabel(f"probability of {contrast.outcome}")
    left.set_title("potential outcomes, mean over units")
    left.legend(fontsize=8)

    colours = [f"C{k + 2}" for k in range(len(options))]
    for k, option in enumerate(options):
        middle.hist(
            contrast.individual[:, k], bins=40, histtype="stepfilled", alpha=0.45, color=colours[k], label=option
        )
        middle.axvline(contrast.average[k], color=colours[k], linewidth=1.5)
    middle.axvline(0, color="0.3", linewidth=0.8, linestyle=":")
    middle.set_xlabel(f"change of probability, {contrast.high} − {contrast.low}")
    middle.set_ylabel("units")
    middle.set_title("individual effects (line: mean)")
    middle.legend(fontsize=7)

    right.hist(contrast.propensity, bins=np.linspace(0, 1, 41).tolist(), color="0.5")
    right.set_xlim(0, 1)
    right.set_xlabel(f"P({contrast.treatment}={contrast.high} | parents)")
    right.set_title("propensity")
    figure.savefig(path, dpi=150)


def _short(text: str, width: int = 34) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
