from __future__ import annotations

from pathlib import Path

import pytest

from tests.training_container.building import save_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With merges: a tokenizer without any is not written as GGUF."""
    return save_model(tmp_path_factory.mktemp("model"), merges=(("W", "h"), ("Wh", "a"), ("Wha", "t")))
