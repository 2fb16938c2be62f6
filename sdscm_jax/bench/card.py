"""The data card of a benchmark: what the files are, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..durable import put_text
from ..families import Family
from ..page.markdown_text import code_span, front_matter, mermaid_label
from ..page.markdown_text import plain_markdown as safe
from . import column_names

CARD = "card.json"


def write_card(directory: Path, family: Family, what: Mapping[str, Any]) -> None:
    """Write ``README.md`` (for people, with the metadata that hubs of data sets read) and ``card.json``."""
    put_text(directory / CARD, json.dumps(what, indent=1, ensure_ascii=False) + "\n")
    put_text(directory / "README.md", _page(family, what))


def _page(family: Family, what: Mapping[str, Any]) -> str:
    treatment, outcome = family.treatment or "", family.outcome or ""
    low, high = family.arms or ("", "")
    option = family.outcome_option or ""
    under = column_names.world(treatment, high)
    lm = what["language_model"]
    licence = family.licence or "unknown"
    numbers = {v.name: i for i, v in enumerate(family.variables)}
    texts = [v.name for v in family.variables if v.written is not None]
    graph = "\n".join(
        f'  {i}["{mermaid_label(v.name)}"]' + "".join(f"\n  {numbers[p]} --> {i}" for p in v.parents)
        for i, v in enumerate(family.variables)
    )
    rows = [
        (column_names.DATASET, "number of the data set; data sets of one `wording` share all mechanisms"),
        (column_names.WORDING, "number of the family's member: which paraphrase of each sentence is used"),
        (column_names.UNIT, "number of the individual"),
        (
            "SITE",
            f"the option of each variable ({safe(', '.join(v.name for v in family.variables))}) as observed"
            + (f"; of {safe(', '.join(texts))} the free text that the language model wrote" if texts else ""),
        ),
        (f"SITE|{under}", f"the same individual's option or text had {safe(f'{treatment!r} been set to {high!r}')}"),
        (column_names.log_probability(treatment, high), "log-probability of an option given the individual's causes"),
        (column_names.log_probability(outcome, option, under), "the same of the outcome in a world"),
        (
            column_names.PROPENSITY,
            f"P({safe(f'{treatment} = {high}')}) against {safe(low)}, given the individual's causes",
        ),
        (
            column_names.individual(outcome, option),
            f"the individual's true effect ({safe(f'{high} against {low}')}) on the probability of an option",
        ),
        (
            column_names.exact(outcome, option, under),
            "exact probability of an option under an intervention, given all that the treatment does not cause"
            + (f"; {safe(', '.join(family.mediators))} summed out" if family.mediators else ""),
        ),
    ]
    if any(name in texts for name in family.mediators):
        # Nobody sums over all texts.
        del rows[-1]
    drawn = "chosen among its options, or written as free text," if texts else "chosen among its options"
    table = "\n".join(f"| {code_span(name, cell=True)} | {meaning} |" for name, meaning in rows)
    return f"""---
license: {front_matter(licence.lower())}
pretty_name: {front_matter(f"{family.name} (SD-SCM benchmark)")}
tags: [causal-inference, treatment-effects, synthetic]
configs:
- config_name: default
  data_files: data/*.parquet
---

# {safe(family.name)}: {what["datasets"]} data sets of {what["units"]} individuals with known effects

{safe(family.description)}

Drawn from sequence-driven structural causal models (arXiv 2411.08019): the graph below is given, and each variable
is {drawn} by a language model that is shown the sentences of its parents. Every individual is
there as observed and in the worlds where **{safe(treatment)}** is set to *{safe(low)}* and to *{safe(high)}*, with
the same noise. The outcome is **{safe(outcome)}**. Nothing here is about a real person.

| | |
| --- | --- |
| language model | {code_span(str(lm["source"]), cell=True)}, SHA-256 {lm["fingerprint"]} |
| data sets, individuals of each | {what["datasets"]}, {what["units"]} |
| wordings | {what["wordings"]}, used in turn |
| seed of the individuals | {what["seed"]} |
| scoring of options; coupling of worlds | {what["scoring"]}; {what["coupling"]} |
| hidden in the setting `observed` | {safe(", ".join(family.hidden)) or "nothing"} |
| licence of the wordings | {safe(licence)} |
| made by | {", ".join(f"{k} {v}" for k, v in what["versions"].items())} |

## Columns

| column | what |
| --- | --- |
{table}

Options are dictionary-encoded in their order. `pandas.read_parquet("data")`, `datasets.load_dataset("parquet",
data_files="data/*.parquet")` and R's `arrow::open_dataset("data")` read all data sets at once. Score estimators on
them with `sdscm evaluate DIR --out REPORT`. `card.json` holds the same facts and the whole family for programs.

## Graph

```mermaid
flowchart TD
{graph}
```
"""
