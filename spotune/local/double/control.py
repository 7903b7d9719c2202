"""The control door: what SageMaker has no operation for, and a laptop needs. JSON in, JSON out, under `/_double/`.

docs/double.md lists its routes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from spotune.local.double.capacity import Trace
from spotune.local.double.events import MODES, Disturber
from spotune.local.double.faults import ServiceError, invalid
from spotune.local.double.market import SOURCES
from spotune.local.double.regions import Regions

LOG_BYTES = 1024**2
"""At most this much of a log in one answer."""

Value = TypeVar("Value", str, int, bool)


class ControlDoor:
    """Carries out one request at a time against the double and its surroundings."""

    def __init__(self, regions: Regions, disturber: Disturber, jobs_folder: Path) -> None:
        self._regions = regions
        self._double = regions.home.double
        self._disturber = disturber
        self._jobs_folder = jobs_folder
        self._posts: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "interrupt": self._interrupt,
            "capacity": self._capacity,
            "quota": self._quota,
            "events": self._events,
            "market": self._market,
        }

    def get(self, path: list[str], query: dict[str, str]) -> dict[str, Any]:
        """Answer `GET /_double/<path>`.

        Raises:
            ServiceError: no such route or job (404), or a value that is none.
        """
        match path:
            case ["health"]:
                return {
                    "status": "ok",
                    "live_jobs": sum(job.live for one in self._regions for job in one.double.jobs()),
                }
            case ["spot-advisor-data.json"]:
                return self._regions.home.market.feed()
            case ["jobs", name]:
                return self._job(name)
            case ["logs", name]:
                return self._logs(name, query)
        raise ServiceError("NotFound", f"The control door has no route GET /_double/{'/'.join(path)}.", 404)

    def post(self, path: list[str], body: dict[str, Any]) -> dict[str, Any]:
        """Answer `POST /_double/<path>`.

        Raises:
            ServiceError: no such route (404), or a field that is missing or wrong.
        """
        if len(path) != 1 or path[0] not in self._posts:
            raise ServiceError("NotFound", f"The control door has no route POST /_double/{'/'.join(path)}.", 404)
        return self._posts[path[0]](body)

    def _job(self, name: str) -> dict[str, Any]:
        region = self._regions.with_job(name)
        job = next((job for job in region.double.jobs() if job.name == name), None)
        if job is None:
            raise ServiceError("NotFound", f"There is no training job {name}.", 404)
        return {
            "TrainingJobName": job.name,
            "Region": region.name,
            "TrainingJobStatus": job.status,
            "SecondaryStatus": job.secondary,
            "Launches": job.launches,
            "Interruptions": job.interruptions,
            "ExitCode": job.exit_code,
            "PeakMemoryBytes": region.double.peak_rss(name),
            "Processes": [process.pid for process in job.processes],
            "Hosts": list(job.hosts),
        }

    def _logs(self, name: str, query: dict[str, str]) -> dict[str, Any]:
        hosts = self._job(name)["Hosts"]
        host = query.get("host", hosts[0])
        if host not in hosts:
            raise invalid(f"{name} has the hosts {', '.join(hosts)}, not {host}.")
        try:
            offset = max(0, int(query.get("offset", "0")))
        except ValueError as error:
            raise invalid("offset must be a number of bytes.") from error
        path = self._jobs_folder / name / "logs" / f"{host}.log"
        if not path.exists():
            return {"Host": host, "Text": "", "NextOffset": 0}
        with path.open("rb") as file:
            file.seek(offset)
            part = _whole_characters(file.read(LOG_BYTES))
        return {"Host": host, "Text": part.decode(errors="replace"), "NextOffset": offset + len(part)}

    def _interrupt(self, body: dict[str, Any]) -> dict[str, Any]:
        name = _field(body, "TrainingJobName", str)
        self._regions.with_job(name).double.interrupt(
            name,
            notice_seconds=_seconds(body, "notice_seconds"),
            restart_after_seconds=_seconds(body, "restart_after_seconds"),
        )
        return {}

    def _capacity(self, body: dict[str, Any]) -> dict[str, Any]:
        instance_type = _field(body, "InstanceType", str)
        if "available" in body:
            self._double.capacity.set_available(instance_type, _field(body, "available", bool))
        if "trace_file" in body:
            path = body["trace_file"]
            self._double.capacity.follow(instance_type, _read_trace(path), self._double.clock.now())
        for region in self._regions:
            region.double.look_again()
        return {}

    def _quota(self, body: dict[str, Any]) -> dict[str, Any]:
        market = _field(body, "market", str)
        if market not in ("spot", "on_demand"):
            raise invalid(f"market must be spot or on_demand, not {market!r}.")
        self._double.quotas.set(_field(body, "InstanceType", str), market, _field(body, "limit", int))
        return {}

    def _market(self, body: dict[str, Any]) -> dict[str, Any]:
        market = self._regions.named(body["region"]).market if "region" in body else self._regions.home.market
        for name, prices in (("prices", market.prices), ("spot", market.spot)):
            prices.update({key: float(value) for key, value in body.get(name, {}).items()})
        if "broken" in body:
            if unknown := set(body["broken"]) - set(SOURCES):
                raise invalid(f"broken names {', '.join(sorted(unknown))}; the sources are {', '.join(SOURCES)}.")
            market.broken = set(body["broken"])
        return {}

    def _events(self, body: dict[str, Any]) -> dict[str, Any]:
        mode = _field(body, "mode", str)
        if mode not in MODES:
            raise invalid(f"mode must be one of {', '.join(MODES)}, not {mode!r}.")
        count = _field(body, "count", int) if "count" in body else None
        late = _seconds(body, "late_seconds", 5.0)
        self._disturber.disturb(next(known for known in MODES if known == mode), count=count, late_seconds=late)
        return {}


def _read_trace(path: object) -> Trace | None:
    if path is None:
        return None
    try:
        return Trace.from_file(Path(str(path)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise invalid(f"{path} is not a capacity trace: {error}") from error


def _field(body: dict[str, Any], name: str, kind: type[Value]) -> Value:
    value = body.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise invalid(f"{name} must be a {kind.__name__}, not {value!r}.")
    return value


def _seconds(body: dict[str, Any], name: str, default: float = 0.0) -> float:
    value = body.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < inf:
        raise invalid(f"{name} must be a number of seconds, not {value!r}.")
    return float(value)


def _whole_characters(part: bytes) -> bytes:
    """Cut an incomplete UTF-8 character off the end, for the next read."""
    for length in range(1, min(4, len(part) + 1)):
        if part[-length] >= 0xC0:
            needed = 2 if part[-length] < 0xE0 else 3 if part[-length] < 0xF0 else 4
            return part[:-length] if needed > length else part
        if part[-length] < 0x80:
            return part
    return part
