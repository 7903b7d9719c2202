"""S3 as each training job's role reaches it: guarded, a job reads and writes what its role may, and nothing else."""

from __future__ import annotations

import hashlib

from spotune.local.double.judge import Judge
from spotune.local.double.objects import CachedObjects, client
from spotune.local.double.settings import Settings


class Shelves:
    """One view of S3 a role; one for everybody where nobody judges.

    Args:
        judge: hands out roles' credentials; None where everybody may do everything.
    """

    def __init__(self, settings: Settings, judge: Judge | None) -> None:
        self._settings = settings
        self._judge = judge
        self._cache = settings.home / "cache" / "objects"
        self.own = CachedObjects(client("s3", settings), self._cache)
        """As the service itself sees it."""

    def of(self, role: str) -> CachedObjects:
        """What a role reaches. Roles share no cached object: one that may not read an object never sees its bytes.

        Raises:
            ServiceError: ValidationException where SageMaker may not assume the role.
        """
        if self._judge is None:
            return self.own
        credentials = self._judge.assume(role)
        return CachedObjects(
            client("s3", self._settings, credentials), self._cache / hashlib.sha256(role.encode()).hexdigest()[:16]
        )
