"""What the service deletes in S3 while a job runs does not come back, from the sync or at the next start."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from spotune.aws.objects import Objects
from spotune.contracts import layout
from spotune.service.installation import install
from spotune.service.jobs.pruning import prune_checkpoints
from spotune.service.jobs.submit import submit
from tests.in_process import world
from tests.local.double.conftest import BUCKET, Site, control, training_job, until
from tests.service.test_once import request_of

pytestmark = pytest.mark.embedded

TRAINER = """
    # A checkpoint every 0.05 s, of which the newest two stay, from the newest one that was restored.
    import shutil
    enough = pathlib.Path(__file__).with_name("enough")
    folder = root / "checkpoints"
    steps = sorted(int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*"))
    print(json.dumps({"restored": steps}), flush=True)
    step = max(steps, default=0)
    while not enough.exists():
        step += 1
        state = json.dumps({"identity": {"config": {}, "data_sha256": ""}, "state": {"step": step}})
        files = [{"name": "state.json", "bytes": len(state), "sha256": ""}]
        manifest = {"job_id": "j", "config_sha256": "", "step": step, "tokens_seen": 0, "created_at": step}
        partial = folder / f".partial-{step}"
        partial.mkdir()
        (partial / "state.json").write_text(state)
        (partial / "manifest.json").write_text(json.dumps({**manifest, "files": files}))
        partial.rename(folder / f"checkpoint-{step}")
        steps.append(step)
        for outlived in steps[:-2]:
            shutil.rmtree(folder / f"checkpoint-{outlived}", ignore_errors=True)
        time.sleep(0.05)
"""


def steps_in_s3(site: Site, folder: str) -> set[int]:
    keys = site.keys(folder.removeprefix(f"s3://{BUCKET}/"))
    return {int(key.partition("checkpoint-")[2].partition("/")[0]) for key in keys if "checkpoint-" in key}


def restored(site: Site, name: str) -> list[list[int]]:
    text = control(site, f"logs/{name}")["Text"]
    return [json.loads(line)["restored"] for line in text.splitlines() if line.startswith('{"restored"')]


def test_a_start_restores_a_few_of_many_checkpoints_and_the_newest(site: Site) -> None:
    made: Any = world()
    install(made.here)
    job = submit(made.here, "acme", request_of(made))
    assert job.config is not None
    settings = replace(made.here.settings, artifacts_bucket=BUCKET)
    here = replace(made.here, settings=settings, objects=Objects(site.s3))
    folder = layout.checkpoints_uri(here.job_folder(job))
    site.entry_point(TRAINER)
    site.sagemaker.create_training_job(**training_job("many-1", CheckpointConfig={"S3Uri": folder}))
    seen: set[int] = set()

    def many() -> bool:
        seen.update(steps_in_s3(site, folder))
        prune_checkpoints(here, job)
        return len(seen) > 3 * job.config.checkpoint.at_most

    until(many)
    control(site, "interrupt", {"TrainingJobName": "many-1", "restart_after_seconds": 2.0})
    site.until("many-1", "Interrupted")
    prune_checkpoints(here, job)
    until(lambda: len(restored(site, "many-1")) == 2)
    site.enough()
    site.end("many-1")
    first, again = restored(site, "many-1")
    assert first == []
    assert len(again) <= job.config.checkpoint.at_most < len(seen) / 3, "one more may have come up with the last breath"
    assert max(again) >= max(seen)
