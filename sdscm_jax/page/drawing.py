"""Matplotlib figures as SVG that can stand in a page: themed by the page's CSS, the same bytes every time."""

from __future__ import annotations

import io
import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

from ..terminal import shown as plain

# Each colour is drawn as itself and replaced by a variable of the page's style, so that figures follow its theme.
INK = "#1b1f24"
MUTED = "#6b7381"
GRID = "#d9dde3"
PAPER = "#fffffe"
COVERED = "#7d93ab"
MISSED = "#d45d00"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b0568f")
_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", COVERED: "covered", MISSED: "missed",
    **{colour: f"series-{i}" for i, colour in enumerate(SERIES)},
}  # fmt: skip

# Natural widths in inches: of a panel that fills a phone, and of one of many that stand two abreast on it.
WIDE, SMALL = 4.6, 2.25

_STYLE = {
    "axes.axisbelow": True, "axes.edgecolor": MUTED, "axes.facecolor": "none", "axes.grid": True,
    "axes.labelcolor": INK, "axes.labelsize": 9.5, "axes.linewidth": 0.7, "axes.spines.right": False,
    "axes.spines.top": False, "axes.unicode_minus": True, "figure.facecolor": "none", "font.family": "DejaVu Sans",
    "font.size": 9.5, "grid.color": GRID, "grid.linewidth": 0.6, "hatch.color": INK, "path.simplify": False,
    "savefig.facecolor": "none", "svg.fonttype": "path", "svg.hashsalt": "sdscm-jax", "text.color": INK,
    "text.parse_math": False, "xtick.color": MUTED, "xtick.labelcolor": INK, "xtick.labelsize": 9,
    "ytick.color": MUTED, "ytick.labelcolor": INK, "ytick.labelsize": 9,
}  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One picture of a figure.

    Attributes:
        svg: as Matplotlib writes it; see ``Pictures``.
        label: what a reader who cannot see it is told.
        title: printed above it; may be empty.
    """

    svg: str
    label: str
    title: str = ""


@contextmanager
def figure_style() -> Iterator[None]:
    """The look of the report's figures, whatever the user's own Matplotlib settings are; these come back after it."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_axes(
    width: float, height: float, *, left: float, bottom: float = 0.5, right: float = 0.1, top: float = 0.1
) -> Any:
    """Axes of a new figure; sizes and margins are inches. Must run within ``figure_style``."""
    from .picture import Picture

    figure = Picture(figsize=(width, height))
    return figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    )


def log_axis(axes: Any, low: float, high: float) -> None:
    """Make the x axis logarithmic; a short one has ticks at 2 and 5 that are named, too."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    named = ("1", "2", "5") if high < 30 * low else ("1",)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in named else "")
    axes.tick_params(axis="x", which="minor", labelsize=9)


def to_svg(figure: Any) -> str:
    """A figure's SVG: text as outlines, no date, colours as CSS variables. Must run within ``figure_style``."""
    target = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; tables and captions have it in full.
        warnings.filterwarnings("ignore", message=".*Glyph.*missing")
        figure.savefig(target, format="svg", metadata=nothing)
    return _themed(target.getvalue())


def _themed(svg: str) -> str:
    def variable(match: re.Match[str]) -> str:
        name = _VARIABLES.get(match[0].lower())
        return f"var(--{name}, {match[0]})" if name else match[0]

    def rounded(match: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), match[0])

    svg = re.sub(r'(?<= style=")[^"]*', lambda style: re.sub(r"#[0-9a-fA-F]{6}", variable, style[0]), svg)
    return re.sub(r'(?<= d=")[^"]*', rounded, svg)


