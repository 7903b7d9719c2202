"""What goes wrong: every call to AWS may fail, be lost, or be the last thing that its process does.

All chance comes from one generator, so that one seed gives one history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from spotune.contracts.errors import Unavailable, VersionConflict

CALL_FAULTS = 0.03
"""Of the calls to AWS, those that something happens to."""


class Killed(BaseException):
    """The process ends here: no handler may catch it."""


class Nemesis:
    """Decides what happens to each call, and counts it by kind."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.faults: Counter[str] = Counter()
        self.calm = False
        self.interleave: Callable[[], None] = lambda: None
        self._inside = False

    def strikes(self, kind: str, probability: float) -> bool:
        """True where this fault happens now."""
        if self.calm or self.chance.random() >= probability:
            return False
        self.faults[kind] += 1
        return True

    def kill(self, where: str) -> None:
        """End the process here, perhaps."""
        if self.strikes(f"killed {where}", CALL_FAULTS / 4):
            raise Killed

    def another(self) -> None:
        """Let another process run to its end between two steps of this one, perhaps."""
        if self._inside or not self.strikes("another process in between", CALL_FAULTS):
            return
        self._inside = True
        try:
            self.interleave()
        finally:
            self._inside = False


class Faulty:
    """An edge whose calls the nemesis may strike.

    Args:
        edge: the real one.
        writes: its methods that change something. Their answers may be lost, too.
        conflicts: its methods that may lose a race that nobody else saw.
    """

    def __init__(
        self, edge: Any, nemesis: Nemesis, name: str, *, writes: frozenset[str], conflicts: frozenset[str] = frozenset()
    ) -> None:
        self._edge = edge
        self._nemesis = nemesis
        self._name = name
        self._writes = writes
        self._conflicts = conflicts

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._edge, method)
        return self._struck(method, call) if callable(call) else call

    def _struck(self, method: str, call: Callable[..., Any]) -> Callable[..., Any]:
        nemesis, name = self._nemesis, self._name

        def struck(*arguments: Any, **named: Any) -> Any:
            nemesis.kill(f"before {name}")
            if nemesis.strikes(f"{name} unavailable", CALL_FAULTS / 2):
                raise _unavailable(name)
            if method in self._writes:
                nemesis.another()
            if method in self._conflicts and nemesis.strikes(f"{name} conflict", CALL_FAULTS):
                raise VersionConflict("another writer")
            answer = call(*arguments, **named)
            if method in self._writes:
                nemesis.kill(f"after {name}")
                if nemesis.strikes(f"{name} answer lost", CALL_FAULTS / 2):
                    raise _unavailable(name)
            return answer

        return struck


def before_call(nemesis: Nemesis, operation: str) -> None:
    """A throttle, a 5xx, a timeout or a kill on the way to SageMaker."""
    nemesis.kill(f"before {operation}")
    if nemesis.strikes("sagemaker throttled", CALL_FAULTS / 2):
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, operation)
    if nemesis.strikes("sagemaker 500", CALL_FAULTS / 2):
        answer = {"Error": {"Code": "InternalFailure"}, "ResponseMetadata": {"HTTPStatusCode": 500}}
        raise ClientError(answer, operation)  # type: ignore[arg-type]
    if nemesis.strikes("sagemaker timeout", CALL_FAULTS / 2):
        raise ConnectTimeoutError(endpoint_url="https://sagemaker")
    nemesis.another()


def after_call(nemesis: Nemesis, operation: str) -> None:
    """A lost answer or a kill on the way back."""
    nemesis.kill(f"after {operation}")
    probability = CALL_FAULTS * (4 if operation == "CreateTrainingJob" else 0.5)
    if nemesis.strikes(f"{operation} answer lost", probability):
        raise ReadTimeoutError(endpoint_url="https://sagemaker")


def _unavailable(name: str) -> Unavailable:
    return Unavailable(f"{name} does not answer.", code="aws_unavailable")
