"""Models that run inside the data plane's own process: requests that meet share a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bottega.errors import ApiError
from bottega_serving.inference.engine import Answer, Engine

_MAX_BATCH = 64
_SLOW_S = 0.002
"""A run that takes longer leaves the loop for a thread: the loop takes requests meanwhile."""


class InlineModel:
    """Batches without waiting: what arrived in one turn of the loop, or during the last run, runs together.

    So a lone request is not delayed, and the more requests come at once the larger the batches get.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Any, asyncio.Future[bytes]]] = []
        self._busy = False
        self._seconds = 0.0
        self._thread: ThreadPoolExecutor | None = None

    async def predict(self, body: bytes, content_type: str) -> bytes:
        """Raises ApiError for a request the model cannot answer."""
        work = self._engine.decode(body, content_type)
        done: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting.append((work, done))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._run)
        return await done

    async def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    def _run(self) -> None:
        batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
        works = [work for work, _ in batch]
        if self._seconds > _SLOW_S:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "inference")
            running = self._loop.run_in_executor(self._thread, self._timed, works)
            running.add_done_callback(lambda done: self._settle(batch, done.result()))
            return
        self._settle(batch, self._timed(works))

    def _timed(self, works: Sequence[Any]) -> list[Answer]:
        began = time.perf_counter()
        answers = self._engine.answer(works)
        # The newest runs count most; one slow run (the first, say) is forgotten after a few quick ones.
        self._seconds += 0.3 * (time.perf_counter() - began - self._seconds)
        return answers

    def _settle(self, batch: Sequence[tuple[Any, asyncio.Future[bytes]]], answers: Sequence[Answer]) -> None:
        for (_, done), answer in zip(batch, answers, strict=True):
            if done.done():
                continue
            if isinstance(answer, ApiError):
                done.set_exception(answer)
            else:
                done.set_result(answer)
        if self._waiting:
            self._loop.call_soon(self._run)
        else:
            self._busy = False
