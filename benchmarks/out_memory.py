"""Peak memory of a simulation that comes back whole and of one that is written to a directory, by number of units.

    python benchmarks/out_memory.py                     # 10^6 and 10^7 units
    python benchmarks/out_memory.py --units 200000 --page /tmp/page.md

A tabulated program of three sites in two worlds besides the factual one, with all log-probabilities. Every row of the
table is a process of its own; a process's peak is the kernel's figure (VmHWM), and what it has before the run (imports,
and one call of 65,536 rows) stands beside it. With ``out=`` the run is measured, then reading it: all units batch
by batch, then one site.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODES = ("memory", "out")
WORLDS = [{"pdl1": "low"}, {"pdl1": "high"}]


def main(argv: list[str] | None = None) -> None:
    """Measure in children, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--page", type=Path, default=HERE / "results" / "out_memory.md")
    parser.add_argument("--child", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(measured(options.child, options.units[0])))
        return
    from measured import provenance

    rows = []
    for units in options.units:
        for mode in MODES:
            command = [sys.executable, __file__, "--child", mode, "--units", str(units)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append({"mode": mode, "units": units, **json.loads(done.stdout.splitlines()[-1])})
            print(rows[-1])
    options.page.write_text(page(rows, provenance()), encoding="utf-8")


def page(rows: list[dict[str, Any]], made: dict[str, Any]) -> str:
    """The results as Markdown."""
    what = {"memory": "in memory", "out": "`out=`"}
    lines = [
        "# What a run takes of memory, with `out=` and without",
        "",
        f"`{made['command']}`, {made['date']}, {made['system']}, {made['cores']} cores, "
        f"{', '.join(f'{name} {number}' for name, number in made['versions'].items())}. A tabulated program of three "
        "sites, in the factual world and two others, with all log-probabilities. MB of resident memory, the peak of a "
        "process: before the run, to its end, and when its result has been read.",
        "",
        "| | units | before | run | more than before | seconds | read batch by batch | then one site | on disk |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {what[row['mode']]} | {row['units']:,} | {row['before']:,.0f} | {row['run']:,.0f} | "
            f"{row['run'] - row['before']:,.0f} | {row['seconds']:.1f} | {_told(row.get('batches'))} | "
            f"{_told(row.get('site'))} | {_told(row.get('disk'))} |"
        )
    return "\n".join([*lines, ""])


def _told(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"


def measured(mode: str, units: int) -> dict[str, float]:
    """Peaks in MB of this process, and seconds."""
    import numpy as np

    import sdscm_jax as sd

    def clinic(lm: sd.LanguageModel) -> None:
        age = sd.sample("age", sd.Choice(lm, "A {}-year-old woman arrives.", ["25", "55", "75"]))
        pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels.", ["low", "high"], given=[age]))
        sd.sample("drug", sd.Choice(lm, "The choice is to {}.", ["wait", "treat"], given=[age, pdl1]))

    table = sd.tabulate(clinic, sd.load_lm())
    options: dict[str, Any] = {"worlds": WORLDS, "progress": False}
    # As many rows as go through the program together: what is compiled, and what one call takes.
    sd.simulate(table, 1, 1 << 16, **options)
    found = {"before": peak()}
    place = Path(tempfile.mkdtemp())
    started = time.perf_counter()
    try:
        data = sd.simulate(table, 0, units, out=place / "run" if mode == "out" else None, **options)
        found |= {"seconds": time.perf_counter() - started, "run": peak()}
        if mode == "out":
            total = sum(int((batch.values["drug"] == 1).sum()) for batch in data.batches())
            found["batches"] = peak()
            assert total == int(np.count_nonzero(data.values["drug"] == 1))
            found["site"] = peak()
            found["disk"] = sum(path.stat().st_size for path in (place / "run").iterdir()) / 1e6
    finally:
        shutil.rmtree(place)
    return found


def peak() -> float:
    """Most memory that this process has had, in MB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
