"""From a rule's template to the request of a job."""

from __future__ import annotations

from spotune.contracts.request import JobRequest, JobTemplate
from spotune.contracts.rules import RuleRequest


def job_request(rule: RuleRequest, training_file: str, validation_file: str) -> JobRequest:
    """The request of a retraining's job: the template, in the rule's group, on this dataset and evaluation set."""
    template = {name: getattr(rule.job, name) for name in JobTemplate.model_fields}
    registry = rule.job.registry.with_(group=rule.group)
    files = {"training_file": training_file, "validation_file": validation_file}
    return JobRequest.model_validate({**template, "registry": registry, **files})
