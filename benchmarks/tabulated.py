"""How fast units are drawn from a tabulated model, and what of that is noise.

    python benchmarks/tabulated.py                      # 10^7 units
    python benchmarks/tabulated.py --units 200000 --out /tmp/t.json

The model is the five-variable ``confounder`` vignette on the embedded language model. The two kinds of
table are measured: one of every context, and (under an intervention that fixes a parent) one of the
contexts that are left. Noise is measured by itself, against the same draws made by ``jax.random``;
that they are equal bit for bit is checked.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
CHUNKS = (1 << 12, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18)
FIXED = {"weather": 0}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, print the table, write the JSON; the value is what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=None, help="rows that go together; by default simulate's choice")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "tabulated.json")
    options = parser.parse_args(argv)
    from measured import provenance

    import sdscm_jax as sd
    from sdscm_jax.families import Family

    lm = sd.load_lm()
    member = Family.from_vignette(sd.vignettes.confounder).member(0)
    models = {"dense": member, "sparse": sd.handlers.do(member, FIXED)}
    report: dict[str, Any] = {
        **provenance(),
        "load_average_at_start": os.getloadavg(),
        "units": options.units,
        "sites": {site.name: len(site.options) for site in sd.graph(member, lm).sites},
        "tables": {},
        "simulate": [],
        "chunks": [],
    }
    tables = {}
    for kind, model in models.items():
        started = time.perf_counter()
        tables[kind] = sd.tabulate(model, lm)
        report["tables"][kind] = {
            "seconds": time.perf_counter() - started,
            "contexts": {name: len(tables[kind].rows(name)[0]) for name in tables[kind].names},
        }
    for kind, table in tables.items():
        for logp in ([], None):
            report["simulate"].append(simulated(table, kind, options.units, options.chunk, logp, options.rounds))
            print_row(report["simulate"][-1])
    few = min(options.units, 1 << 20)
    for chunk in CHUNKS:
        if chunk <= few:
            report["chunks"].append(simulated(tables["dense"], "dense", few, chunk, [], options.rounds))
            print_row(report["chunks"][-1])
    report["noise"] = noise(few, options.rounds)
    print(json.dumps(report["noise"], indent=2))
    report["largest_resident_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    return report


def simulated(table: Any, kind: str, units: int, chunk: int | None, logp: Any, rounds: int) -> dict[str, Any]:
    """Medians over several runs of one kind, after one that compiles."""
    import sdscm_jax as sd

    sd.simulate(table, 0, min(units, max(CHUNKS)), chunk=chunk, logp=logp, progress=False)
    runs = []
    for key in range(1, 1 + rounds):
        started, cpu_started = time.perf_counter(), time.process_time()
        data = sd.simulate(table, key, units, chunk=chunk, logp=logp, progress=False)
        runs.append((time.perf_counter() - started, time.process_time() - cpu_started))
        used = data.stats["chunk"]
        del data
    seconds, cpu_seconds = (statistics.median(column) for column in zip(*runs, strict=True))
    return {
        "table": kind,
        "log_probs": "none" if logp == [] else "all",
        "units": units,
        "chunk": used,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "units_per_second": units / seconds,
        "units_per_cpu_second": units / cpu_seconds,
    }


def print_row(row: dict[str, Any]) -> None:
    what = (
        f"{row['table']:6} table, log-probabilities: {row['log_probs']:4}, {row['units']:,} units by {row['chunk']:,}"
    )
    rate = row["units_per_cpu_second"] / 1e6
    print(f"{what}: {row['seconds']:6.2f} s, {row['cpu_seconds']:6.2f} CPU s, {rate:5.2f} million a CPU second")


def noise(units: int, rounds: int) -> dict[str, Any]:
    """CPU seconds for a key and five Gumbels of each unit: the package's, and ``jax.random``'s own."""
    import jax
    import jax.numpy as jnp
    from jax.extend.random import threefry_2x32

    from sdscm_jax.dsl.noise.streams import fold_in, option_gumbels, text_words

    options = ("a", "b", "c", "d", "e")
    words = jnp.asarray(np.array([text_words(option, "option") for option in options]))
    key = jax.random.key(0)

    def ours(unit: Any) -> Any:
        return option_gumbels(fold_in(key, unit), options, ())

    def of_jax(unit: Any) -> Any:
        own = jax.random.fold_in(key, unit)

        def of_option(pair: Any) -> Any:
            # (``fold_in`` with 64 bits.)
            folded = jax.random.wrap_key_data(threefry_2x32(jax.random.key_data(own), pair))
            return jax.random.gumbel(folded, (), jnp.float32, mode="high")

        return jax.vmap(of_option)(words)

    count = min(units, 1 << 16)
    numbers = jnp.arange(count)
    found: dict[str, Any] = {"units": count}
    draws = {}
    for name, draw in (("package", ours), ("jax.random", of_jax)):
        run, found[name] = compiled(jax.vmap(draw), numbers)
        draws[name] = np.asarray(run(numbers))
        found[name]["cpu_seconds_per_million_units"] = statistics.median(
            cpu_seconds(lambda run=run: run(numbers).block_until_ready()) for _ in range(5 * rounds)
        ) * (1e6 / count)
    # The same law from other bits.
    assert abs(float(draws["package"].mean() - draws["jax.random"].mean())) < 8 / np.sqrt(count)
    return found


def compiled(function: Callable, *args: Any) -> tuple[Any, dict[str, float]]:
    import jax

    started = time.process_time()
    run = jax.jit(function).lower(*args).compile()
    return run, {"compile_cpu_seconds": time.process_time() - started}


def cpu_seconds(run: Callable[[], Any]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


if __name__ == "__main__":
    main()
