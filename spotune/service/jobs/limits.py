"""How much of everything there is: places among the jobs that run at a time, and SageMaker's quotas as last fetched."""

from __future__ import annotations

from spotune.contracts.job import Decision, JobRecord
from spotune.contracts.lines import EVERYBODY, is_quota_line, quota_line, tenant_line
from spotune.contracts.plan import Plan
from spotune.service.installation import Installation
from spotune.service.market import current_market


def places(here: Installation, decision: Decision, *, beyond_quota: bool = False) -> dict[str, int]:
    """Places of each line that a decision takes some of; a quota that is not known, or not to count, is not in it."""
    job = decision.job
    if job.plan is None or not any(change.held > 0 for change in decision.lines):
        return {}
    known = {EVERYBODY: here.settings.jobs, tenant_line(job.tenant): here.settings.jobs_per_tenant}
    return known if beyond_quota else known | _quotas(here, job.plan, job.region)


def exceeds_its_quota(here: Installation, job: JobRecord) -> bool:
    """True where a job stands in line for more instances than the whole quota, as last fetched, has."""
    if job.plan is None or not is_quota_line(job.line):
        return False
    quota = _quotas(here, job.plan, job.region).get(job.line)
    return quota is not None and job.plan.rungs[job.rung].instance_count > quota


def _quotas(here: Installation, plan: Plan, region: str) -> dict[str, int]:
    """Those that are known of the ladder's types, by line."""
    quotes = current_market(here, region).quotes
    rungs = [(rung.market, name) for rung in plan.rungs for name in rung.instance_types if name in quotes]
    found = {quota_line(region, name, market): quotes[name].quota(market) for market, name in rungs}
    return {line: quota for line, quota in found.items() if quota is not None}
