"""Answers about intelligent tasks and suggestions, in the vendor's shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bottega.context import now_ms
from bottega_dataset import shapes
from bottega_dataset.entities import Sample, Suggestion, Task
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.intelligent.results import COEFFICIENT, REASONS
from bottega_dataset.intelligent.suggestions import BY_LEARNING, said

_STATES = {"queued": -1, "running": 1, "failed": 2, "completed": 3, "stopping": 4, "stopped": 5}
_INITIALIZING = 0
_TYPES = {"auto-label": 0, "pre-label": 1, "auto-grouping": 2}
_PROGRESS = re.compile(r"^progress ([01]\.\d+) (.*)$", re.MULTILINE)
_PHASES = {
    "preparing": "the samples are written out",
    "working": "a workload looks at them",
    "settling": "what it found enters the dataset",
}
_WORK = (0.05, 0.95)
"""The part of a task's progress that is the workload's."""


def task(row: Task, *, log: str = "", unconfirmed: int | None = None) -> dict[str, Any]:
    """:param log: the end of the workload's output, while it runs: it says how far it is."""
    params, counts, report = row.params, row.counts, row.cursor.get("report", {})
    progress, doing = _progress(row, log)
    until = row.finished_at or now_ms()
    model = params["model"] or {}
    working = "workload_id" in row.cursor
    result = {
        "dataset_name": params.get("dataset_name"),
        "dataset_type": str(params["dataset_type"]) if "dataset_type" in params else None,
        "description": params["config"].get("description", ""),
        "train_data_path": row.cursor.get("folder"),
        "train_job_id": row.cursor.get("workload_id"),
        "train_job_name": params["name"] if working else None,
        "model_id": model.get("id", ""),
        "model_name": model.get("name", ""),
        "model_version": model.get("version", ""),
        "events": [_event(row, until)],
        "hard_select_tasks": _hard_selection(row, until),
        "annotated_sample_count": counts.get("suggested", 0),
        "total_sample_count": counts.get("samples", 0),
        "unconfirmed_sample_count": unconfirmed if unconfirmed is not None else counts.get("suggested", 0),
        "hard_sample_count": counts.get("hard", 0),
        "confidence_scope": "{:.2f}-{:.2f}".format(*params["scope"]),
        "manifest_path": f"{row.cursor['folder']}samples.manifest" if "folder" in row.cursor else None,
        "hard_example_path": _hard_path(row),
        "group_count": counts.get("groups", 0),
        "accuracy": report.get("accuracy"),
        "method": report.get("method"),
        "workspace_id": params["workspace_id"],
    }
    return {
        "task_id": row.id,
        "task_name": params["name"],
        "task_type": row.kind,
        "type": _TYPES[row.kind],
        "dataset_id": row.dataset_id,
        "resource_id": row.dataset_id,
        "status": _INITIALIZING if row.state == "running" and not working else _STATES[row.state],
        "progress": progress,
        "message": doing,
        "create_time": str(row.created_at),
        "elapsed_time": (until - row.started_at) // 1000 if row.started_at else 0,
        "export_type": params["config"].get("result_type", 0),
        "config": params["config"] | {"flavor": {"code": params["flavor"]}},
        "model_id": model.get("id", ""),
        "model_name": model.get("name", ""),
        "model_version": model.get("version", ""),
        "total_sample_count": result["total_sample_count"],
        "annotated_sample_count": result["annotated_sample_count"],
        "unconfirmed_sample_count": result["unconfirmed_sample_count"],
        "problem_count": counts.get("bad", 0),
        "result": result,
        "code": row.error_code,
        "error_code": row.error_code,
        "error_msg": row.error_msg,
        "error_detail": row.error_msg,
    }


def _event(row: Task, until: int) -> dict[str, Any]:
    """The task as the vendor's Event, with its phases inside: when each began, how long it took, how it ended."""
    times = row.cursor.get("times", {})
    begun = [row.started_at, times.get("working"), times.get("settling")]
    phases = []
    for index, (name, description) in enumerate(_PHASES.items()):
        start = begun[index]
        behind = next((one for one in begun[index + 1 :] if one), None)
        last = start is not None and behind is None
        ended = "success" if row.state == "completed" else "failed" if row.finished_at else "running"
        phases.append(
            _step(row, name, description, index + 1, start, behind or until, ended if last else "success")
            | {"parent_name": row.kind, "events": []}
        )
    state = {"completed": "success", "queued": "waiting"}.get(row.state, "failed" if row.finished_at else "running")
    whole = _step(row, row.kind, row.params["config"].get("description", ""), 1, row.created_at, until, state)
    return whole | {"parent_name": "", "events": phases}


def _step(
    row: Task, name: str, description: str, ordinal: int, start: int | None, until: int, status: str
) -> dict[str, Any]:
    failed = status == "failed"
    return {
        "name": name,
        "description": description,
        "ordinal": ordinal,
        "level": int(failed),
        "status": status if start is not None else "waiting",
        "create_time": start,
        "elapsed_time": (until - start) // 1000 if start is not None else 0,
        "error_code": row.error_code if failed else None,
        "error_message": row.error_msg if failed else None,
    }


def _hard_selection(row: Task, until: int) -> list[dict[str, Any]]:
    """The vendor's HardSelectTask, which is the task itself where it was asked for hard examples."""
    if not row.params["collect_key_sample"]:
        return []
    return [
        {
            "hard_select_task_id": row.id,
            "dataset_id": row.dataset_id,
            "dataset_name": row.params.get("dataset_name"),
            "task_status": row.state,
            "time": (until - row.started_at) // 1000 if row.started_at else 0,
            "create_at": row.created_at,
            "update_at": row.updated_at,
        }
    ]


def _hard_path(row: Task) -> str | None:
    if not row.params["collect_key_sample"] or "folder" not in row.cursor:
        return None
    return str(row.params["config"].get("key_sample_output") or f"{row.cursor['folder']}hard/")


def _progress(row: Task, log: str) -> tuple[float, str]:
    """Percent, and what is being done."""
    if row.state not in ("running", "stopping"):
        return (100.0 if row.state == "completed" else round(100 * row.progress, 2)), row.state
    phase = row.cursor.get("phase", "preparing")
    if phase != "working":
        return (100 * _WORK[1] if phase == "settling" else 0.0), phase
    told = _PROGRESS.findall(log)
    done, doing = (float(told[-1][0]), told[-1][1]) if told else (0.0, "waiting for a machine")
    return round(100 * (_WORK[0] + (_WORK[1] - _WORK[0]) * done), 2), doing


def suggested(row: Sample, suggestions: Sequence[Suggestion], kind: DatasetType) -> dict[str, Any]:
    """A sample with what is suggested for it as its labels, and why it is hard."""
    answer = shapes.sample(row, said(suggestions, kind, BY_LEARNING, None), kind)
    first = suggestions[0]
    property_ = first.property or {}
    reasons = [int(one) for one in str(property_.get(REASONS) or "").split("-") if one]
    answer["metadata"] |= {
        shapes.HARD: 1.0 if first.hard else 0.0,
        COEFFICIENT: float(property_.get(COEFFICIENT, 0)),
        REASONS: reasons,
    }
    answer["hard_details"] = {str(one): shapes.hard_detail(one) for one in reasons}
    answer["task_id"] = first.task_id
    answer["learning_rank"] = first.rank
    return answer
