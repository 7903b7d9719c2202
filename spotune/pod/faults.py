"""Why a pod cannot do its part around the container."""

from __future__ import annotations

from spotune.contracts.faults import DISK_FULL, Fault
from spotune.contracts.training import REPORT_NAME, ExitCode
from spotune.pod.objects import NO_CREDENTIALS, StorageAway, StorageRefused


class PodFault(Fault):
    """The pod cannot go on. INTERNAL where another pod may fare better without anybody's doing."""


def channel_missing(name: str, uri: str) -> PodFault:
    """Nothing lies where a channel's data should."""
    return PodFault(
        "channel_missing",
        f"There is nothing at {uri}, from where the channel {name} comes.",
        remedy="Upload it, or render the manifests again from the job as it is now.",
    )


def host_missing(name: str, seconds: float) -> PodFault:
    """The first host did not come up."""
    return PodFault(
        "host_missing",
        f"The first host, {name}, has no address after {seconds:.0f} s.",
        remedy="See whether its pod was scheduled, and whether the Service that names the hosts is there.",
        exit_code=ExitCode.INTERNAL,
    )


def model_missing() -> PodFault:
    """The trainer's exit code says that it has published, and its folder does not."""
    return PodFault(
        "model_missing",
        f"The trainer ended well, but left no {REPORT_NAME}, with which every published model comes.",
        remedy="It is done again from the last checkpoint. If it happens again, report it with the pod's log.",
        exit_code=ExitCode.INTERNAL,
    )


def first_host_lost(name: str) -> PodFault:
    """The first host had to begin anew, so that all do."""
    return PodFault(
        "first_host_lost",
        f"The first host, {name}, ended before the model was uploaded; another pod has taken its place.",
        remedy="It is done again from the last checkpoint. See the earlier pod's log for the reason.",
        exit_code=ExitCode.INTERNAL,
    )


def not_published(seconds: float) -> PodFault:
    """The first host has ended without the model and nobody has taken its place, or it has not ended."""
    return PodFault(
        "not_published",
        f"The first host has not uploaded the model {seconds:.0f} s after this host's end.",
        remedy="It is done again from the last checkpoint. See the first host's log for the reason.",
        exit_code=ExitCode.INTERNAL,
    )


def fault_of(error: Exception) -> PodFault:
    """What an exception means to a person. What waiting may mend is INTERNAL: the cluster starts another pod."""
    if isinstance(error, PodFault):
        return error
    if isinstance(error, StorageRefused) and isinstance(error.__cause__, NO_CREDENTIALS):
        return PodFault(
            "storage_without_credentials",
            "The pod has no credentials for S3.",
            evidence=str(error),
            remedy="Give it a service account that stands for a role, or a secret with keys. See docs/kubernetes.md.",
        )
    if isinstance(error, StorageRefused):
        return PodFault(
            "storage_refused",
            "S3 refuses what the pod has to read or write.",
            evidence=str(error),
            remedy="Let its role or keys read the inputs, and read and write the storage folder.",
        )
    if isinstance(error, StorageAway):
        return PodFault(
            "storage_away",
            "S3 does not answer.",
            evidence=str(error),
            remedy="It is tried again. See whether the cluster's network reaches S3.",
            exit_code=ExitCode.INTERNAL,
        )
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return PodFault(
            "pod_disk_full",
            "The pod's disk is full.",
            evidence=str(error),
            remedy="Render with --storage-class, for a volume of its own, or take nodes with more disk.",
        )
    return PodFault("internal", f"{type(error).__name__}: {error}", exit_code=ExitCode.INTERNAL)
