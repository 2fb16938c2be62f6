"""The examples run, and print what is true; the tokens of their texts do not depend on how the texts
were assembled."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.dsl.language.context import item_tokens
from sdscm_jax.dsl.language.phrase import Phrase
from sdscm_jax.effects import contrast
from sdscm_jax.families import Family, Member
from sdscm_jax.models.checkpoint import save_parameters
from sdscm_jax.models.codec import Codec
from sdscm_jax.models.families import read_config
from sdscm_jax.models.options import option_tokens

from .needs import ROOT, shared_path

VIGNETTES = (sd.vignettes.oncology, sd.vignettes.confounder, sd.vignettes.collider)


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lm_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama whose tokenizer knows the words of the vignettes, so that texts are short."""
    directory = tmp_path_factory.mktemp("lm")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [w.format(option) for v in VIGNETTES for x in v.variables for w in x.wordings for option in x.options]
    trainer = BpeTrainer(
        vocab_size=1500,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((" " + text for text in texts), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    lm = sd.random_lm(read_config(config), fast, 0)
    # Large enough that options are not all alike, small enough that both treatments occur.
    params = jax.tree.map(lambda x: x * 4 if x.ndim > 1 else x, lm.params)
    config.save_pretrained(directory)
    fast.save_pretrained(directory)
    save_parameters(directory, lm.config, params, jnp.float32)
    return directory


@pytest.mark.slow
def test_breast_cancer(
    lm_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    example, effects = load_example("breast_cancer"), []
    monkeypatch.setattr(example, "contrast", lambda *args: effects.append(contrast(*args)) or effects[-1])
    example.main(["--lm", str(lm_directory), "--units", "12", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    factual, other = re.search(r"Patient 0:\n  (.+)\n\nThe same patient under .+:\n  (.+)\n", printed).groups()
    levels = re.search(r"  PD-L1 level: (low|high) -> (low|high)\n", printed).groups()
    assert sorted(levels) == ["high", "low"]
    family = Family.from_vignette(sd.vignettes.oncology)
    wording = str(family["PD-L1 level"].templates[family.member(0).wordings[-2]])
    # The sentences before the intervention are the same; then comes the level of each world.
    before = factual[: factual.index(wording.format(levels[0]))]
    assert before.count(".") >= 10
    assert other.startswith(before + wording.format(levels[1]))
    # Only descendants change.
    assert set(re.findall(r"^  (.+): .+ -> .+$", printed, re.M)) <= {"PD-L1 level", "therapy"}
    rows = re.findall(r"^  (.+?) +([+-]\d\.\d{3}) +([+-]\d\.\d{3}|\+nan)$", printed, re.M)
    assert [row[0] for row in rows] == list(family["therapy"].options)
    # The random model likes the shortest option by far, so effects are tiny; but there are some.
    assert np.abs(effects[0].individual).max() > 0
    np.testing.assert_allclose([float(row[1]) for row in rows], effects[0].average, atol=6e-4)
    np.testing.assert_allclose([float(row[2]) for row in rows], effects[0].naive, atol=6e-4)
    low, high = map(float, re.search(r"Propensity .+: (.+) to (.+)\n", printed).groups())
    assert 0 <= low <= high <= 1
    assert (tmp_path / "breast_cancer.png").stat().st_size > 1000


@pytest.mark.slow
def test_stories_have_no_effect(lm_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = load_example("confounder_collider").main(["--lm", str(lm_directory), "--units", "40"])
    assert list(found) == ["confounder", "confounder by hand", "collider"]
    for finding in found.values():
        assert finding.true == 0
        low, high = finding.within
        assert -1 <= low <= high <= 1
        assert abs(finding.correlation) <= 1
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:20].strip(): line[20:].split() for line in lines if re.search(r" to [+-]", line)}
    assert {name: row[0] for name, row in rows.items()} == dict.fromkeys(
        (*found, "confounder, GPT-2", "collider, GPT-2"), "0.0000"
    )
    assert rows["confounder, GPT-2"][1:4] == ["+0.0593", "+0.0064", "+0.820"]


def test_confounder_by_hand_is_the_family_with_its_first_wordings(lm_directory: Path) -> None:
    lm, example = sd.load_lm(lm_directory), load_example("confounder_collider")
    family = Family.from_vignette(sd.vignettes.confounder)
    by_hand, member = (
        sd.simulate(model, 0, 8, lm) for model in (example.confounder_by_hand, Member(family, (0, 0, 0, 0, 0)))
    )
    assert by_hand.graph == member.graph
    for name in member.values:
        np.testing.assert_array_equal(by_hand.values[name], member.values[name])
        np.testing.assert_array_equal(by_hand.log_probs[name], member.log_probs[name])


@pytest.mark.parametrize("one_sided", [False, True])
def test_adjustment_removes_what_comes_from_the_weather(monkeypatch: pytest.MonkeyPatch, one_sided: bool) -> None:
    """On made-up columns whose answer is known: the outcome depends on the weather alone."""
    example, rng, n = load_example("confounder_collider"), np.random.default_rng(0), 400
    weather = rng.integers(5, size=n)
    p_run = 0.1 + 0.2 * weather + rng.uniform(-0.01, 0.01, n)
    y = 0.2 + 0.1 * weather
    if one_sided:
        # Nobody goes outside on the worst day: that stratum is left out, not counted as 0.
        p_run[weather == 0] = 0.0
    run = rng.uniform(size=n) < p_run
    # The effect of a run within a stratum: 0.05 of the outcome's scale, in all of them.
    y = y + 0.05 * run
    log_probs = {
        "gym": np.log(np.stack([1 - p_run, p_run], -1).clip(1e-9))[:, None].repeat(3, 1),
        "marathon": np.log(np.stack([1 - y, y], -1))[:, None].repeat(3, 1),
    }
    values = {"gym": run.astype(int)[:, None].repeat(3, 1), "weather": weather[:, None].repeat(3, 1)}
    monkeypatch.setattr(sd, "simulate", lambda *_, **__: SimpleNamespace(log_probs=log_probs, values=values))
    found = example.study(None, None, n, None)
    assert found.true == 0
    assert found.adjusted == pytest.approx(0.05 / y.std())
    assert found.naive > 3 * found.adjusted
    assert found.correlation > 0.8


TOKENIZERS = ("tokenizer-gpt2", "stories260K", "babyllama-tok105")


@pytest.mark.parametrize("vignette", VIGNETTES, ids=lambda v: v.name)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_tokens_are_those_of_the_whole_text(tokenizer: str, vignette: sd.vignettes.Vignette) -> None:
    """For every site, in random wordings and options: what the parents' pieces, the shared tokens and
    each option's scored tokens make up is the text tokenised at once."""
    codec = Codec(AutoTokenizer.from_pretrained(shared_path("lms", tokenizer)))
    family, rng = Family.from_vignette(vignette), np.random.default_rng(0)
    seen: set[tuple[str, int]] = set()
    for seed in range(25):
        member = family.member(seed)
        phrases: dict[str, Phrase] = {}
        for variable, wording in zip(family.variables, member.wordings, strict=True):
            seen.add((variable.name, wording))
            template = variable.templates[wording]
            parents = [phrases[parent] for parent in variable.parents]
            pieces = [item_tokens(p, codec, i == 0, False)[int(p.index)] for i, p in enumerate(parents)]
            before = tuple(token for piece in pieces for token in piece)
            blank = option_tokens(
                codec, template.prefix, variable.options, template.suffix, with_suffix=True, first=not parents
            )
            for option, row, sentence in zip(variable.options, blank.rows, blank.sentences, strict=True):
                text = " ".join([*(p.sentence for p in parents), template.fill(option)])
                whole = codec.encode(text)
                assert (*before, *blank.shared, *row) == whole, text
                assert (*before, *sentence) == whole, text
            phrases[variable.name] = Phrase(int(rng.integers(len(variable.options))), template, variable.options)
    # Nearly every wording had its turn.
    assert len(seen) > 0.9 * sum(len(v.templates) for v in family.variables)
