"""Outputs that cannot be made of a base model's own files are refused before anything is started."""

from __future__ import annotations

import pytest

from spotune.contracts.errors import RequestRefused
from spotune.contracts.request import JobRequest
from spotune.service.installation import install
from spotune.service.jobs.submit import submit
from tests import tiny_model
from tests.in_process import client_of, world


def test_gguf_with_a_tokenizer_that_is_not_written_is_refused_by_name() -> None:
    """The tiny model's has no merges."""
    made = world()
    install(made.here)
    file_id = client_of(made.here, "acme").upload(tiny_model.chat_rows(30))
    asked = {"model": tiny_model.NAME, "training_file": file_id}
    with pytest.raises(RequestRefused, match="0 merges") as refused:
        submit(made.here, "acme", JobRequest.model_validate({**asked, "outputs": {"gguf": "f16"}}), "one-key")
    assert (refused.value.code, refused.value.param) == ("gguf_tokenizer_unknown", "outputs.gguf")
    assert submit(made.here, "acme", JobRequest.model_validate({**asked, "outputs": {"merged": True}}), "two-key").id
