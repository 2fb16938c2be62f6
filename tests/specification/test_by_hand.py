"""The specification itself, against what was worked out by hand: a wrong one would hold nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from . import noise
from .evidence import Impossible, Posterior
from .executors import PLAIN
from .language import (
    LAST,
    At,
    Choice,
    Computed,
    Linear,
    Nested,
    Number,
    Place,
    Plate,
    Program,
    Random,
    Said,
    Scan,
    Scope,
    Set,
    Soft,
    Uniform,
    descendants,
    places,
)
from .specification import Refused, Run, Unit, fit

UNITS = 400
# A coin and what is read off it: no language model has a say. P(a = 1) = 3/4.
COIN = Choice("a", ("to", "up"), scoring="uniform", bias=(0.0, math.log(3)))
READ = Computed("c", Linear(1.0, (("a", 2.0),)))


def _units(*body: object, units: int = UNITS) -> list[Unit]:
    key = noise.seed(5)
    return [Unit(Program(body), PLAIN, noise.fold_number(key, i), i) for i in range(units)]


def _about(share: float, expected: float, count: int = UNITS) -> bool:
    return abs(share - expected) < 5 * math.sqrt(0.25 / count)


def test_threefry_has_its_published_answers() -> None:
    """Random123's known answers of threefry2x32, 20 rounds."""
    most = 0xFFFFFFFF
    assert noise.threefry((0, 0), (0, 0)) == (0x6B200159, 0x99BA4EFE)
    assert noise.threefry((most, most), (most, most)) == (0x1CB996FC, 0xBB002BE7)
    assert noise.threefry((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3)) == (0xC4923A9C, 0x483DF7A0)


def test_name_spaces_differ() -> None:
    key = noise.seed(0)
    assert len({noise.fold_text(key, "x", space) for space in ("site", "option", "stream")}) == 3
    assert noise.fold_number(key, 3) == noise.threefry(key, (0, 3))


def test_gumbels_have_their_law() -> None:
    """Mean γ, P(G <= 0) = 1/e, and P(G > 12) is reached by 46 bits."""
    drawn = np.array([noise.option_gumbel(noise.seed(i), "up", m) for i in range(1000) for m in range(3)])
    assert abs(drawn.mean() - 0.5772) < 0.1
    assert _about((drawn <= 0).mean(), 1 / math.e, 3000)


def test_two_sites_on_paper() -> None:
    """P(a = 1) = 3/4; c = 1 + 2a, so 3 or 1; do(a = 0) makes it 1, do(c) leaves a as it is."""
    for coupling in ("gumbel", "inverse_cdf"):
        units = _units(Choice(**{**vars(COIN), "coupling": coupling}), READ)
        runs = [unit.run() for unit in units]
        assert _about(np.mean([run.values["a"] for run in runs]), 0.75)
        assert all(run.values["c"] == 1 + 2 * run.values["a"] for run in runs)
        assert all(unit.run({"a": Set("to")}).values["c"] == 1 for unit in units)
        assert all(u.run({"c": Set(9)}).values["a"] == run.values["a"] for u, run in zip(units, runs, strict=True))
    unit, u = units[0], noise.uniform(noise.site_key(units[0].key, "a"), 0)
    assert unit.run().values["a"] == (u >= 0.25)
    assert unit.run().lead == pytest.approx(10 * abs(u - 0.25))


def test_worlds_share_noise_and_independent_ones_do_not() -> None:
    """b reads a but its law does not depend on it: shared noise leaves it, noise drawn anew agrees by chance: with
    probabilities 1/4 and 3/4 in (1/4)² + (3/4)² = 5/8 of the units."""
    for coupling, share in (("gumbel", 1.0), ("inverse_cdf", 1.0), ("independent", 0.625)):
        below = Choice("b", ("to", "up"), (At("a"),), scoring="uniform", bias=COIN.bias, coupling=coupling)
        aside = Choice("d", ("to", "up"), scoring="uniform", coupling=coupling)
        units = _units(COIN, below, aside)
        factual, other = ([unit.run(world).values for unit in units] for world in ({}, {"a": Set(0)}))
        same = np.mean([x["b"] == y["b"] for x, y in zip(factual, other, strict=True)])
        assert same == share if share == 1 else _about(same, share)
        assert all(x["d"] == y["d"] for x, y in zip(factual, other, strict=True))
        assert units[0].run({"a": Set(0)}).redrawn == ({"b"} if coupling == "independent" else set())


