"""Nonsense is refused at every public door: each shared input of each public function, by name.

Every name in the ``__all__`` of the package and of its public rooms is looked at. A parameter whose name is a shared
input (``KINDS``) is given what it cannot be, with all else right: what comes back is one of the package's errors, which
says what was given, and no language model has been asked. A public function with such a parameter that is not among
``CALLS`` fails the test: write down a call that works.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import sdscm_jax as sd
from sdscm_jax import audit, bench, checks, effects, families, testing
from sdscm_jax.bench.estimates import score_estimates
from sdscm_jax.bench.estimators.bart import central
from sdscm_jax.bench.estimators.linear import student
from sdscm_jax.bench.metrics import score
from sdscm_jax.engine.scorer import Scorer
from sdscm_jax.engine.tabulation import TrieScorer
from sdscm_jax.models.families import tiny_config

ROOMS = {
    "": sd,
    "handlers.": sd.handlers,
    "effects.": effects,
    "families.": families,
    "bench.": bench,
    "audit.": audit,
    "testing.": testing,
}
# What the pages show besides.
BESIDES = {"bench.score": score, "bench.score_estimates": score_estimates, "TrieScorer": TrieScorer}


# -- what is nonsense for a kind of input -----------------------------------------------------------


class Kind(NamedTuple):
    """Values that an input of this kind cannot have, and what a message says besides the value."""

    nonsense: tuple[Any, ...]
    hint: str = ""


NO_NUMBERS = (True, np.True_, "1", math.nan, math.inf, -math.inf, np.float32("nan"), 1j, [1], np.array([1, 1]))


def count(least: int = 1) -> Kind:
    return Kind((*NO_NUMBERS, least - 1, -7, 2.5, np.array(least - 1), jnp.float32(3.0)))


def name(near: str, wrong: str) -> Kind:
    return Kind((wrong, near.upper(), "", 3, True, ("x",), math.nan), near)


SHARE = Kind((*NO_NUMBERS, 0, 1, 95, -0.05, np.float64(95), np.array(1.5)))
NOT_NEGATIVE = Kind((*NO_NUMBERS, -1e-9, -1, np.float32(-1)))
POSITIVE = Kind((True, "1", math.nan, -1, 0, np.array([1.0, 0.0])))
COUNT = count()
KEY = Kind((None, True, "0", 0.5, -1, 2**32, math.nan, np.zeros(3), [0, 1]))

KINDS: dict[str, Kind] = {
    "level": SHARE,
    "rate": SHARE,
    "margin": Kind((*NOT_NEGATIVE.nonsense, 1, 5)),
    "tolerance": NOT_NEGATIVE,
    "average": Kind((*NOT_NEGATIVE.nonsense, 1.5)),
    "alpha": Kind((*NO_NUMBERS, 0, -1)),
    "temperature": POSITIVE,
    "top_p": Kind((*NO_NUMBERS[:-1], 0, 1.5)),
    "operations": Kind((*NO_NUMBERS, 0, -1)),
    "coupling": name("gumbel", "gumble"),
    "scoring": name("sequence", "sequense"),
    "encoding": name("onehot", "onehit"),
    "execution": name("in_graph", "in_grap"),
    "interval_of": name("cate", "kate"),
    "intervals_of": name("ite", "itte"),
    "backend": name("loky", "lokky"),
    "world": Kind((*NO_NUMBERS[:2], "do(rain=gre)", math.nan, 0.5, 7, np.array([1, 1])), ""),
    "setting": name("observed", "obseved"),
    "seed": Kind((*NO_NUMBERS, -1, 2**32, 0.0)),
    "key": KEY,
    "rngs": KEY,
    **dict.fromkeys(
        ("n", "units", "draws", "chunk", "memory", "datasets", "wordings", "option_wordings", "jobs", "limit", "steps",
         "rows", "length", "accumulate", "every", "max_tokens", "top_k", "num_samples", "rank"), COUNT
    ),
    "pairs": count(least=0),
    # Lists of names and numbers: each of them is nonsense in turn.
    "covariates": name("observed", "obseved"),
    "ways": name("in_graph", "in_grap"),
    "scorings": name("sequence", "sequense"),
    "chunks": COUNT,
    "largest": count(least=0),
}  # fmt: skip
LISTS = {"covariates", "ways", "scorings", "chunks", "estimators"}
# Inputs of one function, or another thing under the same name.
OWN: dict[tuple[str, str], Kind | None] = {
    ("audit.audit", "wordings"): count(least=2),
    ("effects.Limits", "largest"): KINDS["operations"],
    ("bench.evaluate", "outcome"): name("drawn", "drwan"),
    ("bench.open_benchmark", "outcome"): name("drawn", "drwan"),
    ("bench.evaluate", "estimators"): name("linear_t", "linear_tt"),
    ("bench.make_estimator", "name"): name("linear_t", "linear_tt"),
    ("load_lm", "weights"): name("int8", "int9"),
    ("Text", "coupling"): Kind(("gumble", "inverse_cdf", "", 3, True), "gumbel"),
    ("families.Member", "wordings"): None,
    ("bench.Member", "wordings"): None,
    ("bench.Columns", "covariates"): None,
    ("bench.evaluate", "wordings"): None,
    ("bench.open_benchmark", "wordings"): None,
    ("audit.audit_plan", "wordings"): count(least=2),
    ("audit.audit_cost", "wordings"): count(least=2),
    ("bench.Dataset", "covariates"): None,
    ("bench.score_estimates", "datasets"): None,
    ("audit.AuditSpec", "option_wordings"): None,
    ("handlers.nested", "world"): None,
}
# Passed on to ``simulate``.
PASSED_ON = {
    "compare": ("execution", "draws", "memory", "chunk"),
    "simulate_many": ("execution", "draws", "memory", "chunk"),
    "effects.sampled": ("execution", "draws", "memory", "chunk"),
}
# What the package makes and hands out, or asks others to write.
MADE_BY_US = {
    "Simulation", "Plan", "effects.Effect", "effects.IndividualEffects", "effects.Sampled", "effects.Cost",
    "families.Conditional", "audit.AuditResult", "Contrast", "effects.Contrast",
}  # fmt: skip
# Noise of NumPyro's message, and what an estimator of somebody else is.
PROTOCOLS = re.compile(r"(Choice|Text)\.(sample|draw_noise|posterior_noise)|bench\.Estimator\.\w+")


# -- calls that work --------------------------------------------------------------------------------


def model(lm: Any) -> Any:
    rain = sd.sample("rain", sd.Choice(lm, "The sky is {}.", ["clear", "grey"]))
    return sd.sample("coat", sd.Choice(lm, "My coat is {}.", ["on", "off"], given=[rain]))


@functools.cache
def mock() -> sd.LanguageModel:
    return testing.mock_lm(model)


@functools.cache
def contrasted() -> sd.Contrast:
    data = sd.simulate(model, 0, 20, mock(), worlds=[{"rain": "clear"}, {"rain": "grey"}])
    return sd.contrast(data, "rain", "coat", "clear", "grey")


@functools.cache
def mechanisms() -> effects.Network:
    return effects.network(model, mock())


@functools.cache
def compared() -> sd.Comparison:
    return sd.compare(model, 0, 2, {"a": mock(), "b": testing.mock_lm(model)}, worlds=[{"rain": "grey"}])


@functools.cache
def small_lm() -> sd.LanguageModel:
    tokenizer = mock().tokenizer
    return sd.random_lm(tiny_config("llama", len(tokenizer)), tokenizer)


@functools.cache
def frame() -> pd.DataFrame:
    return pd.DataFrame({"sky": ["clear", "clear", "grey", "grey"], "coat": ["off", "on", "on", "on"]})


@functools.cache
def member() -> families.Member:
    return families.table_family(frame(), {"sky": "The sky is {}.", "coat": "My coat is {}."}).member(0)


OF_BENCHMARK = ("bench.evaluate", "bench.open_benchmark")


@functools.cache
def benchmark() -> Path:
    return bench.generate(families.family("confounder"), tempfile.mkdtemp(), datasets=1, units=30, progress=False)


@functools.cache
def dataset() -> bench.Dataset:
    size = 40
    codes = np.arange(size) % 2
    outcomes = np.stack([codes * 1.0, codes + 1.0], 1)
    return bench.Dataset(
        "a", "0", pd.DataFrame({"w": pd.Categorical.from_codes(codes, ["sun", "rain"])}), (),
        (np.arange(size) // 2) % 2, outcomes[:, 0], outcomes, np.ones(size), np.full(size, 0.5), np.arange(size),
    )  # fmt: skip


SPEC: dict[str, Any] = {
    "name": "coat", "title": "A coat", "question": "Does the sky matter?",
    "attribute": {"name": "sky", "levels": ["clear", "grey"], "proxies": {"word": {
        "templates": ["The sky is {}.", "I see a {} sky."], "phrases": {"clear": ["clear"], "grey": ["grey"]}}}},
    "variables": [{"name": "coat", "options": ["on", "off"], "templates": ["My coat is {}."], "parents": ["sky"]}],
    "outcome": {"name": "coat", "option": "on"}, "scorings": ["sequence"],
}  # fmt: skip


@functools.cache
def spec() -> audit.AuditSpec:
    return audit.AuditSpec.from_dict(SPEC)


def of_network(effect: Callable[..., Any], **more: Any) -> Callable[..., Any]:
    return lambda out, **x: effect(mechanisms(), "rain", "coat", **{**more, **x})


def law(check: Callable[..., Any], units: int = 4) -> Callable[..., Any]:
    return lambda out, key=0, units=units, **x: check(model, key, mock(), units=units, **x)


def choice(out: Path, **x: Any) -> Any:
    return sd.Choice(mock(), "The sky is {}.", ["clear", "grey"], **x)


def estimates() -> pd.DataFrame:
    names = {"dataset": "a", "covariates": "all", "estimator": "mine"}
    numbers = {"effect": 1.0, "lower": 0.0, "upper": 2.0, "ate": 1.0}
    return pd.DataFrame({**names, "unit": np.arange(40), **numbers})


# The first argument is a directory of the call's own.
class OfAnother:
    """As econml's estimators are asked."""

    def fit(self, y: np.ndarray, t: np.ndarray, X: np.ndarray) -> None: ...

    def effect(self, x: np.ndarray) -> np.ndarray:
        return np.zeros(len(x))


