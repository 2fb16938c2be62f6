"""Worlds of one unit side by side: the sentences are those of the run, and what is marked is what differs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sdscm_jax as sd
from sdscm_jax.errors import SiteError
from sdscm_jax.page.differing import differing
from sdscm_jax.testing import mock_lm


def story(lm: sd.LanguageModel) -> None:
    who = sd.sample("who", sd.Choice(lm, "This is {}.", ["<b>Ann</b>", "Bea"]))
    note = sd.sample("note", sd.Text(lm, "She writes: {}.", given=[who], max_tokens=6))
    sd.sample("end", sd.Choice(lm, "It ends {}.", ["well", "badly"], given=[note]))


WORLDS = [{"who": "Bea"}, {"note": "abc"}]


@pytest.fixture(scope="module")
def data() -> sd.Simulation:
    return sd.simulate(story, 0, 6, mock_lm(story), worlds=WORLDS, progress=False)


@pytest.mark.slow
def test_sentences_are_those_of_the_run(data: sd.Simulation) -> None:
    frame = data.to_pandas(logp=False)
    for unit in range(len(data)):
        found = data.side_by_side(unit)
        assert found.worlds == ("factual", *data.worlds[1:])
        for w in range(3):
            assert " ".join(sentences[w] for sentences in found.sentences) == data.text(unit, w)
        parts = dict(zip(found.sites, found.parts, strict=True))
        assert parts["note"] == (-1, *(frame[f"parts(note)|{label}"][unit] for label in data.worlds[1:]))
        assert parts["who"] == (-1, -1, -1)
    assert data.side_by_side(-1).unit == len(data) - 1


def test_what_is_marked_is_what_differs(data: sd.Simulation) -> None:
    for unit in range(len(data)):
        found = data.side_by_side(unit, [0, 1])
        lines = str(found).splitlines()
        for site, sentences in zip(found.sites, found.sentences, strict=True):
            place = lines.index(f"  {site}")
            own = [line[4:] for line in lines[place + 1 : place + 3]]
            marked = [bool(re.search(r"\[.*\]", line)) for line in own]
            assert any(marked) == (sentences[0] != sentences[1])
            for line, pieces in zip(own, differing(sentences), strict=True):
                assert "".join(f"[{p.text}]" if p.differs else p.text for p in pieces).strip() in line
        html = found._repr_html_()
        assert "<b>Ann" not in html
        assert html.count("<mark>") == sum(
            p.differs for texts in found.sentences for ps in differing(texts) for p in ps
        )
        assert found.to_pandas().loc["note"].tolist() == list(found.sentences[1])


@pytest.mark.slow
def test_it_is_short_by_itself_and_whole_in_print() -> None:
    def long(lm: sd.LanguageModel) -> None:
        for i in range(12):
            sd.sample(f"x{i}", sd.Choice(lm, f"The {i}th of them is {{}}.", ["low", "high" * 60]))

    found = sd.simulate(long, 0, 1, mock_lm(long), worlds=[{"x3": "low"}], progress=False).side_by_side()
    assert len(repr(found).splitlines()) <= 15
    assert max(map(len, repr(found).splitlines())) <= 120
    assert len(str(found).splitlines()) == 1 + 12 * 3


def test_of_a_run_in_a_directory(data: sd.Simulation, tmp_path: Path) -> None:
    kept = sd.simulate(story, 0, 6, mock_lm(story), worlds=WORLDS, out=tmp_path, chunk=4, progress=False)
    assert [kept.side_by_side(i) for i in range(6)] == [data.side_by_side(i) for i in range(6)]


def test_what_there_is_not(data: sd.Simulation) -> None:
    for call in (
        lambda: data.side_by_side(6),
        lambda: data.side_by_side(0, ["do(who=Be)"]),
        lambda: data.side_by_side(0, []),
        lambda: data.side_by_side(0, "factual"),
    ):
        with pytest.raises(SiteError):
            call()
