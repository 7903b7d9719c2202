"""The first look at an object version: it is recorded before its file is read; what is found of it is an outcome."""

from __future__ import annotations

from spotune.aws.base import ObjectMissing
from spotune.contracts.rules import Arrival, RuleRecord
from spotune.retraining.arrivals import later
from spotune.service.installation import Installation
from spotune.service.retraining.file_checks import Unfit, check_file, quarantined
from spotune.service.retraining.settling import Gone, Good, Outcome, Quarantined


def record(here: Installation, arrival: Arrival) -> Arrival | None:
    """Keep a new arrival; None where it is known and decided.

    A bucket without versions may have the same bytes again after others, under the same ETag: then it arrives again.
    """
    known = here.store.record_arrival(arrival)
    if known.state == "arrived":
        return known
    if known.state in ("superseded", "gone") and later(arrival, known):
        return known.with_(state="arrived", sequencer=arrival.sequencer, arrived_at=arrival.arrived_at, sequence=None)
    return None


def look_at_file(here: Installation, rule: RuleRecord, arrival: Arrival) -> Outcome:
    """Read a file that arrived; what becomes of it is for `settle` to decide.

    Raises:
        Unavailable: S3 does not answer; look again.
    """
    try:
        return Good(arrival, check_file(here, rule, arrival))
    except ObjectMissing:
        return Gone(arrival)
    except Unfit as unfit:
        return Quarantined(arrival, unfit.reason, quarantined(here, arrival, unfit))
