"""What ``out=`` keeps comes back as it was: dtypes that only JAX has, sites without numbers, members that are given the
same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import sdscm_jax as sd
from sdscm_jax import testing


def odd(lm: sd.LanguageModel) -> Any:
    a = sd.sample("a", sd.Choice(lm, "It is {}.", ["low", "high"]))
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    numpyro.deterministic("half", x.astype(jnp.bfloat16))
    numpyro.deterministic("bits", (x > 0).astype(jnp.int4))
    numpyro.deterministic("truth", x > 0)
    numpyro.sample("nothing", dist.Normal(jnp.zeros(0), 1.0))
    with numpyro.plate("patients", 3):
        return sd.sample("b", sd.Choice(lm, "Then {}.", ["wait", "treat"], given=[a]))


@pytest.mark.slow
def test_resumed_is_never_killed(tmp_path: Path) -> None:
    lm = testing.mock_lm(odd)
    plain: dict[str, Any] = {"worlds": [{"a": "high"}], "progress": False, "chunk": 4}
    whole = sd.simulate(odd, 0, 8, lm, **plain)
    assert whole.values["half"].dtype == jnp.bfloat16
    assert whole.log_probs["b"].shape == (8, 2, 3, 2)
    first = sd.simulate(odd, 0, 8, lm, out=tmp_path / "run", **plain)
    kept = {file.name: file.read_bytes() for file in (tmp_path / "run").glob("*.parquet")}
    assert len(kept) == 2
    again = sd.simulate(odd, 0, 8, lm, out=tmp_path / "run", **plain)
    # A part that was lost is computed again, to the same bytes.
    lost = sorted((tmp_path / "run").glob("*.parquet"))[0]
    shutil.move(lost, tmp_path / "lost")
    resumed = sd.simulate(odd, 0, 8, lm, out=tmp_path / "run", **plain)
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").glob("*.parquet")} == kept
    for data in (first, again, resumed):
        assert set(data.values) == set(whole.values)
        for name, values in whole.values.items():
            assert data.values[name].dtype == values.dtype
            np.testing.assert_array_equal(data.values[name], values)
        for name, values in whole.log_probs.items():
            np.testing.assert_allclose(data.log_probs[name], values, atol=5e-4)
