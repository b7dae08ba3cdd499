"""How the API shows imports and what is like them, in the vendor's shapes (its public REST reference)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bottega.entities import Resource
from bottega_dataset.entities import Dataset, Task
from bottega_dataset.shapes import vendor_path

_IMPORT_STATES = {
    "queued": "QUEUING",
    "running": "RUNNING",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "stopped": "STOPPED",
}
_IMPORT_TYPES = {"dir": 0, "manifest": 1}


def import_task(task: Task) -> dict[str, Any]:
    """The files are the objects that were read as samples; of those a manifest names the size is not known."""
    counts, params = task.counts, task.params
    until = task.finished_at or task.updated_at
    files, size = counts.get("files", 0), counts.get("bytes", 0)
    maps = params["label_format"].get("schema_maps", {})
    return {
        "task_id": task.id,
        "dataset_id": task.dataset_id,
        "status": _IMPORT_STATES[task.state],
        "import_type": _IMPORT_TYPES.get(params["import_type"]),
        "import_path": vendor_path(params["import_path"]),
        "data_source": {
            "data_type": 0,
            "data_path": vendor_path(params["import_path"]),
            "with_column_header": params["label_format"].get("with_column_header", False),
            "schema_maps": [{"src_name": old, "dest_name": new} for old, new in maps.items()],
        },
        "finished_file_count": files,
        "total_file_count": files,
        "finished_file_size": size,
        "total_file_size": size,
        "file_statistics": {
            "file_num_finished": files,
            "file_num_total": files,
            "file_size_finished": size,
            "file_size_total": size,
        },
        "imported_sub_sample_count": 0,
        "total_sub_sample_count": 0,
        "progress": round(task.progress * 100, 2),
        "total_sample_count": counts.get("read", 0),
        "imported_sample_count": counts.get("imported", 0),
        "annotated_sample_count": counts.get("annotated", 0),
        "known_sample_count": counts.get("known", 0),
        "left_out_sample_count": counts.get("left_out", 0),
        "problem_count": counts.get("bad", 0),
        "unconfirmed_sample_count": counts.get("unconfirmed", 0),
        "elapsed_time": (until - task.started_at) // 1000 if task.started_at else 0,
        "create_time": task.created_at,
        "update_ms": task.updated_at,
        "error_code": task.error_code,
        "error_msg": task.error_msg,
    }


def sync_status(dataset_id: str, task: Task | None, total: int, duration_s: int) -> dict[str, Any]:
    """`total` samples are in the dataset now."""
    if task is None:
        return {"dataset_id": dataset_id, "status": "NOT_EXIST", "total_sample_count": total}
    return {
        "task_id": task.id,
        "dataset_id": dataset_id,
        "status": _IMPORT_STATES[task.state],
        "add_sample_count": task.counts.get("imported", 0),
        "changed_sample_count": task.counts.get("changed", 0),
        "deleted_sample_count": task.counts.get("deleted", 0),
        "problem_count": task.counts.get("bad", 0),
        "total_sample_count": total,
        "duration_time": duration_s,
        "create_time": task.created_at,
        "error_code": task.error_code,
        "error_msg": task.error_msg,
    }


def migration(
    dataset: Dataset, resource: Resource, counted: tuple[int, int], imports: Sequence[Task]
) -> dict[str, Any]:
    """What became of an old labeling job."""
    states = {task.state for task in imports}
    state = "FAILED" if "failed" in states else "COMPLETED" if states <= {"completed"} else "RUNNING"
    return {
        "dataset_id": dataset.id,
        "dataset_name": resource.name,
        "dataset_type": dataset.dataset_type,
        "status": state,
        "migrated_from": vendor_path(resource.properties.get("migrated", "")),
        "total_sample_count": counted[0],
        "annotated_sample_count": counted[1],
        "problem_count": sum(task.counts.get("bad", 0) for task in imports),
        "import_tasks": [import_task(task) for task in imports],
        "create_time": resource.created_at,
    }
