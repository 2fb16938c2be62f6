"""Choices whose scores are looked up in tables, and what becomes of them where a table has none."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from ...errors import ScoreError, SiteError
from ...models.language_model import absent_lm
from ..analysis.structure import Site
from ..handlers.site_messenger import SiteMessenger
from ..language.choice import Choice
from ..language.mechanism import Mechanism
from ..language.messages import mechanism_at
from ..language.phrase import Phrase
from ..language.text_phrase import UNKNOWN
from ..scoring.contexts import Table


class LookUp(SiteMessenger):
    """Gives choices their scores from tables.

    Args:
        table_of: the table of a site and its choice.
    """

    def __init__(self, table_of: Callable[[str, Mechanism], Table]):
        self.table_of = table_of
        super().__init__()

    def _process(self, msg: dict[str, Any]) -> None:
        if mechanism_at(msg) is not None:
            msg["fn"] = self._answered(msg["fn"], msg["name"])

    def _inside(self, step: tuple[Any, int] | None) -> AbstractContextManager:
        return LookUp(self.table_of)

    def _answered(self, fn: Any, name: str, natural: bool = True) -> Any:
        """A distribution whose choice has its scores; one that an intervention replaced has them on demand."""
        if isinstance(fn, Mechanism):
            return self._with_scores(fn, name) if natural else self._on_demand(fn, name)
        base, replaced = getattr(fn, "base_dist", None), getattr(fn, "replaced", None)
        if base is None and replaced is None:
            return fn
        new = copy.copy(fn)
        if base is not None:
            new.base_dist = self._answered(base, name, natural)
        if replaced is not None:
            new.replaced = new.base_dist if replaced is base else self._answered(replaced, name, natural=False)
        return new

    def _on_demand(self, choice: Mechanism, name: str) -> Mechanism:
        """The choice; its table is made where it is asked."""
        if not isinstance(choice, Choice) or choice.known_scores is not None:
            return choice
        return choice.asking(lambda asked: _looked_up(self.table_of(name, asked), asked, name))

    def _with_scores(self, choice: Mechanism, name: str) -> Mechanism:
        if isinstance(choice, Choice) and (choice.known_scores is not None or not choice.scoring.asks_lm):
            # (A loop sends its sites on, after the scores of every step were looked up.)
            return choice
        table = self.table_of(name, choice)
        assert isinstance(choice, Choice)
        try:
            return TabledChoice.of(choice, table, _looked_up(table, choice, name))
        except SiteError as error:
            # An intervention further out may replace the choice; then nobody asks.
            return choice.asking(partial(_refuse, error))


class TabledChoice(Choice):
    """A choice whose scores come from a table."""

    _looked_up: tuple[Table, Array]

    @classmethod
    def of(cls, choice: Choice, table: Table, scores: Array) -> TabledChoice:
        new = cls.__new__(cls)
        # Without the language model, of which a loop would make a copy for every step.
        new.__dict__.update(choice.replace(known_scores=scores, lm=absent_lm(), _looked_up=(table, scores)).__dict__)
        return new

    @property
    def table(self) -> Table | None:
        """The table that the scores come from; None where a handler or JAX has put others in their place."""
        table, scores = self.__dict__.get("_looked_up", (None, None))
        return table if scores is self.known_scores else None


def _refuse(error: SiteError, choice: Choice) -> Array:
    raise error


def _looked_up(table: Table, choice: Choice, name: str) -> Array:
    """Scores of a choice from its table.

    Raises:
        SiteError: the context is known and not in the table.
    """
    indices = [phrase.index for phrase in choice.phrases]
    if not any(isinstance(index, jax.core.Tracer) for index in indices):
        columns = np.broadcast_arrays(*(np.asarray(index) for index in indices), np.zeros((), int))[:-1]
        contexts = np.stack(columns, -1).reshape(-1, len(columns)) if columns else np.zeros((1, 0), int)
        lacking = contexts[table.lacks(contexts)]
        if len(lacking):
            numbers = iter(lacking[0].tolist())
            said = [_sentence(item, next(numbers)) if isinstance(item, Phrase) else str(item) for item in choice.given]
            raise SiteError(
                f"site {name!r}: {' '.join(said)!r} is not among the {len(table.contexts)} contexts in its table; "
                "tabulate with contexts= that have it"
            )
    return table.look_up(indices)


def _sentence(phrase: Phrase, number: int) -> str:
    return phrase.sentences[number] if 0 <= number < len(phrase.options) else f"(option {number})"


def check_known(sites: Sequence[Site], values: Mapping[str, np.ndarray]) -> None:
    """Refuse values that are none: of sites in contexts that no table has, or that are given what has no value.

    Args:
        sites: the sites of a model.
        values: site name -> array ``[n, worlds, *site shape]``.

    Raises:
        ScoreError: a site of a language model has no value, or a number that was drawn is NaN; the message says in how
            many rows, and in which context.
    """
    phrases = {site.name: site.phrase for site in sites}
    for site in sites:
        if site.name not in values:
            continue
        bad = np.argwhere(_without_value(site, np.asarray(values[site.name])))
        if not bad.size:
            continue
        row, world = (int(i) for i in bad[0][:2])
        said: list[str] = []
        for parent in site.text_parents:
            phrase = phrases[parent]
            if isinstance(phrase, Phrase) and phrase.options and parent in values:
                said += [_sentence(phrase, int(number)) for number in np.ravel(values[parent][row, world])]
        why = (
            "its probabilities are no numbers, something that it is given is no option, or it was tabulated and this "
            "context is not in its table (contexts=…)"
            if site.phrase is not None
            else "the number drawn is NaN"
        )
        rows = len(np.unique(bad[:, 0]))
        raise ScoreError(
            f"site {site.name!r} has no value in {rows} of {len(values[site.name])} rows, the first (row {row}, world "
            f"{world}) after {' '.join(said)!r}: {why}"
        )


def _without_value(site: Site, values: np.ndarray) -> np.ndarray:
    if site.kind == "text":
        return values == UNKNOWN
    if site.options:
        return (values < 0) | (values >= len(site.options))
    if site.kind == "deterministic" or values.dtype.kind != "f":
        # What a program computes may be anything.
        return np.zeros(values.shape, bool)
    return np.isnan(values)
