"""Calls that work, with what each of their arguments means."""

from __future__ import annotations

import functools
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import numpyro
import optax
import pandas as pd

import sdscm_jax as sd
from sdscm_jax import audit, bench, effects, families, testing
from sdscm_jax.bench import metrics
from sdscm_jax.bench.estimates import score_estimates
from sdscm_jax.engine.tabulation import TrieScorer

from ..test_public_inputs import (
    SPEC,
    OfAnother,
    benchmark,
    compared,
    dataset,
    estimates,
    frame,
    mechanisms,
    member,
    mock,
    model,
    small_lm,
    spec,
    three,
)
from . import meanings as m

SITE = m.name("rain", "coat")
RAIN, COAT = m.option("clear", "grey"), m.option("on", "off")
CHANGE = m.intervention("clear", "grey")
WORLD = m.mapping(SITE, CHANGE, empty=None)
EVIDENCE = m.mapping(SITE, m.either(RAIN), empty=None)
LM = m.kind(sd.LanguageModel)
PROGRAM = m.either(lambda v: callable(v) and not isinstance(v, type) and not hasattr(v, "log_prob"))
NUMBERS = m.array()
COUPLING = m.name("gumbel", "inverse_cdf", "independent")
SCORING = m.name("sequence", "option", "mean", "masked", "pmi", "reference", "uniform")


def LMS(value: object) -> bool | None:
    """Language models, directories or hub ids, with names or without."""
    one = m.either(lambda v: isinstance(v, str | Path | sd.LanguageModel))
    if isinstance(value, dict):
        return m.mapping(m.text, m.either(lambda v: v is None or one(v) is not False))(value)
    return None if value is None else m.listed(lambda v: None if v is None else one(v), single=True)(value)


class Argument(NamedTuple):
    """What is given in a call that works, and what else may be."""

    good: Callable[[], Any]
    meaning: m.Meaning


class Call(NamedTuple):
    """A callable whose arguments are all given by name; the first of ``call`` is a directory of its own."""

    call: Callable[..., Any]
    arguments: dict[str, Argument]


def a(good: Any, meaning: m.Meaning) -> Argument:
    return Argument(
        (lambda: good()) if callable(good) and getattr(good, "__name__", "") == "<lambda>" else (lambda: good), meaning
    )


def of(function: Callable[..., Any], **arguments: Argument) -> Call:
    return Call(lambda place, /, **given: function(**given), arguments)


def seeded(build: Callable[..., Any], **arguments: Argument) -> Call:
    """A site, written in a program."""

    def call(place: Path, /, **given: Any) -> Any:
        with numpyro.handlers.seed(rng_seed=0):
            return build(**given)

    return Call(call, arguments)


@functools.cache
def simulated() -> sd.Simulation:
    return sd.simulate(model, 0, 4, mock(), worlds=[{"rain": "clear"}, {"rain": "grey"}])


@functools.cache
def table() -> sd.Tabulated:
    return sd.tabulate(model, mock())


@functools.cache
def kept_table() -> Path:
    place = Path(tempfile.mkdtemp()) / "table"
    table().save(place)
    return place


@functools.cache
def contrasted() -> sd.Contrast:
    return sd.contrast(simulated(), "rain", "coat", "clear", "grey")


@functools.cache
def audited() -> audit.AuditResult:
    return audit.audit(spec(), [mock()], wordings=2, option_wordings=1, pairs=0, progress=False)


def run(program: Callable[..., Any]) -> Any:
    """A program under a handler, as it is used."""
    return sd.handlers.exogenous(program, 0)(mock())


def site(template: Any, options: Any, **more: Any) -> Any:
    return sd.Choice(mock(), template, options, **more)


_LM = a(lambda: mock(), LM)
_SMALL = a(lambda: small_lm(), LM)
_MODEL = a(model, PROGRAM)
_KEY = a(0, m.key)
_N = a(2, m.count(1, 10_000))
_NAME = a("sky", m.either(m.text))
_OPTIONS = a(["clear", "grey"], m.listed(m.either(m.text), empty=False))
_TEMPLATE = a("The sky is {}.", m.template)
_GIVEN = a((), m.listed(m.text, single=True, empty=True))
_TEMPERATURE = a(1.0, m.array(1e-30, 1e30))
_LEVEL = a(0.95, m.SHARE)
_PATH = m.path
_REQUEST = {
    "do": a(None, m.or_none(WORLD)),
    "worlds": a(None, m.or_none(m.listed(WORLD, empty=True))),
    "evidence": a(None, m.or_none(EVIDENCE)),
    "draws": a(1, m.either(m.count(1, 1000))),
}
_EFFECT = {
    "treatment": a("rain", m.name("rain")),
    "outcome": a("coat", m.name("coat")),
    "low": a("clear", m.either(m.or_none(RAIN))),
    "high": a("grey", m.either(m.or_none(RAIN))),
}
_SOURCE = a(lambda: mechanisms(), m.kind(effects.Network, effects.Exact, effects.Sampled, sd.Simulation, type(model)))
_SCORE = a(None, m.or_none(lambda v: m.listed(m.real(), empty=False)(v) or m.mapping(COAT, m.real(), empty=False)(v)))
_OPTION = a("on", m.either(COAT))
_SITES = a(["coat"], m.either(m.or_none(m.listed(SITE, single=True, empty=None))))


def effect(function: Callable[..., Any], without: tuple[str, ...] = (), **more: Argument) -> Call:
    known = {"source": _SOURCE, **_EFFECT, "score": _SCORE, "level": _LEVEL} | more
    return of(function, **{name: argument for name, argument in known.items() if name not in without})


