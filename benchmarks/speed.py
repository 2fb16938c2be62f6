"""The language-model work of a simulation, four ways, on the same weights and cores.

    python benchmarks/speed.py                                 # GPT-2-small size, random weights, float32
    python benchmarks/speed.py --smoke --out /tmp/speed.json   # two narrow layers: does it run?

The 14-site oncology model, one world. ``loop``: the published procedure (reference_torch.py), one unit at a
time. ``batched``: PyTorch as good as one writes it in an afternoon (batched_torch.py): units together, the
cache of each carried from site to site, options together; ``merged``: units with the same text so far are
one row. ``in graph`` and ``staged``: ``simulate``. The loop's
scores are the published ones, the others' the sum over option and suffix. Rounds are interleaved, so that
ratios come from one run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units-loop", type=int, default=1, help="units of the loop in a round")
    parser.add_argument("--units-batched", type=int, default=64)
    parser.add_argument("--units-in-graph", type=int, default=32)
    parser.add_argument("--units-staged", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "speed.json")
    options = parser.parse_args(argv)
    # Before either library makes its threads: both then use these cores and no others.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    import torch
    from in_graph import locate
    from measured import provenance
    from models import oncology
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import sdscm_jax as sd

    torch.set_num_threads(options.threads)
    loop, batched = importlib.import_module("reference_torch"), importlib.import_module("batched_torch")
    with tempfile.TemporaryDirectory() as scratch:
        directory = locate("gpt2-small", options.smoke, Path(scratch))
        model, fused = (AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval() for _ in range(2))
        tokenizer, lm = AutoTokenizer.from_pretrained(directory), sd.load_lm(directory)
    member, published = oncology()[0], oncology("reference")[0]
    rows: dict[str, dict[str, Any]] = {}

    def record(name: str, units: int, run: Callable[[], tuple[float, float]]) -> None:
        """``run`` gives tokens, and seconds of compilation to leave out."""
        wall, cpu = time.perf_counter(), time.process_time()
        tokens, compiled = run()
        wall, cpu = time.perf_counter() - wall - compiled, time.process_time() - cpu - compiled
        row = rows.setdefault(name, {"units": units, "seconds": [], "cpu_seconds": []})
        row["tokens_per_unit"] = tokens / units
        row["seconds"].append(wall / units)
        row["cpu_seconds"].append(cpu / units)
        print(f"{name:20}{wall / units:9.3f} s/unit {cpu / units:9.3f} CPU s/unit {tokens / units:9.1f} tokens/unit")

    def run_loop(seed: int) -> tuple[float, float]:
        count = loop.Count()
        for _ in loop.run_units(model, tokenizer, published, options.units_loop, seed, count=count):
            pass
        return count.tokens, 0.0

    def run_batched(seed: int, merge: bool) -> tuple[float, float]:
        count = loop.Count()
        generator = torch.Generator().manual_seed(seed)
        left = options.units_batched
        while left > 0:
            batch = min(left, batched.UNITS)
            batched.run_batch(fused, lm.codec, member, batch, generator, count=count, merge=merge)
            left -= batch
        return count.tokens, 0.0

    def run_simulate(execution: str, units: int, seed: int) -> tuple[float, float]:
        size = 16 if execution == "in_graph" else None
        stats = sd.simulate(member, seed, units, lm, execution=execution, chunk=size, progress=False).stats
        return stats.get("positions", stats["tokens"]), stats["compile_seconds"]

    sd.simulate(member, 0, 16, lm, execution="in_graph", chunk=16, progress=False)  # compiles
    for units in options.units_staged:
        sd.simulate(member, 0, units, lm, progress=False)
    batched.fuse_activation(fused)
    run_batched(0, True)
    for seed in range(1, 1 + options.rounds):
        record("loop", options.units_loop, lambda seed=seed: run_loop(seed))
        for name, merge in (("batched", False), ("batched, merged", True)):
            record(name, options.units_batched, lambda seed=seed, merge=merge: run_batched(seed, merge))
        record(
            "in graph", options.units_in_graph, lambda seed=seed: run_simulate("in_graph", options.units_in_graph, seed)
        )
        for units in options.units_staged:
            record(f"staged, {units} units", units, lambda u=units, seed=seed: run_simulate("staged", u, seed))
    for name, row in rows.items():
        for base in ("loop", "batched", "batched, merged"):
            for figure in ("seconds", "cpu_seconds"):
                pairs = zip(rows[base][figure], row[figure], strict=True)
                row[f"{figure}_of_{base}_over_own"] = statistics.median(a / b for a, b in pairs)
        row["cpu_ms_per_token"] = 1e3 * statistics.median(row["cpu_seconds"]) / row["tokens_per_unit"]
        ratios = [
            f"{row[f'seconds_of_{base}_over_own']:.2f}x {base} (CPU {row[f'cpu_seconds_of_{base}_over_own']:.2f}x)"
            for base in ("loop", "batched", "batched, merged")
        ]
        print(f"{name:20}{', '.join(ratios)}, {row['cpu_ms_per_token']:.2f} CPU ms a token")
    report = {**provenance(), "threads": options.threads, "dtype": str(lm.dtype), "ways": rows}
    options.out.write_text(json.dumps(report, indent=2, default=str) + "\n")
    return report


if __name__ == "__main__":
    main()
