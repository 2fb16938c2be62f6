"""How much memory a run takes where nobody says, and what is said where it is not there."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import jax

from ..models.language_model import LanguageModel

# On a processor, whose memory is shared with everything else.
HOST = 2 << 30


def on_accelerator(lm: LanguageModel) -> bool:
    """Are the parameters on a device that is no processor?"""
    arrays = (x for x in jax.tree.leaves(lm.params) if isinstance(x, jax.Array))
    return any(device.platform != "cpu" for x in arrays for device in x.devices())


def default_memory(lms: Sequence[LanguageModel]) -> int:
    """Bytes for keys and values: half of what the accelerator that holds the parameters has left."""
    arrays = [x for lm in lms for x in jax.tree.leaves(lm.params) if isinstance(x, jax.Array)]
    shards = [shard for x in arrays[:1] for shard in x.addressable_shards]
    figures = [shard.device.memory_stats() for shard in shards]
    left = [f["bytes_limit"] - f["bytes_in_use"] for f in figures if f and "bytes_limit" in f]
    return max(1, min(left) // 2) if left else HOST


def with_less(what: str) -> None:
    """Say that the device's memory does not suffice, and what goes through the language model from now on."""
    warnings.warn(
        f"the device is out of memory; from now on {what} go through the language model together",
        RuntimeWarning,
        stacklevel=4,
    )


def exhausted(error: jax.errors.JaxRuntimeError) -> bool:
    """Is it for want of device memory?"""
    return "RESOURCE_EXHAUSTED" in str(error)
