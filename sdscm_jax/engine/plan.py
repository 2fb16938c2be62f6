"""``plan``: what a run will cost, before the language model is asked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..checks import flag
from ..dsl.handlers.external_scores import NotSeparable, Visit, language_models
from ..dsl.worlds.worlds import World
from ..errors import SDSCMError
from ..models.int8 import numbers
from ..models.language_model import LanguageModel
from ..page.forms import Form, Shown, counted
from .counts import Counts
from .forward import token_bytes
from .memory import default_memory
from .program import separate
from .run import Run
from .scorer import Counting
from .simulate import prepare
from .staged import ROWS, Staged
from .writer import CountingWriter

if TYPE_CHECKING:
    import pandas as pd

# Units that are drawn; what more of them cost is extrapolated.
SAMPLED = 2048
# Tokens of the calibration.
CALIBRATED = 4096


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """What a staged run will cost.

    Attributes:
        units: number of units.
        worlds: number of worlds, the factual one included.
        sites: one row a site: ``contexts`` that are scored, ``tokens``, ``flops``.
        tokens: that go through language models.
        reference_tokens: what one forward over its context and one over each option, anew for every
            unit, world and site, would take.
        flops: floating-point operations of the language models.
        kv_bytes: of the keys and values of all tokens; ``simulate`` keeps to ``memory``.
        seconds: time of the language models on this machine, without compilation; NaN where it was not
            measured.
    """

    units: int
    worlds: int
    sites: pd.DataFrame
    tokens: int
    reference_tokens: int
    flops: float
    kv_bytes: int
    seconds: float

    def _form(self) -> Form:
        times = f"{self.reference_tokens / max(1, self.tokens):.0f} times fewer than unit by unit"
        facts = [
            ("tokens", f"{self.tokens:,} ({times})"),
            ("computing", f"{self.flops:.3g} FLOP, {self.kv_bytes / 2**20:,.0f} MiB of keys and values"),
        ]
        if not math.isnan(self.seconds):
            facts.append(("time", f"about {self.seconds:,.0f} s on this machine, without compilation"))
        rows = [
            [str(site), *map(float, row)] for site, row in zip(self.sites.index, self.sites.to_numpy(), strict=True)
        ]
        title = f"Plan: {counted(self.units, 'unit')}, {counted(self.worlds, 'world')}"
        return Form(title, facts, ("site", *self.sites.columns), rows)

    def to_pandas(self) -> pd.DataFrame:
        """One row a site: see ``sites``."""
        return self.sites.copy()


def plan(
    model: Callable,
    n: int,
    *args: Any,
    do: World | None = None,
    worlds: Sequence[World] | None = None,
    evidence: Mapping[str, Any] | None = None,
    draws: int = 1,
    measure: bool = True,
) -> Plan:
    """Say what ``simulate`` with these arguments will cost.

    The program is run without its language models, with options drawn as if all were alike: where a
    language model prefers some of them, contexts repeat more often and the run costs less. How long free texts
    will be and where they part is not known: of them it is an upper bound, with every text as long as it may be and
    all different from the first token on. Beyond 2048 units the cost is extrapolated.

    Args:
        model, n, do, worlds, evidence, draws: as for ``simulate``.
        *args: the model's arguments.
        measure: time some 4,000 tokens on the language models, for ``seconds``.

    Raises:
        SDSCMError: the program cannot run staged; what ``simulate`` raises.

    >>> import jax, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> cost = plan(model, 1000, lm, measure=False)
    >>> cost.sites["contexts"].tolist(), cost.tokens < cost.reference_tokens / 100
    ([1, 2], True)
    """
    import pandas as pd

    measure = flag(measure, "measure")
    run, _ = prepare(model, jax.random.key(0), n, args, do, worlds, evidence, draws, ())
    lms = language_models(run.args)
    try:
        program = separate(run)
    except NotSeparable as error:
        raise SDSCMError(f"this program runs in graph, which is not planned: {error}") from error
    memory = default_memory(lms)
    sampled = min(run.rows, SAMPLED)
    counting = Staged(run, program, min(sampled, ROWS), memory, scorer=Counting, writer=CountingWriter)
    # One row has no halves, and nothing is extrapolated from it.
    first = max(1, sampled // 2)
    counting(np.arange(first))
    half = dict(counting.by_visit)
    if first < sampled:
        counting(np.arange(first, sampled))
    figures: dict[str, dict[str, float]] = {}
    for name, visit in program.visits.items():
        counts = _extrapolated(visit, half[name], counting.by_visit[name], sampled, run)
        row = figures.setdefault(visit.site, {"contexts": 0.0, "tokens": 0.0, "flops": 0.0, "kv": 0.0, "all": 0.0})
        lm = lms[visit.lm]
        row["contexts"] += counts["contexts"]
        row["tokens"] += counts["tokens"]
        row["flops"] += _flops(lm, counts["tokens"], counts["reads"], visit.question.longest)
        row["kv"] += counts["trie_tokens"] * token_bytes(lm)
        row["all"] += counts["reference_tokens"]
    table = pd.DataFrame.from_dict(figures, orient="index", columns=["contexts", "tokens", "flops", "kv", "all"])
    seconds = _seconds_per_token(run, program, memory, sampled) * table["tokens"].sum() if measure else float("nan")
    sites = table[["contexts", "tokens", "flops"]].astype({"contexts": int, "tokens": int})
    return Plan(
        units=run.units,
        worlds=run.worlds,
        sites=sites,
        tokens=int(sites["tokens"].sum()),
        reference_tokens=int(table["all"].sum()),
        flops=float(table["flops"].sum()),
        kv_bytes=int(table["kv"].sum()),
        seconds=float(seconds),
    )


def _extrapolated(visit: Visit, half: Counts, whole: Counts, sampled: int, run: Run) -> dict[str, float]:
    """Figures for all rows: what the second half of the sample added goes on being added."""
    further = (run.rows - sampled) / max(1, sampled - sampled // 2)
    names = ("contexts", "tokens", "trie_tokens", "reads", "reference_tokens")
    found = {name: getattr(whole, name) + further * (getattr(whole, name) - getattr(half, name)) for name in names}
    # There are no more contexts than the values of what is given allow.
    most = visit.question.most_contexts
    if found["contexts"] > most:
        share = most / found["contexts"]
        found.update({name: found[name] * share for name in names[:4]})
    return found


def _flops(lm: LanguageModel, tokens: float, reads: float, length: int) -> float:
    """Products count twice; the attention is to half of the longest text."""
    c = lm.config
    head = c.vocab_size * c.width
    body: float = sum(
        numbers(x)
        for name in ("blocks", *c.feeds, "streams", *dict(c.mixers))
        for x in jax.tree.leaves(lm.params.get(name, {}))
    )
    # (Of the vectors for each layer, half are looked up.)
    body += sum(numbers(x) for x in jax.tree.leaves(lm.params.get("layer_inputs", {}).get("projection", {})))
    if c.experts is not None:
        # A token goes through some of them only.
        stack = lm.params["sparse"] if "sparse" in lm.params else lm.params["blocks"]
        theirs = sum(numbers(x) for x in jax.tree.leaves(stack.get("experts", {})))
        body -= theirs * (1 - c.experts.chosen / c.experts.count)
    return tokens * 2 * (body + c.products(length / 2)) + reads * 2 * head


def _seconds_per_token(run: Run, program: Any, memory: int, sampled: int) -> float:
    """Time of a token in a run of a few units, after compilation."""
    staged = Staged(run, program, min(sampled, ROWS), memory)
    rows = 1
    while True:
        before = staged.stats()
        started = time.perf_counter()
        staged(np.arange(rows))
        passed, after = time.perf_counter() - started, staged.stats()
        tokens = after["tokens"] - before["tokens"]
        compiled = after["compile_seconds"] - before["compile_seconds"]
        if rows >= sampled or (tokens >= CALIBRATED and compiled == 0):
            return (passed - compiled) / max(1.0, tokens)
        staged.forget()
        if tokens < CALIBRATED:
            rows = min(sampled, 4 * rows)
