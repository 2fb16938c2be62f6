"""CPU seconds until the package and the command line are there, beside the libraries that they rest on.

    python benchmarks/imports.py

Every figure is the least of several new processes, the ways in turn, and counts user and system time of all threads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

LIBRARIES = "import jax, flax, numpyro"
# Flax's modules of today, which a language model is made of; what "import flax" loads does not have them.
WITH_NNX = "import jax, flax.nnx, numpyro"
PROGRAM = "import sdscm_jax as sd; sd.sample, sd.Choice, sd.Text, sd.load_lm, sd.simulate, sd.handlers"
COMMAND = "from sdscm_jax.cli import app; app(prog_name='sdscm')"
PROGRAM_NAMES = "the names of a first program"
WAYS = {
    "an interpreter": ["-c", ""],
    LIBRARIES: ["-c", LIBRARIES],
    WITH_NNX: ["-c", WITH_NNX],
    "import sdscm_jax": ["-c", "import sdscm_jax"],
    PROGRAM_NAMES: ["-c", PROGRAM],
    "sdscm --version": ["-c", COMMAND, "--version"],
    "sdscm --help": ["-c", COMMAND, "--help"],
    "sdscm generate --help": ["-c", COMMAND, "generate", "--help"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of one interpreter."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def main(argv: list[str] | None = None) -> dict[str, Any]:
    from measured import provenance

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "imports.json")
    options = parser.parse_args(argv)
    runs = [{name: cpu_seconds(arguments) for name, arguments in WAYS.items()} for _ in range(options.repeats + 1)]
    # The first run writes the byte code.
    least = {name: round(min(run[name] for run in runs[1:]), 3) for name in WAYS}
    ratios = {name: round(least[name] / least[LIBRARIES], 2) for name in ("import sdscm_jax", PROGRAM_NAMES, WITH_NNX)}
    ratios_nnx = {PROGRAM_NAMES: round(least[PROGRAM_NAMES] / least[WITH_NNX], 2)}
    report = {
        **provenance(), "repeats": options.repeats, "cpu_seconds": least,
        f"ratio to {LIBRARIES}": ratios, f"ratio to {WITH_NNX}": ratios_nnx,
    }  # fmt: skip
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return report


if __name__ == "__main__":
    main()
