"""``sdscm audit``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .. import checks
from ..audit import AUDITS, AuditResult, AuditSpec, audit_spec, write_audit
from ..audit import audit as run_audit
from ..dsl.scoring import parse_scoring
from ..errors import AuditError
from ..terminal import PlainConsole
from ..vignettes import hiring
from .errors import checked_out, one_line_errors
from .load import load_object

console = PlainConsole()


def audit(
    spec: Annotated[str, typer.Argument(help=f"One of {', '.join(AUDITS)}; a YAML file; or file.py:SPEC.")],
    out: Annotated[Path, typer.Option(help="Directory of the report; a killed run goes on there.")] = Path("audit"),
    lm: Annotated[
        list[str] | None, typer.Option(help="Language model directory or hub id, or 'embedded'; may be repeated.")
    ] = None,
    wordings: Annotated[int, typer.Option(help="Wordings for each proxy of the attribute.")] = 16,
    option_wordings: Annotated[int, typer.Option(help="Phrases and option texts within each wording.")] = 2,
    scoring: Annotated[str | None, typer.Option(help="How options are scored, with commas; the first leads.")] = None,
    without: Annotated[str | None, typer.Option(help="Sentences to leave out, with commas.")] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="No free text after the outcome.")] = False,
    pairs: Annotated[int, typer.Option(help="Example units in the report.")] = 3,
    level: Annotated[float, typer.Option(help="Confidence of intervals.")] = 0.95,
    rate: Annotated[float, typer.Option(help="False discovery rate.")] = 0.05,
    margin: Annotated[float, typer.Option(help="Change of a probability that is too small to matter.")] = 0.005,
    seed: Annotated[int, typer.Option(help="Seed of the wordings.")] = 0,
) -> None:
    """Which effect has an attribute on a decision, according to a language model? Writes a report."""
    with one_line_errors(2):
        wordings = checks.count(wordings, "--wordings", AuditError, least=2)
        option_wordings = checks.count(option_wordings, "--option-wordings", AuditError)
        pairs = checks.count(pairs, "--pairs", AuditError, least=0)
        level, rate = checks.share(level, "--level", AuditError), checks.share(rate, "--rate", AuditError)
        margin = checks.real(margin, "--margin", AuditError, least=0, below=1)
        seed, out = checks.seed(seed, "--seed", AuditError), checked_out(out)
        for name in _names(scoring):
            parse_scoring(name, "--scoring", AuditError)
    with one_line_errors(kept=out):
        asked = _changed(_spec(spec), scoring, without, no_text)
        # The text that the embedded language model was trained on came from these mechanisms.
        embedded = all(source == "embedded" for source in lm or asked.lms)
        result = run_audit(
            asked,
            lm or None,
            wordings=wordings,
            option_wordings=option_wordings,
            seed=seed,
            level=level,
            rate=rate,
            margin=margin,
            pairs=pairs,
            out=out,
            truth=hiring if embedded else None,
        )
        write_audit(out, result)
    console.print(asked.title, style="bold")
    console.print(f"{asked.question}\n")
    for heading, table in _tables(result):
        console.print(heading, style="bold")
        console.print(table)
    told = (
        f"{level:.0%} intervals over {wordings} wordings; discoveries are beyond ±{margin:g}, at a false discovery "
        f"rate of {rate:.0%}"
    )
    console.print(told)
    console.print(f"wrote {out}/report.html, {out}/report.md and the tables behind them")


def _spec(name: str) -> AuditSpec:
    if ":" not in name:
        return audit_spec(name)
    found = load_object(name, "a specification")
    if isinstance(found, Mapping):
        return AuditSpec.from_dict(found)
    if not isinstance(found, AuditSpec):
        raise AuditError(f"{name!r} is neither an AuditSpec nor a mapping, but {type(found).__name__}")
    return found


def _names(text: str | None) -> tuple[str, ...]:
    """What an option lists, with commas."""
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _changed(spec: AuditSpec, scoring: str | None, without: str | None, no_text: bool) -> AuditSpec:
    if without:
        spec = spec.without(*_names(without))
    if scoring:
        spec = replace(spec, scorings=_names(scoring))
    return replace(spec, text=None) if no_text else spec


def _tables(result: AuditResult) -> Iterator[tuple[str, Table]]:
    """A heading and a table for each language model, proxy and level."""
    for (lm, proxy, name), group in result.effects.groupby(["lm", "proxy", "level"], sort=False):
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("effect", no_wrap=True)
        for heading in ("value", "lower", "upper", "q"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("")
        for row in group.to_dict("records"):
            numbers = (f"{row[of]:+.3f}" for of in ("value", "lower", "upper"))
            table.add_row(row["effect"], *numbers, f"{row['q']:.2g}", "discovery" if row["discovery"] else "")
        spec = result.spec
        yield f"{lm}, {proxy}: {spec.levels[0]} → {name}, on P({spec.outcome} = {spec.option})", table
