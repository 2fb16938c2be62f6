"""What handlers tell each other: one record on NumPyro's message."""

import ast
import re
from pathlib import Path

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import numpyro.handlers as nh
import pytest
from numpyro.contrib.control_flow import cond

import sdscm_jax as sd
from sdscm_jax.dsl.language.messages import KEY, Note, in_infer, note, noted, take_redraws
from sdscm_jax.dsl.language.phrase import Phrase
from sdscm_jax.dsl.scoring.template import Template
from sdscm_jax.testing import mock_lm

SOURCE = Path(sd.__file__).parent
# What NumPyro's own handlers put on messages.
NUMPYRO = {
    "type", "name", "fn", "args", "kwargs", "value", "scale", "is_observed", "intermediates", "cond_indep_stack",
    "infer", "stop", "_control_flow_done",
}  # fmt: skip


def _message_keys(source: str) -> set[str]:
    """Texts by which a variable ``msg`` or ``message`` is read, written or popped."""
    keys: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        of, key = None, None
        if isinstance(node, ast.Subscript):
            of, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(called := node.func, ast.Attribute) and node.args:
            of, key = (called.value, node.args[0]) if called.attr in ("get", "pop", "setdefault") else (None, None)
        if isinstance(of, ast.Name) and of.id in ("msg", "message") and isinstance(key, ast.Constant):
            keys.add(key.value)
    return keys


def test_the_record_is_all_that_this_package_adds_to_a_message():
    sources = {path.name: path.read_text() for path in SOURCE.rglob("*.py")}
    sources = {name: text for name, text in sources.items() if re.search(r"\b(msg|message)[.\[]", text)}
    assert "do.py" in sources
    found = {name: _message_keys(text) - NUMPYRO for name, text in sources.items()}
    assert {name: keys for name, keys in found.items() if keys} == {}
    assert _message_keys('msg["redraw"] = msg.get("phrase"); msg.pop("x")') == {"redraw", "phrase", "x"}


def test_a_note_is_changed_on_the_message_and_not_in_the_dict_of_the_user():
    infer = in_infer(noise_of="x")
    msg = {"type": "sample", "infer": infer}
    note(msg, followed=True)
    assert noted(msg) == Note(noise_of="x", followed=True)
    assert infer == {KEY: Note(noise_of="x")}
    assert noted({"type": "deterministic"}) == Note()


def test_redraws_are_taken_once():
    msg = {"type": "sample", "infer": {}}
    note(msg, redraws=("above",))
    assert (take_redraws(msg), take_redraws(msg)) == (("above",), ())


def test_notes_are_equal_that_say_the_same_of_a_site():
    # Invariant: no value is compared, since a traced one cannot be.
    def said(index, options=("low", "high"), redraws=()):
        return Note(phrase=Phrase(index, Template.parse("It is {}."), options, "x"), redraws=redraws)

    assert said(jnp.array([0, 1])) == said(1, redraws=("above",))
    assert said(0) != said(0, ("low", "tall"))
    assert said(0) != Note()


@pytest.mark.parametrize("number", [-1.0, 1.0])
@pytest.mark.parametrize("flag", [True, False])
def test_numbers_are_said_inside_of_cond(number, flag):
    def model(number):
        def said(shift):
            return lambda x: sd.verbalize("v", x + shift, [0.0], ["low", "high"], "It is {}.").index

        return cond(flag, said(0.0), said(-5.0), number)

    assert int(nh.seed(model, 0)(jnp.float32(number))) == int(flag and number > 0)
    done = nh.seed(sd.handlers.do(model, {"v": "high"}), 0)
    assert int(nh.trace(done).get_trace(jnp.float32(number))["v"]["value"]) == 1


def test_branches_of_cond_that_are_said_differently_are_refused():
    def model():
        def said(text):
            return lambda x: sd.verbalize("v", x, [0.0], ["low", "high"], text).index

        x = numpyro.sample("x", dist.Normal())
        return cond(True, said("It is {}."), said("He is {}."), x)

    with pytest.raises(sd.errors.SiteError, match="branches of a cond differ"):
        sd.graph(model)


def test_choices_inside_of_cond_are_intervened_above_without_the_noise_of_a_unit():
    lm = mock_lm()

    def model(lm):
        sky = sd.sample("sky", sd.Choice(lm, "The sky is {}.", ["blue", "grey"]))

        def branch(_):
            sd.sample("day", sd.Choice(lm, "The day is {}.", ["warm", "cold"], given=[sky]))
            return 0

        cond(sky.index == 0, branch, branch, None)

    done = nh.trace(nh.seed(sd.handlers.do(model, {"sky": "grey"}), 0)).get_trace(lm)
    assert int(done["sky"]["value"]) == 1
    # The law of the day is that of a sky that is grey, as the program says without an intervention.
    grey = nh.trace(nh.seed(nh.condition(model, {"sky": jnp.int32(1)}), 0)).get_trace(lm)
    assert done["day"]["fn"].logits.tolist() == grey["day"]["fn"].logits.tolist()
