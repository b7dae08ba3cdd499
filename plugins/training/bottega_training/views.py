"""Jobs as the official client reads them (sdk_spec, appendix: create_training_job)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bottega.backends import Flavor
from bottega.context import now_ms
from bottega.entities import Resource
from bottega_training.engines import Engine
from bottega_training.entities import FINAL, TASK, TrainingJob, TrainingNote


def job_view(job: TrainingJob, resource: Resource, flavor: Flavor | None) -> dict[str, Any]:
    """`evaluation` and `metrics` are additions of this platform: the figures that came out of the job."""
    requested = job.request
    algorithm, spec = requested["algorithm"], requested["spec"]
    figures = {name: job.summary[name] for name in ("accuracy", "precision", "recall", "f1") if name in job.summary}
    return {
        "kind": "job",
        "metadata": {
            "id": job.id,
            "name": resource.name,
            "description": resource.description,
            "workspace_id": job.workspace_id,
            "create_time": job.created_at,
            "user_name": job.user_name,
            "annotations": requested["metadata"].get("annotations") or {},
        },
        "status": _status(job),
        "algorithm": {
            "code_dir": job.code_dir,
            "boot_file": job.boot_file,
            "parameters": algorithm.get("parameters", []),
            "inputs": [
                _channel(given, stored) for given, stored in zip(algorithm.get("inputs", []), job.inputs, strict=True)
            ],
            "outputs": [_output(stored) for stored in job.outputs],
            "engine": {**algorithm["engine"], "engine_id": job.engine_id},
            "environments": [algorithm.get("environments", {})],
        },
        "spec": {
            "resource": {
                "policy": "regular",
                "flavor_id": job.flavor_id,
                "flavor_name": flavor.name if flavor else job.flavor_id,
                "node_count": job.node_count,
                **({"flavor_detail": _flavor_detail(flavor, disk_as_text=True)} if flavor else {}),
            },
            "log_export_path": {"obs_url": job.log_path.rpartition("/")[0] + "/"},
            **({"auto_stop": spec["auto_stop"]} if "auto_stop" in spec else {}),
        },
        "evaluation": figures or None,
        "metrics": job.summary,
    }


def _status(job: TrainingJob) -> dict[str, Any]:
    end = job.finished_at or now_ms()
    status: dict[str, Any] = {
        "phase": job.phase,
        "secondary_phase": job.secondary_phase,
        "duration": end - job.started_at if job.started_at else 0,
        "start_time": job.started_at,
        "tasks": [TASK],
        "task_statuses": [],
        "node_count_metrics": [],
        "running_records": [],
    }
    if job.started_at:
        status["node_count_metrics"] = [[job.started_at, job.node_count]]
        record = {"start_at": job.started_at // 1000, "start_type": "init_or_rescheduled"}
        if job.finished_at:
            status["node_count_metrics"].append([job.finished_at, 0])
            record |= {"end_at": job.finished_at // 1000, "end_reason": job.message, "end_related_task": TASK}
        status["running_records"] = [record]
    if job.phase in FINAL:
        status["task_statuses"] = [{"task": TASK, "exit_code": job.exit_code, "message": job.message}]
    return status


def _channel(given: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    remote = dict(given["remote"])
    if "dataset" in remote:
        remote["dataset"] = {**remote["dataset"], "obs_url": stored["path"]}
    else:
        remote["obs"] = {"obs_url": stored["path"]}
    return {**_common(stored), "description": given.get("description"), "remote": remote}


def _output(stored: dict[str, Any]) -> dict[str, Any]:
    return {**_common(stored), "remote": {"obs": {"obs_url": stored["path"]}}}


def _common(stored: dict[str, Any]) -> dict[str, Any]:
    return {"name": stored["name"], "local_dir": stored["local"], "access_method": stored["access_method"]}


def engine_view(engine: Engine) -> dict[str, Any]:
    """`installed` and `reason` (what is missing and how to get it) are additions of this platform."""
    return {
        "engine_id": engine.id,
        "engine_name": engine.name,
        "engine_version": engine.version,
        "v1_compatible": False,
        "installed": not engine.missing,
        "reason": engine.missing,
    }


def flavor_view(flavor: Flavor) -> dict[str, Any]:
    return {
        "flavor_id": flavor.id,
        "flavor_name": flavor.name,
        "support_groups": "public",
        "max_num": 1,
        **_flavor_detail(flavor, disk_as_text=False),
        "attributes": {"backend": flavor.backend},
    }


def flavor_type(flavor: Flavor) -> str:
    return "GPU" if flavor.gpus else "CPU"


def _flavor_detail(flavor: Flavor, *, disk_as_text: bool) -> dict[str, Any]:
    # The client's two models of a flavor differ in the type of a disk's size (sdk_spec §1.8); no disk is promised.
    info: dict[str, Any] = {
        "max_num": 1,
        "cpu": {"arch": flavor.arch, "core_num": max(1, round(flavor.cpus))},
        "memory": {"size": flavor.memory_mb, "unit": "MB"},
        "disk": {"size": "0" if disk_as_text else 0, "unit": "GB"},
    }
    if flavor.gpus:
        info["gpu"] = {"unit_num": flavor.gpus, "product_name": "GPU", "memory": ""}
    return {"flavor_type": flavor_type(flavor), "billing": {"code": flavor.id, "unit_num": 1}, "flavor_info": info}


def note_view(note: TrainingNote) -> dict[str, str]:
    return {"time": iso(note.at), "level": note.level, "source": note.source, "message": note.message}


def stages(job: TrainingJob) -> list[dict[str, Any]]:
    """The vendor's four stages, those begun so far."""
    stopped = job.finished_at
    bounds = [
        ("scheduling", "waiting for its engine's plan", job.created_at, job.planned_at or stopped),
        ("preparing", "fetching code and inputs", job.planned_at, job.started_at or stopped),
        ("running", "the process runs", job.started_at, stopped),
        ("end", job.message or job.phase, stopped, stopped),
    ]
    return [
        {
            "job_id": job.id,
            "name": name,
            "en_message": message,
            "start_time": iso(start),
            "end_time": iso(end) if end else "",
            "stage_order": order,
            "sub_stages": [],
        }
        for order, (name, message, start, end) in enumerate(bounds, 1)
        if start is not None
    ]


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