def test_what_is_drawn_by_an_intervention_is_no_natural_draw() -> None:
    """It agrees with the natural value by chance, and is the same in every world."""
    units = _units(COIN, Number("x", "normal"))
    factual, random = ([unit.run(world).values for unit in units] for world in ({}, {"a": Uniform()}))
    assert _about(np.mean([x["a"] == y["a"] for x, y in zip(factual, random, strict=True)]), 0.5)
    set_x = {"x": Random("normal", 0.0, 1.0)}
    pairs = [(unit.run().values["x"], unit.run(set_x).values["x"]) for unit in units[:100]]
    assert abs(np.corrcoef(np.array(pairs, float).T)[0, 1]) < 0.5
    both = units[0].run({**set_x, "a": Uniform()}).values
    assert (both["x"], both["a"]) == (pairs[0][1], random[0]["a"])


def test_soft_and_nested() -> None:
    unit = _units(COIN, READ, Number("x", "normal", Linear(0.0, (("c", 1.0),))))[0]
    natural = unit.run().values
    assert unit.run({"c": Soft(2.0, 1.0)}).values["c"] == 2 * natural["c"] + 1
    flipped = unit.run({"a": Soft(1.0, 1.0)}).values
    assert flipped["a"] == 1 - natural["a"]
    # The residual of x is the unit's.
    assert flipped["x"] - flipped["c"] == pytest.approx(natural["x"] - natural["c"], abs=1e-5)
    nested = unit.run({"a": Set(0), "c": Nested((("a", Set(1)),))}).values
    assert (nested["a"], nested["c"]) == (0, 3)


def test_plates_scopes_loops() -> None:
    body = (
        COIN,
        Plate("outer", 2, (Plate("inner", 3, (Choice("b", ("to", "up"), scoring="uniform"),)),)),
        Scope("s", (Choice("a", ("to", "up"), scoring="uniform", bias=COIN.bias),)),
        Scan("a", Choice("l", ("to", "up"), (At(LAST),), scoring="uniform"), 3),
        Computed("sum", Linear(0.0, (("b", 1.0),))),
        Said("said", "sum", (2.5, 4.5), ("a", "ab", "lot")),
    )
    runs = [unit.run() for unit in _units(*body, units=300)]
    assert {name: value.shape for name, value in runs[0].values.items()} == {
        "a": (), "b": (3, 2), "s/a": (), "l": (3,), "sum": (), "said": (),
    }  # fmt: skip
    assert all(run.values["sum"] == run.values["b"].sum() for run in runs)
    assert all(run.values["said"] == sum(run.values["sum"] >= x for x in (2.5, 4.5)) for run in runs)
    # Members, steps, and a site of the same name in a scope have noise of their own.
    members = np.stack([run.values["b"].ravel() for run in runs])
    steps = np.stack([run.values["l"] for run in runs])
    for columns in (members.T, steps.T):
        assert all(_about((x == y).mean(), 0.5, 300) for i, x in enumerate(columns) for y in columns[:i])
    assert _about(np.mean([run.values["a"] == run.values["s/a"] for run in runs]), 0.625, 300)


def test_options_may_be_listed_otherwise() -> None:
    """Law 7b: the Gumbel is of the text."""
    listed, turned = (
        _units(Choice("a", options, scoring="mean"), units=50) for options in (("up", "to", "go"), ("go", "up", "to"))
    )
    for x, y in zip(listed, turned, strict=True):
        assert ("up", "to", "go")[int(x.run().values["a"])] == ("go", "up", "to")[int(y.run().values["a"])]


