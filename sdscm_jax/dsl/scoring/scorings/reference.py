"""``"reference"``: what the published code of the paper computes."""

from __future__ import annotations

from ....models.codec import Tokens
from ....models.language_model import LanguageModel
from ....models.options import OptionTokens
from ..option_tree import OptionTree, bag_tree
from ..template import Template
from .base import OfEdges


class Reference(OfEdges):
    """The mean over an option's tokens of their log-probability in the one distribution *after* the option.

    Prefix and option are encoded apart, with a space before every text, the first one too, and BOS before each where
    the tokenizer has it (research/paper_and_reference.md, section 2).
    """

    name = "reference"
    says = "as in the code of the paper on SD-SCMs"
    mean = True
    leading_space = True
    in_chat = False

    def tokens(self, lm: LanguageModel, template: Template, options: tuple[str, ...], first: bool) -> OptionTokens:
        """The reference's tokens."""
        codec = lm.codec
        encode = (lambda text: codec.encode(" " + text)) if first else codec.encode_after
        return OptionTokens(
            shared=encode(template.prefix),
            rows=tuple((*codec.begin, *codec.encode(option)) for option in options),
            sentences=tuple(encode(template.fill(option)) for option in options),
            needs_start=False,
        )

    def tree(self, rows: tuple[Tokens, ...]) -> OptionTree:
        """An option's tokens as a bag."""
        return bag_tree(rows)
