"""Data sets in which a text tells of a hidden confounder: how far off is who does not read it, who does, who knows?

    python benchmarks/text_confounder.py                       # results/text_confounder.{json,md}
    python benchmarks/text_confounder.py --datasets 5 --out /tmp/text_confounder.json

The family ``clinical_note`` on the embedded language model: how ill a patient is moves drug and recovery, and is
hidden. The note is free text that the language model writes after that sentence; how far it tells of it is written
down (``sdscm_jax/vignettes/clinical_note.py``). Estimators are shown all but the severity and do not read the note
(naive), or read it (its hidden states, by estimators whose names begin with ``text_``), or are shown the severity too
(oracle).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from measured import provenance
from scipy import stats

import sdscm_jax as sd
from sdscm_jax.families import family
from sdscm_jax.vignettes import clinical_note

HERE = Path(__file__).resolve().parent
# Learners, and what reads texts beside each.
ESTIMATORS = {"linear_dml": "text_linear_dml", "forest_t": "text_forest_t", "linear_t": "text_linear_t"}
NAIVE, READ, ORACLE = "naive", "reads the note", "oracle: the severity"
# What an estimator is shown: setting of covariates, and whether it reads texts.
SHOWN = {NAIVE: ("observed", False), READ: ("observed", True), ORACLE: ("all", False)}


def written_down() -> dict[str, float]:
    """Errors of whoever adjusts for what is shown without any error of estimation: the vignette's joint law, summed."""
    variables = clinical_note.variables
    cells = np.array(list(product(*(range(len(v.options)) for v in variables))))
    mass = np.ones(len(cells))
    for j, v in enumerate(variables):
        mass *= clinical_note.probabilities(v.name, cells)[np.arange(len(cells)), cells[:, j]]
    joint = mass.reshape([len(v.options) for v in variables])  # age, severity, note, drug, recovery

    def effect(*left_out: int) -> float:
        shown = joint.sum(left_out)
        recovers = shown[..., 1] / shown.sum(-1)
        return float((shown.sum((-1, -2)) * (recovers[..., 1] - recovers[..., 0])).sum())

    return {shown: abs(effect(*out) - effect()) for shown, out in ((NAIVE, (1, 2)), (READ, (1,)), (ORACLE, (2,)))}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=50)
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "text_confounder.json")
    options = parser.parse_args(argv)
    started = time.perf_counter()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        data = sd.bench.generate(
            family("clinical_note"), place / "data", datasets=options.datasets, units=options.units, seed=options.seed
        )
        for setting in ("observed", "all"):
            with warnings.catch_warnings():
                # That texts are left out is what is measured.
                warnings.filterwarnings("ignore", message="covariates that are free text")
                found = sd.bench.evaluate(
                    data, place / setting, estimators=[*ESTIMATORS, *ESTIMATORS.values()], covariates=[setting]
                )
            for shown, (wanted, reads) in SHOWN.items():
                for name in ESTIMATORS if wanted == setting else ():
                    own = found.scores[found.scores["estimator"] == (ESTIMATORS[name] if reads else name)]
                    errors = np.abs((own["ate"] - own["ate_true"]).to_numpy(float))
                    rows.append({"estimator": name, "shown": shown, "errors": errors.tolist()})
                    print(f"{name:20} {shown:26} {errors.mean():.4f}", flush=True)
    report = {
        **provenance(), "datasets": options.datasets, "units": options.units, "seed": options.seed,
        "seconds": round(time.perf_counter() - started), "rows": rows, "written_down": written_down(),
    }  # fmt: skip
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(page(report))
    return report


def interval(values: np.ndarray) -> str:
    """Mean and 95% interval of Student over data sets."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{values.mean():.4f} [{values.mean() - half:.4f}, {values.mean() + half:.4f}]"


def page(report: dict[str, Any]) -> str:
    errors = {(row["estimator"], row["shown"]): np.array(row["errors"]) for row in report["rows"]}
    exact = report["written_down"]
    lines = [f"| who makes no error of estimation | {shown} | {exact[shown]:.4f} |" for shown in SHOWN]
    for name in ESTIMATORS:
        lines += [f"| {name} | {shown} | {interval(errors[name, shown])} |" for shown in SHOWN]
    gains = [
        f"| {name} | {a} | {b} | {interval(errors[name, a] - errors[name, b])} |"
        for name in ESTIMATORS
        for a, b in ((NAIVE, READ), (READ, ORACLE))
    ]
    newline = "\n"
    return f"""# A text that tells of a hidden confounder

`{report["command"]}`, {report["date"][:10]}, {report["cores"]} cores, {report["seconds"]} seconds;
{report["datasets"]} data sets of {report["units"]} units, each in wordings of its own, seed {report["seed"]}.

The family `clinical_note` on the embedded language model: how ill a patient is moves drug and recovery, and is hidden.
The note is free text that the language model writes after that sentence. Estimators are shown what is observed and do
not read the note (naive), or read its hidden states (`text_linear_dml` beside `linear_dml`, and so on), or are shown
the severity too (oracle). The first rows are sums over the written-down mechanisms. Error: of the average effect of the
new drug on the probability to be well again, absolute; mean over data sets with Student's 95% interval.

| estimator | shown | error |
|---|---|---|
{newline.join(lines)}

How much the second is nearer than the first, in the same data sets (positive: nearer):

| estimator | first | second | difference of errors |
|---|---|---|---|
{newline.join(gains)}
"""


if __name__ == "__main__":
    main()