def test_the_chain_rule() -> None:
    """The score of whole sentences is the log-probability of their tokens, one after another."""
    lm = PLAIN[0]
    tokens = lm.encode("Now. It is up.")
    total = sum(lm.next_token(tokens[:i])[tokens[i]] for i in range(len(tokens) - 3, len(tokens)))
    assert lm.scores(["Now."], "It is {}.", ["up", "go"], "sequence")[0] == pytest.approx(total)
    # One letter apart: constrained decoding has one choice, and so the odds of that letter.
    near, far = lm.scores([], "It is {}.", ["to", "up"], "masked"), lm.next_token(lm.encode("It is "))
    assert near[0] - near[1] == pytest.approx(far[lm.encode("t")[0]] - far[lm.encode("u")[0]])
    assert np.exp(near).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("site", "value"),
    [
        (COIN, "low"), (COIN, 2), (COIN, -1), (COIN, 0.0), (COIN, 2.7), (COIN, (0, 1)),
        (Number("k", "poisson"), 2.7), (Number("x", "normal"), "up"), (Number("x", "normal"), (1.0, 2.0)),
    ],
)  # fmt: skip
def test_what_does_not_fit(site: object, value: object) -> None:
    with pytest.raises(Refused):
        fit(Place("x", site), value)


def test_what_fits() -> None:
    assert fit(Place("a", COIN), True) == 1
    assert fit(Place("a", COIN, ((-1, 3),)), "up").tolist() == [1, 1, 1]
    assert fit(Place("x", Number("x", "normal")), 2).dtype == np.float32
    assert fit(Place("k", Number("k", "poisson")), np.int64(7)) == 7


def test_descendants() -> None:
    program = Program((COIN, READ, Number("x", "normal", Linear(0.0, (("c", 1.0),))), Number("y", "normal")))
    assert descendants(program, "a") == {"c", "x"}
    assert [place.name for place in places(program.body)] == ["a", "c", "x", "y"]


def test_evidence_on_paper() -> None:
    """Two options with shared Gumbels: the observed one stays with probability min(1, p' / p) in a world where it has
    p' for p. Of a cause that is not observed, Bayes."""
    body = (
        Choice("a", ("up", "to"), scoring="uniform"),
        Choice("b", ("it", "go"), (At("a"),), scoring="mean"),
    )
    unit = _units(*body, units=1)[0]
    law = [np.exp(unit.run({"a": Set(a)}).log_probs["b"]) for a in (0, 1)]
    a = int(law[0][1] < law[1][1])
    seen = Posterior(Program(body), PLAIN, (("a", Set(a)), ("b", Set(1))))
    rng = np.random.default_rng(0)
    runs: list[tuple[Run, Run]] = []
    for i in range(500):
        drawn = seen.draw((7, i), rng)
        runs.append((drawn.run(), drawn.run({"a": Set(1 - a)})))
    assert all(run.values["b"] == 1 for run, _ in runs)
    assert _about(np.mean([run.values["b"] for _, run in runs]), law[1 - a][1] / law[a][1], 500)
    latent = Posterior(Program(body), PLAIN, (("b", Set(1)),))
    chances = np.array([law[0][1], law[1][1]])
    assert latent.weights == pytest.approx(chances / chances.sum())


def test_evidence_on_numbers() -> None:
    """The residual is carried over; a cell of any size is replayed; what has no carrier is no answer."""
    body = (COIN, Number("x", "normal", Linear(0.0, (("a", 3.0),))), Number("k", "beta", Linear(0.0, (("a", 1.0),))))
    seen = Posterior(Program(body[:2]), PLAIN, (("a", Set(0)), ("x", Set(-9.0))))
    drawn = seen.draw((0, 1), np.random.default_rng(0))
    assert (drawn.run().values["x"], drawn.run({"a": Set(1)}).values["x"]) == (-9.0, -6.0)
    rare = Choice("r", ("to", "up", "go"), scoring="uniform", coupling="inverse_cdf", bias=(0.0, -40.0, 0.0))
    assert (
        Posterior(Program((rare,)), PLAIN, (("r", Set("up")),)).draw((0, 1), np.random.default_rng(0)).run().values["r"]
        == 1
    )
    beta = Posterior(Program(body), PLAIN, (("a", Set(0)), ("k", Set(0.5)))).draw((0, 1), np.random.default_rng(0))
    assert beta.run().values["k"] == 0.5
    with pytest.raises(Impossible):
        beta.run({"a": Set(1)})
