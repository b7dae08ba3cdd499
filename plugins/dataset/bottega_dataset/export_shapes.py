"""How the API shows an export, in the vendor's shape (its public REST reference, data management)."""

from __future__ import annotations

from typing import Any

from bottega_dataset.entities import Task
from bottega_dataset.requests import ExportParams
from bottega_dataset.shapes import vendor_path

_STATES = {
    "queued": "INIT",
    "running": "RUNNING",
    "completed": "SUCCESSED",
    "failed": "FAILED",
    "stopped": "STOPPED",
}


def export_task(task: Task) -> dict[str, Any]:
    """``manifest_path``, ``export_path`` and ``new_dataset_id`` name what was made, whichever it was."""
    params, counts = task.params, task.counts
    return {
        "task_id": task.id,
        "status": _STATES[task.state],
        "path": vendor_path(task.params["path"]),
        "manifest_path": task.cursor.get("manifest_path"),
        "export_path": vendor_path(task.cursor.get("folder", "")) or None,
        "new_dataset_id": task.cursor.get("new_dataset_id"),
        "export_type": params["export_type"],
        "annotation_format": params.get("format"),
        "export_format": params.get("export_format"),
        "version_format": params.get("version_format"),
        "version_id": params.get("version_id"),
        "export_params": {name: params[name] for name in ExportParams.model_fields if name in params}
        | ({"train_sample_ratio": f"{params['train_sample_ratio']:.2f}"} if "train_sample_ratio" in params else {}),
        "progress": round(task.progress * 100, 2),
        "finished_sample_count": counts.get("written", 0),
        "left_out_sample_count": counts.get("left_out", 0),
        "problem_count": counts.get("bad", 0),
        "total_sample_count": counts.get("total", 0),
        "create_time": task.created_at,
        "update_time": task.updated_at,
        "error_code": task.error_code,
        "error_msg": task.error_msg,
    }
