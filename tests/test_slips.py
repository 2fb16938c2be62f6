"""Calls as people mistake them: arguments twice, in the wrong place, or of a model that was called already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax import handlers
from sdscm_jax.errors import ProgramError, SDSCMError, SiteError
from sdscm_jax.testing import mock_lm

LM = mock_lm()


def day(lm: Any, kindness: Any) -> sd.Phrase:
    sky = sd.sample("sky", sd.Choice(lm, "The day was {}.", ["sunny", "rainy"], temperature=1.0 + kindness))
    return sd.sample("mood", sd.Choice(lm, "He was {}.", ["happy", "sad"], given=[sky]))


CALLS: dict[str, tuple[type[SDSCMError], str, Callable[[], Any]]] = {
    "an argument that is bound, and given again": (
        ProgramError,
        r"a model, day\(lm.*, is called with 3 arguments .*too many positional",
        lambda: handlers.exogenous(sd.tabulate(day, LM, 0.0), 0)(0.5),
    ),
    "the same by name": (
        ProgramError,
        "multiple values for argument 'kindness'",
        lambda: handlers.exogenous(sd.tabulate(day, LM, kindness=0.0), 0)(0.5),
    ),
    "more to bind than it takes": (ProgramError, "too many positional", lambda: sd.tabulate(day, LM, 0.0, 1.0)),
    "a name that it has not": (ProgramError, "argument 'kindess'", lambda: sd.tabulate(day, LM, kindess=1.0)),
    "one too few": (ProgramError, "missing a required", lambda: handlers.exogenous(sd.tabulate(day, LM), 0)()),
    "a model that was called": (
        SiteError,
        "site 'sky' is drawn outside of a model: give the function itself",
        lambda: sd.simulate(day(LM, 0.0), 0, 10),
    ),
    "a table that nothing runs": (
        SiteError,
        r"The day was \{\}\.: no handler gives its site a key: run the model by sd.simulate",
        lambda: sd.tabulate(day, LM)(0.0),
    ),
    "free text outside of a model": (
        SiteError,
        "site 'story' is drawn outside of a model",
        lambda: sd.sample("story", sd.Text(LM, "{}", max_tokens=2)),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_is_refused(name: str) -> None:
    error, said, call = CALLS[name]
    with pytest.raises(error, match=said):
        call()


def test_arguments_are_bound_now_or_given_later() -> None:
    whole, part = sd.tabulate(day, LM, 0.5), sd.tabulate(day, LM)
    assert bool(handlers.exogenous(whole, 3)() == handlers.exogenous(part, 3)(0.5))
    # What was observed is no draw.
    assert sd.sample("sky", sd.Choice(LM, "The day was {}.", ["sunny", "rainy"]), obs="rainy").text == "rainy"


def test_two_worlds_of_a_contrast_are_two() -> None:
    data = sd.simulate(day, 0, 20, LM, 0.0, worlds=[{"sky": "sunny"}, {"sky": "rainy"}])
    with pytest.raises(SiteError, match="low and high are both 'sunny'"):
        sd.contrast(data, "sky", "mood", "sunny", "sunny")
    with pytest.raises(SiteError, match="treatment and outcome are both 'sky'"):
        sd.contrast(data, "sky", "sky", "sunny", "rainy")


def test_a_table_is_closed_over_and_its_scores_are_arguments() -> None:
    table = sd.tabulate(day, LM)
    handlers.exogenous(table, 0)(0.0)
    assert jax.tree.leaves(table) == [table]
    with pytest.raises(TypeError, match="Tabulated"):
        jax.jit(lambda t: 0)(table)
    odds = jax.jit(jax.vmap(lambda temperature: handlers.exogenous(table, 0)(temperature).index))
    assert odds(jnp.zeros(3)).shape == (3,)
    scores = table.scores("mood")
    np.testing.assert_allclose(jax.jit(jax.nn.softmax)(scores).sum(-1), 1, rtol=1e-6)
