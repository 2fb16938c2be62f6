"""The files of an audit: its report, for people, and its tables, for programs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ..checks import as_path, instance
from ..durable import make_directory
from ..errors import AuditError
from .report.markdown import write_markdown
from .report.page import write_report
from .result import AuditResult

TABLES = ("lms", "cells", "effects", "differences", "variance", "scorings", "couplings", "asked", "chats", "truth")


def write_audit(directory: str | Path, result: AuditResult) -> None:
    """Write ``report.html``, ``report.md``, ``spec.yaml``, and each table of the result as CSV.

    Args:
        directory: made if it is not there; files of an earlier audit in it are replaced.
        result: of ``audit``.
    """
    instance(result, AuditResult, "result", AuditError)
    directory = as_path(directory, "the directory", AuditError)
    make_directory(directory)
    write_report(directory / "report.html", result)
    write_markdown(directory / "report.md", result)
    (directory / "spec.yaml").write_text(result.spec.to_yaml(), encoding="utf-8")
    for name in TABLES:
        table = getattr(result, name)
        path = directory / f"{name}.csv"
        if isinstance(table, pd.DataFrame):
            table.to_csv(path, index=False, lineterminator="\n")
        else:
            path.unlink(missing_ok=True)