def law(function: Callable[..., Any], units: int, **more: Argument) -> Call:
    return Call(
        lambda place, /, model, key, lm, **given: function(model, key, lm, **given),
        {"model": _MODEL, "key": _KEY, "lm": _LM, "units": a(units, m.either(m.count(1, 10_000))), **more},
    )


EFFECTS = {"truth": a(lambda: np.arange(4.0), NUMBERS), "effect": a(lambda: np.arange(4.0), NUMBERS)}
_INTERVAL = a(lambda: (np.zeros(4), np.ones(4)), m.either(m.array(nan=False)))


def _with(call: Callable[..., Any], **arguments: Argument) -> Call:
    return Call(call, arguments)


PUBLIC: dict[str, Call] = {
    # -- sites --
    "Choice": _with(
        lambda place, /, **x: sd.Choice(**x).logits,
        lm=_LM,
        template=_TEMPLATE,
        options=_OPTIONS,
        given=_GIVEN,
        scoring=a("sequence", SCORING),
        temperature=_TEMPERATURE,
        coupling=a("gumbel", COUPLING),
        bias=a(None, m.or_none(m.array(-1e30, 1e30))),
        validate_args=a(None, m.or_none(m.flag)),
    ),
    "Text": _with(
        lambda place, /, **x: sd.Text(**x),
        lm=_LM,
        template=a("{}", m.template),
        given=_GIVEN,
        max_tokens=a(2, m.count(1, 4000)),
        stop=a(None, m.or_none(m.listed(m.text, single=True))),
        temperature=_TEMPERATURE,
        top_k=a(None, m.or_none(m.count())),
        top_p=a(None, m.or_none(m.real(1e-9, 1))),
        pattern=a(None, m.or_none(m.listed(m.text, single=True))),
        coupling=a("gumbel", m.name("gumbel", "independent")),
    ),
    "sample": seeded(
        lambda **x: sd.sample(**x),
        name=_NAME,
        site=a(lambda: site("It is {}.", ["low", "high"]), m.kind(numpyro.distributions.Distribution)),
        exogenous=a(False, m.flag),
        obs=a(None, m.or_none(m.either(m.option("low", "high")))),
    ),
    "verbalize": seeded(
        lambda **x: sd.verbalize(**x),
        name=_NAME,
        value=a(0.5, NUMBERS),
        edges=a([0.0], m.listed(m.real(), empty=None)),
        options=_OPTIONS,
        template=_TEMPLATE,
    ),
    "Choice.log_prob": _with(
        lambda place, /, value: site("It is {}.", ["low", "high"]).log_prob(value), value=a(0, m.either(m.array()))
    ),
    "Choice.as_value": _with(
        lambda place, /, value: site("It is {}.", ["low", "high"]).as_value(value),
        value=a("low", m.either(m.option("low", "high"))),
    ),
    "Text.log_prob": _with(
        lambda place, /, value: sd.Text(mock(), max_tokens=3).log_prob(value),
        value=a("ab", m.either(lambda v: m.text(v) is not False or m.array()(v) is not False)),
    ),
    "Phrase.map": _with(
        lambda place, /, values: site("It is {}.", ["low", "high"]).phrase(0).map(values),
        values=a({"low": 0.0, "high": 1.0}, m.mapping(m.name("low", "high"), m.array(nan=True))),
    ),
    "Chat": _with(
        lambda place, /, **x: testing.mock_lm(model, chat=sd.Chat(**x)),
        user=a("Go on.\n{}", m.template),
        alone=a("Begin.", m.text),
        system=a(None, m.or_none(m.text)),
        variables=a({}, m.mapping(m.text, m.anything, empty=True)),
        today=a(None, m.or_none(m.text)),
        thought=a(None, m.or_none(m.either(m.text))),
    ),
    # -- runs --
    "simulate": _with(
        lambda place, /, model, key, n, lm, **x: sd.simulate(model, key, n, lm, **x),
        model=_MODEL,
        key=_KEY,
        n=_N,
        lm=_LM,
        **_REQUEST,
        logp=a(None, m.or_none(m.listed(SITE, empty=True))),
        particles=a(16, m.count(16)),
        execution=a(None, m.or_none(m.name("staged", "in_graph"))),
        memory=a(None, m.or_none(m.either(m.count()))),
        chunk=a(None, m.or_none(m.count())),
        progress=a(None, m.or_none(m.flag)),
        store=a(None, m.or_none(_PATH)),
        out=a(None, m.or_none(_PATH)),
    ),
    "simulate do": _with(
        lambda place, /, value: sd.simulate(model, 0, 2, mock(), do={"rain": value}), value=a("clear", CHANGE)
    ),
    "simulate worlds": _with(
        lambda place, /, value: sd.simulate(model, 0, 2, mock(), worlds=[{"rain": value}]), value=a("clear", CHANGE)
    ),
    "simulate evidence": _with(
        lambda place, /, value: sd.simulate(model, 0, 2, mock(), evidence={"rain": value}),
        value=a("clear", m.either(RAIN)),
    ),
    "simulate argument": _with(
        lambda place, /, value: sd.simulate(with_arguments, 0, 2, mock(), value), value=a(0.5, m.leaves)
    ),
    "simulate number do": _with(
        lambda place, /, value: sd.simulate(with_number, 0, 2, mock(), 0.5, do={"dose": value}),
        value=a(0.5, lambda v: m.array()(v) if not callable(v) else None if not isinstance(v, type) else False),
    ),
    "simulate_many": _with(
        lambda place, /, models, key, n, lm, **x: sd.simulate_many(models, key, n, lm, **x),
        models=a([model], m.listed(PROGRAM, empty=None)),
        key=_KEY,
        n=_N,
        lm=_LM,
        out=a(lambda: Path(tempfile.mkdtemp()), _PATH),
        backend=a(None, m.or_none(m.name("loky", "dask"))),
    ),
    "compare": _with(
        lambda place, /, fn, key, n, lms: sd.compare(fn, key, n, lms),
        fn=_MODEL,
        key=_KEY,
        n=_N,
        lms=a(lambda: {"a": mock(), "b": mock()}, m.mapping(m.text, LM)),
    ),
    "plan": _with(
        lambda place, /, model, n, lm, **x: sd.plan(model, n, lm, **x),
        model=_MODEL,
        n=_N,
        lm=_LM,
        **_REQUEST,
        measure=a(False, m.flag),
    ),
    "tabulate": _with(
        lambda place, /, fn, lm, contexts, scorer: sd.tabulate(fn, lm, contexts=contexts, scorer=scorer),
        fn=_MODEL,
        lm=_LM,
        contexts=a(None, m.anything),
        scorer=a(lambda: TrieScorer(), PROGRAM),
    ),
    "tabulate row": _with(lambda place, /, site: table().rows(site), site=a("rain", SITE)),
    "tabulate scores": _with(lambda place, /, site: table().scores(site), site=a("rain", SITE)),
    "load_table": _with(lambda place, /, **x: sd.load_table(**x), path=a(lambda: kept_table(), _PATH), fn=_MODEL),
    "Tabulated.save": _with(
        lambda place, /, path: table().save(path), path=a(lambda: Path(tempfile.mkdtemp()) / "x", _PATH)
    ),
    "graph": _with(lambda place, /, fn, lm: sd.graph(fn, lm), fn=_MODEL, lm=_LM),
    "Graph.descendants": _with(lambda place, /, name: sd.graph(model, mock()).descendants(name), name=a("rain", SITE)),
    "Graph.draw": _with(
        lambda place, /, path: sd.graph(model, mock()).draw(path),
        path=a(lambda: Path(tempfile.mkdtemp()) / "x.svg", m.or_none(_PATH)),
    ),
    "Predictive": _with(
        lambda place, /, key, model, lm, **x: sd.Predictive(model, **x)(key, lm),
        key=a(lambda: jax.random.key(0), m.either(m.key)),
        model=_MODEL,
        lm=_LM,
        posterior_samples=a(None, m.or_none(m.mapping(SITE, m.either(RAIN)))),
        num_samples=a(2, m.either(m.or_none(m.count(1, 1000)))),
        return_sites=a(None, m.or_none(m.listed(SITE))),
    ),
    "Simulation.to_pandas": _with(
        lambda place, /, logp: simulated().to_pandas(logp), logp=a(True, lambda v: m.flag(v) or m.listed(SITE)(v))
    ),
    "Simulation.to_parquet": _with(
        lambda place, /, **x: simulated().to_parquet(**x),
        path=a(lambda: Path(tempfile.mkdtemp()) / "x.parquet", _PATH),
        logp=a(True, lambda v: m.flag(v) or m.listed(SITE)(v)),
    ),
    "Simulation.side_by_side": _with(
        lambda place, /, **x: simulated().side_by_side(**x),
        unit=a(0, m.count(-4, 3)),
        worlds=a(None, m.or_none(m.listed(m.either(lambda v: isinstance(v, str) or m.count(-3, 2)(v)), empty=False))),
    ),
    "Simulation.text": _with(
        lambda place, /, **x: simulated().text(**x),
        unit=a(0, m.count(0, 3)),
        world=a(0, m.either(lambda v: isinstance(v, str) or m.count(-3, 2)(v))),
    ),
    "Simulation.world": _with(
        lambda place, /, label: simulated().world(label),
        label=a(0, m.either(lambda v: isinstance(v, str) or m.count(-3, 2)(v))),
    ),
    "Comparison.to_pandas": _with(
        lambda place, /, world: compared().to_pandas(world),
        world=a(0, m.either(lambda v: isinstance(v, str) or m.count(-2, 1)(v))),
    ),
    "Comparison.agreement": _with(
        lambda place, /, **x: compared().agreement(**x),
        site=a("rain", SITE),
        world=a(0, m.either(lambda v: isinstance(v, str) or m.count(-2, 1)(v))),
    ),
    "Comparison.differences": _with(
        lambda place, /, **x: compared().differences(**x),
        site=a("rain", SITE),
        world=a(0, m.either(lambda v: isinstance(v, str) or m.count(-2, 1)(v))),
    ),
    "contrast": _with(
        lambda place, /, **x: sd.contrast(**x), data=a(lambda: simulated(), m.kind(sd.Simulation)), **_EFFECT
    ),
    "plot_contrast": _with(
        lambda place, /, **x: sd.plot_contrast(**x),
        contrast=a(lambda: contrasted(), m.kind(sd.Contrast)),
        path=a(lambda: Path(tempfile.mkdtemp()) / "x.png", m.or_none(_PATH)),
    ),
    "TrieScorer": _with(
        lambda place, /, **x: TrieScorer(**x), memory=a(None, m.or_none(m.count())), store=a(None, m.or_none(_PATH))
    ),
    # -- handlers --
    "handlers.do": _with(
        lambda place, /, fn, data: run(sd.handlers.do(fn, data)),
        # Without a model it is a context, without values nothing is set.
        fn=a(model, m.or_none(PROGRAM)),
        data=a({"rain": "clear"}, m.or_none(WORLD)),
    ),
    "handlers.do value": _with(
        lambda place, /, value: run(sd.handlers.do(model, {"rain": value})), value=a("clear", CHANGE)
    ),
    "handlers.nested": _with(
        lambda place, /, world: sd.simulate(model, 0, 2, mock(), worlds=[{"rain": sd.handlers.nested(world)}]),
        world=a({"rain": "clear"}, WORLD),
    ),
    "handlers.couple": _with(
        lambda place, /, **x: run(sd.handlers.couple(**x)),
        fn=_MODEL,
        coupling=a("gumbel", COUPLING),
        sites=a(None, m.or_none(m.listed(SITE, empty=None))),
    ),
    "handlers.exogenous": _with(
        lambda place, /, fn, key, noise: sd.handlers.exogenous(fn, key, noise)(mock()),
        fn=_MODEL,
        key=_KEY,
        noise=a(None, m.or_none(m.mapping(SITE, m.array()))),
    ),
    "handlers.abduct": _with(
        lambda place, /, lm, **x: sd.handlers.abduct(**x)(lm),
        lm=_LM,
        fn=_MODEL,
        evidence=a({"rain": "grey"}, EVIDENCE),
        key=_KEY,
        particles=a(16, m.count(16)),
    ),
    "handlers.counterfactual": _with(
        lambda place, /, **x: run(sd.handlers.counterfactual(**x)),
        fn=_MODEL,
        do=a(None, m.or_none(WORLD)),
        evidence=a({"rain": "grey"}, m.or_none(EVIDENCE)),
        worlds=a(lambda: [{"rain": "clear"}], m.or_none(m.listed(WORLD, empty=None))),
        particles=a(16, m.count(16)),
    ),
    # -- effects --
    **{f"effects.{e.__name__}": effect(e) for e in (effects.ate, effects.att)},
    **{f"effects.{e.__name__}": effect(e, ("score",)) for e in (effects.total_variation,)},
    "effects.wasserstein": effect(
        effects.wasserstein,
        score=a(
            [0.0, 1.0],
            m.or_none(lambda v: m.listed(m.real(), empty=False)(v) or m.mapping(COAT, m.real(), empty=False)(v)),
        ),
    ),
    **{
        f"effects.{e.__name__}": effect(e, mediators=a(None, m.or_none(m.listed(SITE, empty=None))))
        for e in (effects.nde, effects.nie)
    },
    **{f"effects.{e.__name__}": effect(e, ("score",), option=_OPTION) for e in (effects.pn, effects.ps, effects.pns)},
    "effects.potential_outcomes": effect(effects.potential_outcomes, ("score",), evidence=a(None, m.or_none(EVIDENCE))),
    "effects.contrasts": effect(
        effects.contrasts,
        ("low", "high"),
        levels=a(None, m.or_none(m.listed(RAIN, empty=None))),
        weights=a(None, m.or_none(m.mapping(m.text, m.mapping(RAIN, m.real())))),
    ),
    "effects.cate": effect(
        effects.cate,
        source=a(lambda: three(), _SOURCE.meaning),
        by=a("season", m.listed(m.name("season", "rain", "coat"), single=True, empty=None)),
    ),
    "effects.cde": effect(
        effects.cde,
        source=a(lambda: three(), _SOURCE.meaning),
        treatment=a("season", m.name("season")),
        low=a("dry", m.either(m.or_none(m.option("dry", "wet")))),
        high=a("wet", m.either(m.or_none(m.option("dry", "wet")))),
        mediators=a({"rain": "grey"}, m.mapping(SITE, m.either(RAIN), empty=None)),
    ),
    "effects.path_effect": effect(
        effects.path_effect, edges=a([("rain", "coat")], m.listed(m.listed(SITE, empty=False), empty=None))
    ),
    "effects.naive": effect(effects.naive, ("level",)),
    "effects.backdoor": effect(
        effects.backdoor,
        ("level",),
        adjust=a((), m.listed(SITE, single=True, empty=None)),
        hidden=a((), m.either(m.listed(SITE, single=True, empty=True))),
    ),
    "effects.frontdoor": effect(
        effects.frontdoor,
        ("level",),
        source=a(lambda: three(), _SOURCE.meaning),
        treatment=a("season", m.name("season")),
        low=a("dry", m.either(m.or_none(m.option("dry", "wet")))),
        high=a("wet", m.either(m.or_none(m.option("dry", "wet")))),
        mediators=a(("rain",), m.listed(SITE, single=True, empty=None)),
        hidden=a((), m.either(m.listed(SITE, single=True, empty=True))),
    ),
    "effects.identify": effect(
        effects.identify,
        ("level", "low", "high", "score"),
        hidden=a((), m.either(m.listed(SITE, single=True, empty=True))),
    ),
    "effects.adjustment_sets": effect(
        effects.adjustment_sets,
        ("level", "low", "high", "score"),
        hidden=a((), m.either(m.listed(SITE, single=True, empty=True))),
        largest=a(4, m.count(0)),
    ),
    "effects.mediators_between": effect(
        effects.mediators_between,
        source=a(lambda: effects.exact(mechanisms()), m.kind(effects.Exact, effects.Sampled)),
        without=("level", "low", "high", "score"),
    ),
    "effects.ite": effect(effects.ite, ("level", "score"), source=a(lambda: simulated(), _SOURCE.meaning)),
    "effects.exact": _with(
        lambda place, /, fn, lm, **x: effects.exact(fn, lm, **x),
        fn=_MODEL,
        lm=_LM,
        limits=a(lambda: effects.Limits(), m.kind(effects.Limits)),
        coupling=a(None, m.or_none(COUPLING)),
    ),
    "effects.sampled": _with(
        lambda place, /, fn, key, n, lm: effects.sampled(fn, key, n, lm), fn=_MODEL, key=_KEY, n=_N, lm=_LM
    ),
    "effects.Exact": of(
        effects.Exact,
        network=a(lambda: mechanisms(), m.kind(effects.Network)),
        limits=a(lambda: effects.Limits(), m.kind(effects.Limits)),
        coupling=a(None, m.or_none(COUPLING)),
    ),
    "effects.network": _with(lambda place, /, fn, lm: effects.network(fn, lm), fn=_MODEL, lm=_LM),
    "effects.Network": of(
        effects.Network, factors=a(lambda: three().factors, m.listed(m.kind(effects.Factor), empty=None))
    ),
    "effects.Factor": _with(
        lambda place, /, **x: effects.Network((effects.Factor(**x),)),
        site=a("x", m.either(m.text)),
        parents=a((), m.listed(m.text, empty=True)),
        table=a(lambda: np.array([0.5, 0.5]), m.array(0, 1)),
        options=a(("a", "b"), m.listed(m.either(m.text), empty=False)),
        coupling=a("gumbel", m.or_none(COUPLING)),
        exogenous=a(False, m.flag),
    ),
    "effects.Limits": of(effects.Limits, operations=a(1e9, m.real(1e-300)), largest=a(1e9, m.real(1e-300))),
    "effects.Exact.table": _with(lambda place, /, site: effects.exact(mechanisms()).table(site), site=a("rain", SITE)),
    "effects.plot_contrast": _with(
        lambda place, /, **x: effects.plot_contrast(**x),
        contrast=a(lambda: contrasted(), m.kind(sd.Contrast)),
        path=a(lambda: Path(tempfile.mkdtemp()) / "x.png", m.or_none(_PATH)),
    ),
    # -- families --
    "families.family": _with(
        lambda place, /, **x: families.family(**x),
        name_or_path=a(
            "confounder", m.either(lambda v: v in families.FAMILIES if isinstance(v, str) else _PATH(v) is not False)
        ),
    ),
    "families.Family.read": _with(
        lambda place, /, **x: families.Family.read(**x), path=a(lambda: family_file(), _PATH)
    ),
    "families.Family.from_json": _with(
        lambda place, /, source: families.Family.from_json(source),
        source=a(lambda: family_file(), m.either(lambda v: _PATH(v) is not False or isinstance(v, dict))),
    ),
    "families.Family.from_json variable": _with(
        lambda place, /, **x: families.Family.from_json(FAMILY | {"variables": [{**FAMILY["variables"][0], **x}]}),
        name=a("a", m.either(m.text)),
        options=_OPTIONS,
        templates=a(["It is {}."], m.listed(m.template, empty=False)),
        parents=a([], m.listed(m.text, empty=True)),
        exogenous=a(False, m.flag),
        uniform=a(False, m.flag),
    ),
    "families.Family.from_reference_json": _with(
        lambda place, /, source: families.Family.from_reference_json(source),
        source=a(lambda: REFERENCE, m.either(lambda v: _PATH(v) is not False or isinstance(v, dict))),
    ),
    "families.Family.member": _with(
        lambda place, /, **x: member().family.member(**x),
        seed=a(0, m.count(0, 2**32 - 1)),
        scoring=a("sequence", SCORING),
    ),
    "families.Member": _with(
        lambda place, /, **x: families.Member(**x),
        family=a(lambda: member().family, m.kind(families.Family)),
        wordings=a((0, 0), m.listed(m.count(0, 0))),
        scoring=a("sequence", SCORING),
    ),
    "families.Family": _with(
        lambda place, /, **x: families.Family(**x),
        name=a("x", m.either(m.text)),
        variables=a(lambda: member().family.variables, m.listed(m.kind(families.FamilyVariable), empty=False)),
    ),
    "families.FamilyVariable": _with(
        lambda place, /, **x: families.Family("x", (families.FamilyVariable(**x),)),
        name=a("x", m.either(m.text)),
        options=a(("a", "b"), m.listed(m.either(m.text), empty=False)),
        templates=a(
            lambda: member().family.variables[0].templates,
            m.listed(
                m.either(
                    lambda v: (
                        isinstance(v, type(member().family.variables[0].templates[0])) or m.template(v) is not False
                    )
                ),
                empty=False,
            ),
        ),
        parents=a((), m.listed(m.text, empty=True)),
        exogenous=a(False, m.flag),
        uniform=a(False, m.flag),
        written=a(None, m.or_none(lambda v: False if not isinstance(v, families.Written) else None)),
    ),
    "families.Written": _with(
        lambda place, /, **x: families.Family(
            "x",
            (families.FamilyVariable("x", (), member().family.variables[0].templates, written=families.Written(**x)),),
        ),
        max_tokens=a(8, m.count()),
        stop=a((), m.listed(m.either(m.text), single=True, empty=True)),
        pattern=a(None, m.or_none(m.either(m.text))),
        temperature=a(1.0, m.real(0, ends=False)),
        top_k=a(None, m.or_none(m.count())),
        top_p=a(None, m.or_none(m.real(0, 1))),
    ),
    "families.table_family": of(
        families.table_family,
        frame=a(lambda: frame(), m.kind(pd.DataFrame)),
        templates=a(
            {"sky": "The sky is {}.", "coat": "My coat is {}."},
            m.mapping(m.name("sky", "coat"), m.listed(m.template, single=True, empty=False)),
        ),
        parents=a(
            None,
            m.or_none(
                m.mapping(m.name("sky", "coat"), m.listed(m.name("sky", "coat"), single=True, empty=True), empty=True)
            ),
        ),
        name=a("table", m.either(m.text)),
    ),
    "families.conditionals": of(
        families.conditionals,
        family=a(lambda: member().family, m.kind(families.Family)),
        data=a(lambda: frame(), m.kind(pd.DataFrame)),
        weights=a(None, m.or_none(m.array(0))),
    ),
    "families.compare_table": of(
        families.compare_table,
        lm=a(lambda: mock(), LM),
        member=a(lambda: member(), m.kind(families.Member)),
        data=a(lambda: frame(), m.kind(pd.DataFrame)),
        weights=a(None, m.or_none(m.array(0))),
    ),
    "families.table_batches": _with(
        lambda place, /, **x: next(iter(families.table_batches(**x))),
        lm=_SMALL,
        program=a(lambda: member(), m.kind(families.Member, families.Family)),
        data=a(lambda: frame(), m.kind(pd.DataFrame)),
        steps=a(1, m.count(1, 10**9)),
        rows=a(2, m.count(1, 1000)),
        length=a(None, m.or_none(m.either(m.count()))),
        seed=a(0, m.count(0, 2**32 - 1)),
        weights=a(None, m.or_none(m.array(0))),
    ),
    "families.fit_table": _with(
        lambda place, /, **x: families.fit_table(optimizer=optax.sgd(0.1), **x),
        lm=_SMALL,
        program=a(lambda: member(), m.kind(families.Member, families.Family)),
        data=a(lambda: frame(), m.kind(pd.DataFrame)),
        steps=a(1, m.either(m.count(1, 2))),
        rows=a(1, m.either(m.count(1, 8))),
        tolerance=a(None, m.or_none(m.real(0, 1))),
    ),
    # -- benchmarks --
    "bench.score": of(
        metrics.score,
        data=a(lambda: dataset(), m.kind(bench.Dataset)),
        effect=a(lambda: np.ones(40), m.array()),
        interval=a(lambda: (np.zeros(40), np.ones(40)), m.or_none(m.either(m.array()))),
        ate=a(1.0, m.or_none(m.real())),
        ate_interval=a((0.0, 2.0), m.or_none(m.either(m.array()))),
        interval_of=a("cate", m.name("cate", "ite")),
        level=_LEVEL,
    ),
    "bench.score_estimates": of(
        score_estimates,
        estimates=a(lambda: estimates(), m.kind(pd.DataFrame)),
        datasets=a(lambda: [dataset()], m.listed(m.kind(bench.Dataset))),
        interval_of=a("cate", m.name("cate", "ite")),
        level=_LEVEL,
    ),
    **{
        f"metrics.{f.__name__}": of(f, **EFFECTS)
        for f in (metrics.pehe, metrics.r2, metrics.r2_reference, metrics.rank_correlation)
    },
    "metrics.coverage": of(metrics.coverage, truth=EFFECTS["truth"], interval=_INTERVAL),
    "metrics.mean_width": of(metrics.mean_width, interval=_INTERVAL),
    "metrics.interval_score": of(metrics.interval_score, truth=EFFECTS["truth"], interval=_INTERVAL, level=_LEVEL),
    "metrics.policy_regret": of(metrics.policy_regret, **EFFECTS, sd_y=a(1.0, m.real(0))),
    "metrics.sd": of(metrics.sd, values=a(lambda: np.arange(4.0), NUMBERS)),
    "bench.Dataset": _with(
        lambda place, /, **x: metrics.score(bench.Dataset(**x), np.zeros(40)),
        **{
            name: Argument(functools.partial(getattr, dataset(), name), meaning)
            for name, meaning in {
                "name": m.text,
                "wording": m.text,
                "covariates": m.kind(pd.DataFrame),
                "hidden": m.listed(m.text, empty=True),
                "t": m.array(0, 1),
                "y": m.array(),
                "outcomes": m.array(),
                "cate": m.array(),
                "propensity": m.array(0, 1),
                "unit": m.array(),
            }.items()
        },
    ),
    "bench.Dataset.texts": _with(
        lambda place, /, **x: dataset().texts(**x),
        setting=a("all", m.name("all", "observed")),
    ),
    "bench.Dataset.encoded": _with(
        lambda place, /, **x: dataset().encoded(**x),
        setting=a("all", m.name("all", "observed")),
        encoding=a("onehot", m.name("onehot", "integer")),
    ),
    "bench.FromEconml": of(
        bench.FromEconml,
        estimator=a(OfAnother, m.kind(OfAnother)),
        fit_options=a(dict, m.mapping(m.anything, m.anything)),
    ),
    "bench.FromSklearn": of(
        bench.FromSklearn,
        model=a(lambda: types.SimpleNamespace(fit=print, predict=print), m.anything),
        learner=a("t", m.name("t", "s")),
    ),
    "bench.make_estimator": of(bench.make_estimator, name=a("linear_t", m.either(m.text))),
    "bench.open_benchmark": of(
        bench.open_benchmark,
        source=a(lambda: benchmark(), _PATH),
        outcome=a(None, m.or_none(m.name("probability", "logp", "drawn"))),
        option=a(None, m.or_none(m.either(m.text))),
        hidden=a(None, m.or_none(m.listed(m.text, empty=True))),
    ),
    "bench.Benchmark.dataset": _with(
        lambda place, /, i: bench.open_benchmark(benchmark()).dataset(i), i=a(0, m.count(0, 0))
    ),
    "bench.generate": _with(
        lambda place, /, **x: bench.generate(**x),
        family=a(lambda: families.family("confounder"), m.kind(families.Family)),
        out=a(lambda: Path(tempfile.mkdtemp()), _PATH),
        lm=a(None, m.or_none(_PATH)),
        datasets=a(1, m.count(1, 2)),
        units=a(4, m.count(1, 1000)),
        seed=a(0, m.count(0, 2**32 - 1)),
        wordings=a(None, m.or_none(m.either(m.count()))),
        scoring=a("sequence", SCORING),
        coupling=a("gumbel", COUPLING),
        jobs=a(1, m.count(1, 2)),
        backend=a(None, m.or_none(m.name("loky", "dask"))),
        progress=a(False, m.or_none(m.flag)),
    ),
    "bench.evaluate": _with(
        lambda place, /, **x: bench.evaluate(**x),
        source=a(lambda: benchmark(), _PATH),
        out=a(lambda: Path(tempfile.mkdtemp()), _PATH),
        estimators=a("linear_t", m.listed(m.text, single=True)),
        covariates=a(("all",), m.listed(m.name("all", "observed"), single=True)),
        outcome=a(None, m.or_none(m.name("probability", "logp", "drawn"))),
        option=a(None, m.or_none(m.either(m.text))),
        hidden=a(None, m.or_none(m.listed(m.text, empty=True))),
        encoding=a("onehot", m.name("onehot", "integer")),
        level=_LEVEL,
        seed=a(0, m.count(0, 2**32 - 1)),
        limit=a(None, m.or_none(m.count())),
        estimates=a((), m.listed(_PATH, empty=True)),
        intervals_of=a("cate", m.name("cate", "ite")),
        jobs=a(1, m.count(1, 2)),
        backend=a(None, m.or_none(m.name("loky", "dask"))),
        progress=a(False, m.or_none(m.flag)),
    ),
    # -- audits --
    "audit.audit": _with(
        lambda place, /, **x: audit.audit(**x),
        spec=a(lambda: spec(), m.either(lambda v: isinstance(v, audit.AuditSpec) or _PATH(v) is not False)),
        lms=a(lambda: [mock()], LMS),
        wordings=a(2, m.count(2, 100)),
        option_wordings=a(1, m.count(1, 100)),
        seed=a(0, m.count(0, 2**32 - 1)),
        level=_LEVEL,
        rate=_LEVEL,
        margin=a(0.005, m.real(0, 0.999)),
        pairs=a(0, m.count(0, 100)),
        draws=a(2, m.count(2, 1000)),
        out=a(None, m.or_none(_PATH)),
        truth=a(None, m.either(m.or_none(m.kind(type(sd.vignettes.hiring))))),
        memory=a(None, m.or_none(m.either(m.count()))),
        progress=a(False, m.or_none(m.flag)),
    ),
    "audit.audit_cost": of(
        lambda spec, **x: audit.audit_cost(spec, [mock()], **x),
        spec=a(lambda: spec(), m.either(lambda v: isinstance(v, audit.AuditSpec) or _PATH(v) is not False)),
        wordings=a(2, m.count(2, 100)),
        option_wordings=a(1, m.count(1, 100)),
        seed=a(0, m.count(0, 2**32 - 1)),
        draws=a(2, m.count(2, 1000)),
        memory=a(None, m.or_none(m.either(m.count()))),
        measure=a(False, m.flag),
    ),
    "audit.audit_plan": of(
        audit.audit_plan,
        spec=a(lambda: spec(), m.either(lambda v: isinstance(v, audit.AuditSpec) or _PATH(v) is not False)),
        wordings=a(2, m.count(2)),
        option_wordings=a(1, m.count()),
        level=_LEVEL,
        margin=a(0.005, m.real(0, 0.999)),
        spreads=a((0.01,), m.listed(m.real(1e-6, 1), empty=True)),
    ),
    "audit.AuditSpec.known_to": of(
        lambda vignette: audit.audit_spec("hiring").known_to(vignette),
        vignette=a(lambda: sd.vignettes.hiring, m.kind(type(sd.vignettes.hiring))),
    ),
    "audit.audit_spec": of(
        audit.audit_spec,
        name_or_path=a(
            "hiring", m.either(lambda v: v in audit.AUDITS if isinstance(v, str) else _PATH(v) is not False)
        ),
    ),
    "audit.AuditSpec.read": of(audit.AuditSpec.read, path=a(lambda: spec_file(), _PATH)),
    "audit.AuditSpec.from_dict": of(audit.AuditSpec.from_dict, content=a(SPEC, m.kind(dict))),
    "audit.AuditSpec.from_dict key": _with(
        lambda place, /, **x: audit.AuditSpec.from_dict(SPEC | x),
        name=a("coat", m.either(m.text)),
        title=a("A coat", m.either(m.text)),
        question=a("Is it?", m.either(m.text)),
        attribute=a(SPEC["attribute"], m.kind(dict)),
        variables=a(SPEC["variables"], m.listed(m.kind(dict), empty=False)),
        outcome=a(SPEC["outcome"], m.kind(dict)),
        scorings=a(["sequence"], m.either(m.listed(SCORING, empty=False))),
    ),
    "audit.FreeText": _with(
        lambda place, /, **x: audit.AuditSpec.from_dict({**SPEC, "text": {"template": "I say {}", **x}}),
        template=a("I say {}", m.template),
        max_tokens=a(2, m.count()),
        pattern=a(None, m.or_none(m.text)),
    ),
    "audit.AuditSpec.without": _with(
        lambda place, /, name: audit.audit_spec("hiring").without(name), name=a("test score", m.either(m.text))
    ),
    "audit.discoveries": of(
        audit.discoveries, table=a(lambda: pd.DataFrame({"p": [0.01, 0.5]}), m.kind(pd.DataFrame)), rate=_LEVEL
    ),
    "audit.truth_of": of(
        audit.truth_of,
        spec=a(lambda: spec(), m.kind(audit.AuditSpec)),
        vignette=a(lambda: sd.vignettes.hiring, m.kind(type(sd.vignettes.hiring))),
    ),
    "audit.write_audit": of(
        audit.write_audit,
        directory=a(lambda: Path(tempfile.mkdtemp()), _PATH),
        result=a(lambda: audited(), m.kind(audit.AuditResult)),
    ),
    # -- language models --
    "load_lm": of(
        sd.load_lm,
        source=a(None, m.or_none(_PATH)),
        dtype=a("float32", m.either(m.or_none(lambda v: isinstance(v, str | type)))),
        mesh=a(None, m.or_none(m.kind(jax.sharding.Mesh))),
        chat=a(False, m.either(lambda v: m.flag(v) or isinstance(v, sd.Chat))),
        weights=a(None, m.or_none(m.name("int8"))),
    ),
    "random_lm": of(
        sd.random_lm,
        config=a(lambda: small_lm().config, m.kind(type(small_lm().config))),
        tokenizer=a(lambda: small_lm().tokenizer, m.kind(type(small_lm().tokenizer))),
        key=_KEY,
        dtype=a("float32", m.either(lambda v: isinstance(v, str | type))),
    ),
    "LanguageModel.save": _with(
        lambda place, /, directory: sd.load_lm().save(directory), directory=a(lambda: Path(tempfile.mkdtemp()), _PATH)
    ),
    "LowRank": of(
        sd.LowRank,
        lm=_SMALL,
        rank=a(2, m.either(m.count())),
        targets=a(("query",), m.listed(m.text)),
        alpha=a(None, m.or_none(m.real(1e-9))),
        rngs=_KEY,
    ),
    "SoftPrompt": of(sd.SoftPrompt, lm=_SMALL, length=a(2, m.either(m.count())), init=a("", m.text), rngs=_KEY),
    "FullWeights": of(sd.FullWeights, lm=_SMALL),
    "train_lm": of(
        sd.train_lm,
        lm=_SMALL,
        batches=a((), m.listed(m.anything, empty=True)),
        optimizer=a(lambda: optax.sgd(0.1), m.kind(optax.GradientTransformation)),
        adapter=a(None, m.or_none(m.kind(sd.LowRank))),
        accumulate=a(1, m.count()),
        average=a(None, m.or_none(m.real(0, 1))),
        checkpoint=a(None, m.or_none(_PATH)),
        every=a(100, m.count()),
        on_step=a(None, m.or_none(PROGRAM)),
    ),
    # -- testing --
    "testing.mock_lm": of(
        testing.mock_lm,
        program=a(model, m.or_none(PROGRAM)),
        probs=a(None, m.or_none(m.mapping(SITE, m.either(m.array(0, 1))))),
        seed=a(0, m.count(0, 2**32 - 1)),
        chat=a(False, m.either(lambda v: m.flag(v) or isinstance(v, sd.Chat))),
    ),
    "testing.check_site": of(
        testing.check_site,
        site=a(lambda: site("It is {}.", ["low", "high"]), m.kind(numpyro.distributions.Distribution)),
        key=_KEY,
        draws=a(2000, m.either(m.count(1, 10_000))),
    ),
    "testing.check_lm": of(
        testing.check_lm, lm=_LM, texts=a(["It is low."], m.listed(m.text)), tolerance=a(1e-3, m.or_none(m.real(0)))
    ),
    "testing.check_consistency": law(testing.check_consistency, 8, sites=_SITES),
    "testing.check_effectiveness": law(testing.check_effectiveness, 8, sites=_SITES),
    "testing.check_abduction": law(testing.check_abduction, 4, sites=_SITES),
    "testing.check_stability": law(testing.check_stability, 8, sites=_SITES),
    "testing.check_options": law(testing.check_options, 4, tolerance=a(1e-3, m.real(0))),
    "testing.check_interventional": law(testing.check_interventional, 200, sites=_SITES),
    "testing.check_unreached": law(testing.check_unreached, 8, sites=a(["rain"], _SITES.meaning)),
    "testing.check_execution": law(
        testing.check_execution,
        4,
        worlds=a((), m.listed(WORLD, empty=True)),
        ways=a(("in_graph",), m.listed(m.name("in_graph", "staged", "tabulated"))),
        tolerance=a(1e-3, m.real(0)),
    ),
    "testing.check_independence": law(
        testing.check_independence, 4, chunks=a((2,), m.listed(m.count())), tolerance=a(1e-3, m.real(0))
    ),
}


