"""Specifications of audits: what they may not say, their files, and the ready ones."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import yaml

import sdscm_jax as sd
from sdscm_jax.audit.spec import AUDITS, AuditSpec, audit_spec
from sdscm_jax.audit.spec_fields import FreeText, Proxy
from sdscm_jax.dsl.scoring.template import Template
from sdscm_jax.errors import AuditError
from sdscm_jax.families import FamilyVariable
from sdscm_jax.vignettes import hiring

from ..needs import ROOT

Content = dict[str, Any]

# x -> l, x -> y; a -> l -> m -> y, a -> y; z hangs on m and reaches nothing.
SMALL: Content = {
    "name": "small",
    "title": "A small audit",
    "question": "Does a change y?",
    "attribute": {
        "name": "a",
        "levels": ["one", "two"],
        "proxies": {
            "word": {
                "templates": ["A is {}.", "{} is A."],
                "phrases": {"one": ["1", "I"], "two": ["2"]},
            },
        },
    },
    "variables": [
        {"name": "x", "options": ["p", "q"], "templates": ["X is {}."], "exogenous": True},
        {"name": "l", "options": ["p", "q"], "templates": ["L is {}."], "parents": ["a", "x"]},
        {"name": "m", "options": ["p", "q", "r"], "templates": ["M is {}."], "parents": ["l"]},
        {"name": "z", "options": ["p", "q"], "templates": ["Z is {}."], "parents": ["m"]},
        {"name": "y", "options": ["no", "yes"], "templates": ["Y is {}.", "{} is Y."], "parents": ["a", "x", "m"]},
    ],
    "outcome": {"name": "y", "option": "yes"},
    "mediators": {"legitimate": ["l"], "not_legitimate": ["m"]},
    "option_wordings": {"y": [["no", "yes"], ["nay", "yea"]]},
    "text": {"template": "It is said that {}.", "max_tokens": 8},
    "scorings": ["option"],
    "lms": ["some/model"],
    "can_show": "This.",
    "cannot_show": "That.",
    "source": "None.",
    "licence": "MIT",
}


def small() -> AuditSpec:
    return AuditSpec.from_dict(SMALL)


def test_what_is_read() -> None:
    spec = small()
    assert (spec.attribute, spec.levels, spec.outcome, spec.option) == ("a", ("one", "two"), "y", "yes")
    templates = (Template("A is ", "."), Template("", " is A."))
    assert spec.proxies == (Proxy("word", templates, {"one": ("1", "I"), "two": ("2",)}),)
    assert spec.variable("y").parents == ("a", "x", "m")
    assert spec.mediators == ("l", "m")
    assert spec.option_wordings == {"y": (("no", "yes"), ("nay", "yea"))}
    assert spec.text == FreeText("It is said that {}.", 8)
    assert (spec.scorings, spec.lms, spec.licence) == (("option",), ("some/model",), "MIT")


def test_what_may_be_left_out() -> None:
    content = {
        key: SMALL[key] for key in ("name", "title", "question", "attribute", "variables", "outcome", "mediators")
    }
    spec = AuditSpec.from_dict(content)
    assert (spec.option_wordings, spec.text, spec.lms, spec.source) == ({}, None, (), "")
    assert spec.scorings == ("sequence", "mean")
    content["variables"] = [{**SMALL["variables"][4], "parents": ["a"]}]
    del content["mediators"]
    assert AuditSpec.from_dict(content).mediators == ()


def test_parents_are_put_in_causal_order() -> None:
    content = copy.deepcopy(SMALL)
    content["variables"][4]["parents"] = ["m", "x", "a"]
    assert AuditSpec.from_dict(content) == small()


Edit = Callable[[Content], object]


def at(i: int, **changes: Any) -> Edit:
    return lambda content: content["variables"][i].update(changes)


def top(**changes: Any) -> Edit:
    return lambda content: content.update(changes)


def attribute(**changes: Any) -> Edit:
    return lambda content: content["attribute"].update(changes)


def word(**changes: Any) -> Edit:
    return lambda content: content["attribute"]["proxies"]["word"].update(changes)


def wordings(*lists: list[str], of: str = "y") -> Edit:
    return top(option_wordings={of: list(lists)})


def mediators(legitimate: list[str], not_legitimate: list[str]) -> Edit:
    return top(mediators={"legitimate": legitimate, "not_legitimate": not_legitimate})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        # keys and kinds
        (lambda c: c.pop("question"), "audit: missing key 'question'"),
        (top(outcomes="y"), "audit: unknown key 'outcomes'; did you mean 'outcome'?"),
        (top(name=3), "audit: name: a text is needed, got 3; write it in quotes"),
        (top(attribute="a"), "audit: attribute: a mapping with keys is needed, got the text 'a'"),
        (attribute(level=[]), "audit: attribute: unknown key 'level'; did you mean 'levels'?"),
        (attribute(levels="one"), "audit: attribute: levels: a list of texts is needed, got the text 'one'"),
        (attribute(proxies=["word"]), "audit: attribute: proxies: proxies by name are needed, got a list"),
        (word(phrase={}), "audit: attribute: proxies: 'word': unknown key 'phrase'; did you mean 'phrases'?"),
        (word(phrases=[]), "audit: attribute: proxies: 'word': phrases: texts by level are needed, got a list"),
        (word(templates=["A is."]), "proxies: 'word': templates[0]: a template has exactly one blank {}, got 0"),
        (top(variables={}), "audit: variables: a list of variables is needed, got a mapping"),
        (top(variables=[None]), "audit: variables[0]: a mapping with keys is needed, got nothing"),
        (at(1, parent=["a"]), "audit: variables[1] ('l'): unknown key 'parent'; did you mean 'parents'?"),
        (at(1, options=[True, "q"]), "variables[1] ('l'): options[0]: a text is needed, got True; write it in quotes"),
        (at(0, exogenous="yes"), "variables[0] ('x'): exogenous: true or false is needed, got the text 'yes'"),
        (at(4, templates=["Y is {}.", "Y."]), "variables[4] ('y'): templates[1]: a template has exactly one blank {}"),
        (
            at(4, templates=["{} is {}."]),
            "variables[4] ('y'): templates[0]: a template has exactly one blank {}, got 2",
        ),
        (
            at(4, templates=[{"template": "Y is {}.", "options": ["oui", "non"]}]),
            "variables[4] ('y'): templates[0]: a text is needed, got a mapping",
        ),
        (top(outcome="y"), "audit: outcome: a mapping with keys is needed, got the text 'y'"),
        (
            top(mediators={"illegitimate": []}),
            "audit: mediators: unknown key 'illegitimate'; did you mean 'legitimate'?",
        ),
        (top(option_wordings=["y"]), "audit: option_wordings: alternative texts by variable are needed, got a list"),
        (top(option_wordings={"y": "no"}), "option_wordings: 'y': a list of lists of texts is needed, got the text"),
        (top(text={"templates": "{}"}), "audit: text: unknown key 'templates'; did you mean 'template'?"),
        # the attribute
        (attribute(levels=["one"]), "audit 'small': attribute: levels: at least two are compared, got ['one']"),
        (attribute(levels=["one", "one"]), "audit 'small': attribute: levels: 'one' is listed twice; keep one"),
        (attribute(proxies={}), "audit 'small': attribute: proxies: there are none; at least one says how 'a'"),
        (word(templates=[]), "audit 'small': attribute: proxies: 'word': templates: there are none"),
        (word(templates=["A is {}."] * 2), "proxies: 'word': templates: 'A is {}.' is listed twice; keep one"),
        (word(phrases={"one": ["1"]}), "proxies: 'word': phrases: the level 'two' has none; add a text"),
        (word(phrases={"one": ["1"], "two": []}), "proxies: 'word': phrases: the level 'two' has none; add a text"),
        (word(phrases={"one": ["1"], "tow": ["2"]}), "phrases: there is no level 'tow'; did you mean 'two'?"),
        (word(phrases={"one": ["1"], "two": ["1"]}), "phrases: '1' stands for 'one' and again for 'two'; keep one"),
        (attribute(name="x"), "audit 'small': variables[0] ('x'): name: that is the attribute's name"),
        # the variables
        (top(variables=[]), "audit 'small': variables: there are none"),
        (at(1, parents=["a", "xx"]), "audit 'small': variables[1] ('l'): parents: there is no variable 'xx'; did you"),
        (at(1, parents=["a", "a"]), "audit 'small': variables[1] ('l'): parents: 'a' is listed twice"),
        (at(1, parents=["a", "m"]), "audit 'small': variables[1] ('l'): parents: 'l' is its own ancestor: 'l' -> 'm'"),
        (at(0, parents=["y"]), "'x' is its own ancestor"),
        (at(3, name="m"), "audit 'small': variables[2] and [3] are both named 'm'"),
        (at(1, options=["p", "p"]), "variables[1] ('l'): options: option 'p' of 'L is {}.' is listed twice"),
        (at(4, templates=["Y is {}."] * 2), "variables[4] ('y'): templates: 'Y is {}.' is listed twice; keep one"),
        # what an exogenous or a uniform variable cannot depend on
        (at(0, parents=["a"]), "variables[0] ('x'): exogenous: it depends on the attribute 'a'"),
        (at(3, exogenous=True), "variables[3] ('z'): exogenous: it depends on the attribute 'a'"),
        (at(4, uniform=True), "variables[4] ('y'): uniform: it has parents that lead to the attribute 'a'"),
        # the outcome
        (top(outcome={"name": "Y", "option": "yes"}), "audit 'small': outcome: there is no variable 'Y'; known: 'x'"),
        (top(outcome={"name": "a", "option": "one"}), "audit 'small': outcome: 'a' is the attribute; name a variable"),
        (top(outcome={"name": "y", "option": "yess"}), "outcome: 'y' has no option 'yess'; did you mean 'yes'?"),
        (
            lambda c: (at(4, options=["yes"])(c), wordings(["yes"])(c)),
            "audit 'small': outcome: 'y' has one option only",
        ),
        (at(4, parents=["x"]), "audit 'small': outcome: no path leads from the attribute 'a' to 'y'; add 'a' to its"),
        # the mediators
        (mediators(["l", "x"], ["m"]), "mediators: legitimate: 'x' is on no path from 'a' to 'y', since it does not"),
        (mediators(["l"], ["m", "z"]), "not_legitimate: 'z' is on no path from 'a' to 'y', since 'y' does not depend"),
        (mediators(["l", "mm"], ["m"]), "mediators: legitimate: there is no variable 'mm'; did you mean 'm'?"),
        (mediators(["l", "y"], ["m"]), "mediators: legitimate: 'y' is the outcome; take it out"),
        (mediators(["a", "l"], ["m"]), "mediators: legitimate: 'a' is the attribute; take it out"),
        (mediators(["l", "l"], ["m"]), "mediators: legitimate: 'l' is listed twice; keep one"),
        (mediators(["l", "m"], ["m"]), "mediators: 'm' is declared both legitimate and not_legitimate; keep one"),
        (mediators([], ["m"]), "mediators: 'l' is on a path from 'a' to 'y' and is declared neither legitimate nor"),
        (top(mediators=None), "mediators: 'l' is on a path from 'a' to 'y' and is declared neither legitimate nor"),
        # a paraphrase that changes the options
        (
            wordings(["no", "yes"], ["nay"]),
            "'y'[1]: a paraphrase has one text for each of the 2 options ['no', 'yes'], got",
        ),
        (wordings(["yes", "no"]), "option_wordings: 'y': the first wording is the options themselves, ['no', 'yes']"),
        (wordings(), "option_wordings: 'y': the first wording is the options themselves, ['no', 'yes'], got nothing"),
        (wordings(["no", "yes"], ["yes", "no"]), "'y'[1]: 'yes' stands for 'no' and for 'yes'; a text stands for one"),
        (wordings(["no", "yes"], ["nay", "nay"]), "'y'[1]: 'nay' stands for 'yes' and for 'no'; a text stands for one"),
        (wordings(["no", "yes"], ["no", "yes"]), "option_wordings: 'y'[1]: ['no', 'yes'] is there already"),
        (wordings(["p", "q"], of="xy"), "option_wordings: there is no variable 'xy'; did you mean"),
        (wordings(["one", "two"], of="a"), "option_wordings: 'a' is the attribute; its wordings are the phrases of"),
        # the rest
        (top(text={"template": "Because."}), "audit 'small': text: template: a template has exactly one blank {}"),
        (top(text={"template": "{}", "max_tokens": 0}), "text: max_tokens is an integer of at least 1, got 0"),
        (top(scorings=["sequense"]), "scorings: unknown scoring 'sequense'; did you mean 'sequence'?"),
        (top(scorings=["uniform"]), "scorings: unknown scoring 'uniform'"),
        (top(scorings=[]), "audit 'small': scorings: there are none"),
        (top(scorings=["mean", "mean"]), "audit 'small': scorings: 'mean' is listed twice"),
        (top(lms=["x", "x"]), "audit 'small': lms: 'x' is listed twice"),
    ],
)
def test_what_a_specification_may_not_say(edit: Edit, message: str) -> None:
    content = copy.deepcopy(SMALL)
    edit(content)
    with pytest.raises(AuditError) as raised:
        AuditSpec.from_dict(content)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_specifications_in_python_are_checked() -> None:
    two = Template("", " {}.")
    with pytest.raises(AuditError, match=r"proxies: 'word': templates: '\{\} \{\}\.' has more than one blank"):
        replace(small(), proxies=(replace(small().proxies[0], templates=(two,)),))
    with pytest.raises(AuditError, match=r"variables\[0\] \('x'\): templates: .* has more than one blank"):
        replace(small(), variables=(replace(small().variables[0], templates=(two,)), *small().variables[1:]))
    with pytest.raises(AuditError, match="there is no variable 'q'"):
        replace(small(), variables=(FamilyVariable("y", ("no", "yes"), (Template("", "."),), ("a", "q")),))
    twice = (*small().proxies, *small().proxies)
    with pytest.raises(AuditError, match="proxies: 'word' is listed twice"):
        replace(small(), proxies=twice)


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AUDITS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    spec = audit_spec(name)
    assert spec.name == name
    path = tmp_path / "some.yaml"
    path.write_text(spec.to_yaml(), encoding="utf-8")
    assert AuditSpec.from_dict(spec.to_dict()) == AuditSpec.read(path) == audit_spec(path) == spec


def test_round_trip_of_what_is_rare(tmp_path: Path) -> None:
    spec = replace(
        small(),
        variables=(replace(small().variables[0], uniform=True), *small().variables[1:]),
        text=FreeText("{}", 3, "(yes|no)"),
        title="Ja: nein # «é»",
    )
    path = tmp_path / "some.yaml"
    path.write_text(spec.to_yaml(), encoding="utf-8")
    assert AuditSpec.read(path) == spec
    assert AuditSpec.from_dict(SMALL).to_dict() == SMALL


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not YAML: expected the node content, but found '<stream end>' (line 1, column 8)"),
        ("name: a\nname: b\n", "not YAML: the key 'name' stands twice in one mapping (line 2, column 1)"),
        ("name: \x07", "not YAML: "),
        ("- name", "a mapping with keys is needed, got a list"),
        (yaml.safe_dump({**SMALL, "titel": ""}), "unknown key 'titel'; did you mean 'title'?"),
        (yaml.safe_dump({**SMALL, "mediators": {}}), "mediators: 'l' is on a path from 'a' to 'y'"),
    ],
)
def test_messages_name_the_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(AuditError) as raised:
        audit_spec(path)
    assert str(raised.value).startswith(f"{path}: {message}")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"none\.yaml: cannot be read: No such file"):
        AuditSpec.read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(AuditError, match=r"latin\.yaml: cannot be read: 'utf-8'"):
        AuditSpec.read(tmp_path / "latin.yaml")
    with pytest.raises(AuditError, match="'laon' is neither an audit nor a file; did you mean 'loan'"):
        audit_spec("laon")
    with pytest.raises(AuditError, match="'loan' is neither an audit nor a file"):
        audit_spec(Path("loan"))  # a path is a file, whatever its name


# -- parts of an audit ---------------------------------------------------------------------------


def test_without() -> None:
    spec = small()
    assert spec.without() == spec
    fewer = spec.without("x")
    assert [v.name for v in fewer.variables] == ["l", "m", "z", "y"]
    assert fewer.variable("y").parents == ("a", "m")
    assert fewer.mediators == ("l", "m")
    # m is reached by way of l only, so that it is a covariate of what is left.
    assert (spec.without("l").mediators, spec.without("l").not_legitimate) == ((), ())
    assert (spec.without("m").mediators, spec.without("m").variable("z").parents) == ((), ())
    assert spec.without("x", "l", "m", "z").variable("y").parents == ("a",)
    worded = replace(spec, option_wordings={"x": (("p", "q"), ("P", "Q")), **spec.option_wordings})
    assert worded.without("x").option_wordings == spec.option_wordings


def test_what_cannot_be_left_out() -> None:
    with pytest.raises(AuditError, match="'y' is the outcome and cannot be left out"):
        small().without("y")
    with pytest.raises(AuditError, match="'a' is the attribute and cannot be left out"):
        small().without("x", "a")
    with pytest.raises(AuditError, match="no variable 'xx'; did you mean 'x'"):
        small().without("xx")
    content = copy.deepcopy(SMALL)
    content["variables"][4]["parents"] = ["x", "m"]
    with pytest.raises(AuditError, match="no path leads from the attribute 'a' to 'y'"):
        AuditSpec.from_dict(content).without("m")


def test_family_of_a_proxy() -> None:
    spec = small()
    family = spec.family(spec.proxies[0], {"two": "2", "one": "I"}, {"y": ["nay", "yea"]})
    first = FamilyVariable("a", ("I", "2"), spec.proxies[0].templates, uniform=True)
    assert family.variables == (first, *spec.variables[:-1], replace(spec.variable("y"), options=("nay", "yea")))
    assert (family.treatment, family.arms, family.outcome, family.outcome_option) == ("a", ("I", "2"), "y", "yea")
    assert (family.covariates, family.mediators, family.licence) == (("x",), ("l", "m"), "MIT")
    with pytest.raises(AuditError, match=r"one phrase for each level \('one', 'two'\) is needed, got \{'one': '1'\}"):
        spec.family(spec.proxies[0], {"one": "1"})
    with pytest.raises(AuditError, match=r"'y' has 2 options, got 1 texts: \('nay',\)"):
        spec.family(spec.proxies[0], {"one": "1", "two": "2"}, {"y": ["nay"]})
    with pytest.raises(AuditError, match="no variable 'yy'"):
        spec.family(spec.proxies[0], {"one": "1", "two": "2"}, {"yy": ["nay", "yea"]})


@pytest.mark.parametrize("name", AUDITS)
def test_graphs_of_the_ready_audits(name: str, embedded: sd.LanguageModel) -> None:
    """Mediators are what lies on a path of the program itself."""
    spec = audit_spec(name)
    for proxy in spec.proxies:
        family = spec.family(proxy, {level: texts[-1] for level, texts in proxy.phrases.items()})
        graph = sd.graph(family.member(seed=0), embedded)
        assert graph.names[0] == spec.attribute
        paths = nx.all_simple_paths(graph.to_networkx(), spec.attribute, spec.outcome)
        between = {site for path in paths for site in path} - {spec.attribute, spec.outcome}
        assert between == set(spec.mediators) == set(family.mediators)
        assert graph[spec.attribute].options == tuple(texts[-1] for texts in proxy.phrases.values())
        assert all(v.parents == graph[v.name].parents for v in spec.variables)


# -- the ready audits ----------------------------------------------------------------------------


# What stands for free text.
WRITTEN = ("is one of many",)


def sentences(spec: AuditSpec) -> list[list[str]]:
    """Every sentence of an audit: those of the attribute, of each proxy, then those of each variable."""
    of_attribute = [
        template.fill(phrase)
        for proxy in spec.proxies
        for template, texts in product(proxy.templates, proxy.phrases.values())
        for phrase in texts
    ]
    of_variables = [
        [
            template.fill(option)
            for template, texts in product(v.templates, spec.option_wordings.get(v.name, (v.options or WRITTEN,)))
            for option in texts
        ]
        for v in spec.variables
    ]
    return [of_attribute, *of_variables]


def test_ready_files() -> None:
    paths = (ROOT / "sdscm_jax" / "audit" / "specs").iterdir()
    assert sorted(path.name for path in paths) == sorted(f"{name}.yaml" for name in AUDITS)


@pytest.mark.parametrize("name", AUDITS)
def test_every_sentence_is_one(name: str) -> None:
    spec = audit_spec(name)
    assert len(spec.variables) + 1 + (spec.text is not None) <= 9
    found = [sentence for group in sentences(spec) for sentence in group]
    assert len(found) == len(set(found))
    for sentence in found:
        assert re.fullmatch(r"[A-Z][A-Za-z0-9' ,-]*[a-z0-9]\.", sentence), sentence
        assert "  " not in sentence, sentence
        assert not re.search(r" ,|,(?! )|\b(\w+) \1\b", sentence), sentence
        assert not re.search(r"\b[Aa] (?=[aeiou])|\b[Aa]n (?!hour)(?=[^aeiou])", sentence), sentence


@pytest.mark.parametrize("name", AUDITS)
def test_ready_audits_are_complete(name: str) -> None:
    spec = audit_spec(name)
    templates = [*(proxy.templates for proxy in spec.proxies), *(v.templates for v in spec.variables)]
    # Enough of what is drawn for an interval that says something.
    assert min(map(len, templates)) >= 10
    for proxy in spec.proxies:
        counts = {len(texts) for texts in proxy.phrases.values()}
        assert counts == {1} or min(counts) >= 10
    assert all(len(texts) >= 10 for texts in spec.option_wordings.values())
    assert all((spec.title, spec.can_show, spec.cannot_show, spec.source, spec.licence == "Apache-2.0"))
    assert spec.question.endswith("?")
    assert spec.not_legitimate
    # Where the mediator is a text there is no other.
    assert spec.legitimate or all(spec.variable(name).written for name in spec.mediators)
    assert spec.text is not None
    # What comes before the outcome is what its sentence is given.
    assert spec.variables[-1].name == spec.outcome
    assert spec.variable(spec.outcome).parents == (spec.attribute, *(v.name for v in spec.variables[:-1]))


@pytest.mark.parametrize("name", AUDITS)
def test_ready_audits_fit_the_embedded_model(name: str, embedded: sd.LanguageModel) -> None:
    spec = audit_spec(name)
    longest = sum(max(len(embedded.codec.encode(" " + s)) for s in group) for group in sentences(spec))
    assert spec.text is not None
    longest += len(embedded.codec.encode(spec.text.template)) + spec.text.max_tokens
    longest += sum(v.written.max_tokens for v in spec.variables if v.written is not None)
    assert longest < embedded.config.max_positions


@pytest.mark.parametrize("name", ["hiring", "hiring_gender"])
def test_hiring_is_worded_as_the_vignette(name: str) -> None:
    spec = audit_spec(name)
    for v in spec.variables:
        assert v.options == hiring[v.name].options
        assert tuple(map(str, v.templates)) == hiring[v.name].wordings
    names = next(proxy for proxy in spec.proxies if proxy.name == "first name")
    assert tuple(map(str, names.templates)) == hiring[hiring.treatment].wordings
    known = {phrase for texts in spec.known_to(hiring).proxies[-1].phrases.values() for phrase in texts}
    if name == "hiring":
        assert known == set(hiring[hiring.treatment].options)
    assert all(len(set(texts)) == 20 for texts in names.phrases.values())


def test_hiring_gives_the_name_to_what_it_may_change() -> None:
    spec = audit_spec("hiring")
    names = [v.name for v in spec.variables]
    named = {"test score", "interview", "decision"}
    for i, v in enumerate(spec.variables):
        assert v.parents == (("applicant",) if v.name in named else ()) + tuple(names[:i])
    assert (spec.legitimate, spec.not_legitimate, spec.option_wordings) == (("test score",), ("interview",), {})
    # In the vignette, the name moves the interview and the decision, and not the test score.
    assert {v.name for v in hiring.variables if "applicant" in v.effects} == {"interview", "decision"}
