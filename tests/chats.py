"""Chat templates after those of real model families, copied by hand, and tiny tokenizers that have their
special tokens. What ``transformers`` makes of them is the truth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from sdscm_jax.models.chat import Chat, ChatCodec

from .models.test_codec import LLAMA3_SPLIT

ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must "
    "alternate user/assistant/user/assistant/...') }}{% endif %}"
)
TEMPLATES = {
    # SmolLM2; Qwen 2 with another default system text.
    "chatml": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
        "You are a helpful AI assistant.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
        "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
        "'<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama3": (
        "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
        "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content ="
        " bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ "
        "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
        "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}"
        "{% endif %}{% for message in loop_messages %}" + ALTERNATE + "{% if loop.index0 == 0 and system_message != "
        "false %}{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}{% else %}"
        "{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' "
        "+ content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + "
        "eos_token }}{% endif %}{% endfor %}"
    ),
    # 7B-Instruct v0.2; it has no system role.
    "mistral": (
        "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}{{ '[INST] ' + "
        "message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role "
        "= 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + "
        "message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}"
        "{{'<start_of_turn>model\n'}}{% endif %}"
    ),
    # Turns are told apart by words only.
    "zephyr": (
        "{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + "
        "eos_token + '\n' }}{% elif message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + eos_token "
        "+ '\n' }}{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\n' + message['content'] + eos_token + "
        "'\n' }}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
    ),
    # No special token stands between the turns.
    "vicuna": (
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% elif "
        "message['role'] == 'user' %}{{ 'USER: ' + message['content'] + '\n' }}{% else %}{{ 'ASSISTANT: ' + "
        "message['content'] + eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}"
        "{% endif %}"
    ),
    # Qwen 3, without tools and without what it does to earlier answers.
    "qwen3": (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}{% if message.role == 'assistant' and "
        "loop.last %}{{ '<think>\n\n</think>\n\n' + message.content.lstrip('\n') }}{% else %}{{ message.content }}"
        "{% endif %}{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{% endif %}"
    ),
}
NO_SYSTEM = ("mistral", "gemma")
# Without it, Qwen 3 asks for a thought.
VARIABLES = {"qwen3": {"enable_thinking": False}}
SPECIAL = (
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<start_of_turn>", "<end_of_turn>",
)  # fmt: skip
TEXT = (
    "The weather outside is sunny. It is low or high.\n\nMy friend goes for a run.\n\nShe is 25 years old. [INST] Go "
    "on. [/INST] Who is it?\n\nUSER: ASSISTANT: assistant user system model\n What next? "
    "xylem xylem\n\n<<SYS>>\n<</SYS>>\n\n"
)


@cache
def tokenizer(style: str, split: str = "llama3") -> PreTrainedTokenizerFast:
    """A tiny tokenizer with a chat template.

    Args:
        style: of the template; empty: none.
        split: how text is split, as by Llama 3 (where ``.`` and line ends after it are one piece), by
            GPT-2, or by SentencePiece.
    """
    inner = Tokenizer(BPE(ignore_merges=True) if split == "llama3" else BPE())
    if split == "sentencepiece":
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
        inner.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = sorted({*TEXT, *map(chr, range(33, 127))})
    else:
        by_gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
        by_llama3 = [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
        inner.pre_tokenizer = by_gpt2 if split == "gpt2" else pre_tokenizers.Sequence(by_llama3)
        inner.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=500, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator([TEXT] * 20, trainer)
    if split != "gpt2":
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False
    )
    made.add_tokens(["<think>", "</think>"])
    made.chat_template = TEMPLATES.get(style)
    return made


def codec(style: str, split: str = "llama3", chat: Chat | None = None) -> ChatCodec:
    return ChatCodec(tokenizer(style, split), default(style) if chat is None else chat)


def default(style: str) -> Chat:
    return Chat(variables=VARIABLES.get(style, {}))


def messages(chat: Chat, texts: Sequence[str], answer: str | None = None) -> list[dict[str, str]]:
    """The conversation of a site that is given texts."""
    turns = [] if chat.system is None else [{"role": "system", "content": chat.system}]
    turns.append({"role": "user", "content": chat.user.replace("{}", " ".join(texts)) if texts else chat.alone})
    return turns if answer is None else [*turns, {"role": "assistant", "content": answer}]


def truth(made: Any, chat: Chat, texts: Sequence[str], answer: str | None) -> tuple[int, ...]:
    """Tokens of the conversation with the beginning of an answer, or up to where one is asked for."""
    how = {"add_generation_prompt": True} if answer is None else {"continue_final_message": True}
    found = made.apply_chat_template(messages(chat, texts, answer), return_dict=False, **how, **chat.variables)
    return tuple(found)
