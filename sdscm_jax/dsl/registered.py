"""Names of an open set, each of which is the thing that it names; and the registry that finds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from ..checks import one_of, told
from ..errors import OptionError, SDSCMError


class Registered(str):
    """One thing of an open set. It equals, hashes as, prints as and is kept as its name, whose ``str`` it is.

    So what holds one (the static part of a ``Choice``, a manifest, a column of a table) holds a text, and whoever has
    to know what the text stands for asks the object.

    Attributes:
        name: how users spell it.
        says: what it is, in a few words, for tables and reports.
        takes: what stands in brackets behind the name, of a class that has one thing for each number ("share":
            ``name(0.5)``); else nothing. Registries list no such thing, and know its class.
    """

    name: ClassVar[str]
    says: ClassVar[str] = ""
    takes: ClassVar[str] = ""

    def __new__(cls, *_: Any) -> Self:
        return super().__new__(cls, cls.name)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    @classmethod
    def of(cls, number: str, where: str, error: type[SDSCMError]) -> Self:
        """Of a class that takes one: the thing of the number that stands in the brackets.

        Raises:
            SDSCMError: it is no such number; ``where`` begins the message.
        """
        raise NotImplementedError(f"{cls.__name__} takes nothing")


T = TypeVar("T", bound=Registered)


class Registry(Sequence[T], Generic[T]):
    """The things of one open set, in the order in which they are listed; a sequence of names that are objects.

    Args:
        base: the class that they all are of.
        what: what one is called in messages.
        group: other packages add theirs under this group of entry points: ``my_name = "my_package.module:MyClass"``.
        own: those of this package, and classes that make one for each number.
    """

    def __init__(self, base: Any, what: str, group: str, own: Sequence[T | type[T]]):
        self.base, self.what, self.group = base, what, group
        self._known: dict[str, T] = {}
        self._taking: dict[str, type[T]] = {}
        self._broken: dict[str, str] = {}
        self._looked = False
        for one in own:
            self.register(one)

    def register(self, one: type[T] | T) -> Any:
        """Make a name known; a class stands for its one instance, so this decorates a class too.

        Returns:
            what was given.

        Raises:
            OptionError: it is nothing of this set, has no name, or leaves a method out; or another has its name, and
                what was compiled for that would be found for this.
        """
        if isinstance(one, type) and issubclass(one, self.base) and one.takes:
            self._taking[one.name] = one
            return one
        made = one() if isinstance(one, type) and issubclass(one, self.base) else one
        if isinstance(made, self.base) and made.takes:
            self._taking.setdefault(made.name, type(made))
            return one
        if not isinstance(made, self.base) or not made:
            raise OptionError(f"a {self.what} is a {self.base.__name__} with a name, got {told(one)}")
        # (A text's subclass is no abstract class that Python would refuse to make one of.)
        kind = type(made)
        missing = [name for name in dir(kind) if getattr(getattr(kind, name), "__isabstractmethod__", False)]
        if missing:
            raise OptionError(
                f"the {self.what} {str(made)!r} has no {' and no '.join(missing)}; see {self.base.__name__}"
            )
        known = self._known.setdefault(str(made), made)
        if type(known) is not type(made):
            raise OptionError(f"the {self.what} {str(made)!r} is that of {type(known).__module__}; take another name")
        return one

    def forget(self, name: str) -> None:
        """Take a name out again; for tests, which leave nothing behind."""
        del self._known[name]

    def parse(self, value: Any, where: str | None, error: type[SDSCMError]) -> T:
        """The thing of a name, or a thing itself (which is known from then on).

        Raises:
            SDSCMError: it is none (the message has the nearest name), or another package's that cannot be loaded.
        """
        if isinstance(value, self.base):
            self.register(value)
        if isinstance(value, self.base) and value.takes:
            return value
        name, bracket, rest = value.partition("(") if isinstance(value, str) else ("", "", "")
        if not (isinstance(value, str) and (value in self._known or name in self._taking)) and not self._looked:
            self._look()
        if name in self._taking:
            place = f"{self.what} {told(value)}" if where is None else f"{where}: {self.what} {told(value)}"
            if not bracket or not rest.endswith(")"):
                taken = self._taking[name].takes
                raise error(f"{place} takes a {taken} in brackets: {name}({taken})")
            return self._taking[name].of(rest[:-1], place, error)
        if isinstance(value, str) and value in self._broken and value not in self._known:
            raise error(f"the {self.what} {value!r} of an installed package cannot be used: {self._broken[value]}")
        spelt = [*self._known, *(f"{name}({one.takes})" for name, one in self._taking.items())]
        return self._known[one_of(value, spelt, self.what, error, where)]

    def _look(self) -> None:
        """Register what installed packages have; what cannot be is an error for those who ask for it."""
        self._looked = True
        for point in entry_points(group=self.group):
            try:
                self.register(point.load())
            except Exception as error:  # whatever another package's import raises
                self._broken[point.name] = f"{point.value}: {type(error).__name__}: {error}"

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...
    def __getitem__(self, place: Any) -> Any:
        return tuple(self._known.values())[place]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._known

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._known.values()))

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return repr(tuple(map(str, self)))
