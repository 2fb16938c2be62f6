"""``Laws``: a class of tests for a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from unittest import SkipTest

from ..errors import EffectError, EvidenceError, SiteError
from .abduction_laws import check_abduction
from .distributions import check_interventional
from .execution import check_execution, check_independence
from .option_laws import check_options
from .world_laws import CheckedWorlds, consistent, effective, levels, stable, unreached


class Laws:
    """Tests of a program, for pytest: derive a class whose name begins with ``Test``.

    A law that does not apply to the program (such as one about choices, where there are none) is skipped.

    Attributes:
        model: the program; a ``staticmethod``, so that it is no method.
        args: its arguments, the language model among them. A language model that takes long to load may come
            from a fixture: set ``self.args`` in one with ``autouse=True``.
        key: PRNG key or seed.
        units: how many units the laws are checked on.
        counted: how many units are counted where frequencies are compared.

    >>> import sdscm_jax as sd
    >>> from sdscm_jax import testing
    >>> def model(lm):
    ...     sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    >>> class TestModel(testing.Laws):
    ...     model = staticmethod(model)
    ...     args = (testing.mock_lm(model),)
    >>> TestModel().test_consistency()
    """

    model: ClassVar[Callable]
    args: tuple = ()
    key: Any = 0
    units: int = 32
    counted: int = 2000

    def test_consistency(self) -> None:
        """Law 1: a site that is set to its factual value changes nothing."""
        _looked(consistent(self._worlds()), "no site may be set, or none was set to its factual value")

    def test_effectiveness(self) -> None:
        """Law 2: a site that is set has the value that it was set to."""
        _looked(effective(self._worlds()), "no site may be set")

    def test_non_descendants(self) -> None:
        """Law 3: what an intervention does not reach is equal in all worlds."""
        _looked(unreached(self._worlds()), "every intervention reaches every other site")

    def test_interventional_distribution(self) -> None:
        """Law 4: a counterfactual world, averaged over units, is the interventional distribution."""
        try:
            check_interventional(self.model, self.key, *self.args, units=self.counted)
        except (EffectError, SiteError) as error:
            raise SkipTest(f"no exact distribution: {error}") from error

    def test_abduction(self) -> None:
        """Law 5: noise that was drawn given evidence replays it."""
        try:
            check_abduction(self.model, self.key, *self.args, units=self.units)
        except EvidenceError as error:
            raise SkipTest(f"nothing can be observed: {error}") from error

    def test_stability(self) -> None:
        """Law 6: an option whose odds fall against no other stays."""
        _looked(stable(self._worlds()), "no intervention reaches a choice with Gumbel noise")

    def test_options(self) -> None:
        """Law 7b: neither the order of options nor one that does not win changes what is chosen."""
        _looked(check_options(self.model, self.key, *self.args, units=self.units), "no choice has Gumbel noise")

    def test_execution(self) -> None:
        """Law 7: staged, in graph and tabulated, values are the same."""
        check_execution(self.model, self.key, *self.args, units=min(self.units, 16))

    def test_independence(self) -> None:
        """Law 7: a unit does not depend on what runs with it."""
        check_independence(self.model, self.key, *self.args, units=min(self.units, 18))

    def _worlds(self) -> CheckedWorlds:
        """Units in the worlds of ``levels``, simulated once for the tests of a class."""
        kept = type(self).__dict__.get("_kept")
        # The arguments are kept too, so that no other object takes an identity.
        of = (*self.args, self.model, self.key, self.units)
        if kept is None or len(kept[0]) != len(of) or not all(a is b for a, b in zip(kept[0], of, strict=True)):
            kept = of, levels(self.model, self.key, *self.args, units=self.units)
            type(self)._kept = kept  # type: ignore[attr-defined]
        return kept[1]


def _looked(count: int, otherwise: str) -> None:
    if not count:
        raise SkipTest(otherwise)
