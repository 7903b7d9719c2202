"""The next step's sequences, read while this one is computed."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from training_container.corpus.order import DataOrder
from training_container.corpus.rows import Sequence


class Loader:
    """Reads global batches ahead by one. Steps may be asked for in any order; only the one that follows is ready."""

    def __init__(self, order: DataOrder) -> None:
        self._order = order
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._ahead: dict[int, Future[list[Sequence]]] = {}

    def at(self, step: int) -> list[Sequence]:
        """The global batch of step `step`.

        Raises:
            OSError: the tokens cannot be read.
        """
        ready = self._ahead.pop(step, None) or self._read(step)
        self._ahead = {step + 1: self._read(step + 1)} if step + 1 < self._order.total_steps else {}
        return ready.result()

    def _read(self, step: int) -> Future[list[Sequence]]:
        return self._thread.submit(self._order.at, step)
