"""Templates and options: the static text of a site, validated when it is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ... import checks
from ...checks import told
from ...errors import GivenError, OptionError, SDSCMError, TemplateError, nearest

BLANK = "{}"


class Template(NamedTuple):
    """Text with one blank.

    Attributes:
        prefix: the text before the blank.
        suffix: the text after it.

    >>> Template.parse("A {}-year-old woman.").fill("55")
    'A 55-year-old woman.'
    """

    prefix: str
    suffix: str

    @classmethod
    def parse(cls, text: str | Template) -> Template:
        """Split a text at its blank.

        Raises:
            TemplateError: the text is not a string or has no blank ``{}`` or several.
        """
        if isinstance(text, Template):
            return text
        if not isinstance(text, str):
            raise TemplateError(f"a template is a string with one blank {BLANK}, got {told(text)}")
        checks.text(text, "a template", TemplateError, empty=True)
        check_static(text, "a template", TemplateError)
        parts = text.split(BLANK)
        if len(parts) != 2:
            raise TemplateError(f"a template has exactly one blank {BLANK}, got {len(parts) - 1} in {text!r}")
        return cls(*parts)

    def fill(self, option: str) -> str:
        """The sentence with ``option`` in the blank."""
        return self.prefix + option + self.suffix

    def __str__(self) -> str:
        return self.fill(BLANK)


# What JAX writes for a value that it traces, such as "JitTracer(int32[])".
_TRACED = re.compile(r"\b[A-Z]\w*Tracer\(|\bTraced<|\bPhrase\(.*: traced\)")


def check_static(text: Any, where: str, error: type[SDSCMError] = GivenError) -> None:
    """Refuse a text that was made from a value which is being traced: it would say the same in every unit.

    Raises:
        GivenError: it was (or the error that is given).
    """
    if isinstance(text, str) and _TRACED.search(text):
        raise error(
            f"{where} was made from a value that differs between units: {text!r}. Texts are static: list the phrase "
            "itself in given=[...], or make the number a phrase with sd.verbalize"
        )


def parse_options(options: Sequence[str], template: Template) -> tuple[str, ...]:
    """Options as a tuple.

    Raises:
        OptionError: there are none, or one is not a string, empty or repeated.
    """
    if isinstance(options, str) or not isinstance(options, Sequence):
        raise OptionError(f"options of {str(template)!r} are a list of strings, got {told(options)}")
    if not len(options):
        raise OptionError(f"{str(template)!r} has no options")
    seen: set[str] = set()
    for i, option in enumerate(options):
        if not isinstance(option, str):
            raise OptionError(f"option {i} of {str(template)!r} is not a string: {told(option)}")
        if not option.strip():
            raise OptionError(f"option {i} of {str(template)!r} is empty: {option!r}")
        checks.text(option, f"option {i} of {str(template)!r}", OptionError)
        check_static(option, f"option {i} of {str(template)!r}", OptionError)
        if option in seen:
            raise OptionError(f"option {option!r} of {str(template)!r} is listed twice")
        seen.add(option)
    return tuple(options)


def option_index(option: str, options: tuple[str, ...], where: str) -> int:
    """Position of an option.

    Args:
        option: its text.
        options: all options.
        where: what the message calls the place, such as ``"site 'pdl1'"``.

    Raises:
        OptionError: no option has that text; the nearest one is named.
    """
    if option not in options:
        raise OptionError(f"{where} has no option {told(option)}; {nearest(option, options)}")
    return options.index(option)
