"""Train the embedded default language model, from text that the vignettes generate.

    python -m sdscm_jax.models.train_embedded --out DIR

writes ``config.json``, ``model.safetensors`` (bfloat16), the tokenizer, ``training.csv`` (step,
tokens seen, loss, seconds, and from time to time the mean absolute difference between the model's
conditional probabilities and the vignettes', with all sentences and with some left out) and
``training.json`` (settings and final figures).
The same settings, seed and machine give the same weights. It can be stopped at any time: the
weights written last stay.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
import typer
from flax import nnx
from optax.contrib import MuonDimensionNumbers, muon
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, PreTrainedTokenizerFast

from ..durable import put_text
from ..vignettes import SHIPPED
from .calibration import calibration
from .checkpoint import save_parameters
from .corpus import DocumentWriter, packed_batches, write_texts
from .families import read_config
from .language_model import LanguageModel, random_lm
from .saved_checkpoint import save_checkpoint
from .training import train_lm

HELD_OUT_SEED = 20_000_001


@dataclass(frozen=True)
class Settings:
    """Everything that determines the weights."""

    vocab_size: int = 1600
    width: int = 128
    layers: int = 4
    heads: int = 4
    mlp_width: int = 384
    max_positions: int = 512
    shares: tuple[float, ...] = (0.40, 0.16, 0.11, 0.11, 0.11, 0.11)
    wording_weight: float = 0.1
    drop: float = 0.4
    candidates: int = 8
    rows: int = 8
    length: int = 224
    steps: int = 4500
    muon_rate: float = 0.015
    adam_rate: float = 3e-3
    warmup: int = 200
    average: float = 0.995
    seed: int = 0


def train_tokenizer(settings: Settings) -> PreTrainedTokenizerFast:
    """Byte-level BPE on vignette text; every text can be encoded, and texts begin with BOS."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(write_texts(SHIPPED, 4000, settings.seed), trainer)
    begin = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", begin)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        model_max_length=settings.max_positions,
        clean_up_tokenization_spaces=False,
    )


def write_model(out: Path, lm: LanguageModel, config: LlamaConfig) -> None:
    """The directory that ``load_lm`` reads."""

    def write(place: Path) -> None:
        config.save_pretrained(place)
        lm.tokenizer.save_pretrained(place)
        save_parameters(place, lm.config, lm.params, jnp.bfloat16)

    save_checkpoint(out, write, {})


def as_stored(lm: LanguageModel) -> LanguageModel:
    """The model as a user loads it: weights rounded to bfloat16, computed with in float32."""
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), lm.params)
    return replace(lm, params=params)


def measure(lm: LanguageModel, units: int, *, left_out: bool = False) -> dict[str, float]:
    """Mean absolute difference of each vignette on held-out units."""
    errors = {v.name: calibration(as_stored(lm), v, units, HELD_OUT_SEED, left_out=left_out) for v in SHIPPED}
    return {name: float(np.mean(list(found.values()))) for name, found in errors.items()}


def make_optimizer(settings: Settings) -> optax.GradientTransformation:
    """Muon for the layers' matrices (stacked along axis 0), Adam for everything else."""

    def rate(peak: float) -> optax.Schedule:
        return optax.warmup_cosine_decay_schedule(0.0, peak, settings.warmup, settings.steps, 0.01 * peak)

    def matrices(params: nnx.State) -> nnx.State:
        return jax.tree.map(lambda x: MuonDimensionNumbers(1, 2) if x.ndim == 3 else None, params)

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        muon(
            rate(settings.muon_rate),
            muon_weight_dimension_numbers=matrices,
            adam_b2=0.98,
            adam_learning_rate=rate(settings.adam_rate),
        ),
    )


def train(out: Path, settings: Settings, say: Callable[[str], object] = print) -> LanguageModel:
    """Train, and write the model to ``out`` every 500 steps and at the end."""
    tokenizer = train_tokenizer(settings)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        intermediate_size=settings.mlp_width,
        max_position_embeddings=settings.max_positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    lm = random_lm(read_config(config), tokenizer, settings.seed)
    writers = [
        DocumentWriter(v, lm.codec, settings.wording_weight, settings.drop, settings.candidates) for v in SHIPPED
    ]
    batches = packed_batches(
        writers, list(settings.shares), settings.rows, settings.length, settings.steps, settings.seed + 1
    )

    started, losses = time.time(), []
    out.mkdir(parents=True, exist_ok=True)
    with (out / "training.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            [
                "step",
                "tokens",
                "loss",
                "seconds",
                *(f"{kind}_{v.name}" for kind in ("error", "left_out") for v in SHIPPED),
            ]
        )

        def on_step(step: int, loss: float, current: Callable[[], LanguageModel]) -> None:
            losses.append(loss)
            if step % 100 and step != settings.steps:
                return
            errors: list[str] = []
            if step % 500 == 0:
                write_model(out, current(), config)
                both = (measure(current(), 24), measure(current(), 24, left_out=True))
                errors = [f"{e:.4f}" for found in both for e in found.values()]
            tokens = step * settings.rows * settings.length
            row = [step, tokens, f"{np.mean(losses):.4f}", f"{time.time() - started:.0f}", *errors]
            losses.clear()
            table.writerow(row)
            file.flush()
            say(" ".join(map(str, row)))

        lm = train_lm(lm, batches, make_optimizer(settings), average=settings.average, on_step=on_step)
    write_model(out, lm, config)
    final = {
        "settings": asdict(settings),
        "units": 200,
        "mean_absolute_difference": measure(lm, 200),
        "mean_absolute_difference_left_out": measure(lm, 200, left_out=True),
    }
    put_text(out / "training.json", json.dumps(final, indent=1) + "\n")
    say(json.dumps(final["mean_absolute_difference"]))
    return lm


def main(
    out: Annotated[Path, typer.Option(help="Directory to write.")] = Path("embedded"),
    steps: Annotated[int, typer.Option(help="Training steps.")] = Settings.steps,
    seed: Annotated[int, typer.Option(help="Seed of text, weights and order.")] = Settings.seed,
) -> None:
    """Train the embedded language model."""
    train(out, Settings(steps=steps, seed=seed), lambda s: print(s, file=sys.stderr))


if __name__ == "__main__":
    typer.run(main)
