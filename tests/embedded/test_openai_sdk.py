"""Every call of the public OpenAI SDK for files and fine-tuning jobs works, or answers with a proper error object."""

from __future__ import annotations

import openai
import pytest

from tests import tiny_model
from tests.tiny_model import chat_rows

pytestmark = [pytest.mark.embedded, pytest.mark.torch]

ROWS = chat_rows(30)


@pytest.fixture
def file_id(sdk: openai.OpenAI) -> str:
    return sdk.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune").id


@pytest.fixture
def job_id(sdk: openai.OpenAI, file_id: str) -> str:
    """A job that is never launched: it is cancelled as soon as it is recorded."""
    job = sdk.fine_tuning.jobs.create(model=tiny_model.NAME, training_file=file_id, metadata={"team": "support"})
    sdk.fine_tuning.jobs.cancel(job.id)
    return job.id


def test_files_round_trip(sdk: openai.OpenAI, file_id: str) -> None:
    assert sdk.files.retrieve(file_id).filename == "rows.jsonl"
    assert sdk.files.content(file_id).content == ROWS
    assert file_id in [file.id for file in sdk.files.list(limit=2)]
    assert sdk.files.wait_for_processing(file_id).status == "processed"
    assert sdk.files.delete(file_id).deleted
    with pytest.raises(openai.NotFoundError) as refused:
        sdk.files.retrieve(file_id)
    assert refused.value.code == "file_not_found"


def test_binary_bytes_survive_the_upload(sdk: openai.OpenAI) -> None:
    body = bytes(range(256)) * 40 + b"\r\n--not-a-boundary\r\n\n\r"
    uploaded = sdk.files.create(file=("raw.jsonl", body), purpose="fine-tune")
    assert sdk.files.content(uploaded.id).content == body


def test_listing_pages_by_itself(sdk: openai.OpenAI) -> None:
    made = {sdk.files.create(file=(f"{n}.jsonl", ROWS), purpose="fine-tune").id for n in range(3)}
    assert made <= {file.id for file in sdk.files.list(limit=2)}


def test_jobs_are_read_in_the_sdks_own_types(sdk: openai.OpenAI, job_id: str) -> None:
    job = sdk.fine_tuning.jobs.retrieve(job_id)
    assert job.object == "fine_tuning.job"
    assert job.metadata == {"team": "support"}
    assert job.hyperparameters.n_epochs is not None
    assert job_id in [one.id for one in sdk.fine_tuning.jobs.list(limit=1)]
    events = sdk.fine_tuning.jobs.list_events(job_id, limit=2)
    assert events.has_more
    assert list(sdk.fine_tuning.jobs.checkpoints.list(job_id)) == []


@pytest.mark.parametrize("call", ["pause", "resume"])
def test_what_a_cancelled_job_cannot_do_is_said(sdk: openai.OpenAI, job_id: str, call: str) -> None:
    with pytest.raises(openai.ConflictError) as refused:
        getattr(sdk.fine_tuning.jobs, call)(job_id)
    assert refused.value.code == "wrong_state"


def test_refusals_arrive_as_the_sdks_errors(sdk: openai.OpenAI, file_id: str) -> None:
    with pytest.raises(openai.NotFoundError) as unknown_model:
        sdk.fine_tuning.jobs.create(model="gpt-9", training_file=file_id)
    assert unknown_model.value.param == "model"
    with pytest.raises(openai.BadRequestError) as unknown_method:
        sdk.fine_tuning.jobs.create(
            model=tiny_model.NAME, training_file=file_id, method={"type": "dpo", "dpo": {"hyperparameters": {}}}
        )
    assert unknown_method.value.param is not None
    with pytest.raises(openai.BadRequestError) as filtered:
        sdk.fine_tuning.jobs.list(metadata={"team": "support"})
    assert filtered.value.code == "filter_not_supported"


def test_calls_we_do_not_have_answer_with_an_error_object(sdk: openai.OpenAI, job_id: str) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        sdk.fine_tuning.checkpoints.permissions.retrieve("ftckpt-x")
    assert refused.value.code == "route_not_found"
    grader = {"type": "string_check", "name": "x", "input": "", "reference": "", "operation": "eq"}
    with pytest.raises(openai.NotFoundError):
        sdk.fine_tuning.alpha.graders.validate(grader=grader)


def test_a_wrong_key_is_refused(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        sdk.with_options(api_key="sk-spotune-wrong").files.list()


def test_models_are_listed(sdk: openai.OpenAI) -> None:
    assert tiny_model.NAME in [model.id for model in sdk.models.list()]
    assert sdk.models.retrieve(tiny_model.NAME).object == "model"


def test_an_idempotency_key_holds_across_real_processes(sdk: openai.OpenAI, file_id: str) -> None:
    headers = {"Idempotency-Key": f"key-{file_id}"}
    ids = {
        sdk.fine_tuning.jobs.create(model=tiny_model.NAME, training_file=file_id, extra_headers=headers).id
        for _ in range(3)
    }
    assert len(ids) == 1
    sdk.fine_tuning.jobs.cancel(ids.pop())
