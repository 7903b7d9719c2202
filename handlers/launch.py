"""Runs commands from the launch queue."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from handlers.logs import invocation, logger
from spotune.contracts.subject import about
from spotune.service.installation import installation
from spotune.service.work import run as run_message

processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def run(record: SQSRecord) -> None:
    """One command. A failure is delivered again, and lands in the dead letter queue after the queue's own count."""
    with about(message_id=record.message_id):
        try:
            run_message(installation(), record.json_body)
        except Exception as error:  # the processor tells SQS alone
            logger.exception("the command failed and is delivered again: %s", type(error).__name__)
            raise


@invocation("launch")
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point; answers which messages failed."""
    return process_partial_response(  # type: ignore[return-value]
        event=event,
        record_handler=run,
        processor=processor,
        context=context,  # type: ignore[arg-type]
    )
