"""Programs as networks: their tables against what was written down, and what is refused, by name."""

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
from numpyro.contrib.control_flow import scan

import sdscm_jax as sd
from sdscm_jax import effects
from sdscm_jax.effects import factors
from sdscm_jax.effects import network as network_of
from sdscm_jax.effects.counterfactual_graph import Target
from sdscm_jax.effects.factors import _NUMPYRO_COUPLINGS
from sdscm_jax.effects.responses import joint_responses
from sdscm_jax.errors import EffectError, SiteError

from ..dice import die

P_X = np.array([0.7, 0.3])
P_Z = np.array([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]])
P_DAY = np.array([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
P_Y = np.array([0.1, 0.8])
ATOL = 1e-5


def mixed(lm: sd.LanguageModel) -> None:
    """Numbers, words for numbers, a die that reads the words, a language model whose temperature is a number."""
    x = numpyro.sample("x", dist.Bernoulli(P_X[1]))
    z = numpyro.sample("z", dist.Categorical(probs=jnp.array(P_Z)[x]))
    total = numpyro.deterministic("total", x + z)
    level = sd.verbalize("level", total, [1, 2], ["low", "medium", "high"], "The level is {}.")
    day = sd.sample("day", die(lm, jnp.array(P_DAY)[level.index], ("sunny", "rainy"), given=[level]))
    temperature = jnp.where(x == 1, 0.5, 3.0)
    sd.sample("name", sd.Choice(lm, "My name is {}.", ["John", "Jane"], given=[day], temperature=temperature))
    numpyro.sample("y", dist.Bernoulli(day.map(dict(zip(("sunny", "rainy"), P_Y, strict=True)))))


@pytest.fixture(scope="module")
def table(embedded: sd.LanguageModel) -> sd.Tabulated:
    return sd.tabulate(mixed, embedded)


def test_tables(table: sd.Tabulated) -> None:
    net = network_of(table)
    assert net.names == ("x", "z", "day", "name", "y")
    assert {name: net[name].parents for name in net.names} == {
        "x": (), "z": ("x",), "day": ("x", "z"), "name": ("x", "day"), "y": ("day",),
    }  # fmt: skip
    chex.assert_trees_all_close(net["x"].table, P_X, atol=ATOL)
    chex.assert_trees_all_close(net["z"].table, P_Z, atol=ATOL)
    for x, z in np.ndindex(2, 3):
        chex.assert_trees_all_close(net["day"].table[x, z], P_DAY[min(x + z, 2)], atol=ATOL)
    scores = np.asarray(table.scores("name"), np.float64)
    for x, day in np.ndindex(2, 2):
        weights = np.exp(scores[day] / (0.5 if x else 3.0))
        chex.assert_trees_all_close(net["name"].table[x, day], weights / weights.sum(), atol=1e-4)
    chex.assert_trees_all_close(net["y"].table, np.stack([1 - P_Y, P_Y], -1), atol=ATOL)
    assert net["z"].options == ("0", "1", "2")
    assert net["day"].options == ("sunny", "rainy")


def test_tables_with_labels(table: sd.Tabulated) -> None:
    source = effects.exact(table)
    for name in source.names:
        found, factor = source.table(name), source.network[name]
        assert (found.columns.name, tuple(found.columns)) == (name, source.options(name))
        assert len(found) == max(1, np.prod([len(source.options(p)) for p in source.parents(name)]))
        assert list(found.index.names) == list(source.parents(name) or [None])
        np.testing.assert_array_equal(found.to_numpy().ravel(), factor.table.ravel())
    assert source.table("day").loc[("1", "2"), "rainy"] == source.network["day"].table[1, 2, 1]
    assert source.table("y").loc["rainy", "1"] == source.network["y"].table[1, 1]
    with pytest.raises(SiteError, match="unknown site 'z1'"):
        source.table("z1")


def of_phrases(lm: sd.LanguageModel) -> None:
    """Sites given others as they are, in any order and twice, with a constant temperature, and one by chance."""
    who = sd.sample("who", sd.Choice(lm, "A {} came.", ["man", "woman", "child"], scoring="uniform"))
    day = sd.sample("day", sd.Choice(lm, "It was {}.", ["Monday", "Sunday"]), exogenous=True)
    law = sd.Choice(lm, "All were {}.", ["glad", "sad"], given=[day, "So it was.", who, day], temperature=0.7)
    mood = sd.sample("mood", law)
    sd.sample("end", sd.Choice(lm, "They {}.", ["left", "stayed", "sang"], given=[mood, who], coupling="inverse_cdf"))


def beyond_phrases(lm: sd.LanguageModel) -> None:
    """Sites whose laws are more than a table: computed contexts, a bias, a temperature that a site decides."""
    day = sd.sample("day", sd.Choice(lm, "It was {}.", ["Monday", "Sunday"]))
    who = sd.sample("who", sd.Choice(lm, "A {} came.", ["man", "woman"], given=[day], bias=jnp.array([0.3, -1.0])))
    other = sd.Choice(lm, "A {} came.", ["man", "woman"]).phrase(1 - who.index)
    mood = sd.sample("mood", sd.Choice(lm, "All were {}.", ["glad", "sad"], given=[day, other]))
    heat = mood.map({"glad": 0.5, "sad": 2.0})
    sd.sample("end", sd.Choice(lm, "They {}.", ["left", "stayed"], given=[day], temperature=heat))


def of_a_constant(lm: sd.LanguageModel) -> None:
    sd.handlers.do(of_phrases, {"who": "child"})(lm)


@pytest.mark.parametrize("model", [of_phrases, beyond_phrases, of_a_constant])
@pytest.mark.parametrize("around", [lambda fn: fn, lambda fn: sd.handlers.couple(fn, "independent")])
def test_what_is_read_off_tables_is_what_the_program_says(
    model: Callable, around: Callable, embedded: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fn = around(sd.tabulate(model, embedded))
    found = network_of(fn)
    monkeypatch.setattr(factors, "read_off", lambda *_: {})
    said = network_of(fn)
    for own, other in zip(found.factors, said.factors, strict=True):
        assert (own.site, own.parents, own.options, own.coupling, own.exogenous) == (
            other.site, other.parents, other.options, other.coupling, other.exogenous,
        )  # fmt: skip
        np.testing.assert_allclose(own.table, other.table, atol=ATOL)


def test_tables_of_phrases_are_not_evaluated(embedded: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    table = sd.tabulate(of_phrases, embedded)

    def evaluated(*args: Any) -> None:
        raise AssertionError(f"{args[3].name} was evaluated")

    monkeypatch.setattr(factors, "_evaluated", evaluated)
    assert network_of(table)["end"].coupling == "inverse_cdf"
    with pytest.raises(AssertionError, match="who was evaluated"):
        network_of(sd.tabulate(beyond_phrases, embedded))


def test_effects_of_numbers_and_words(table: sd.Tabulated) -> None:
    # Of x on y through z, the words and the day; by hand.
    law = []
    for x in (0, 1):
        rainy = sum(P_Z[x, z] * P_DAY[min(x + z, 2), 1] for z in range(3))
        law.append((1 - rainy) * P_Y[0] + rainy * P_Y[1])
    for levels in ((), (0, 1), ("0", "1")):
        found = effects.ate(table, "x", "y", *levels)
        chex.assert_trees_all_close(found.value, np.array([law[0] - law[1], law[1] - law[0]]), atol=ATOL)
    assert found.labels == ("0", "1")


def test_interventions_are_in_the_network(table: sd.Tabulated) -> None:
    net = network_of(sd.handlers.do(table, {"z": 2, "day": "rainy"}))
    assert (net["z"].parents, net["day"].parents) == ((), ())
    assert (net["z"].table.tolist(), net["day"].table.tolist()) == ([0, 0, 1], [0, 1])
    law = effects.exact(net).joint([Target("y")]).value
    chex.assert_trees_all_close(law, np.array([1 - P_Y[1], P_Y[1]]), atol=ATOL)


def test_replaced_language_models_are_not_asked(embedded: sd.LanguageModel) -> None:
    asked = []

    def scorer(choice: sd.Choice, contexts: np.ndarray) -> np.ndarray:
        asked.append(str(choice.template))
        return np.zeros((len(contexts), len(choice.options)), np.float32)

    def model(lm: sd.LanguageModel) -> None:
        day = sd.sample("day", sd.Choice(lm, "The day is {}.", ["sunny", "rainy"]))
        sd.sample("name", sd.Choice(lm, "My name is {}.", ["John", "Jane"], given=[day]))

    net = network_of(sd.tabulate(sd.handlers.do(model, {"day": "rainy"}), embedded, scorer=scorer))
    assert asked == ["My name is {}."]
    assert net["day"].table.tolist() == [0, 1]
    assert net["day"].options == ("sunny", "rainy")


def test_masks_are_not_of_draws() -> None:
    def model() -> None:
        with numpyro.handlers.mask(mask=False):
            numpyro.sample("x", dist.Bernoulli(0.25))

    chex.assert_trees_all_close(network_of(model)["x"].table, np.array([0.75, 0.25]), atol=ATOL)


@pytest.mark.parametrize("kind", _NUMPYRO_COUPLINGS, ids=lambda kind: kind.__name__)
def test_how_numpyro_couples_worlds(kind: type) -> None:
    # The same key with two laws: how often do both answers occur together?
    laws = np.array([[0.5, 0.5], [0.2, 0.8]] if "Bernoulli" in kind.__name__ else [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    made = {
        dist.BernoulliProbs: lambda p: dist.Bernoulli(probs=p[1]),
        dist.BernoulliLogits: lambda p: dist.Bernoulli(logits=jnp.log(p[1] / p[0])),
        dist.CategoricalProbs: lambda p: dist.Categorical(probs=p),
        dist.CategoricalLogits: lambda p: dist.Categorical(logits=jnp.log(p)),
    }[kind]
    assert isinstance(made(laws[0]), kind)
    n = 50_000
    keys = jax.random.split(jax.random.key(0), n)
    first, second = (np.asarray(jax.vmap(made(jnp.array(p)).sample)(keys)) for p in laws)
    size = laws.shape[1]
    seen = np.bincount(first * size + second, minlength=size * size).reshape(size, size) / n
    joint = joint_responses(_NUMPYRO_COUPLINGS[kind], *laws)
    assert (np.abs(seen - joint) < 5 * np.sqrt(joint / n) + 1e-4).all()


def test_coupling_that_is_not_known() -> None:
    def model() -> None:
        x = numpyro.sample("x", dist.Bernoulli(0.5))
        numpyro.sample("y", dist.Binomial(2, jnp.array([0.2, 0.6])[x]))

    source = effects.exact(model)
    expected = [0.4**2 - 0.8**2, 2 * (0.4 * 0.6 - 0.2 * 0.8), 0.6**2 - 0.2**2]
    chex.assert_trees_all_close(effects.ate(source, "x", "y").value, np.array(expected), atol=1e-5)
    with pytest.raises(
        EffectError, match=r"noise of site 'y' is not known; say it with effects.exact\(…, coupling=…\)"
    ):
        effects.pns(source, "x", "y", option=2)
    told = effects.exact(source.network, coupling="inverse_cdf")
    chex.assert_trees_all_close(float(effects.pns(told, "x", "y", option=2)), 0.32, atol=1e-5)


def test_too_many_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    def model() -> None:
        x = [numpyro.sample(f"x{i}", dist.Bernoulli(0.5)) for i in range(3)]
        numpyro.sample("y", dist.Bernoulli(sum(x) / 4))

    assert network_of(model)["y"].table.shape == (2, 2, 2, 2)
    monkeypatch.setattr(factors, "MOST_ENTRIES", 15)
    with pytest.raises(EffectError, match="site 'y' has 8 contexts, more than are held exactly"):
        network_of(model)


def _normal() -> None:
    numpyro.sample("bad", dist.Normal(0, 1))


def _observed() -> None:
    numpyro.sample("bad", dist.Bernoulli(0.5), obs=1)


def _vector() -> None:
    numpyro.sample("bad", dist.Bernoulli(jnp.array([0.1, 0.2])))


def _looped() -> None:
    def step(carry: Any, _: Any) -> tuple[Any, None]:
        return numpyro.sample("bad", dist.Bernoulli(0.3 + 0.4 * carry)), None

    scan(step, 0, jnp.arange(3))


def _odd_values() -> None:
    numpyro.sample("bad", dist.DiscreteUniform(3, 5))


def _changing_values() -> None:
    x = numpyro.sample("x", dist.Bernoulli(0.5))
    numpyro.sample("bad", dist.DiscreteUniform(0, 1 + x))


def _good() -> None:
    numpyro.sample("bad", dist.Bernoulli(0.5))


REFUSED: list[tuple[Callable, str]] = [
    (_normal, "is Normal; use effects.sampled"),
    (_observed, "is observed; leave obs= out"),
    (_vector, r"is an array of shape \(2,\)"),
    (_looped, r"is an array of shape \(3,\)"),
    (_odd_values, "its values are not 0, 1, …"),
    (_changing_values, "values it may have depends on other sites"),
    (numpyro.handlers.condition(_good, {"bad": 1}), "is observed"),
    (numpyro.handlers.substitute(_good, {"bad": 1}), "has a value that a handler gives it"),
    (sd.handlers.do(_good, {"bad": lambda natural: 1 - natural}), "has a soft or stochastic intervention"),
    (sd.handlers.do(_good, {"bad": dist.Bernoulli(0.1)}), "has a soft or stochastic intervention"),
]


@pytest.mark.parametrize(("model", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_refused(model: Callable, why: str) -> None:
    with pytest.raises(EffectError, match=f"site 'bad'.*{why}"):
        network_of(model)


def test_free_text_is_refused(embedded: sd.LanguageModel) -> None:
    def model(lm: sd.LanguageModel) -> None:
        sd.sample("bad", sd.Text(lm, "She said: {}", max_tokens=4))

    with pytest.raises(EffectError, match="site 'bad' is free text"):
        network_of(model, embedded)


def test_sources() -> None:
    def model(chance: float = 0.5) -> None:
        x = numpyro.sample("x", dist.Bernoulli(chance))
        numpyro.sample("y", dist.Bernoulli(jnp.array([0.2, 0.6])[x]))

    chex.assert_trees_all_close(effects.ate(model, "x", "y")["1"], 0.4, atol=ATOL)
    with pytest.raises(EffectError, match=r"takes the arguments lm; give them with it: effects.exact\(model, …\)"):
        effects.ate(mixed, "x", "y")
    with pytest.raises(EffectError, match="not from dict"):
        effects.ate({}, "x", "y")


def test_networks_that_make_no_sense() -> None:
    x = effects.Factor("x", (), np.array([0.5, 0.5]), ("a", "b"))
    for wrong, why in (
        ((effects.Factor("y", ("x",), np.eye(2), ("a", "b")),), "'y' is given 'x', which is no earlier site"),
        ((x, x), "'x' is there twice"),
        ((effects.Factor("x", (), np.ones((1, 2)), ("a", "b")),), r"shape \(1, 2\), expected \(2,\)"),
    ):
        with pytest.raises(SiteError, match=why):
            effects.Network(wrong)


def test_a_chain_of_thirty_sites() -> None:
    # Every site reads the two before it: the sum is done site by site, not over 2^30 values.
    rng = np.random.default_rng(0)
    names = [f"s{i:02}" for i in range(30)]
    tables = [rng.dirichlet(np.ones(2), (2,) * min(i, 2)) for i in range(30)]
    factors = [
        effects.Factor(n, tuple(names[max(0, i - 2) : i]), tables[i], ("no", "yes")) for i, n in enumerate(names)
    ]
    found = effects.ate(effects.Network(tuple(factors)), names[0], names[-1])
    laws = []
    for first in range(2):
        # The law of two neighbours, moved along the chain.
        pair = np.zeros((2, 2))
        pair[first] = tables[1][first]
        for table in tables[2:]:
            pair = np.einsum("ab,abc->bc", pair, table)
        laws.append(pair.sum(0))
    chex.assert_trees_all_close(found.value, laws[1] - laws[0], atol=1e-12)
    assert found.cost is not None
    assert found.cost.operations < 1e5
    assert effects.pns(effects.Network(tuple(factors)), names[0], names[-1], option="yes").bounds is not None
