"""A real language model in the guide: the clinic, and the audit of a hiring decision, on Gemma 3 270M.

    python benchmarks/real_model.py --lm model.gguf [--only clinic quick whole]    # writes results/real_model.{json,md}
    python benchmarks/real_model.py --lm model.gguf --only whole --keep DIR        # goes on where a killed run was

The language model is not in this repository (Gemma's terms of use); any other that ``load_lm`` reads does as well.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from measured import provenance

RESULTS = Path(__file__).parent / "results"
PAGE = RESULTS / "real_model.json"
UNITS = 1000
QUICK, WHOLE = ["hiring", "--quick"], ["hiring_gender", "--no-text"]


def spent() -> float:
    """CPU-seconds of this process and of those that it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(x.ru_utime + x.ru_stime for x in both)


def most_memory(who: int = resource.RUSAGE_CHILDREN) -> float:
    """Peak resident memory in GiB."""
    return resource.getrusage(who).ru_maxrss / 2**20


def clinic(path: str) -> dict[str, Any]:
    """The first program, in three worlds, with its exact effects."""
    import jax

    import sdscm_jax as sd
    from sdscm_jax import effects

    def program(lm: sd.LanguageModel) -> None:
        age = sd.sample(
            "age",
            sd.Choice(lm, "A {}-year-old woman arrives at the oncology clinic.", ["25", "55", "75"]),
            exogenous=True,
        )
        pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"], given=[age]))
        therapies = ["begin a checkpoint inhibitor", "start an aromatase inhibitor"]
        sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", therapies, given=[age, pdl1]))

    before, started = spent(), time.perf_counter()
    lm = sd.load_lm(path)
    loaded = {"cpu_seconds": spent() - before, "seconds": time.perf_counter() - started}
    before, started = spent(), time.perf_counter()
    data = sd.simulate(program, jax.random.key(0), UNITS, lm, worlds=[{"pdl1": "low"}, {"pdl1": "high"}])
    took = {"cpu_seconds": spent() - before, "seconds": time.perf_counter() - started}
    table = sd.tabulate(program, lm)
    effect = effects.ate(table, "pdl1", "drug", "low", "high")
    frame = data.to_pandas()
    return {
        "family": lm.config.family,
        "parameters": sum(x.size for x in jax.tree.leaves(lm.params)),
        "loaded": loaded,
        "units": UNITS,
        "simulated": took,
        "tokens": int(data.stats["tokens"]),
        "reference_tokens": int(data.stats["reference_tokens"]),
        "memory_gib": most_memory(resource.RUSAGE_SELF),
        "shares": {
            site: frame[site].value_counts(normalize=True).round(4).to_dict() for site in ("age", "pdl1", "drug")
        },
        "ate": {str(option): float(effect[option]) for option in effect.labels},
    }


