"""Answers about processing tasks, in the vendor's shapes (its public REST reference)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_dataset import previews
from bottega_dataset.entities import DatasetVersion
from bottega_dataset.previews import Resize
from bottega_dataset.processing.entities import (
    COMPLETED,
    FAILED,
    RUNNING,
    ProcessorResult,
    ProcessorTask,
    ProcessorVersion,
)
from bottega_dataset.processing.processors import ANALYSIS
from bottega_dataset.processing.service import Asked, Processing, duration_s
from bottega_dataset.processing.worker import PROGRESS
from bottega_dataset.shapes import vendor_path

_PERCENT = re.compile(rf"^{PROGRESS}(\d+)$", re.MULTILINE)
_TAIL = 16 << 10
_EXPIRES_S = 900


def task(platform: Platform, found: Asked, *, with_result: bool = True) -> dict[str, Any]:
    row, resource, latest = found.task, found.resource, found.latest
    plan = latest.plan if latest else {}
    first = plan["inputs"][0] if plan else {}
    answer: dict[str, Any] = {
        "task_id": row.id,
        "name": resource.name,
        "description": resource.description,
        "status": row.status,
        "template": row.request["template"],
        **_inputs(row.request),
        "work_path": _work_path(row.request, latest),
        "version_count": found.versions,
        "version_id": row.dataset_version_id,
        "version_name": first.get("version_name"),
        "latest_task_version_id": row.latest_id,
        "is_current": found.is_current,
        "workspace_id": resource.workspace_id,
        "create_time": row.created_at,
        "duration_seconds": duration_s(latest) if latest else 0,
    }
    if row.status == FAILED and latest:
        answer["error_msg"] = latest.error_msg
    if row.status == COMPLETED and latest and with_result and latest.result:
        answer["result"] = findings(platform, latest)
    return answer


def version(row: ProcessorVersion) -> dict[str, Any]:
    counts = row.counts
    done = row.status == COMPLETED
    return {
        "task_version_id": row.id,
        "task_id": row.task_id,
        "version_name": row.name,
        "description": row.description,
        "status": row.status,
        "error_msg": row.error_msg or None,
        "template": row.request["template"],
        **_inputs(row.request),
        "work_path": _work_path(row.request, row),
        "origin_sample_count": counts.get("origin", 0),
        "add_sample_count": counts.get("added", 0),
        "deleted_sample_count": counts.get("deleted", 0),
        "modified_sample_count": counts.get("modified", 0),
        "unmodified_sample_count": counts.get("unmodified", 0),
        "flagged_sample_count": counts.get("flagged", 0),
        "unreadable_sample_count": counts.get("unreadable", 0),
        "left_out_sample_count": counts.get("left_out", 0),
        "operators": row.operators,
        "seed": row.plan["seed"],
        "flavor": row.flavor,
        "report_path": vendor_path(row.plan["report_path"]),
        "manifest_path": vendor_path(row.plan["data_path"] + row.plan["manifest"])
        if done and row.plan["manifest"]
        else None,
        "output_dataset_id": row.output_dataset_id if done else None,
        "output_version_id": row.output_version_id if done else None,
        "create_time": row.created_at,
        "update_time": row.updated_at,
        "duration_seconds": duration_s(row),
    }


def findings(platform: Platform, row: ProcessorVersion) -> dict[str, Any]:
    """What an analysis found, by name, each with the address of its picture."""
    report = ObjectPath.parse(row.plan["report_path"])
    shown = {}
    for name, found in row.result.items():
        shown[name] = dict(found)
        if "figure" in found:
            path = report / str(found["figure"])
            shown[name] |= {"figure": str(path), "figure_url": platform.objects.presign("GET", path, _EXPIRES_S)}
    return shown


async def results(
    platform: Platform, rows: Sequence[ProcessorResult], resize: Resize | None = None
) -> list[dict[str, Any]]:
    """What became of samples, with addresses at which both can be seen."""
    sources = {source for row in rows for source in (row.origin, row.new)}
    known = {source: path for source in sources if (path := previews.object_of(source))}
    found = await previews.addresses(platform.objects, list(known.values()), resize)
    signed = dict(zip(known, found, strict=True))
    return [
        {
            "version_id": row.version_id,
            "sample_id": row.sample_id,
            "origin_source": row.origin,
            "new_source": row.new,
            "result_property": row.property,
            "result_description": row.notes,
            "signed_origin_source": signed.get(row.origin) or _public(row.origin),
            "signed_new_source": signed.get(row.new) or _public(row.new),
        }
        for row in rows
    ]


async def of_versions(
    session: AsyncSession, platform: Platform, rows: Sequence[DatasetVersion]
) -> dict[str, dict[str, Any]]:
    """What versions of datasets tell of processing, by id: the task they come from, and their newest analysis."""
    told: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.options.get("processor_task_id"):
            made = await session.get(ProcessorVersion, row.options["processor_version_id"])
            told[row.id] = {
                "processor_task_id": row.options["processor_task_id"],
                "processor_task_status": made.status if made else COMPLETED,
            }
    query = (
        select(ProcessorTask, ProcessorVersion)
        .join(ProcessorVersion, col(ProcessorVersion.id) == ProcessorTask.latest_id)
        .where(
            col(ProcessorTask.dataset_version_id).in_([row.id for row in rows]), ProcessorTask.template_id == ANALYSIS
        )
        .order_by(col(ProcessorTask.created_at), col(ProcessorTask.id))
    )
    for asked, ran in (await session.exec(query)).all():
        told.setdefault(asked.dataset_version_id or "", {}).update(
            start_processor_task=True,
            analysis_task_id=asked.id,
            analysis_status=ran.status,
            analysis_cache_path=vendor_path(ran.plan["report_path"]),
            data_analysis=findings(platform, ran),
        )
    return told


async def progress(service: Processing, row: ProcessorVersion) -> int:
    """Percent, by what the worker said last."""
    if row.status != RUNNING:
        return 100 if row.status == COMPLETED else 0
    chunk = await service.read_log(row, -_TAIL, _TAIL)
    said = _PERCENT.findall(chunk.text) if chunk else []
    return int(said[-1]) if said else 0


def _inputs(request: dict[str, Any]) -> dict[str, Any]:
    inputs = request["inputs"]
    return {"inputs": inputs} | ({"data_source": inputs[0]} if request.get("data_source") else {})


def _work_path(request: dict[str, Any], row: ProcessorVersion | None) -> dict[str, Any]:
    shown = dict(request["work_path"] or {"type": "OBS"})
    if row is not None:
        shown["output_path"] = vendor_path(row.plan["data_path"] if row.plan["manifest"] else row.plan["report_path"])
        if row.status == COMPLETED and row.output_version_id:
            shown["version_id"] = row.output_version_id
    return shown


def _public(source: str) -> str:
    return source if source.startswith("https://") else ""
