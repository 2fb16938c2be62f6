"""Couplings and scorings are objects: nobody else asks which name one has, and users add their own."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import sdscm_jax as sd
from sdscm_jax import effects, testing
from sdscm_jax.dsl.noise.couplings.gumbel import races, truncated_gumbels
from sdscm_jax.dsl.noise.couplings.registry import COUPLINGS, parse_coupling
from sdscm_jax.dsl.noise.streams import gumbels, option_gumbels, stream
from sdscm_jax.dsl.registered import Registered
from sdscm_jax.dsl.scoring.option_tree import OptionTree
from sdscm_jax.dsl.scoring.scorings.registry import SCORINGS, parse_scoring
from sdscm_jax.extend import Coupling, Scoring, register

ROOT = Path(sd.__file__).parent
ROOMS = ("dsl/noise/couplings/", "dsl/scoring/scorings/")
# Words that are the name of something else too: a file's, a column's, an intervention's.
OTHERS = {
    ("families/file.py", "uniform"),
    ("dsl/handlers/intervention.py", "uniform"),
}


def dispatches(source: str, names: set[str]) -> Iterator[tuple[int, set[str]]]:
    """Lines that compare something with a name, look one up among several, or have a case for one."""

    def texts(*nodes: ast.AST | None) -> set[str]:
        inside = [n for node in nodes if node is not None for n in ast.walk(node)]
        return {n.value for n in inside if isinstance(n, ast.Constant) and isinstance(n.value, str)} & names

    for node in ast.walk(ast.parse(source)):
        several = isinstance(node, ast.Dict | ast.Tuple | ast.List | ast.Set)
        match node:
            case ast.Compare():
                asked = texts(node.left, *node.comparators)
            case ast.MatchValue():
                asked = texts(node.value)
            case ast.Dict():
                asked = texts(*node.keys)
            case ast.Tuple() | ast.List() | ast.Set():
                asked = texts(*node.elts)
            case _:
                continue
        if len(asked) > several:
            yield node.lineno, asked


def test_nobody_asks_which_coupling_or_scoring_it_is() -> None:
    names = {str(one) for one in (*COUPLINGS, *SCORINGS)}
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        if where.startswith(ROOMS):
            continue
        for line, asked in dispatches(path.read_text(), names):
            if not all((where, name) in OTHERS for name in asked):
                found.append((f"{where}:{line}", sorted(asked)))
    # (An audit's example of scorings in its file is a default, not a question.)
    assert [place for place in found if not place[0].startswith("audit/spec_fields.py")] == []


@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        ('if choice.coupling == "gumbel": ...', True),
        ('if self.scoring not in ("sequence", "option"): ...', True),
        ('KNOWN = ("gumbel", "independent")', True),
        ('LAWS = {"gumbel": 1, "independent": 2}', True),
        ('match c:\n    case "gumbel": ...', True),
        ("if choice.coupling.redraws: ...", False),
        ('Choice(lm, "It is {}.", options, coupling="gumbel")', False),
    ],
)
def test_what_asks_for_a_name(source: str, is_one: bool) -> None:
    assert bool(list(dispatches(source, {"gumbel", "independent", "sequence", "option"}))) == is_one


@pytest.mark.parametrize("one", [*COUPLINGS, *SCORINGS])
def test_an_object_is_its_name(one: Registered) -> None:
    name = one.name
    assert one == name
    assert {name: 1}[one] == 1
    assert (f"{one}", repr(one), json.dumps({"is": one})) == (name, repr(name), json.dumps({"is": name}))
    assert one.says
    for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), copy.copy(one)):
        assert (type(other), other) == (type(one), one)


def test_doors_take_a_name_or_the_object() -> None:
    lm = testing.mock_lm()
    by_name, by_object = (
        sd.Choice(lm, "It is {}.", ["up", "low"], scoring=scoring, coupling=coupling)
        for scoring, coupling in (("mean", "inverse_cdf"), (parse_scoring("mean"), parse_coupling("inverse_cdf")))
    )
    assert jax.tree.structure(by_name) == jax.tree.structure(by_object)
    assert by_name.coupling == "inverse_cdf"
    assert by_name.scoring == "mean"


# -- one of each, from outside ------------------------------------------------------------------------------


class Clocks(Coupling):
    """The first of K exponential clocks, of a stream of its own."""

    name = "clocks"
    says = "each option has a clock"
    stable = True

    def draw(self, key: Array, options: tuple[str, ...], shape: tuple[int, ...]) -> Array:
        return jnp.exp(-option_gumbels(stream(key, "clocks"), options, shape))

    def respond(self, logits: Array, noise: Array) -> Array:
        return jnp.argmin(jnp.log(noise) - logits, axis=-1).astype(jnp.int32)

    def posterior(self, key: Array, options: tuple[str, ...], logits: Array, index: Array) -> Array:
        logits = jnp.broadcast_to(logits, (*index.shape, logits.shape[-1]))
        observed = jax.nn.one_hot(index, logits.shape[-1], dtype=bool)
        fresh, top = -jnp.log(self.draw(key, options, index.shape)), gumbels(stream(key, "first"), index.shape)
        return jnp.exp(-truncated_gumbels(fresh, top, logits, observed))

    def joint(self, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return races(p, q)

    def unknown(self, noise: Array) -> Array:
        return jnp.isnan(noise[..., 0])

    def lead(self, log_probs: Array, noise: Array) -> Array:
        best = jnp.sort(log_probs - jnp.log(noise), axis=-1)
        return best[..., -1] - best[..., -2] if best.shape[-1] > 1 else jnp.full(best.shape[:-1], jnp.inf)


class Least(Scoring):
    """The least likely of an option's tokens."""

    name = "least"
    says = "the least likely of its tokens"

    def scores(self, tree: OptionTree, edges: Array) -> Array:
        return jnp.stack([edges[..., list(scored)].min(-1) for scored in tree.scored], axis=-1)


