"""The language model on packed tokens, with keys and values of all texts in one pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..dsl.language.token_law import TokenLaw
from ..dsl.noise.couplings.base import Coupling, Draws
from ..dsl.noise.couplings.gumbel import Gumbel, truncated_gumbels
from ..dsl.noise.streams import chosen_key, fold_in, gumbels_at, key_of_words, stream, token_gumbels_at, uniforms_at
from ..models.language_model import LanguageModel
from ..models.pages import Kept, Pages
from ..models.sharding import DATA, TENSOR, axis_size, over_data, place, replicated
from .packing import Layout


class Read(NamedTuple):
    """Which log-probabilities are wanted.

    Attributes:
        rows: int ``[E]``, places in the buffer.
        tokens: int ``[E]``.
    """

    rows: np.ndarray
    tokens: np.ndarray


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pick:
    """Which next tokens are wanted, and the noise that picks them.

    Attributes:
        rows: int32 ``[M]``, places in the buffer.
        which: int32 ``[B]``, the row that each text goes on from.
        words: int32 ``[B, 5]``, bits of the key of its site, of the one of the noise that is not kept, and of the share
            that is.
        places: int32 ``[B]``, its place among the draws of that key.
        temperatures: float32 ``[B]``.
        states: int32 ``[B]``, of the automaton.
        steps: int32 ``[B]``, numbers of the tokens.
    """

    rows: np.ndarray
    which: np.ndarray
    words: np.ndarray
    places: np.ndarray
    temperatures: np.ndarray
    states: np.ndarray
    steps: np.ndarray


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Follow:
    """The same of texts whose noise is relative to factual ones.

    Attributes:
        pick: of the texts themselves; its noise says how much of the factual one's is kept.
        rows, which, words, temperatures, states: of the factual ones, as ``Pick`` has them.
        tokens: int32 ``[B]``, the factual tokens; -1 where there is none.
    """

    pick: Pick
    rows: np.ndarray
    which: np.ndarray
    words: np.ndarray
    temperatures: np.ndarray
    states: np.ndarray
    tokens: np.ndarray


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Along:
    """Tokens of observed texts, whose log-probabilities are wanted.

    Attributes:
        rows, which, temperatures, states, steps: as ``Pick`` has them.
        tokens: int32 ``[B]``.
    """

    rows: np.ndarray
    which: np.ndarray
    temperatures: np.ndarray
    states: np.ndarray
    steps: np.ndarray
    tokens: np.ndarray


def token_bytes(lm: LanguageModel) -> int:
    """Bytes that what is kept of one token takes."""
    return sum(kept.bytes(lm.dtype) for kept in jax.tree.leaves(lm.config.kept))


def empty_pool(lm: LanguageModel, capacity: int, lanes: int, mesh: Mesh | None) -> Pages:
    """A pool, of leaves ``[lanes, layers, capacity + 1, heads, size]``; the last slot is for padding."""
    kept = lm.config.kept

    def zeros() -> Pages:
        return jax.tree.map(
            lambda k: jnp.zeros((lanes, k.layers, capacity + 1, k.heads, k.size), k.dtype(lm.dtype)), kept
        )

    return zeros() if mesh is None else jax.jit(zeros, out_shardings=_pool_sharding(mesh, kept))()


def _pool_sharding(mesh: Mesh, kept: Pages) -> Any:
    size, lanes = axis_size(mesh, TENSOR), DATA if axis_size(mesh, DATA) > 1 else None

    def of(leaf: Kept) -> NamedSharding:
        split = TENSOR if size > 1 and leaf.heads % size == 0 else None
        return NamedSharding(mesh, PartitionSpec(lanes, None, None, split, None))

    return jax.tree.map(of, kept)


def _step(lm: LanguageModel, pool: Pages, buffer: Array, arrays: Layout) -> tuple[Array, Pages]:
    rows = jax.tree.map(jnp.asarray, arrays.rows)
    hidden, new = lm.decoder.encode_rows(jnp.asarray(arrays.tokens), jnp.asarray(arrays.positions), rows, pool)

    def put(old: Array, x: Array) -> Array:
        layers, slots = old.shape[:2]
        # By one leading index: for another axis an accelerator would turn the whole pool around.
        places = jnp.arange(layers)[:, None] * slots + arrays.slots
        return old.reshape(-1, *old.shape[2:]).at[places].set(x).reshape(old.shape)

    return buffer.at[arrays.reads].set(hidden, mode="drop"), jax.tree.map(put, pool, new)


def _edges(lm: LanguageModel, buffer: Array, read: Read, size: int, split: bool) -> Array:
    """Float32 log-probabilities ``[E]`` after the first ``size`` states of the buffer."""
    rows, tokens = jnp.asarray(read.rows), jnp.asarray(read.tokens)
    if not split:
        return lm.decoder.log_probs(buffer[:size], rows, tokens)
    # A vocabulary that is split over devices is not cut again.
    logits = lm.decoder.logits(buffer[:size])
    return logits[rows, tokens] - jax.nn.logsumexp(logits, axis=-1)[rows]


def _log_probs(lm: LanguageModel, buffer: Array, law: TokenLaw, of: Pick | Follow | Along, steps: Array) -> Array:
    logits = lm.decoder.logits(buffer[of.rows])[of.which]
    return law.log_probs(logits, jnp.asarray(of.temperatures), jnp.asarray(of.states), steps)


def _picked(lm: LanguageModel, buffer: Array, pick: Pick, law: TokenLaw) -> Array:
    """The next tokens, int32 ``[B]``."""
    size = lm.config.vocab_size

    def noise(words: Array, place: Array, step: Array) -> Array:
        kept, own, anew = _noise(words, place, step)
        return token_gumbels_at(chosen_key(kept, own, anew), size, place)

    words, places, steps = map(jnp.asarray, (pick.words, _unsigned(pick.places), pick.steps))
    return law.chosen(_log_probs(lm, buffer, law, pick, steps), jax.vmap(noise)(words, places, steps), Gumbel())


def _unsigned(numbers: Any) -> Array:
    return jax.lax.bitcast_convert_type(jnp.asarray(numbers), jnp.uint32)


def _noise(words: Array, place: Array, step: Array) -> tuple[Array, Array, Array]:
    """Does a token keep its noise, and the keys of that and of what there is else; ``words`` are those of ``Pick``."""
    share, bits = jax.lax.bitcast_convert_type(words[4], jnp.float32), _unsigned(words)
    own, anew = (fold_in(key_of_words(x), step) for x in (bits[:2], bits[2:4]))
    return uniforms_at(stream(own, "share"), place) < share, own, anew


def _followed(lm: LanguageModel, buffer: Array, follow: Follow, what: tuple[TokenLaw, Coupling]) -> Array:
    """The next tokens of texts beside factual ones, int32 ``[B]``."""
    (law, coupling), pick, size = what, follow.pick, lm.config.vocab_size

    def relative(words: Array, place: Array, step: Array, factual: Array, token: Array) -> Any:
        draws = Draws(lambda key: uniforms_at(key, place), lambda key: token_gumbels_at(key, size, place))
        return coupling.beside(fold_in(key_of_words(_unsigned(words)[:2]), step), draws, factual, token)

    def gumbels(words: Array, place: Array, step: Array, factual: Array, token: Array) -> Array:
        """As ``Text.posterior_noise``."""
        kept, own, anew = _noise(words, place, step)
        fresh = token_gumbels_at(chosen_key(kept, own, anew), size, place)
        number = place * jnp.uint32(law.form.max_tokens) + step.astype(jnp.uint32)
        top = gumbels_at(stream(key_of_words(_unsigned(words)[:2]), "top"), number)
        truncated = truncated_gumbels(fresh, top, factual, jax.nn.one_hot(token, size, dtype=bool))
        return jnp.where(token < 0, fresh, truncated)

    def shared(known: Array, words: Array, place: Array, step: Array) -> Array:
        kept, _, anew = _noise(words, place, step)
        return jnp.where(kept, known, token_gumbels_at(anew, size, place))

    places, steps, tokens = map(jnp.asarray, (_unsigned(pick.places), pick.steps, follow.tokens))
    factual = _log_probs(lm, buffer, law, follow, steps)
    known = relative if coupling.relative else gumbels
    found = jax.vmap(known)(jnp.asarray(follow.words), places, steps, factual, tokens)
    if not coupling.relative:
        found = jax.vmap(shared)(found, jnp.asarray(pick.words), places, steps)
    return law.chosen(_log_probs(lm, buffer, law, pick, steps), found, coupling)


def _told(lm: LanguageModel, buffer: Array, along: Along, law: TokenLaw) -> Array:
    """Log-probabilities of tokens, float32 ``[B]``; NaN where a token of the vocabulary has none."""
    log_probs = _log_probs(lm, buffer, law, along, jnp.asarray(along.steps))
    taken = jnp.take_along_axis(log_probs, jnp.maximum(jnp.asarray(along.tokens), 0)[:, None], axis=-1)[:, 0]
    return jnp.where(jnp.isnan(log_probs).any(-1), jnp.nan, taken)


def _over_lanes(function: Callable, lanes: int) -> Callable:
    """The function for arguments with a leading axis of lanes, apart from the language model's."""
    if lanes > 1:
        return lambda lm, *args: jax.vmap(partial(function, lm))(*args)

    def single(lm: LanguageModel, *args: Any) -> Any:
        return jax.tree.map(lambda x: x[None], function(lm, *jax.tree.map(lambda x: x[0], args)))

    return single