@dataclass
class Pictures:
    """Makes figures fit to stand together in one page.

    Every identifier gets a prefix of its own, and every ``style`` becomes a class: the page's policy lets no element
    have a style of its own. What is shown is what ``panel`` drew, never a file.
    """

    _count: Iterator[int] = field(default_factory=itertools.count)
    _classes: dict[str, str] = field(default_factory=dict)

    @property
    def css(self) -> str:
        """Rules of the classes so far."""
        return "".join(f".{name} {{ {style} }}\n" for style, name in self._classes.items())

    @property
    def styles(self) -> Mapping[str, str]:
        """The class of each style so far."""
        return self._classes

    def __call__(self, shown: Panel) -> str:
        """The picture as an ``<svg>`` element."""
        # Comments first: names of variables and data sets stand in them, and nowhere else.
        text = re.sub(r"<!--.*?-->", "", shown.svg, flags=re.DOTALL)
        text = text[text.index("<svg") : text.rindex("</svg>") + len("</svg>")]
        text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
        text = re.sub(r"<defs>\s*</defs>", "", text)
        text = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", text).replace("xlink:href=", "href=")
        prefix = f"f{next(self._count)}-"
        text = re.sub(r'(\sid=")', rf"\g<1>{prefix}", text)
        text = re.sub(r'(\shref="#|url\(#)', rf"\g<1>{prefix}", text)
        text = re.sub(r'(?<=\s)style="([^"]*)"', lambda style: f'class="{self._class(style[1])}"', text)
        opening, rest = text.split(">", 1)
        opening = re.sub(r'\s(?:width|height)="[^"]*"', "", opening)
        opening = opening.replace("<svg", f'<svg role="img" aria-label="{escape(plain(shown.label))}"', 1)
        return opening + ">" + re.sub(r">\s+<", "><", rest)

    def _class(self, style: str) -> str:
        return self._classes.setdefault(style.strip().rstrip(";"), f"c{len(self._classes)}")


def panel(draw: Callable[[], Any], label: str, title: str = "") -> Panel:
    """The picture that ``draw`` makes; it returns the axes that it drew."""
    with figure_style():
        figure = draw().figure
        make_legible(figure)
        return Panel(to_svg(figure), label, title)


def make_legible(figure: Any) -> None:
    """Fewer numbers at an axis where they would touch, and wider margins where something would be cut off."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.ticker import ScalarFormatter

    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        plain_numbers = isinstance(axes.xaxis.get_major_formatter(), ScalarFormatter)
        for most in (5, 4, 3, 2) if plain_numbers and axes.get_xscale() == "linear" else ():
            boxes = tick_boxes(axes, renderer)
            # A space's width between two.
            if all(b.x0 - a.x1 > 4 for a, b in itertools.pairwise(boxes)):
                break
            axes.locator_params(axis="x", nbins=most)
    width, height = figure.get_size_inches()
    seen = figure.get_tightbbox(renderer)
    left, right = max(0.0, 0.02 - seen.x0) / width, max(0.0, seen.x1 - width + 0.02) / width
    bottom, top = max(0.0, 0.02 - seen.y0) / height, max(0.0, seen.y1 - height + 0.02) / height
    if max(left, right, bottom, top) > 0:
        for axes in figure.axes:
            x, y, wide, high = axes.get_position().bounds
            axes.set_position((x + left, y + bottom, wide - left - right, high - bottom - top))


def tick_boxes(axes: Any, renderer: Any) -> list[Any]:
    """Where the numbers at the x axis stand, from left to right, in dots."""
    axes.xaxis.get_tightbbox(renderer)  # Puts them there.
    low, high = sorted(axes.get_xlim())
    seen = [t.label1 for t in axes.xaxis.get_major_ticks() if low <= t.get_loc() <= high and t.label1.get_text()]
    return sorted((label.get_window_extent(renderer) for label in seen), key=lambda box: box.x0)


def short(name: str, most: int = 22) -> str:
    """A name that fits beside an axis.

    >>> short("causal_forest_dml_with_many_trees")
    'causal_forest_dml_wit…'
    """
    return name if len(name) <= most else name[: most - 1] + "…"


def margin(names: list[str]) -> float:
    """Inches that names beside an axis need."""
    return 0.2 + 0.079 * max((len(short(name)) for name in names), default=0)
