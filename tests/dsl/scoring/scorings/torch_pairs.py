"""The same weights in PyTorch and here, and the modules of benchmarks/ that run them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import sdscm_jax as sd

from ....needs import ROOT, shared_path


class Pair(NamedTuple):
    """The same weights on both sides."""

    lm: sd.LanguageModel
    model: Any
    tokenizer: Any


def load_pair(directory: Path) -> Pair:
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return Pair(sd.load_lm(directory), model, transformers.AutoTokenizer.from_pretrained(directory))


def random_gpt2_pair(directory: Path, positions: int, spread: float) -> Pair:
    """A tiny random GPT-2 with the real tokenizer, which has no BOS; ``spread`` is that of its weights."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(shared_path("lms", "tokenizer-gpt2"))
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=positions, vocab_size=len(tokenizer), initializer_range=spread
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return load_pair(directory)


@contextmanager
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and threads that wait for a busy core lose much."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@contextmanager
def benchmark_module(name: str) -> Iterator[ModuleType]:
    """benchmarks/ is no package: the module is loaded from its path."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up by name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module
