"""Runs commands from the launch queue."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from spotune.service.installation import installation
from spotune.service.launch import run_command

logger = Logger(service="launch")
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def run(record: SQSRecord) -> None:
    """One command. A failure is delivered again, and lands in the dead letter queue after the queue's own count."""
    message = record.json_body
    logger.append_keys(job=message["job_id"])
    run_command(installation(), message["job_id"], message["entry_id"])


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point; answers which messages failed."""
    return process_partial_response(  # type: ignore[return-value]
        event=event,
        record_handler=run,
        processor=processor,
        context=context,  # type: ignore[arg-type]
    )
