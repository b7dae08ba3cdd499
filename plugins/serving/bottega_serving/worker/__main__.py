"""``python -m bottega_serving.worker DESCRIPTOR``: serve one model over an inherited socket until it closes."""

from __future__ import annotations

import importlib
import socket
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

import orjson

from bottega.errors import ApiError
from bottega_serving.inference.engine import Answer, Engine, SessionEngine
from bottega_serving.inference.session import LoadFailure, Session
from bottega_serving.package import USER_CODE, check_config
from bottega_serving.worker import frames
from bottega_serving.worker.frames import Item
from bottega_serving.worker.sandbox import DEVICES, SYSTEM, confine
from bottega_serving.worker.user_code import UserEngine, check_dependencies, load_service


def main(descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as connection:
        stream = connection.makefile("rb")
        first = frames.read(stream.read)
        if first is None:
            return
        description = orjson.loads(first[0][1])
        try:
            engine = _load(description)
        except Exception as problem:  # whatever stands in the way of the model is what the data plane reports
            if not isinstance(problem, LoadFailure):
                traceback.print_exc()
            reason = str(problem) if isinstance(problem, LoadFailure) else f"{type(problem).__name__}: {problem}"
            connection.sendall(frames.pack([("failed", reason.encode())]))
            return
        connection.sendall(frames.pack([("ready", b"")]))
        while batch := frames.read(stream.read):
            connection.sendall(frames.pack(_serve(engine, batch)))


def _load(description: dict[str, Any]) -> Engine:
    folder = Path(description["folder"])
    if not confine([*SYSTEM, *_python(), folder], [*DEVICES, Path.cwd()]):
        print("[bottega] this system has no Landlock: user code can read what this user can", flush=True)
    config = check_config(description["config"])
    check_dependencies(config)
    if (folder / USER_CODE).exists():
        return UserEngine(load_service(description["name"], folder, _built_in(description, folder)))
    return SessionEngine(_session(description, folder), config)


def _built_in(description: dict[str, Any], folder: Path) -> Session | None:
    """The model behind the base class's own ``_inference``; None where only user code can load it."""
    try:
        return _session(description, folder)
    except LoadFailure:
        return None


def _session(description: dict[str, Any], folder: Path) -> Session:
    module, _, function = description["loader"].partition(":")
    session: Session = getattr(importlib.import_module(module), function)(folder, description["config"])
    return session


def _python() -> list[str]:
    """Where this interpreter and its packages are, those installed in place included."""
    schemes = [path for path in sysconfig.get_paths().values() if path]
    return [sys.prefix, sys.base_prefix, *schemes, *(entry for entry in sys.path if entry)]


def _serve(engine: Engine, batch: list[Item]) -> list[Item]:
    answers: list[Answer | None] = []
    works: list[Any] = []
    for content_type, body in batch:
        try:
            works.append(engine.decode(body, content_type))
            answers.append(None)
        except ApiError as problem:
            answers.append(problem)
    done = iter(engine.answer(works))
    return [_item(next(done) if answer is None else answer) for answer in answers]


def _item(answer: Answer) -> Item:
    if isinstance(answer, bytes):
        return "200", answer
    return str(answer.status), orjson.dumps({"code": answer.code, "message": answer.message})


if __name__ == "__main__":
    main(int(sys.argv[1]))
