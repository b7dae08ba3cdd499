"""Models in processes of their own: started, fed in batches, watched, and started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import structlog

from bottega.errors import ApiError, Unavailable
from bottega_serving.inference.engine import ModelError
from bottega_serving.inference.session import LoadFailure
from bottega_serving.worker import frames

log = structlog.get_logger("bottega.serving.workers")
_MAX_BATCH = 64
_FIRST_BACKOFF_S, _LAST_BACKOFF_S, _STEADY_S = 0.1, 10.0, 30.0
_MAX_WAITING = 10_000
_ATTEMPTS = 2
"""A request whose worker died is given to another once: a prediction changes nothing, so it may be asked twice."""


class TimedOut(ApiError):
    """The model did not answer in time."""

    status = 504
    code = "ModelArts.4504"


@dataclass(slots=True)
class _Waiting:
    item: frames.Item
    done: asyncio.Future[bytes]
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker needs to load its model. `scratch` is the one folder it may write to."""

    name: str
    folder: Path
    scratch: Path
    loader: str
    config: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    load_timeout_s: float = 120
    predict_timeout_s: float = 60


class WorkerPool:
    """`count` worker processes with one queue."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._queue: deque[_Waiting] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._workers: dict[int, _Worker] = {}
        self.restarts = 0

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers.values()]

    async def start(self) -> None:
        """Return when the first worker has loaded its model. Raises LoadFailure, with the reason, when it cannot."""
        first = await _Worker.start(self._spec)
        self._tasks = [asyncio.create_task(self._keep(i, first if i == 0 else None)) for i in range(self._spec.count)]

    async def predict(self, body: bytes, content_type: str) -> bytes:
        """Raises ApiError: the worker's own, Unavailable when it died twice on it, TimedOut."""
        if len(self._queue) >= _MAX_WAITING:
            raise Unavailable("too many requests wait for this model; try again")
        waiting = _Waiting((content_type, body), asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._wake_one()
        return await waiting.done

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._refuse("the model was taken out of service")

    def _wake_one(self) -> None:
        while self._idle:
            wake = self._idle.popleft()
            if not wake.done():
                wake.set_result(None)
                return

    def _refuse(self, reason: str) -> None:
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.done.done():
                waiting.done.set_exception(Unavailable(reason))

    async def _keep(self, index: int, worker: _Worker | None) -> None:
        """Run one worker after the other in place `index`."""
        backoff = _FIRST_BACKOFF_S
        while True:
            began = time.monotonic()
            try:
                if worker is None:
                    worker = await _Worker.start(self._spec)
                self._workers[index] = worker
                await self._feed(worker)
            except LoadFailure as problem:
                log.error("worker.not_started", model=self._spec.name, reason=str(problem))
                if not self._workers:
                    self._refuse(f"the model's process does not start: {problem}")
            except (OSError, EOFError, frames.BrokenFrame) as problem:
                log.warning("worker.died", model=self._spec.name, reason=str(problem) or type(problem).__name__)
            finally:
                self._workers.pop(index, None)
                if worker is not None:
                    await worker.end()
                    worker = None
            if time.monotonic() - began > _STEADY_S:
                backoff = _FIRST_BACKOFF_S
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _LAST_BACKOFF_S)
            self.restarts += 1

    async def _feed(self, worker: _Worker) -> None:
        loop = asyncio.get_running_loop()
        died = asyncio.create_task(worker.process.wait())
        try:
            while True:
                while self._queue and not died.done():
                    # A fair share each, so that several workers all get some.
                    size = min(_MAX_BATCH, -(-len(self._queue) // max(1, len(self._workers))))
                    await self._serve(worker, [self._queue.popleft() for _ in range(size)])
                wake = loop.create_future()
                self._idle.append(wake)
                await asyncio.wait({wake, died}, return_when=asyncio.FIRST_COMPLETED)
                if died.done():
                    wake.cancel()
                    if self._queue:
                        self._wake_one()
                    raise EOFError(f"its process ended with status {died.result()}")
        finally:
            died.cancel()

    async def _serve(self, worker: _Worker, batch: list[_Waiting]) -> None:
        try:
            async with asyncio.timeout(self._spec.predict_timeout_s):
                answers = await worker.ask([waiting.item for waiting in batch])
        except TimeoutError:
            late = TimedOut(
                f"the model did not answer within {self._spec.predict_timeout_s:g} s; its process is restarted"
            )
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(late)
            raise EOFError("it did not answer in time") from None
        except (OSError, EOFError, frames.BrokenFrame) as problem:
            self._put_back(batch, problem)
            raise
        for waiting, (status, body) in zip(batch, answers, strict=True):
            if waiting.done.done():
                continue
            if status == "200":
                waiting.done.set_result(body)
            else:
                waiting.done.set_exception(_error(status, body))

    def _put_back(self, batch: Sequence[_Waiting], problem: BaseException) -> None:
        for waiting in reversed(batch):
            waiting.attempts += 1
            if waiting.attempts < _ATTEMPTS:
                self._queue.appendleft(waiting)
            elif not waiting.done.done():
                waiting.done.set_exception(Unavailable(f"the model's process died on this request ({problem})"))


class _Worker:
    """One process and the socket to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, spec: WorkerSpec) -> _Worker:
        """Raises LoadFailure with the worker's own reason."""
        spec.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "bottega_serving.worker",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(spec),
                cwd=spec.scratch,
                pass_fds=(theirs.fileno(),),
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = cls(process, reader, writer)
        description = {
            "name": spec.name,
            "folder": str(spec.folder),
            "loader": spec.loader,
            "config": dict(spec.config),
        }
        try:
            async with asyncio.timeout(spec.load_timeout_s):
                ((state, reason),) = await worker.ask([("model", orjson.dumps(description))])
        except TimeoutError:
            await worker.end()
            raise LoadFailure(f"the model was not loaded within {spec.load_timeout_s:g} s") from None
        except (OSError, EOFError, frames.BrokenFrame) as problem:
            await worker.end()
            raise LoadFailure(
                f"the process that loads the model ended with status {process.returncode}; its log says why"
            ) from problem
        if state != "ready":
            await worker.end()
            raise LoadFailure(reason.decode("utf-8", "replace"))
        return worker

    async def ask(self, items: Sequence[frames.Item]) -> list[frames.Item]:
        self._writer.write(frames.pack(items))
        await self._writer.drain()
        count = frames.unpack_count(await self._reader.readexactly(frames.HEAD))
        if count != len(items):
            raise frames.BrokenFrame(f"{count} answers to {len(items)} requests")
        answers = []
        for _ in range(count):
            text, body = frames.unpack_sizes(await self._reader.readexactly(frames.ITEM_HEAD))
            status = (await self._reader.readexactly(text)).decode("ascii", "replace")
            answers.append((status, await self._reader.readexactly(body)))
        return answers

    async def end(self) -> None:
        self._writer.close()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


def _error(status: str, body: bytes) -> ApiError:
    """The worker's error; whatever it sends, only known forms reach the caller."""
    try:
        told = orjson.loads(body)
        error = ModelError(str(told["message"]))
        error.code = str(told["code"])
        error.status = int(status) if 400 <= int(status) <= 599 else 500
    except (ValueError, KeyError, TypeError):
        return ModelError("the model's process sent an answer that is none")
    return error


def _environment(spec: WorkerSpec) -> dict[str, str]:
    """Nothing of the data plane's own environment but what finding and running programs needs."""
    kept = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TZ", "PYTHONPATH")
    inherited = {name: os.environ[name] for name in kept if name in os.environ}
    scratch = str(spec.scratch)
    own = {"HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    return {**dict(spec.environment), **inherited, **own}
