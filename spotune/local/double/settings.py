"""What the double is told when it starts."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Timing:
    """Seconds of everything that takes time at SageMaker and need not take as long here."""

    starting: float = 1.0
    """In `Starting`, before instances are looked for."""
    capacity_retry: float = 2.0
    """Between two looks for capacity in `Pending`."""
    capacity_patience: float = 3600.0
    """How long an on-demand job is `Pending` before it fails with CapacityError; MaxPendingTimeInSeconds goes first."""
    stop_grace: float = 120.0
    """From SIGTERM to SIGKILL."""
    sync: float = 2.0
    """Between two uploads of changed checkpoint files."""
    storage_patience: float = 60.0
    """How long S3 may be away at a download or an upload before the job fails with InternalServerError."""


@dataclass(frozen=True)
class Settings:
    """Where the double keeps its state, where the emulator listens, and what stands in for the training image."""

    home: Path
    """Holds `double/` (jobs, logs) and `cache/` (downloaded objects, by ETag)."""
    emulator_url: str
    """S3 and EventBridge."""
    event_source: str = "spotune.double"
    entry_point: tuple[str, ...] = (sys.executable, "-m", "training_container")
    """What runs in place of the image's entry point, one process a host."""
    region: str = "us-east-1"
    account: str = "000000000000"
    credentials: tuple[str, str] = ("test", "test")
    """Access key and secret of the emulator."""
    guarded: bool = False
    """The emulator checks signatures and policies; so does the double, and its jobs work under their own roles."""
    timing: Timing = field(default_factory=Timing)
    quotas: Path | None = None
    """JSON file of `{"ml.g5.2xlarge": {"spot": 2, "on_demand": 0}}`; types that it does not name have the default."""
