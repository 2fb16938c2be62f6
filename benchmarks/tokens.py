"""Tokens that go through the language model, against the distinct ones that must (the trie).

    python benchmarks/tokens.py              # the embedded language model
    python benchmarks/tokens.py --units 50   # quickly

``tokens`` counts real ones, those that were computed twice included; ``positions`` counts the padding
as well. ``unit by unit`` is what one forward over its context and one over each option, anew for every
unit, world and site, takes (the published procedure). In graph, a unit's own tokens: see in_graph_flops.py.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measured import provenance
from models import confounder, oncology, random_dag

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> dict[str, Any]:
    import sdscm_jax as sd

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "tokens.json")
    options = parser.parse_args(argv)
    lm = sd.load_lm()
    dag = random_dag(20)
    models = {
        "oncology": oncology(),
        "confounder": confounder(),
        "random DAG of 20 sites": (dag, [{"x5": 0}, {"x5": 1}]),
        "random DAG of 20 sites, 16 MiB": (dag, [{"x5": 0}, {"x5": 1}]),
        "oncology, 16 MiB": oncology(),
    }
    rows = {}
    print(f"{'':32}{'tokens':>10}{'trie':>10}{'ratio':>7}{'padded':>8}{'unit by unit':>14}{'fewer':>7}{'seconds':>9}")
    for name, (model, worlds) in models.items():
        memory = 16 << 20 if name.endswith("MiB") else None
        s = sd.simulate(model, 0, options.units, lm, worlds=worlds, memory=memory, progress=False).stats
        rows[name] = {
            **{key: s[key] for key in ("tokens", "trie_tokens", "positions", "recomputed", "reference_tokens")},
            "ratio": s["tokens"] / s["trie_tokens"],
            "ratio_with_padding": s["positions"] / s["trie_tokens"],
            "times_fewer": s["reference_tokens"] / s["tokens"],
            "seconds": s["seconds"],
        }
        row = rows[name]
        print(
            f"{name:32}{row['tokens']:10,.0f}{row['trie_tokens']:10,.0f}{row['ratio']:7.3f}"
            f"{row['ratio_with_padding']:8.3f}{row['reference_tokens']:14,.0f}{row['times_fewer']:7.1f}{row['seconds']:9.1f}"
        )
    report = {**provenance(), "units": options.units, "models": rows}
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    return report


if __name__ == "__main__":
    main()
