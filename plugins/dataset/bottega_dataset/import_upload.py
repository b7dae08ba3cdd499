"""``…/import-tasks/manifest``: importing a manifest from one's own machine (002 §2.3.1, §2.3.2.2)."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Query, Request

from bottega.errors import Invalid, TooLarge
from bottega.gateway import Caller, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import imports, tasks
from bottega_dataset.datasets import Datasets
from bottega_dataset.entities import Task
from bottega_dataset.kinds import Kinds
from bottega_dataset.planner import IMPORT, plan_import
from bottega_dataset.requests import LabelBody, NewImport
from bottega_dataset.task_routes import import_params

MAX_UPLOAD = 8 * 2**20
"""Bytes of a manifest as it is sent, compressed or not (002 §2.3.1); one in object storage may have any size."""
MAX_UNPACKED = 2**30
_GZIP, _AUTO = b"\x1f\x8b", 31
_BLOCK = 2**20
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)

    @routes.post("/v2/{project_id}/datasets/{dataset_id}/import-tasks/manifest", status_code=201, openapi_extra=_BODY)
    async def import_manifest(
        dataset_id: str,
        request: Request,
        import_annotations: bool = True,
        difficult_only: bool = False,
        included_labels: list[str] = Query(default_factory=list),
        excluded_labels: list[str] = Query(default_factory=list),
        on_error: Literal["continue", "stop"] = "continue",
        caller: Caller = requires(IMPORT, "dataset/{dataset_id}", keep_body=False),
    ) -> Any:
        """Import the manifest that is the body, plain or compressed with gzip; it is kept in the output path."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        task = Task(
            kind="import",
            dataset_id=dataset_id,
            project_id=caller.project_id,
            user_id=caller.user_id,
        )
        work_path = ObjectPath.parse(found.dataset.work_path, "work_path").folder
        path = work_path / f"{found.resource.name}-{dataset_id}/import/{task.id}.manifest"
        body = NewImport(
            import_path=str(path),
            import_type="manifest",
            import_annotations=import_annotations,
            difficult_only=difficult_only,
            included_labels=[LabelBody(name=name) for name in included_labels],
            excluded_labels=[LabelBody(name=name) for name in excluded_labels],
            on_error=on_error,
        )
        imports.check_request(kinds, found.dataset, body.import_type, path)
        await caller.check_path(path, write=True)
        await caller.require((await plan_import(caller, body)).needs)
        data = await _received(request)
        with tempfile.TemporaryDirectory(prefix="bottega-manifest-") as folder:
            file = Path(folder) / "manifest"
            await anyio.to_thread.run_sync(_unpack, data, file)
            await platform.objects.upload(file, path, "application/json-lines")
        task.params = import_params(body)
        async with platform.database.transaction() as tx:
            await tasks.request(tx, task)
        return {"task_id": task.id, "import_path": str(path)}

    return routes


async def _received(request: Request) -> bytes:
    """The body. Raises TooLarge as soon as it is, Invalid when there is none."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_UPLOAD:
            raise TooLarge(
                f"the manifest is larger than {MAX_UPLOAD // 2**20} MB; compress it with gzip, or store it and import "
                "it from there (import_path)"
            )
    if not data:
        raise Invalid("the request has no body; send the manifest itself, one JSON object a line")
    return bytes(data)


def _unpack(data: bytes, file: Path) -> None:
    """Write a manifest to a file. Raises Invalid for broken gzip, TooLarge for more than `MAX_UNPACKED`."""
    with file.open("wb") as out:
        if not data.startswith(_GZIP):
            out.write(data)
            return
        written = 0
        try:
            while data:  # a file of gzip may hold several, one behind the other
                unpacker = zlib.decompressobj(_AUTO)
                piece = unpacker.decompress(data, _BLOCK)
                while piece:
                    written += len(piece)
                    if written > MAX_UNPACKED:
                        raise TooLarge(f"the manifest has more than {MAX_UNPACKED // 2**20} MB when it is unpacked")
                    out.write(piece)
                    piece = unpacker.decompress(unpacker.unconsumed_tail, _BLOCK)
                if not unpacker.eof:
                    raise Invalid("the manifest's gzip data ends too early; it was cut off")
                data = unpacker.unused_data
        except zlib.error as e:
            raise Invalid(f"the manifest is not good gzip data: {e}") from e
