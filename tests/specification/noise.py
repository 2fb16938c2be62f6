"""Exogenous noise, in plain Python: Threefry-2x32 with 20 rounds, and what the specification draws with it.

A key is two words of 32 bits. DESIGN §2, "Keys": a unit is a number, a site a name, an option a text, each with a
name space of its own; streams that are no site's live in another.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

Key = tuple[int, int]

_MASK = 0xFFFFFFFF
_TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: Key, counter: Key) -> Key:
    """A block of Threefry-2x32 (Salmon et al. 2011)."""
    words = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    a, b = (counter[0] + words[0]) & _MASK, (counter[1] + words[1]) & _MASK
    for block in range(5):
        for turn in _TURNS[block % 2]:
            a = (a + b) & _MASK
            b = a ^ (((b << turn) | (b >> (32 - turn))) & _MASK)
        a = (a + words[(block + 1) % 3]) & _MASK
        b = (b + words[(block + 2) % 3] + block + 1) & _MASK
    return a, b


def seed(number: int) -> Key:
    """The key of a seed below 2^32."""
    return 0, number


def fold_number(key: Key, number: int) -> Key:
    """The key of unit (draw, split) ``number``."""
    return threefry(key, (0, number))


def fold_text(key: Key, text: str, space: str) -> Key:
    """The key of a site, an option or a stream."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=space.encode()).digest()
    return threefry(key, (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")))


def site_key(key: Key, name: str) -> Key:
    return fold_text(key, name, "site")


def stream(key: Key, name: str) -> Key:
    return fold_text(key, name, "stream")


def option_gumbel(key: Key, option: str, member: int) -> float:
    """The Gumbel of an option of a site with this key, of a member of a plate: 46 bits where it is far out."""
    a, b = threefry(fold_text(key, option, "option"), (0, member))
    uniform = (a >> 9) * 2.0**-23
    if uniform < 0.5:
        uniform = float(np.float32(uniform + (b >> 9) * 2.0**-46 + np.finfo(np.float32).tiny))
    return -math.log(-math.log1p(-uniform))


def uniform(key: Key, member: int) -> float:
    """The uniform on [0, 1) of a member of a plate."""
    return (threefry(key, (0, member))[0] >> 8) * 2.0**-24


def as_jax(key: Key) -> Any:
    """The same key for the samplers of NumPyro."""
    import jax

    return jax.random.wrap_key_data(np.array(key, np.uint32), impl="threefry2x32")
