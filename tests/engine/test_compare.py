"""Several language models on the same units: what sharing noise saves, against draws that share none."""

import numpy as np
import pytest

import sdscm_jax as sd
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


def test_bad_input(found: sd.Comparison, lms: dict[str, sd.LanguageModel]) -> None:
    with pytest.raises(sd.SDSCMError, match="two language models or more"):
        sd.compare(day, 0, 5, {"a": lms["a"]})
    with pytest.raises(sd.SDSCMError, match="'b' is a str"):
        sd.compare(day, 0, 5, {"a": lms["a"], "b": "path"})
    with pytest.raises(sd.SiteError, match="did you mean 'plan'"):
        found.agreement("plann")