def audited(arguments: list[str], path: str, keep: Path | None) -> dict[str, Any]:
    """One audit as a user runs it; kept in a directory, it goes on where a killed one was (whose time is lost)."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) if keep is None else keep / "-".join(x.strip("-") for x in arguments)
        resumed = out.exists() and any(out.iterdir()) and keep is not None
        before, started = spent(), time.perf_counter()
        command = [Path(sys.executable).parent / "sdscm", "audit", *arguments, "--lm", path, "--out", out]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        effects = pd.read_csv(Path(out) / "effects.csv")
        cells = pd.read_csv(Path(out) / "cells.csv")
        lms = pd.read_csv(Path(out) / "lms.csv")
    kept = ["proxy", "effect", "value", "lower", "upper", "detectable", "q", "discovery"]
    return {
        "command": " ".join(["sdscm audit", *arguments]),
        "resumed": resumed,
        "cpu_seconds": spent() - before,
        "seconds": time.perf_counter() - started,
        "memory_gib": most_memory(),
        "tokens": int(lms["tokens"].sum()),
        "cells": len(cells),
        "p_reference": [float(x) for x in cells["p_reference"].quantile([0, 0.5, 1])],
        "effects": json.loads(effects[kept].to_json(orient="records")),
        "told": [line for line in told.splitlines() if "Both probabilities" in line],
    }


def page(report: dict[str, Any]) -> str:
    """The results as Markdown."""
    made = report["provenance"]
    parts = [
        f"# A real language model\n\n`{made['command']}`, {made['cores']} CPU cores, {made['date'][:10]}. Gemma 3 "
        "270M, pretrained, from one GGUF file (Q4_K_M), dequantised to float32. CPU-seconds include compilation.\n"
    ]
    if found := report.get("clinic"):
        took = found["simulated"]
        parts.append(
            f"\n## The clinic\n\n{found['parameters'] / 1e6:.0f} million parameters, loaded in "
            f"{found['loaded']['cpu_seconds']:.0f} CPU-seconds. {found['units']:,} units in three worlds: "
            f"{found['tokens']:,} tokens (unit by unit it would be {found['reference_tokens']:,}), "
            f"{took['cpu_seconds']:.0f} CPU-seconds, at most {found['memory_gib']:.1f} GiB.\n\n"
            "| site | option | share of units |\n|---|---|---|\n"
        )
        for site, shares in found["shares"].items():
            parts += [f"| {site} | {option} | {share:.3f} |\n" for option, share in shares.items()]
        told = ", ".join(f"{value:+.4f} on P({option})" for option, value in found["ate"].items())
        parts.append(f"\nExact average effect of high instead of low levels of PD-L1: {told}.\n")
    for name in ("quick", "whole"):
        if not (found := report.get(name)):
            continue
        low, middle, high = found["p_reference"]
        resumed = (
            "; the last of several runs, each of which went on where the one before was" if found["resumed"] else ""
        )
        parts.append(
            f"\n## `{found['command']}`\n\n{found['tokens']:,} tokens in {found['cells']} wordings, "
            f"{found['cpu_seconds']:.0f} CPU-seconds ({found['seconds']:.0f} s in all{resumed}), at most "
            f"{found['memory_gib']:.1f} GiB. The probability of the reported outcome at the reference level is "
            f"{low:.3f} to {high:.3f} over wordings (median {middle:.3f}).\n\n"
            "| conveyed by | effect | value | interval | finds | q | discovery |\n" + "|---" * 7 + "|\n"
        )
        for row in found["effects"]:
            numbers = [
                float("nan") if row[c] is None else row[c] for c in ("value", "lower", "upper", "detectable", "q")
            ]
            value, lower, upper, finds, q = numbers
            parts.append(
                f"| {row['proxy']} | {row['effect']} | {value:+.4f} | {lower:+.4f} to {upper:+.4f} | {finds:.4f} | "
                f"{q:.2g} | {'yes' if row['discovery'] else 'no'} |\n"
            )
        parts += [f"\n{line}\n" for line in found["told"]]
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", required=True, help="GGUF file or directory")
    parser.add_argument("--only", nargs="+", choices=["clinic", "quick", "whole"], default=["clinic", "quick", "whole"])
    parser.add_argument("--keep", type=Path, help="a directory for what audits keep; default: a temporary one")
    options = parser.parse_args()
    report = json.loads(PAGE.read_text()) if PAGE.exists() else {}
    report["provenance"] = provenance() | {"command": "python benchmarks/real_model.py --lm model.gguf"}
    runs = {
        "clinic": lambda: clinic(options.lm),
        "quick": lambda: audited(QUICK, options.lm, options.keep),
        "whole": lambda: audited(WHOLE, options.lm, options.keep),
    }
    for name in options.only:
        report[name] = runs[name]()
        PAGE.write_text(json.dumps(report, indent=1) + "\n")
        PAGE.with_suffix(".md").write_text(page(report))


if __name__ == "__main__":
    main()
