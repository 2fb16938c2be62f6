"""The ``couple`` handler: how worlds share noise, for a whole model or some of its sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...checks import function, items, takes, text, told
from ...errors import OptionError, SiteError, nearest
from ..language.mechanism import with_mechanism
from ..language.messages import mechanism_at, noted
from ..noise.couplings.registry import parse_coupling
from .site_messenger import SiteMessenger


class couple(SiteMessenger):
    """Set the coupling of a model's language model sites.

    Args:
        fn: the model function.
        coupling: ``"gumbel"``, ``"independent"``, ``"maximal"``, ``"hindsight(share)"``, or of choices only
            ``"inverse_cdf"``; see ``Choice`` and ``docs/counterfactuals.md``.
        sites: names of the sites; None: all that can have it. The innermost ``couple`` around a site is applied
            first, so an outer one that names it holds.

    Raises:
        OptionError: the coupling is unknown, or a named site cannot have it.
        SiteError: a name is no site of a language model.

    >>> import jax, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     return sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    >>> monotone = sd.handlers.couple(model, "inverse_cdf")
    >>> sd.handlers.exogenous(monotone, jax.random.key(0))(lm).text in ("low", "high")
    True
    """

    def __init__(self, fn: Callable | None = None, coupling: str = "gumbel", sites: Sequence[str] | None = None):
        fn = None if fn is None else function(fn, "the model of couple")
        self.coupling = parse_coupling(coupling, "couple")
        for name in sites if isinstance(sites, list | tuple) else ():
            text(name, "a site of couple", SiteError)
        self.sites = None if sites is None else items(sites, "the sites of couple", SiteError, single=str)
        self._seen: set[str] = set()
        self._outer = True
        super().__init__(fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fn is not None:
            takes(self.fn, args, kwargs)
        return super().__call__(*args, **kwargs)

    def __enter__(self) -> couple:
        self._seen = set()
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        unknown = [name for name in self.sites or () if name not in self._seen]
        if unknown and self._outer and exception[0] is None:
            raise SiteError(
                f"couple: {told(unknown[0])} is no site of a language model; {nearest(unknown[0], sorted(self._seen))}"
            )

    def _process(self, msg: dict[str, Any]) -> None:
        noise_of = noted(msg).noise_of
        shares_gumbels = self.coupling.gumbels and not self.coupling.redraws
        if noise_of and not shares_gumbels and (self.sites is None or noise_of in self.sites):
            raise OptionError(f"site {msg['name']!r} is the Gumbel noise of a choice: it has no other coupling")
        if (mechanism := mechanism_at(msg)) is None:
            return
        self._seen.add(msg["name"])
        if self.sites is not None and msg["name"] not in self.sites:
            return
        if not mechanism._may_have(self.coupling):
            if self.sites is None:
                return
            raise OptionError(
                f"site {msg['name']!r} has no coupling {self.coupling!r}; {nearest('', mechanism.couplings)}"
            )
        msg["fn"] = with_mechanism(msg["fn"], lambda m: m.replace(coupling=self.coupling))

    @contextmanager
    def _inside(self, step: tuple[Any, int] | None) -> Iterator[None]:
        inner = couple(coupling=self.coupling, sites=self.sites)
        inner._outer = False
        with inner:
            yield
        self._seen |= inner._seen
