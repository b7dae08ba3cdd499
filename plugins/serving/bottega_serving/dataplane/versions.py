"""One version of a model in this data plane: its files fetched and checked, its model loaded."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import structlog

from bottega_serving.dataplane.inline import InlineModel
from bottega_serving.dataplane.report import Counts
from bottega_serving.dataplane.worker_pool import WorkerPool, WorkerSpec
from bottega_serving.inference.engine import SessionEngine
from bottega_serving.inference.session import LoadFailure
from bottega_serving.package import USER_CODE, check_config

log = structlog.get_logger("bottega.serving.versions")


class Model(Protocol):
    async def predict(self, body: bytes, content_type: str) -> bytes: ...
    async def close(self) -> None: ...


@dataclass(eq=False, slots=True)
class Version:
    """A loaded version. `methods` are those its ``config.json`` declares, by path; `active` counts calls under way."""

    model_id: str
    name: str
    model: Model
    methods: Mapping[str, frozenset[str]]
    headers: tuple[tuple[bytes, bytes], ...]
    counts: Counts
    settings: Mapping[str, Any]
    active: int = 0

    async def retire(self) -> None:
        """Let the calls in progress end, then free what it holds."""
        # Calls do not pay for an event that only a retirement needs: this looks instead.
        while self.active:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await self.model.close()


def settings_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a version must be loaded anew for when it changes; its weight and the URLs of its files are not among it."""
    return {name: entry[name] for name in ("model_id", "loader", "inline", "instance_count", "envs")}


async def load(entry: Mapping[str, Any], root: Path, counts: Counts) -> Version:
    """Fetch the files of a version (once) and load it. Raises LoadFailure with a reason for the service's owner."""
    folder = root / "models" / entry["model_id"]
    await asyncio.to_thread(_fetch, entry["files"], folder)
    config = check_config(entry["config"])
    files = folder / "model"
    name = f"{entry['model_name']} {entry['model_version']}"
    model: Model
    if entry["inline"] and not (files / USER_CODE).exists() and not entry["envs"]:
        module, _, function = entry["loader"].partition(":")
        loader = getattr(importlib.import_module(module), function)
        session = await asyncio.to_thread(loader, files, entry["config"])
        model = InlineModel(SessionEngine(session, config))
    else:
        pool = WorkerPool(
            WorkerSpec(
                name=name,
                folder=files,
                scratch=root / "scratch" / entry["model_id"],
                loader=entry["loader"],
                config=entry["config"],
                environment=entry["envs"],
                count=entry["instance_count"],
                load_timeout_s=entry["load_timeout_s"],
                predict_timeout_s=entry["predict_timeout_s"],
            )
        )
        await pool.start()
        model = pool
    log.info("version.loaded", model=name, inline=isinstance(model, InlineModel))
    version = entry["model_version"].encode()
    headers = (
        (b"content-type", b"application/json"),
        (b"x-model-version", version),
        (b"x-model-id", entry["model_id"].encode()),
    )
    return Version(entry["model_id"], name, model, config.methods(), headers, counts, settings_of(entry))


def _fetch(files: list[dict[str, Any]], folder: Path) -> None:
    with httpx.Client(timeout=60, trust_env=False) as client:
        for file in files:
            target = folder / file["path"]
            if not target.resolve().is_relative_to(folder.resolve()):
                raise LoadFailure(f"the package names a file outside itself: {file['path']}")
            if target.exists() and _digest(target) == file["sha256"]:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f".{target.name}.part")
            try:
                with client.stream("GET", file["url"]) as response, draft.open("wb") as out:
                    response.raise_for_status()
                    for chunk in response.iter_bytes(1 << 20):
                        out.write(chunk)
            except httpx.HTTPError as problem:
                raise LoadFailure(
                    f"{file['path']} cannot be fetched from the object store: {type(problem).__name__}"
                ) from problem
            if _digest(draft) != file["sha256"]:
                raise LoadFailure(f"{file['path']} is not the file that was imported: its SHA-256 differs")
            os.replace(draft, target)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
