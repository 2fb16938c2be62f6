"""Answers the questions of many units on one language model, each distinct token once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from ..dsl.language.text_query import Writing
from ..dsl.scoring.contexts import unique_contexts
from ..dsl.scoring.option_tree import OptionTree
from ..dsl.scoring.score_query import Context, Question
from ..errors import SDSCMError
from ..models.language_model import LanguageModel
from ..models.on_mesh import mesh_of
from ..models.sharding import data_axis_size
from .counts import Counts
from .edge_gather import Edges
from .forward import Forward, Read, empty_pool, token_bytes
from .kv_pages import Slots
from .memory import exhausted, on_accelerator, with_less
from .packing import Sizes, call_of, calls, lay_out, nothing, padded_to, rounded, shape_of, waves, widest
from .store import Store
from .trie import ROOT, Trie

# Tokens of one call: from here on a processor is busy, and an accelerator.
CALL_TOKENS, ACCELERATED_CALL_TOKENS = 512, 8192
# Parameters from which on padding costs more than compiling for another size.
FINE = 20_000_000


# Is given the buffer, and per lane the nodes whose hidden states are in it, one after another.
ReadBuffer = Callable[[Any, list[list[np.ndarray]]], list[Any]]


@dataclass
class Lane:
    """A trie with its pool, for one place on the mesh's data axis."""

    trie: Trie
    slots: Slots
    # Ends of a text by (node, piece), nodes of an option tree by (node, tree), what was answered by the same.
    ends: dict[tuple[int, int], int] = field(default_factory=dict)
    trees: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    answers: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)


