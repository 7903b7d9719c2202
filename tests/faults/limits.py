"""What a rule may do: how often, for how much, one at a time; and what it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise

from spotune.contracts.job import JobRecord
from spotune.contracts.rules import Arrival, Retraining, RuleRecord

DAY = 86_400.0


def went_back(before: RuleRecord | None, rule: RuleRecord) -> Iterator[str]:
    """What may only grow, or is made once."""
    if before is None:
        return
    if before.frozen is not None and rule.frozen != before.frozen:
        yield "its evaluation set was carved again"
    if rule.sequence < before.sequence or rule.retrainings < before.retrainings:
        yield f"went back from arrival {before.sequence} to {rule.sequence}"


def beyond_its_limits(rule: RuleRecord, retrainings: list[Retraining]) -> Iterator[str]:
    """Within any 24 hours, between two of them, at a time, and in a month."""
    trigger = rule.request.trigger
    if (numbers := [one.number for one in retrainings]) != list(range(1, rule.retrainings + 1)):
        yield f"its {rule.retrainings} retrainings are numbered {numbers}"
    if (living := [one.number for one in retrainings if not one.ended]) != ([] if rule.live is None else [rule.live]):
        yield f"retraining {rule.live} lives, and not ended are {living}"
    begun = [one.created_at for one in retrainings]
    for first, second in pairwise(begun):
        if second - first < trigger.min_interval_seconds:
            yield f"two retrainings within {second - first:.0f} s"
    for at in begun:
        if (many := sum(at <= other < at + DAY for other in begun)) > trigger.max_per_day:
            yield f"{many} retrainings within a day"
    for month, amount in _spent(retrainings).items():
        if rule.request.monthly_budget is not None and amount > rule.request.monthly_budget:
            yield f"{amount} in {month} of a budget of {rule.request.monthly_budget}"
        if month == rule.month and amount != rule.spent:
            yield f"counts {rule.spent} as spent in {month}, and its retrainings say {amount}"


def _spent(retrainings: list[Retraining]) -> Mapping[str, int]:
    """By the month in which each was begun; one that lives may still cost its cap."""
    spent = Counter[str]()
    for one in retrainings:
        spent[one.month] += one.cap if one.billed is None else one.billed
    return spent


def unbalanced(rule: RuleRecord, retrainings: list[Retraining], arrivals: list[Arrival]) -> Iterator[str]:
    """No two retrainings that left a model took the same arrivals; what is pending is what the rule counts as such."""
    for first, second in pairwise(one for one in retrainings if one.state == "succeeded"):
        if second.after < first.through:
            yield f"retrainings {first.number} and {second.number} both took arrivals up to {first.through}"
    sequences = Counter(one.sequence for one in arrivals if one.sequence is not None)
    if (twice := [one for one, times in sequences.items() if times > 1]) or max(sequences, default=0) > rule.sequence:
        yield f"of {rule.sequence} accepted arrivals {twice} are there twice, and the last is {max(sequences)}"
    accepted = [one for one in arrivals if one.state == "accepted"]
    kept = [(one.after, one.through) for one in retrainings if one.state == "succeeded" or not one.ended]
    for one in accepted:
        at = one.sequence or 0
        if at <= rule.claimed and not any(after < at <= through for after, through in kept):
            yield f"{one.uri} ({at}) is taken, and no retraining that left a model has it"
    pending = [one for one in accepted if (one.sequence or 0) > rule.claimed]
    counted = sum(one.rows or 0 for one in pending), sum(one.bytes for one in pending)
    if (rule.pending_rows, rule.pending_bytes) != counted:
        yield f"counts {rule.pending_rows} rows and {rule.pending_bytes} bytes as pending, and there are {counted}"


def never_ended(rule: RuleRecord, retrainings: list[Retraining], jobs: Mapping[str, list[JobRecord]]) -> Iterator[str]:
    """Each ends, or visibly waits; each has one job at most, which is its own."""
    for one in retrainings:
        made = jobs.get(f"{rule.id}/{one.number}", [])
        if [job.id for job in made] != ([] if one.job_id is None else [one.job_id]):
            yield f"retraining {one.number} names job {one.job_id}, and its jobs are {[job.id for job in made]}"
        if made and rule.request.dry_run:
            yield f"retraining {one.number} of a dry run started {made[0].id}"
        if not one.ended and not any(job.waiting_for for job in made):
            yield f"retraining {one.number} is {one.state} for good, and nothing says what it waits for"
        if one.ended and (one.billed or 0) != sum(job.billed for job in made):
            yield f"retraining {one.number} was billed {one.billed}, its job {[job.billed for job in made]}"
        if one.state == "succeeded" and [job.state for job in made] != ["succeeded"]:
            yield f"retraining {one.number} succeeded, and its job {[job.state for job in made]}"
        if one.state == "succeeded" and one.decision is None:
            yield f"retraining {one.number} succeeded without a verdict"
    if rule.request.enabled and rule.live is None and rule.sequence > rule.claimed and not rule.waiting_for:
        yield "does not fire, and says not why"
