"""Pure: what a job needs, how long it takes, what it costs, and the cheapest way to run it. docs/planning.md."""

from spotune.planner.architecture import FAMILIES_WITH_CODE, Architecture, known_config, known_names, read_architecture
from spotune.planner.catalog import load_catalog
from spotune.planner.check import check_request
from spotune.planner.combinations import METHOD_FIELDS
from spotune.planner.disk import disk_gb, has_local_storage, volume_gb
from spotune.planner.evaluation import NOTHING_JUDGED, Judged
from spotune.planner.prepare import NOTHING_DONE, Done, prepare
from spotune.planner.settings import sequence_limit

__all__ = [
    "FAMILIES_WITH_CODE",
    "METHOD_FIELDS",
    "NOTHING_DONE",
    "NOTHING_JUDGED",
    "Architecture",
    "Done",
    "Judged",
    "MarketSnapshot",
    "check_request",
    "disk_gb",
    "has_local_storage",
    "known_config",
    "known_names",
    "load_catalog",
    "prepare",
    "read_architecture",
    "sequence_limit",
    "volume_gb",
]
