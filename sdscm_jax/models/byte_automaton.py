"""Automata over bytes, as tables: of stop strings and of patterns; and what is asked of such tables.

A table is int ``[S, C]``: the state after each letter in each state, -1 where that is forbidden. State 0 is the start.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np

from ..errors import install

# Steps to a goal that cannot be reached.
FAR = 1 << 30
# A pattern with more states than this would take gigabytes.
_MOST_STATES = 1 << 13
# Digits are those of ASCII, as who writes \d means them.
_CLASSES = {
    r"\d": "[0-9]",
    r"\D": "[^0-9]",
    r"\w": "[A-Za-z0-9_]",
    r"\W": "[^A-Za-z0-9_]",
    r"\s": r"[\x20\t\n\r\f\v]",
    r"\S": r"[^\x20\t\n\r\f\v]",
}


def stop_table(stop: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Aho and Corasick's automaton: int32 ``[B, 256]``, and the stop string ``1 + j`` that ends in a state."""
    children: list[dict[int, int]] = [{}]
    way = [0]
    for j, string in enumerate(stop):
        node = 0
        for byte in string:
            if byte not in children[node]:
                children[node][byte] = len(children)
                children.append({})
                way.append(0)
            node = children[node][byte]
        way[node] = way[node] or 1 + j
    table = np.zeros((len(children), 256), np.int32)
    # The state of the longest proper suffix of a state's string that is a state too.
    shorter = np.zeros(len(children), np.int32)
    queue = [0]
    for node in queue:
        table[node] = table[shorter[node]]
        way[node] = way[node] or way[shorter[node]]
        for byte, child in children[node].items():
            shorter[child] = table[node, byte] if node else 0
            table[node, byte] = child
            queue.append(child)
    ways = np.array(way, np.int32)
    table[ways > 0] = -1
    return table, ways


def pattern_table(regex: str) -> tuple[np.ndarray, np.ndarray]:
    """The automaton of a regular expression: int32 ``[B, 256]``, and which states match, bool ``[B]``.

    Raises:
        ValueError: with the reason.
    """
    try:
        from outlines_core import Index, Vocabulary
    except ImportError as error:
        message = f"free text that matches a pattern needs the extra: {install('constrained')}"
        raise ImportError(message) from error
    # A class may stand in a class.
    regex = re.sub(r"\\.", lambda found: _CLASSES.get(found[0], found[0]), regex)
    # Each byte is a token. The real tokens are walked here, because outlines-core refuses a vocabulary
    # in which one of several alternatives cannot be spelled, and lists each token at each state.
    try:
        index = Index(regex, Vocabulary(256, {bytes([byte]): [byte] for byte in range(256)}))
    except ValueError as error:
        raise ValueError(_reason(regex, error)) from error
    transitions, start = index.get_transitions(), index.get_initial_state()
    if len(transitions) > _MOST_STATES:
        raise ValueError(f"it has {len(transitions)} states; narrower classes or counts have fewer")
    number = {state: n for n, state in enumerate(sorted(transitions, key=lambda state: state != start))}
    table = np.full((len(number), 256), -1, np.int32)
    for state, row in transitions.items():
        for byte, after in row.items():
            if byte < 256:
                table[number[state], byte] = number[after]
    final = np.zeros(len(number), bool)
    final[[number[state] for state in index.get_final_states()]] = True
    return table, final


def _reason(regex: str, error: ValueError) -> str:
    # Python says what is malformed and where; outlines-core only that something is.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(regex)
    except re.error as plain:
        return str(plain)
    return f"{error} (it may have no anchors, word boundaries, look-around or back-references)"


def fewest_steps(step: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Fewest steps from each state to a goal, int ``[S]``.

    >>> fewest_steps(np.array([[1, -1], [2, 0], [-1, -1]]), np.array([False, False, True])).tolist()
    [2, 1, 0]
    """
    distance = np.where(goal, 0, FAR)
    found = np.append(goal, False)  # row -1: a forbidden step
    rows, steps = np.flatnonzero(~goal), 0
    while len(rows):
        near = found[step[rows]].any(1)
        if not near.any():
            break
        steps += 1
        distance[rows[near]], found[rows[near]] = steps, True
        rows = rows[~near]
    return distance


def reachable(step: np.ndarray) -> np.ndarray:
    """States that can be reached from state 0, bool ``[S]``."""
    found = np.zeros(len(step) + 1, bool)  # row -1: a forbidden step
    rows = np.array([0])
    while len(rows):
        found[rows] = True
        rows = np.unique(step[rows])
        rows = rows[(rows >= 0) & ~found[rows]]
    return found[:-1]


def distinct(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct columns in the order in which they appear, and which of them each column is.

    >>> [x.tolist() for x in distinct(np.array([[3, 1, 3], [0, 2, 0]]))]
    [[[3, 1], [0, 2]], [0, 1, 0]]
    """
    first: dict[bytes, int] = {}
    which = np.array([first.setdefault(column.tobytes(), i) for i, column in enumerate(table.T)])
    chosen = np.array(list(first.values()))
    return table[:, chosen], np.searchsorted(chosen, which)


def restricted(step: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The table of some of the states, which are renumbered; steps to others are forbidden."""
    number = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
    return number[step[kept]].astype(np.int32)
