"""A base model of a few thousand parameters: a byte-level tokenizer, ChatML, a Llama of two layers. No torch here."""

from __future__ import annotations

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

NAME = "spotune/tiny"
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 259,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "float32",
}
PARAMETERS = 259 * 32 + 2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64 + 2 * 32) + 32


def tokenizer_json() -> str:
    """A tokenizer of one token a byte, and three special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    return str(tokenizer.to_str())


def files(name: str = NAME) -> dict[str, bytes]:
    """The model's folder without its weights."""
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "chat_template": CHAT_TEMPLATE,
        "model_max_length": 1024,
    }
    marker = {"name": name, "revision": "1", "parameters": PARAMETERS}
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": tokenizer_json().encode(),
        "tokenizer_config.json": json.dumps(tokenizer_config).encode(),
        "spotune.json": json.dumps(marker).encode(),
    }


def chat_rows(count: int) -> bytes:
    """A dataset of short conversations, no two the same."""
    rows = (
        {
            "messages": [
                {"role": "user", "content": f"Say the number {number} twice."},
                {"role": "assistant", "content": f"{number} {number}"},
            ]
        }
        for number in range(count)
    )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