def foreign(key: Any) -> bench.FromEconml:
    return bench.FromEconml(OfAnother()).fit(key, np.zeros((4, 1)), np.array([0, 1, 0, 1]), np.zeros(4))


CALLS: dict[str, Callable[..., Any]] = {
    "Choice": choice,
    "Text": lambda out, max_tokens=2, **x: sd.Text(mock(), max_tokens=max_tokens, **x),
    "Comparison.to_pandas": lambda out, **x: compared().to_pandas(**x),
    "Comparison.agreement": lambda out, **x: compared().agreement("rain", **x),
    "Comparison.differences": lambda out, **x: compared().differences("rain", **x),
    "Simulation.text": lambda out, **x: compared().simulations["a"].text(0, **x),
    "Predictive": lambda out, num_samples=2: sd.Predictive(model, num_samples=num_samples)(jax.random.key(0), mock()),
    "compare": lambda out, key=0, n=2, **x: sd.compare(model, key, n, {"a": mock(), "b": testing.mock_lm(model)}, **x),
    "plan": lambda out, n=2, **x: sd.plan(model, n, mock(), measure=False, **x),
    "random_lm": lambda out, key=0: sd.random_lm(small_lm().config, small_lm().tokenizer, key),
    "load_lm": lambda out, weights="int8": sd.load_lm(weights=weights),
    "simulate": lambda out, key=0, n=2, **x: sd.simulate(model, key, n, mock(), **x),
    "simulate_many": lambda out, key=0, n=2, **x: sd.simulate_many([model], key, n, mock(), out=out, **x),
    "train_lm": lambda out, **x: sd.train_lm(small_lm(), [], optax.sgd(0.1), **x),
    "LowRank": lambda out, rank=2, **x: sd.LowRank(small_lm(), rank, **x),
    "SoftPrompt": lambda out, length=2, **x: sd.SoftPrompt(small_lm(), length, **x),
    "TrieScorer": lambda out, **x: TrieScorer(**x),
    "handlers.abduct": lambda out, key=0: sd.handlers.abduct(model, {"rain": "grey"}, key)(mock()),
    "handlers.couple": lambda out, coupling="gumbel": sd.handlers.couple(model, coupling),
    "handlers.exogenous": lambda out, key=0: sd.handlers.exogenous(model, key)(mock()),
    **{
        f"effects.{effect.__name__}": of_network(effect)
        for effect in (effects.ate, effects.att, effects.contrasts, effects.nde, effects.nie, effects.total_variation,
                       effects.potential_outcomes, effects.wasserstein)
    },
    **{f"effects.{e.__name__}": of_network(e, option="on") for e in (effects.pn, effects.ps, effects.pns)},
    "effects.cate": lambda out, **x: effects.cate(three(), "rain", "coat", by="season", **x),
    "effects.cde": lambda out, **x: effects.cde(three(), "season", "coat", mediators={"rain": "grey"}, **x),
    "effects.path_effect": of_network(effects.path_effect, edges=[("rain", "coat")]),
    "effects.exact": lambda out, coupling="gumbel": effects.exact(model, mock(), coupling=coupling),
    "effects.Exact": lambda out, coupling="gumbel": effects.Exact(mechanisms(), coupling=coupling),
    "effects.Factor": lambda out, coupling="gumbel": effects.Factor("x", (), np.ones(1), ("a",), coupling),
    "effects.Limits": lambda out, **x: effects.Limits(**x),
    "effects.adjustment_sets": of_network(effects.adjustment_sets),
    "effects.sampled": lambda out, key=0, n=2, **x: effects.sampled(model, key, n, mock(), **x),
    "families.Family.member": lambda out, seed=0, **x: member().family.member(seed, **x),
    "families.Member": lambda out, scoring="sequence": families.Member(member().family, (0, 0), scoring),
    "families.table_batches": lambda out, steps=1, **x: families.table_batches(
        small_lm(), member(), frame(), steps=steps, **x
    ),
    "families.fit_table": lambda out, steps=1, rows=1, tolerance=None, **x: families.fit_table(
        small_lm(), member(), frame(), optax.sgd(0.1), steps=steps, rows=rows, tolerance=tolerance, **x
    ),
    "bench.Dataset.visible": lambda out, setting="all": dataset().visible(setting),
    "bench.Dataset.encoded": lambda out, **x: dataset().encoded(**x),
    "bench.Dataset.texts": lambda out, **x: dataset().texts(**x),
    "families.Written": lambda out, **x: families.Family(
        "x",
        (families.FamilyVariable("x", (), member().family.variables[0].templates, written=families.Written(**x)),),
    ),
    "bench.score": lambda out, **x: score(dataset(), np.ones(40), (np.zeros(40), np.ones(40)), **x),
    "bench.score_estimates": lambda out, **x: score_estimates(estimates(), [dataset()], **x),
    "bench.FromEconml.fit": lambda out, key=0: foreign(key),
    "bench.FromEconml.interval": lambda out, level=0.95: foreign(0).interval(np.zeros((4, 1)), level),
    "bench.FromEconml.ate_interval": lambda out, level=0.95: foreign(0).ate_interval(level),
    "bench.make_estimator": lambda out, name="linear_t": bench.make_estimator(name),
    "bench.open_benchmark": lambda out, **x: bench.open_benchmark(benchmark(), **x),
    "bench.generate": lambda out, units=4, **x: bench.generate(
        families.family("confounder"), out, units=units, progress=False, **x
    ),
    "bench.evaluate": lambda out, estimators="linear_t", **x: bench.evaluate(
        benchmark(), out, estimators=estimators, progress=False, **x
    ),
    "audit.audit": lambda out, wordings=2, option_wordings=1, pairs=0, **x: audit.audit(
        spec(), [mock()], wordings=wordings, option_wordings=option_wordings, pairs=pairs, progress=False, **x
    ),
    "audit.audit_cost": lambda out, wordings=2, option_wordings=1, **x: audit.audit_cost(
        spec(), [mock()], wordings=wordings, option_wordings=option_wordings, measure=False, **x
    ),
    "Contrast.effect": lambda out, level=0.95: contrasted().effect(level),
    "Contrast.to_pandas": lambda out, level=0.95: contrasted().to_pandas(level),
    "plot_contrast": lambda out, level=0.95: sd.plot_contrast(contrasted(), out / "effects.png", level=level),
    "audit.audit_plan": lambda out, wordings=2, option_wordings=1, **x: audit.audit_plan(
        spec(), wordings=wordings, option_wordings=option_wordings, **x
    ),
    "audit.discoveries": lambda out, rate=0.05: audit.discoveries(pd.DataFrame({"p": [0.01, 0.5]}), rate),
    "audit.FreeText": lambda out, max_tokens=2: audit.AuditSpec.from_dict(
        {**SPEC, "text": {"template": "I say {}", "max_tokens": max_tokens}}
    ),
    "audit.AuditSpec": lambda out, scorings=("sequence",): dataclasses.replace(spec(), scorings=tuple(scorings)),
    "testing.check_execution": law(testing.check_execution),
    "testing.check_independence": law(testing.check_independence),
    "testing.check_abduction": law(testing.check_abduction),
    "testing.check_consistency": law(testing.check_consistency, 8),
    "testing.check_effectiveness": law(testing.check_effectiveness, 8),
    "testing.check_unreached": law(testing.check_unreached, 8),
    "testing.check_stability": law(testing.check_stability, 8),
    "testing.check_options": law(testing.check_options),
    "testing.check_interventional": law(testing.check_interventional, 200),
    "testing.check_lm": lambda out, tolerance=1e-3: testing.check_lm(mock(), ["It is low."], tolerance=tolerance),
    "testing.check_site": lambda out, key=0, draws=2000: testing.check_site(choice(out), key, draws=draws),
    "testing.mock_lm": lambda out, seed=0: testing.mock_lm(model, seed=seed),
}  # fmt: skip
# The same objects, from another room.
SAME = {
    "bench.Family.member": "families.Family.member", "bench.Member": "families.Member",
    "effects.Contrast.effect": "Contrast.effect", "effects.Contrast.to_pandas": "Contrast.to_pandas",
    "effects.plot_contrast": "plot_contrast",
}  # fmt: skip


