"""Peak memory of ``evaluate`` over the number of data sets: they are read one at a time.

python benchmarks/evaluate_memory.py           # five minutes
python benchmarks/evaluate_memory.py --quick
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measured import provenance

HERE = Path(__file__).resolve().parent
UNITS = 1000
CHILD = """
import re, sys
from pathlib import Path
from sdscm_jax import bench
bench.evaluate(sys.argv[1], sys.argv[2], estimators="zero", covariates="all", progress=False)
# Not getrusage: its peak may be that of the process before exec.
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def many(one: Path, where: Path, count: int) -> Path:
    """A benchmark of so many copies of a data set."""
    (where / "data").mkdir(parents=True)
    card = json.loads((one / "card.json").read_text(encoding="utf-8"))
    (where / "card.json").write_text(json.dumps(card | {"datasets": count}), encoding="utf-8")
    for i in range(count):
        shutil.copy(one / "data" / "part-00000.parquet", where / "data" / f"part-{i:05d}.parquet")
    return where


def main(argv: list[str] | None = None) -> dict[str, Any]:
    from sdscm_jax import bench

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "evaluate_memory.json")
    options = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        one = bench.generate(bench.family("school"), Path(place, "one"), units=UNITS, progress=False)
        for count in (10, 40) if options.quick else (10, 100, 400):
            source = many(one, Path(place, f"data{count}"), count)
            command = [sys.executable, "-c", CHILD, str(source), str(Path(place, f"out{count}"))]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append({"datasets": count, "units": UNITS, "peak_rss_mib": round(int(said) / 1024)})
            print(rows[-1], flush=True)
    found = {"provenance": provenance(), "rows": rows}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    main()
