"""Answers, in the vendor's shapes (its public REST reference, data management)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bottega.errors import ApiError
from bottega_dataset import hard_reasons
from bottega_dataset.comparing import Difference
from bottega_dataset.datasets import Found
from bottega_dataset.entities import (
    Dataset,
    DatasetChange,
    DatasetVersion,
    Revision,
    Sample,
    SavedFilter,
    Task,
    TaskProblem,
)
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.manifest import read_annotation
from bottega_dataset.sample import CONTENT, LABELED, SIZE, UNLABELED, Annotation

HARD = "@modelarts:hard"
_TABLE = 400
_NORMAL, _SYNCHRONIZING, _RELEASING, _IMPORTING = 1, 5, 6, 8


def vendor_path(path: str) -> str:
    """``/bucket/key``, as the API writes paths."""
    return "/" + path.removeprefix("s3://") if path else ""


def dataset(
    found: Found,
    *,
    counted: tuple[int, int],
    version: DatasetVersion | None,
    unconfirmed: int,
    version_count: int,
    running: Sequence[Task],
    kind: DatasetType | None,
    workforce_tasks: int = 0,
) -> dict[str, Any]:
    """`counted` is the number of samples and of labeled ones; `version` the current one; `running` tasks at work."""
    row, resource = found.dataset, found.resource
    options = row.options or {}
    inner = f"{vendor_path(row.work_path)}{resource.name}-{row.id}/"
    importing = next((t.id for t in running if t.kind == "import"), None)
    releasing = any(t.kind == "publish" for t in running)
    return {
        "dataset_id": row.id,
        "dataset_name": resource.name,
        "dataset_type": row.dataset_type,
        "dataset_format": 1 if row.dataset_type == _TABLE else 0,
        "data_format": options.get("data_format", "Default"),
        "dataset_tags": list(kind.tags) if kind else [],
        "description": resource.description,
        "status": _status(importing is not None, releasing, any(t.kind == "sync" for t in running)),
        "data_sources": [_data_source(row)] if row.data_path else [],
        "data_url": vendor_path(version.manifest_path.rpartition("/")[0] + "/") if version else "",
        "workforce_descriptor": {},
        "work_path": vendor_path(row.work_path),
        "work_path_type": 0,
        "inner_work_path": inner,
        **{f"inner_{name}_path": f"{inner}{name}/" for name in ("annotation", "data", "log", "task", "temp")},
        "label_format": row.label_format,
        "managed": options.get("managed", False),
        "import_data": options.get("import_data", False),
        "schema": options.get("schema", []),
        "content_labeling": True,
        "feature_supports": ["0"],
        "enterprise_project_id": "0",
        "third_path": "",
        "data_statistics": counts(counted[0], counted[1], unconfirmed),
        "deletion_stats": {},
        "watch": row.watched,
        "total_sample_count": counted[0],
        "annotated_sample_count": counted[1],
        "total_sub_sample_count": 0,
        "annotated_sub_sample_count": 0,
        "loading_sample_count": 0,
        "unconfirmed_sample_count": unconfirmed,
        "deleted_sample_count": row.deleted_samples,
        "label_task_count": 0,
        "current_version_id": row.current_version_id,
        "current_version_name": version.name if version else None,
        "versions": [version_of(version, row, kind)] if version else [],
        "dataset_version_count": version_count,
        "next_version_num": row.next_version,
        "import_task_id": importing or row.import_task_id,
        "exist_running_task": bool(running),
        "running_tasks_id": [t.id for t in running],
        "exist_workforce_task": bool(workforce_tasks),
        "workforce_task_count": workforce_tasks,
        "workspace_id": resource.workspace_id,
        "create_time": resource.created_at,
        "update_time": resource.updated_at,
        "data_update_time": row.data_updated_at,
    }


def _data_source(row: Dataset) -> dict[str, Any]:
    source = (row.options or {}).get("data_source") or {}
    return {
        "data_type": 0,
        "data_path": vendor_path(row.data_path),
        "with_column_header": source.get("with_column_header", False),
        "schema_maps": source.get("schema_maps", []),
        "source_info": {},
    }


def version_of(row: DatasetVersion, owner: Dataset, kind: DatasetType | None) -> dict[str, Any]:
    return version(row, owner.dataset_type, owner.current_version_id, kind.tags if kind else ())


def counts(total: int, labeled: int, unconfirmed: int | None = None) -> dict[str, Any]:
    """How many samples are in which state: what the vendor calls the data statistics of a dataset or a version."""
    found = {"total": total, "manual_annotation": labeled, "un_annotation": total - labeled}
    return {"sample_stats": found if unconfirmed is None else found | {"unconfirmed": unconfirmed}}


def annotation_file(row: Sample, dataset_id: str, annotations: Sequence[Annotation]) -> dict[str, Any]:
    """A sample in the preview of a list of datasets (the vendor's AnnotationFile): its labels, and who said so."""
    size = ((row.extra or {}).get("property") or {}).get(SIZE) or []
    width, height, depth = (*size, *(None,) * 3)[:3]
    return {
        "file_id": bytes(row.sample_id).hex(),
        "file_Name": row.name,
        "file_type": row.name.rpartition(".")[2].lower() if "." in row.name else "",
        "dataset_id": dataset_id,
        "create_time": row.added_at,
        "size": row.size,
        "width": width,
        "height": height,
        "depth": depth,
        "tags": {one.name: one.annotated_by for one in annotations if one.name},
        "url": row.source,
    }


def _status(importing: bool, releasing: bool, synchronizing: bool) -> int:
    if importing:
        return _IMPORTING
    return _RELEASING if releasing else _SYNCHRONIZING if synchronizing else _NORMAL


def sample(row: Sample, annotations: Sequence[Annotation], kind: DatasetType) -> dict[str, Any]:
    text = row.source.removeprefix(CONTENT) if row.source.startswith(CONTENT) else None
    properties = (row.extra or {}).get("property") or {}
    reasons = hard_reasons.numbers(properties.get("@modelarts:hard_reasons"))
    answer: dict[str, Any] = {
        "sample_id": bytes(row.sample_id).hex(),
        "sample_name": row.name,
        "sample_type": kind.sample_type,
        "sample_status": LABELED if row.labeled else UNLABELED,
        "sample_size": row.size if text is None else len(text.encode()),
        "sample_time": row.modified_at or row.added_at,
        "sample_dir": row.source.rpartition("/")[0] + "/" if text is None else "",
        "sample_data": [text] if text is not None else [],
        "source": row.source,
        "usage": row.usage or "",
        "labels": [label(one, kind, index) for index, one in enumerate(annotations)],
        "metadata": {HARD: 1.0 if row.hard else 0.0, **properties},
        "hard_details": {str(reason): hard_detail(reason) for reason in reasons},
        "deletion_reasons": [],
        "sub_sample_url": None,
        "revision": row.revision,
    }
    return answer


def state(
    annotations: Sequence[Annotation],
    kind: DatasetType,
    revision: int | None,
    usage: str | None,
    hard: bool,
    property: Mapping[str, Any],
) -> dict[str, Any]:
    """What is said of a sample at one moment."""
    return {
        "revision": revision,
        "labels": [label(one, kind, index) for index, one in enumerate(annotations)],
        "sample_usage": usage or "",
        "metadata": {HARD: 1.0 if hard else 0.0, **property},
    }


def revision(row: Revision, kind: DatasetType) -> dict[str, Any]:
    """One change of a sample; ``labels`` and ``sample`` are what was before it."""
    before = [read_annotation(one, index) for index, one in enumerate(row.before)]
    return {
        "revision": row.revision,
        "change_id": row.change_id,
        "actor": row.actor,
        "cause": row.cause,
        "time": row.at,
        "undoes": row.undoes,
        "labels": [label(one, kind, index) for index, one in enumerate(before)],
        "sample": row.sample or {},
    }


def change(row: DatasetChange) -> dict[str, Any]:
    return {
        "change_id": row.id,
        "actor": row.actor,
        "cause": row.cause,
        "time": row.at,
        "sample_count": row.count,
        "details": row.details,
    }


def label(one: Annotation, kind: DatasetType, index: int) -> dict[str, Any]:
    prop = dict(one.property or {})
    if one.hard is not None:
        prop[HARD] = "1" if one.hard else "0"
    answer: dict[str, Any] = {
        "id": one.id or str(index),
        "name": one.name,
        "type": kind.label_type(one.type),
        "annotated_by": one.annotated_by,
        "property": prop,
    }
    if one.confidence is not None:
        answer["score"] = one.confidence
    if one.created_at is not None:
        answer["create_time"] = one.created_at
    return answer


def version(row: DatasetVersion, dataset_type: int, current: str | None, tags: Sequence[str] = ()) -> dict[str, Any]:
    """``add_sample_count`` and its like compare with the parent version."""
    changes = row.changes or {}
    return {
        "version_id": row.id,
        "version_name": row.name,
        "version_format": row.options.get("version_format", "Default"),
        "status": row.status,
        "description": row.description,
        "message": row.message,
        "code": row.options.get("error_code", ""),
        "is_current": row.id == current,
        "task_type": dataset_type,
        "tags": list(tags),
        "manifest_path": row.manifest_path,
        "manifest_sha256": row.manifest_sha256,
        "manifest_cache_input_path": "",
        "data_path": row.manifest_path.rpartition("/")[0] + "/" if row.manifest_path else "",
        "total_sample_count": row.total_samples,
        "annotated_sample_count": row.labeled_samples,
        "total_sub_sample_count": 0,
        "annotated_sub_sample_count": 0,
        "add_sample_count": changes.get("added", 0),
        "deleted_sample_count": changes.get("removed", 0),
        "modified_sample_count": changes.get("modified", 0),
        "deletion_stats": {},
        "previous_version_id": row.previous_id,
        "previous_total_sample_count": changes.get("previous_total", 0),
        "previous_annotated_sample_count": changes.get("previous_labeled", 0),
        "label_type": "multi" if row.multi_label else "single",
        "label_stats": row.label_stats,
        "train_evaluate_sample_ratio": f"{row.train_ratio:.2f}",
        "seed": row.options.get("seed", 0),
        "export_images": bool(row.options.get("export_images")),
        "include_dataset_data": bool(row.options.get("export_images")),
        "remove_sample_usage": not row.options.get("keep_usage"),
        "clear_hard_property": not row.options.get("keep_hard"),
        "with_column_header": bool(row.options.get("with_column_header", True)),
        "sample_state": "",
        "crop": False,
        "crop_path": "",
        "crop_rotate_cache_path": "",
        "rotate": False,
        "rotate_path": "",
        "extract_serial_number": False,
        "data_validate": False,
        "start_processor_task": False,
        "processor_task_id": "",
        "processor_task_status": 0,
        "analysis_task_id": "",
        "analysis_status": 0,
        "analysis_cache_path": "",
        "data_analysis": {},
        "data_statistics": counts(row.total_samples, row.labeled_samples),
        "create_time": row.created_at,
        "update_time": row.updated_at,
    }


def difference(one: Difference, kind: DatasetType) -> dict[str, Any]:
    """A sample that two versions do not have alike, with its labels in both."""
    record = one.after or one.before
    assert record is not None
    shown: dict[str, Any] = {"sample_id": one.ident.hex(), "change": one.change, "source": record.source}
    for name, state in (("base_labels", one.before), ("labels", one.after)):
        annotations = state.annotations if state else []
        shown[name] = [label(said, kind, index) for index, said in enumerate(annotations)]
    return shown


def saved_filter(row: SavedFilter) -> dict[str, Any]:
    return {
        "filter_id": row.id,
        "name": row.name,
        "sample_state": row.sample_state,
        "search_conditions": row.conditions,
        "created_by": row.created_by,
        "create_time": row.created_at,
        "update_time": row.updated_at,
    }


def problem(row: TaskProblem) -> dict[str, Any]:
    return {"place": row.place, "reason": row.reason, "text": row.text}


def hard_detail(reason: int) -> dict[str, Any]:
    """Why a sample is hard (the vendor's HardDetail)."""
    text, suggestion = hard_reasons.TEXTS.get(reason, ("", ""))
    alias = hard_reasons.Reason(reason).name.lower() if reason in hard_reasons.TEXTS else ""
    return {"id": reason, "alo_name": alias, "reason": text, "suggestion": suggestion}


def batch(failures: Sequence[ApiError | None]) -> dict[str, Any]:
    """The answer to a batch: one result for each thing named in it; None stands for success."""
    results = [
        {"success": True}
        if e is None
        else {**e.details, "success": False, "error_code": e.code, "error_msg": e.message}
        for e in failures
    ]
    return {"success": all(r["success"] for r in results), "results": results}
