"""Parsers of shared inputs: what they take, what they refuse, and what they say."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdscm_jax import checks
from sdscm_jax.errors import AuditError, SDSCMError

NO_NUMBERS = [True, np.bool_(True), "1", None, 1j, [1], np.array([1]), jnp.array([1]), jax.random.key(0), b"1"]


@pytest.mark.parametrize("three", [3, np.int8(3), np.uint64(3), np.array(3), jnp.int32(3), jnp.array(3)])
def test_counts_of_every_kind_are_plain_integers(three: Any) -> None:
    assert checks.count(three, "units") == 3
    assert type(checks.count(three, "units")) is int


@pytest.mark.parametrize(
    "half", [0.5, np.float16(0.5), np.float64(0.5), jnp.bfloat16(0.5), np.array(0.5), Fraction(1, 2)]
)
def test_numbers_of_every_kind_are_plain_floats(half: Any) -> None:
    for parsed in (checks.real(half, "margin"), checks.share(half, "level")):
        assert parsed == 0.5
        assert type(parsed) is float


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, -1, 1.0, 2.5, math.nan, math.inf])
def test_what_is_no_count(value: Any) -> None:
    with pytest.raises(AuditError, match=r"units is an integer of at least 1, got ") as found:
        checks.count(value, "units", AuditError)
    assert str(found.value).endswith(checks.told(value))


def test_a_count_has_a_most() -> None:
    assert checks.count(4, "largest", least=0, most=4) == 4
    with pytest.raises(SDSCMError, match="largest is an integer from 0 to 4, got 5"):
        checks.count(5, "largest", least=0, most=4)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, 1, 1.0, -0.05, 95, math.nan, math.inf, -math.inf])
def test_what_is_no_share(value: Any) -> None:
    with pytest.raises(AuditError, match="rate is a number between 0 and 1, got "):
        checks.share(value, "rate", AuditError)


def test_a_percentage_is_asked_about() -> None:
    with pytest.raises(SDSCMError, match=r"got 95; did you mean 0\.95\?$"):
        checks.share(95, "level")
    with pytest.raises(SDSCMError, match=r"got 9500$"):
        checks.share(9500, "level")


@pytest.mark.parametrize("value", [*NO_NUMBERS, math.nan, math.inf, -math.inf, -1e-9])
def test_what_is_no_number_of_a_range(value: Any) -> None:
    with pytest.raises(SDSCMError, match="margin is a finite number, at least 0, got "):
        checks.real(value, "margin", least=0)


def test_ends_of_a_range() -> None:
    assert checks.real(0, "margin", least=0, most=1) == 0.0
    for ends, value, expected in [
        ({"least": 0, "most": 1}, 2, "at least 0 and at most 1"),
        ({"above": 0, "most": 1}, 0, "above 0 and at most 1"),
        ({"above": 0, "below": 1}, 1, "above 0 and below 1"),
        ({"above": 0}, 0, "above 0"),
    ]:
        with pytest.raises(SDSCMError, match=f"x is a finite number, {expected}, got {value}"):
            checks.real(value, "x", **ends)
    with pytest.raises(SDSCMError, match="x is a finite number, got inf"):
        checks.real(math.inf, "x")


def test_positive_numbers_and_arrays_pass_as_they_are() -> None:
    for value in (1, 0.5, np.array([1.0, 2.0]), jnp.array([[0.5]]), [1, 2], jnp.bfloat16(1)):
        assert checks.positive(value, "temperature") is value
    assert float(jax.jit(lambda t: checks.positive(t, "temperature"))(2.0)) == 2.0
    for value in (0, -1.0, math.nan, True, "warm", None, [1, 0], np.array([True]), jnp.array([jnp.nan]), [[1], [1, 2]]):
        with pytest.raises(SDSCMError, match="temperature is positive, got "):
            checks.positive(value, "temperature")


def test_seeds_that_jax_would_cut_are_refused() -> None:
    assert checks.seed(np.uint32(2**32 - 1)) == 2**32 - 1
    # Without a check, JAX makes one key of these two.
    assert bool((jax.random.key_data(jax.random.key(2**32)) == jax.random.key_data(jax.random.key(0))).all())
    for value in (2**32, -1, 1.0, "0", True):
        with pytest.raises(SDSCMError, match="seed is an integer from 0 to 4294967295, got "):
            checks.seed(value)


@pytest.mark.parametrize("value", ["gumble", "Gumbel", "", None, 0, ["gumbel"], True])
def test_what_is_no_name(value: Any) -> None:
    with pytest.raises(AuditError, match=r"unknown coupling .*known: 'gumbel', 'inverse_cdf'") as found:
        checks.one_of(value, ("gumbel", "inverse_cdf"), "coupling", AuditError)
    assert checks.told(value) in str(found.value)


def test_the_nearest_name_is_said() -> None:
    with pytest.raises(SDSCMError, match=r"^site 'x': unknown coupling 'gumble'; did you mean 'gumbel'\? "):
        checks.one_of("gumble", ("gumbel", "inverse_cdf"), "coupling", where="site 'x'")


def test_what_is_traced_is_no_number() -> None:
    def units(n: Any) -> Any:
        return jnp.zeros(checks.count(n, "n"))

    with pytest.raises(SDSCMError, match="n is an integer of at least 1, got "):
        jax.jit(units)(3)


def test_long_values_are_cut() -> None:
    assert len(checks.told(list(range(1000)))) == 80
