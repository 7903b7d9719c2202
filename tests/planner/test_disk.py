"""The disk that a run needs."""

from __future__ import annotations

from spotune.contracts.training import OutputConfig
from spotune.planner import disk_gb
from tests import factories


def test_disk_is_asked_for_by_what_is_trained_and_published_and_by_the_files() -> None:
    lora, full = factories.config(), factories.config(method="full", adapter=None)
    eight = 8 * 10**9
    assert disk_gb(lora, eight, 0) < 95, "with the image it fits onto the disk of an ml.g4dn.xlarge"
    assert disk_gb(full, eight, 0) > 8 * (2 + 4 * 12), "the newest two, the best, and the one being written"
    assert disk_gb(lora, eight, 10 * 10**9) == disk_gb(lora, eight, 0) + 40
    assert disk_gb(lora, eight, 0, 16 * 10**9) == disk_gb(lora, eight, 0) + 16, "a champion of whole weights"
    whole = lora.with_(outputs=OutputConfig(merged=True, gguf="f32"))
    assert disk_gb(whole, eight, 0) == disk_gb(lora, eight, 0) + 8 * (2 + 2 + 4)
