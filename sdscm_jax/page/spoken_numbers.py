"""Numbers as people read them."""

from __future__ import annotations

import math
import re
from numbers import Integral, Real
from typing import Any


def fixed(value: float, digits: int = 3) -> str:
    """A number with so many digits behind the point; what rounds to 0 has no sign.

    >>> fixed(0.12345), fixed(-1e-9), fixed(-0.5, 1), fixed(float("nan"))
    ('0.123', '0.000', '-0.5', 'nan')
    """
    # Rounded first: nothing else may tell on which side of 0 something was that is as good as 0.
    return f"{round(float(value), digits) + 0.0:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """The same with its sign, for changes.

    >>> signed(0.12345), signed(-1e-9), signed(-0.08)
    ('+0.123', '+0.000', '-0.080')
    """
    return f"{round(float(value), digits) + 0.0:+.{digits}f}"


def number(value: Any, digits: int = 3) -> str:
    """A few digits, for people; less than 1e-12 is rounding.

    >>> [number(v) for v in (0.12345, -1234.5, 7, 2e-7, float("nan"), float("inf"), True)]
    ['0.123', '−1,234', '7', '2.0e−7', '–', '∞', 'yes']
    """
    # (By its name: who asks for help loads no NumPy.)
    if type(value).__name__ in ("bool", "bool_"):
        return "yes" if value else "no"
    if value is None or not isinstance(value, Real) or isinstance(value, Integral):
        missing = value is None or str(value) == "<NA>"
        return "–" if missing else f"{int(value):,}".replace("-", "−") if isinstance(value, Integral) else str(value)
    size = abs(float(value))
    if math.isnan(size):
        return "–"
    if math.isinf(size):
        text = "∞"
    elif size < 1e-12:
        return "0"
    elif 1e-3 <= size < 10**digits:
        text = f"{size:.{digits}g}"
        # 999.7 rounds to 1e+03.
        text = f"{size:,.0f}" if "e" in text else text
    elif 1 <= size < 1e6:
        text = f"{size:,.0f}"
    else:
        text = re.sub(r"e\+?(-?)0*", lambda m: "e" + m[1].replace("-", "−"), f"{size:.{digits - 2}e}")
    return f"−{text}" if float(value) < 0 else text
