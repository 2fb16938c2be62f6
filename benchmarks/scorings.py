"""How far apart the definitions of an option's score are, on the sites of the oncology model.

    python benchmarks/scorings.py                       # figures of docs/scoring.md
    python benchmarks/scorings.py --units 20 --out /tmp/s.json --picture /tmp/s.png

Units are drawn with ``scoring="sequence"``; then every site of every unit is scored in each way, in
the same context. The distance of two ways is the total-variation distance between the probabilities
that they give to the options of a site, averaged over units and sites.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SCORINGS = ("sequence", "option", "mean", "masked", "pmi", "reference", "uniform")
MECHANISM = "mechanism"
CONTEXT, TEMPLATE = "A 25-year-old woman arrives at the oncology clinic.", "Her {}."
OPTIONS = ("medical history shows that she has osteoporosis", "medical records show a history of hypertension")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, print the tables, write the JSON and the picture; the value is what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the wording and the units")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scorings.json")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "scorings.png")
    options = parser.parse_args(argv)
    from measured import provenance

    started = time.perf_counter()
    report = {
        **provenance(),
        "units": options.units,
        "seed": options.seed,
        "oncology": oncology(options),
        "example": example(),
    }
    report["seconds"] = round(time.perf_counter() - started)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    draw(report, options.picture)
    print("\n\n".join("\n".join(table) for table in tables(report)))
    return report


def oncology(options: argparse.Namespace) -> dict[str, Any]:
    """Distances between scorings, and what each costs."""
    import jax
    from measured import recorded_tokens

    import sdscm_jax as sd
    from sdscm_jax.families import Family

    lm, vignette = sd.load_lm(), sd.vignettes.oncology
    family = Family.from_vignette(vignette)
    data = sd.simulate(
        family.member(options.seed), jax.random.key(options.seed), options.units, lm, logp=[], progress=False
    )
    values = {name: array[:, 0] for name, array in data.values.items()}
    probs: dict[str, dict[str, np.ndarray]] = {}
    tokens: dict[str, int] = {}
    for scoring in SCORINGS:
        with recorded_tokens() as lengths:
            run = scorer(family.member(options.seed, scoring)).lower(lm, values).compile()
        tokens[scoring] = sum(lengths)
        probs[scoring] = {name: np.asarray(p, np.float64) for name, p in run(lm, values).items()}
    columns = np.stack([values[v.name] for v in vignette.variables], 1)
    probs[MECHANISM] = {v.name: vignette.probabilities(v.name, columns) for v in vignette.variables}
    ways = (*SCORINGS, MECHANISM)
    distance = {
        a: {b: {name: float(variation(probs[a][name], probs[b][name])) for name in values} for b in ways} for a in ways
    }
    return {
        "sites": list(values),
        "tokens_per_unit": tokens,
        "distance": {a: {b: float(np.mean(list(distance[a][b].values()))) for b in ways} for a in ways},
        "distance_to_sequence_by_site": {
            a: {name: distance[a]["sequence"][name] for name in values} for a in SCORINGS if a != "sequence"
        },
    }


def scorer(member: Any) -> Any:
    """Jitted: probabilities of the options of every site, in the contexts of given units."""
    import jax
    from numpyro.primitives import Messenger

    class Held(Messenger):
        """Scores a site when it is met, as a simulation does, and then gives it its value."""

        def __init__(self, values: dict[str, Any]):
            self.values, self.probs = values, {}
            super().__init__(member)

        def process_message(self, msg: dict[str, Any]) -> None:
            if msg["type"] == "sample":
                self.probs[msg["name"]] = msg["fn"].probs
                msg["value"] = self.values[msg["name"]]

    @jax.jit
    def run(lm: Any, values: dict[str, Any]) -> dict[str, Any]:
        def unit(values: dict[str, Any]) -> dict[str, Any]:
            held = Held(values)
            held(lm)
            return held.probs

        return jax.vmap(unit)(values)

    return run


def variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Mean total-variation distance of two sets of distributions ``[..., K]``."""
    return (np.abs(p - q).sum(-1) / 2).mean()


