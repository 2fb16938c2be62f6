"""``do=``, ``worlds=`` and handlers are one request: what a value becomes at a site, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers as nh
from numpyro.contrib.control_flow import cond, scan

import sdscm_jax as sd
from sdscm_jax.dsl.language.fit import Slot, fit
from sdscm_jax.handlers import do, exogenous, nested
from sdscm_jax.testing import mock_lm

UNITS = 4
LEVELS = ["low", "middle", "high"]


def numbers() -> None:
    count = numpyro.sample("count", dist.Poisson(3.0))
    twice = numpyro.deterministic("twice", 2 * count)
    with numpyro.plate("members", 3):
        x = numpyro.sample("x", dist.Normal(0.0, 1.0))
        numpyro.sample("share", dist.Beta(2.0, 2.0))
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(2)))
    numpyro.deterministic("total", x.sum() + count + twice + weights[0])


def words(lm: sd.LanguageModel) -> None:
    with numpyro.plate("patients", 3):
        level = sd.sample("level", sd.Choice(lm, "It is {}.", LEVELS))
        sd.sample("plan", sd.Choice(lm, "Then {}.", ["wait", "treat"], given=[level]))
    numpyro.deterministic("score", level.map({"low": 0.0, "middle": 1.0, "high": 2.0}).sum())


def steps() -> None:
    def step(total: Any, _: None) -> tuple[Any, None]:
        with numpyro.plate("pair", 2):
            x = numpyro.sample("x", dist.Poisson(3.0))
        return total + x.sum(), None

    numpyro.deterministic("total", scan(step, 0, None, length=3)[0])


@pytest.fixture(scope="module")
def said() -> sd.LanguageModel:
    return mock_lm(words)


def by_each_spelling(model: Callable, world: dict[str, Any], *args: Any) -> list[dict[str, np.ndarray]]:
    """Values ``[n, ...]`` of the same units by ``do=``, ``worlds=``, the handler, and nested."""
    set_by = sd.simulate(model, 0, UNITS, *args, do=world).values
    beside = sd.simulate(model, 0, UNITS, *args, worlds=[world, {name: nested(world) for name in world}]).values

    def unit(key: jax.Array) -> dict[str, Any]:
        trace = nh.trace(exogenous(do(model, world), key)).get_trace(*args)
        return {name: msg["value"] for name, msg in trace.items() if msg["type"] in ("sample", "deterministic")}

    by_hand = [unit(jax.random.fold_in(jax.random.key(0), i)) for i in range(UNITS)]
    stacked = {name: np.stack([np.asarray(values[name]) for values in by_hand]) for name in set_by}
    worlds = [{name: x[:, w] for name, x in beside.items()} for w in (1, 2)]
    return [{name: x[:, 0] for name, x in set_by.items()}, *worlds, stacked]


def agree(model: Callable, world: dict[str, Any], *args: Any) -> dict[str, np.ndarray]:
    first, *others = by_each_spelling(model, world, *args)
    for other in others:
        chex.assert_trees_all_equal_shapes_and_dtypes(first, other)
        chex.assert_trees_all_close(first, other, rtol=1e-6, atol=1e-6)
    return first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("site", "value", "becomes"),
    [
        ("count", 5.0, 5),
        ("count", True, 1),
        ("twice", np.int64(7), 7),
        ("x", 2, [2.0] * 3),
        ("x", [1, 2, 3], [1.0, 2.0, 3.0]),
        ("share", 0.25, [0.25] * 3),
        ("weights", [0.25, 0.75], [0.25, 0.75]),
    ],
)
def test_a_number_has_the_shape_and_dtype_of_the_site(site: str, value: Any, becomes: Any) -> None:
    found = agree(numbers, {site: value})
    assert found[site].tolist() == [becomes] * UNITS
    assert found[site].dtype == (np.int32 if site in ("count", "twice") else np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("site", "value"),
    [
        ("x", dist.Normal(5.0, 2.0)),
        ("x", dist.Bernoulli(0.5)),
        ("x", dist.Delta(2.0)),
        ("count", dist.Binomial(4, 0.5)),
        ("count", lambda count: count + 1),
        ("share", lambda share: share / 2),
    ],
)
def test_drawn_and_changed_numbers_agree(site: str, value: Any) -> None:
    natural, found = sd.simulate(numbers, 0, UNITS).values, agree(numbers, {site: value})
    assert not np.array_equal(natural[site][:, 0], found[site])


@pytest.mark.parametrize("value", ["high", 2, ["low", "high", "middle"], "uniform", dist.Bernoulli(0.5)])
def test_options_in_a_plate(said: sd.LanguageModel, value: Any) -> None:
    found = agree(words, {"level": value}, said)
    np.testing.assert_array_equal(found["score"], found["level"].sum(-1))
    assert found["level"].shape == (UNITS, 3)
    if value in ("uniform",) or isinstance(value, dist.Distribution):
        # Every member is drawn.
        assert (found["level"] != found["level"][:, :1]).any()


@pytest.mark.slow
def test_a_value_for_each_step() -> None:
    one = agree(steps, {"x": 2})
    assert one["total"].tolist() == [12] * UNITS
    several = agree(steps, {"x": [[0], [1], [4]]})
    assert several["x"].tolist() == [[[0, 0], [1, 1], [4, 4]]] * UNITS
    assert several["total"].tolist() == [10] * UNITS
    with pytest.raises(sd.InterventionError, match="site 'x' takes a value of shape"):
        sd.simulate(steps, 0, 2, do={"x": [1, 2, 3, 4]})


REFUSED = [
    ("count", 2.7, "takes whole numbers"),
    ("count", -1, "integer"),
    ("count", "three", "takes numbers"),
    ("count", dist.Normal(0.0, 1.0), "Normal is continuous"),
    ("count", dist.Uniform(0.0, 1.0), "Uniform is continuous"),
    ("count", lambda count: count * 1.5, "takes whole numbers"),
    ("twice", 2.5, "takes whole numbers"),
    ("twice", lambda twice: twice + 0.5, "takes whole numbers"),
    ("x", jnp.nan, "NaN"),
    ("x", [1.0, 2.0], "takes a value of shape"),
    ("x", dist.Normal(jnp.zeros(2), 1.0), "takes a distribution of shape"),
    ("share", 1.5, "site 'share' takes values"),
    ("share", dist.Normal(0.0, 1.0), "gives -inf to inf"),
    ("weights", [0.5, 0.6], "simplex"),
]


@pytest.mark.parametrize(("site", "value", "message"), REFUSED, ids=[f"{s}-{i}" for i, (s, *_) in enumerate(REFUSED)])
def test_what_does_not_fit_is_refused_by_each_spelling(site: str, value: Any, message: str) -> None:
    for run in (
        lambda: sd.simulate(numbers, 0, 2, do={site: value}),
        lambda: sd.simulate(numbers, 0, 2, worlds=[{site: value}]),
        lambda: exogenous(do(numbers, {site: value}), 0)(),
    ):
        with pytest.raises(sd.InterventionError, match=message) as caught:
            run()
        assert f"site {site!r}" in str(caught.value)


@pytest.mark.slow
def test_no_option_is_refused_or_found(said: sd.LanguageModel) -> None:
    for value in (3, -1, 1.0, dist.Categorical(jnp.ones(4) / 4), dist.Poisson(1.0), lambda level: level.index * 0.5):
        for spelled in ({"do": {"level": value}}, {"worlds": [{"level": value}]}):
            with pytest.raises(sd.InterventionError, match="site 'level'"):
                sd.simulate(words, 0, 3, said, **spelled)
    # What a function gives is known when it has been drawn.
    for execution in ("staged", "in_graph"):
        for spelled in ({"do": {"level": lambda x: x.index + 2}}, {"worlds": [{"level": lambda x: x.index + 2}]}):
            refused = r"site 'level': in .* of 30 rows the intervention .*one of its 3 options"
            with pytest.raises(sd.InterventionError, match=refused):
                sd.simulate(words, 0, 30, said, execution=execution, **spelled)
    with pytest.raises(sd.InterventionError, match="site 'share': in 3 of 3 rows"):
        sd.simulate(numbers, 0, 3, worlds=[{"share": lambda share: share + 1}])
    with pytest.raises(sd.InterventionError, match=r"site 'count': in .* rows"):
        sd.simulate(numbers, 0, 30, do={"count": lambda count: count - 4})


def test_evidence_is_fitted_alike(said: sd.LanguageModel) -> None:
    one = sd.simulate(words, 0, 3, said, evidence={"level": "high"})
    assert one.values["level"].tolist() == [[[2, 2, 2]]] * 3
    assert one.values["plan"].shape == (3, 1, 3)
    with pytest.raises(sd.EvidenceError, match="takes whole numbers"):
        sd.simulate(numbers, 0, 2, evidence={"count": 2.7})


@pytest.mark.slow
def test_branches_that_are_given_other_strings() -> None:
    def model(lm: sd.LanguageModel) -> None:
        sun = numpyro.sample("sun", dist.Bernoulli(0.5))

        def after(weather: str) -> Callable:
            return lambda _: numpyro.sample("t", sd.Choice(lm, "It is {}.", LEVELS, given=weather))

        numpyro.deterministic("r", cond(sun == 1, after("Sunny day."), after("Rainy day."), None))

    lm = mock_lm(lambda lm: sd.sample("t", sd.Choice(lm, "It is {}.", LEVELS, given="Sunny day.")) and None)
    units = 4000
    data = sd.simulate(model, 0, units, lm, worlds=[{"sun": 1}, {"sun": 0}, {"t": "high"}])
    np.testing.assert_array_equal(data.values["t"], data.values["r"])
    assert (data.values["t"][:, 3] == 2).all()
    for world, weather in ((1, "Sunny day."), (2, "Rainy day.")):
        law = np.asarray(sd.Choice(lm, "It is {}.", LEVELS, given=weather).probs)
        drawn = np.bincount(data.values["t"][:, world], minlength=3) / units
        np.testing.assert_allclose(drawn, law, atol=5 * 0.5 / np.sqrt(units))
    agree(model, {"t": lambda t: 2 - t.index}, lm)


def test_branches_with_other_templates_are_refused() -> None:
    def model(lm: sd.LanguageModel) -> None:
        sun = numpyro.sample("sun", dist.Bernoulli(0.5))

        def after(template: str) -> Callable:
            return lambda _: numpyro.sample("t", sd.Choice(lm, template, LEVELS))

        cond(sun == 1, after("It is {}."), after("Now {}."), None)

    with pytest.raises(sd.SiteError, match="branches of a cond"):
        sd.simulate(model, 0, 2, mock_lm(lambda lm: sd.sample("t", sd.Choice(lm, "It is {}.", LEVELS)) and None))


def test_units_before_steps() -> None:
    slot = Slot("x", (3,), jnp.float32, steps=((jnp.int32(1), 2),))
    assert fit([[1, 2, 3], [4, 5, 6]], slot)[0].tolist() == [4, 5, 6]
    array, per_unit = fit([1, 2], Slot("x", (), jnp.float32), units=2)
    assert (array.tolist(), per_unit) == ([1.0, 2.0], True)


@pytest.mark.parametrize("value", ["high", "uniform", dist.Bernoulli(0.5), lambda natural: 1 - natural.index])
def test_a_plate_around_an_intervention(value: Any) -> None:
    """As the plate inside of it: one value, or one draw, for each member."""

    def unit(lm: sd.LanguageModel) -> sd.Phrase:
        return sd.sample("x", sd.Choice(lm, "It is {}.", ["low", "high"], scoring="uniform"))

    def inside(lm: sd.LanguageModel) -> sd.Phrase:
        with numpyro.plate("members", 50):
            return unit(lm)

    def around(lm: sd.LanguageModel) -> sd.Phrase:
        with numpyro.plate("members", 50):
            return do(unit, {"x": value})(lm)

    lm = mock_lm(unit)
    found, expected = exogenous(around, 3)(lm).index, exogenous(do(inside, {"x": value}), 3)(lm).index
    assert found.shape == (50,)
    np.testing.assert_array_equal(found, expected)
    assert (len(set(found.tolist())) == 1) == (isinstance(value, str) and value == "high")
