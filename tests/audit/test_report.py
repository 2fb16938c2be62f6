"""The report of an audit: stands on its own, says what the tables say, can be heard, and reads on a phone."""

import itertools
import json
import re
import shutil
import subprocess
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sdscm_jax.audit.report.graph_text import roles
from sdscm_jax.audit.report.markdown import write_markdown
from sdscm_jax.audit.report.page import write_report
from sdscm_jax.audit.report.spoken import chance, change, probability
from sdscm_jax.audit.report.words import SECTIONS
from sdscm_jax.audit.result import AuditResult
from sdscm_jax.page.differing import differing
from sdscm_jax.page.graph_layers import layered

from ..bench.test_report import Reader
from ..needs import CHROMIUM, needs_chromium
from .synthetic import LMS, SPEC, WORDINGS, audit


@pytest.fixture(scope="module")
def result() -> AuditResult:
    return audit()


@pytest.fixture(scope="module")
def page(result: AuditResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "new" / "report.html"
    write_report(path, result)
    return path


@pytest.fixture(scope="module")
def read(page: Path) -> Reader:
    return Reader(page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def markdown(result: AuditResult, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("audit") / "new" / "report.md"
    write_markdown(path, result)
    return path.read_text(encoding="utf-8")


def attributes_of(read: Reader, wanted: str) -> list[dict]:
    return [attributes for tag, attributes in read.tags if tag == wanted]


@pytest.mark.slow
def test_stands_on_its_own(page: Path, read: Reader) -> None:
    text = page.read_text(encoding="utf-8")
    assert "://" not in text
    assert "@import" not in text
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in read.tags}
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = [a[name] for _, a in read.tags for name in ("href", "src", "xlink:href") if name in a]
    references += re.findall(r"url\(([^)]*)\)", text)
    assert len(references) > 20
    assert all(reference.startswith("#") and reference[1:] in ids for reference in references)


def test_every_section_is_there_with_headings_in_order(read: Reader) -> None:
    assert [attributes["id"] for attributes in attributes_of(read, "section")] == list(SECTIONS)
    assert read.open == []
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(deeper <= level + 1 for level, deeper in itertools.pairwise(levels))
    assert {"header", "main", "nav"} <= {tag for tag, _ in read.tags}


def test_figures_can_be_heard(read: Reader, result: AuditResult) -> None:
    labels = [attributes["aria-label"] for attributes in attributes_of(read, "svg")]
    # The graph; effects and wordings by language model and proxy; variance, scorings, couplings by language model.
    assert len(labels) == 1 + 2 * len(LMS) * len(SPEC.proxies) + 3 * len(LMS)
    assert all(attributes["role"] == "img" for attributes in attributes_of(read, "svg"))
    assert len(attributes_of(read, "figcaption")) == len(attributes_of(read, "figure"))
    assert "interview (not legitimate) depends on applicant, test score" in labels[0]
    effects = [label for label in labels if label.startswith("Effects")]
    for row in result.effects.to_dict("records"):
        (label,) = (e for e in effects if f"to {row['lm']}, by {row['proxy']}," in e)
        interval = f"{change(row['lower'])} to {change(row['upper'])}"
        assert f"{row['effect']} {change(row['value'])}, interval {interval}" in label


def test_tables_can_be_heard_and_reached_by_keyboard(read: Reader) -> None:
    assert all(attributes["scope"] in ("row", "col") for attributes in attributes_of(read, "th"))
    regions = [attributes for _, attributes in read.tags if attributes.get("role") == "region"]
    assert len(regions) == len(attributes_of(read, "table")) == len(attributes_of(read, "caption"))
    assert all(region["tabindex"] == "0" for region in regions)
    assert len({region["aria-label"] for region in regions}) == len(regions)


def test_names_are_text(page: Path, read: Reader) -> None:
    assert not {"name", "lm", "forget", "this"} & {tag for tag, _ in read.tags}
    assert "<title>Names &amp; &lt;b&gt;jobs&lt;/b&gt; &quot;quoted&quot;</title>" in page.read_text(encoding="utf-8")
    for name in (
        "small <lm>",
        "pronoun <i>",
        "reject & <forget>",
        "They explain: because of <i>it</i>.",
        "Before  <this>.",
    ):
        assert name in read.text


def test_table_of_effects_has_every_number(read: Reader, result: AuditResult) -> None:
    for row in result.effects.to_dict("records"):
        numbers = [change(row[c]) for c in ("value", "lower", "upper")] + [
            change(0.01 if row["proxy"] == "first name" else 0.02)
        ]
        chances = [chance(row[c]) for c in ("p", "q")] + ["yes" if row["discovery"] else "no"]
        size = [probability(row["detectable"]), str(WORDINGS), str(WORDINGS)]
        expected = [row["lm"], row["proxy"], row["level"], row["effect"], *numbers, *chances, *size, "exact"]
        assert expected in read.rows


def test_summary_says_what_the_tables_say(read: Reader, result: AuditResult) -> None:
    for row in result.effects[result.effects["effect"] == "total"].to_dict("records"):
        mask = np.logical_and.reduce([result.cells[c] == row[c] for c in ("lm", "proxy", "level")])
        before, after = result.cells.loc[mask, ["p_reference", "p_level"]].mean()
        assert (
            f"Changing “white-sounding <b>name</b>” to “{row['level']}” changes the probability of “offer the job” "
            f"from {probability(before)} to {probability(after)}, by {change(row['value'])} (95% interval "
            f"{change(row['lower'])} to {change(row['upper'])}); of this "
        ) in read.text
    found = result.effects["discovery"]
    assert f"Of {len(found)} effects, {found.sum()} differ from 0 after correction" in read.text
    assert "by first name is 0.031 higher according to small <lm> than according to large_lm" in read.text
    parts = result.effects[result.effects["effect"] == "illegitimate"]["value"]
    assert f"{change(parts.iloc[0])} goes through interview (not legitimate)" in read.text


def test_differing_words_are_marked_by_more_than_colour(page: Path) -> None:
    marked = re.findall("<mark>(.*?)</mark>", page.read_text(encoding="utf-8"))
    assert {"[Emily]", "[Lakisha]", "[someone]", "[reject &amp; &lt;forget&gt;]"} <= set(marked)
    assert all(text.startswith("[") and text.endswith("]") for text in marked)


def test_pieces_of_texts_are_the_texts() -> None:
    texts = ["A b, c d.", "A x, c  e f.", "A b, c d."]
    pieces = differing(texts)
    assert ["".join(piece.text for piece in found) for found in pieces] == texts
    assert [piece.text for piece in pieces[1] if piece.differs] == ["x", "e f"]
    assert not any(piece.differs for piece in pieces[2])
    # No two neighbours of one kind.
    assert all(a.differs != b.differs for found in pieces for a, b in itertools.pairwise(found))


def test_roles_and_layers_of_the_graph() -> None:
    expected = {
        "applicant": "varied", "degree": "background", "test score": "legitimate", "interview": "not legitimate",
        "decision": "outcome",
    }  # fmt: skip
    assert roles(SPEC) == expected
    edges = [(p, v.name) for v in SPEC.variables for p in v.parents]
    layers, routes = layered(list(expected), edges)
    depth = {stop: i for i, layer in enumerate(layers) for stop in layer}
    assert set(expected) == {stop for stop in depth if isinstance(stop, str)}
    assert len(depth) == sum(map(len, layers))
    assert set(routes) == set(edges)
    for (a, b), route in routes.items():
        assert (route[0], route[-1]) == (a, b)
        assert all(depth[below] == depth[above] + 1 for above, below in itertools.pairwise(route))


def test_markdown_has_every_section_and_every_table(markdown: str, read: Reader) -> None:
    headings = re.findall(r"^## (.*)$", markdown, re.MULTILINE)
    assert headings == list(SECTIONS.values())
    rows = []
    for line in re.findall(r"^\| (.*) \|$", markdown, re.MULTILINE):
        cells = re.split(r"(?<!\\) \| ", line)
        if not set(line) <= set("|-: "):
            rows.append([re.sub(r"\\(.)", r"\1", cell).replace("&lt;", "<") for cell in cells])
    assert rows == [[" ".join(cell.split()) for cell in row] for row in read.rows]
    assert len(rows) > 60


def test_markdown_is_plain(markdown: str) -> None:
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", markdown, flags=re.DOTALL)
    assert set(re.findall(r"<(/?\w+)", prose)) == {"details", "/details", "summary", "/summary"}
    assert "v0 ==> v4" in markdown
    assert 'v2["test score: legitimate"]' in markdown
    assert "`Before  <this>. They will [reject & <forget> | offer the job].`" in markdown
    assert "**\\[Lakisha\\]**" in markdown
    assert "Does a &lt;name> change \\| the \\*decision\\*?" in markdown


@pytest.mark.slow
def test_same_bytes_twice(page: Path, markdown: str, tmp_path: Path) -> None:
    write_report(tmp_path / "again.html", audit())
    write_markdown(tmp_path / "again.md", audit())
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()
    assert (tmp_path / "again.md").read_text(encoding="utf-8") == markdown


@pytest.fixture
def bare() -> AuditResult:
    """One language model, one wording, and no more than effects."""
    found = audit(LMS[:1], known=False, spec=replace(SPEC, text=None, cannot_show=""))
    none = pd.DataFrame()
    effects = found.effects.assign(lower=np.nan, upper=np.nan, p=np.nan, q=np.nan, discovery=False)
    return replace(
        found, cells=found.cells[(found.cells["wording"] == 0) & (found.cells["option_wording"] == 0)], effects=effects,
        differences=none, variance=none, scorings=none, couplings=none, asked=none, pairs=(),
    )  # fmt: skip


def test_little_was_found(bare: AuditResult, tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", bare)
    write_markdown(tmp_path / "r.md", bare)
    read = Reader((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert [attributes["id"] for attributes in attributes_of(read, "section")] == list(SECTIONS)
    assert read.open == []
    markdown = (tmp_path / "r.md").read_text(encoding="utf-8")
    for text in (read.text, markdown):
        assert "There is one only: nothing here tells how models differ." in text
        assert "95% interval unknown" in text
        assert "Of 20 effects, 0 differ from 0" in text
        assert "Variance of the individual total effect: there is nothing to show." in text
        assert "There are no example pairs." in text
        assert not re.search(r"\bnan\b", text, re.IGNORECASE)
        assert "generated from" not in text
        assert "writes freely" not in text


@pytest.mark.slow
def test_no_mediators(tmp_path: Path) -> None:
    spec = SPEC.without("test score", "interview")
    write_report(tmp_path / "r.html", audit(spec=spec))
    text = Reader((tmp_path / "r.html").read_text(encoding="utf-8")).text
    assert re.search(r"; of this −0\.\d{3} is direct\. ", text)


def luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a: str, b: str) -> float:
    """As WCAG 2 defines it."""
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast(theme: int) -> None:
    style = files("sdscm_jax.page").joinpath("style.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{([^}]*)\}", style)[theme]))
    text = [(ink, "paper") for ink in ("ink", "muted", "accent")] + [("ink", "wash"), ("ink", "best")]
    assert min(contrast(colours[ink], colours[behind]) for ink, behind in text) >= 4.5
    # Marks of figures.
    assert (
        min(contrast(colours[name], colours["paper"]) for name in colours if "series" in name or name == "covered") >= 3
    )


# Opens the page in a frame as wide as a phone, and writes down how wide it is and whether its tables sort.
PROBE = """<!DOCTYPE html><body><iframe src="report.html" width="390" height="800" style="border:0"></iframe><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  for (const folded of page.querySelectorAll("details")) folded.open = true;
  const table = page.querySelector("#effects table");
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[4].dataset.v);
  table.tHead.rows[0].cells[4].querySelector("button").click();
  document.body.dataset.found = JSON.stringify({width: page.documentElement.scrollWidth, sorted: column()});
};
</script></body>"""


@pytest.mark.slow
@needs_chromium
def test_in_a_browser(page: Path, tmp_path: Path, result: AuditResult) -> None:
    assert CHROMIUM is not None
    shutil.copy(page, tmp_path / "report.html")
    (tmp_path / "probe.html").write_text(PROBE)
    flags = ["--headless", "--hide-scrollbars", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    flags += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"]
    ran = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", (tmp_path / "probe.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in ran.stderr
    (found,) = (a["data-found"] for tag, a in Reader(ran.stdout).tags if tag == "body")
    measured = json.loads(found)
    assert measured["width"] == 390
    values = [float(value) for value in measured["sorted"]]
    assert values == sorted(values)
    assert len(values) == len(result.effects)
