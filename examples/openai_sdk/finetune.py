"""Fine-tune through the public OpenAI SDK, unchanged, against a running Spotune (`spotune up` starts one here).

export OPENAI_BASE_URL=http://127.0.0.1:...    # both are printed by `spotune up`
export OPENAI_API_KEY=...
python examples/openai_sdk/finetune.py examples/support_routing/train.jsonl examples/support_routing/heldout.jsonl
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ENDED = frozenset({"succeeded", "failed", "cancelled"})


def main() -> int:
    """Upload, submit, follow, and print what came out. Exit code 0 where the job succeeded."""
    arguments = _arguments()
    client = OpenAI()
    job = submit(client, arguments.training, arguments.validation, model=arguments.model, epochs=arguments.epochs)
    job = follow(client, job.id, every=arguments.every)
    print(f"{job.status}: {job.fine_tuned_model or (job.error and job.error.message) or 'no model was registered'}")
    return 0 if job.status == "succeeded" else 1


def submit(client: OpenAI, training: Path, validation: Path, *, model: str, epochs: int) -> FineTuningJob:
    """Upload both files and create the job. What OpenAI's API lacks goes into `extra_body`."""
    files = [client.files.create(file=path, purpose="fine-tune") for path in (training, validation)]
    return client.fine_tuning.jobs.create(
        model=model,
        training_file=files[0].id,
        validation_file=files[1].id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": epochs}}},
        extra_body={
            "constraints": {"budget_usd": 1.0, "finish_within_hours": 4},
            "adapter": {"type": "lora", "rank": 16},
            "training": {"learning_rate": 2e-3, "max_sequence_length": 256},
        },
    )


def follow(client: OpenAI, job_id: str, *, every: float) -> FineTuningJob:
    """Print each new event, oldest first, until the job has ended. Asks again after `every` seconds."""
    shown: set[str] = set()
    while True:
        job = client.fine_tuning.jobs.retrieve(job_id)
        events = [event for event in client.fine_tuning.jobs.list_events(job_id) if event.id not in shown]
        for event in reversed(events):
            shown.add(event.id)
            print(f"{event.level:5} {event.message}")
        if job.status in ENDED:
            return job
        time.sleep(every)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fine-tune through the OpenAI SDK.")
    parser.add_argument("training", type=Path, help="JSONL file to train on")
    parser.add_argument("validation", type=Path, help="JSONL file to evaluate on")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two looks at the job")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
