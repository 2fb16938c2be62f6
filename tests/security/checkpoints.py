"""152 checkpoints that are built to run code, hang, fill the memory or be believed, as directories.

Each is the embedded language model's with some files replaced. Where ``evil.py`` of the directory, a pickle in it or a
template is ever run, a file ``PWNED`` stands in the working directory or beside the checkpoint.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdscm_jax.models.language_model import EMBEDDED

from .hostile_templates import HOSTILE

# Content by name of a file; None: the file is absent.
Files = dict[str, bytes | None]

EVIL = b"""
open('PWNED', 'w').write('evil.py ran')
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Evil(PreTrainedTokenizerFast): pass
class EvilConfig(LlamaConfig): pass
class EvilModel(LlamaForCausalLM): pass
"""
_AUTO = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor")


class _Pwned:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("PWNED", "w")


PICKLE = pickle.dumps(_Pwned())


def _json(name: str) -> dict[str, Any]:
    return dict(json.loads((EMBEDDED / name).read_text(encoding="utf-8")))


def _with(name: str, **changed: Any) -> Files:
    return {name: json.dumps(_json(name) | changed).encode()}


def _config(**changed: Any) -> Files:
    return _with("config.json", **changed)


def _tokenizer(**changed: Any) -> Files:
    return {**_with("tokenizer_config.json", **changed), "evil.py": EVIL}


def _tensors(header: Any, data: bytes = b"") -> Files:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return {"model.safetensors": struct.pack("<Q", len(text)) + text + data}


def _code() -> dict[str, Files]:
    """What transformers would import, if it were let."""
    found: dict[str, Files] = {}
    maps = {
        "a pair": {"AutoTokenizer": ["evil.Evil", None]}, "the second": {"AutoTokenizer": [None, "evil.Evil"]},
        "both": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "a list": ["evil.Evil", None],
        "elsewhere": {"AutoTokenizer": ["someone/else--evil.Evil", None]}, "text": {"AutoTokenizer": "evil.Evil"},
        "a number": {"AutoTokenizer": 7}, "nothing": {"AutoTokenizer": [None, None]}, "no map": "evil.Evil",
        "above": {"AutoTokenizer": ["../evil.Evil", None]},
    }  # fmt: skip
    for name, value in maps.items():
        found[f"tokenizer auto_map, {name}"] = _tokenizer(auto_map=value, tokenizer_class="EvilTok")
        found[f"tokenizer auto_map beside a known class, {name}"] = _tokenizer(auto_map=value)
    for auto in _AUTO:
        mapped = {auto: "evil.EvilConfig"}
        found[f"config auto_map of {auto}"] = {**_config(auto_map=mapped), "evil.py": EVIL}
        found[f"config auto_map of {auto}, unknown type"] = {
            **_config(auto_map=mapped, model_type="evil"), "evil.py": EVIL,
        }  # fmt: skip
    for file in ("processor_config.json", "preprocessor_config.json", "generation_config.json", "adapter_config.json"):
        content = {
            "auto_map": {"AutoProcessor": "evil.Evil", "GenerationMixin": "evil.Evil"},
            "custom_generate": "evil",
        }
        found[f"auto_map of {file}"] = {file: json.dumps(content).encode(), "evil.py": EVIL}
    found["custom_generate"] = {"custom_generate/generate.py": EVIL, "generation_config.json": b"{}"}
    for file in ("__init__.py", "tokenization_llama.py", "modeling_llama.py", "json.py", "transformers.py", "setup.py"):
        found[f"a program called {file}"] = {file: EVIL}
    for key in ("tokenizer_class", "processor_class", "tokenizer_file", "vocab_file", "name_or_path", "backend"):
        found[f"tokenizer's {key} is a program"] = _tokenizer(**{key: "evil.Evil"})
    found["tokenizer's class is a path"] = _tokenizer(tokenizer_class="../../evil.Evil")
    found["tokenizer's class is Python"] = _tokenizer(tokenizer_class="__import__('evil')")
    for key in ("architectures", "quantization_config", "torch_dtype", "attn_implementation", "_name_or_path"):
        found[f"config's {key} is a program"] = {**_config(**{key: ["evil.EvilModel"]}), "evil.py": EVIL}
    return found


def _pickles() -> dict[str, Files]:
    names = ("model.safetensors", "pytorch_model.bin", "model.pt", "training_args.bin", "optimizer.pt", "vocab.pkl",
             "tokenizer.json", "config.json", "tokenizer.model", "flax_model.msgpack", "vocab.txt",
             "chat_template.jinja",
             "generation_config.json", "special_tokens_map.json", "added_tokens.json", "model.npy")  # fmt: skip
    found: dict[str, Files] = {f"a pickle as {name}": {name: PICKLE} for name in names}
    for name in ("pytorch_model.bin", "model.pt", "model.pkl"):
        found[f"only a pickle, {name}"] = {name: PICKLE, "model.safetensors": None}
    index = {"metadata": {}, "weight_map": dict.fromkeys(("model.embed_tokens.weight", "a"), "pytorch_model.bin")}
    found["an index to a pickle"] = {
        "model.safetensors.index.json": json.dumps(index).encode(), "pytorch_model.bin": PICKLE,
        "model.safetensors": None,
    }  # fmt: skip
    return found


def _weights() -> dict[str, Files]:
    whole = (EMBEDDED / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")

    def changed(**how: Any) -> Files:
        return _tensors(header | {name: header[name] | how}, whole[8 + length :])

    found: dict[str, Files] = {
        "header of 2**60 bytes": {"model.safetensors": struct.pack("<Q", 2**60) + b"{}"},
        "header of 2**64 - 1 bytes": {"model.safetensors": b"\xff" * 8 + b"{}"},
        "weights that are NaN": {"model.safetensors": whole[: 8 + length] + b"\xff" * (len(whole) - 8 - length)},
        "no weights": {"model.safetensors": b""}, "cut": {"model.safetensors": whole[: len(whole) // 2]},
        "a longer file": {"model.safetensors": whole + b"x" * 100}, "no JSON": _tensors(b"not json"),
        "deep header": _tensors(b"[" * 100_000 + b"]" * 100_000), "an empty header": _tensors({}),
        "overlapping": changed(data_offsets=[0, 8]), "backwards": changed(data_offsets=[8, 0]),
        "huge offsets": changed(data_offsets=[0, 2**63]), "negative offsets": changed(data_offsets=[-8, 0]),
        "huge shape": changed(shape=[2**40, 2**40]), "negative shape": changed(shape=[-1, -1]),
        "zero shape": changed(shape=[0]), "no shape": changed(shape=None), "unknown dtype": changed(dtype="OBJECT"),
        "another dtype": changed(dtype="F64"),
        "a tensor with a path": _tensors({"../../PWNED": header[name]}, whole[8 + length :]),
        "weights are a directory": {"model.safetensors": None, "model.safetensors/x": b""},
    }  # fmt: skip
    maps: dict[str, Any] = {
        "outside": {name: "../../../etc/passwd"}, "absolute": {name: "/etc/passwd"}, "a device": {name: "/dev/zero"},
        "a number": {name: 7}, "nothing": {}, "a list": [name], "itself": {name: "model.safetensors.index.json"},
    }  # fmt: skip
    for of, content in maps.items():
        found[f"index to {of}"] = {
            "model.safetensors.index.json": json.dumps({"weight_map": content}).encode(), "model.safetensors": None,
        }  # fmt: skip
    found["deep index"] = {"model.safetensors.index.json": b"[" * 100_000, "model.safetensors": None}
    return found


def _configs() -> dict[str, Files]:
    found: dict[str, Files] = {}
    for key in ("num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "head_dim"):
        for value in (-1, 0, 2**63, "x"):
            found[f"{key} = {value!r}"] = _config(**{key: value})
    found["10**9 layers"] = _config(num_hidden_layers=10**9)
    found["epsilon NaN"], found["epsilon -1"] = _config(rms_norm_eps=float("nan")), _config(rms_norm_eps=-1.0)
    found["rope factor 0"] = _config(rope_scaling={"rope_type": "linear", "factor": 0.0})
    found["deep config"] = {"config.json": b'{"a": ' * 100_000 + b"1" + b"}" * 100_000}
    found["integer of 5,000 digits"] = {"config.json": b'{"model_type": "llama", "vocab_size": ' + b"9" * 5000 + b"}"}
    found["config is a list"], found["config is empty"] = {"config.json": b"[]"}, {"config.json": b""}
    found["config is no UTF-8"] = {"config.json": b"\xff\xfe{}"}
    found["model_type is a list"] = _config(model_type=["llama"])
    return found


def _tokenizers() -> dict[str, Files]:
    described = _json("tokenizer.json")
    found: dict[str, Files] = {
        "deep tokenizer": {"tokenizer.json": b'{"a": ' * 100_000}, "tokenizer is a list": {"tokenizer.json": b"[]"},
        "tokenizer's special token is an escape": _tokenizer(eos_token="\x1b]0;owned\x07"),
        "tokenizer's settings are a list": {"tokenizer_config.json": b"[]"},
    }  # fmt: skip
    slow = {"type": "Split", "pattern": {"Regex": "(a*)*b"}, "behavior": "Isolated", "invert": False}
    found["a slow regex"] = {"tokenizer.json": json.dumps(described | {"pre_tokenizer": slow}).encode()}
    return found


def _chats() -> dict[str, Files]:
    body = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    names = ("loops in loops", "many letters", "a list that doubles", "the object's classes", "another file")
    found: dict[str, Files] = {f"chat {name}": _tokenizer(chat_template=HOSTILE[name] + body) for name in names}
    found["chat in a file of its own"] = {"chat_template.jinja": (HOSTILE["centred"] + body).encode()}
    found["chat by name"] = {"additional_chat_templates/default.jinja": (HOSTILE["a module"] + body).encode()}
    found["chat_template is a list"] = _tokenizer(chat_template=[{"name": "default", "template": 7}])
    found["chat is a program"] = _tokenizer(chat_template="{{ cycler.__init__.__globals__.os.system('touch PWNED') }}")
    return found


def checkpoints() -> dict[str, Files]:
    return {**_code(), **_pickles(), **_weights(), **_configs(), **_tokenizers(), **_chats()}


def write(directory: Path, files: Files) -> None:
    """The checkpoint: what is not replaced is linked to."""
    directory.mkdir(parents=True)
    for path in EMBEDDED.iterdir():
        if path.name not in files and not path.name.startswith("training"):
            (directory / path.name).symlink_to(path)
    for name, content in files.items():
        if content is not None:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)


def special_files(directory: Path) -> dict[str, Callable[[], None]]:
    """Checkpoints whose files are none: a reader that opens them waits for ever."""

    def fifo(name: str) -> Callable[[], None]:
        def make() -> None:
            write(directory / f"fifo {name}", {name: None})
            os.mkfifo(directory / f"fifo {name}" / name)

        return make

    return {f"fifo {name}": fifo(name) for name in ("model.safetensors", "config.json", "tokenizer.json")}
