"""Checkpoints in S3 as a training container leaves them, without one."""

from __future__ import annotations

import hashlib

from spotune.aws.base import ObjectStore
from spotune.contracts import layout
from spotune.contracts.checkpoint import STATE_NAME, Identity, RunState, StateFile
from spotune.contracts.job import JobRecord
from spotune.contracts.training import Manifest, ManifestFile, Progress
from tests.factories import NOW


def folder_of(job: JobRecord) -> str:
    """A job's folder in the artifacts bucket."""
    return layout.job_uri("artifacts", job.tenant, job.id)


def leave_checkpoint(
    objects: ObjectStore, job: JobRecord, step: int, *, best_step: int | None = None, created_at: float = NOW
) -> str:
    """One whole checkpoint of a prepared job; its folder."""
    assert job.config is not None
    assert job.training is not None
    folder = layout.checkpoint_uri(folder_of(job), step)
    identity = Identity.of(job.config, job.training.sha256)
    state = StateFile(identity=identity, state=RunState(step=step, best_step=best_step))
    bodies = {
        "optimizer.pt": b"moments of %d" % step,
        STATE_NAME: state.model_dump_json().encode(),
        "weights.safetensors": b"weights of %d" % step,
    }
    for name, body in bodies.items():
        objects.write(folder + name, body)
    manifest = Manifest(
        job_id=job.id,
        config_sha256=identity.sha256,
        step=step,
        tokens_seen=step,
        created_at=created_at,
        eval_loss=1 / step if best_step == step else None,
        files=tuple(
            ManifestFile(name=name, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
            for name, body in bodies.items()
        ),
    )
    objects.write(folder + "manifest.json", manifest.model_dump_json().encode())
    return folder


def leave_notes(objects: ObjectStore, job: JobRecord, *, step: int, total_steps: int) -> None:
    """What lies beside the checkpoints."""
    folder = layout.checkpoints_uri(folder_of(job))
    progress = Progress(phase="stopped", step=step, total_steps=total_steps)
    objects.write(folder + "progress.json", progress.model_dump_json().encode())
    objects.write(folder + "base_scores.json", b'{"identity": "x"}')
    objects.write(folder + "history.json", b"{}")
