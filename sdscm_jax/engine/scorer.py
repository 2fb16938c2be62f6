"""Answers the questions of many units on one language model, each distinct token once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ..dsl.language.text_query import OfText
from ..dsl.scoring.contexts import unique_contexts
from ..dsl.scoring.option_tree import OptionTree, padded
from ..dsl.scoring.score_query import Context, Question
from ..errors import SDSCMError
from ..models.codec import Tokens
from ..models.language_model import LanguageModel
from ..models.on_mesh import mesh_of
from ..models.sharding import data_axis_size
from .counts import Counts
from .edge_gather import Edges
from .forward import Forward, Read, empty_pool, token_bytes
from .kv_pages import Slots
from .lane import Answers, Lane, Pieces
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
        self._numbers: dict[Tokens, int] = {}
        self._pieces: dict[tuple[Tokens, ...], Pieces] = {}

    def _new_lane(self) -> Lane:
        trie = Trie()
        return Lane(trie, Slots(trie, self.capacity))

    def check(self, question: Question | OfText) -> None:
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

    def estimate(self, question: Question | OfText, contexts: np.ndarray) -> int:
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
            answers = lane.answers.setdefault(number, Answers(len(question.tree.edge_rows)))
            new = np.unique(nodes)
            todo.append(self._from_store(lane, question, number, new[~answers.known(new)]))
        self._answer(question, number, todo)
        return np.concatenate([lane.answers[number].of(nodes) for lane, nodes in zip(self.places, ends, strict=True)])

    def ends(self, lane: Lane, question: Context, contexts: np.ndarray) -> np.ndarray:
        """The last node before the options, of each context ``[C, m]``, int64; faster if these are in order."""
        start = lane.trie.extend(ROOT, question.start)
        # Contexts one after another that are alike so far go on together: the first of each, and where they are.
        firsts = np.zeros(min(1, len(contexts)), np.int64)
        nodes, column = np.full(len(firsts), start, np.int64), iter(range(contexts.shape[1]))
        changed = np.arange(len(contexts)) == 0
        for i, texts in enumerate(question.texts):
            chosen = np.zeros(len(firsts), np.int64)
            if i in question.varying:
                numbers = contexts[:, next(column)]
                group = np.cumsum(changed) - 1
                changed[1:] |= numbers[1:] != numbers[:-1]
                firsts = np.flatnonzero(changed)
                nodes, chosen = nodes[group[firsts]], numbers[firsts]
            nodes = self._extended(lane, nodes, texts, chosen)
        nodes = self._extended(lane, nodes, (question.shared,), np.zeros(len(nodes), np.int64))
        return nodes[np.cumsum(changed) - 1]

    def _extended(self, lane: Lane, nodes: np.ndarray, texts: tuple[Tokens, ...], chosen: np.ndarray) -> np.ndarray:
        pieces = self._pieces.get(texts)
        if pieces is None:
            numbers = [self._numbers.setdefault(text, len(self._numbers)) for text in texts]
            pieces = self._pieces[texts] = Pieces.of(texts, numbers)
        keys = nodes << 32 | pieces.numbers[chosen]
        found = lane.ends.get(keys)
        if (new := np.flatnonzero(found < 0)).size:
            distinct, first, which = np.unique(keys[new], return_index=True, return_inverse=True)
            rows = new[first]
            made = lane.trie.extend_all(nodes[rows], pieces.tokens[chosen[rows]], pieces.lengths[chosen[rows]])
            lane.ends.put(distinct, made)
            found[new] = made[which]
        return found

    def _from_store(self, lane: Lane, question: Question, number: int, nodes: np.ndarray) -> np.ndarray:
        """Answer what the store knows; the rest of the nodes."""
        if self.store is None or not len(nodes):
            return nodes
        known = self.store.read(question, [lane.trie.path(int(node)) for node in nodes])
        missing = np.array([edges is None for edges in known])
        if not missing.all():
            lane.answers[number].add(nodes[~missing], np.stack([edges for edges in known if edges is not None]))
        self.counts.stored += int((~missing).sum())
        return nodes[missing]

    def _reads(self, lane: Lane, question: Question, ends: np.ndarray) -> np.ndarray:
        """Nodes whose distributions are read, ``[len(ends), 1 + tree.size]``."""
        tree = question.tree
        found = np.empty((len(ends), 1 + tree.size), np.int64)
        found[:, 0] = ends
        # Down to every leaf, and up again.
        leaves = np.flatnonzero(tree.ancestors.sum(0) == 1)
        paths = [np.flatnonzero(tree.ancestors[leaf]) for leaf in leaves]
        if paths and len(ends):
            tokens, _ = padded([tree.tokens[path].tolist() for path in paths])
            lengths = np.array([len(path) for path in paths])
            many = np.tile(tokens, (len(ends), 1))
            last = lane.trie.extend_all(np.repeat(ends, len(paths)), many, np.tile(lengths, len(ends)))
            nodes = last.reshape(len(ends), len(paths))
            for depth in range(int(lengths.max()) - 1, -1, -1):
                own = np.flatnonzero(lengths > depth)
                found[:, [1 + paths[k][depth] for k in own]] = nodes[:, own]
                nodes[:, own] = lane.trie.parent[nodes[:, own]]
        return found

    def _answer(self, question: Question, number: int, ends: list[np.ndarray]) -> None:
        """Compute the answers of each lane's ends, as many at a time as the pool holds."""
        reads = [self._reads(lane, question, nodes) for lane, nodes in zip(self.places, ends, strict=True)]
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
                lane.answers[number].add(nodes[own], edges)
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
            missing = lane.slots.slot[nodes] < 0
            # What is read must be computed now: hidden states are not kept.
            again = np.zeros(len(nodes), bool)
            again[lane.trie.places(wanted, nodes)] = True
            todo.append((nodes[missing | again], again[missing | again]))
            lane.slots.take(nodes[missing])
            first, before = lane.slots.note(todo[-1][0])
            self.counts.trie_tokens += first
            self.counts.recomputed += before
            self.counts.tokens += first + before
            self.counts.reads += len(wanted)
        return self._run(todo, read, singles)

    def _run(self, todo: list[tuple[np.ndarray, np.ndarray]], read: ReadBuffer, singles: bool) -> list[Any]:
        """Put nodes through the language model.

        Args:
            todo: per lane, the nodes, in ascending order, and which of them are read.
            read, singles: see ``compute``.
        """
        # Each node of the trie is computed once, and attends to keys and values that stay where they were written
        # (paged: Kwon et al. 2023, arXiv 2309.06180). A call reads slots that calls before it wrote, so their order is
        # all that matters: nothing here waits for the device, which works while the next call is laid out. Lanes go in
        # step, one shape for all. Hidden states gather in a buffer, as the logits of all nodes would fill the memory.

        def sizes_of(rows: int) -> Sizes:
            return self.sizes.singles if singles and rows < 2 else self.sizes

        planned = [
            [(wave, rows) for wave in waves(lane.trie, *nodes) for rows in calls(lane.trie, wave, sizes_of(wave.width))]
            for lane, nodes in zip(self.places, todo, strict=True)
        ]
        if self._pool is None:
            self._pool = empty_pool(self.lm, self.capacity, self.lanes, self.forward.mesh)
        buffer, pending = self.forward.empty_buffer(self.sizes.most), []
        waiting: list[list[np.ndarray]] = [[] for _ in self.places]
        for number in range(max(map(len, planned))):
            batch = [call_of(*plan[number]) if number < len(plan) else nothing() for plan in planned]
            there = [call.nodes[call.read] for call in batch]
            if max(sum(map(len, old)) + len(new) for old, new in zip(waiting, there, strict=True)) > self.sizes.most:
                pending += read(buffer, waiting)
                waiting = [[] for _ in self.places]
            sizes = sizes_of(max(call.width for call in batch))
            shape = widest(shape_of(lane.trie, call, sizes) for lane, call in zip(self.places, batch, strict=True))
            layouts = [
                lay_out(lane.trie, lane.slots, call, shape, sum(map(len, old)), self.sizes.most)
                for lane, call, old in zip(self.places, batch, waiting, strict=True)
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
