"""Commands of ``sdscm``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from .. import __version__
from ..page.spoken_numbers import fixed, signed
from .audit import audit
from .bench_commands import evaluate, generate
from .compilation_cache import keep_compiled
from .load import load_object
from .one_line import OneLine, checked_out, one_line_errors
from .output import LEVELS, answer, progress, say

if TYPE_CHECKING:
    from ..effects.individual import Contrast

app = typer.Typer(
    cls=OneLine,
    no_args_is_help=True,
    # What a user typed would be markup in messages about it.
    rich_markup_mode=None,
    help="Causal models whose structure is a Python function and whose mechanisms are a language model's.",
    epilog="What is compiled is kept in the user's cache directory; JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.",
)


def _print_version(given: bool) -> None:
    if given:
        say(f"sdscm {__version__}")
        answer(version=__version__)
        raise typer.Exit


@app.callback()
def every(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The result as one JSON object on stdout, instead of text.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No text on stdout and no progress; errors remain.")] = False,
    log_level: Annotated[
        str | None, typer.Option(help=f"Log to stderr, warnings too: {', '.join(LEVELS)}. Default: no log.")
    ] = None,
) -> None:
    """What every command takes, before or after its name; ``output.take`` looks at it."""
    keep_compiled()


@app.command(short_help="Simulate the oncology model; writes data and pictures.")
def demo(
    out: Annotated[Path, typer.Option(help="Directory to write.")] = Path("demo"),
    units: Annotated[int, typer.Option(help="Number of individuals.")] = 1000,
    lm: Annotated[str | None, typer.Option(help="Language model directory or hub id; default: embedded.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the wording and of the individuals.")] = 0,
) -> None:
    """Simulate the 14-variable oncology model: each individual in two worlds, PD-L1 low and high."""
    import jax

    from .. import checks
    from ..durable import put_text, refuse_others
    from ..effects.individual import contrast
    from ..effects.plot import plot_contrast
    from ..engine.provenance import card
    from ..engine.simulate import simulate
    from ..families import Family
    from ..models.language_model import load_lm
    from ..vignettes import oncology

    with one_line_errors(2):
        units, seed = checks.count(units, "--units"), checks.seed(seed, "--seed")
        out = checked_out(out)
    with one_line_errors():
        refuse_others(out, "a demo")
        model_lm = load_lm(lm)
        family = Family.from_vignette(oncology)
        model = family.member(seed)
        treatment, outcome = oncology.treatment, oncology.outcome
        low, high = oncology[treatment].options
        data = simulate(
            model,
            jax.random.key(seed),
            units,
            model_lm,
            worlds=[{treatment: low}, {treatment: high}],
            progress=progress(),
        )
        out.mkdir(parents=True, exist_ok=True)
        data.to_parquet(out / "data.parquet", logp=[treatment, outcome])
        data.graph.draw(out / "dag.svg", treatment=treatment, outcome=outcome)
        result = contrast(data, treatment, outcome, low, high)
        plot_contrast(result, out / "effects.png")
        files = {
            "data.parquet": f"a row for each unit, in the factual world and in those where {treatment} is set; its "
            "schema holds the facts above for programs (pyarrow.parquet.read_schema)",
            "dag.svg": "the causal graph",
            "effects.png": f"the effect of {treatment} on {outcome}",
        }
        put_text(out / "README.md", card(f"{units} units of the oncology model", data.provenance, files))
    say(f"{units} individuals, 14 variables, the factual world and do({treatment}={low} | {high})", style="bold")
    say(f"\nThe first one: {data.text(0)}\n")
    say(_contrast_table(result))
    least, most = (fixed(end, 2) for end in (result.propensity.min(), result.propensity.max()))
    say(
        f"propensity P({treatment}={high}): {least} to {most}; "
        f"{result.changed:.0%} of the individuals have another {outcome} in the other world"
    )
    if result.reason is not None:
        say(f"naive difference: not known, as {result.reason}")
    say(f"wrote {out}/data.parquet, {out}/dag.svg and {out}/effects.png (README.md says what they are)")
    answer(
        out=out, files=[*files, "README.md"], units=units, treatment=treatment, outcome=outcome, low=low, high=high,
        effect=result.to_pandas(), changed=result.changed,
        propensity=[result.propensity.min(), result.propensity.max()],
    )  # fmt: skip


@app.command(short_help="Print and draw the causal graph of a model function.")
def show(
    model: Annotated[str, typer.Argument(help="A model function, as module:function or path.py:function.")],
    lm: Annotated[str | None, typer.Option(help="Language model directory or hub id; default: embedded.")] = None,
    out: Annotated[Path | None, typer.Option(help="Draw the graph into this file (.svg, .png, .pdf).")] = None,
) -> None:
    """Print (and draw) the causal graph of a model function of one argument, the language model."""
    from ..dsl.analysis.graph import graph
    from ..models.language_model import load_lm

    with one_line_errors():
        found = graph(load_object(model, "a model"), load_lm(lm))
        table = Table("site", "kind", "parents", "template", "options")
        for site in found.sites:
            kind = f"{site.kind}, exogenous" if site.exogenous else site.kind
            template = str(site.template) if site.template else ""
            table.add_row(site.name, kind, ", ".join(site.parents), template, " | ".join(site.options))
        say(table)
        say(found.to_mermaid())
        if out is not None:
            found.draw(out)
            say(f"wrote {out}")
        answer(sites=found.to_pandas(), edges=found.edges, mermaid=found.to_mermaid(), out=out)


app.command(short_help="Write a benchmark: data sets with their true effects.")(generate)
app.command(short_help="Score estimators of effects on a benchmark.")(evaluate)
app.command(short_help="Measure the effect of an attribute on a decision.")(audit)


@app.command(short_help="List the language models that load.")
def models() -> None:
    """List the language models that load, on which weights they were tried, and which are refused."""
    from ..models.known_models import rows as known_model_rows

    headings = ("model_type", "", "models", "tried on", "in GGUF")
    table = Table(Column(headings[0], no_wrap=True), *headings[1:])
    names = ("model_type", "loads", "models", "tried_on", "in_gguf")
    rows = known_model_rows()
    for row in rows:
        table.add_row(*row)
    say(table)
    answer(models=[dict(zip(names, row, strict=True)) for row in rows])


def _contrast_table(result: Contrast) -> Table:
    table = Table(
        result.outcome,
        f"do({result.low})",
        f"do({result.high})",
        "true ATE [95%]",
        "naive difference",
        title=f"effect of {result.treatment}: {result.low} → {result.high}, on probabilities",
    )
    for option, row in result.to_pandas().iterrows():
        ate, lower, upper, naive = (signed(row[name]) for name in ("ate", "lower", "upper", "naive"))
        table.add_row(str(option), fixed(row["p_low"]), fixed(row["p_high"]), f"{ate} [{lower}, {upper}]", naive)
    return table
