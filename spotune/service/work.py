"""What a message of the launch queue asks for: a command of a job's outbox, or work on a rule."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from spotune.contracts.subject import know
from spotune.service.apart import apart
from spotune.service.installation import Installation
from spotune.service.launch import run_command
from spotune.service.retraining.retrain import carry_on, look, queue_work
from spotune.service.retraining.sweep import check_again, sweep


def run(here: Installation, message: Mapping[str, Any]) -> None:
    """Do what a message asks for. It may come twice; the second time changes nothing.

    Raises:
        Unavailable: something does not answer; the message is to come again.
    """
    if "rule_id" in message:
        know(rule=message["rule_id"])
        work_on_rule(here, str(message["rule_id"]), sweeping=bool(message.get("sweep")))
        return
    job_id, entry_id = message["job_id"], message["entry_id"]
    know(job=job_id, command=entry_id, tenant=message.get("tenant"), attempt=message.get("attempt"))
    run_command(here, job_id, entry_id)


def work_on_rule(here: Installation, rule_id: str, *, sweeping: bool = False) -> None:
    """All that is to do on a rule now: its lost files, its firing, and its retraining as far as that goes.

    Args:
        sweeping: look for files that no event told of, too.

    Raises:
        Unavailable: as `run`.
    """
    rule = here.store.find_rule(rule_id)
    if rule is None:
        return
    check_again(here, rule)
    if sweeping and rule.deleted_at is None:
        swept = apart("the sweep", partial(sweep, here, rule), rule=rule_id)
        if swept is not None and swept.found and not swept.ended:
            queue_work(here, rule_id, sweep=True)
    carry_on(here, rule_id)
    if look(here, rule_id) is not None:
        carry_on(here, rule_id)
