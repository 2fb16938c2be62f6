"""What a simulation gives back: many units in all worlds, as tables and as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..checks import as_path, count, items, one_of
from ..dsl.analysis.graph import Graph
from ..dsl.language.text_phrase import TextPhrase
from ..dsl.worlds.worlds import World
from ..errors import SDSCMError, SiteError, install
from ..page.forms import Form, Shown, counted, few
from .arviz_groups import arviz_groups
from .columns import add_tokens, indexed, labelled, log_prob_column, texts
from .kept import KeptArrays, KeptRun
from .side_by_side import SideBySide, side_by_side

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@dataclass(frozen=True, repr=False)
class Simulation(Shown):
    """n units (rows, if there are several draws of each), each in the factual world and in the same
    other worlds.

    Attributes:
        graph: the causal graph of the model (in the factual world, or under ``do``).
        worlds: labels of the worlds; the first, ``""``, is the factual one (or the one under
            ``do``), another one is called such as ``do(pdl1=low)``.
        values: site -> array ``[n, worlds, ...]``: int32 option numbers of a choice, tokens of a free
            text.
        log_probs: choice site -> float32 ``[n, worlds, ..., K]``: log-probabilities of its options given
            its parents in that world. Of a run with ``out=`` these and the values are in its directory: the array of
            a site is read when it is first asked for, and ``batches`` reads all of them part by part.
        interventions: what the worlds set, site -> value, ``{}`` for the first: an option by its text, a number that
            is the same for all units as a number, and anything else as it was given.
        evidence: sites whose observed values the units' noise was drawn given.
        draws: rows for each unit; those of unit i are ``i * draws`` to ``(i + 1) * draws - 1``.
        stats: figures of the run: ``units``, ``chunk``, ``seconds`` (wall, without compilation),
            ``cpu_seconds`` (all threads), ``compile_seconds``. Of a staged run also ``tokens`` that went
            through language models, ``positions`` (the same with padding), ``trie_tokens`` (distinct
            ones, the lower bound), ``recomputed``, ``calls``, ``contexts``, ``stored`` (answers from the
            store), ``written`` (tokens of free texts, those of every unit and world counted) and
            ``reference_tokens``: what one forward over its context and one over each option (or over a text,
            token by token), anew for every unit, world and site, would take.
        provenance: what the run is, as JSON values: ``program`` (name), ``language_models`` (what each is, for people),
            ``fingerprints`` (of each; None where parameters are more than 64 MiB and were not read for it), ``key``,
            ``units``, ``draws``, ``worlds``, ``evidence`` and ``versions``. Files have it with them.
    """

    graph: Graph
    worlds: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    log_probs: Mapping[str, np.ndarray]
    draws: int = 1
    stats: dict[str, float] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    interventions: tuple[World, ...] = ({},)
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def _kept(self) -> KeptRun | None:
        """The run in a directory whose arrays these are; None: they are in memory."""
        both = self.values, self.log_probs
        runs = [arrays.run for arrays in both if isinstance(arrays, KeptArrays)]
        # Who replaced some of the arrays wants to see those.
        return runs[0] if len(runs) == 2 and runs[0] is runs[1] else None

    def batches(self) -> Iterator[Simulation]:
        """The units in pieces, in order: those of a part of ``out=`` at a time, read from it. Else all of them at once.

        Raises:
            ResumeError: a part is damaged, or not there any more.

        >>> import tempfile, sdscm_jax as sd
        >>> lm = sd.load_lm()
        >>> def model(lm):
        ...     sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
        >>> data = sd.simulate(model, 0, 50, lm, out=tempfile.mkdtemp(), chunk=20)
        >>> [len(batch) for batch in data.batches()]
        [20, 20, 10]
        """
        if self._kept is None:
            yield self
            return
        for values, log_probs in self._kept.pieces(self.draws):
            yield replace(self, values=values, log_probs=log_probs)

    def __len__(self) -> int:
        if self._kept is not None:
            return self._kept.rows
        return len(next(iter(self.values.values()))) if self.values else 0

    def _form(self) -> Form:
        units = counted(len(self) // self.draws, "unit")
        rows_of_each = "" if self.draws == 1 else f" of {self.draws} rows each"
        facts = [("worlds", few([world or "factual" for world in self.worlds], 4))]
        if self.evidence:
            facts.append(("evidence", few(self.evidence)))
        if lms := self.provenance.get("language_models"):
            facts.append(("language model", "; ".join(lms)))
        drawn = self.graph._form()
        sites, worlds = counted(len(self.values), "site"), counted(len(self.worlds), "world")
        return replace(drawn, title=f"Simulation: {units}{rows_of_each}, {sites}, {worlds}", facts=facts)

    def world(self, label: str | int) -> int:
        """Number of a world, from its label.

        Raises:
            SiteError: there is no such world.
        """
        if isinstance(label, str):
            return self.worlds.index(one_of(label, self.worlds, "world", SiteError))
        number = len(self.worlds)
        return count(label, "world, where it is a number,", SiteError, least=-number, most=number - 1)

    def to_pandas(self, logp: bool | Sequence[str] = True) -> pd.DataFrame:
        """One row a unit.

        Columns, for a site ``x``, an option ``a`` and a world ``do(t=low)``: ``x`` and
        ``x|do(t=low)`` (ordered categoricals of option texts, in the order of the options; strings for
        free text; numbers for other sites; ``x[0]``, ``x[1]``, … where there are several), for free text
        ``parts(x)|do(t=low)`` (number of the first token in which it differs from the factual one, -1: none),
        then ``logp(x=a)`` and ``logp(x=a)|do(t=low)`` (float32).

        Args:
            logp: whose option log-probabilities to include: True for all choice sites that were
                kept, False for none, or a list of site names.

        Raises:
            SiteError: ``logp`` names a site whose log-probabilities were not kept.

        >>> import jax, sdscm_jax as sd
        >>> lm = sd.load_lm()
        >>> def model(lm):
        ...     sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
        >>> data = sd.simulate(model, jax.random.key(0), 5, lm)
        >>> data.to_pandas().columns.tolist()
        ['pdl1', 'logp(pdl1=low)', 'logp(pdl1=high)']
        """
        import pandas as pd

        if self._kept is not None:
            return pd.concat([batch.to_pandas(logp) for batch in self.batches()], ignore_index=True)
        columns: dict[str, object] = {}
        for w, label in enumerate(self.worlds):
            for name, array in self.values.items():
                options, phrase = self.graph[name].options, self.graph[name].phrase
                column = array[:, w]
                if isinstance(phrase, TextPhrase):
                    for i in np.ndindex(column.shape[1:-1]):
                        own, here = indexed(name, i), phrase.at(column[(slice(None), *i)])
                        columns[labelled(own, label)] = here.text
                        if w:
                            differ = here.first_difference(phrase.at(array[(slice(None), 0, *i)]))
                            columns[labelled(f"parts({own})", label)] = np.asarray(differ)
                else:
                    for i in np.ndindex(column.shape[1:]):
                        columns[labelled(indexed(name, i), label)] = texts(column[(slice(None), *i)], options)
        if not isinstance(logp, bool):
            logp = items(logp, "logp", SiteError, single=str)
        sites = list(self.log_probs) if logp is True else [] if logp is False else list(logp)
        for name in sites:
            one_of(name, list(self.log_probs), "site with kept log-probabilities", SiteError)
        for w, label in enumerate(self.worlds):
            for name in sites:
                array = self.log_probs[name][:, w]
                for i in np.ndindex(array.shape[1:-1]):
                    for k, option in enumerate(self.graph[name].options):
                        columns[log_prob_column(name, i, option, label)] = array[(slice(None), *i, k)]
        return pd.DataFrame(columns)

    def to_parquet(self, path: str | Path, logp: bool | Sequence[str] = True) -> None:
        """Write ``to_pandas`` as Parquet; option texts are dictionary-encoded, in their order.

        The schema's metadata has ``provenance`` as JSON, under ``sdscm_jax``: ``pyarrow.parquet.read_schema`` reads it.
        """
        path = as_path(path)
        tables = (pa.Table.from_pandas(batch.to_pandas(logp), preserve_index=False) for batch in self.batches())
        first = next(tables)
        schema = first.schema.with_metadata({**(first.schema.metadata or {}), **self._metadata()})
        try:
            with pq.ParquetWriter(path, schema) as file:
                for table in (first, *tables):
                    file.write_table(table)
        except OSError as error:
            raise SDSCMError(f"{path} cannot be written: {error}") from error

    def to_arrow(self) -> pa.Table:
        """``to_pandas`` as an Arrow table, with the tokens of free texts: all that ``values_of`` reads."""
        frame = self.to_pandas()
        add_tokens(frame, self.graph.sites, self.worlds, self.values)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        return table.replace_schema_metadata({**(table.schema.metadata or {}), **self._metadata()})

    def _metadata(self) -> dict[bytes, bytes]:
        return {b"sdscm_jax": json.dumps(self.provenance).encode()} if self.provenance else {}

    def to_xarray(self) -> xr.Dataset:
        """Values and log-probabilities as a data set of xarray (extra ``xarray``), over ``row`` and ``world``.

        Variables, for a choice site ``x``: ``x``, int32 option numbers, whose texts are its attribute ``options``; and
        ``logp(x)`` with the coordinate ``x option``, where it was kept. Further axes of a site are ``x axis 0``, ….
        The attribute ``provenance`` is JSON.

        Raises:
            ImportError: xarray is not installed; the message has the command.
            SiteError: a site is called as an axis is, ``row`` or ``world``.
        """
        try:
            import xarray as xr
        except ImportError as error:
            raise ImportError(f"to_xarray needs xarray: {install('xarray')}") from error

        found: dict[str, tuple[list[str], np.ndarray, dict[str, Any]]] = {}
        coordinates: dict[str, Any] = {"world": [label or "factual" for label in self.worlds]}
        for name, array in self.values.items():
            if name in ("row", "world"):
                raise SiteError(f"site {name!r} is called as an axis of the data set is; give it another name")
            axes = ["row", "world", *(f"{name} axis {i}" for i in range(array.ndim - 2))]
            options = self.graph[name].options
            found[name] = axes, array, {"options": list(options)} if options else {}
            if name in self.log_probs:
                found[f"logp({name})"] = [*axes, f"{name} option"], self.log_probs[name], {}
                coordinates[f"{name} option"] = list(options)
        return xr.Dataset(found, coordinates, {"provenance": json.dumps(self.provenance), "draws": self.draws})

    def side_by_side(self, unit: int = 0, worlds: Sequence[str | int] | None = None) -> SideBySide:
        """What a unit says in several worlds, with what differs from the first of them marked.

        Args:
            unit: number of the row.
            worlds: labels or numbers; None: all.

        Raises:
            SiteError: there is no such unit or world, or no world is named.

        >>> import jax, sdscm_jax as sd
        >>> lm = sd.load_lm()
        >>> def model(lm):
        ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
        >>> print(sd.simulate(model, 0, 1, lm, worlds=[{"pdl1": "low"}]).side_by_side())
        Unit 0 in 2 worlds
          pdl1
            factual       The tumor exhibits [high] levels of PD-L1.
            do(pdl1=low)  The tumor exhibits [low] levels of PD-L1.
        """
        unit = count(unit, "unit", SiteError, least=-len(self), most=len(self) - 1)
        named = range(len(self.worlds)) if worlds is None else items(worlds, "worlds", SiteError)
        numbers = [self.world(world) for world in named]
        if not numbers:
            raise SiteError("worlds are one or more; none is named")
        number, values = range(len(self))[unit], self.values
        place = number
        if self._kept is not None:
            part, place = divmod(number, self._kept.size)
            values, _ = self._kept.part(part)
        own = {name: array[place, numbers] for name, array in values.items()}
        return side_by_side(self.graph, number, [self.worlds[w] for w in numbers], own)

    def to_arviz(self) -> Any:
        """``to_xarray`` in the groups that ArviZ reads (extra ``arviz``): an ``InferenceData``, from ArviZ 1 on a tree.

        Its group is ``prior``, with a draw for each unit; with evidence it is ``posterior``, with the ``draws`` of each
        ``unit``, beside ``observed_data``. All have an axis ``chain`` of length 1 and, but for what is observed, the
        axis ``world``. (What NumPyro's MCMC finds in a tabulated program is ``arviz.from_numpyro``'s to convert.)

        Raises:
            ImportError: arviz is not installed; the message has the command.
            SiteError: a site is called as an axis is: ``row``, ``world``, ``chain``, ``draw`` or ``unit``.
        """
        return arviz_groups(self.to_xarray(), self.evidence)

    def text(self, unit: int, world: str | int = 0) -> str:
        """The text of one unit: its sentences in program order, joined by spaces."""
        w, unit = self.world(world), count(unit, "unit", SiteError, least=-len(self), most=len(self) - 1)
        values, sentences = self.values, list[str]()
        if self._kept is not None:
            # Only its part is read.
            part, unit = divmod(range(len(self))[unit], self._kept.size)
            values, _ = self._kept.part(part)
        for name, array in values.items():
            phrase = self.graph[name].phrase
            if phrase is not None:
                # Several of them where the site is in a loop.
                sentences.extend(np.ravel(phrase.at(array[unit, w]).sentence))
        return " ".join(sentences)
