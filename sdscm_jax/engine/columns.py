"""Columns of a table of units: their names, and the way there from arrays and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from ..dsl.analysis.structure import Site
from ..dsl.language.text_phrase import TextPhrase
from ..errors import SiteError

if TYPE_CHECKING:
    import pandas as pd


def indexed(name: str, index: tuple[int, ...]) -> str:
    """Name of one number of a site that has several.

    >>> indexed("z", (1, 0)), indexed("z", ())
    ('z[1,0]', 'z')
    """
    return f"{name}[{','.join(map(str, index))}]" if index else name


def labelled(name: str, label: str) -> str:
    """Name of a column in a world.

    >>> labelled("drug", "do(pdl1=low)"), labelled("drug", "")
    ('drug|do(pdl1=low)', 'drug')
    """
    return f"{name}|{label}" if label else name


def log_prob_column(name: str, index: tuple[int, ...], option: str, label: str) -> str:
    """Name of the column with an option's log-probability."""
    return labelled(f"logp({indexed(name, index)}={option})", label)


def check_columns(sites: Sequence[Site], worlds: Sequence[str], kept: Sequence[str]) -> None:
    """Refuse sites whose names make two columns of ``to_pandas`` one.

    Args:
        sites: of the model.
        worlds: labels, the factual world's first.
        kept: sites whose log-probabilities are there.

    Raises:
        SiteError: two columns would have one name; it says of which sites they are.
    """
    # Only such a name can be that of another site's column: so nearly always there is nothing to do.
    if not any(set(site.name) & set("|[(=") or any(")|" in option for option in site.options) for site in sites):
        return
    seen: dict[str, str] = {}

    def add(column: str, site: str) -> None:
        if column in seen:
            raise SiteError(
                f"sites {seen[column]!r} and {site!r} both have a column {column!r} in tables; give one another name"
            )
        seen[column] = site

    for label in worlds:
        for site in sites:
            if isinstance(site.phrase, TextPhrase):
                for own in _members(site):
                    for name in (own, f"parts({own})", f"tokens({own})"):
                        add(labelled(name, label), site.name)
                continue
            for i in np.ndindex(site.shape):
                add(labelled(indexed(site.name, i), label), site.name)
                for option in site.options if site.name in kept else ():
                    add(log_prob_column(site.name, i, option, label), site.name)


def texts(column: np.ndarray, options: tuple[str, ...]) -> object:
    """A column of option numbers as an ordered categorical; other numbers in a dtype that tables know."""
    import pandas as pd

    if not options:
        return column if column.dtype.kind != "V" else column.astype(_wider(column.dtype))
    return pd.Categorical.from_codes(column, categories=pd.Index(list(options)), ordered=True)


def _side_by_side(columns: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Columns as an array; a plate without members has none."""
    return np.stack(columns, axis=1).reshape(shape) if columns else np.zeros(shape, np.float32)


def _wider(dtype: np.dtype) -> type:
    """NumPy's dtype that holds the numbers of one that only JAX has, such as bfloat16."""
    return np.float32 if jnp.issubdtype(dtype, jnp.floating) else np.int8


def add_tokens(
    frame: pd.DataFrame, sites: Sequence[Site], worlds: Sequence[str], values: Mapping[str, np.ndarray]
) -> None:
    """Add the tokens of free texts, of which the text alone does not tell."""
    for site in sites:
        if isinstance(site.phrase, TextPhrase):
            for w, label in enumerate(worlds):
                for name, i in _members(site).items():
                    index: Any = (slice(None), w, *i)
                    frame[labelled(f"tokens({name})", label)] = list(values[site.name][index])


def _members(site: Site) -> dict[str, tuple[int, ...]]:
    """Names of the texts of a site, of which there are several in a plate or a loop, and their places."""
    return {indexed(site.name, i): i for i in np.ndindex(site.shape[:-1])}


def value_columns(site: Site, worlds: Sequence[str]) -> list[str]:
    """Names of the columns that ``values_of`` reads."""
    if isinstance(site.phrase, TextPhrase):
        return [labelled(f"tokens({name})", label) for label in worlds for name in _members(site)]
    return [labelled(indexed(site.name, i), label) for label in worlds for i in np.ndindex(site.shape)]


def log_prob_columns(site: Site, worlds: Sequence[str]) -> list[str]:
    """Names of the columns that ``log_probs_of`` reads."""
    places = [(i, option) for i in np.ndindex(site.shape) for option in site.options]
    return [log_prob_column(site.name, i, option, label) for label in worlds for i, option in places]


def values_of(table: pa.Table, site: Site, worlds: Sequence[str]) -> np.ndarray:
    """Values ``[n, worlds, ...]`` of a site.

    Args:
        table: as ``Simulation.to_pandas`` names its columns, with tokens of free texts.
        site: of the model.
        worlds: labels, the factual world's first.
    """

    def column(name: str) -> np.ndarray:
        array = table[name].combine_chunks()
        if not site.options:
            return array.to_numpy(zero_copy_only=False)
        known = pa.array(site.options)
        return pa.compute.index_in(array.cast(pa.string()), known).to_numpy(zero_copy_only=False).astype(np.int32)

    found = [column(name) for name in value_columns(site, worlds)]
    if isinstance(site.phrase, TextPhrase):
        tokens = [np.stack(list(texts)).astype(np.int32) for texts in found]
        return _side_by_side(tokens, (len(table), len(worlds), *site.shape)).astype(np.int32)
    return _side_by_side(found, (len(table), len(worlds), *site.shape)).astype(np.int32 if site.options else site.dtype)


def log_probs_of(table: pa.Table, site: Site, worlds: Sequence[str]) -> np.ndarray:
    """Log-probabilities ``[n, worlds, ..., K]`` of a choice, as ``values_of``."""
    found = [table[name].combine_chunks().to_numpy(zero_copy_only=False) for name in log_prob_columns(site, worlds)]
    return _side_by_side(found, (len(table), len(worlds), *site.shape, len(site.options)))
