"""Pure life of a job: `decide(job, event, now) -> Decision`."""

from spotune.lifecycle.decide import decide
from spotune.lifecycle.diagnosis import diagnose
from spotune.lifecycle.finished import finished_run
from spotune.lifecycle.measures import measure_decision, measure_pass, waits_since
from spotune.lifecycle.opening import open_job, open_prepared
from spotune.lifecycle.receipt import on_demand_cost, receipt

__all__ = [
    "decide",
    "diagnose",
    "finished_run",
    "measure_decision",
    "measure_pass",
    "on_demand_cost",
    "open_job",
    "open_prepared",
    "receipt",
    "waits_since",
]
