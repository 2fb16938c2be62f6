"""Columns of a table of units: their names, and the way there from arrays and back."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa

from ..dsl.structure import Site
from ..dsl.text_phrase import TextPhrase
from ..errors import SiteError


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
                for name in (site.name, f"parts({site.name})", f"tokens({site.name})"):
                    add(labelled(name, label), site.name)
                continue
            for i in np.ndindex(site.shape):
                add(labelled(indexed(site.name, i), label), site.name)
                for option in site.options if site.name in kept else ():
                    add(log_prob_column(site.name, i, option, label), site.name)


def texts(column: np.ndarray, options: tuple[str, ...]) -> object:
    """A column of option numbers as an ordered categorical; other numbers in a dtype that tables know."""
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
    frame: pd.DataFrame, sites: Sequence[Site], worlds: Sequence[str], values: dict[str, np.ndarray]
) -> None:
    """Add the tokens of free texts, of which the text alone does not tell."""
    for site in sites:
        if isinstance(site.phrase, TextPhrase):
            for w, label in enumerate(worlds):
                frame[labelled(f"tokens({site.name})", label)] = list(values[site.name][:, w])


def arrays_of(
    table: pa.Table, sites: Sequence[Site], worlds: Sequence[str], kept: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Values ``[n, worlds, ...]`` and log-probabilities ``[n, worlds, ..., K]`` of a table with all columns.

    Args:
        table: as ``Simulation.to_pandas`` names its columns, with tokens of free texts.
        sites: of the model.
        worlds: labels, the factual world's first.
        kept: sites whose log-probabilities are there.
    """

    def column(name: str, options: tuple[str, ...] = ()) -> np.ndarray:
        array = table[name].combine_chunks()
        if not options:
            return array.to_numpy(zero_copy_only=False)
        known = pa.array(options)
        return pa.compute.index_in(array.cast(pa.string()), known).to_numpy(zero_copy_only=False).astype(np.int32)

    def of_site(site: Site, label: str) -> np.ndarray:
        if isinstance(site.phrase, TextPhrase):
            return np.stack(list(column(labelled(f"tokens({site.name})", label)))).astype(np.int32)
        numbers = [column(labelled(indexed(site.name, i), label), site.options) for i in np.ndindex(site.shape)]
        dtype = np.int32 if site.options else site.dtype
        return _side_by_side(numbers, (len(table), *site.shape)).astype(dtype)

    def log_probs(site: Site, label: str) -> np.ndarray:
        shape = site.shape
        found = [
            column(log_prob_column(site.name, i, option, label)) for i in np.ndindex(shape) for option in site.options
        ]
        return _side_by_side(found, (len(table), *shape, len(site.options)))

    values = {site.name: np.stack([of_site(site, label) for label in worlds], axis=1) for site in sites}
    logits = {
        site.name: np.stack([log_probs(site, label) for label in worlds], axis=1) for site in sites if site.name in kept
    }
    return values, logits
