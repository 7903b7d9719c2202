"""Weights & Biases: online with a key, else kept in the output as one offline run that `wandb sync` takes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import wandb

from spotune.contracts.training import TrackerConfig
from training_container.trackers.tracker import Ending, Point, RunFacts

INIT_SECONDS = 15.0
FINISH_SECONDS = 20.0
POINTS_NAME = "points.jsonl"
EXIT_CODES = {"published": 0, "stopped": 3, "failed": 1}


class WandbRun:
    """Fulfils `Tracker`. The run's id is the job's.

    Online, the server continues a run and ignores the steps that it has. An offline run cannot be continued, and of
    several with one id the last one synced replaces the others: so each process begins it anew with all its points,
    which lie beside it.
    """

    def __init__(self, config: TrackerConfig, secret: str | None, facts: RunFacts) -> None:
        facts.folder.mkdir(parents=True, exist_ok=True)
        self._points = None if secret else facts.folder / POINTS_NAME
        earlier = [] if self._points is None else _points_until(facts.step, self._points)
        for folder in facts.folder.glob("wandb/offline-run-*"):
            shutil.rmtree(folder)
        self._run = _begin(config, secret, facts)
        self._write(earlier)
        if self._points is not None:
            self._points.write_text("".join(map(_line, earlier)))

    def log(self, points: Sequence[Point]) -> None:
        """See `Tracker`."""
        if self._points is not None:
            with self._points.open("a") as file:
                file.writelines(map(_line, points))
        self._write(points)

    def finish(self, ending: Ending) -> None:
        """See `Tracker`."""
        self._run.summary.update(ending.scores)
        for path in ending.files:
            copy = shutil.copy(path, self._run.dir)
            self._run.save(copy, base_path=self._run.dir, policy="now")
        if ending.how == "stopped":
            self._run.mark_preempting()
        self._run.finish(exit_code=EXIT_CODES[ending.how])
        wandb.teardown()  # its service writes on after a run's end; when it is gone, the files are whole

    def _write(self, points: Iterable[Point]) -> None:
        for point in points:
            self._run.log(point.values, step=point.step)


def _begin(config: TrackerConfig, secret: str | None, facts: RunFacts) -> wandb.Run:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        return wandb.init(
            mode="online" if secret else "offline",
            dir=facts.folder,
            project=config.project,
            entity=config.entity,
            id=facts.config.job_id,
            name=config.name or facts.config.job_id,
            notes=f"Retry of {facts.config.retry_of}." if facts.config.retry_of else None,
            tags=config.tags,
            config={**facts.parameters, **facts.tags},
            resume="allow" if secret else None,
            settings=_settings(config, secret),
        )
    except Exception:
        wandb.teardown(exit_code=1)  # else its service holds the run's id, and no further try can have it
        raise


def _settings(config: TrackerConfig, secret: str | None) -> wandb.Settings:
    """Nothing of the machine, the code or the console leaves, no key is written to disk, and every wait is bounded."""
    server = {} if config.server is None else {"base_url": config.server}
    return wandb.Settings(
        **server,
        api_key=secret,
        console="off",
        silent=True,
        symlink=False,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        save_code=False,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
    )


def _points_until(step: int, path: Path) -> list[Point]:
    """What earlier processes logged and this one will not log again; a line that was cut off is none."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            point = Point(**json.loads(line))
        except (ValueError, TypeError):
            continue
        if point.step <= step:
            found.append(point)
    return found


def _line(point: Point) -> str:
    return json.dumps(asdict(point)) + "\n"
