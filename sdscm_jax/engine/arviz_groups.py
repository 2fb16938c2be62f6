"""A simulation in the shape that ArviZ reads: groups of arrays over ``chain`` and ``draw``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import SiteError, install

if TYPE_CHECKING:
    import xarray as xr

_AXES = ("chain", "draw", "unit")


def arviz_groups(data: xr.Dataset, evidence: Sequence[str]) -> Any:
    """What ``Simulation.to_arviz`` gives, from what ``Simulation.to_xarray`` gives."""
    import pandas as pd

    try:
        import arviz
        import xarray as xr
    except ImportError as error:
        raise ImportError(f"to_arviz needs arviz: {install('arviz')}") from error

    for name in data.data_vars:
        if name in _AXES:
            raise SiteError(f"site {name!r} is called as an axis of ArviZ is; give it another name")
    rows, draws = data.sizes["row"], data.attrs["draws"]
    if draws == 1 and not evidence:
        data = data.rename(row="draw").assign_coords(draw=range(rows))
    else:
        # Rows of a unit stand together, and are its draws.
        pairs = pd.MultiIndex.from_product([range(rows // draws), range(draws)], names=["unit", "draw"])
        data = data.assign_coords(xr.Coordinates.from_pandas_multiindex(pairs, "row")).unstack("row")
    data = data.expand_dims(chain=[0]).transpose("chain", "draw", ...)
    groups = {"posterior" if evidence else "prior": data}
    if evidence:
        groups["observed_data"] = data[list(evidence)].isel(chain=0, draw=0, world=0, drop=True)
    # ArviZ 1 has no class of its own, and warns those who look for it.
    if "InferenceData" in vars(arviz):
        return arviz.InferenceData(**groups)
    return xr.DataTree.from_dict(groups)
