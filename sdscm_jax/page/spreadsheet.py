"""Tables that people open in a spreadsheet, which runs a text that begins like a formula."""

from __future__ import annotations

from typing import Any

import pandas as pd

_BEGINNINGS = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before every text, and name of a column, that a spreadsheet would compute.

    Numbers are as they were, also where they are written as texts. A carriage return, which would begin a row of its
    own, is a line end.

    >>> without_formulas(pd.DataFrame({"=A1": ["=1+1", "-5", "no"], "b": [-1, 2, 3]})).to_csv(index=False)
    "'=A1,b\\n'=1+1,-1\\n-5,2\\nno,3\\n"
    """
    found = table.rename(columns=_told)
    for i, kind in enumerate(found.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            found.isetitem(i, found.iloc[:, i].astype(object).map(_told).to_numpy())
    return found


def _told(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    if not value.startswith(_BEGINNINGS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
