"""``sdscm audit``."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..catalogue import AUDITS
from ..errors import AuditError
from ..page.spoken_numbers import fixed, signed
from .load import load_object
from .one_line import checked_out, one_line_errors
from .output import answer, progress, say

if TYPE_CHECKING:
    import pandas as pd

    from ..audit import AuditResult, AuditSpec

# Wordings of each proxy in a first look: the fewest of which repetitions have an interval that says something.
QUICK = 3


def audit(
    spec: Annotated[str, typer.Argument(help=f"One of {', '.join(AUDITS)}; a YAML file; or file.py:SPEC.")],
    out: Annotated[Path, typer.Option(help="Directory of the report; a killed run goes on there.")] = Path("audit"),
    lm: Annotated[
        list[str] | None, typer.Option(help="Language model directory or hub id, or 'embedded'; may be repeated.")
    ] = None,
    wordings: Annotated[int, typer.Option(help="Wordings for each proxy of the attribute, at most.")] = 16,
    option_wordings: Annotated[int, typer.Option(help="Phrases and option texts within each wording, at most.")] = 2,
    scoring: Annotated[str | None, typer.Option(help="How options are scored, with commas; the first leads.")] = None,
    without: Annotated[str | None, typer.Option(help="Sentences to leave out, with commas.")] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="No free text after the outcome.")] = False,
    pairs: Annotated[int, typer.Option(help="Example units in the report.")] = 3,
    draws: Annotated[int, typer.Option(help="Units of each wording, where a variable is free text.")] = 100,
    level: Annotated[float, typer.Option(help="Confidence of intervals.")] = 0.95,
    rate: Annotated[float, typer.Option(help="False discovery rate.")] = 0.05,
    margin: Annotated[float, typer.Option(help="Change of a probability that is too small to matter.")] = 0.005,
    seed: Annotated[int, typer.Option(help="Seed of the wordings.")] = 0,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A first look: three wordings of each proxy, one scoring, no free text."),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be asked, how long it takes and what effect could be found.")
    ] = False,
) -> None:
    """Which effect has an attribute on a decision, according to a language model? Writes a report."""
    from .. import checks
    from ..audit import audit as run_audit
    from ..audit import audit_cost, audit_plan, write_audit
    from ..audit.truth import vignette_of
    from ..dsl.scoring.scorings.registry import parse_scoring

    with one_line_errors(2):
        wordings = checks.count(wordings, "--wordings", AuditError, least=2)
        option_wordings = checks.count(option_wordings, "--option-wordings", AuditError)
        pairs = checks.count(pairs, "--pairs", AuditError, least=0)
        draws = checks.count(draws, "--draws", AuditError, least=2)
        level, rate = checks.share(level, "--level", AuditError), checks.share(rate, "--rate", AuditError)
        margin = checks.real(margin, "--margin", AuditError, least=0, below=1)
        seed, out = checks.seed(seed, "--seed", AuditError), out if plan else checked_out(out)
        for name in _names(scoring):
            parse_scoring(name, "--scoring", AuditError)
    if quick:
        wordings, option_wordings, pairs, no_text = min(wordings, QUICK), 1, min(pairs, 1), True
    with one_line_errors(kept=out):
        asked = _changed(_spec(spec), scoring, without, no_text)
        asked = replace(asked, scorings=asked.scorings[:1]) if quick else asked
        # The text that the embedded language model was trained on came from these mechanisms.
        read = vignette_of(asked) if all(source == "embedded" for source in lm or asked.lms) else None
        if plan:
            asked = asked if read is None else asked.known_to(read)
            design = audit_plan(asked, wordings=wordings, option_wordings=option_wordings, level=level, margin=margin)
            _print_plan(design)
            cost = audit_cost(
                asked, lm or None, wordings=wordings, option_wordings=option_wordings, seed=seed, draws=draws
            )
            _print_cost(cost)
            answer(plan=design, cost=cost)
            return
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
            draws=draws,
            out=out,
            progress=progress(),
            truth=read,
        )
        write_audit(out, result)
    answer(
        out=out, title=asked.title, question=asked.question, effects=result.effects, lms=result.lms,
        settings=result.settings,
    )  # fmt: skip
    say(asked.title, style="bold")
    say(f"{asked.question}\n")
    for heading, table in _tables(result):
        say(heading, style="bold")
        say(table)
    for told in _told(result):
        say(told)
    say(f"wrote {out}/report.html, {out}/report.md and the tables behind them")


def _print_cost(table: pd.DataFrame) -> None:
    """What each language model would be asked, and for how long."""
    for row in table.to_dict("records"):
        minutes = row["seconds"] / 60
        long = f"{minutes:,.0f} minutes" if minutes >= 2 else f"{row['seconds']:,.0f} seconds"
        say(f"{row['lm']}: about {row['tokens']:,} tokens in {row['cells']} wordings, {long} on this machine")


def _print_plan(table: pd.DataFrame) -> None:
    """What would be asked, and what could be found, by how much effects differ between repetitions."""
    for proxy, rows in table.groupby("proxy", sort=False):
        first = rows.to_dict("records")[0]
        say(f"{proxy}: {_repeated(first)}; {first['combinations']} combinations", style="bold")
        if first["fixed"]:
            say(f"fixed, so that results are for these alone: {first['fixed']}")
        if first["repetitions"] < 2:
            continue
        shown = Table(box=None, padding=(0, 2, 0, 0))
        shown.add_column("if effects differ between repetitions by", justify="right")
        shown.add_column("it finds, in four of five cases, effects of", justify="right")
        for row in rows.to_dict("records"):
            shown.add_row(f"{row['spread']:g}", _findable(row["detectable"]))
        say(shown)


def _repeated(row: Mapping[Hashable, Any]) -> str:
    """How often an audit is repeated, and what limits that."""
    if row["repetitions"] < 2:
        return "nothing is drawn, so that there is no interval"
    names = str(row["scarcest"]).split(", ")
    others = f" and {len(names) - 1} others" if len(names) > 1 else ""
    scarce = f" (no more, as there are {row['repetitions']} of {names[0]}{others})" if row["scarcest"] else ""
    return f"{row['repetitions']} independent repetitions{scarce}"


def _findable(value: float) -> str:
    return "none that is possible" if value == float("inf") else f"±{fixed(value)}"


def _told(result: AuditResult) -> Iterator[str]:
    """What the numbers are of."""
    from ..audit import audit_plan
    from ..audit.report.rows import groups, mean_over_wordings
    from ..audit.report.spoken import near_limit

    settings = result.settings
    plan = audit_plan(
        result.spec, wordings=settings["wordings"], option_wordings=settings["option_wordings"], spreads=[1.0]
    )
    for row in plan.to_dict("records"):
        fixed = f"; fixed: {row['fixed']}" if row["fixed"] else ""
        yield f"{row['proxy']}: {_repeated(row)}{fixed}"
    yield (
        f"{settings['level']:.0%} intervals over repetitions; finds: the least effect that such an audit tells from 0 "
        "in four of five cases"
    )
    yield f"discoveries are beyond ±{settings['margin']:g}, at a false discovery rate of {settings['rate']:.0%}"
    for group in groups(result):
        near = near_limit(*(mean_over_wordings(result, group, c) for c in ("p_reference", "p_level")))
        if near:
            yield f"{group.lm}, {group.proxy}, {group.level}: {near}"
    if result.spec.witnesses:
        pairs = ", ".join(f"{site} depends on {other}" for site, other in result.spec.witnesses)
        yield f"parts that depend on how chance is shared between worlds have bounds, if any: {pairs}"


def _spec(name: str) -> AuditSpec:
    from ..audit import AuditSpec, audit_spec

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
        for heading in ("value", "lower", "upper", "finds", "q"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("")
        for row in group.to_dict("records"):
            numbers = [signed(row[of]) for of in ("value", "lower", "upper")]
            if row["method"] == "bounds":
                numbers[0] = f"{signed(row['least'])} to {signed(row['greatest'])}"
            said = "discovery" if row["discovery"] else ""
            said = f"{said} (the {row['same_as']} effect)".strip() if row["same_as"] else said
            table.add_row(row["effect"], *numbers, fixed(row["detectable"]), f"{row['q']:.2g}", said)
        spec = result.spec
        yield f"{lm}, {proxy}: {spec.levels[0]} → {name}, on P({spec.outcome} = {spec.option})", table
