"""What the host takes for each distinct token of a staged run, with a language model that does nothing.

    python benchmarks/host.py --out /tmp/host.json  # half a minute; results/host.json has it of two commits
    python benchmarks/host.py --out /tmp/host.json --tokens 1000 10000   # quickly

Units choose at random in a chain of eight sites, each of which is given all that was chosen before it; so nearly every
unit soon has a text of its own. Everything that a staged run does for its calls is done (finding what is new, slots,
packing, laying out, gathering answers) but the calls themselves. Memory by ``tracemalloc``, in a run of its own: what
is kept, and the most at any time.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
from measured import provenance

SITES, OPTIONS, TOKENS, ROWS = 8, 8, 6, 4096


class Idle:
    """In place of the language model: takes calls, and answers nothing but zeros."""

    mesh = None
    compile_seconds = 0.0

    def empty_buffer(self, size: int) -> Any:
        return None

    def step(self, pool: Any, buffer: Any, layouts: Any) -> Any:
        return None, True

    def edges(self, buffer: Any, reads: Any, size: int) -> np.ndarray:
        return np.zeros((len(reads), len(reads[0].rows)), np.float32)


def questions() -> list[Any]:
    """One question for each site; options have a token in common where they begin."""
    from sdscm_jax.dsl.scoring.score_query import Question
    from sdscm_jax.dsl.scoring.scorings.registry import parse_scoring

    rng = np.random.default_rng(0)
    texts = [
        tuple((100 * site + k % 3, *rng.integers(1000, 5000, TOKENS - 1).tolist()) for k in range(OPTIONS))
        for site in range(SITES)
    ]
    scoring = parse_scoring("sequence")
    return [
        Question((1,), tuple(texts[:site]), tuple(range(site)), (10_000 + site, 7, 9), texts[site], scoring)
        for site in range(SITES)
    ]


def run(units: int) -> tuple[int, float, Any]:
    """Ask all questions of that many units; distinct tokens, and seconds of the processor."""
    import sdscm_jax as sd
    from sdscm_jax.engine.scorer import Scorer

    asked, lm = questions(), sd.load_lm()
    contexts = np.random.default_rng(1).integers(0, OPTIONS, (units, SITES)).astype(np.int32)
    scorer = Scorer(lm, 1 << 44, 200 * units, call_tokens=8192)
    scorer.forward = Idle()  # type: ignore[assignment]
    scorer._pool = True
    started = time.process_time()
    # As a staged run does: so many rows go together, through one site after another.
    for start in range(0, units, ROWS):
        for site, question in enumerate(asked):
            scorer.edges(question, contexts[start : start + ROWS, :site])
    return scorer.counts.trie_tokens, time.process_time() - started, scorer


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    run(8)
    found, per_unit, rows = 0, 100.0, []
    for wanted in options.tokens:
        found, seconds, _ = run(max(1, round(wanted / per_unit)))
        # The next size is set by how many this one had.
        per_unit = found / max(1, round(wanted / per_unit))
        row: dict[str, Any] = {"tokens": found, "seconds": seconds, "microseconds_a_token": 1e6 * seconds / found}
        if wanted <= 10**6:
            tracemalloc.start()
            kept = run(max(1, round(wanted / per_unit)))[2]
            now, most = tracemalloc.get_traced_memory()
            row |= {"bytes_a_token": now / found, "bytes_a_token_at_most": most / found}
            tracemalloc.stop()
            del kept
        rows.append(row)
        print(row, flush=True)
    report = {**provenance(), "rows": rows}
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    return report


if __name__ == "__main__":
    main()
