"""Pages show what came with data as text: no file of it is copied into them, and a browser runs their own script only.

The policy is tested where escaping is as if it had been forgotten: the attacks stand in the page as markup, and run on
the same page without a policy.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdscm_jax.audit.report.page import write_report as write_audit_page
from sdscm_jax.bench.report.figures_graph import MOST_VARIABLES, graph_panels
from sdscm_jax.bench.report.page import write_report
from sdscm_jax.families import Family, family
from sdscm_jax.page.document import document
from sdscm_jax.page.drawing import Pictures

from ..audit.synthetic import SPEC, audit
from ..bench.test_report import Reader, clinic, tables
from ..needs import CHROMIUM, needs_chromium
from .attacks import ATTACKS, BY_THEMSELVES

ALL = [text.replace("RUN", f"console.log('PWNED {name}')") for name, text in ATTACKS.items()]


def policy_of(page: str) -> dict[str, list[str]]:
    found = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert len(found) == 1
    assert page.index("Content-Security-Policy") < min(page.index(tag) for tag in ("<title", "<style", "<body"))
    return {name: sources for name, *sources in (rule.split() for rule in found[0].split(";"))}


def hashes(page: str, tag: str) -> list[str]:
    """What a browser compares, by the definition of the policy: of the text between the tags, in UTF-8."""
    texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in texts]


def hostile_family() -> Family:
    """A family whose card says attacks."""
    content = json.loads(family("school").to_json())
    text = json.dumps(content)
    names = [v["name"] for v in content["variables"]]
    for name, attack in zip(names, ALL, strict=False):
        text = text.replace(json.dumps(name), json.dumps(attack))
    return Family.from_json(json.loads(text))


@pytest.fixture(scope="module")
def inputs() -> dict[str, Any]:
    found = tables([clinic(name, seed) for seed, name in enumerate(ALL[:4])])
    named = hostile_family()
    found |= {"title": "".join(ALL), "card": {"".join(ALL): ALL, "x": dict.fromkeys(ALL, "\x1b[31m")}}
    return found | {"graph": graph_panels(named, named.hidden)}


@pytest.fixture(scope="module")
def pages(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("pages")
    write_report(place / "evaluate.html", **inputs)
    spec = replace(SPEC, title="".join(ALL), question="".join(ALL), can_show="".join(ALL), source="".join(ALL))
    write_audit_page(place / "audit.html", replace(audit(), spec=spec))
    (place / "empty.html").write_text(document(ALL[0], [("a", ALL[1], "")], Pictures()), encoding="utf-8")
    return {path.stem: path.read_text(encoding="utf-8") for path in place.iterdir()}


@pytest.mark.parametrize("name", ["evaluate", "audit", "empty"])
def test_the_policy_names_the_page_s_own_style_and_script(pages: dict[str, str], name: str) -> None:
    page = pages[name]
    assert policy_of(page) == {
        "default-src": ["'none'"], "style-src": hashes(page, "style"),
        "script-src": hashes(page, "script") or ["'none'"], "base-uri": ["'none'"], "form-action": ["'none'"],
    }  # fmt: skip
    assert (len(hashes(page, "style")), len(hashes(page, "script"))) == (1, 0 if name == "empty" else 1)


@pytest.mark.parametrize("name", ["evaluate", "audit", "empty"])
def test_nothing_that_the_policy_would_stop(pages: dict[str, str], name: str) -> None:
    """No element has a style or a handler of its own, and what came with data is text."""
    read = Reader(pages[name])
    tags = {tag for tag, _ in read.tags}
    assert not tags & {"img", "image", "iframe", "object", "embed", "link", "base", "foreignobject", "animate", "form"}
    for tag, attributes in read.tags:
        assert not {key for key in attributes if key == "style" or key.startswith("on")}, (tag, attributes)
    assert [tag for tag, _ in read.tags].count("script") == (0 if name == "empty" else 1)
    assert ALL[0] in read.text


def test_pictures_look_as_they_were_drawn(inputs: dict[str, Any]) -> None:
    """Each style of Matplotlib's is a class with the same declarations, and beats the rules for all of a picture."""
    pictures = Pictures()
    (drawn,) = inputs["graph"]
    made = pictures(drawn)
    rules = dict(re.findall(r"\.(c\d+) \{ (.*) \}\n", pictures.css))
    styles = re.findall(r'\sstyle="([^"]*)"', re.sub(r"<!--.*?-->|<style.*?</style>", "", drawn.svg, flags=re.DOTALL))
    classes = re.findall(r'class="(\w+)"', made)
    assert len(styles) == len(classes) > 10
    assert [rules[name] for name in classes] == [style.strip().rstrip(";") for style in styles]


def test_the_graph_is_drawn_from_the_family() -> None:
    drawn = family("school")
    (panel,) = graph_panels(drawn, drawn.hidden)
    for variable in drawn.variables:
        assert variable.name in panel.label
    assert f"{drawn.treatment} (treatment)" in panel.label
    assert f"{drawn.outcome} (outcome)" in panel.label
    # A card can say any number of variables.
    last = drawn.variables[-1]
    many = [replace(last, name=f"{last.name} {i}", parents=()) for i in range(MOST_VARIABLES)]
    assert graph_panels(replace(drawn, variables=(*many, *drawn.variables))) == []


def browsed(page: Path, profile: Path) -> list[str]:
    """What a browser's console says."""
    assert CHROMIUM is not None
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--enable-logging=stderr",
        f"--user-data-dir={profile}", "--virtual-time-budget=8000", "--dump-dom",
    ]  # fmt: skip
    done = subprocess.run([CHROMIUM, *flags, page.as_uri()], capture_output=True, text=True, timeout=240, check=True)
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("name", ["evaluate", "audit", "empty"])
def test_attacks_are_text_in_a_browser(pages: dict[str, str], name: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(pages[name], encoding="utf-8")
    assert browsed(tmp_path / "page.html", tmp_path / "profile") == []


@pytest.mark.slow
@needs_chromium
def test_the_policy_stops_attacks_that_are_markup(tmp_path: Path) -> None:
    """As if a text had not been escaped, with the policy and, to see that the attacks are any, without."""
    ran = {}
    for guarded in (True, False):
        folder = tmp_path / str(guarded)
        folder.mkdir()
        frames = ""
        for i, attack in enumerate(ALL):
            page = document("Page", [("a", "A", attack)], Pictures(), sortable=True)
            page = page if guarded else re.sub(r"<meta http-equiv[^>]*>", "", page, count=1)
            (folder / f"{i}.html").write_text(page, encoding="utf-8")
            frames += f'<iframe src="{i}.html"></iframe>'
        (folder / "all.html").write_text(f"<!DOCTYPE html><body>{frames}</body>")
        said = browsed(folder / "all.html", folder / "profile")
        ran[guarded] = {name for name in ATTACKS if any(f'"PWNED {name}"' in line for line in said)}
    assert ran[True] == set()
    assert ran[False] >= set(BY_THEMSELVES)
