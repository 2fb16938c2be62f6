"""The report: one page that stands on its own, says what the tables say, and reads on a phone."""

import itertools
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from sdscm_jax.bench.dataset import Dataset
from sdscm_jax.bench.difficulty import difficulty
from sdscm_jax.bench.leaderboard import leaderboard
from sdscm_jax.bench.metrics import score, unscored
from sdscm_jax.bench.report.figures_graph import graph_panels
from sdscm_jax.bench.report.figures_intervals import coverage_axes
from sdscm_jax.bench.report.page import write_report
from sdscm_jax.bench.report.quantile_boxes import quantiles
from sdscm_jax.bench.report.summary import summary_items
from sdscm_jax.errors import DataError
from sdscm_jax.families import family
from sdscm_jax.page.document import _asset
from sdscm_jax.page.drawing import WIDE, Panel, Pictures, figure_style, make_legible, new_axes, tick_boxes

from ..needs import CHROMIUM, needs_chromium

FAMILY = family("school")
SECTIONS = ["summary", "leaderboard", "effects", "intervals", "average", "cost", "data", "reading", "provenance"]
# Share of a true effect that an estimate keeps, and half the width of its interval.
ESTIMATORS = {"good": (0.9, 0.2), "bad & <long>": (-1.0, None), "constant": (0.0, None)}