def with_number(lm: Any, dose: Any = 0.5) -> Any:
    numpyro.sample("dose", numpyro.distributions.Normal(dose, 1.0))
    return model(lm)


def with_arguments(lm: Any, given: Any) -> Any:
    """A program that takes whatever has arrays for leaves."""
    total = sum(jax.numpy.sum(jax.numpy.real(leaf)) for leaf in jax.tree.leaves(given))
    return with_number(lm, jax.numpy.nan_to_num(total) * 0.0)


FAMILY: dict[str, Any] = {
    "name": "x",
    "variables": [{"name": "a", "options": ["clear", "grey"], "templates": ["It is {}."], "parents": []}],
}


@functools.cache
def family_file() -> Path:
    path = Path(tempfile.mkdtemp()) / "family.json"
    path.write_text(member().family.to_json(), encoding="utf-8")
    return path


@functools.cache
def spec_file() -> Path:
    path = Path(tempfile.mkdtemp()) / "spec.yaml"
    path.write_text(spec().to_yaml(), encoding="utf-8")
    return path


REFERENCE: dict[str, Any] = {
    "setup_sequence_sample_space": [
        {
            "variable_name": "a",
            "possible_prefix_suffix_pairs": [["It is ", "."]],
            "candidate_set": ["low", "high"],
            "parent_indices": [],
            "exogenous": False,
        }
    ]
}
