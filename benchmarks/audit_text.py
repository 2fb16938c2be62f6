"""Do audits recover effects past a reasoning and through it, and how often do their intervals hold these?

    python benchmarks/audit_text.py                    # results/audit_text.{json,md}
    python benchmarks/audit_text.py --audits 50 --out /tmp/audit_text.json

Four language models without weights, whose laws are written down, write a reason and then an answer; so effects are
sums over the reasons. Units are drawn by the audit's own ``units_of``, as many as all audits have together; each audit
has units of its own, ``--draws`` for each of its ``--repetitions``, and its numbers are those of the audit's own
``measure`` and ``effects_table``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measured import provenance

import sdscm_jax as sd
from sdscm_jax.audit.drawn_units import units_of
from sdscm_jax.audit.infer import effects_table
from sdscm_jax.audit.measure import EFFECTS, measure
from sdscm_jax.audit.roles import roles_of
from sdscm_jax.audit.spec import AuditSpec
from sdscm_jax.audit.wordings import draw_wordings
from sdscm_jax.effects.sampled_source import of_simulation
from sdscm_jax.families import Family, FamilyVariable
from sdscm_jax.testing import mock_lm

HERE = Path(__file__).resolve().parent
REASONS, LEVELS = ("a", "b", "c"), ("old", "new")
# P(reason | level) ``[2, 3]``, P(yes | level, reason) ``[2, 3]``.
LAWS = {
    "past the reason": ([[0.3, 0.4, 0.3], [0.3, 0.4, 0.3]], [[0.2, 0.3, 0.4], [0.5, 0.6, 0.8]]),
    "through the reason": ([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]], [[0.2, 0.5, 0.8], [0.2, 0.5, 0.8]]),
    "half each": ([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]], [[0.1, 0.4, 0.5], [0.3, 0.6, 0.9]]),
    # Reasons change, answers to them differ, and what is gained by one is lost by another.
    "no effect": ([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]], [[0.2, 0.7, 0.2], [0.2, 0.7, 0.2]]),
}
SPEC = AuditSpec.from_dict(
    {
        "name": "reasons",
        "title": "Reasons",
        "question": "Does the level change the answer?",
        "attribute": {
            "name": "level",
            "levels": list(LEVELS),
            "proxies": {"word": {"templates": ["It is {}."], "phrases": {x: [x] for x in LEVELS}}},
        },
        "variables": [
            {"name": "reason", "kind": "text", "templates": ["I think ({})."], "parents": ["level"],
             "max_tokens": 4, "pattern": "[abc]"},
            {"name": "answer", "options": ["no", "yes"], "templates": ["So: {}."], "parents": ["level", "reason"]},
        ],
        "outcome": {"name": "answer", "option": "yes"},
        "mediators": {"not_legitimate": ["reason"]},
        "scorings": ["sequence"],
    }
)  # fmt: skip


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=500)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "audit_text.json")
    options = parser.parse_args(argv)
    started = time.perf_counter()
    rows = []
    for name, law in LAWS.items():
        rows += [{"language model": name, **row} for row in audits_of(law, options)]
        print(pd.DataFrame(rows).tail(3).to_string(index=False), flush=True)
    report = {
        **provenance(), "audits": options.audits, "repetitions": options.repetitions, "draws": options.draws,
        "seed": options.seed, "seconds": round(time.perf_counter() - started), "rows": rows,
    }  # fmt: skip
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    options.out.with_suffix(".md").write_text(page(report))
    return report


def audits_of(law: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each effect: the truth, the mean over audits, coverage and discoveries."""
    truth, lm = truth_of(law), answering(law)
    (wording,) = draw_wordings(SPEC, 2, 1, 0)[:1]
    cells = options.audits * options.repetitions
    units = units_of(SPEC, lm, wording, "sequence", cells * options.draws, options.seed, None)
    found = []
    for cell in range(cells):
        own = slice(cell * options.draws, (cell + 1) * options.draws)
        part = replace(
            units,
            values={site: x[own] for site, x in units.values.items()},
            log_probs={site: x[own] for site, x in units.log_probs.items()},
        )
        repetition = cell % options.repetitions
        found.append({
            "lm": cell // options.repetitions, "proxy": "word", "level": "new", "wording": repetition,
            "repetition": repetition, **measure(of_simulation(part), roles_of(SPEC), 1),
        })  # fmt: skip
    table = pd.concat(
        [
            effects_table(audit, 0.95, 0.05, 0.0, SPEC.absent, drawn=True)
            for _, audit in pd.DataFrame(found).groupby("lm")
        ]
    )
    rows = []
    for effect in ("total", "direct", "illegitimate"):
        own = table[table["effect"] == effect]
        known = own["lower"].notna()
        holds = (own["lower"] <= truth[effect]) & (truth[effect] <= own["upper"])
        exact = np.abs(own["value"] - truth[effect]) < 1e-5
        rows.append({
            "effect": effect, "truth": truth[effect], "mean": float(own["value"].mean()),
            "sd": float(own["value"].std()), "intervals": int(known.sum()),
            "coverage": float(holds[known].mean()) if known.any() else float("nan"),
            "exact without one": int((exact & ~known).sum()), "discoveries": float(own["discovery"].mean()),
        })  # fmt: skip
    return rows


