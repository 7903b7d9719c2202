"""What the installation measures of itself: every metric by name, and one measurement of it.

A metric's dimensions are few and closed sets, since CloudWatch charges for each combination of a metric and its
dimensions' values that is sent: never a tenant, a job or a model. Those go with a measurement as properties, which
Logs Insights finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Unit = Literal["Count", "Seconds", "None"]
"""CloudWatch's words. Dollars and ratios have no unit there."""

NAMESPACE = "Spotune"
"""In CloudWatch; every metric also has the dimension `stage`."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `by` names its dimension beside `stage`, empty where it has none."""

    unit: Unit
    meaning: str
    by: str = ""
    total: bool = True
    """It is kept without that dimension, too: a sum that alarms need. False where the sum says nothing."""


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "JobsSubmitted": Metric("Count", "Jobs recorded."),
        "JobsEnded": Metric("Count", "Jobs that entered a terminal state.", by="outcome"),
        "JobsFailed": Metric("Count", "Jobs that failed, by the cause that `spotune explain` gives.", by="cause"),
        "AttemptsEnded": Metric("Count", "Attempts that ended or were refused.", by="outcome"),
        "QueueSeconds": Metric(
            "Seconds", "From a job's submission to SageMaker's acceptance of its first training job."
        ),
        "TimeToStart": Metric("Seconds", "From an attempt's order to its instance's first billed second.", by="market"),
        "Interruptions": Metric("Count", "Spot instances taken back."),
        "Spend": Metric("None", "Dollars booked when an attempt was settled.", by="market"),
        "CapWarnings": Metric("Count", "Jobs that passed 50, 80 or 100 % of their cap."),
        "ForecastCostRatio": Metric("None", "Billed dollars over the forecast's middle, of a completed job."),
        "ForecastHoursRatio": Metric("None", "Hours on instances over the forecast's middle, of a completed job."),
        "AuditEndsLost": Metric(
            "Count", "Calls whose end is in a function's log alone, since the table did not take it."
        ),
        "Jobs": Metric("Count", "Jobs in each state that is not terminal, at a pass.", by="state", total=False),
        "OldestQueuedSeconds": Metric(
            "Seconds", "Longest wait of a job in validating or queued, since its submission or its last work."
        ),
        "OldestCommandSeconds": Metric(
            "Seconds", "Age of the oldest command that was not run within a minute; 0 where there is none."
        ),
        "Repairs": Metric("Count", "What a pass of the reconciler put right.", by="kind"),
        "PartsFailed": Metric(
            "Count", "Parts of a pass of the reconciler that failed: a job, the outbox, the counts, a model version ..."
        ),
        "ReconcilerPasses": Metric("Count", "Passes of the reconciler that came to their end."),
    }
)
"""Every metric that is sent. docs/observability.md shows this table; dashboard and alarms name no other."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value of one metric.

    Attributes:
        name: a key of `METRICS`.
        by: the value of the metric's own dimension, empty where it has none.
    """

    name: str
    value: float
    by: str = ""

    def __post_init__(self) -> None:
        if bool(self.by) != bool(METRICS[self.name].by):
            raise ValueError(f"metric {self.name} has the dimension {METRICS[self.name].by!r}, not a value {self.by!r}")

    @property
    def metric(self) -> Metric:
        """What it is a value of."""
        return METRICS[self.name]
