"""What of a request can be refused before there is a dataset: a rule's template is checked when the rule is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spotune.contracts.base import MicroUSD
from spotune.contracts.bounds import UNBOUNDED, Bounds
from spotune.contracts.market import MarketSnapshot
from spotune.contracts.request import JobRequest
from spotune.planner.architecture import read_architecture
from spotune.planner.catalog import load_catalog
from spotune.planner.combinations import check_against_model, check_combinations, check_convertible
from spotune.planner.limits import read_limits


def check_request(
    request: JobRequest,
    architecture_config: Mapping[str, object],
    cap: MicroUSD,
    markets: Sequence[MarketSnapshot],
    bounds: Bounds = UNBOUNDED,
) -> None:
    """Refuse what no dataset could mend: values that contradict each other, the model or the catalog.

    Raises:
        RequestRefused: names the field, the rule and the way out.
    """
    check_combinations(request)
    check_convertible(request, architecture_config)
    check_against_model(request, read_architecture(architecture_config))
    read_limits(request.constraints, cap, load_catalog().within(bounds.instance_types), markets, bounds)
