"""The order of the house: who may import whom, no circles, no long files, no name that hides a module.

Every import counts, also inside functions, for type checkers, and by a name of the package (``__init__.pyi``). The
same checks are run on made-up packages that break one rule each.
"""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sdscm_jax

from .needs import ROOT as CLONE

ROOT = Path(sdscm_jax.__file__).parent
PACKAGE = ROOT.name

_MODELS = ("errors", "checks", "durable", "vignettes", "models")
_LANGUAGE = (*_MODELS, "terminal", "dsl")
_ENGINE = (*_LANGUAGE, "engine")
_EFFECTS = (*_ENGINE, "effects")
_STUDIES = (*_EFFECTS, "families", "page")
# Room -> the rooms that it may import from. A study knows nothing of another study.
MAY = {
    "errors": (),
    "checks": ("errors",),
    "durable": ("errors",),
    "terminal": (),
    "door": (),
    "catalogue": (),
    "vignettes": (),
    "page": ("errors", "durable", "terminal"),
    "models": ("errors", "checks", "durable", "vignettes", "page"),
    "dsl": ("errors", "checks", "terminal", "models", "page"),
    "engine": ("errors", "checks", "durable", "terminal", "models", "dsl", "page"),
    "handlers": ("dsl",),
    "families": (*_LANGUAGE, "catalogue", "page"),
    "effects": ("errors", "checks", "dsl", "engine", "page"),
    "bench": _STUDIES,
    "audit": (*_STUDIES, "catalogue"),
    # (Of the package's names, its version.)
    "cli": (*_STUDIES, "bench", "audit", "terminal", "catalogue", PACKAGE),
    "testing": (*_STUDIES, "bench", "audit", "cli"),
    "__main__": ("cli",),
    "extend": ("errors", "checks", "dsl"),
    PACKAGE: (*_EFFECTS, "door", "handlers", "extend", "families", "bench", "audit", "testing"),
}
# Rooms within a room: each rests on those before it.
STOREYS = {"dsl": ("noise", "scoring", "language", "handlers", "analysis", "tables", "worlds")}
MOST_LINES = 400
REASON = "Long because"
SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc"}

Sources = Mapping[str, str]


def sources(root: Path) -> dict[str, str]:
    """Name -> source of every module, and what its stub says besides; packages end in ``.__init__``."""
    paths = sorted((*root.rglob("*.py"), *root.rglob("*.pyi")))
    found: dict[str, str] = {}
    for path in paths:
        name = ".".join((root.name, *path.relative_to(root).with_suffix("").parts))
        found[name] = found.get(name, "") + path.read_text()
    return found


def imports(name: str, modules: Sources) -> Iterator[tuple[str, str]]:
    """What a module imports from the package: (module, the name that it is bound to here)."""
    packages = {module.removesuffix(".__init__") for module in modules}
    for node in ast.walk(ast.parse(modules[name])):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    yield alias.name, alias.asname or PACKAGE
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            if source.split(".")[0] == PACKAGE:
                for alias in node.names:
                    inside = f"{source}.{alias.name}"
                    yield inside if inside in packages else source, alias.asname or alias.name


def room(module: str) -> str:
    """The part of the package that a module is in; the package's own ``__init__`` is one, too."""
    parts = module.removesuffix(".__init__").split(".")
    return parts[1] if len(parts) > 1 else PACKAGE


def above(module: str, other: str) -> bool:
    """Is the second module in a room above that of the first? What stands beside the rooms is below all."""
    own, its = (x.split(".") for x in (module, other))
    order = STOREYS.get(own[1] if len(own) > 1 else "", ())
    if len(its) < 3 or its[1] != own[1] or its[2] not in order:
        return False
    return own[2] not in order or order.index(its[2]) > order.index(own[2])


def wrong(modules: Sources) -> list[str]:
    """What breaks the rules."""
    packages = {module.removesuffix(".__init__") for module in modules}
    found, graph = [], {}
    for name, source in modules.items():
        own, module, tree = room(name), name.removesuffix(".__init__"), ast.parse(source)
        taken = list(imports(name, modules))
        graph[module] = {other for other, _ in taken}
        if own not in MAY:
            found.append(f"{name} is in no room that the rules know")
        found += [f"{name} imports {other}" for other, _ in taken if room(other) not in (own, *MAY.get(own, ()))]
        found += [f"{name} imports {other}" for other, _ in taken if len(name.split(".")) > 2 and above(name, other)]
        if name.endswith(".__init__"):
            hidden = [bound for other, bound in taken if f"{module}.{bound}" in packages - {other}]
            found += [f"{bound!r} of {module} hides the module of that name" for bound in hidden]
        if source.count("\n") > MOST_LINES and REASON not in (ast.get_docstring(tree) or ""):
            found.append(f"{name} has {source.count(chr(10))} lines and says no reason")
        if set(module.split(".")) & SAY_NOTHING:
            found.append(f"{name} has a name that says nothing")
        if module == PACKAGE:
            found += [f"{name}, line {node.lineno}: neither an import nor a list of names" for node in _code(tree)]
    found += [
        f"{' and '.join(same)} have one name"
        for same in _homonyms({name for name in modules if not name.endswith(".__init__")})
    ]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"circle: {' -> '.join(error.args[1])}")
    return found


