"""`python -m tests.pod.quick FOLDER SCRIPT`: a pod whose trainer is a script, and whose patience is short."""

from __future__ import annotations

import sys
from pathlib import Path

from spotune.pod.__main__ import main
from spotune.pod.host import Pace

QUICK = Pace(sync=0.2, storage=2.0, host=2.0, publication=5.0, poll=0.05)

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [sys.executable, sys.argv[2]], QUICK))
