import json
from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from spotune.data.tokens import RowTokenizer
from tests.data.templates import CONTROL_TOKENS, NAMES


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    """A byte-level BPE that trims its offsets, as many published ones do, and puts <s> in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=CONTROL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["the printer on the second floor is out of paper\n\nassistant user system\n"], trainer
    )
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]),
        ]
    )
    return tokenizer.to_str().encode()


@pytest.fixture(scope="session")
def decode(tokenizer_json: bytes) -> Callable[[list[int]], str]:
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


@pytest.fixture(scope="session")
def row_tokenizer(tokenizer_json: bytes) -> Callable[..., RowTokenizer]:
    def make(template: str | None, **names: str) -> RowTokenizer:
        config = json.dumps(NAMES | names).encode()
        return RowTokenizer.from_files(tokenizer_json, config, template.encode() if template else None)

    return make
