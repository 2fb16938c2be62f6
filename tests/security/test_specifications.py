"""A family or an audit that came with something in it is data: one error, or a family; nothing runs, nothing hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from .harness import outcomes
from .specifications import specifications
from .test_checkpoints import check

# Read as they are: what is odd about them is only text.
HARMLESS = ("format strings.json", "control characters.json")


@pytest.mark.search
def test_many_malicious_specifications(tmp_path: Path) -> None:
    cases = specifications()
    assert len(cases) == 53
    paths = [tmp_path / name for name in cases]
    for path, content in zip(paths, cases.values(), strict=True):
        path.write_bytes(content)
    found = outcomes("family", [path for path in paths if path.suffix != ".yaml"], tmp_path)
    audits = tmp_path / "audits"
    audits.mkdir()
    found |= outcomes("audit", [path for path in paths if path.suffix == ".yaml"], audits)
    assert set(found) == set(paths)
    check(found, tmp_path)
    said = {path.name: told.said for path, told in found.items()}
    for name in HARMLESS:
        assert said[name] == "accepted"
    kinds = {name: told.partition(":")[0] for name, told in said.items() if told != "accepted"}
    assert set(kinds.values()) <= {"FamilyError", "AuditError", "TemplateError", "OptionError", "SDSCMError"}
    for name in said:
        if name.endswith(("toml", "yaml")) or name.startswith(("deep", "Python", "a pickle", "a key", "NaN")):
            assert name in kinds, f"{name} was accepted"
