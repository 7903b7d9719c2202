"""Model groups and versions as tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import RenderableType

from spotune.cli import words
from spotune.cli.blocks import Row, add_row, table
from spotune.contracts.base import Timestamp, dollars
from spotune.contracts.registry import (
    MetricDifference,
    ModelGroupObject,
    ModelVersionObject,
    VersionComparison,
)
from spotune.contracts.scores import IN_NATS, METRIC_NAMES, Metric


def group_rows(group: ModelGroupObject) -> list[Row]:
    """A group's champion, and how it changed."""
    rows: list[Row] = [("versions", str(group.versions))]
    if group.champion is not None:
        rows += [("champion", f"{group.champion.version}: {group.champion.model}"), ("files", group.champion.uri)]
    for change in group.history:
        how = "back to" if change.rollback else "to"
        rows.append(
            (_day(change.at), f"{how} {change.number}, by {change.by}{f': {change.why}' if change.why else ''}")
        )
    return rows


def version_rows(version: ModelVersionObject) -> list[Row]:
    """A version's verdict, lineage and history."""
    made, verdict = version.lineage, version.verdict
    rows: list[Row] = [
        ("model", version.id),
        ("status", version.status.replace("_", " ")),
        ("verdict", f"{verdict.decision}: {verdict.reason}"),
        *(
            (f"  {one.name} {one.subject}".rstrip(), f"{_MET[one.met]}: wanted {one.wanted}, measured {one.measured}")
            for one in verdict.conditions
        ),
        ("files", f"{len(version.files)}, {sum(file.bytes for file in version.files):,} bytes at {version.uri}"),
        ("job", made.job_id),
        ("base", f"{made.base} {made.base_revision}".rstrip()),
        ("data", made.manifest_uri or made.data_sha256),
        ("config", made.config_sha256),
        ("code, image", f"{made.code or '-'}, {made.image}"),
        ("seed, cost", f"{made.seed}, {dollars(made.cost)}"),
    ]
    if made.parent is not None:
        rows.append(("goes on from", made.parent))
    rows += [(_day(one.at), _change_words(one.status, one.by, one.why)) for one in version.history]
    return rows


_MET = {True: "met", False: "not met", None: "not measured"}


def versions_table(versions: Sequence[ModelVersionObject], *, now: Timestamp | None = None) -> RenderableType:
    """One line a version, newest first."""
    listed = table("version", "status", "verdict", "loss", "cost", "trained", "model")
    for one in versions:
        age = f"{words.age((now or time.time()) - one.lineage.trained_at)} ago"
        cost, status = dollars(one.lineage.cost), one.status.replace("_", " ")
        loss = f"{one.scores.eval_loss:.4f}"
        add_row(listed, str(one.version), status, one.verdict.decision, loss, cost, age, one.id)
    return listed


def comparison_table(compared: VersionComparison, a: str, b: str) -> RenderableType:
    """One line a metric."""
    listed = table("metric", a, b, "difference", "better")
    for one in compared.metrics:
        better = {"a": a, "b": b, None: "-"}[one.better]
        first, second = _show(one.metric, one.a), _show(one.metric, one.b)
        add_row(listed, METRIC_NAMES[one.metric], first, second, "".join(_difference(one)), better)
    return listed


def _difference(one: MetricDifference) -> Iterator[str]:
    signed = "{:+.4f}".format if one.metric in IN_NATS else "{:+.1%}".format
    yield signed(one.difference)
    if one.low is not None and one.high is not None:
        yield f" ({signed(one.low)} to {signed(one.high)})"


def _show(metric: Metric, value: float) -> str:
    return f"{value:.4f}" if metric in IN_NATS else f"{value:.1%}"


def _change_words(status: str, by: str, why: str) -> str:
    return f"{status.replace('_', ' ')}, by {by}{f': {why}' if why else ''}"


def _day(at: Timestamp) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
