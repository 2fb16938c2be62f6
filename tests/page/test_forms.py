"""What results look like in a terminal and in a notebook: short, whole, and never active."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

import sdscm_jax as sd
from sdscm_jax import effects
from sdscm_jax.bench.evaluation import Evaluation
from sdscm_jax.dsl.analysis.graph import Graph
from sdscm_jax.dsl.analysis.structure import Site
from sdscm_jax.effects import Effect
from sdscm_jax.engine.simulation import Simulation
from sdscm_jax.errors import EffectError
from sdscm_jax.families import Family
from sdscm_jax.page.forms import Form, as_html, as_text
from sdscm_jax.testing import mock_lm

from ..audit.synthetic import audit as audit_result

# Markup, an escape sequence, a comment's end, a formula; long, and with a line of its own.
HOSTILE = "<script>alert(1)</script>\"' onload=x --> \x1b[31m\n$x^{ <img src=x onerror=alert(1)>" + "y" * 200
X, Y = f"x {HOSTILE}", f"y {HOSTILE}"
LOW, HIGH = "low </td><svg onload=alert(1)>", "high <b>"

ONE = np.array([0.25])


def program(lm: sd.LanguageModel) -> None:
    u = sd.sample("u", sd.Choice(lm, "It is {}.", ["sun", "rain"]), exogenous=True)
    x = sd.sample(X, sd.Choice(lm, "Now {}.", [LOW, HIGH], given=[u]))
    sd.sample(Y, sd.Choice(lm, "Then {}.", ["a <i>", "b &amp; c"], given=[u, x]))


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """One of each class, with hostile texts wherever texts of a user or a model stand."""
    lm = mock_lm(program)
    data = sd.simulate(program, 0, 40, lm, worlds=[{X: LOW}, {X: HIGH}])
    variables = [
        {"name": X, "options": [LOW, HIGH], "templates": ["Now {}."]},
        {"name": Y, "options": ["a <i>", "b &amp; c"], "templates": ["Then {}."], "parents": [X]},
    ]
    family = Family.from_json({
        "name": HOSTILE, "description": HOSTILE, "variables": variables, "treatment": X, "outcome": Y,
    })  # fmt: skip
    board = pd.DataFrame({
        "estimator": [HOSTILE] * 30, "covariates": "all", "ate_rmse": np.linspace(0, 1, 30), "failures": 0,
    })  # fmt: skip
    scores = pd.DataFrame({"dataset": [HOSTILE, "b"]})
    return {
        "LanguageModel": lm,
        "Graph": data.graph,
        "Simulation": data,
        "Plan": sd.plan(program, 40, lm, measure=False),
        "Effect": effects.ate(data, X, Y),
        "exact Effect": Effect(
            "PNS", HOSTILE, (HOSTILE,), ONE, ONE, ONE, 0.95, True, coupling="gumbel", bounds=(ONE - 0.1, ONE + 0.1)
        ),
        "Contrast": sd.contrast(data, X, Y, LOW, HIGH),
        "IndividualEffects": effects.ite(data, X, Y, LOW, HIGH),
        "Tabulated": sd.tabulate(program, lm),
        "Comparison": sd.compare(program, 0, 40, {HOSTILE: lm, "other": mock_lm(program, seed=1)}),
        "Family": family,
        "Evaluation": Evaluation(scores, board, pd.DataFrame(), {HOSTILE: HOSTILE}),
        "AuditResult": audit_result(),
    }


CLASSES = (
    "LanguageModel", "Graph", "Simulation", "Plan", "Effect", "exact Effect", "Contrast", "IndividualEffects",
    "Tabulated", "Comparison", "Family", "Evaluation", "AuditResult",
)  # fmt: skip


class Reader(html.parser.HTMLParser):
    """Every tag is closed, and all tags and attributes are of those that show and do nothing else."""

    TAGS = (
        *("div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"),
        *("svg", "line", "circle", "g", "path", "defs", "use", "clippath", "rect"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.TAGS, tag
        self.seen.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in ("href", "src", "xlink:href"):
                assert (value or "").startswith("#"), value
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("name", CLASSES)
def test_a_terminal_gets_a_few_lines(shown: dict[str, Any], name: str) -> None:
    text = repr(shown[name])
    lines = text.splitlines()
    assert 1 < len(lines) <= 15
    assert max(map(len, lines)) <= 120
    assert "\x1b" not in text
    assert "array(" not in text


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", CLASSES)
def test_a_notebook_gets_html_that_does_nothing(shown: dict[str, Any], name: str) -> None:
    page = shown[name]._repr_html_()
    assert "<script" not in page.lower()
    assert "\x1b" not in page
    reader = read(page)
    assert {"div", "p", "table"} <= reader.seen
    if name in ("Graph", "Simulation", "Family"):
        assert {"svg", "path"} <= reader.seen
    if name in ("Effect", "Contrast", "AuditResult"):
        assert {"svg", "line", "circle"} <= reader.seen
    if name not in ("LanguageModel", "Plan", "AuditResult"):
        # The texts are there, as texts.
        assert any("<script>alert(1)</script>" in said or "<i>" in said for said in reader.said)


TABLES: dict[str, Callable[[Any], int]] = {
    "Graph": lambda x: len(x.sites),
    "Simulation": len,
    "Plan": lambda x: len(x.sites),
    "Effect": lambda x: len(x.labels),
    "Contrast": lambda x: len(x.options),
    "Tabulated": lambda x: sum(len(scores) * scores.shape[1] for _, scores in map(x.rows, x.names)),
    "Comparison": lambda x: 40,
    "Family": lambda x: len(x.variables),
    "Evaluation": lambda x: len(x.leaderboard),
    "AuditResult": lambda x: len(x.effects),
}


@pytest.mark.parametrize("name", TABLES)
def test_what_is_a_table_is_one_of_pandas(shown: dict[str, Any], name: str) -> None:
    assert len(shown[name].to_pandas()) == TABLES[name](shown[name])


def test_pictures_share_no_identifiers(shown: dict[str, Any]) -> None:
    ids = [set(re.findall(r'\sid="([^"]+)"', shown[name]._repr_html_())) for name in ("Graph", "Family")]
    assert all(ids)
    assert not ids[0] & ids[1]


def test_numbers_are_those_of_the_result(shown: dict[str, Any]) -> None:
    found = shown["Contrast"]
    table = found.to_pandas()
    means = found.probabilities.mean(0)
    np.testing.assert_allclose(table["ate"], means[1] - means[0], atol=1e-12)
    # Student's interval of the mean of 40 independent units; 2.0227 is the quantile with 39 degrees of freedom.
    half = 2.0227 * found.individual.std(0, ddof=1) / np.sqrt(40)
    np.testing.assert_allclose(table["upper"] - table["ate"], half, rtol=1e-4)
    assert found["a <i>"] == found[0] == found[-2] == pytest.approx(table["ate"].iloc[0])
    assert list(found) == pytest.approx(table["ate"].tolist())
    effect = shown["Effect"]
    assert effect[effect.labels[1]] == effect[1] == effect[-1] == effect.value[1]
    assert list(effect) == effect.value.tolist()
    for one in (found, effect):
        for wrong in ("c", 2, -3, 0.5, True):
            with pytest.raises(EffectError):
                one[wrong]


def test_columns_of_worlds_are_of_the_levels(shown: dict[str, Any]) -> None:
    """Of a person's income, "do(low)" would be another world than the one that was asked for."""
    headings = shown["Contrast"]._form().headings
    assert headings[1:3] == (f"do({LOW})", f"do({HIGH})")


