"""How often do the intervals of audits hold the effect, and how often is an effect found where there is none?

    python benchmarks/audit_coverage.py                # results/audit_coverage.{json,md}
    python benchmarks/audit_coverage.py --audits 600 --seeds 5 --out /tmp/coverage.json

A population of name pairs and of sentences' templates is known: each has an effect of its own
(Gaussian), combinations have more, and the mean over the population is 0. An audit draws from it. Its wordings are
dealt out by the audit's own ``draw_wordings``, and its interval and p are those of the audit's own ``interval``.
Language models share half of the variance of what they make of a name or a sentence, and so do scorings; a difference
between two is looked at in the same wordings.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measured import provenance

from sdscm_jax.audit.interval import interval, mean_of, p_value
from sdscm_jax.audit.spec import AuditSpec
from sdscm_jax.audit.wordings import Wording, design_of, draw_wordings

HERE = Path(__file__).resolve().parent
STATISTICS = ("total", "language models", "scorings")
# Designs of one cell, so that no result hangs on one deal.
DEALS = 20
LEVEL = 0.95


@dataclass(frozen=True)
class Population:
    """What matters how much: standard deviations.

    Attributes:
        name: of a pair of names.
        template: of a template, for each sentence.
        both: of a name in a template, for each sentence.
        rest: of a combination of wordings.
    """

    name: float
    template: float
    both: float
    rest: float


POPULATIONS = {
    "names": Population(0.03, 0.0, 0.0, 0.01),
    "both": Population(0.03, 0.02, 0.01, 0.01),
    "sentences": Population(0.0, 0.03, 0.0, 0.01),
    "combinations": Population(0.0, 0.0, 0.0, 0.03),
}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Every cell, for every seed; writes the JSON and the Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=10_000, help="simulated, for each cell and seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "audit_coverage.json")
    options = parser.parse_args(argv)
    started, rows = time.perf_counter(), []
    for seed in options.seeds:
        for names, wordings, population in itertools.product((2, 4, 6, 8, 20), (8, 16, 64), POPULATIONS):
            rows += cell("names", seed, options.audits, names, 10, 3, wordings, population)
        for templates, sentences, population in itertools.product((2, 4, 10), (3, 5), POPULATIONS):
            for names in (1, 20):
                if names > 1 or POPULATIONS[population].name == 0:
                    rows += cell("sentences", seed, options.audits, names, templates, sentences, 16, population)
        print(f"seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    report = {
        **provenance(), "audits": options.audits, "seeds": options.seeds, "level": LEVEL,
        "populations": {name: vars(p) for name, p in POPULATIONS.items()},
        "seconds": round(time.perf_counter() - started), "cells": rows,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(page(report))
    return report


def spec_of(names: int, templates: int, sentences: int) -> AuditSpec:
    """An audit with so many names for each level, templates of each sentence, and sentences."""
    texts = [f"Sentence {i} is {{}}." for i in range(templates)]
    first, *others = [f"x{i}" for i in range(sentences)]
    return AuditSpec.from_dict({
        "name": "coverage", "title": "Coverage", "question": "How often?",
        "attribute": {"name": first, "levels": ["a", "b"], "proxies": {"name": {
            "templates": texts, "phrases": {level: [f"{level}{i}" for i in range(names)] for level in "ab"}}}},
        "variables": [
            {"name": v, "options": ["no", "yes"], "templates": texts, "parents": [first, *others[:i]]}
            for i, v in enumerate(others)
        ],
        "outcome": {"name": others[-1], "option": "yes"}, "mediators": {"legitimate": others[:-1]},
    })  # fmt: skip


def cell(
    varied: str, seed: int, audits: int, names: int, templates: int, sentences: int, wordings: int, population: str
) -> list[dict[str, Any]]:
    """Coverage and false discoveries of one design."""
    spec = spec_of(names, templates, sentences)
    design = design_of(spec, spec.proxies[0], wordings, 2)
    key = {
        "varied": varied, "seed": seed, "names": names, "templates": templates, "sentences": sentences,
        "wordings": wordings,
        "population": population, "repetitions": design.repetitions, "asked": design.cells,
    }  # fmt: skip
    rng = np.random.default_rng([seed, names, templates, sentences, wordings, list(POPULATIONS).index(population)])
    found: dict[str, list[np.ndarray]] = {name: [] for name in STATISTICS}
    for deal in range(DEALS):
        drawn = draw_wordings(spec, wordings, 2, seed * 1000 + deal)
        repetitions = np.array([w.repetition for w in drawn])
        size = audits // DEALS
        shared, one, other = (simulated(rng, POPULATIONS[population], spec, drawn, size) for _ in range(3))
        mine, theirs = ((shared + own) / np.sqrt(2) for own in (one, other))
        scored = (mine + simulated(rng, POPULATIONS[population], spec, drawn, size)) / np.sqrt(2)
        for name, values in zip(STATISTICS, (mine, mine - theirs, scored - mine), strict=True):
            mean = mean_of(values, repetitions)
            lower, upper = interval(mean, LEVEL)
            found[name].append(np.stack([(lower <= 0) & (upper >= 0), p_value(mean) < 1 - LEVEL, upper - lower]))
    rows = []
    for name, deals in found.items():
        inside, false, width = np.concatenate(deals, 1)
        told = {
            "statistic": name,
            "coverage": inside.mean(),
            "false": false.mean(),
            "width": float(np.nanmedian(width)),
        }
        rows.append(key | {k: v if isinstance(v, str) else round(float(v), 4) for k, v in told.items()})
    return rows


def simulated(
    rng: np.random.Generator, population: Population, spec: AuditSpec, drawn: list[Wording], audits: int
) -> np.ndarray:
    """What each wording says in each audit, ``[audits, N]``: their mean over the population is 0."""
    (proxy,) = spec.proxies
    place = np.array([proxy.phrases["b"].index(w.phrases["b"]) for w in drawn])
    templates = np.array([w.templates for w in drawn])
    values = rng.normal(0, population.name, (audits, len(proxy.phrases["b"])))[:, place]
    values = values + rng.normal(0, population.rest, (audits, len(drawn)))
    for column in templates.T:
        values += rng.normal(0, population.template, (audits, len(proxy.templates)))[:, column]
        pairs, number = np.unique(np.stack([column, place]), axis=1, return_inverse=True)
        values += rng.normal(0, population.both, (audits, pairs.shape[1]))[:, number.ravel()]
    return values


def page(report: dict[str, Any]) -> str:
    """The results as Markdown."""
    error = (0.05 * 0.95 / report["audits"]) ** 0.5
    lines = [
        "# Coverage of the intervals of audits",
        "",
        f"`{report['command']}`, {report['date'][:10]}, {report['cores']} cores, {report['seconds']} seconds; "
        f"{report['audits']:,} audits for each number, seeds {' and '.join(map(str, report['seeds']))}; nominal 0.95 "
        f"and 0.05, with a Monte Carlo error of {error:.4f}. Every number: [audit_coverage.json](audit_coverage.json).",
        "",
        "Standard deviations, of the effect that is audited: "
        + "; ".join(
            f"*{name}*: names {p['name']:g}, templates of each sentence {p['template']:g}, name in template "
            f"{p['both']:g}, combinations {p['rest']:g}"
            for name, p in report["populations"].items()
        )
        + ". Each population is audited for a total effect, for the difference between two language models, and for "
        "that between two scorings. Repetitions of the audit share no name and no template; there are no more than "
        "there are names or templates.",
        "",
    ]
    for title, chosen in (
        ("Name pairs, 10 templates of each of 3 sentences", "names"),
        ("Templates and sentences, 16 wordings", "sentences"),
    ):
        rows = [r for r in report["cells"] if r["varied"] == chosen]
        lines += [f"## {title}", "", _head(), "|" + "---|" * 12]
        grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for r in rows:
            key = (r["names"], r["templates"], r["sentences"], r["wordings"], r["population"])
            grouped.setdefault(key, []).append(r)
        for key, group in grouped.items():
            told = [f"{group[0]['asked']}", f"{group[0]['repetitions']}"]
            for statistic in STATISTICS:
                own = [r for r in group if r["statistic"] == statistic]
                told.append(" ".join(f"{r['coverage']:.3f}" for r in own))
                if statistic == "total":
                    told.append(" ".join(f"{r['false']:.3f}" for r in own))
            told.append(f"{np.mean([r['width'] for r in group if r['statistic'] == 'total']):.3f}")
            lines.append("| " + " | ".join([*map(str, key), *told]) + " |")
        lines.append("")
    coverage = np.array([r["coverage"] for r in report["cells"]])
    false = np.array([r["false"] for r in report["cells"]])
    lines += [
        "## All",
        "",
        f"{len(coverage)} numbers: coverage {coverage.min():.3f} to {coverage.max():.3f}; an effect found where there "
        f"is none {false.min():.3f} to {false.max():.3f}.",
    ]
    return "\n".join(lines) + "\n"


def _head() -> str:
    own = [
        "coverage, total",
        "found, total",
        "coverage, difference of language models",
        "coverage, difference of scorings",
    ]
    columns = ["names", "templates", "sentences", "wordings", "population", "asked", "repetitions", *own]
    return "| " + " | ".join([*columns, "median width"]) + " |"


if __name__ == "__main__":
    main()
