"""Many data sets: the same bytes whoever computes them."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import sdscm_jax as sd
from sdscm_jax.families import Family
from sdscm_jax.models.language_model import EMBEDDED

FAMILY = Family.from_vignette(sd.vignettes.confounder)
# Two wordings: each is compiled in every process.
MODELS = [FAMILY.member(0), FAMILY.member(1)]
OPTIONS = {"worlds": [{"gym": option} for option in FAMILY["gym"].options], "chunk": 6}


def contents(directories: list[Path]) -> list[dict[str, bytes]]:
    return [{path.name: path.read_bytes() for path in sorted(directory.iterdir())} for directory in directories]


@pytest.mark.slow
def test_every_backend_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import Client, LocalCluster
    from joblib.externals.loky import get_reusable_executor

    # New processes only: what other tests compiled in this one may have been optimised, and rounds otherwise.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    get_reusable_executor().shutdown()

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        here = alone.submit(sd.simulate_many, MODELS, 0, 10, EMBEDDED, out=tmp_path / "here", **OPTIONS).result()
    processes = sd.simulate_many(MODELS, 0, 10, EMBEDDED, out=tmp_path / "loky", jobs=2, **OPTIONS)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        dask = sd.simulate_many(MODELS, 0, 10, EMBEDDED, out=tmp_path / "dask", backend="dask", jobs=2, **OPTIONS)
    assert contents(here) == contents(processes) == contents(dask)
    one, other = (pd.read_parquet(directory) for directory in here)
    assert len(one) == 10
    assert not np.allclose(one.filter(like="logp").iloc[:, 0], other.filter(like="logp").iloc[:, 0])
    # A model argument may be the language model itself; with the same key, the data are the same.
    direct = sd.simulate_many(MODELS[:1], 0, 10, sd.load_lm(), out=tmp_path / "direct", **OPTIONS)
    pd.testing.assert_frame_equal(pd.read_parquet(direct[0]), one, rtol=5e-4, atol=5e-4)


@pytest.mark.slow
def test_data_set_i_has_key_i(embedded: sd.LanguageModel, tmp_path: Path) -> None:
    many = sd.simulate_many(MODELS[:1] * 2, 0, 6, embedded, out=tmp_path / "many", **OPTIONS)
    for i in range(2):
        key = jax.random.fold_in(jax.random.key(0), i)
        sd.simulate(MODELS[0], key, 6, embedded, out=tmp_path / "one" / str(i), **OPTIONS)
    assert contents(many) == contents([tmp_path / "one" / str(i) for i in range(2)])


def test_no_models(tmp_path: Path) -> None:
    with pytest.raises(sd.SDSCMError, match="no models"):
        sd.simulate_many([], 0, 10, EMBEDDED, out=tmp_path)
