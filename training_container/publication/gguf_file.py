"""Whole weights as one GGUF file, for llama.cpp and what stands on it.

llama.cpp's converter is no package. The names of tensors and fields, and the block quantization, are those of its own
`gguf` package; what is ours is the order of rows in the query and key weights of Llama, and the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spotune.contracts.gguf import FAMILIES, obstacle
from spotune.contracts.request import GGUFType
from spotune.data.cutting import cut_of
from training_container.ends import ends_of, generation_of
from training_container.faults import TrainingFault
from training_container.publication.gguf_vocabulary import Vocabulary, read_vocabulary

ROTATED_BY_HALVES = frozenset({"llama"})
"""Written with the two halves of each head's rows interleaved, as the original Llama had them."""
BLOCK = 32
"""Weights that share a scale under q8_0; a row that is no multiple of it stays in 16 bits."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor under its name in the file, as it is written."""

    name: str
    shape: tuple[int, ...]
    kind: Any
    read: Callable[[], NDArray[Any]]


def check_convertible(folder: Path) -> None:
    """Refuse a base model that cannot be written as GGUF, before it is trained.

    Raises:
        TrainingFault: its architecture or its positions are not written.
        RequestRefused: its tokenizer is not.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if found := obstacle(config.to_dict()):
        raise TrainingFault(
            "gguf_architecture_unknown",
            "A model of this kind is not written as GGUF.",
            evidence=found,
            remedy="Leave outputs.gguf out; llama.cpp's own script converts the merged weights (outputs.merged).",
        )
    cut_of(json.loads((folder / "tokenizer.json").read_bytes()))


def write_gguf(path: Path, model: Path, kind: GGUFType, name: str, check: Callable[[], None]) -> None:
    """Write the weights of a model folder, tensor by tensor; `check` runs before each and may raise to leave.

    Raises:
        TrainingFault: as `check_convertible`.
    """
    from gguf import GGUFWriter
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model, local_files_only=True)
    writer = GGUFWriter(path, FAMILIES[config.model_type])
    _describe(writer, config, name, kind)
    vocabulary = read_vocabulary(model, config.vocab_size)
    _add_vocabulary(writer, vocabulary, ends_of(vocabulary.eos, generation_of(model)))
    tensors = list(_tensors(model, config, kind))
    for tensor in tensors:
        _announce(writer, tensor)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            check()
            writer.write_tensor_data(tensor.read())
    finally:
        writer.close()


def load_gguf(path: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """The model of a GGUF file, by transformers' own reader, its weights as they are after rounding."""
    from transformers import AutoModelForCausalLM, GgufConfig

    return AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=dtype,
        device_map={"": device},
        local_files_only=True,
    ).eval()


def _describe(writer: Any, config: Any, name: str, kind: GGUFType) -> None:
    from gguf import LlamaFileType

    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    types = {
        "f32": LlamaFileType.ALL_F32,
        "f16": LlamaFileType.MOSTLY_F16,
        "bf16": LlamaFileType.MOSTLY_BF16,
        "q8_0": LlamaFileType.MOSTLY_Q8_0,
    }
    writer.add_name(name)
    writer.add_type("model")
    writer.add_file_type(int(types[kind]))
    writer.add_quantization_version(2)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary, ends: list[int]) -> None:
    """`ends` end a turn; the file has a field for each of three of them."""
    adds = writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.cut)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_add_bos_token(False)
    for add, number in (
        (writer.add_bos_token_id, vocabulary.bos),
        *zip(adds, ends, strict=False),
        (writer.add_pad_token_id, vocabulary.pad),
    ):
        if number is not None:
            add(number)
    if vocabulary.template is not None:
        writer.add_chat_template(vocabulary.template)


def _tensors(model: Path, config: Any, kind: GGUFType) -> Iterator[Tensor]:
    """Every tensor of the folder's safetensors, none of them read yet."""
    from gguf import MODEL_ARCH_NAMES, TensorNameMap
    from safetensors import safe_open

    word = FAMILIES[config.model_type]
    architecture = next(each for each, written in MODEL_ARCH_NAMES.items() if written == word)
    names = TensorNameMap(architecture, config.num_hidden_layers)
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise RuntimeError(f"GGUF has no name for the tensor {key} of a {word} model")
                shape = tuple(file.get_slice(key).get_shape())
                stored = _kind_of(shape, kind)
                yield Tensor(name, shape, stored, _reader(path, key, stored, _heads(key, config)))


def _kind_of(shape: tuple[int, ...], kind: GGUFType) -> Any:
    """Norms and biases always stay in fp32."""
    from gguf import GGMLQuantizationType

    if len(shape) < 2:
        return GGMLQuantizationType.F32
    odd = kind == "q8_0" and shape[-1] % BLOCK
    return GGMLQuantizationType[("f16" if odd else kind).upper()]


def _heads(key: str, config: Any) -> int:
    """Heads whose rows are written in another order; 0 for tensors that stay as they are."""
    if FAMILIES[config.model_type] not in ROTATED_BY_HALVES:
        return 0
    if ".q_proj." in key:
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if ".k_proj." in key else 0


def _reader(path: Path, key: str, kind: Any, heads: int) -> Callable[[], NDArray[Any]]:
    from gguf.quants import quantize
    from safetensors import safe_open

    def read() -> NDArray[Any]:
        with safe_open(path, framework="pt") as file:
            tensor = file.get_tensor(key).float()
        if heads:
            halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
            tensor = halves.transpose(1, 2).reshape(tensor.shape)
        packed: NDArray[Any] = quantize(np.ascontiguousarray(tensor.numpy()), kind)
        return packed

    return read


def _announce(writer: Any, tensor: Tensor) -> None:
    from gguf.constants import GGML_QUANT_SIZES

    block, size = GGML_QUANT_SIZES[tensor.kind]
    count = int(np.prod(tensor.shape))
    writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), count // block * size, tensor.kind)
