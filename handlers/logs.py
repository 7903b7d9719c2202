"""The one place that sets logging up: lines of `spotune.*` as JSON on stdout, each with what it is about.

Powertools' logger is named as our package, so that the service's plain `logging` lines come out through it as they are.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from handlers.exceptions import told
from spotune.contracts.subject import about, subject

Answer = TypeVar("Answer")
Handler = Callable[[dict[str, Any], Any], Answer]


class InvocationFailed(RuntimeError):
    """What Lambda is told of an exception: its kind. Lambda writes it to the log by itself, words and all."""


class _WithoutData(LambdaPowertoolsFormatter):
    """Powertools' lines, with nobody's data in what exceptions say."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        return told(ei[1])


logger = Logger(
    service="spotune", logger_formatter=_WithoutData(utc=True, use_rfc3339=True, serialize_stacktrace=False)
)
"""Level by POWERTOOLS_LOG_LEVEL, INFO where it is not set."""


class _WithSubject(logging.Filter):
    """Adds job, tenant, attempt and invocation to a line; a key of the line itself comes first."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.__dict__.update({name: value for name, value in subject().items() if name not in record.__dict__})
        return True


logger.registered_handler.addFilter(_WithSubject())


def invocation(service: str) -> Callable[[Handler[Answer]], Handler[Answer]]:
    """Makes a function a Lambda's entry point: its lines say which invocation they belong to, and so does its end.

    What is learnt within one invocation is forgotten with it. The function it makes raises InvocationFailed alone.

    Args:
        service: the function's name in each line.
    """

    def decorate(handler: Handler[Answer]) -> Handler[Answer]:
        @functools.wraps(handler)
        def run(event: dict[str, Any], context: Any) -> Answer:
            with about(service=service, function_request_id=getattr(context, "aws_request_id", None)):
                try:
                    return handler(event, context)
                except Exception as error:
                    logger.exception("the invocation failed: %s", type(error).__name__)
                    raise InvocationFailed(f"{type(error).__name__}; the log has its frames") from None

        return run

    return decorate
