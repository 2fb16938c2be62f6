"""Families: their structure, their files, and what a file may not say."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import networkx as nx
import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax.dsl.scoring.template import Template
from sdscm_jax.errors import FamilyError
from sdscm_jax.families import FAMILIES, Family, FamilyVariable, family
from sdscm_jax.families.file import from_own, from_reference

from ..needs import ROOT, shared_path

Content = dict[str, Any]

# Wordings of two members with ten wordings of each of fourteen variables: data sets in files depend on them.
WORDINGS = {
    0: (8, 6, 5, 2, 3, 0, 0, 0, 1, 8, 6, 9, 5, 6),
    7: (9, 6, 6, 8, 5, 7, 8, 2, 0, 3, 2, 8, 9, 0),
}

# x -> t -> m -> y, x -> y; z hangs on m and reaches nothing.
SMALL: Content = {
    "name": "small",
    "treatment": "t",
    "outcome": "y",
    "hidden": ["x"],
    "variables": [
        {"name": "x", "options": ["a", "b"], "templates": ["X is {}."], "exogenous": True},
        {"name": "t", "options": ["a", "b", "c"], "templates": ["T is {}."], "parents": ["x"]},
        {"name": "m", "options": ["a", "b"], "templates": ["M is {}.", "{} is M."], "parents": ["t"]},
        {"name": "z", "options": ["a", "b"], "templates": ["Z is {}."], "parents": ["m"], "uniform": True},
        {"name": "y", "options": ["a", "b"], "templates": ["Y is {}."], "parents": ["x", "m"]},
    ],
}
REFERENCE: Content = {
    "experiment_name": "small",
    "setup_sequence_sample_space": [
        {
            "variable_name": name,
            "possible_prefix_suffix_pairs": [[f"{name} is ", "."], ["", f" is {name}."]],
            "candidate_set": ["a", "b", "c"],
            "parent_indices": parents,
            "exogenous": exogenous,
            "intervention_choice": choice,
        }
        for name, parents, exogenous, choice in (
            ("x", None, True, None),
            ("t", [0], False, None),
            ("m", [1], False, "uniform"),
            ("y", [1, 0], False, None),
        )
    ],
    "index_of_intervention": 1,
    "index_of_outcome": 3,
}


def test_structure_is_that_of_the_graph() -> None:
    for name in FAMILIES:
        found = family(name)
        graph = nx.DiGraph([(parent, v.name) for v in found.variables for parent in v.parents])
        for v in found.variables:
            assert set(found.ancestors(v.name)) == nx.ancestors(graph, v.name)
            assert set(found.descendants(v.name)) == nx.descendants(graph, v.name)


@pytest.mark.parametrize(
    ("name", "covariates", "mediators"),
    [
        ("confounder", ("name1", "name2", "weather"), ()),
        ("collider", ("name1", "name2"), ()),
        ("hiring", ("degree", "experience", "references", "test score"), ("interview",)),
        (
            "court",
            ("age", "work history", "savings", "record", "charge", "evidence"),
            ("preparation", "release plan"),
        ),
        ("school", ("experience", "help at home", "interest", "marks", "health"), ("study at home", "confidence")),
    ],
)
def test_roles_of_shipped_families(name: str, covariates: tuple[str, ...], mediators: tuple[str, ...]) -> None:
    found = family(name)
    assert found.covariates == covariates
    assert found.mediators == mediators


def test_roles_of_oncology() -> None:
    found = family("oncology")
    assert found.arms == ("low", "high")
    assert found.outcome_option == "initiate an aromatase inhibitor therapy"
    assert found.covariates == tuple(v.name for v in found.variables[:12])
    assert found.mediators == ()


def test_roles_of_the_small_family() -> None:
    small = Family.from_json(SMALL)
    assert small.covariates == ("x",)
    assert small.mediators == ("m",)  # not z, which does not reach y
    assert small.arms == ("a", "b")
    assert small.outcome_option == "a"
    with pytest.raises(sd.SiteError, match="no variable 'yy'; did you mean 'y'"):
        small.ancestors("yy")


@pytest.mark.parametrize("name", ["court", "school"])
def test_hidden_variables_of_new_families_confound(name: str) -> None:
    found = family(name)
    assert len(found.hidden) == 2
    for hidden in found.hidden:
        assert hidden in found[found.treatment or ""].parents
        assert hidden in found[found.outcome or ""].parents
    for v in found.variables:
        assert len(v.templates) == len(set(v.templates)) >= 5


def test_wordings_of_a_member_do_not_change() -> None:
    oncology, confounder = Family.from_vignette(sd.vignettes.oncology), Family.from_vignette(sd.vignettes.confounder)
    assert oncology.member(0).wordings == WORDINGS[0]
    assert oncology.member(7).wordings == WORDINGS[7]
    assert confounder.member(0).wordings == WORDINGS[0][:5]
    assert family("oncology").member(7).wordings == WORDINGS[7]


@pytest.mark.parametrize("name", FAMILIES)
def test_round_trip(name: str, tmp_path: Path) -> None:
    found = family(name)
    text = found.to_json()
    assert Family.from_json(text) == found
    (tmp_path / "family.json").write_text(text)
    assert Family.read(tmp_path / "family.json") == found == family(tmp_path / "family.json")
    assert Family.from_json(str(tmp_path / "family.json")).to_json() == text


def test_shipped_files_are_what_is_written() -> None:
    paths = sorted((ROOT / "sdscm_jax" / "families" / "data").glob("*.json"))
    assert [p.stem for p in paths] == ["court", "school"]
    for path in paths:
        assert path.read_text() == family(path.stem).to_json()


def test_parents_stand_in_causal_order() -> None:
    content = copy.deepcopy(SMALL)
    content["variables"][4]["parents"] = ["m", "x"]
    assert Family.from_json(content) == Family.from_json(SMALL)


def test_toml(tmp_path: Path) -> None:
    lines = [f"{key} = {json.dumps(SMALL[key])}" for key in SMALL if key != "variables"]
    for v in SMALL["variables"]:
        lines += ["[[variables]]", *(f"{key} = {json.dumps(value)}" for key, value in v.items())]
    path = tmp_path / "small.toml"
    path.write_text("\n".join(lines))
    assert Family.read(path) == Family.from_json(SMALL)
    path.write_text("name = ")
    with pytest.raises(FamilyError, match=r"small\.toml: not TOML"):
        Family.read(path)


def test_reference_format_is_recognised_by_content(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text(json.dumps(REFERENCE))
    found = Family.read(path)
    assert found == Family.from_reference_json(REFERENCE) == Family.from_reference_json(path)
    assert (found.name, found.treatment, found.outcome, found.hidden) == ("small", "t", "y", ())
    assert (found.arms, found.outcome_option) == (("a", "b"), "a")
    assert found["y"].parents == ("x", "t")
    assert [v.uniform for v in found.variables] == [False, False, True, False]
    assert found["x"].templates == (Template("x is ", "."), Template("", " is x."))
    assert Family.from_json(found.to_json()) == found


def test_reference_choices_are_arms_and_outcome() -> None:
    found = Family.from_reference_json({**REFERENCE, "intervention_choices": [2, 0], "possible_outcome_choices": [1]})
    assert (found.arms, found.outcome_option) == (("c", "a"), "b")


def test_reference_file_reads() -> None:
    found = Family.read(shared_path("reference", "breast_cancer_config.json"))
    assert (found.treatment, found.outcome, len(found.variables)) == ("PD-L1 level", "therapy", 14)
    assert found.arms == ("low", "high")
    assert found.outcome_option == "initiate an aromatase inhibitor therapy"
    assert found.covariates == tuple(v.name for v in found.variables[:12])
    assert Family.from_json(found.to_json()) == found


Edit = Callable[[Content], object]


def at(i: int, **changes: Any) -> Edit:
    return lambda content: content["variables"][i].update(changes)


def top(**changes: Any) -> Edit:
    return lambda content: content.update(changes)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("name"), "F: missing key 'name'"),
        (lambda c: c.pop("variables"), "F: missing key 'variables'"),
        (top(tretment="t"), "F: unknown key 'tretment'; did you mean 'treatment'?"),
        (top(name=3), "F: name: a text is needed, got 3"),
        (top(variables={}), "F: variables: a list of variables is needed, got an object"),
        (top(variables=[]), "F: variables: there are none"),
        (top(variables=["x"]), "F: variables[0]: an object with keys is needed, got the text 'x'"),
        (lambda c: c["variables"][1].pop("options"), "F: variables[1] ('t'): missing key 'options'"),
        (lambda c: c["variables"][1].pop("name"), "F: variables[1]: missing key 'name'"),
        (at(1, template="T is {}."), "F: variables[1] ('t'): unknown key 'template'; did you mean 'templates'?"),
        (at(1, options="ab"), "F: variables[1] ('t'): options: a list of texts is needed, got the text 'ab'"),
        (at(1, options=["a", 2]), "F: variables[1] ('t'): options[1]: a text is needed, got 2"),
        (at(1, options=["a", "a"]), "F: variables[1] ('t'): options: option 'a' of 'T is {}.' is listed twice"),
        (at(1, options=[]), "F: variables[1] ('t'): options: 'T is {}.' has no options"),
        (at(1, templates=[]), "F: variables[1] ('t'): templates: there are none"),
        (at(2, templates=["M is {}.", "M."]), "F: variables[2] ('m'): templates[1]: a template has exactly one blank"),
        (at(2, templates=["{} is {}."]), "F: variables[2] ('m'): templates[0]: a template has exactly one blank"),
        (at(0, exogenous="yes"), "F: variables[0] ('x'): exogenous: true or false is needed, got the text 'yes'"),
        (at(3, uniform=None), "F: variables[3] ('z'): uniform: true or false is needed, got null"),
        (at(2, parents="t"), "F: variables[2] ('m'): parents: a list of texts is needed, got the text 't'"),
        (at(2, parents=["tt"]), "F: variables[2] ('m'): parents: there is no variable 'tt'; did you mean 't'?"),
        (at(2, parents=["t", "t"]), "F: variables[2] ('m'): parents: 't' is listed twice"),
        (at(2, parents=["y"]), "is its own ancestor: 'm' -> 'y' -> 'm'"),
        (at(2, parents=["m"]), "F: variables[2] ('m'): parents: 'm' is its own ancestor: 'm' -> 'm'"),
        (at(0, parents=["y"]), "is its own ancestor: 'x' -> 't' -> 'm' -> 'y' -> 'x'"),
        (at(1, parents=["x", "v"]), "F: variables[1] ('t'): parents: there is no variable 'v'"),
        (at(2, name="x"), "F: variables[0] and [2] are both named 'x'"),
        (top(treatment="T"), "F: treatment: there is no variable 'T'; known: 'x', 't', 'm', 'z', 'y'"),
        (top(treatment="x"), "F: treatment: 'x' is exogenous, so it cannot be intervened on"),
        (at(1, options=["a"]), "F: treatment: 't' has one option only; two arms are needed"),
        (top(outcome="t"), "F: outcome: 't' is the treatment too"),
        (top(outcome="w"), "F: outcome: there is no variable 'w'"),
        (top(arms=["a"]), "F: arms: two options of the treatment are needed, low and high, got 1"),
        (top(arms=["a", "d"]), "F: arms: the treatment 't' has no option 'd'; known: 'a', 'b', 'c'"),
        (top(arms=["b", "b"]), "F: arms: both are 'b'; two different options are needed"),
        (top(treatment=None, arms=["a", "b"]), "F: arms: ('a', 'b') are arms of no treatment; treatment is missing"),
        (top(outcome_option="c"), "F: outcome_option: the outcome 'y' has no option 'c'; known: 'a', 'b'"),
        (top(outcome=None, outcome_option="a"), "F: outcome_option: 'a' is an option of no outcome"),
        (top(hidden=["q"]), "F: hidden: there is no variable 'q'"),
        (top(hidden=["t"]), "F: hidden: 't' is the treatment, not a covariate (covariates: 'x')"),
        (top(hidden=["y"]), "F: hidden: 'y' is the outcome, not a covariate"),
        (top(hidden=["x", "m"]), "F: hidden: 'm' is a descendant of the treatment 't', not a covariate"),
        (top(hidden=["x", "x"]), "F: hidden: 'x' is listed twice"),
        (top(licence=["MIT"]), "F: licence: a text is needed, got a list"),
    ],
)
def test_what_a_file_may_not_say(edit: Edit, message: str) -> None:
    content = copy.deepcopy(SMALL)
    edit(content)
    with pytest.raises(FamilyError) as raised:
        from_own(content, "F")
    assert message in str(raised.value)


@pytest.mark.parametrize("arms", [(), ("a",), ("a", "b", "c")])
def test_arms_of_a_family_made_in_python_are_two(arms: Any) -> None:
    with pytest.raises(FamilyError, match="arms: two options of 't' are compared, got"):
        replace(Family.from_json(SMALL), arms=arms).to_json()


def test_wrong_order_is_no_cycle() -> None:
    content = copy.deepcopy(SMALL)
    content["variables"].insert(1, content["variables"].pop(2))  # m before t
    with pytest.raises(FamilyError) as raised:
        from_own(content, "F")
    assert str(raised.value).startswith("F: variables[1] ('m'): parents: 't' comes later; list 't' before 'm'")


def test_outcome_out_of_reach_is_allowed() -> None:
    content = copy.deepcopy(SMALL)
    content["variables"][2]["parents"] = []
    found = Family.from_json(content)
    assert found.outcome not in found.descendants("t")
    assert found.mediators == ()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (top(index_of_outcome=1), "F: index_of_outcome: 't' is the treatment too"),
        (top(index_of_outcome=4), "F: index_of_outcome: 4 is not an index; they run from 0 to 3"),
        (top(index_of_intervention=-1), "F: index_of_intervention: -1 is not an index"),
        (top(index_of_intervention=True), "F: index_of_intervention: True is not an index"),
        (top(index_of_intervention=0), "F: index_of_intervention: 'x' is exogenous"),
        (top(intervention_choices=[0, 3]), "F: intervention_choices: 3 is not an index; they run from 0 to 2"),
        (top(intervention_choices=[0]), "F: intervention_choices: 2 options of 't' are needed, got [0]"),
        (top(intervention_choices=[1, 1]), "F: intervention_choices: both are 'b'"),
        (top(possible_outcome_choices=[9]), "F: possible_outcome_choices: 9 is not an index"),
        (top(index_of_treatment=1), "F: unknown key 'index_of_treatment'; did you mean 'index_of_intervention'?"),
        (top(setup_sequence_sample_space=7), "F: setup_sequence_sample_space: a list of variables is needed, got 7"),
        (at(1, parent_indices=[4]), "F: V[1] ('t'): parent_indices: 4 is not an index; they run from 0 to 3"),
        (at(1, parent_indices=[2]), "is its own ancestor: 't' -> 'm' -> 't'"),
        (at(0, parent_indices=[0]), "F: V[0] ('x'): parent_indices: 'x' is its own ancestor: 'x' -> 'x'"),
        (at(1, parent_indices=0.5), "F: V[1] ('t'): parent_indices: a list of indices is needed, got 0.5"),
        (at(1, intervention_choice=1), "F: V[1] ('t'): intervention_choice: 1 is not supported"),
        (at(1, exogenous=1), "F: V[1] ('t'): exogenous: true or false is needed, got 1"),
        (at(1, variable_name="x"), "F: V[0] and [1] are both named 'x'"),
        (at(1, candidate_set=["a", "a"]), "F: V[1] ('t'): candidate_set: option 'a' of 't is {}.' is listed twice"),
        (
            at(1, possible_prefix_suffix_pairs=[["T is "]]),
            "F: V[1] ('t'): possible_prefix_suffix_pairs[0]: a list of two texts",
        ),
        (
            at(1, possible_prefix_suffix_pairs=[["T {} is ", "."]]),
            "F: V[1] ('t'): possible_prefix_suffix_pairs: 'T {} is {}.' has more than one blank",
        ),
        (at(1, possible_prefix_suffix_pairs=[]), "F: V[1] ('t'): possible_prefix_suffix_pairs: there are none"),
        (
            lambda c: c["variables"][1].pop("parent_indices"),
            "F: V[1] ('t'): missing key 'parent_indices'",
        ),
    ],
)
def test_what_a_reference_file_may_not_say(edit: Edit, message: str) -> None:
    content = copy.deepcopy(REFERENCE)
    content["variables"] = content["setup_sequence_sample_space"]
    edit(content)
    del content["variables"]
    with pytest.raises(FamilyError) as raised:
        from_reference(content, "F")
    assert message.replace("V[", "setup_sequence_sample_space[") in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON: Expecting property name"),
        ("[1]", "a family is an object with keys, got a list"),
        ('{"name": "a", "name": "b"}', "the key 'name' stands twice in one object"),
        ('{"name": "a"}', "neither the key 'variables' (this package's format) nor 'setup_sequence_sample_space'"),
        (json.dumps({**SMALL, "hiden": []}), "unknown key 'hiden'; did you mean 'hidden'?"),
        (json.dumps({**REFERENCE, "index_of_outcome": 9}), "index_of_outcome: 9 is not an index"),
    ],
)
def test_messages_name_the_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(FamilyError) as raised:
        Family.read(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FamilyError, match=r"none\.json: cannot be read: No such file"):
        Family.from_json(tmp_path / "none.json")
    with pytest.raises(FamilyError, match="cannot be read: Is a directory"):
        Family.read(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"name": "\xe9"}')
    with pytest.raises(FamilyError, match=r"latin\.json: cannot be read: 'utf-8'"):
        Family.from_reference_json(tmp_path / "latin.json")


def test_unknown_family() -> None:
    with pytest.raises(FamilyError, match="'cuort' is neither a family nor a file; did you mean 'court'"):
        family("cuort")
    with pytest.raises(FamilyError, match="'court' is neither a family nor a file"):
        family(Path("court"))  # a path is a file, whatever its name


def test_what_could_not_be_read_is_not_written() -> None:
    """The applicant of the vignette is exogenous; nothing may set it."""
    with pytest.raises(FamilyError, match="family 'hiring': treatment: 'applicant' is exogenous"):
        Family.from_vignette(sd.vignettes.hiring).to_json()


def test_families_in_python_are_checked() -> None:
    one = FamilyVariable("a", ("x", "y"), (Template.parse("A {}."),), ("b",))
    with pytest.raises(FamilyError, match=r"family 'f': variables\[0\] \('a'\): parents: there is no variable 'b'"):
        Family("f", (one,))
    two = replace(one, name="b", parents=("a",))
    with pytest.raises(FamilyError, match="own ancestor"):
        Family("f", (one, two))


def test_shipped_families_fit_the_embedded_model(embedded: sd.LanguageModel) -> None:
    for name in FAMILIES:
        longest = sum(
            max(len(embedded.codec.encode(t.fill(option))) for t in v.templates for option in v.options or ("",))
            + (0 if v.written is None else v.written.max_tokens)
            for v in family(name).variables
        )
        assert longest < embedded.config.max_positions


@pytest.mark.slow
@pytest.mark.parametrize("name", ["court", "school", "clinical_note", "reference_letter"])
def test_new_families_simulate(name: str, embedded: sd.LanguageModel) -> None:
    found = family(name)
    assert found.arms is not None
    low, high = found.arms
    treatment, outcome = found.treatment or "", found.outcome or ""
    worlds = [{treatment: low}, {treatment: high}]
    data = sd.simulate(found.member(0), jax.random.key(0), 5, embedded, worlds=worlds)
    assert len(data) == 5
    for covariate in found.covariates:
        assert (data.values[covariate] == data.values[covariate][:, :1]).all()
    probability = np.exp(data.log_probs[outcome])
    assert not np.allclose(probability[:, 1], probability[:, 2], atol=1e-4)  # the treatment matters
    propensity = np.exp(data.log_probs[treatment][:, 0])
    assert propensity.min() > 0.1  # and both arms occur


def test_file_in_the_page_is_a_family() -> None:
    text = (ROOT / "docs" / "families.md").read_text()
    block = text.split("```json\n")[1].split("```")[0]
    found = Family.from_json(block)
    assert found.mediators
    assert Family.from_json(found.to_json()) == found