def example() -> dict[str, Any]:
    """Two options that begin alike: what the walk of constrained decoding sees, and what it does not."""
    import jax
    import jax.numpy as jnp

    import sdscm_jax as sd

    lm = sd.load_lm()
    log_softmax = jax.jit(lambda lm, tokens: jax.nn.log_softmax(lm.logits(tokens)))
    bos = () if lm.codec.bos is None else (lm.codec.bos,)
    known = (*bos, *lm.codec.encode(f"{CONTEXT} Her"))
    steps: dict[str, Any] = {}
    for option in OPTIONS:
        whole = (*bos, *lm.codec.encode(f"{CONTEXT} {TEMPLATE.format(option)}"))
        assert whole[: len(known)] == known
        row = np.zeros(64, np.int32)
        row[: len(whole)] = whole
        table = np.asarray(log_softmax(lm, jnp.asarray(row)), np.float64)
        logs = [float(table[i - 1, whole[i]]) for i in range(len(known), len(whole))]
        steps[option] = {
            "tokens": [lm.tokenizer.decode([token]) for token in whole[len(known) :]],
            "probs": [float(np.exp(x)) for x in logs],
            "log_prob": sum(logs),
            # The first token is common to both.
            "branch": float(np.exp(logs[1])),
            "after_branch": float(np.exp(sum(logs[2:]))),
        }

    def probs(scoring: str) -> Any:
        return jax.jit(lambda lm: sd.Choice(lm, TEMPLATE, OPTIONS, given=[CONTEXT], scoring=scoring).probs)(lm)

    return {
        "context": CONTEXT,
        "template": TEMPLATE,
        "options": OPTIONS,
        "steps": steps,
        **{scoring: [float(p) for p in probs(scoring)] for scoring in ("sequence", "masked")},
    }


def tables(report: dict[str, Any]) -> list[list[str]]:
    """The tables of docs/scoring.md, as lines of Markdown."""
    found, shown = report["oncology"], report["example"]
    ways = (*SCORINGS, MECHANISM)
    first = ["| | " + " | ".join(f"`{b}`" if b in SCORINGS else b for b in ways) + " |", "|---" * (len(ways) + 1) + "|"]
    for a in SCORINGS:
        first.append(f"| `{a}` | " + " | ".join(f"{found['distance'][a][b]:.3f}" for b in ways) + " |")
    second = ["| " + " | ".join(f"`{s}`" for s in SCORINGS) + " |", "|---" * len(SCORINGS) + "|"]
    second.append("| " + " | ".join(str(found["tokens_per_unit"][s]) for s in SCORINGS) + " |")
    third = ["| option | P(branch) | P(rest, given the branch) | `masked` | `sequence` |", "|---|---|---|---|---|"]
    for i, option in enumerate(shown["options"]):
        step = shown["steps"][option]
        numbers = (step["branch"], step["after_branch"], shown["masked"][i], shown["sequence"][i])
        third.append(f"| {option} | " + " | ".join(f"{x:.4f}" for x in numbers) + " |")
    return [first, second, third]


def draw(report: dict[str, Any], path: Path) -> None:
    """Heat maps: between scorings, and by site."""
    from matplotlib.figure import Figure

    found = report["oncology"]
    ways = (*SCORINGS, MECHANISM)
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
    for axis, names, across, values, title in (
        (
            left,
            ways,
            ways,
            [[found["distance"][a][b] for b in ways] for a in ways],
            f"mean over {report['units']} units and {len(found['sites'])} sites",
        ),
        (
            right,
            SCORINGS[1:],
            found["sites"],
            [[found["distance_to_sequence_by_site"][a][s] for s in found["sites"]] for a in SCORINGS[1:]],
            "from sequence, by site",
        ),
    ):
        matrix = np.array(values)
        image = axis.imshow(matrix, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        for i, j in np.ndindex(*matrix.shape):
            colour = "white" if matrix[i, j] < 0.6 else "k"
            axis.text(j, i, f"{matrix[i, j]:.2f}".removeprefix("0"), ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(len(across)), across, rotation=45, ha="right", fontsize=8)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set_title(title, fontsize=10)
    figure.colorbar(image, ax=right, label="total-variation distance")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