@functools.cache
def three() -> effects.Network:
    season = effects.Factor("season", (), np.array([0.5, 0.5]), ("dry", "wet"))
    table = np.array([[0.7, 0.3], [0.2, 0.8]])
    rain = effects.Factor("rain", ("season",), table, ("clear", "grey"))
    coat = effects.Factor("coat", ("season", "rain"), np.stack([table, table[::-1]]), ("on", "off"))
    return effects.Network((season, rain, coat))


# -- the walk ---------------------------------------------------------------------------------------


def public() -> Iterator[tuple[str, Any]]:
    """Every public callable by name: functions, classes, and what classes of ours can be asked."""
    for prefix, room in ROOMS.items():
        for own in room.__all__:
            found = getattr(room, own)
            if callable(found):
                yield prefix + own, found
            for inside, member in vars(found).items() if inspect.isclass(found) else ():
                ours = inspect.isfunction(member) or isinstance(member, classmethod | staticmethod)
                if ours and not inside.startswith("_"):
                    yield f"{prefix}{own}.{inside}", getattr(found, inside)
    yield from BESIDES.items()


def signature(found: Any) -> inspect.Signature | None:
    """The signature of a callable; of Flax modules, that of what they are made by."""
    try:
        own = inspect.signature(found)
    except ValueError:
        return None
    if inspect.isclass(found) and {"args", "kwargs"} == set(own.parameters):
        return inspect.signature(found.__init__)
    return own


