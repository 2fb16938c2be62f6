"""Audits from nothing to a report: the embedded language model and two that others trained.

    python benchmarks/audits.py --shared ../shared

Writes ``results/audits.md`` and ``results/audits.json``. The embedded model's text was generated: its truth is known.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from measured import provenance

RESULTS = Path(__file__).parent / "results"
# Name -> arguments of ``sdscm audit``. What does not fit a model is what its error message says.
AUDITS = {
    "embedded": ["hiring"],
    "embedded, other wordings": ["hiring", "--seed", "1", "--pairs", "0"],
    "embedded, two sentences left out": ["hiring", "--without", "degree,references", "--pairs", "0"],
    "embedded, by way of a letter": ["reference_letter", "--pairs", "0", "--no-text"],
    "stories260K": ["hiring", "--lm", "lms/stories260K", "--scoring", "mean,pmi"],
    "babyllama-tok105": [
        "hiring", "--lm", "lms/babyllama-tok105", "--scoring", "mean,pmi", "--no-text", "--without",
        "degree,experience,references",
    ],
}  # fmt: skip


def run(arguments: list[str], shared: Path, out: Path) -> dict[str, Any]:
    """One audit as a user runs it: CPU-seconds from nothing to the report, and what it found."""
    arguments = [str(shared / a) if a.startswith("lms/") else a for a in arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([Path(sys.executable).parent / "sdscm", "audit", *arguments, "--out", out], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    table = pd.read_csv(out / "effects.csv")
    if (out / "truth.csv").exists():
        truth = pd.read_csv(out / "truth.csv").rename(columns={"value": "truth"})
        table = table.merge(truth, on=["proxy", "level", "effect"])
        table["inside"] = (table["lower"] <= table["truth"]) & (table["truth"] <= table["upper"])
    columns = [
        "effect",
        "value",
        "lower",
        "upper",
        "detectable",
        "q",
        "discovery",
        *(c for c in ("truth", "inside") if c in table),
    ]
    lms = pd.read_csv(out / "lms.csv")
    return {"cpu_seconds": seconds, "tokens": int(lms["tokens"].sum()), "effects": table[columns].to_dict("records")}


def page(report: dict[str, Any]) -> str:
    """The results as Markdown."""
    made = report["provenance"]
    parts = [
        f"# Audits of a first name\n\n`{made['command']}`, {made['cores']} CPU cores, {made['date']}. Effects "
        'of a Black-sounding instead of a white-sounding first name on the probability of "offer the job" (of '
        '"take the student in", where a letter that the model writes mediates); 95 % intervals over ten '
        "repetitions that share no sentence and, where names are drawn, no name. The embedded language model "
        "has read four names, which are then fixed; the others are asked about twenty pairs. The truth is "
        "that of the mechanisms which its text was drawn from: it learned these within 0.004 a probability, "
        "so that an interval for what it does need not contain it.\n"
    ]
    for name, found in report["audits"].items():
        parts.append(
            f"\n## {name}\n\n`sdscm audit {' '.join(AUDITS[name])}`: {found['cpu_seconds']:.0f} CPU-seconds from "
            f"nothing to the report, {found['tokens']:,} LM tokens.\n\n"
            "| effect | value | interval | finds | q | discovery | truth | inside |\n" + "|---" * 8 + "|\n"
        )
        for row in found["effects"]:
            truth = f"{row['truth']:+.4f} | {'yes' if row['inside'] else 'no'}" if "truth" in row else "| "
            parts.append(
                f"| {row['effect']} | {row['value']:+.4f} | {row['lower']:+.4f} to {row['upper']:+.4f} | "
                f"{row['detectable']:.4f} | "
                f"{row['q']:.2g} | {'yes' if row['discovery'] else 'no'} | {truth} |\n"
            )
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    shared = parser.parse_args().shared.resolve()
    report: dict[str, Any] = {"provenance": provenance(), "audits": {}}
    for name, arguments in AUDITS.items():
        with tempfile.TemporaryDirectory() as out:
            report["audits"][name] = run(arguments, shared, Path(out))
    (RESULTS / "audits.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "audits.md").write_text(page(report))


if __name__ == "__main__":
    main()
