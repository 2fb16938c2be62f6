"""Streams of noise: Threefry written out against JAX's, laws of keys, and names that no stream shares."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy.stats import gumbel_r, kstest

import sdscm_jax as sd
from sdscm_jax import testing
from sdscm_jax.dsl.noise.streams import (
    as_key,
    fold_in,
    fold_text,
    gumbels,
    option_gumbels,
    stream,
    text_words,
    token_gumbels,
    uniforms,
)
from sdscm_jax.errors import RandomKeyError

KEY = jax.random.key(7)


def words(key: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(key))


def test_a_name_is_one_block_of_threefry() -> None:
    counter = jnp.array(text_words("pdl1"), jnp.uint32)
    assert (words(fold_text(KEY, "pdl1")) == threefry_2x32(jax.random.key_data(KEY), counter)).all()


@pytest.mark.parametrize("number", [0, 1, 2**31, 2**32 - 1])
def test_a_number_is_folded_as_jax_does(number: int) -> None:
    assert (words(fold_in(KEY, number)) == words(jax.random.fold_in(KEY, number))).all()


def test_texts_that_share_32_bits_do_not_share_noise() -> None:
    # "39506" and "40625" had one hash of 32 bits.
    assert text_words("39506", "option") != text_words("40625", "option")
    noise = option_gumbels(KEY, ("39506", "40625"), (100,))
    assert (noise[:, 0] != noise[:, 1]).all()
    assert len({text_words(str(i)) for i in range(100_000)}) == 100_000


def test_name_spaces_are_apart() -> None:
    spaces = ("site", "option", "stream")
    for a, b in itertools.combinations(spaces, 2):
        assert text_words("causes", a) != text_words("causes", b)
    assert (words(stream(KEY, "causes")) != words(fold_text(KEY, "causes"))).any()


@pytest.mark.parametrize(
    "key",
    [
        3,
        np.int64(3),
        jax.random.key(3),
        jax.random.PRNGKey(3),
        np.array([0, 3], np.uint32),
        jax.random.key(3, impl="rbg"),
    ],
)
def test_keys_of_every_type_are_one_stream(key: Any) -> None:
    assert as_key(key).dtype == jax.random.key(0).dtype
    assert (words(as_key(key)) == words(jax.random.key(3))).all()


def test_keys_folded_from_rbg_are_those_folded_from_threefry() -> None:
    other = jax.random.fold_in(jax.random.key(3, impl="rbg"), 5)
    assert (words(as_key(other)) == words(jax.random.fold_in(jax.random.key(3), 5))).all()
    assert (words(as_key(jax.random.key_data(other))) == words(as_key(other))).all()


def test_all_words_of_a_long_key_count() -> None:
    data = [np.array(x, np.uint32) for x in ([1, 2, 1, 2], [1, 2, 1, 3], [1, 2, 0, 2])]
    found = {tuple(words(as_key(jax.random.wrap_key_data(x, impl="unsafe_rbg"))).tolist()) for x in data}
    assert len(found) == 3


@pytest.mark.parametrize(
    "key", [None, True, "0", 0.5, jax.random.split(KEY, 3), np.zeros(3), np.zeros((2, 2), np.uint32)]
)
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(RandomKeyError, match="expected one PRNG key"):
        as_key(key)


def test_a_batch_of_keys_is_no_unit() -> None:
    def model() -> Any:
        return sd.sample("x", sd.Choice(testing.mock_lm(), "It is {}.", ["a", "b"]))

    with pytest.raises(RandomKeyError, match="3 keys"):
        sd.handlers.exogenous(model, jax.random.split(KEY, 3))
    with pytest.raises(RandomKeyError, match="3 keys"):
        sd.simulate(model, jax.random.split(KEY, 3), 2)


@pytest.mark.parametrize("x64", [False, True])
def test_noise_has_its_law_and_its_dtype(x64: bool) -> None:
    with jax.enable_x64(x64):
        for noise in (
            gumbels(KEY, (20_000,)),
            option_gumbels(KEY, ("low", "high"), (20_000,))[:, 1],
            token_gumbels(KEY, 20_000, ()),
            token_gumbels(KEY, 2, (20_000,))[:, 1],
        ):
            assert noise.dtype == jnp.float32
            assert kstest(np.asarray(noise), gumbel_r.cdf).pvalue > 1e-4
        uniform = uniforms(KEY, (20_000,))
        assert uniform.dtype == jnp.float32
        assert kstest(np.asarray(uniform), "uniform").pvalue > 1e-4


def test_more_members_options_and_tokens_change_nothing() -> None:
    assert (gumbels(KEY, (5,)) == gumbels(KEY, (9,))[:5]).all()
    assert (uniforms(KEY, (5,)) == uniforms(KEY, (9,))[:5]).all()
    both = option_gumbels(KEY, ("a", "b"), (9,))
    assert (option_gumbels(KEY, ("b", "c", "a"), (5,))[:, [2, 0]] == both[:5]).all()
    assert (token_gumbels(KEY, 257, (3,)) == token_gumbels(KEY, 320, (4,))[:3, :257]).all()


def test_noise_does_not_depend_on_vectorising() -> None:
    keys = jax.random.split(KEY, 6)
    alone = np.stack([option_gumbels(key, ("a", "b"), (2,)) for key in keys])
    assert (jax.vmap(lambda key: option_gumbels(key, ("a", "b"), (2,)))(keys) == alone).all()


def coin() -> Any:
    return sd.sample("x", sd.Choice(testing.mock_lm(), "It is {}.", ["a", "b", "c"], scoring="uniform"))


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_units_of_other_generators_do_not_depend_on_chunks(impl: str) -> None:
    key = jax.random.key(4, impl=impl)
    whole = sd.simulate(coin, key, 60).values["x"]
    assert (sd.simulate(coin, key, 60, chunk=7).values["x"] == whole).all()
    if impl == "rbg":
        unit = sd.handlers.exogenous(coin, jax.random.fold_in(key, 11))()
        assert unit.index == whole[11, 0]