def test_one_is_no_plural() -> None:
    lm = mock_lm(program)
    data, cost = sd.simulate(program, 0, 1, lm), sd.plan(program, 1, lm, measure=False)
    assert repr(data).splitlines()[0] == "Simulation: 1 unit, 3 sites, 1 world"
    assert repr(cost).splitlines()[0] == "Plan: 1 unit, 1 world"
    # One unit has one context of each site.
    assert cost.sites["contexts"].tolist() == [1, 1, 1]


def test_rows_of_one_unit_are_one_observation(shown: dict[str, Any]) -> None:
    """Each unit twice tells as much as once."""
    found = shown["Contrast"]
    twice = replace(found, probabilities=np.repeat(found.probabilities, 2, 0), draws=2)
    np.testing.assert_allclose(twice.to_pandas().to_numpy(), found.to_pandas().to_numpy(), atol=1e-12)


def test_long_tables_are_cut_and_say_so() -> None:
    form = Form("Many", [("fact", str(i)) for i in range(40)], ["a"], [[i] for i in range(100)], more=900)
    text = as_text(form)
    assert text.count("\n") < 15
    assert "more" in text
    assert "… 980 more" in as_html(form)


def test_a_language_model_that_is_traced_or_absent_has_a_form() -> None:
    import jax

    from sdscm_jax.models.language_model import absent_lm

    lm, said = mock_lm(), list[str]()
    jax.eval_shape(lambda lm: said.append(repr(lm)) or 0, lm)
    assert said[0].splitlines()[0] == repr(lm).splitlines()[0]
    assert "cannot be asked" in repr(absent_lm())
    assert f"{sum(x.size for x in jax.tree.leaves(lm.params)):,} parameters" in repr(lm)


def test_a_level_that_nobody_has_is_the_reason_for_no_naive_difference() -> None:
    """An option of probability 1e-8, say."""
    low = np.log(np.array([1 - 1e-8, 1e-8]))
    levels = np.stack([np.zeros(30, int), np.zeros(30, int), np.ones(30, int)], 1)
    sites = (
        Site("income", "choice", options=("low", "high"), coupling="gumbel"),
        Site("loan", "choice", parents=("income",), options=("no", "yes"), coupling="gumbel"),
    )
    data = Simulation(
        Graph(sites),
        ("", "do(income=low)", "do(income=high)"),
        {"income": levels, "loan": levels},
        {"income": np.tile(low, (30, 3, 1)), "loan": np.log(np.full((30, 3, 2), 0.5))},
        interventions=({}, {"income": "low"}, {"income": "high"}),
    )
    found = sd.contrast(data, "income", "loan", "low", "high")
    assert np.isnan(found.naive).all()
    assert found.reason == "no factual unit has income=high (P(income=high) is from 1.0e-08 to 1.0e-08)"
    assert "not known: no factual unit has income=high" in repr(found)
    texts = [t.get_text() for t in sd.plot_contrast(found).findobj(Text)]
    assert "no naive difference: no unit has income=high" in texts