def _homonyms(modules: set[str]) -> list[list[str]]:
    """Files of one name; the two reports have the same plan, and so have rooms with a registry."""
    named: dict[str, list[str]] = {}
    for module in sorted(modules):
        parts = module.split(".")
        if "report" not in parts and parts[-1] not in ("base", "registry"):
            named.setdefault(parts[-1], []).append(module)
    return [same for same in named.values() if len(same) > 1]


def _code(tree: ast.Module) -> list[ast.stmt]:
    """Statements that are more than a docstring, imports and ``__all__`` or ``__version__``."""

    def plain(node: ast.stmt) -> bool:
        if isinstance(node, ast.AnnAssign):
            return isinstance(node.target, ast.Name) and node.target.id == "__version__"
        if isinstance(node, ast.Assign):
            return all(isinstance(t, ast.Name) and t.id in ("__all__", "__version__") for t in node.targets)
        return isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        )

    return [node for node in tree.body if not plain(node)]


def test_the_package_keeps_its_rules() -> None:
    assert wrong(sources(ROOT)) == []


def test_every_room_is_there() -> None:
    assert {room(name) for name in sources(ROOT)} == {*MAY}


SOUND = {
    "__init__": '"""A package."""\n\nfrom .dsl.site import sample\n\n__all__ = ["sample"]\n',
    "errors": "class Wrong(Exception): ...\n",
    "models.__init__": "",
    "models.lm": "from ..errors import Wrong\n",
    "dsl.__init__": "",
    "dsl.site": "from ..models.lm import Wrong\n\n\ndef sample(): ...\n",
    "engine.__init__": "",
    "engine.run": "from ..dsl import site\n",
    "bench.__init__": "from .judge import evaluate\n",
    "bench.judge": "from ..engine.run import site\n\n\ndef evaluate(): ...\n",
    "audit.__init__": "",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"models.lm": "from ..dsl.site import sample\n"}, "models.lm imports sdscm_jax.dsl.site"),
        ({"models.lm": "from .. import engine\n"}, "models.lm imports sdscm_jax.engine"),
        ({"models.lm": "import sdscm_jax.engine.run as run\n"}, "models.lm imports sdscm_jax.engine.run"),
        ({"models.lm": "def late():\n    from ..dsl import site\n"}, "models.lm imports sdscm_jax.dsl.site"),
        (
            {"engine.run": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..bench.judge import x\n"},
            "engine.run imports sdscm_jax.bench.judge",
        ),
        (
            {"dsl.worlds.do": "", "dsl.noise.streams": "def late():\n    from ..worlds.do import x\n"},
            "dsl.noise.streams imports sdscm_jax.dsl.worlds.do",
        ),
        ({"dsl.worlds.do": "from ..noise.streams import x\n", "dsl.noise.streams": ""}, None),
        ({"bench.judge": "from .. import audit\n"}, "bench.judge imports sdscm_jax.audit"),
        ({"audit.run": "import sdscm_jax as sd\n"}, "audit.run imports sdscm_jax"),
        ({"errors": "from .models import lm\n"}, "errors imports sdscm_jax.models.lm"),
        ({"testing.laws": "", "bench.judge": "from ..testing import laws\n"}, "bench.judge imports sdscm_jax.testing"),
        ({"engine.a": "from .b import x\n", "engine.b": "def x():\n    from . import a\n"}, "circle: sdscm_jax.engine"),
        ({"bench.evaluate": ""}, "'evaluate' of sdscm_jax.bench hides"),
        ({"dsl.site": "\n" * 401}, "dsl.site has 401 lines"),
        ({"dsl.site": '"""A table.\n\nLong because it is one.\n"""\n' + "\n" * 401}, None),
        ({"engine.utils": ""}, "engine.utils has a name that says nothing"),
        ({"new.thing": ""}, "new.thing is in no room"),
        ({"engine.judge": ""}, "sdscm_jax.bench.judge and sdscm_jax.engine.judge have one name"),
        ({"bench.report.tables": "", "audit.report.tables": ""}, None),
        ({"__init__": "from .dsl.site import sample\n\nsample()\n"}, "line 3: neither an import"),
    ],
)  # fmt: skip
def test_each_rule_is_checked(change: dict[str, str], said: str | None) -> None:
    found = wrong({f"{PACKAGE}.{name}": source for name, source in (SOUND | change).items()})
    assert (said is None) == (not found), found
    assert said is None or any(said in line for line in found), found


def test_the_picture_is_of_the_package_as_it_is() -> None:
    drawing = runpy.run_path(str(CLONE / "docs" / "draw_architecture.py"))
    assert drawing["PICTURE"].read_text(encoding="utf-8") == drawing["picture"]()