_What = int | TokenLaw | tuple[TokenLaw, Coupling | None] | None


@lru_cache(maxsize=256)
def _compiled(what: _What, treedef: Any, leaves: tuple, lanes: int, mesh: Mesh | None) -> Any:
    """A step, a reading of edges (with a size) or tokens (with a law; two: those of texts beside others, or of texts
    that are there), compiled for arguments of these shapes."""
    function: Callable = _step
    if isinstance(what, int):
        function = partial(_edges, size=what, split=mesh is not None)
    elif isinstance(what, tuple):
        law, coupling = what
        function = partial(_told, law=law) if coupling is None else partial(_followed, what=(law, coupling))
    elif what is not None:
        function = partial(_picked, law=what)
    args = jax.tree.unflatten(treedef, [jax.ShapeDtypeStruct(s, d, sharding=where) for s, d, where in leaves])
    options: dict[str, Any] = {}
    if mesh is not None and what is None:
        options["out_shardings"] = over_data(mesh), _pool_sharding(mesh, args[0].config.kept)
    elif mesh is not None:
        options["out_shardings"] = replicated(mesh)
    # Where buffers are reused, the old ones are given up.
    donated = (1, 2) if what is None else ()
    return jax.jit(_over_lanes(function, lanes), donate_argnums=donated, **options).lower(*args).compile()


