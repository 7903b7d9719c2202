"""What a billed second of spot counts for: SageMaker shows the discount as fewer billable seconds, not as a price."""

from __future__ import annotations

from spotune.planner.catalog import load_catalog


def spot_share(instance_type: str, region: str) -> float:
    """Spot price over on-demand price by the bundled catalog; 1 where it knows neither.

    DescribeTrainingJob gives the saving of managed spot as 1 - BillableTimeInSeconds / TrainingTimeInSeconds.
    """
    catalog = load_catalog()
    if instance_type not in catalog.instances:
        return 1.0
    on_demand, spot = catalog.instances[instance_type].on_demand, catalog.spot_price(instance_type, region)
    return spot / on_demand if spot and on_demand else 1.0