def truth_of(law: Any) -> dict[str, float]:
    """Effects as sums over reasons."""
    reason, yes = map(np.asarray, law)
    mean = yes @ reason.T  # [level that the answer sees, level that the reason sees]
    found = {
        "total": mean[1, 1] - mean[0, 0], "direct": mean[1, 0] - mean[0, 0], "illegitimate": mean[1, 1] - mean[1, 0],
        "legitimate": 0.0, "unfair": mean[1, 1] - mean[0, 0],
    }  # fmt: skip
    assert set(found) == set(EFFECTS)
    return {effect: float(value) for effect, value in found.items()}


def answering(law: Any) -> sd.LanguageModel:
    """A language model with a law, made for the program in which the reasons are options: the same tokens."""
    reason, yes = map(np.asarray, law)
    variables = (
        FamilyVariable("level", LEVELS, SPEC.proxies[0].templates, uniform=True),
        FamilyVariable("reason", REASONS, SPEC.variable("reason").templates, ("level",)),
        SPEC.variable("answer"),
    )
    probs = {"reason": reason, "answer": np.stack([1 - yes, yes], -1)}
    return mock_lm(Family("twin", variables).member(0), probs=probs)


def page(report: dict[str, Any]) -> str:
    head = ("language model", "effect", "truth", "mean", "sd", "coverage", "discoveries")
    lines = []
    for row in report["rows"]:
        covered = f"{row['coverage']:.3f}" if row["intervals"] else f"no interval; {row['exact without one']} exact"
        lines.append(
            f"| {row['language model']} | {row['effect']} | {row['truth']:.3f} | {row['mean']:.4f} | {row['sd']:.4f} | "
            f"{covered} | {row['discoveries']:.3f} |"
        )
    null = next(row for row in report["rows"] if row["language model"] == "no effect" and row["effect"] == "total")
    audits, by = f"{report['audits']:,} audits", f"{report['repetitions']} repetitions of {report['draws']} units each"
    error = np.sqrt(0.95 * 0.05 / report["audits"])
    return f"""# Audits in which a language model writes a reason before it answers

`{report["command"]}`, {report["date"][:10]}, {report["cores"]} cores, {report["seconds"]} seconds; {audits} of
each language model, {by}; nominal coverage 0.95, false discovery rate 0.05, margin 0. The
Monte Carlo error of a coverage is {error:.3f}.

Four language models without weights: one answers past its reason, one only through it, one half each, and of
one the reasons change without an effect on the answer. Their laws are written down, so effects are sums over the
three reasons. Where an effect is the same in every unit there is no interval, and the number is exact. Wordings make
no difference here: what varies between repetitions is which texts were drawn. Of the audits without any effect,
{null["discoveries"]:.1%} call the total one a discovery.

| {" | ".join(head)} |
|{"---|" * len(head)}
{chr(10).join(lines)}
"""


if __name__ == "__main__":
    main()