@pytest.fixture
def own() -> Iterator[None]:
    register(Clocks)
    register(Least)
    yield
    COUPLINGS.forget("clocks")
    SCORINGS.forget("least")


def clinic(lm: sd.LanguageModel) -> sd.Phrase:
    how = {"scoring": "least", "coupling": "clocks"}
    t = sd.sample("t", sd.Choice(lm, "It is {}.", ["up", "low"], **how))
    m = sd.sample("m", sd.Choice(lm, "We go {} now", ["it", "to go", "so"], given=[t], **how))
    return sd.sample("y", sd.Choice(lm, "Be {}", ["a lot", "ab"], given=[t, m], **how))


@pytest.mark.slow
@pytest.mark.usefixtures("own")
def test_one_of_each_that_a_user_adds_obeys_the_laws() -> None:
    lm, units = testing.mock_lm(clinic), 24
    worlds = [{"t": "up"}, {"t": "low"}]
    ways = testing.check_execution(clinic, 2, lm, units=8, worlds=worlds, ways=["in_graph", "tabulated"])
    assert ways == ("staged", "in_graph", "tabulated")
    assert testing.check_consistency(clinic, 3, lm, units=units) > 0
    assert testing.check_options(clinic, 4, lm, units=units) == 2 * 3 * units
    assert testing.check_abduction(clinic, 5, lm, units=units, sites=["t"]) == 3 * units
    assert "least" in {site.scoring for site in sd.graph(clinic, lm).sites}


@pytest.mark.usefixtures("own")
def test_what_a_user_adds_passes_through_simulation_and_exact_effects() -> None:
    lm = testing.mock_lm(clinic)
    table = sd.tabulate(clinic, lm)
    source = effects.exact(table)
    n = 20_000
    units = sd.simulate(table, 1, n, worlds=[{"t": "up"}, {"t": "low"}], logp=[])
    drawn = units.values["y"]
    np.testing.assert_allclose((drawn[:, 1] == 1).mean(), _chance(source, "up"), atol=4 * 0.5 / np.sqrt(n))
    pns = effects.pns(source, "t", "y", "low", "up", option="ab")
    np.testing.assert_allclose(float(pns), ((drawn[:, 1] == 1) & (drawn[:, 2] != 1)).mean(), atol=4 * 0.5 / np.sqrt(n))
    # Scores are what its one method says: the least edge.
    logits = sd.Choice(lm, "It is {}.", ["up", "low"], scoring="least").scores
    assert logits.shape == (2,)
    with pytest.raises(sd.OptionError, match="did you mean 'clocks'"):
        sd.Choice(lm, "It is {}.", ["up", "low"], coupling="clock")


def _chance(source: effects.Exact, level: str) -> float:
    p, y = source.table("m").loc[level].to_numpy(), source.table("y").loc[level].to_numpy()
    return float(p @ y[:, 1])


