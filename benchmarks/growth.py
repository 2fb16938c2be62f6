"""How tokens and seconds grow with units, worlds and sites, on the embedded language model.

python benchmarks/growth.py           # a quarter of an hour
python benchmarks/growth.py --quick
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measured import provenance
from models import WORDS, confounder, oncology, random_dag

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> dict[str, Any]:
    import sdscm_jax as sd

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "growth.json")
    options = parser.parse_args(argv)
    lm = sd.load_lm()
    rows: list[dict[str, Any]] = []

    def measure(what: str, model: Any, units: int, worlds: Any = None, **labels: Any) -> None:
        s = sd.simulate(model, 0, units, lm, worlds=worlds, logp=[], progress=False).stats
        figures = {key: s[key] for key in ("tokens", "trie_tokens", "positions", "reference_tokens", "seconds")}
        rows.append({"what": what, "units": units, **labels, **figures, "compile_seconds": s["compile_seconds"]})
        print(
            f"{what:28}{units:8,} units {labels!s:16}{s['tokens']:12,.0f} tokens{s['tokens'] / units:9.2f} a unit"
            f"{s['reference_tokens'] / s['tokens']:9.1f} times fewer{s['seconds']:9.1f} s",
            flush=True,
        )

    most = 3 if options.quick else 5
    story, story_worlds = confounder()
    for power in range(2, most + 1):
        measure("confounder, units", story, 10**power, story_worlds)
    clinic, _ = oncology()
    for power in range(2, most):
        measure("oncology, units", clinic, 10**power)
    table = sd.tabulate(story, lm)
    for power in range(5, 6 if options.quick else 8):
        s = sd.simulate(table, 0, 10**power, logp=[], progress=False).stats
        rows.append({"what": "tabulated confounder", "units": 10**power, "seconds": s["seconds"]})
        print(f"{'tabulated confounder':28}{10**power:8,} units{s['seconds']:30.2f} s", flush=True)
    dag = random_dag(8, chain=True)
    values = list(range(2))
    for count in (1, 2, 4, 8, 16):
        worlds = [{"x2": a, "x4": b, "x5": c, "x6": d} for a in values for b in values for c in values for d in values]
        measure("worlds", dag, 100, worlds[: count - 1] or None, others=count - 1)
    for sites in (4, 8, 16, 32, 40):
        # Every site is given the six before it: the text of all of them outgrows the language model.
        measure("sites", window_dag(sites), 200, sites=sites)
    report = {**provenance(), "rows": rows}
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    return report


def window_dag(sites: int) -> Any:
    """A model whose sites are given the six before them."""
    import sdscm_jax as sd

    def model(lm: sd.LanguageModel) -> None:
        phrases: list[sd.Phrase] = []
        for i in range(sites):
            options = [WORDS[(3 * i + k) % len(WORDS)] for k in range(3)]
            phrases.append(sd.sample(f"x{i}", sd.Choice(lm, "Then it is {}.", options, given=phrases[-6:])))

    return model


if __name__ == "__main__":
    main()
