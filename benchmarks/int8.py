"""What bfloat16, int8 and int4 weights change in scores and effects, and the bytes they take.

    SDSCM_SHARED=../shared python benchmarks/int8.py --gemma gemma.gguf

writes ``results/int8.json`` and ``results/int8.md``. Every context of every site is scored (no draws), by the embedded
language model, by the pretrained ones of the shared data, where they are, and by Gemma 3 270M, where its GGUF file is
given (its weights were rounded once before: to the types of that file).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measured import ROOT, provenance

import sdscm_jax as sd
from sdscm_jax.effects import factors
from sdscm_jax.families import Family
from sdscm_jax.vignettes import hiring

RESULTS = ROOT / "benchmarks" / "results"
SHARED = Path(os.environ.get("SDSCM_SHARED", ROOT / ".." / "shared")).resolve()
KINDS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"weights": "int8"},
    "int8, bfloat16": {"weights": "int8", "dtype": "bfloat16"},
    "int4": {"weights": "int4"},
    "int4, bfloat16": {"weights": "int4", "dtype": "bfloat16"},
}

CHANGES = ("log_prob_mean", "log_prob_max", "total_variation_mean", "total_variation_max", "ate_change")


def application(lm: sd.LanguageModel) -> None:
    """The hiring vignette, on which the embedded language model was trained."""
    Family.from_vignette(hiring).member(0)(lm)


def story(lm: sd.LanguageModel) -> None:
    """What small models of children's stories have read."""
    name = sd.sample("name", sd.Choice(lm, "Once upon a time there was a little {}.", ["girl", "boy", "dog", "bird"]))
    place = sd.sample("place", sd.Choice(lm, "They went to the {}.", ["park", "beach", "store"], given=[name]))
    found = sd.sample("found", sd.Choice(lm, "They found a big {}.", ["ball", "box", "tree"], given=[name, place]))
    sd.sample("end", sd.Choice(lm, "They were very {}.", ["happy", "sad", "scared"], given=[name, place, found]))


# Language model -> its place, and the program with its treatment (two options) and outcome.
RUNS: list[tuple[str, str | None, Callable[[sd.LanguageModel], None], tuple[str, str, str, str]]] = [
    ("embedded", None, application, ("interview", "weak", "impressive", "decision")),
    ("stories260K", "stories260K", story, ("found", "ball", "box", "end")),
    ("babyllama-tok105", "babyllama-tok105", story, ("found", "ball", "box", "end")),
]


def tables(network: factors.Network) -> dict[str, np.ndarray]:
    """Site -> probabilities ``[contexts, K]``."""
    return {f.site: np.asarray(f.table, float).reshape(-1, len(f.options)) for f in network.factors}


def measured(source: str | None, program: Callable, asked: tuple[str, str, str, str]) -> dict[str, Any]:
    treatment, low, high, outcome = asked
    where = source if source is None else SHARED / "lms" / source  # (a path of its own stays what it is)
    found: dict[str, Any] = {}
    truth: dict[str, np.ndarray] = {}
    for kind, options in KINDS.items():
        lm = sd.load_lm(where, **options)
        network = factors.network(program, lm)
        own = tables(network)
        truth = truth or own
        logs = np.concatenate([np.abs(np.log(own[s]) - np.log(truth[s])).ravel() for s in truth])
        variation = np.concatenate([0.5 * np.abs(own[s] - truth[s]).sum(-1) for s in truth])
        effect = sd.effects.ate(sd.effects.exact(network), treatment, outcome, low, high).value
        found[kind] = {
            "bytes": sum(x.nbytes for x in jax.tree.leaves(lm.params)),
            "bytes_of_layers": sum(x.nbytes for x in jax.tree.leaves(lm.params["blocks"])),
            "contexts": len(variation),
            "log_prob_mean": logs.mean(),
            "log_prob_max": logs.max(),
            "total_variation_mean": variation.mean(),
            "total_variation_max": variation.max(),
            "ate": np.asarray(effect, float).tolist(),
        }
        reference = np.asarray(found["float32"]["ate"])
        found[kind]["ate_change"] = float(np.abs(np.asarray(effect) - reference).max())
        found[kind]["ate_largest"] = float(np.abs(reference).max())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gemma", type=Path, help="the GGUF file of Gemma 3 270M")
    gemma = parser.parse_args().gemma
    asked_for = [*RUNS]
    if gemma is not None:
        asked_for.append(("Gemma 3 270M", str(gemma.resolve()), story, RUNS[1][-1]))
    runs = [
        {"lm": name, "program": program.__name__, "asked": asked, "kinds": measured(source, program, asked)}
        for name, source, program, asked in asked_for
        if source is None or (SHARED / "lms" / source).exists()
    ]
    report = {"provenance": provenance(), "runs": runs}
    (RESULTS / "int8.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "int8.md").write_text(page(report))


def page(report: dict[str, Any]) -> str:
    """The results as Markdown."""
    made = report["provenance"]
    lines = [
        "# What weights of fewer bits change\n",
        f"`{made['command']}`, {made['date']}. Every context of every site, against float32: absolute differences of "
        "log-probabilities (nats), total variation of the distribution over options, and the largest change of an "
        'average effect on an outcome\'s options (beside the largest effect). *int8* is `weights="int8"` with float32 '
        'activations, *int8, bfloat16* the same with `dtype="bfloat16"`; *int4* likewise.\n',
        "These are small models with narrow layers; the figures of one say little of another. The embedded model's "
        "file is bfloat16, so that its bfloat16 row shows the rounding of activations alone.\n",
        "| language model, program (contexts) | weights | MB (layers) | log-probability, mean | largest | "
        "total variation, mean | largest | ATE changes by | of |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in report["runs"]:
        for kind, x in run["kinds"].items():
            cells = [
                f"{run['lm']}, {run['program']} ({x['contexts']})",
                kind,
                f"{x['bytes'] / 1e6:.2f} ({x['bytes_of_layers'] / 1e6:.2f})",
                *(f"{x[name]:.4f}" for name in CHANGES),
                f"{x['ate_largest']:.3f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
