"""How much memory a run takes where nobody says."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from ..models.language_model import LanguageModel

# On a processor, whose memory is shared with everything else.
HOST = 2 << 30


def default_memory(lms: Sequence[LanguageModel]) -> int:
    """Bytes for keys and values: half of what the accelerator that holds the parameters has left."""
    arrays = [x for lm in lms for x in jax.tree.leaves(lm.params) if isinstance(x, jax.Array)]
    shards = [shard for x in arrays[:1] for shard in x.addressable_shards]
    figures = [shard.device.memory_stats() for shard in shards]
    left = [f["bytes_limit"] - f["bytes_in_use"] for f in figures if f and "bytes_limit" in f]
    return max(1, min(left) // 2) if left else HOST
