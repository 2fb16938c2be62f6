"""From a trie to calls: every token once, after all that it looks at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdscm_jax.dsl.scoring.option_tree import chain_tree, padded
from sdscm_jax.engine.edge_gather import Edges
from sdscm_jax.engine.hash_table import HashTable
from sdscm_jax.engine.kv_pages import Slots
from sdscm_jax.engine.packing import MOST_IN_ROW, Sizes, call_of, calls, lay_out, shape_of, waves
from sdscm_jax.engine.trie import ROOT, Trie

texts = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=50), min_size=1, max_size=12)


def resident_in(slots: Slots) -> np.ndarray:
    """Which nodes are in memory; the root, which needs no slot, is there."""
    there = slots.slot >= 0
    there[ROOT] = True
    return there


def paths(trie: Trie) -> dict[int, tuple[int, ...]]:
    return {node: tuple(trie.path(node).tolist()) for node in range(1, trie.size)}


@given(texts)
def test_a_node_is_a_distinct_beginning(found: list[list[int]]) -> None:
    trie = Trie()
    ends = [trie.extend(ROOT, text) for text in found]
    at_once = Trie()
    tokens, _ = padded(found)
    together = at_once.extend_all(np.zeros(len(found), int), tokens, np.array([len(text) for text in found]))
    assert [at_once.path(node).tolist() for node in together] == found
    assert sorted(paths(at_once).values()) == sorted(paths(trie).values())
    assert (at_once.parent[1:] < np.arange(1, at_once.size)).all()
    assert sorted(paths(trie).values()) == sorted({tuple(t[:i]) for t in found for i in range(1, len(t) + 1)})
    above = trie.above(np.array(ends[:1]))
    assert [len(paths(trie)[node]) for node in above] == list(range(1, len(found[0]) + 1))


@settings(max_examples=30, deadline=None)
@given(texts, st.integers(0, 3), st.sampled_from([{}, {"fine": True}, {"accelerated": True}]), st.data())
def test_every_token_once_and_after_what_it_looks_at(
    found: list[list[int]], before: int, kind: dict[str, bool], data: st.DataObject
) -> None:
    trie = Trie()
    ends = [trie.extend(ROOT, text) for text in found]
    slots = Slots(trie, trie.size)
    held = trie.above(np.array(ends[:before], np.int64)) if before else np.zeros(0, np.int64)
    slots.hold(held)
    slots.take(held)
    resident = resident_in(slots)
    needed = trie.above(np.array(ends))
    # One that is there already may be wanted again.
    again = np.array(data.draw(st.lists(st.sampled_from(held.tolist()), max_size=2)) if held.size else [], np.int64)
    todo = np.union1d(needed[~resident[needed]], again)
    slots.hold(needed)
    slots.take(needed[~resident[needed]])
    sizes = Sizes.of(64, **kind)
    # What is wanted again is in memory all the while.
    there = resident.copy()
    slot_of = {int(slots.slot[x]): x for x in range(1, trie.size)}
    done: list[int] = []
    for wave in waves(trie, todo, np.isin(todo, again)):
        for rows in calls(trie, wave, sizes):
            call = call_of(wave, rows)
            shape = shape_of(trie, call, sizes)
            assert shape[0] >= len(call.nodes)
            assert shape[1] >= len(call.attached)
            assert shape[2] >= call.width <= MOST_IN_ROW
            laid = lay_out(trie, slots, call, shape, 0, 64).rows
            assert np.array_equal(call.read, np.isin(call.nodes, again))
            own = call.nodes.tolist()
            for n, node in enumerate(own):
                row, place = int(call.row[n]), int(call.place[n])
                seen = {own[laid.members[row, t]] for t in np.flatnonzero(laid.ancestors[row, place])}
                seen |= {slot_of[int(slot)] for slot in laid.past[row, : laid.lengths[row]]}
                assert seen == set(trie.above(np.array([node])).tolist())
                assert all(there[x] or x in own for x in seen)
            there[call.nodes] = True
            done += own
    assert sorted(done) == todo.tolist()


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=2, max_size=30), st.integers(8, 20))
def test_what_is_in_memory_has_its_ancestors_there(found: list[list[int]], capacity: int) -> None:
    trie = Trie()
    slots = Slots(trie, capacity)
    for text in found:
        nodes = trie.above(np.array([trie.extend(ROOT, text)]))
        slots.hold(nodes)
        slots.take(nodes[slots.slot[nodes] < 0])
        assert (slots.slot[nodes] >= 0).all()
        resident = resident_in(slots)
        assert resident[trie.parent[resident.nonzero()[0]]].all()
        taken = slots.slot[slots.slot >= 0]
        assert len(set(taken.tolist())) == len(taken) == capacity - slots.free


def test_what_is_held_must_fit() -> None:
    trie = Trie()
    slots = Slots(trie, 3)
    nodes = trie.above(np.array([trie.extend(ROOT, [1, 2, 3, 4])]))
    slots.hold(nodes)
    with pytest.raises(ValueError, match="do not fit"):
        slots.take(nodes)


@given(st.lists(st.integers(0, 2**60), unique=True, max_size=300), st.integers(1, 50))
def test_a_hash_table_is_a_dictionary(keys: list[int], size: int) -> None:
    """Keys that follow one another among them, and many at once, or few."""
    keys = list(dict.fromkeys([*keys, *range(2 * size)]))
    table, known = HashTable(), {}
    for start in range(0, len(keys), size):
        part = keys[start : start + size]
        assert (table.get(np.array(part)) == -1).all()
        table.put(np.array(part), np.arange(start, start + len(part)))
        known.update(zip(part, range(start, start + len(part)), strict=True))
    assert table.get(np.array([*known, 2**61])).tolist() == [*known.values(), -1]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=5, unique_by=tuple))
def test_every_edge_is_read_once_where_its_text_wants_it(options: list[list[int]]) -> None:
    """Also where what one text ends with is a row of another's options."""
    tree, trie = chain_tree([tuple(option) for option in options]), Trie()
    ends = [trie.extend(ROOT, [9]), trie.extend(ROOT, [9, 0])]
    paths = [tree.tokens[tree.ancestors[n]].tolist() for n in range(tree.size)]
    reads = np.array([[end, *(trie.extend(end, path) for path in paths)] for end in ends])
    edges = Edges(tree, reads)
    found = np.full(edges.shape, -1)
    for part in np.array_split(edges.nodes[::-1], 2):
        places, rows, tokens = edges.of(part)
        assert (found.ravel()[places] == -1).all()
        found.ravel()[places] = part[rows] * 10 + tokens
    assert np.array_equal(found, reads[:, tree.edge_rows] * 10 + tree.edge_tokens)
