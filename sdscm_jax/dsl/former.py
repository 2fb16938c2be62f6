"""Former places of modules: programs from before the rooms import them still, and are told where they are now."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

MOVED = {
    "double": "noise.double_float",
    "tails": "noise.tails",
    "residual": "noise.residual",
    "couplings": "noise.couplings",
    "template": "scoring.template",
    "tree": "scoring.option_tree",
    "encoding": "scoring.encoding",
    "table": "scoring.contexts",
    "scorings": "scoring.scorings",
    "question": "scoring.score_query",
    "phrase": "language.phrase",
    "text_phrase": "language.text_phrase",
    "context": "language.context",
    "mechanism": "language.mechanism",
    "choice": "language.choice",
    "text": "language.text",
    "verbalize": "language.verbalize",
    "site": "language.site",
    "fit": "language.fit",
    "scores": "language.scores",
    "control_flow": "handlers.control_flow",
    "intervened": "handlers.intervened",
    "lineage": "handlers.redraw",
    "exogenous": "handlers.exogenous",
    "couple": "handlers.couple",
    "carry": "handlers.recovered_noise",
    "factual": "handlers.factual",
    "asked": "handlers.external_scores",
    "reparam": "handlers.reparam",
    "intervention": "handlers.intervention",
    "structure": "analysis.structure",
    "graph": "analysis.graph",
    "reachable": "analysis.reachable",
    "causes": "analysis.causes",
    "save_figure": "analysis.save_figure",
    "look_up": "tables.look_up",
    "tabulate": "tables.tabulate",
    "worlds": "worlds.worlds",
    "abduction": "worlds.abduction",
    "around": "worlds.around",
    "abduct": "worlds.abduct",
    "do": "worlds.do",
    "along": "worlds.path_specific",
    "counterfactual": "worlds.counterfactual",
    "predictive": "worlds.predictive",
    "run_worlds": "worlds.run_worlds",
}


class Former(MetaPathFinder, Loader):
    """Finds a module at its former place, which Python has looked for in vain."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """For a former place, and no other."""
        room, _, name = fullname.rpartition(".")
        return spec_from_loader(fullname, self) if room == __package__ and name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """The module at its place takes the place of an empty one."""
        place = f"{__package__}.{MOVED[module.__name__.rpartition('.')[2]]}"
        told(module.__name__, place)
        sys.modules[module.__name__] = import_module(place)


def told(former: str, place: str) -> None:
    """Say where something is now."""
    warnings.warn(f"{former} is now {place}", DeprecationWarning, stacklevel=4)


def names_of(room: str, place: str) -> Callable[[str], Any]:
    """``__getattr__`` of a room that has the name of a former module, whose names are elsewhere now."""

    def attribute(name: str) -> Any:
        if name.startswith("__") or not hasattr(import_module(place), name):
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        told(f"{room}.{name}", f"{place}.{name}")
        return getattr(import_module(place), name)

    return attribute