def inputs() -> Iterator[tuple[str, str, Kind, bool]]:
    """Callable, parameter, kind, and whether None is a value of it."""
    for full, found in public():
        own = signature(found)
        if own is None or full in MADE_BY_US or PROTOCOLS.fullmatch(full):
            continue
        for parameter in own.parameters.values():
            kind = OWN.get((full, parameter.name), KINDS.get(parameter.name))
            if kind is not None:
                yield full, parameter.name, kind, "None" in str(parameter.annotation)
        for passed in PASSED_ON.get(full, ()):
            yield full, passed, KINDS[passed], passed not in ("draws",)


INPUTS = list(inputs())


def test_the_walk_meets_what_it_is_for() -> None:
    seen = {full for full, *_ in INPUTS}
    assert {"simulate", "Choice", "Text", "handlers.couple", "effects.exact", "effects.Factor", "effects.ate"} <= seen
    assert {"bench.evaluate", "audit.audit", "families.fit_table", "LowRank", "testing.check_execution"} <= seen
    assert {parameter for _, parameter, *_ in INPUTS} >= set(KINDS)
    assert {*CALLS} == {SAME.get(full, full) for full in seen}, "calls and public functions differ"


@pytest.mark.search
@pytest.mark.parametrize("full", sorted({SAME.get(full, full) for full, *_ in INPUTS}))
def test_the_call_works(full: str, tmp_path: Path) -> None:
    CALLS[full](tmp_path)


