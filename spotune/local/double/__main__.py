"""`python -m spotune.local.double`: the double as a process of its own, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import logging
import shlex
import signal
import sys
import threading
from pathlib import Path

from spotune.contracts.errors import SpotuneError
from spotune.local.double.server import DoubleServer
from spotune.local.double.settings import Settings, Timing


def main() -> int:
    """Serve until a signal; 0 then, 1 where it cannot start."""
    arguments = _parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = Settings(
        home=arguments.home.expanduser(),
        emulator_url=arguments.emulator,
        event_source=arguments.event_source,
        entry_point=tuple(shlex.split(arguments.entry_point)),
        region=arguments.region,
        account=arguments.account,
        quotas=arguments.quotas,
        guarded=arguments.guarded,
        timing=Timing(stop_grace=arguments.stop_grace, sync=arguments.sync_interval),
    )
    server = DoubleServer(settings, arguments.port)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        server.start()
    except SpotuneError as error:
        print(error, file=sys.stderr)
        return 1
    print(server.url, flush=True)
    ended.wait()
    server.stop()
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m spotune.local.double", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port; the URL is the first line printed")
    parser.add_argument("--home", type=Path, required=True, help="folder of jobs, logs and the cache")
    parser.add_argument("--emulator", required=True, help="URL of S3 and EventBridge")
    parser.add_argument("--event-source", default=Settings.event_source)
    parser.add_argument("--entry-point", default=shlex.join(Settings.entry_point), help="stands in for the image's")
    parser.add_argument("--region", default=Settings.region)
    parser.add_argument("--account", default=Settings.account)
    parser.add_argument("--quotas", type=Path, help="JSON file of quotas by instance type and market")
    parser.add_argument("--guarded", action="store_true", help="the emulator checks signatures and policies")
    parser.add_argument("--stop-grace", type=float, default=Timing.stop_grace, help="seconds from SIGTERM to SIGKILL")
    parser.add_argument("--sync-interval", type=float, default=Timing.sync, help="seconds between checkpoint uploads")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