class Forward:
    """Runs one language model; counts the time of compilation.

    Args:
        lm: the language model.
        lanes: how many calls are made at once, each with a pool of its own (one for each place on
            the mesh's data axis).
        mesh: where its parameters are, or None.
    """

    def __init__(self, lm: LanguageModel, lanes: int, mesh: Mesh | None):
        self.lm, self.lanes, self.mesh = lm, lanes, mesh
        self.compile_seconds = 0.0

    def _run(self, what: _What, *args: Any) -> Any:
        leaves, treedef = jax.tree.flatten((self.lm, *args))
        placed = self.mesh is not None
        described = tuple((jnp.shape(x), jnp.result_type(x), x.sharding if placed else None) for x in leaves)
        started, before = time.perf_counter(), _compiled.cache_info().misses
        compiled = _compiled(what, treedef, described, self.lanes, self.mesh)
        if _compiled.cache_info().misses != before:
            self.compile_seconds += time.perf_counter() - started
        return compiled(self.lm, *args)

    def _placed(self, arrays: list[Any]) -> Any:
        """Host arrays of all lanes, stacked and put on the devices."""
        stacked = jax.tree.map(lambda *xs: np.stack(xs), *arrays)
        mesh = self.mesh
        return stacked if mesh is None else jax.tree.map(lambda x: place(x, over_data(mesh)), stacked)

    def empty_buffer(self, size: int) -> Any:
        """A buffer for hidden states ``[lanes, size, width]``."""
        return self._placed([np.zeros((size, self.lm.config.width), self.lm.dtype)] * self.lanes)

    def step(self, pool: Pages, buffer: Array, layouts: list[Layout]) -> tuple[Array, Pages]:
        """Encode a call in every lane; the buffer with what is read, and the pool. Both are used up."""
        return self._run(None, pool, buffer, self._placed(layouts))

    def edges(self, buffer: Array, reads: list[Read], size: int) -> Array:
        """Log-probabilities ``[lanes, E]``, the same on every device."""
        return self._run(size, buffer, self._placed(reads))

    def tokens(
        self, buffer: Array, picks: list[Pick] | list[Follow], what: TokenLaw | tuple[TokenLaw, Coupling]
    ) -> Array:
        """The next tokens of texts, int32 ``[lanes, B]``, the same on every device.

        Args:
            buffer: hidden states.
            picks: which: ``Pick`` of each lane, or ``Follow``.
            what: their law, and the coupling with factual texts.
        """
        return self._run(what, buffer, self._placed(picks))

    def along(self, buffer: Array, tokens: list[Along], law: TokenLaw) -> Array:
        """Log-probabilities ``[lanes, B]`` of the tokens of observed texts, the same on every device."""
        return self._run((law, None), buffer, self._placed(tokens))
