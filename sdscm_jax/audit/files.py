"""The files of an audit: its report, for people, and its tables, for programs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ..checks import as_path, instance
from ..durable import put, writing
from ..errors import AuditError
from ..page.spreadsheet import without_formulas
from .report.markdown import write_markdown
from .report.page import write_report
from .result import AuditResult

TABLES = (
    "lms",
    "design",
    "cells",
    "effects",
    "differences",
    "variance",
    "scorings",
    "couplings",
    "asked",
    "chats",
    "truth",
)


def write_audit(directory: str | Path, result: AuditResult) -> None:
    """Write ``report.html``, ``report.md``, ``spec.yaml``, and each table of the result as CSV.

    A text in a CSV file that a spreadsheet would take for a formula has an apostrophe before it.

    Args:
        directory: made if it is not there; files of an earlier audit in it are replaced.
        result: of ``audit``.

    Raises:
        SDSCMError: a file cannot be written; those that are there are whole.
    """
    instance(result, AuditResult, "result", AuditError)
    directory = as_path(directory, "the directory", AuditError)
    with writing(directory):
        write_report(directory / "report.html", result)
        write_markdown(directory / "report.md", result)
        put(directory / "spec.yaml", result.spec.to_yaml().encode())
        for name in TABLES:
            table = getattr(result, name)
            path = directory / f"{name}.csv"
            if isinstance(table, pd.DataFrame):
                put(path, without_formulas(table).to_csv(index=False, lineterminator="\n").encode())
            else:
                path.unlink(missing_ok=True)