def clinic(name: str, seed: int, units: int = 40) -> Dataset:
    random = np.random.default_rng(seed)
    severity = random.normal(size=units)
    propensity = 1 / (1 + np.exp(-severity))
    t = (np.arange(units) % 2).astype(np.int8)
    outcomes = np.stack([severity, severity + 0.5 * seed + 0.3 * severity], 1)
    covariates = pd.DataFrame({"severity": pd.Categorical(np.where(severity > 0, "high", "low"))})
    effect = outcomes[:, 1] - outcomes[:, 0]
    observed = outcomes[np.arange(units), t]
    return Dataset(name, str(seed // 2), covariates, (), t, observed, outcomes, effect, propensity, np.arange(units))


def tables(datasets: list[Dataset], settings: tuple[str, ...] = ("all", "observed")) -> dict:
    scores, estimates = [], []
    for data in datasets:
        for setting in settings:
            for seconds, (name, (kept, half)) in enumerate(ESTIMATORS.items()):
                effect = data.ate + kept * (data.ite - data.ate) + (0.1 if setting == "observed" else 0.0)
                interval = None if half is None else (effect - half, effect + half)
                names = {"dataset": data.name, "wording": data.wording, "covariates": setting, "estimator": name}
                fails = name.startswith("bad") and data is datasets[0]
                found = unscored(data) if fails else score(data, effect, interval)
                scores.append(
                    names | {"failure": "LinAlgError: <singular>" if fails else None, "seconds": seconds + 0.5} | found
                )
                lower, upper = interval or (np.nan, np.nan)
                units = {"unit": data.unit, "effect": effect, "lower": lower, "upper": upper}
                estimates.append(pd.DataFrame({**names, **units, "ite": data.ite, "cate": data.cate}))
    table = pd.DataFrame(scores)
    by_name = dict(list(pd.concat(estimates).groupby("dataset")))
    return {
        "title": "A <small> clinic & more",
        "leaderboard": leaderboard(table),
        "scores": table,
        "difficulty": pd.DataFrame([difficulty(data) for data in datasets]),
        "estimates": by_name,
        "examples": {data.name: data for data in datasets[:1]},
        "card": {"LM": {"source": "<embedded>"}, "seeds": [0, 1], "coupling": "gumbel"},
        "graph": graph_panels(FAMILY, FAMILY.hidden),
    }


class Reader(HTMLParser):
    """What a page holds: tags with attributes, sections, rows of tables, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def inputs() -> dict:
    return tables([clinic(name, seed) for seed, name in enumerate(["<b>", "second", "third", "fourth"])])


@pytest.fixture(scope="module")
def page(inputs: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    write_report(path, **inputs)
    return path


@pytest.fixture(scope="module")
def read(page: Path) -> Reader:
    return Reader(page.read_text(encoding="utf-8"))


def test_stands_on_its_own(page: Path, read: Reader) -> None:
    text = page.read_text(encoding="utf-8")
    assert "://" not in text
    assert "@import" not in text
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in read.tags}
    ids = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    references = [a[name] for _, a in read.tags for name in ("href", "src", "xlink:href") if name in a]
    references += re.findall(r"url\(([^)]*)\)", text)
    assert len(references) > 20
    assert all(reference.startswith("#") and reference[1:] in ids for reference in references)


def test_identifiers_are_unique(read: Reader) -> None:
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_section_is_there_and_closed(read: Reader) -> None:
    assert [attributes["id"] for tag, attributes in read.tags if tag == "section"] == SECTIONS
    assert read.open == []


def test_figures_can_be_heard(read: Reader) -> None:
    pictures = [attributes for tag, attributes in read.tags if tag == "svg"]
    # Two of PEHE, of coverage, of caterpillars and of ranks; one of R², of each estimator, of overlap, of effects, of
    # the average effects, of the graph.
    assert len(pictures) == 2 * 4 + 1 + len(ESTIMATORS) + 4
    assert all(picture["role"] == "img" and picture["aria-label"].strip() for picture in pictures)
    assert sum(tag == "figcaption" for tag, _ in read.tags) == sum(tag == "figure" for tag, _ in read.tags)
    assert all(attributes["scope"] in ("row", "col") for tag, attributes in read.tags if tag == "th")


def test_names_are_text(page: Path, read: Reader) -> None:
    assert not {"long", "embedded", "singular"} & {tag for tag, _ in read.tags}
    assert "<title>A &lt;small&gt; clinic &amp; more</title>" in page.read_text(encoding="utf-8")
    for name in ("Overlap: <b>", "<embedded>", "bad & <long>", "LinAlgError: <singular>"):
        assert name in read.text


def test_leaderboard_has_every_row(read: Reader, inputs: dict) -> None:
    rows = read.rows[1 : 1 + len(inputs["leaderboard"])]
    expected = {(r["estimator"], r["covariates"]) for r in inputs["leaderboard"].to_dict("records")}
    assert {(row[0], row[1]) for row in rows} == expected
    assert rows[0][:3] == ["good", "all", "1"]


def test_summary_says_what_the_tables_say(read: Reader, inputs: dict) -> None:
    scores = inputs["scores"]
    good = scores[(scores["estimator"] == "good") & (scores["covariates"] == "all")]
    assert f"With all covariates, good has the least PEHE (median {good['pehe_sd_y'].median():.3g} sd(y))" in read.text
    assert "It beats the constant baseline" in read.text
    assert "2 estimators and 1 baseline on 4 data sets of 40 units" in read.text
    assert "The 4 data sets have 2 wordings" in read.text
    assert "2 fits of 24 failed" in read.text
    assert "bad & <long> 2×" in read.text


def test_same_bytes_whatever_the_users_style(page: Path, inputs: dict, tmp_path: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "axes.grid": True, "lines.linewidth": 7}):
        before = dict(matplotlib.rcParams)
        write_report(tmp_path / "again.html", **inputs)
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_one_data_set_one_setting_nothing_but_failures(tmp_path: Path) -> None:
    inputs = tables([clinic("only", 1)], ("observed",))
    scores = inputs["scores"]
    scores = scores[scores["estimator"].str.startswith("bad")]
    inputs |= {"scores": scores, "leaderboard": leaderboard(scores), "examples": {}, "card": {}, "graph": ()}
    write_report(tmp_path / "r.html", **inputs)
    read = Reader((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert [attributes["id"] for tag, attributes in read.tags if tag == "section"] == SECTIONS
    assert "1 fit of 1 failed" in read.text
    assert "no estimator gave individual effects on half of the data sets" in read.text
    assert "Intervals, with observed covariates only: no estimator gave any." in read.text


def test_infinite_values_are_drawn_and_told(tmp_path: Path) -> None:
    inputs = tables([clinic("first", 1), clinic("second", 2)], ("all",))
    scores = inputs["scores"].copy()
    wild = scores["estimator"] == "bad & <long>"
    scores.loc[wild & scores["failure"].isna(), ["pehe", "pehe_sd_y", "cate_rmse"]] = np.inf
    scores.loc[wild & scores["failure"].isna(), "ate"] = 1e200
    write_report(
        tmp_path / "r.html", **{**inputs, "scores": scores, "leaderboard": leaderboard(scores), "examples": {}}
    )
    read = Reader((tmp_path / "r.html").read_text(encoding="utf-8"))
    (row,) = (row for row in read.rows if row[:2] == ["bad & <long>", "all"] and len(row) > 15)
    assert "∞" in row


def test_refuses_a_table_without_a_column(inputs: dict, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="scores: there is no column 'pehe_sd_y'"):
        write_report(tmp_path / "r.html", **{**inputs, "scores": inputs["scores"].drop(columns="pehe_sd_y")})
    assert not list(tmp_path.iterdir())


def test_pictures_keep_their_own_identifiers() -> None:
    pictures = Pictures()
    svg = (
        '<svg><style>* {fill: red}</style><!--<b>--><path id="a"/><g clip-path="url(#a)" style="fill: red"/>'
        '<use href="#a"/></svg>'
    )
    for prefix in ("f0-", "f1-"):
        found = pictures(Panel(svg, "graph"))
        assert "style" not in found
        assert "<b>" not in found
        assert found.count(f'{prefix}a"') == 2
        assert f"url(#{prefix}a)" in found
        assert '<g clip-path="url(#' in found
        assert 'class="c0"' in found
    assert pictures.css == ".c0 { fill: red }\n"


def test_quantiles_are_those_of_the_finite_and_the_infinite() -> None:
    values = np.random.default_rng(0).normal(size=101)
    np.testing.assert_allclose(quantiles(np.append(values, np.nan)), np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))
    values[:30] = np.inf
    assert np.isfinite(quantiles(values)).tolist() == [True, True, True, False, False]


# Opens the page in a frame as wide as a phone, sorts a table, and writes down what it finds.
PROBE = """<!DOCTYPE html><body><iframe src="report.html" width="360" height="800" style="border:0"></iframe><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const table = page.querySelector("#leaderboard table");
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[2].dataset.v);
  const button = table.tHead.rows[0].cells[2].querySelector("button");
  const found = {width: page.documentElement.scrollWidth, before: column()};
  button.click(); found.up = column();
  button.click(); found.down = column();
  found.state = button.parentElement.getAttribute("aria-sort");
  document.body.dataset.found = JSON.stringify(found);
};
</script></body>"""


def test_nothing_of_a_picture_is_cut_off_and_no_numbers_touch() -> None:
    """Long numbers at either axis, and a last one at the edge."""
    with figure_style():
        axes = new_axes(WIDE, 2.4, left=0.6, bottom=0.3)
        axes.plot([-0.0087, 0.0103], [-0.00001234, 0.0000987])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.7f}")
        axes.set_xlim(-0.0087, 0.0101)
        axes.set_xlabel("gross\nhigh")
        axes.set_ylabel("effect")
        figure = axes.figure
        before = figure.get_tightbbox()
        make_legible(figure)
        after, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        boxes = tick_boxes(axes, FigureCanvasAgg(figure).get_renderer())
    assert min(before.x0, before.y0) < 0
    assert min(after.x0, after.y0, width - after.x1, height - after.y1) > -0.02
    assert len(boxes) >= 2
    assert all(b.x0 - a.x1 > 4 for a, b in itertools.pairwise(boxes))


def test_paper_has_what_is_folded_and_no_dark_tables() -> None:
    print_rules = _asset("style.css").partition("@media print")[2]
    assert print_rules.count("{") == print_rules.count("}")
    assert "details::details-content { content-visibility: visible;" in print_rules
    assert re.search(r"\.box, \.dag \{[^}]*background: none", print_rules)
    # Rules for the screen stand before those for paper.
    assert not re.findall(r"currentcolor|\.series-", print_rules)


def test_no_axis_offers_a_coverage_beyond_one(inputs: dict) -> None:
    names = inputs["scores"]["estimator"].unique().tolist()
    with figure_style():
        values = [[np.array([0.9, 0.97, 1.0])] for _ in names]
        ticks = coverage_axes(names, values, (0.86, 1.02), 0.95).get_xticks()
    assert max(ticks) <= 1
    assert len(ticks) >= 3


@pytest.mark.slow
@needs_chromium
def test_in_a_browser(page: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    shutil.copy(page, tmp_path / "report.html")
    (tmp_path / "probe.html").write_text(PROBE)
    flags = [
        "--headless",
        "--hide-scrollbars",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
    ]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    ran = subprocess.run(
        [CHROMIUM, *flags, (tmp_path / "probe.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in ran.stderr
    (found,) = (a["data-found"] for tag, a in Reader(ran.stdout).tags if tag == "body")
    result = json.loads(found)
    assert result["width"] == 360
    up = [float(value) for value in result["up"]]
    assert up == sorted(up) != [float(value) for value in result["before"]]
    assert [float(value) for value in result["down"]] == sorted(up, reverse=True)
    assert result["state"] == "descending"


def test_each_setting_has_a_sentence_on_its_intervals() -> None:
    """Covered everywhere with all covariates, and nowhere without: no number of both together."""
    inputs = tables([clinic(name, seed) for seed, name in enumerate("abcd")])
    scores = inputs["scores"]
    scores = scores.assign(cate_coverage=np.where(scores["covariates"] == "all", 1.0, 0.9 - 0.5))
    scores.loc[scores["estimator"] != "good", "cate_coverage"] = np.nan
    told = [
        item
        for item in summary_items(scores, leaderboard(scores), inputs["difficulty"])
        if item.startswith("Intervals")
    ]
    assert [item.split(":")[0] for item in told] == [
        "Intervals, with all covariates",
        "Intervals, with observed covariates only",
    ]
    assert "by 1 of 1 estimator" in told[0]
    assert "by 0 of 1 estimator" in told[1]
    assert "good, 40\u00a0%" in told[1]


@pytest.mark.parametrize("gone", ["cate", "effects", "propensity", "wording", "everything"])
def test_what_is_not_known_has_no_figure_and_no_number(gone: str, tmp_path: Path) -> None:
    def known(data: Dataset) -> Dataset:
        nothing = np.full(len(data), np.nan)
        if gone in ("cate", "effects", "everything"):
            data = replace(data, cate=nothing)
        if gone in ("effects", "everything"):
            data = replace(data, outcomes=np.stack([nothing, nothing], 1))
        if gone in ("propensity", "everything"):
            data = replace(data, propensity=nothing)
        return replace(data, wording=None) if gone in ("wording", "everything") else data

    whole = [clinic(name, seed) for seed, name in enumerate("abcd")]
    inputs, data = tables(whole), [known(one) for one in whole]
    effects, truth = pd.concat(inputs["estimates"].values()), {one.name: one for one in data}
    rows = []
    for (name, setting, estimator), units in effects.groupby(["dataset", "covariates", "estimator"]):
        limits = units["lower"].to_numpy(), units["upper"].to_numpy()
        found = score(truth[name], units["effect"].to_numpy(), None if np.isnan(limits[0]).all() else limits)
        about = {"dataset": name, "wording": truth[name].wording, "covariates": setting, "estimator": estimator}
        rows.append(about | {"failure": None, "seconds": 1.0} | found)
    scores = pd.DataFrame(rows)
    estimates = {
        name: units.assign(
            **{of: np.tile(getattr(truth[name], of), len(units) // len(truth[name])) for of in ("ite", "cate")}
        )
        for name, units in inputs["estimates"].items()
    }
    inputs |= {
        "scores": scores,
        "leaderboard": leaderboard(scores),
        "difficulty": pd.DataFrame([difficulty(one) for one in data]),
        "estimates": estimates,
        "examples": {data[0].name: data[0]},
    }
    write_report(tmp_path / "r.html", **inputs)
    read = Reader((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert [attributes["id"] for tag, attributes in read.tags if tag == "section"] == SECTIONS
    said = {
        "There are no intervals of an example data set.": gone in ("cate", "effects", "everything"),
        "R² is not defined for any data set.": gone in ("cate", "effects", "everything"),
        "The true effects are not known, so neither is the error": gone in ("effects", "everything"),
        "There are no true average effects.": gone in ("effects", "everything"),
        "Estimated average effects, where the true ones are not known": gone in ("effects", "everything"),
        "has the least PEHE": gone not in ("effects", "everything"),
        "The true propensities are not known.": gone in ("propensity", "everything"),
        "the sampling unit is unknown": gone in ("wording", "everything"),
    }
    assert {told: told in read.text for told in said} == said
    assert "nan" not in re.sub(r"[a-z]{4,}", "", read.text.lower())
