"""The examples of inference, with their smallest settings: what they print is what they say it is."""

from __future__ import annotations

import numpy as np
import pytest

from ..needs import needs
from ..test_examples import load_example


@pytest.mark.slow
def test_latent_sites(capsys: pytest.CaptureFixture[str]) -> None:
    needs("funsor")
    found = load_example("latent_sites").main(["--days", "80", "--draws", "150"])
    sunnier = found["sunnier"]
    assert abs(sunnier.mean() - 2.0) < 4 * sunnier.std() < 4
    seen = ~np.isnan(found["drawn"])
    assert seen.sum() >= 10
    # At least one day, drawn 150 times.
    assert np.abs(found["drawn"] - found["exact"])[seen].max() < 4 * 0.5 / np.sqrt(150)
    assert found["right"] > found["alone"] + 0.1
    assert f"{sunnier.mean():.2f} ± {sunnier.std():.2f}" in capsys.readouterr().out


@pytest.mark.slow
def test_calibrate() -> None:
    found = load_example("calibrate").main(["--units", "200", "--steps", "15"])
    likelihood, effect = found["log-likelihood"], found["effect"]
    for name in ("temperature and bias", "soft prompt", "low rank"):
        assert likelihood["as it is"] + 0.01 < likelihood[name] < likelihood["town"] + 0.01
    moved = {name: abs(x - effect["town"]) for name, x in effect.items()}
    assert moved["temperature and bias"] < moved["as it is"] - 0.05
    # Few steps: somewhat.
    assert moved["low rank"] < moved["as it is"]


@pytest.mark.slow
def test_patient_journey(capsys: pytest.CaptureFixture[str]) -> None:
    example = load_example("patient_journey")
    found = example.main(["--visits", "3", "--units", "30"])
    data, unit = found["data"], found["unit"]
    printed = capsys.readouterr().out
    table = data.to_pandas(logp=False)
    world = "do(note_0=notes on her medical history mention osteoporosis)"
    assert (table[f"note_0|{world}"] == "notes on her medical history mention osteoporosis").all()
    # What she takes depends on the condition; calcium is for the bones.
    calcium = [table[column].str.contains("calcium").mean() for column in ("note_1", f"note_1|{world}")]
    assert calcium[1] > calcium[0] + 0.3
    told, other = table.loc[unit, "note_1"], table.loc[unit, f"note_1|{world}"]
    for t in range(3):
        name = f"note_{t}"
        np.testing.assert_array_equal(found["parted"][:, t], table[f"parts({name})|{world}"])
        assert (f"{name} parts at token" in printed) == (found["parted"][unit, t] >= 0)
    # Notes part late where they can, and the last one seldom.
    assert (told == other) == (found["parted"][unit, 1] < 0)
    assert found["changed"][2] < 0.5 < found["changed"][0]
    low, high = found["grade 3"][:, 0]
    assert low < high
