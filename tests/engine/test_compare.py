"""Several language models on the same units: what sharing noise saves, against draws that share none."""

from collections.abc import Callable

import numpy as np
import numpyro.distributions as dist
import pytest

import sdscm_jax as sd
from sdscm_jax.testing import mock_lm
from tests.conftest import make_tiny_lm

N = 400


def day(lm: sd.LanguageModel) -> None:
    sky = sd.sample("sky", sd.Choice(lm, "The weather is {}.", ["sunny", "low"], temperature=4.0))
    sd.sample("plan", sd.Choice(lm, "She goes for {}.", ["a run", "a nap", "25"], given=[sky], temperature=4.0))


@pytest.fixture(scope="module")
def lms(tiny_tokenizer: object) -> dict[str, sd.LanguageModel]:
    return {name: make_tiny_lm(tiny_tokenizer, seed=seed) for name, seed in (("a", 0), ("b", 1))}


@pytest.fixture(scope="module")
def found(lms: dict[str, sd.LanguageModel]) -> sd.Comparison:
    return sd.compare(day, 0, N, lms)


@pytest.mark.slow
def test_units_are_those_of_simulate(found: sd.Comparison, lms: dict[str, sd.LanguageModel]) -> None:
    for name, lm in lms.items():
        alone = sd.simulate(day, 0, N, lm)
        assert (found.simulations[name].values["plan"] == alone.values["plan"]).all()
    table = found.to_pandas()
    assert list(table.columns) == [("sky", "a"), ("sky", "b"), ("plan", "a"), ("plan", "b")]
    agree = (table["plan", "a"] == table["plan", "b"]).mean()
    assert found.agreement("plan").loc["a", "b"] == pytest.approx(agree)
    assert found.agreement("plan").loc["a", "a"] == 1.0


def test_agreement_is_that_of_shared_gumbels(found: sd.Comparison) -> None:
    # P(same option) = sum_k 1 / sum_j max(p_j / p_k, q_j / q_k), in closed form.
    p, q = (np.exp(np.asarray(found.simulations[name].log_probs["sky"][0, 0], np.float64)) for name in "ab")
    same = sum(1 / np.maximum(p / p[k], q / q[k]).sum() for k in range(2))
    assert found.agreement("sky").loc["a", "b"] == pytest.approx(same, abs=4 * np.sqrt(same * (1 - same) / N) + 1e-9)


def test_the_saved_variance_is_real(lms: dict[str, sd.LanguageModel]) -> None:
    differences = {True: [], False: []}
    one, two = (sd.simulate(day, 1, 40 * 100, lm) for lm in lms.values())
    shares = [(x.values["sky"][:, 0] == 0).reshape(40, 100).mean(1) for x in (one, two)]
    apart = (sd.simulate(day, 2, 40 * 100, lms["b"]).values["sky"][:, 0] == 0).reshape(40, 100).mean(1)
    differences[True], differences[False] = shares[1] - shares[0], apart - shares[0]
    table = sd.compare(day, 1, 40 * 100, lms).differences("sky").iloc[0]
    for shared, column in ((True, "standard_error"), (False, "independent_error")):
        # Of 40 repetitions with 100 units each.
        seen = np.std(differences[shared], ddof=1) * np.sqrt(100 / 4000)
        assert seen == pytest.approx(table[column], rel=0.4)
    assert table["variance_saved"] > 0.3
    assert table["difference"] == pytest.approx(shares[1].mean() - shares[0].mean())


def by_lm(options: dict[int, list[str]]) -> Callable[[sd.LanguageModel], None]:
    """A program whose options depend on the language model (by its width); all are equally likely."""

    def model(lm: sd.LanguageModel) -> None:
        sd.sample("plan", sd.Choice(lm, "She goes for {}.", options[lm.config.width], scoring="uniform"))
        sd.sample("age", dist.Normal())

    return model


def test_options_are_matched_by_their_texts(lms: dict[str, sd.LanguageModel]) -> None:
    """Noise is that of a text, so with equal chances all agree, however a program orders its options."""
    names = {"a": mock_lm(), "b": lms["a"]}
    wide, narrow = (lm.config.width for lm in names.values())
    options = {wide: ["a run", "a nap", "25"], narrow: ["25", "a run", "a nap"]}
    found = sd.compare(by_lm(options), 0, 300, names)
    assert found.agreement("plan").to_numpy().tolist() == [[1.0, 1.0], [1.0, 1.0]]
    differences = found.differences("plan")
    assert differences["option"].tolist() == ["a run", "a nap", "25"]
    assert differences["difference"].tolist() == [0.0, 0.0, 0.0]
    table = found.to_pandas()
    assert (table["plan", "a"] == table["plan", "b"]).all()
    assert table["plan", "b"].tolist() == found.simulations["b"].to_pandas()["plan"].tolist()
    assert (table["age", "a"] == table["age", "b"]).all()


def test_options_of_one_alone(lms: dict[str, sd.LanguageModel]) -> None:
    """An option that another's program lacks: the winner of the others stays, and its share is nothing there."""
    names = {"a": mock_lm(), "b": lms["a"]}
    a, b = (lm.config.width for lm in names.values())
    n = 300
    found = sd.compare(by_lm({a: ["a run", "a nap"], b: ["25", "a nap", "a run"]}), 0, n, names)
    one, two = (x.to_pandas()["plan"].astype(str) for x in found.simulations.values())
    assert (one[two != "25"] == two[two != "25"]).all()
    assert 0.2 < (two == "25").mean() < 0.5
    assert found.agreement("plan").loc["a", "b"] == (one == two).mean() == (two != "25").mean()
    differences = found.differences("plan").set_index("option")["difference"]
    for option in ("a run", "a nap", "25"):
        assert differences[option] == pytest.approx((two == option).mean() - (one == option).mean())
    # Nothing is said of an option that neither of a pair has.
    third = sd.compare(by_lm({a: ["a run", "a nap"], b: ["25", "a nap"]}), 0, n, {**names, "c": names["a"]})
    assert "25" not in set(third.differences("plan").query("lm == 'c' and other == 'a'")["option"])


def test_bad_input(found: sd.Comparison, lms: dict[str, sd.LanguageModel]) -> None:
    with pytest.raises(sd.SDSCMError, match="two language models or more"):
        sd.compare(day, 0, 5, {"a": lms["a"]})
    with pytest.raises(sd.SDSCMError, match="'b' is a str"):
        sd.compare(day, 0, 5, {"a": lms["a"], "b": "path"})
    with pytest.raises(sd.SiteError, match="did you mean 'plan'"):
        found.agreement("plann")
