"""``compare``: one program under several language models, unit by unit with the same noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import one_of
from ..dsl.noise.streams import as_key
from ..errors import SDSCMError, SiteError
from ..models.language_model import LanguageModel
from ..page.forms import Form, Shown, few
from .columns import texts
from .simulate import simulate
from .simulation import Simulation

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Shown):
    """The same units under several language models.

    Attributes:
        simulations: name of a language model -> its simulation; row i is the same unit in each.
    """

    simulations: dict[str, Simulation]

    def _form(self) -> Form:
        first = next(iter(self.simulations.values()))
        sites = [name for name in first.values if all(_single_choice(x, name) for x in self.simulations.values())]
        rows = [
            (f"{a}, {b}", site, float((self._values(a, site, 0) == self._values(b, site, 0)).mean()))
            for a, b in itertools.combinations(self.simulations, 2)
            for site in sites
        ]
        return Form(
            f"Comparison: {len(first) // first.draws:,} units under {len(self.simulations)} language models",
            [("language models", few(self.simulations)), ("worlds", few([w or "factual" for w in first.worlds], 4))],
            ("language models", "site", "units that agree (share)"),
            rows,
        )

    def to_pandas(self, world: str | int = 0) -> pd.DataFrame:
        """One row a unit; for each site a column of every language model, ``(site, language model)``.

        The columns of a choice site are categoricals of the same options: all that it has under some language model.

        Args:
            world: label or number of the world.
        """
        import pandas as pd

        columns: dict[tuple[str, str], object] = {}
        for name, data in self.simulations.items():
            w = data.world(world)
            for site, array in data.values.items():
                if array.ndim == 2 and data.graph[site].options:
                    columns[site, name] = texts(self._numbers(name, site, w), self._options(site))
                elif array.ndim == 2:
                    columns[site, name] = array[:, w]
        sites = list(dict.fromkeys(site for site, _ in columns))
        order = [(site, name) for site in sites for name in self.simulations if (site, name) in columns]
        return pd.DataFrame({key: columns[key] for key in order})

    def agreement(self, site: str, world: str | int = 0) -> pd.DataFrame:
        """Share of units to which two language models give the same option, a symmetric table.

        Options are the same where their texts are, whatever their order.

        Raises:
            SiteError: the site is no choice of all of them.
        """
        import pandas as pd

        values = {name: self._values(name, site, world) for name in self.simulations}
        shares = [[float((a == b).mean()) for b in values.values()] for a in values.values()]
        return pd.DataFrame(shares, index=list(values), columns=list(values))

    def differences(self, site: str, world: str | int = 0) -> pd.DataFrame:
        """How much more often one language model chooses each option than another.

        Columns: ``lm``, ``other``, ``option``; ``difference`` of the shares of units; its ``standard_error`` with the
        noise that both share; ``independent_error``, what it would be had each drawn its own units; and
        ``variance_saved``, the share of the variance that sharing noise saves (negative where it adds some). An option
        that the program does not have under a language model has no share there.

        Raises:
            SiteError: the site is no choice of all of them.
        """
        import pandas as pd

        rows = []
        for other, lm in itertools.combinations(self.simulations, 2):
            a, b = (self._values(name, site, world) for name in (lm, other))
            draws = self.simulations[lm].draws
            for k, option in enumerate(self._options(site)):
                if option not in (*self._own(lm, site), *self._own(other, site)):
                    continue
                # Rows of one unit are one observation.
                own, others = ((x == k).astype(np.float64).reshape(-1, draws).mean(1) for x in (a, b))
                shared = float((own - others).var(ddof=1)) / len(own)
                apart = float(own.var(ddof=1) + others.var(ddof=1)) / len(own)
                rows.append({
                    "lm": lm, "other": other, "option": option, "difference": float((own - others).mean()),
                    "standard_error": np.sqrt(shared), "independent_error": np.sqrt(apart),
                    "variance_saved": 1 - shared / apart if apart > 0 else float("nan"),
                })  # fmt: skip
        return pd.DataFrame(rows)

    def _values(self, name: str, site: str, world: str | int) -> np.ndarray:
        """Numbers of a choice's options among all that it has under some language model."""
        data = self.simulations[name]
        one_of(site, list(data.values), "site", SiteError)
        if not data.graph[site].options or data.values[site].ndim != 2:
            raise SiteError(f"site {site!r} is no single choice; only choices are compared option by option")
        return self._numbers(name, site, data.world(world))

    def _numbers(self, name: str, site: str, world: int) -> np.ndarray:
        # A program may list its options in another order under each language model, or have others.
        places = np.array([self._options(site).index(option) for option in self._own(name, site)], np.int32)
        return places[self.simulations[name].values[site][:, world]]

    def _own(self, name: str, site: str) -> tuple[str, ...]:
        data = self.simulations[name]
        return data.graph[site].options if site in data.values else ()

    def _options(self, site: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(option for name in self.simulations for option in self._own(name, site)))


def _single_choice(data: Simulation, site: str) -> bool:
    return site in data.values and bool(data.graph[site].options) and data.values[site].ndim == 2


def compare(fn: Callable, key: Any, n: int, lms: Mapping[str, LanguageModel], *args: Any, **options: Any) -> Comparison:
    """Run a program under several language models with shared noise.

    The noise of a site is keyed by names and texts, not by the language model, so unit i has the same luck under each:
    where two language models agree on the probabilities, they agree on the unit.

    Args:
        fn: a model function whose first argument is the language model.
        key: PRNG key, or an int seed.
        n: number of units.
        lms: name -> language model, two or more.
        *args: further arguments of the model.
        **options: of ``simulate``: ``worlds``, ``evidence``, ``store``, …

    Raises:
        SDSCMError: fewer than two language models.

    >>> import sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm, temperature=1.0):
    ...     level = sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"], temperature=temperature)
    ...     return sd.sample("pdl1", level)
    >>> found = compare(model, 0, 50, {"one": lm, "again": lm})
    >>> float(found.agreement("pdl1").loc["one", "again"])
    1.0
    """
    if not isinstance(lms, Mapping) or len(lms) < 2:
        raise SDSCMError("compare takes a mapping of two language models or more: {'a': lm_a, 'b': lm_b}")
    for name, lm in lms.items():
        if not isinstance(lm, LanguageModel):
            raise SDSCMError(f"{name!r} is a {type(lm).__name__}, not a LanguageModel; load it with load_lm")
    key = as_key(key)
    return Comparison({name: simulate(fn, key, n, lm, *args, **options) for name, lm in lms.items()})
