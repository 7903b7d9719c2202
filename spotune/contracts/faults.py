"""Why a process that a job runs in cannot go on: what all kinds of such faults have in common."""

from __future__ import annotations

import errno

from spotune.contracts.training import ExitCode, Failure

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Of an OSError: there is no room for what was to be written."""


class Fault(Exception):
    """The process cannot go on, and a person can be told why.

    Args:
        code: stable snake_case name of the rule.
        message: what was wrong and where.
        evidence: what was seen: names, numbers, the library's own words.
        remedy: what to do about it.
        exit_code: how the process ends; INTERNAL where trying again may help without anybody's doing.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        evidence: str = "",
        remedy: str = "",
        exit_code: ExitCode = ExitCode.USER_ERROR,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.evidence = evidence
        self.remedy = remedy
        self.exit_code = exit_code

    @property
    def failure(self) -> Failure:
        """As it is written down, whole."""
        return Failure(code=self.code, message=self.message, evidence=self.evidence, remedy=self.remedy)
