"""Measurements as lines of CloudWatch's embedded metric format: no call, no wait; CloudWatch reads them in the log."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

from spotune.contracts.base import Timestamp
from spotune.contracts.measures import NAMESPACE, Measurement
from spotune.contracts.subject import subject


class EmbeddedMetrics:
    """Fulfils `MetricSink`.

    Args:
        stage: the installation's; a dimension of every metric.
        clock: seconds since the epoch.
        stream: where lines go; stdout, which Lambda's log takes, where none is given.
    """

    def __init__(self, stage: str, clock: Callable[[], Timestamp], stream: TextIO | None = None) -> None:
        self._stage = stage
        self._clock = clock
        self._stream = stream

    def send(self, measurements: Iterable[Measurement]) -> None:
        """See `MetricSink`."""
        lines: dict[str, list[Measurement]] = defaultdict(list)
        for measurement in measurements:
            lines[measurement.by].append(measurement)
        stream = self._stream or sys.stdout
        for by, group in lines.items():
            stream.write(json.dumps(self._line(by, group), separators=(",", ":"), default=str) + "\n")
        stream.flush()

    def _line(self, by: str, group: list[Measurement]) -> Mapping[str, object]:
        """One line: of metrics that share the value of their dimension, whatever that dimension is called."""
        values: dict[str, list[float]] = defaultdict(list)
        named: dict[tuple[tuple[str, ...], ...], dict[str, str]] = defaultdict(dict)
        for one in group:
            values[one.name].append(one.value)
            named[_dimension_sets(one)][one.name] = one.metric.unit
        directives = [
            {
                "Namespace": NAMESPACE,
                "Dimensions": dimensions,
                "Metrics": [{"Name": name, "Unit": unit} for name, unit in metrics.items()],
            }
            for dimensions, metrics in named.items()
        ]
        return {
            "_aws": {"Timestamp": int(self._clock() * 1000), "CloudWatchMetrics": directives},
            **subject(),
            "stage": self._stage,
            **{one.metric.by: by for one in group if by},
            **values,
        }


def _dimension_sets(one: Measurement) -> tuple[tuple[str, ...], ...]:
    total = (("stage",),) if one.metric.total else ()
    return (*total, ("stage", one.metric.by)) if one.metric.by else total
