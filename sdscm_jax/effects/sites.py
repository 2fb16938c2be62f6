"""What every source of effects knows of a model's sites."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ..checks import told
from ..dsl.language.phrase import option_numbers
from ..errors import InterventionError, OptionError
from .counterfactual_graph import Copies


class Sites(ABC):
    """Sites by name, with what follows from their names, parents and options."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Sites in program order."""

    @abstractmethod
    def parents(self, site: str) -> tuple[str, ...]:
        """Parents of a site."""

    @abstractmethod
    def options(self, site: str) -> tuple[str, ...]:
        """Texts of a site's options; none, where it is no choice."""

    def copies(self) -> Copies:
        """An empty set of versions of this model's sites."""
        return Copies(self.names, {name: self.parents(name) for name in self.names}, self.number)

    def number(self, site: str, value: Any) -> int:
        """The number of an option.

        Raises:
            InterventionError: the site has no such option.
        """
        try:
            found = option_numbers(value, self.options(site), f"site {site!r}")
            if np.ndim(found):
                raise OptionError(f"site {site!r}: one option is needed, got {told(value)}")
            return int(found)
        except OptionError as error:
            raise InterventionError(str(error)) from error
