"""Time until the first unit: the oncology model in graph and staged, without and with JAX's persistent cache.

    python benchmarks/compile.py

Every figure is of a new process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

PROGRAM = """
import json, sys, time
sys.path.insert(0, {here!r})
import jax
jax.config.update("jax_compilation_cache_dir", {cache!r})
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
import sdscm_jax as sd
from models import oncology
lm = sd.load_lm()
model, worlds = oncology()
started = time.perf_counter()
stats = sd.simulate(model, 0, 64, lm, worlds=worlds, execution={execution!r}, progress=False).stats
whole = time.perf_counter() - started
print(json.dumps({{"compile_seconds": stats["compile_seconds"], "run_seconds": stats["seconds"], "seconds": whole}}))
"""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    from measured import provenance

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "compile.json")
    options = parser.parse_args(argv)
    rows = {}
    for execution in ("in_graph", "staged"):
        with tempfile.TemporaryDirectory() as cache:
            for state in ("cold", "cached"):
                script = PROGRAM.format(here=str(HERE), cache=cache, execution=execution)
                done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
                rows[f"{execution}, {state}"] = json.loads(done.stdout.splitlines()[-1])
                print(f"{execution}, {state}: {rows[f'{execution}, {state}']}", flush=True)
    report = {**provenance(), "units": 64, "worlds": 3, "ways": rows}
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    return report


if __name__ == "__main__":
    main()
