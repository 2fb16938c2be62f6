"""The pages on families: their programs run, and their table is that of the benchmark."""

from __future__ import annotations

import importlib.util
import io
import json
import re
from contextlib import redirect_stdout
from typing import Any

import pytest

from ..needs import ROOT
from ..printed import differing
from .family_models import MODELS, WAYS
from .test_families import FLOAT32

# As far off as models without experts are, at most.
BFLOAT16 = 0.05


@pytest.mark.parametrize("page", ["add-a-family.md", "parity.md"])
def test_pages_run(page: str) -> None:
    """Programs print what the page says, and excerpts stand in the files that they are taken from."""
    text = (ROOT / "docs" / page).read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(block, page, "exec"), names)
        expected = [line.removeprefix("# ") for line in block.splitlines() if line.startswith("# ")]
        assert differing(printed.getvalue().splitlines(), expected) == [], block
    files = ("sdscm_jax/models/families.py", "sdscm_jax/models/tensors.py", "tests/models/family_models.py")
    sources = [(ROOT / file).read_text() for file in files]
    for excerpt in re.findall(r"```text\n(.*?)```", text, re.DOTALL):
        assert any(excerpt in source for source in sources), excerpt


def test_table_is_that_of_the_results() -> None:
    """Every family is in it; float32 agrees to the tolerance, bfloat16 about as well as PyTorch's own."""
    spec = importlib.util.spec_from_file_location("parity", ROOT / "benchmarks" / "parity.py")
    assert spec is not None
    assert spec.loader is not None
    parity = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parity)
    report = json.loads((ROOT / "benchmarks" / "results" / "parity.json").read_text())
    page = (ROOT / "docs" / "parity.md").read_text()
    assert "\n".join(parity.tables(report)) in page
    assert "\n".join(parity.experts_table(report)) in page
    assert list(report["families"]) == list(MODELS)
    for found in report["families"].values():
        assert max(found["float32"].values()) < FLOAT32
        if experts := found.get("experts"):
            # With the choices fixed; a token that goes to another expert is somewhere else (docs/parity.md).
            assert experts["unparted"] < BFLOAT16
            assert experts["differ"] <= 0.02 * experts["choices"]
        else:
            assert max(found["bfloat16"][way] for way in WAYS) < 2 * found["bfloat16"]["torch"]
