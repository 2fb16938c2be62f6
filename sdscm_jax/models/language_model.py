"""A language model as a JAX value: parameters are leaves, structure and tokenizer are static."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from ..checks import as_path, flag, instance, seed, told
from ..errors import LoadError, RandomKeyError, SDSCMError
from ..page.forms import Form, Shown
from .chat import Chat, ChatCodec
from .checkpoint import abstract_decoder, load_parameters, save_parameters
from .codec import Codec, Tokens
from .config import DecoderConfig
from .decoder import Decoder
from .embeddings import embed_texts
from .int8 import KNOWN, numbers, refuse_rounded
from .pages import Pages
from .saved_checkpoint import save_checkpoint
from .sharding import checked_mesh, expert_mesh, gather
from .stored_model import Published, stored_model
from .tokenizer import GENERATION
from .weight_streaming import parts_of

EMBEDDED = Path(__file__).parent / "embedded"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class LanguageModel(Shown):
    """A decoder with its tokenizer; a pytree whose leaves are the parameters.

    Pass it to a model function as an argument, so that ``jax.jit`` sees the parameters as inputs.

    Attributes:
        params: Flax NNX state of a ``Decoder``.
        graph: Flax NNX graph definition (static).
        codec: text to token ids (static).
        prompt: number of virtual tokens that begin every text, after BOS (static). They have an
            input embedding each, the last rows of the embedding table, and are never predicted;
            see ``adapters.SoftPrompt``.
        published: the ``config.json`` that it came with (static).

    >>> import sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> tokens = lm.tokenizer.encode("A 55-year-old woman", return_tensors="np")
    >>> lm.logits(tokens).shape == (*tokens.shape, lm.config.vocab_size)
    True
    """

    params: nnx.State
    graph: nnx.GraphDef = field(metadata={"static": True})
    codec: Codec = field(metadata={"static": True})
    prompt: int = field(default=0, metadata={"static": True})
    published: Published = field(default=Published(), metadata={"static": True})

    def _form(self) -> Form:
        if self.absent:
            return Form("LanguageModel: a stand-in, which cannot be asked")
        c = self.config
        kinds = sorted({str(x.dtype) for x in jax.tree.leaves(self.params) if hasattr(x, "dtype")})
        facts = [
            ("layers", f"{c.layers} of width {c.width}, {c.heads} heads"),
            ("vocabulary", f"{c.vocab_size:,} tokens"),
            ("context", f"{c.max_positions:,} positions"),
        ]
        if c.experts is not None:
            facts.append(("experts", f"{c.experts.count}, of which a token goes through {c.experts.chosen}"))
        if self.prompt:
            facts.append(("virtual tokens", str(self.prompt)))
        if self.chat is not None:
            facts.append(("texts are", "said in a conversation (chat)"))
        # Computing it reads all parameters, which is for who asks.
        if "_fingerprint" in self.__dict__:
            facts.append(("fingerprint", self.__dict__["_fingerprint"][1]))
        title = f"LanguageModel: {c.family}, {self.parameter_count:,} parameters ({', '.join(kinds)})"
        return Form(title, facts)

    @property
    def parameter_count(self) -> int:
        """How many numbers the parameters are."""
        return sum(numbers(x) for x in jax.tree.leaves(self.params))

    @property
    def absent(self) -> bool:
        """Is this a stand-in that cannot be asked? (See ``absent_lm``.)"""
        return self.graph is None

    @property
    def tokenizer(self) -> Any:
        """The ``transformers`` tokenizer."""
        return self.codec.tokenizer

    @property
    def chat(self) -> Chat | None:
        """What is said around the texts of a program; None: they are read as they stand."""
        return self.codec.chat if isinstance(self.codec, ChatCodec) else None

    @property
    def decoder(self) -> Decoder:
        """The Flax NNX module."""
        return nnx.merge(self.graph, self.params)

    @cached_property
    def config(self) -> DecoderConfig:
        """The switches of the decoder."""
        return self.decoder.config

    @property
    def prompt_tokens(self) -> Tokens:
        """Ids of the virtual tokens, which follow those of the vocabulary."""
        if not self.prompt:
            return ()
        return tuple(range(self.config.vocab_size, self.config.vocab_size + self.prompt))

    @property
    def dtype(self) -> Any:
        """Dtype of the parameters, int8 weights and their scales apart; activations have it too."""
        # The first are of norms, which keep it.
        return next(x.dtype for x in jax.tree.leaves(self.params) if jnp.issubdtype(x.dtype, jnp.floating))

    @property
    def around(self) -> int:
        """Most tokens that stand around the texts of one site: what begins a text, virtual tokens, and in a chat
        what its template writes before and after."""
        codec = self.codec
        if not isinstance(codec, ChatCodec):
            return self.prompt + max(1, len(codec.opening(True)))
        return self.prompt + max(len(codec.opening(n) + codec.before_generated("", n)) for n in (True, False))

    def encode(
        self,
        tokens: Array,
        positions: Array,
        mask: Array,
        past: Pages = None,
        past_positions: Array | None = None,
    ) -> tuple[Array, Pages]:
        """Hidden states and keys/values of new tokens; see ``Decoder.encode``."""
        return self.decoder.encode(tokens, positions, mask, past, past_positions)

    def logits(self, tokens: Array, positions: Array | None = None, mask: Array | None = None) -> Array:
        """Logits of the token after each token.

        Args:
            tokens: int ``[..., T]``, BOS and ``prompt_tokens`` included where they are meant to count.
            positions: int ``[..., T]``; 0, 1, 2, … where left out.
            mask: bool or 0/1; ``[..., T]`` marks real tokens (padding is not looked at), or
                ``[..., T, T]`` says which columns each row may look at. Attention is causal in
                either case.

        Returns:
            float32 ``[..., T, V]``.
        """
        tokens = jnp.asarray(tokens)
        length = tokens.shape[-1]
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)
        allowed = jnp.tri(length, dtype=bool)
        if mask is not None:
            mask = jnp.asarray(mask, bool)
            allowed = allowed & (mask[..., None, :] if mask.ndim == tokens.ndim else mask)
        allowed = jnp.broadcast_to(allowed, (*tokens.shape, length))
        decoder = self.decoder
        return decoder.logits(decoder.encode(tokens, jnp.asarray(positions), allowed)[0])

    def embed(self, texts: Sequence[str], *, layer: int = -1, pool: str = "mean") -> np.ndarray:
        """Texts as vectors, float32 ``[N, width]``: hidden states, pooled over the tokens of each text (not BOS).

        Args:
            texts: N texts, which are read as they stand, each after BOS.
            layer: 0 is what the first block reads, ``config.layers`` (or -1) what comes of the last and the final norm.
            pool: ``"mean"``, or ``"last"``: of the last token, which has read all others.

        Raises:
            OptionError, ContextLengthError: a text is none, or has too many tokens; it says which.

        >>> load_lm().embed(["She is well.", "He is well."], layer=2).shape
        (2, 128)
        """
        return embed_texts(self, texts, layer, pool)

    def save(self, directory: str | Path) -> None:
        """Write a checkpoint that ``load_lm`` and transformers read: config, safetensors and the tokenizer's files.

        Args:
            directory: made where it is absent; files of these names in it are replaced. A save that was cut is no
                model: ``load_lm`` refuses it, and files that changed since.

        Raises:
            SDSCMError: the weights are int8 or int4, there are virtual tokens (keep the ``SoftPrompt`` itself), the
                model came from no checkpoint, or the directory holds the shards of another; or the disk is full
                (what was there before is as it was).
            ResumeError: another call is saving there.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     load_lm().save(place)
        ...     load_lm(place).fingerprint() == load_lm().fingerprint()
        True
        """
        directory = as_path(directory, "the directory of a language model")
        if self.prompt:
            raise SDSCMError("virtual tokens are no part of a checkpoint; save the model without its soft prompt")
        if not self.published.text:
            raise SDSCMError("a language model that came from no checkpoint has no config.json to write")
        refuse_rounded(self.params, "a checkpoint that others read")
        name = self.dtype.name
        config = {**json.loads(self.published.text), "dtype": name, "torch_dtype": name}
        texts = {"config.json": json.dumps(config, indent=2) + "\n"}
        if self.published.generation is not None:
            texts[GENERATION] = self.published.generation

        def write(place: Path) -> None:
            save_parameters(place, self.config, self.params, self.dtype)
            self.tokenizer.save_pretrained(place)

        save_checkpoint(Path(directory), write, texts)

    def fingerprint(self) -> str:
        """Hexadecimal digest of tokenizer, chat, switches, virtual tokens and parameters.

        It does not depend on where the parameters lie. It is computed once for the parameters that
        the model has; that is collective where they are spread over processes.
        """
        leaves = jax.tree.leaves(self.params)
        kept, digest = self.__dict__.get("_fingerprint", ((), ""))
        # The state that holds the parameters can be changed in place, the arrays cannot.
        if digest and len(kept) == len(leaves) and all(a is b for a, b in zip(kept, leaves, strict=True)):
            return digest
        hashed = hashlib.sha256(f"{self.codec.fingerprint} {self.config} {self.prompt}".encode())
        for leaf in leaves:
            for part in parts_of(leaf):
                hashed.update(gather(part).tobytes())
        digest = hashed.hexdigest()
        if all(isinstance(leaf, Array) for leaf in leaves):
            self.__dict__["_fingerprint"] = (leaves, digest)
        return digest


def absent_lm() -> LanguageModel:
    """A stand-in without parameters or tokenizer, for a model whose scores are at hand."""
    return LanguageModel(nnx.State({}), None, None)  # type: ignore[arg-type]


def as_rngs(rngs: Any, what: str) -> nnx.Rngs:
    """Flax's randomness; of a PRNG key or a seed, what begins with it.

    Raises:
        RandomKeyError: it is none of these; the message says which argument it is.
    """
    if isinstance(rngs, nnx.Rngs):
        return rngs
    typed = isinstance(rngs, Array) and jnp.issubdtype(rngs.dtype, jax.dtypes.prng_key)
    return nnx.Rngs(rngs if typed and rngs.shape == () else seed(rngs, f"{what}, where it is a seed,", RandomKeyError))


def parse_dtype(value: Any) -> Any:
    """A dtype of weights.

    Raises:
        LoadError: it is none.
    """
    try:
        # (NumPy takes any class for the dtype of objects, and a number for that of its kind.)
        known = isinstance(value, str | np.dtype) or (isinstance(value, type) and issubclass(value, np.generic | float))
        if not known and not isinstance(value, type(jnp.float32)):
            raise TypeError
        return jnp.dtype(value)
    except Exception as error:
        raise LoadError(f"dtype is float32 or bfloat16, got {told(value)}") from error


def random_lm(config: DecoderConfig, tokenizer: Any, key: int | Array = 0, dtype: Any = jnp.float32) -> LanguageModel:
    """A model with random weights: for training from scratch, and for tests.

    Args:
        config: the switches.
        tokenizer: a ``transformers`` tokenizer whose ids lie below ``config.vocab_size``.
        key: seed or PRNG key of the weights.
        dtype: dtype of the weights.

    Raises:
        RandomKeyError: the key is none.
    """
    instance(config, DecoderConfig, "config")
    if not hasattr(tokenizer, "added_tokens_decoder"):
        raise SDSCMError(f"tokenizer is one of transformers, got {told(tokenizer)}")
    dtype = parse_dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise SDSCMError(f"dtype {dtype} is not supported: weights are floating-point numbers")
    graph, params = nnx.split(Decoder(config, dtype, as_rngs(key, "key")), nnx.Param, ...)[:2]
    return LanguageModel(params, graph, Codec(tokenizer, config.vocab_size))


def load_lm(
    source: str | Path | None = None,
    *,
    dtype: Any = jnp.float32,
    mesh: Mesh | None = None,
    chat: Chat | bool = False,
    weights: str | None = None,
) -> LanguageModel:
    """Load a language model.

    Which families (``model_type`` of ``config.json``) there are is said by ``sdscm models`` and in ``docs/models.md``;
    ``docs/add-a-family.md`` says how to add one.

    Args:
        source: None for the embedded default; a directory with ``config.json``,
            ``*.safetensors`` and a tokenizer; a GGUF file, such as llama.cpp reads (extra ``gguf``;
            ``docs/gguf.md``); or a hub id such as ``"openai-community/gpt2"``, which is fetched
            (once, into the hub's cache).
        dtype: ``float32`` or ``bfloat16``; scores are float32 in either case.
        mesh: devices that share the model, with axes named ``"data"`` (copies of the parameters),
            ``"tensor"`` (parts of them) and ``"expert"`` (experts, where it has some), each of which may be left
            out; see ``sharding.parameter_spec``. Parameters are read a layer at a time, straight into their
            parts, so that neither the host nor a device has to hold the whole model. Where several processes share the
            mesh, each calls this and reads the parts of its own devices. None: the default device.
        chat: for an instruct model: what is given to a site stands in the user's turn, and the site's
            own text is what the assistant says (``docs/chat.md``). A ``Chat``, or True for
            ``Chat()``. False: texts are read as they stand, whatever the model.
        weights: ``"int8"``: the kernels of the layers are rounded to int8 as they are read, with a float32
            scale for each output; the rest keeps ``dtype``. A quarter of the memory of float32, for other
            scores (``benchmarks/results/int8.md``); it can be adapted (``SoftPrompt``, ``LowRank``), not
            trained or saved. ``"int4"``: to four bits, with a scale for every 32 inputs of an output; about half
            of int8's memory, and scores change by more. None: weights are of ``dtype``.

    Returns:
        the model, a pytree.

    Raises:
        LoadError: nothing is found, the family, ``dtype`` or ``weights`` is not supported, or tensors are
            missing or have the wrong shape; the message lists them. Or, with ``chat``: there is no chat template, or
            one that a program's texts cannot be written in.
        TemplateError: the chat template takes more time or memory than a conversation may.
        SDSCMError: the axes of the mesh have other names, or the experts cannot be shared equally.

    >>> load_lm().config.family
    'llama'
    >>> mesh = jax.make_mesh((1, 1), ("data", "tensor"))  # say (2, 4) on eight devices
    >>> load_lm(mesh=mesh).fingerprint() == load_lm().fingerprint()
    True
    >>> load_lm(weights="int8").config.weights
    'int8'
    """
    mesh = None if mesh is None else checked_mesh(mesh)
    chat = chat if isinstance(chat, Chat) else flag(chat, "chat, where it is no Chat,", LoadError)
    place = _locate(source)
    dtype = parse_dtype(dtype)
    if dtype not in (jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)):
        raise LoadError(f"dtype {dtype} is not supported (float32 or bfloat16)")
    if not (weights is None or isinstance(weights, str)) or weights not in KNOWN:
        raise LoadError(f"weights {told(weights)} is not supported (known: {', '.join(map(repr, KNOWN))})")
    stored = stored_model(place)
    config, tokenizer = replace(stored.config, weights=weights), stored.tokenizer
    config = replace(config, expert_mesh=expert_mesh(config, mesh))
    if not 1 < len(tokenizer) <= config.vocab_size + 256:
        raise LoadError(f"{place}: the tokenizer has {len(tokenizer)} entries, the model {config.vocab_size}")
    known = config.vocab_size, stored.ends
    try:
        codec = ChatCodec(tokenizer, Chat() if chat is True else chat, *known) if chat else Codec(tokenizer, *known)
    except LoadError as error:
        raise LoadError(f"{place}: {error}") from error
    params = load_parameters(stored.tensors, config, dtype, mesh)
    graph, _ = abstract_decoder(config, dtype)
    return LanguageModel(params, graph, codec, published=stored.published)


def _locate(source: str | Path | None) -> Path:
    if source is None:
        return EMBEDDED
    directory = as_path(source, "a language model", LoadError)
    name = str(source)
    looks_like_hub_id = name.count("/") <= 1 and not name.startswith((".", "/", "~")) and not directory.exists()
    if not looks_like_hub_id:
        return directory
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]))
    except Exception as error:  # the hub client raises many kinds here
        raise LoadError(
            f"{name!r} is neither a directory nor a model that the hub gave: {type(error).__name__}: {error}"
        ) from error
