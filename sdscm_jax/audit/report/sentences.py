"""The summary: what the tables say, in sentences (plain text, with a lead that is printed bold)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..result import AuditResult, Pair
from .rows import Group, Row, agreement, as_rows, effects_of, groups, known_truth, mean_over_wordings
from .spoken import change, counted, findable, listed, near_limit, percent, probability, some_of, span
from .words import EFFECTS, WITNESS

# Fewer repetitions than these give an interval that is twice as long as of many.
FEW = 4


class Said(NamedTuple):
    """A sentence or several, with a lead."""

    lead: str
    text: str


def summary(result: AuditResult) -> list[Said]:
    """Every sentence of the summary."""
    effects = [_effect(result, group) for group in groups(result)]
    return [_asked(result), *_drawn(result), _discoveries(result), *effects, *_witness(result), *_differences(result)]


def level_of(result: AuditResult) -> str:
    """The intervals' level, such as ``95%``."""
    return percent(float(result.settings.get("level", 0.95)))


def written(result: AuditResult, note: str) -> str:
    """The sentence of the free text; empty where there is none."""
    text = result.spec.text
    return note.strip() if text is None or not note.strip() else text.template.replace("{}", note.strip())


def parted(found: Pair, number: int) -> list[str]:
    """Of every free text of a pair, where that of a level (by number) parts from the reference's.

    >>> from sdscm_jax.audit.result import FreeTexts
    >>> texts = FreeTexts("reason", ("so", "sad"), (-1, 1))
    >>> pair = Pair("lm", "name", 0, ("a", "b"), ("", ""), ("", ""), ("", ""), written=(texts,))
    >>> parted(pair, 1), parted(pair, 0)
    (['reason: “sad” parts from that of “a” at token 2.'], [])
    """
    if number == 0:
        return []
    return [
        f"{free.name}: “{free.texts[number].strip()}” "
        + (
            f"is that of “{found.levels[0]}”, token by token."
            if free.parts[number] < 0
            else f"parts from that of “{found.levels[0]}” at token {free.parts[number] + 1}."
        )
        for free in found.written
    ]


def _asked(result: AuditResult) -> Said:
    spec = result.spec
    combinations = max((len(group.of(result.cells)) for group in groups(result)), default=0)
    lms = [str(name) for name in result.lms["lm"]]
    proxies = [proxy.name for proxy in spec.proxies]
    chats = f" In a conversation: {listed(result.chatting)}." if result.chatting else ""
    return Said(
        "What was asked.",
        f"{counted(len(lms), 'language model')} ({listed(lms)}); {spec.attribute} conveyed in "
        f"{counted(len(proxies), 'way')} ({listed(proxies)}); up to {counted(combinations, 'combination')} of wordings "
        f"each.{chats} The reference is “{spec.levels[0]}”, and the probability is that of “{spec.option}” "
        f"({spec.outcome}).",
    )


def _drawn(result: AuditResult) -> list[Said]:
    """How often the audit was repeated, what limits that, and what the results are for."""
    told = []
    for proxy in result.spec.proxies:
        rows = [row for row in as_rows(result.design) if row["proxy"] == proxy.name]
        if not rows:
            continue
        count = int(rows[0]["repetitions"])
        fixed = [str(row["dimension"]) for row in rows if not row["drawn"]]
        scarce = [str(r["dimension"]) for r in rows if r["drawn"] and int(r["levels"]) == count]
        text = "nothing was drawn, so that there is no interval" if count == 1 else f"{count} independent repetitions"
        if count > 1 and scarce:
            text += f", no more as there are {count} of what is scarcest ({some_of(scarce)})"
        if fixed:
            text += f"; fixed, so that the results are for these alone: {listed(fixed)}"
        few = " Few repetitions make wide intervals." if 1 < count < FEW else ""
        told.append(f"By {proxy.name}: {text}.{few}")
    return [Said("What was drawn.", " ".join(told))] if told else []


def _witness(result: AuditResult) -> list[Said]:
    """Why some parts are no single numbers."""
    said = []
    for site, other in result.spec.witnesses:
        rows = result.effects[result.effects["effect"] == "unfair"]
        spans = [
            f"the unfair part is {span(float(row['least']), float(row['greatest']))} ({row['lm']}, {row['proxy']}, "
            f"{row['level']})"
            for row in as_rows(rows)
            if row["method"] == "bounds"
        ]
        bounds = "; ".join(spans) or "there are no bounds for them here"
        said.append(Said("No single number.", WITNESS.format(site, other, result.spec.outcome, other, bounds)))
    return said