class Scorer:
    """Answers questions on one language model.

    Contexts become paths in a trie of tokens; a token is computed where it is met first, and its keys
    and values are kept in a pool of bounded size. What was asked before is not computed again.

    Args:
        lm: the language model; its mesh says on which devices.
        memory: bytes that the pool may take, on each place of the mesh's data axis.
        most: tokens that there are to keep at most; a smaller pool is made then.
        call_tokens: tokens that go through the language model together; None: what keeps the device busy.
        store: scores of earlier runs, or None.
    """

    def __init__(
        self,
        lm: LanguageModel,
        memory: int,
        most: int,
        call_tokens: int | None = None,
        store: Store | None = None,
    ):
        self.lm, self.store, self.counts = lm, store, Counts()
        mesh = mesh_of(lm)
        self.lanes = data_axis_size(mesh)
        accelerated = on_accelerator(lm)
        # Small models compute padding faster than they compile.
        fine = sum(x.size for x in jax.tree.leaves(lm.params)) > FINE
        usual = ACCELERATED_CALL_TOKENS if accelerated else CALL_TOKENS
        self.sizes = Sizes.of(usual if call_tokens is None else call_tokens, fine, accelerated)
        # What the memory holds, and (of a few sizes, since each is compiled for) what there will be.
        self.budget = max(1, memory // token_bytes(lm))
        self.capacity = min(self.budget, rounded(most, 4096))
        self.forward = Forward(lm, self.lanes, mesh)
        self.places = [self._new_lane() for _ in range(self.lanes)]
        self._pool: Any = None
        # What is read of a language model hangs on the options' tree, not on how scores are made of it.
        self._trees: dict[OptionTree, int] = {}
        self._pieces: dict[tuple[int, ...], int] = {}

    def _new_lane(self) -> Lane:
        trie = Trie()
        return Lane(trie, Slots(trie, self.capacity))

    def check(self, question: Question | Writing) -> None:
        """Refuse a question whose text does not fit the pool.

        Raises:
            SDSCMError: says how much memory is needed.
        """
        if question.most > self.budget:
            needed = question.most * token_bytes(self.lm)
            raise SDSCMError(
                f"memory holds the keys and values of {self.budget} tokens, and one text with its options may have "
                f"{question.most}; give at least memory={needed}"
            )

    def edges(self, question: Question, contexts: np.ndarray) -> np.ndarray:
        """Log-probabilities of the edges of the question's tree.

        Args:
            question: what is asked.
            contexts: int ``[C, m]``, option numbers of the phrases that are given.

        Returns:
            float32 ``[C, E]``.
        """
        distinct, _, which = unique_contexts(contexts)
        return self._edges(question, distinct)[which]

    def note_reference(self, question: Context, contexts: np.ndarray, times: int, own: Any) -> None:
        """Count what the published procedure would take for these contexts, each ``times`` times.

        Args:
            question: what is asked; all its pieces are listed.
            contexts: int ``[C, m]``.
            times: how often each is asked.
            own: tokens after the context: a number, or one for each of them.
        """
        tokens = np.full(len(contexts), len(question.start) + len(question.shared), np.int64) + own
        column = iter(range(contexts.shape[1]))
        for i, texts in enumerate(question.texts):
            lengths = np.array([len(text) for text in texts])
            tokens += lengths[contexts[:, next(column)]] if i in question.varying else lengths[0]
        self.counts.reference_tokens += times * int(tokens.sum())

    def forget(self) -> None:
        """Begin anew, with an empty trie and pool; counts go on."""
        self.places = [self._new_lane() for _ in range(self.lanes)]

    def estimate(self, question: Question | Writing, contexts: np.ndarray) -> int:
        """Tokens that new answers would add to the pool, at most."""
        return len(unique_contexts(contexts)[0]) * question.own

    def _edges(self, question: Question, contexts: np.ndarray) -> np.ndarray:
        """Log-probabilities of the tree's edges, float32 ``[C, E]``; contexts are distinct and sorted."""
        self.check(question)
        number = self._trees.setdefault(question.tree, len(self._trees))
        shares = np.array_split(np.arange(len(contexts)), self.lanes)
        ends = [self.ends(lane, question, contexts[share]) for lane, share in zip(self.places, shares, strict=True)]
        todo = []
        for lane, nodes in zip(self.places, ends, strict=True):
            new = np.array([node for node in np.unique(nodes) if (int(node), number) not in lane.answers], np.int64)
            todo.append(self._from_store(lane, question, number, new))
        self._answer(question, number, todo)
        found = [
            np.stack([lane.answers[int(node), number] for node in nodes])
            if len(nodes)
            else np.zeros((0, len(question.tree.edge_rows)), np.float32)
            for lane, nodes in zip(self.places, ends, strict=True)
        ]
        return np.concatenate(found)

    def ends(self, lane: Lane, question: Context, contexts: np.ndarray) -> np.ndarray:
        """The last node before the options, of each context."""
        nodes = np.full(len(contexts), lane.trie.extend(ROOT, question.start), np.int64)
        column = iter(range(contexts.shape[1]))
        for i, texts in enumerate(question.texts):
            numbers = [self._pieces.setdefault(text, len(self._pieces)) for text in texts]
            chosen = contexts[:, next(column)] if i in question.varying else np.zeros(len(contexts), np.int64)
            nodes = self._extended(lane, nodes, texts, numbers, chosen)
        numbers = [self._pieces.setdefault(question.shared, len(self._pieces))]
        return self._extended(lane, nodes, (question.shared,), numbers, np.zeros(len(contexts), np.int64))

    def _extended(
        self,
        lane: Lane,
        nodes: np.ndarray,
        texts: Sequence[tuple[int, ...]],
        numbers: Sequence[int],
        chosen: np.ndarray,
    ) -> np.ndarray:
        pairs, which = np.unique(nodes * len(texts) + chosen, return_inverse=True)
        after = np.empty(len(pairs), np.int64)
        for i, pair in enumerate(pairs.tolist()):
            node, k = divmod(pair, len(texts))
            end = lane.ends.get((node, numbers[k]))
            if end is None:
                end = lane.ends[node, numbers[k]] = lane.trie.extend(node, texts[k])
            after[i] = end
        return after[which]

    def _from_store(self, lane: Lane, question: Question, number: int, nodes: np.ndarray) -> np.ndarray:
        """Answer what the store knows; the rest of the nodes."""
        if self.store is None or not len(nodes):
            return nodes
        known = self.store.read(question, [lane.trie.path(int(node)) for node in nodes])
        for node, edges in zip(nodes, known, strict=True):
            if edges is not None:
                lane.answers[int(node), number] = edges
        missing = np.array([edges is None for edges in known])
        self.counts.stored += int((~missing).sum())
        return nodes[missing]

    def _reads(self, lane: Lane, question: Question, number: int, ends: np.ndarray) -> np.ndarray:
        """Nodes whose distributions are read, ``[len(ends), 1 + tree.size]``."""
        tree = question.tree
        # The row that each node of the tree goes on from.
        before = [
            1 + int(np.flatnonzero(tree.ancestors[n] & (tree.depth == tree.depth[n] - 1))[0]) if tree.depth[n] else 0
            for n in range(tree.size)
        ]
        found = np.empty((len(ends), 1 + tree.size), np.int64)
        for i, end in enumerate(ends.tolist()):
            nodes = lane.trees.get((end, number))
            if nodes is None:
                places = [end]
                for row, token in zip(before, tree.tokens.tolist(), strict=True):
                    places.append(lane.trie.extend(places[row], (token,)))
                nodes = lane.trees[end, number] = np.array(places)
            found[i] = nodes
        return found

    def _answer(self, question: Question, number: int, ends: list[np.ndarray]) -> None:
        """Compute the answers of each lane's ends, as many at a time as the pool holds."""
        reads = [self._reads(lane, question, number, nodes) for lane, nodes in zip(self.places, ends, strict=True)]
        stack = [[np.arange(len(nodes)) for nodes in ends]]
        while stack:
            part = stack.pop()
            if not sum(map(len, part)):
                continue
            needed = [
                lane.trie.above(read[own].ravel()) for lane, read, own in zip(self.places, reads, part, strict=True)
            ]
            if max(map(len, needed)) > self.capacity:
                halves = [np.array_split(own, 2) for own in part]
                stack += [[half[1] for half in halves], [half[0] for half in halves]]
                continue
            for lane, nodes in zip(self.places, needed, strict=True):
                lane.slots.hold(nodes)
            wanted = [Edges(question.tree, read[own]) for read, own in zip(reads, part, strict=True)]
            values = self._values(wanted, needed)
            for lane, nodes, own, edges in zip(self.places, ends, part, values, strict=True):
                lane.answers.update(((int(node), number), x) for node, x in zip(nodes[own], edges, strict=True))
                self.counts.contexts += len(own)
                if self.store is not None and len(own):
                    self.store.add(question, [lane.trie.path(int(node)) for node in nodes[own]], edges)

    def _values(self, wanted: list[Edges], needed: list[np.ndarray]) -> list[np.ndarray]:
        """Log-probabilities ``[ends, E]`` of each lane, whose needed nodes are held."""

        def read(buffer: Any, waiting: list[list[np.ndarray]]) -> list[tuple[list[np.ndarray], Any]]:
            return self._read(buffer, wanted, waiting)

        values = [np.zeros(edges.shape, np.float32) for edges in wanted]
        for places, array in self.compute([edges.nodes for edges in wanted], needed, read):
            for value, place, row in zip(values, places, np.asarray(array), strict=True):
                value.ravel()[place] = row[: len(place)]
        return values

    def compute(
        self, reads: list[np.ndarray], needed: list[np.ndarray], read: ReadBuffer, singles: bool = False
    ) -> list[Any]:
        """Put what is needed and not in memory through the language model, and read distributions.

        Where the device's memory does not suffice, again with smaller calls.

        Args:
            reads: per lane, the distinct nodes whose distributions are read.
            needed: per lane, these and those before them, in ascending order; they are held.
            read: given the buffer with the hidden states of some nodes, and these nodes; called until all are read.
            singles: are most rows of one token?

        Returns:
            what the calls of ``read`` gave, one after another.
        """
        while True:
            try:
                return self._compute(reads, needed, read, singles)
            except jax.errors.JaxRuntimeError as error:
                if not exhausted(error) or len(self.sizes.tokens) == 1:
                    raise
                self.sizes = self.sizes.halved()
                with_less(f"{self.sizes.most} tokens")
                # The call took the pool with it.
                self._pool = None
                for lane, nodes in zip(self.places, needed, strict=True):
                    lane.slots.clear()
                    lane.slots.hold(nodes)

    def _compute(self, reads: list[np.ndarray], needed: list[np.ndarray], read: ReadBuffer, singles: bool) -> list[Any]:
        todo = []
        for lane, wanted, nodes in zip(self.places, reads, needed, strict=True):
            resident = lane.slots.resident
            missing = nodes[~resident[nodes]]
            # What is read must be computed now: hidden states are not kept.
            todo.append((np.union1d(missing, wanted), resident))
            lane.slots.take(missing)
            first, before = lane.slots.note(todo[-1][0])
            self.counts.trie_tokens += first
            self.counts.recomputed += before
            self.counts.tokens += first + before
            self.counts.reads += len(wanted)
        return self._run(reads, todo, read, singles)

    def _run(
        self, reads: list[np.ndarray], todo: list[tuple[np.ndarray, np.ndarray]], read: ReadBuffer, singles: bool
    ) -> list[Any]:
        """Put nodes through the language model.

        Args:
            reads, read, singles: see ``compute``.
            todo: per lane, the nodes, and what was in memory before they were given slots.
        """
        # Each node of the trie is computed once, and attends to keys and values that stay where they were written
        # (paged: Kwon et al. 2023, arXiv 2309.06180). A call reads slots that calls before it wrote, so their order is
        # all that matters: nothing here waits for the device, which works while the next call is laid out. Lanes go in
        # step, one shape for all. Hidden states gather in a buffer, as the logits of all nodes would fill the memory.

        def sizes_of(rows: int) -> Sizes:
            return self.sizes.singles if singles and rows < 2 else self.sizes

        planned = [
            [
                call_of(lane.trie, rows)
                for wave in waves(lane.trie, nodes, resident)
                for rows in calls(lane.trie, wave, sizes_of(max(map(len, wave))))
            ]
            for lane, (nodes, resident) in zip(self.places, todo, strict=True)
        ]
        if self._pool is None:
            self._pool = empty_pool(self.lm, self.capacity, self.lanes, self.forward.mesh)
        buffer, pending = self.forward.empty_buffer(self.sizes.most), []
        waiting: list[list[np.ndarray]] = [[] for _ in self.places]
        for number in range(max(map(len, planned))):
            batch = [plan[number] if number < len(plan) else nothing() for plan in planned]
            masks = [np.isin(call.nodes, nodes) for call, nodes in zip(batch, reads, strict=True)]
            there = [call.nodes[mask] for call, mask in zip(batch, masks, strict=True)]
            if max(sum(map(len, old)) + len(new) for old, new in zip(waiting, there, strict=True)) > self.sizes.most:
                pending += read(buffer, waiting)
                waiting = [[] for _ in self.places]
            sizes = sizes_of(max(call.width for call in batch))
            shape = widest(shape_of(lane.trie, call, sizes) for lane, call in zip(self.places, batch, strict=True))
            layouts = [
                lay_out(lane.trie, lane.slots, call, shape, mask, sum(map(len, old)), self.sizes.most)
                for lane, call, mask, old in zip(self.places, batch, masks, waiting, strict=True)
            ]
            buffer, self._pool = self.forward.step(self._pool, buffer, layouts)
            self.counts.calls += 1
            self.counts.positions += shape[0] * self.lanes
            for old, new in zip(waiting, there, strict=True):
                old.append(new)
        return pending + read(buffer, waiting)

    def _read(
        self, buffer: Any, wanted: list[Edges], waiting: list[list[np.ndarray]]
    ) -> list[tuple[list[np.ndarray], Any]]:
        """Edges of the nodes whose hidden states are in the buffer: their places, and values on the device."""
        found = [edges.of(np.concatenate([*nodes, _NONE])) for edges, nodes in zip(wanted, waiting, strict=True)]
        rows = max(sum(map(len, nodes)) for nodes in waiting)
        if not rows:
            return []
        size = self.sizes.at_least(rows)
        pending = []
        for start in range(0, max(len(places) for places, _, _ in found), 2 * size):
            parts = [tuple(x[start : start + 2 * size] for x in lane) for lane in found]
            reads = [Read(padded_to(at, 2 * size), padded_to(tokens, 2 * size)) for _, at, tokens in parts]
            pending.append(([places for places, _, _ in parts], self.forward.edges(buffer, reads, size)))
        return pending


class Counting(Scorer):
    """Counts instead of asking: every option is as likely as another."""

    def _run(self, *_: Any) -> list[Any]:
        return []


_NONE = np.zeros(0, np.int64)
