"""The end of a job's checkpoints: S3 forgets them some days after nothing of the job runs any more.

They lie in each tenant's own folder, which no lifecycle rule can name, so that the rules of infra/ go by a tag.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from spotune.aws.base import ObjectMissing
from spotune.contracts import layout
from spotune.contracts.job import JobRecord
from spotune.service.installation import Installation

TAG = ("spotune-job", "ended")
"""What the lifecycle rules of the artifacts bucket and of further regions' jobs buckets look for."""

logger = logging.getLogger(__name__)


def release_checkpoints(here: Installation, job: JobRecord) -> None:
    """Let S3 forget the job's checkpoints. It may be cut off anywhere and begun again.

    A retry copies what it goes on from, without the tag: its own checkpoints are kept as long as it runs.

    Raises:
        Unavailable: S3 does not answer.
    """
    marked = 0
    for checkpoint in here.objects.list(layout.checkpoints_uri(here.job_folder(job))):
        with suppress(ObjectMissing):  # somebody was quicker
            here.objects.mark(checkpoint.uri, *TAG)
            marked += 1
    logger.info("%d files of checkpoints are kept no longer than the installation says", marked)
