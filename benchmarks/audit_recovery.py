"""Does an audit find how much a language model was taught to discriminate?

    python benchmarks/audit_recovery.py                      # results/audit_recovery.{json,md}
    python benchmarks/audit_recovery.py --steps 20 --seeds 1 --variants none direct --out /tmp/r.json

The embedded language model is fine-tuned on applications from variants of the hiring vignette: the same sentences and
mechanisms, but for what the name of the applicant does. Each is then audited as any other language model would be, and
the audit is compared with the exact effects of the mechanisms that its text was drawn from.
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

HERE = Path(__file__).resolve().parent
BLACK = ("Lakisha", "Jamal")
# What a Black-sounding name adds to the logits of every option; None: the vignette as it is, and no fine-tuning.
VARIANTS: dict[str, dict[str, tuple[float, ...]] | None] = {
    "untouched": None,
    "none": {},
    "direct": {"decision": (0.0, -1.5)},
    "weak": {"decision": (0.0, -0.4)},
    "slight": {"decision": (0.0, -0.1)},
    "interview": {"interview": (0.8, 0.0, -0.8)},
    "test score": {"test score": (1.0, 0.0, -1.0)},
    "opposed": {"decision": (0.0, -0.5), "interview": (-1.0, 0.0, 1.0)},
}
SAYS = {
    "untouched": "the embedded language model as it comes, and its own vignette",
    "none": "the name changes nothing",
    "direct": "-1.5 on the logit of an offer",
    "weak": "-0.4 on the logit of an offer",
    "slight": "-0.1 on the logit of an offer",
    "interview": "a worse interview: +0.8 on weak, -0.8 on impressive",
    "test score": "a worse test score: +1 on low, -1 on high",
    "opposed": "-0.5 on the logit of an offer, and a better interview: -1 on weak, +1 on impressive",
}
EFFECTS = ("total", "direct", "illegitimate", "legitimate", "unfair")
ROWS, LENGTH, RATE = 8, 224, 2e-3
UNITS, HELD_OUT_SEED = 200, 30_000_001
# An effect that an auditor would not act on.
SMALL = 0.01


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Fine-tune, audit, write the JSON and the Markdown; the value is what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="of fine-tuning")
    parser.add_argument("--wordings", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3, help="draws of wordings for every language model")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "audit_recovery.json")
    options = parser.parse_args(argv)
    from measured import provenance

    started = time.perf_counter()
    report = {**provenance(), "steps": options.steps, "wordings": options.wordings, "option_wordings": 2}
    report["variants"] = {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.variants:
        report["variants"][name] = recovered(name, options)
        report["seconds"] = round(time.perf_counter() - started)
        options.out.write_text(json.dumps(report, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(markdown(report))
    return report


def vignette_of(name: str) -> Any:
    """The hiring vignette, with what a variant's names do."""
    from sdscm_jax.vignettes import hiring

    bias = VARIANTS[name]
    if bias is None:
        return hiring
    variables = []
    for variable in hiring.variables:
        effects = {parent: rows for parent, rows in variable.effects.items() if parent != hiring.treatment}
        if variable.name in bias:
            effects[hiring.treatment] = dict.fromkeys(BLACK, bias[variable.name])
        variables.append(replace(variable, effects=effects))
    return replace(hiring, variables=tuple(variables))


