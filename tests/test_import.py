"""What ``import sdscm_jax`` and the command line load, and what a user sees of the package.

Each question is asked of a fresh interpreter, since what is loaded here came with the tests.
"""

from __future__ import annotations

import ast
import inspect
import pickle
import subprocess
import sys
from importlib.metadata import version

import numpyro.distributions as dist
import pytest

import sdscm_jax as sd

from .needs import ROOT

# The package itself is a list of names; each is loaded when it is first used.
NOT_BY_THE_PACKAGE = ("jax", "numpy", "flax", "numpyro", "typer", "rich", "sdscm_jax.dsl", "sdscm_jax.bench")
# Libraries that only some calls need are loaded by these, not by the names themselves.
NOT_BY_ITS_NAMES = (
    "transformers",
    "torch",
    "pandas",
    "networkx",
    "matplotlib",
    "scipy.stats",
    "scipy.optimize",
    "huggingface_hub",
    "sdscm_jax.bench",
    "sdscm_jax.audit",
)
NOT_BY_HELP = ("jax", "numpy", "pandas", "numpyro", "transformers", "sdscm_jax.audit", "sdscm_jax.families")
ROOMS = ("audit", "bench", "effects", "errors", "extend", "families", "handlers", "testing", "vignettes")


def fresh(code: str, *arguments: str) -> str:
    """What a new interpreter prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout.strip()


def loaded(names: tuple[str, ...], code: str, *arguments: str) -> str:
    """Which of these are loaded when some code has run."""
    return fresh(
        f"import atexit, sys\natexit.register(lambda: print([x for x in {names!r} if x in sys.modules]))\n{code}",
        *arguments,
    ).splitlines()[-1]


def test_the_package_loads_what_is_used_when_it_is_used() -> None:
    assert loaded(NOT_BY_THE_PACKAGE, "import sdscm_jax") == "[]"


def test_libraries_are_loaded_where_they_are_used() -> None:
    names = [name for name in sd.__all__ if name not in ROOMS]
    assert loaded(NOT_BY_ITS_NAMES, f"import sdscm_jax as sd\nfor name in {names!r}: getattr(sd, name)") == "[]"


@pytest.mark.parametrize("arguments", ["--help", "--version", "audit --help", "generate --help", "models --help"])
def test_help_loads_no_jax(arguments: str) -> None:
    assert loaded(NOT_BY_HELP, "from sdscm_jax.cli import app; app(prog_name='sdscm')", *arguments.split()) == "[]"


def test_the_command_line_is_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sdscm_jax", "--version"], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout == f"sdscm {sd.__version__}\n"


def test_the_version_is_that_of_what_is_installed() -> None:
    assert sd.__version__ == version("sdscm-jax")


def test_everything_is_behind_the_one_door() -> None:
    """Rooms are loaded when they are named, a star takes all, and what a user is offered is what is public."""
    code = (
        "import sdscm_jax as sd\n"
        "rooms = sd.bench.generate, sd.audit.audit, sd.families.family, sd.effects.ate, sd.testing.mock_lm\n"
        "print(*(x.__name__ for x in (*rooms, sd.errors.DataError, sd.handlers.do)), sd.vignettes.oncology.outcome)\n"
        "print(dir(sd) == sorted([*sd.__all__, '__version__']))\n"
        "from sdscm_jax import *\nprint([name for name in sd.__all__ if globals()[name] is not getattr(sd, name)])"
    )
    names = f"generate audit family ate mock_lm DataError do {sd.vignettes.oncology.outcome}"
    assert fresh(code).splitlines() == [names, "True", "[]"]


def test_handlers_are_a_module() -> None:
    code = "from sdscm_jax.handlers import do\nimport sdscm_jax as sd\nprint(sd.handlers.do is do)"
    assert fresh(code) == "True"


def test_what_was_imported_from_its_former_place_is_found_and_said_to_have_moved() -> None:
    code = (
        "import warnings\nwith warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n"
        "    from sdscm_jax.dsl.handlers import do\n    from sdscm_jax.dsl.phrase import Phrase\n"
        "    from sdscm_jax.dsl.noise import uniforms\n"
        "import sdscm_jax as sd\nfrom sdscm_jax.dsl.language.phrase import Phrase as Now\n"
        "print(do is sd.handlers.do, Phrase is Now is sd.Phrase)\n"
        "print(*sorted({str(w.message) for w in said if w.category is DeprecationWarning}), sep='\\n')"
    )
    assert fresh(code).splitlines() == [
        "True True",
        "sdscm_jax.dsl.handlers.do is now sdscm_jax.handlers.do",
        "sdscm_jax.dsl.noise.uniforms is now sdscm_jax.dsl.noise.streams.uniforms",
        "sdscm_jax.dsl.phrase is now sdscm_jax.dsl.language.phrase",
    ]


@pytest.mark.parametrize("site", [sd.Choice, sd.Text])
def test_sites_offer_what_a_user_writes(site: type) -> None:
    numpyros = dir(dist.CategoricalLogits)
    made = site(sd.testing.mock_lm(), "It is {}.", **({"options": ["low"]} if site is sd.Choice else {"max_tokens": 2}))
    for offered in (dir(site), dir(made)):
        ours = {name for name in offered if not name.startswith("_")} - {*numpyros}
        assert "given" in ours
        assert ours <= {*inspect.signature(site).parameters}
    assert {"lm", "template", "temperature"} <= {*dir(made)}


def test_a_name_that_is_none_has_its_nearest() -> None:
    code = "import sdscm_jax as sd\nsd.simulat"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "AttributeError: module 'sdscm_jax' has no attribute 'simulat'. Did you mean: 'simulate'?" in done.stderr
    with pytest.raises(ImportError, match="cannot import name 'simulat'"):
        exec("from sdscm_jax import simulat")


def test_what_is_pickled_comes_back_in_a_process_that_has_loaded_nothing() -> None:
    code = "import pickle, sys\nprint(pickle.loads(bytes.fromhex(sys.argv[1])).__name__)"
    assert fresh(code, pickle.dumps(sd.Choice).hex()) == "Choice"


# -- guides ------------------------------------------------------------------------------------------

PUBLIC = {"sdscm_jax", *(f"sdscm_jax.{room}" for room in ROOMS)}
# Pages for those who change the package, whose subject are its own files.
FOR_CONTRIBUTORS = {"add-a-family.md", "extend.md"}


def imported(text: str) -> set[str]:
    """The modules of the package that code imports, or that are named as if it did."""
    found = set()
    for line in text.splitlines():
        # Lines of pages are prose, prompts and code alike: what parses as an import is one.
        line = line.strip().removeprefix(">>> ").removeprefix("... ")
        if not line.startswith(("import sdscm_jax", "from sdscm_jax")):
            continue
        try:
            (node,) = ast.parse(line if not line.endswith("(") else f"{line}x)").body
        except (SyntaxError, ValueError):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "sdscm_jax"}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "sdscm_jax":
                found |= {f"sdscm_jax.{alias.name}" for alias in node.names if alias.name not in (*sd.__all__, "x")}
    return found


def guides() -> list[str]:
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.py"), ROOT / "README.md"]
    return sorted(str(page.relative_to(ROOT)) for page in pages if page.name not in FOR_CONTRIBUTORS)


@pytest.mark.parametrize("page", guides())
def test_guides_import_what_is_public(page: str) -> None:
    assert imported((ROOT / page).read_text()) <= PUBLIC


def test_private_imports_of_a_page_are_found() -> None:
    text = (
        "Say\n\n    from sdscm_jax.models.chat import Chat\n>>> from sdscm_jax import dsl, Text\nimport sdscm_jax.page"
    )
    assert imported(text) - PUBLIC == {"sdscm_jax.models.chat", "sdscm_jax.dsl", "sdscm_jax.page"}
