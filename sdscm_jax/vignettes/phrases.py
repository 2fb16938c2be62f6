"""Texts of several phrases, each drawn by its own mechanism: free text whose probability is written down."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np

from .scm import Logits, Variable

Slot = tuple[str, ...]


def text_variable(
    name: str,
    written: str,
    slots: tuple[Slot, ...],
    wordings: tuple[str, ...],
    bases: tuple[Logits, ...],
    effects: Mapping[str, Mapping[str, tuple[Logits, ...]]],
) -> Variable:
    """A variable whose options are all texts of one phrase per slot; given the parents, the slots are independent.

    Args:
        name: the name of the variable.
        written: how the phrases become a text, with one blank per slot.
        slots: the phrases of each slot.
        wordings: templates of the sentence that the text stands in, each with one blank.
        bases: per slot, the logits of its phrases.
        effects: ``parent -> option of the parent -> per slot, logits to add``.

    >>> slots, bases = (("warm", "hot"), ("dry", "wet")), ((0, 0), (0, 1))
    >>> note = text_variable("note", "{} and {}", slots, ("It is {}.",), bases, {})
    >>> note.options
    ('warm and dry', 'warm and wet', 'hot and dry', 'hot and wet')
    >>> note.base
    (0.0, 1.0, 0.0, 1.0)
    """
    chosen = list(product(*(range(len(slot)) for slot in slots)))

    def summed(logits: tuple[Logits, ...]) -> Logits:
        return tuple(float(sum(row[k] for row, k in zip(logits, picks, strict=True))) for picks in chosen)

    return Variable(
        name,
        tuple(written.format(*(slot[k] for slot, k in zip(slots, picks, strict=True))) for picks in chosen),
        wordings,
        summed(bases),
        {parent: {option: summed(logits) for option, logits in table.items()} for parent, table in effects.items()},
        written=True,
    )


def effects_of_phrases(text: Variable, phrases: Mapping[str, Logits]) -> dict[str, Logits]:
    """What a text adds to the logits of a later variable: the sum of what its phrases add.

    Args:
        text: the variable that holds the texts.
        phrases: phrase -> K logits; phrases that are left out add nothing.

    >>> note = Variable("note", ("warm and dry", "hot and dry"), ("It is {}.",), base=(0.0, 0.0))
    >>> effects_of_phrases(note, {"hot": (0.5, 0.0), "dry": (0.0, 1.0)})
    {'warm and dry': (0.0, 1.0), 'hot and dry': (0.5, 1.0)}
    """
    for phrase in phrases:
        if not any(phrase in option for option in text.options):
            raise ValueError(f"{text.name}: no text has {phrase!r} in it")
    return {
        option: tuple(
            np.sum([logits for phrase, logits in phrases.items() if phrase in option], axis=0).round(12).tolist()
        )
        for option in text.options
        if any(phrase in option for phrase in phrases)
    }