def _effect(result: AuditResult, group: Group) -> Said:
    spec, found = result.spec, effects_of(result, group)
    lead, total = f"{group.lm}, by {group.proxy}.", found["total"]
    before, after = (probability(mean_over_wordings(result, group, c)) for c in ("p_reference", "p_level"))
    limits = span(float(total["lower"]), float(total["upper"]))
    text = (
        f"Changing “{spec.levels[0]}” to “{group.level}” changes the probability of “{spec.option}” from {before} to "
        f"{after}, by {change(float(total['value']))} ({level_of(result)} interval {limits})"
    )
    return Said(
        lead, " ".join(part for part in (text + _parts(result, found), *_remarks(result, group, total)) if part)
    )


def _parts(result: AuditResult, found: dict[str, Row]) -> str:
    spec = result.spec
    ways = {
        "direct": "is direct",
        "illegitimate": f"goes through {listed(spec.not_legitimate)} (not legitimate)",
        "legitimate": f"goes through {listed(spec.legitimate)} (legitimate)",
    }
    told = [
        f"{change(float(found[name]['value']))} {way}"
        for name, way in ways.items()
        if name in found and name not in spec.absent and np.isfinite(found[name]["value"])
    ]
    return f"; of this {listed(told)}." if told else "."


def _remarks(result: AuditResult, group: Group, total: Row) -> list[str]:
    same, count = agreement(result, group)
    near = near_limit(*(mean_over_wordings(result, group, c) for c in ("p_reference", "p_level")))
    said = [near] if near else []
    if float(total["lower"]) <= 0 <= float(total["upper"]):
        said.append("The interval contains 0, so that it is compatible with no effect.")
    if np.isfinite(float(total["value"])) and not np.isfinite(float(total["lower"])):
        said.append(_no_interval(int(total["repetitions"])))
    elif not np.isnan(float(total["detectable"])):
        said.append(
            f"The least effect that such an audit would find in four of five cases: "
            f"{findable(float(total['detectable']))}."
        )
    if count > 1:
        said.append(f"{same} of {count} combinations of wordings move it in the direction of their average.")
    truth = known_truth(result, group, "total")
    if truth is not None:
        said.append(f"In the mechanisms that text was generated from, it is {change(truth)}.")
    return said


def _no_interval(repetitions: int) -> str:
    if repetitions < 2:
        return "There is no interval, as nothing was drawn twice."
    return "There is no interval, as repetitions do not differ, which is no evidence that others would not."


def _discoveries(result: AuditResult) -> Said:
    table = result.effects[(result.effects["same_as"] == "") & ~result.effects["effect"].isin(result.spec.absent)]
    count, kept = len(table), int(table["discovery"].sum())
    rate = percent(float(result.settings.get("rate", 0.05)))
    by_effect = [
        f"{int(table.loc[table['effect'] == name, 'discovery'].sum())} of {int((table['effect'] == name).sum())} {name}"
        for name in EFFECTS
        if (table["effect"] == name).any()
    ]
    verb = "differs" if kept == 1 else "differ"
    tests = f"after correction for many tests (false discovery rate {rate})"
    margin = float(result.settings.get("margin", 0.0))
    far = f" by more than {margin:g}" if margin else ""
    text = f"Of {counted(count, 'effect')}, {kept} {verb} from 0{far} {tests}"
    totals = sorted((float(effects_of(result, group)["total"]["value"]), str(group)) for group in groups(result))
    reach = ""
    if len(totals) > 1:
        (low, lowest), (high, highest) = totals[0], totals[-1]
        reach = f"Total effects go from {change(low)} ({lowest}) to {change(high)} ({highest}). "
    return Said("In short.", f"{reach}{text}: {listed(by_effect)}.")


def _differences(result: AuditResult) -> list[Said]:
    lead, table = "Between language models.", result.differences
    if not table.empty:
        table = table[(table["same_as"] == "") & ~table["effect"].isin(result.spec.absent)]
    if table.empty:
        return [] if len(result.lms) > 1 else [Said(lead, "There is one only: nothing here tells how models differ.")]
    kept = [row for row in as_rows(table) if bool(row["discovery"])]
    count = counted(len(table), "difference")
    if not kept:
        return [Said(lead, f"Of {count} of effects, none remains after correction for many tests.")]
    kept.sort(key=lambda row: list(EFFECTS).index(str(row["effect"])))
    told = [
        f"the {row['effect']} effect of “{row['level']}” by {row['proxy']} is "
        f"{probability(abs(float(row['value'])))} {'lower' if float(row['value']) < 0 else 'higher'} according to "
        f"{row['lm']} than according to {row['other']} (difference {span(float(row['lower']), float(row['upper']))})"
        for row in kept[:6]
    ]
    more = f"; and {len(kept) - 6} more in the table" if len(kept) > 6 else ""
    remain = "1 remains" if len(kept) == 1 else f"{len(kept)} remain"
    text = f"Of {count} of effects, {remain} after correction for many tests: {'; '.join(told)}{more}."
    return [Said(lead, text)]
