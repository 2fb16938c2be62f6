"""Files are UTF-8 whatever the locale: no call of the package reads or writes text without saying so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sdscm_jax

ROOT = Path(sdscm_jax.__file__).parent


def silent(source: str) -> Iterator[int]:
    """Lines that open a file as text, or read or write one, and leave the encoding to the locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        method = isinstance(node.func, ast.Attribute)
        if any(keyword.arg in ("encoding", None) for keyword in node.keywords):
            continue
        if name in ("read_text", "write_text", "TextIOWrapper", "NamedTemporaryFile", "TemporaryFile", "run", "Popen"):
            # (Of processes and temporary files those that are asked for text.)
            asked = name in ("read_text", "write_text", "TextIOWrapper") or any(
                keyword.arg in ("text", "universal_newlines") or _is_text_mode(keyword.value)
                for keyword in node.keywords
            )
            if asked:
                yield node.lineno
        elif name in ("open", "fdopen") and not (
            method and isinstance(node.func.value, ast.Name) and node.func.value.id == "os" and name == "open"
        ):
            # A method of ours called "open" has no mode.
            modes = [x for x in (*node.args[:2], *(k.value for k in node.keywords if k.arg == "mode")) if _is_mode(x)]
            text = any(_is_text_mode(mode) for mode in modes)
            if text or (not modes and not method):
                yield node.lineno


def _is_mode(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and 0 < len(node.value) <= 3
        and set(node.value) <= set("rwaxbt+")
    )


def _is_text_mode(node: ast.expr) -> bool:
    return _is_mode(node) and "b" not in node.value  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_of_the_package_says_its_encoding(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    found = [f"{file}:{line}: {source.splitlines()[line - 1].strip()}" for line in silent(source)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("open('file.txt')", True),
        ("open('file.txt', 'w')", True),
        ("open('file.txt', 'rb')", False),
        ("open('file.txt', mode='w')", True),
        ("open('file.txt', encoding='utf-8')", False),
        ("path.open('w', newline='')", True),
        ("path.open('rb')", False),
        ("Parts.open(out, manifest, 3)", False),
        ("os.open(path, flags)", False),
        ("os.fdopen(number, 'r+b')", False),
        ("path.read_text()", True),
        ("path.write_text(x, encoding='utf-8')", False),
        ("subprocess.run(command, text=True)", True),
        ("runner.run(command)", False),
    ],
)
def test_what_is_looked_for_is_found(source: str, wrong: bool) -> None:
    assert bool(list(silent(source))) == wrong
