"""Delivers notifications from the delivery queue: one message, one destination, one try."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from handlers.logs import invocation, logger
from spotune.contracts.notifications import Delivery
from spotune.contracts.subject import about, know
from spotune.service.installation import installation
from spotune.service.notifications.deliver import deliver

processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


class TryAgain(Exception):
    """Reports the message as failed, so that the queue keeps it."""


def run(record: SQSRecord) -> None:
    """One delivery. One that failed comes again after a pause, and in the end lies with the dead letters."""
    with about(message_id=record.message_id):
        try:
            pause = _deliver(record)
        except Exception as error:  # the processor tells SQS alone
            logger.exception("the delivery failed and comes again: %s", type(error).__name__)
            raise
    if pause is not None:
        raise TryAgain(record.message_id)


def _deliver(record: SQSRecord) -> int | None:
    here, delivery = installation(), Delivery.model_validate_json(record.body)
    know(tenant=delivery.tenant, event=delivery.event_id)
    pause = deliver(here, delivery, int(record.attributes.approximate_receive_count))
    if pause is not None:
        here.outlets.deliveries.postpone(record.receipt_handle, pause)
    return pause


@invocation("deliver")
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point; answers which messages are to come again."""
    return process_partial_response(  # type: ignore[return-value]
        event=event,
        record_handler=run,
        processor=processor,
        context=context,  # type: ignore[arg-type]
    )