def silence(patch: pytest.MonkeyPatch) -> None:
    """From now on no language model may be asked."""

    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("a language model was asked")

    for owner, method in ((Scorer, "_run"), (sd.LanguageModel, "encode"), (sd.LanguageModel, "logits")):
        patch.setattr(owner, method, asked)


@pytest.mark.parametrize(("full", "parameter", "kind", "optional"), INPUTS, ids=[f"{f}-{p}" for f, p, *_ in INPUTS])
def test_nonsense_is_refused(
    full: str, parameter: str, kind: Kind, optional: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    call, wrong = CALLS[SAME.get(full, full)], []
    for ready in (mechanisms, compared, contrasted, member, *((benchmark,) if full in OF_BENCHMARK else ())):
        ready()
    silence(monkeypatch)
    # None is often a value; where it is none, it is nonsense, too.
    values = [value for value in kind.nonsense if value is not None or not optional]
    for value in values if optional or parameter in LISTS else [*values, None]:
        given = [value] if parameter in LISTS else value
        try:
            call(tmp_path / "out", **{parameter: given})
        except sd.SDSCMError as error:
            message = str(error)
            # Of an array that is no key, the dtype may be said.
            array = parameter == "key" and isinstance(value, np.ndarray) and str(value.dtype) in message
            if not (array or checks.told(value) in message) or kind.hint not in message:
                wrong.append(f"{value!r}: the message does not say it: {message}")
        except BaseException as error:
            wrong.append(f"{value!r}: {type(error).__name__}: {error}")
        else:
            wrong.append(f"{value!r}: taken")
    assert not wrong, "\n".join(wrong)
    assert not list(tmp_path.iterdir()), "something was written"


@pytest.mark.parametrize("name", ["linear_t", "linear_dml", "cqr"])
def test_estimators_refuse_a_level_that_is_none(name: str) -> None:
    """No coverage of another level is computed: with 95, limits would swap, or be no numbers."""
    pytest.importorskip("sklearn")
    if name == "linear_dml":
        pytest.importorskip("econml")
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(80, 1)), np.arange(80) % 2
    fitted = bench.make_estimator(name).fit(jax.random.key(0), x, t, t + x[:, 0] + rng.normal(size=80))
    lower, upper = fitted.interval(x, 0.9)
    assert (lower <= upper).all()
    for value in SHARE.nonsense:
        with pytest.raises(
            sd.SDSCMError, match=re.escape(f"level is a number between 0 and 1, got {checks.told(value)}")
        ):
            fitted.interval(x, value)


@pytest.mark.parametrize("value", SHARE.nonsense, ids=repr)
def test_no_limits_of_a_level_that_is_none(value: Any) -> None:
    for limits in (lambda: central(np.ones((4, 2)), value), lambda: student(np.ones(2), np.ones(2), 4, value)):
        with pytest.raises(sd.SDSCMError, match="level is a number between 0 and 1"):
            limits()