def test_an_object_that_is_given_is_known_from_then_on() -> None:
    choice = sd.Choice(testing.mock_lm(), "It is {}.", ["up", "low"], coupling=Clocks(), scoring=Least())
    assert (choice.coupling, choice.scoring) == ("clocks", "least")
    COUPLINGS.forget("clocks")
    SCORINGS.forget("least")


def test_what_cannot_be_registered() -> None:
    class Other(Least):
        name = "sequence"

    class Nameless(Least):
        name = ""

    with pytest.raises(sd.OptionError, match="scoring 'sequence' is that of"):
        register(Other)
    with pytest.raises(sd.OptionError, match="with a name"):
        register(Nameless)
    with pytest.raises(sd.OptionError, match="a class of Coupling or Scoring, got 3"):
        register(3)  # type: ignore[type-var]


PLUGIN = """
from sdscm_jax.extend import Coupling, Scoring

class Flat(Scoring):
    name = "flat"
    def scores(self, tree, edges):
        return 0 * edges[..., :len(tree.scored)]

class First(Coupling):
    name = "first"
    def draw(self, key, options, shape):
        import jax
        return jax.numpy.zeros(shape)
    def respond(self, logits, noise):
        return noise.astype("int32")
    def posterior(self, key, options, logits, index):
        return 0.0 * index
    def joint(self, p, q):
        return p[..., :, None] * q[..., None, :]
    def unknown(self, noise):
        return noise < 0
    def lead(self, log_probs, noise):
        return noise + 1

class Taken(Flat):
    name = "sequence"
"""
ENTRY_POINTS = """
[sdscm_jax.scorings]
flat = plugin_of_another:Flat
gone = plugin_of_another:Gone
taken = plugin_of_another:Taken
[sdscm_jax.couplings]
first = plugin_of_another:First
lost = no_such_module:Lost
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package beside this one, as pip leaves it."""
    (tmp_path / "plugin_of_another.py").write_text(PLUGIN)
    metadata = tmp_path / "another-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    for registry in (COUPLINGS, SCORINGS):
        monkeypatch.setattr(registry, "_looked", False)
        monkeypatch.setattr(registry, "_known", dict(registry._known))
        monkeypatch.setattr(registry, "_broken", {})
    yield
    sys.modules.pop("plugin_of_another", None)


@pytest.mark.usefixtures("installed")
def test_what_an_installed_package_has_is_found_by_its_entry_points() -> None:
    lm = testing.mock_lm()
    known = sd.Choice(lm, "It is {}.", ["up", "low"], scoring="mean", coupling="gumbel")
    assert known.scoring == "mean"
    # Nothing of another package was imported for names that are ours.
    assert "plugin_of_another" not in sys.modules
    choice = sd.Choice(lm, "It is {}.", ["up", "low"], scoring="flat", coupling="first")
    np.testing.assert_allclose(choice.probs, [0.5, 0.5], atol=1e-6)
    assert int(choice.sample(jax.random.key(1))) == 0
    assert ("flat" in SCORINGS, "first" in COUPLINGS) == (True, True)
    with pytest.raises(sd.OptionError, match="did you mean 'flat'"):
        sd.Choice(lm, "It is {}.", ["up", "low"], scoring="flatt")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"scoring": "gone"}, "scoring 'gone' of an installed package .* plugin_of_another:Gone: AttributeError"),
        ({"scoring": "taken"}, "plugin_of_another:Taken: OptionError: the scoring 'sequence' is that of"),
        ({"coupling": "lost"}, "no_such_module:Lost: ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_what_an_installed_package_has_wrong_is_said_to_who_asks_for_it(asked: dict[str, str], said: str) -> None:
    lm = testing.mock_lm()
    for _ in range(2):
        with pytest.raises(sd.OptionError, match=said):
            sd.Choice(lm, "It is {}.", ["up", "low"], **asked)
    # What is right is found beside it.
    other = {"scoring": "flat"} if "scoring" in asked else {"coupling": "first"}
    assert set(other.values()) & {*map(str, SCORINGS), *map(str, COUPLINGS)}
    sd.Choice(lm, "It is {}.", ["up", "low"], **other)


@pytest.mark.parametrize("base", [Coupling, Scoring])
def test_what_leaves_a_method_out_is_refused_when_it_is_registered(base: type[Registered]) -> None:
    half = type("Half", (base,), {"name": "half"})
    with pytest.raises(sd.OptionError, match="'half' has no "):
        register(half)
    assert "half" not in {*COUPLINGS, *SCORINGS}
