"""How much of everything there is: places among the jobs that run at a time, and SageMaker's quotas as last fetched."""

from __future__ import annotations

from spotune.contracts.job import Decision
from spotune.contracts.lines import EVERYBODY, quota_line, tenant_line
from spotune.service.installation import Installation
from spotune.service.market import current_market


def places(here: Installation, decision: Decision, *, beyond_quota: bool = False) -> dict[str, int]:
    """Places of each line that a decision takes some of; a quota that is not known, or not to count, is not in it."""
    job = decision.job
    if job.plan is None or not any(change.held > 0 for change in decision.lines):
        return {}
    known = {EVERYBODY: here.settings.jobs, tenant_line(job.tenant): here.settings.jobs_per_tenant}
    if beyond_quota:
        return known
    region = job.region
    quotes = current_market(here, region).quotes
    for rung in job.plan.rungs:
        for name in rung.instance_types:
            quota = quotes[name].quota(rung.market) if name in quotes else None
            if quota is not None:
                known[quota_line(region, name, rung.market)] = quota
    return known