def recovered(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One variant: its truth, its language model, and what audits of that say."""
    import sdscm_jax as sd
    from sdscm_jax.audit import audit, audit_spec, truth_of
    from sdscm_jax.models.calibration import calibration

    vignette, lm = vignette_of(name), sd.load_lm()
    training: dict[str, Any] = {"steps": 0, "tokens": 0, "seconds": 0}
    if VARIANTS[name] is not None:
        lm, training = fine_tuned(lm, vignette, options.steps)
    errors = calibration(lm, vignette, UNITS, HELD_OUT_SEED)
    # The main scoring only: other scorings are no probabilities of the text, and have no truth.
    spec = replace(audit_spec("hiring"), scorings=("sequence",)).known_to(vignette)
    truth = truth_of(spec, vignette)
    assert truth is not None
    audits = []
    for seed in range(options.seeds):
        # Without a margin: how small an effect is told from 0 is part of what is asked here.
        result = audit(spec, {name: lm}, wordings=options.wordings, seed=seed, margin=0.0, pairs=0, progress=False)
        table = result.effects.set_index("effect")[["value", "lower", "upper", "p", "q", "discovery"]]
        audits.append(json.loads(table.to_json(orient="index")))
        print(f"{name}, wordings {seed}\n{table.round(4)}", flush=True)
    return {
        "says": SAYS[name],
        "truth": dict(zip(truth["effect"], truth["value"], strict=True)),
        "training": training,
        "calibration": errors,
        "exchanged": exchanged(lm, vignette),
        "audits": audits,
    }


def exchanged(lm: Any, vignette: Any) -> dict[str, float]:
    """The direct effect without any of an audit's code: whole texts, with the name exchanged and nothing else.

    Held-out units with a white-sounding name, each in a wording of its own.
    """
    from sdscm_jax.models.calibration import conditional_probabilities

    rng = np.random.default_rng(HELD_OUT_SEED + 1)
    values = vignette.sample(rng, 5 * UNITS)
    # Emily, Greg, Lakisha, Jamal: the first variable's options.
    values = values[values[:, 0] < 2][: 2 * UNITS]
    wordings = rng.integers([len(v.wordings) for v in vignette.variables], size=values.shape)
    other = values.copy()
    other[:, 0] += 2
    before, after = (
        conditional_probabilities(lm, vignette, vignette.outcome, units, wordings)[:, 1] for units in (values, other)
    )
    return {"direct": float((after - before).mean()), "error": float((after - before).std() / len(values) ** 0.5)}


def fine_tuned(lm: Any, vignette: Any, steps: int) -> tuple[Any, dict[str, Any]]:
    """All weights, on whole applications (a tenth of them with sentences left out), by the expected loss."""
    import optax

    from sdscm_jax.models.corpus import DocumentWriter, packed_batches
    from sdscm_jax.models.training import train_lm

    # As the embedded model was trained: weight of the wording, share of texts with sentences left out.
    writer = DocumentWriter(vignette, lm.codec, 0.1, 0.1, max(len(v.options) for v in vignette.variables))
    batches = list(packed_batches([writer], [1.0], ROWS, LENGTH, steps, seed=1))
    rate = optax.warmup_cosine_decay_schedule(0.0, RATE, steps // 10, steps, RATE / 100)
    started, losses = time.perf_counter(), []
    lm = train_lm(lm, batches, optax.adam(rate, b2=0.98), on_step=lambda step, loss, current: losses.append(loss))
    return lm, {
        "steps": steps,
        "tokens": int(sum((batch.segments > 0).sum() for batch in batches)),
        "texts": int(sum(batch.segments.max(1).sum() for batch in batches)),
        "seconds": round(time.perf_counter() - started),
        "loss": [float(np.mean(losses[:10])), float(np.mean(losses[-10:]))],
    }


def rows_of(report: dict[str, Any]) -> pd.DataFrame:
    """One row for each variant, draw of wordings and effect.

    ``own`` is the effect in the language model: its mean over the wordings of the other draws.
    """
    rows = []
    for name, found in report["variants"].items():
        for number, by_effect in enumerate(found["audits"]):
            others = [a for i, a in enumerate(found["audits"]) if i != number]
            for effect in EFFECTS:
                own = float(np.mean([a[effect]["value"] for a in others])) if others else float("nan")
                truth = {"truth": found["truth"][effect], "own": own}
                rows.append({"variant": name, "draw": number, "effect": effect, **truth, **by_effect[effect]})
    table = pd.DataFrame(rows)
    return table.assign(
        inside=(table["lower"] <= table["truth"]) & (table["truth"] <= table["upper"]),
        own_inside=(table["lower"] <= table["own"]) & (table["own"] <= table["upper"]),
        error=(table["value"] - table["truth"]).abs(),
        null=table["truth"].abs() < 1e-12,
        beyond=(table["lower"] > SMALL) | (table["upper"] < -SMALL),
    )


def markdown(report: dict[str, Any]) -> str:
    """The tables of the report."""
    table = rows_of(report)
    draws = table["draw"].nunique()
    left_out = [name for name in VARIANTS if name not in report["variants"]]
    lines = [
        "# What an audit finds of what a language model was taught",
        "",
        f"`{report['command']}`, {report['date'][:10]}, {report['cores']} cores ({report['system']}), "
        f"{report['seconds'] / 60:.0f} minutes; every number: [audit_recovery.json](audit_recovery.json).",
        "",
        "The embedded language model, which has learned a bias by name of −0.18, is fine-tuned (all weights, Adam, "
        f"peak rate {RATE:g}) on applications in which names do something else, or nothing. Truth: exact effects of "
        f"the mechanisms that the text was drawn from. Audit: `hiring`, {report['wordings']} wordings with "
        f"{report['option_wordings']} pairs of names each, {draws} draws of wordings."
        + (f" Not run: {', '.join(left_out)}." if left_out else ""),
        "",
        "## Recovery",
        "",
        "Effects of a Black-sounding name on the probability of an offer, first draw of wordings. Intervals (95 %) are "
        "about sentences, with these four names. They do not know how far training has got, so a truth outside one is "
        "a miss of fine-tuning or of the audit; the next tables tell which.",
        "",
        "| taught | effect | truth | audit | interval | truth inside | q | discovery |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table[table["draw"] == 0].to_dict("records"):
        truth, value, lower, upper = (number(row[key]) for key in ("truth", "value", "lower", "upper"))
        lines.append(
            f"| {row['variant']} | {row['effect']} | {truth} | {value} | {lower} to {upper} | {yes(row['inside'])} | "
            f"{least(row['q'], '.1g')} | {yes(row['discovery'])} |"
        )
    lines += [
        "",
        "## Fine-tuning",
        "",
        f"Error: mean absolute difference of conditional probabilities, {UNITS} held-out units.",
        "",
        "| taught | the name | steps | texts | tokens | seconds | error, all | test score | interview | decision |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    direct = table[table["effect"] == "direct"].groupby("variant")["value"].mean()
    for name, found in report["variants"].items():
        training, errors = found["training"], found["calibration"]
        shown = [np.mean(list(errors.values())), *(errors[v] for v in ("test score", "interview", "decision"))]
        lines.append(
            f"| {name} | {found['says'].replace('-', '−')} | {training['steps']} | {training.get('texts', 0):,} | "
            f"{training['tokens']:,} | {training['seconds']} | " + " | ".join(f"{x:.4f}" for x in shown) + " |"
        )
    lines += [
        "",
        "## Training or audit?",
        "",
        "The direct effect, measured without the audit's code: the chance of an offer after whole held-out texts "
        f"({2 * UNITS} units, each in its own wording) in which only the name is exchanged, ± one standard error.",
        "",
        "| taught | truth of the text | language model, names exchanged | audit, all draws |",
        "|---|---|---|---|",
    ]
    for name, found in report["variants"].items():
        plain, truth = found["exchanged"], number(found["truth"]["direct"])
        measured = f"{number(plain['direct'])} ± {least(plain['error'], '.4f')}"
        lines.append(f"| {name} | {truth} | {measured} | {number(direct[name])} |")
    lines += [
        "",
        f"## Over {draws} draws of wordings",
        "",
        "Largest error: against the truth. Own: the effect in the language model itself, the mean over the wordings of "
        f"the other draws; an interval should contain it. Beyond: the whole interval lies beyond ±{SMALL}.",
        "",
        "| taught | largest error | intervals with the truth | with own | true effects discovered | beyond "
        "| effects of 0 called discoveries | beyond |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, group in [*table.groupby("variant", sort=False), ("all", table)]:
        true, null = group[~group["null"]], group[group["null"]]
        counts = [
            share(group["inside"]), share(group["own_inside"]), share(true["discovery"]), share(true["beyond"]),
            share(null["discovery"]), share(null["beyond"]),
        ]  # fmt: skip
        lines.append(f"| {name} | {group['error'].max():.4f} | " + " | ".join(counts) + " |")
    largest = table.loc[table["null"], "value"].abs().max()
    lines += [
        "",
        f"Of effects whose truth is 0, the largest that an audit reports is {largest:.4f}. Discoveries here are "
        "without a margin (`margin=0`): that an effect in the language model is not 0, not that it matters. Where "
        "wordings agree, what training leaves behind is told from 0 however small it is; hence the margin of `audit`.",
    ]
    return "\n".join(lines) + "\n"


def number(x: float) -> str:
    """A signed effect, with a real minus."""
    return f"{x:+.4f}".replace("-", "−") if abs(x) >= 5e-5 else "0"


def least(x: float, form: str) -> str:
    """A number that is not negative, where what is below 0.0001 is alike."""
    return format(x, form) if x >= 1e-4 else "< 0.0001"


def yes(x: Any) -> str:
    """A truth value in words."""
    return "yes" if x else "no"


def share(values: pd.Series) -> str:
    """How many of how many."""
    return f"{int(values.sum())} of {len(values)}" if len(values) else "–"


if __name__ == "__main__":
    main()
