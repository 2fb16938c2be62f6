"""Where data come from is with the data: in a simulation, in its files and in a data set of xarray."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import sdscm_jax as sd
from sdscm_jax.engine.provenance import card
from sdscm_jax.testing import mock_lm

from ..needs import needs


def program(lm: sd.LanguageModel) -> None:
    x = sd.sample("x", sd.Choice(lm, "Now {}.", ["low", "high"]))
    sd.sample("y", sd.Choice(lm, "Then {}.", ["a", "b"], given=[x]))


@pytest.fixture(scope="module")
def lm() -> sd.LanguageModel:
    return mock_lm(program)


@pytest.fixture(scope="module")
def data(lm: sd.LanguageModel) -> sd.Simulation:
    return sd.simulate(program, 7, 20, lm, worlds=[{"x": "low"}])


def test_a_simulation_knows_what_it_is(data: sd.Simulation, lm: sd.LanguageModel) -> None:
    found = data.provenance
    assert found["program"] == f"{__name__}:program"
    assert found["fingerprints"] == [lm.fingerprint()]
    assert lm.fingerprint()[:12] in found["language_models"][0]
    assert (found["key"], found["units"], found["worlds"]) == ([0, 7], 20, ["do(x=low)"])
    assert found["versions"]["sdscm-jax"] == sd.__version__
    assert json.loads(json.dumps(found)) == found


def test_a_file_has_it_in_its_schema(data: sd.Simulation, tmp_path: Path) -> None:
    data.to_parquet(tmp_path / "data.parquet")
    schema = pq.read_schema(tmp_path / "data.parquet")
    assert json.loads(schema.metadata[b"sdscm_jax"]) == data.provenance
    # What pandas needs is there too.
    assert b"pandas" in schema.metadata
    assert json.loads(data.to_arrow().schema.metadata[b"sdscm_jax"]) == data.provenance


def test_a_card_says_it_to_people(data: sd.Simulation) -> None:
    page = card("a <b> | title", {**data.provenance, "program": "a|`b`\n<script>"}, {"data.parquet": "rows <i>"})
    assert data.provenance["fingerprints"][0] in page
    assert "do(x=low)" in page
    assert "a &lt;b>" in page
    assert page.count("\n| ") == 8


def test_xarray_is_asked_for_by_its_extra(data: sd.Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[xarray\]'"):
        data.to_xarray()


def test_arviz_is_asked_for_by_its_extra(data: sd.Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("xarray")
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[arviz\]'"):
        data.to_arviz()


# ArviZ 0.23 says at its import that there will be another.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:\nArviZ is undergoing:FutureWarning")
def test_arviz_reads_units_as_draws_and_evidence_as_observed(lm: sd.LanguageModel, data: sd.Simulation) -> None:
    arviz = needs("arviz")
    drawn = data.to_arviz()["prior"]
    assert dict(drawn.sizes) == {"chain": 1, "draw": 20, "world": 2, "x option": 2, "y option": 2}
    np.testing.assert_array_equal(drawn["y"].sel(world="factual", chain=0), data.values["y"][:, 0])

    seen = sd.simulate(program, 7, 3, lm, evidence={"y": ["a", "b", "a"]}, worlds=[{"x": "low"}], draws=40)
    tree = seen.to_arviz()
    found = tree["posterior"]
    assert found["x"].dims == ("chain", "draw", "world", "unit")
    assert found["x"].dtype == np.int32
    for unit in range(3):
        rows = slice(40 * unit, 40 * unit + 40)
        np.testing.assert_array_equal(found["x"].sel(chain=0, unit=unit).to_numpy(), seen.values["x"][rows])
        logp = found["logp(y)"].sel({"chain": 0, "unit": unit, "y option": "b"})
        np.testing.assert_array_equal(logp.to_numpy(), seen.log_probs["y"][rows, :, 1])
    assert tree["observed_data"]["y"].to_numpy().tolist() == [0, 1, 0]
    # ArviZ's own function takes it: its mean of the draws of a unit is theirs.
    table = arviz.summary(tree, var_names=["x"], kind="stats", round_to="none")
    assert table.loc["x[factual, 1]", "mean"] == pytest.approx(seen.values["x"][40:80, 0].mean())


def test_a_data_set_of_xarray(data: sd.Simulation) -> None:
    needs("xarray")
    found = data.to_xarray()
    assert dict(found.sizes) == {"row": 20, "world": 2, "x option": 2, "y option": 2}
    np.testing.assert_array_equal(found["y"].sel(world="do(x=low)"), data.values["y"][:, 1])
    assert found["y"].attrs["options"] == ["a", "b"]
    chosen = found["logp(y)"].sel({"y option": "b", "world": "factual"})
    np.testing.assert_array_equal(chosen, data.log_probs["y"][:, 0, 1])
    assert json.loads(found.attrs["provenance"]) == data.provenance
