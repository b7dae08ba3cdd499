"""Models and services as the vendor's API shows them (rest_api, ai_application_management and service_management)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from bottega.backends import Flavor
from bottega.context import now_ms
from bottega_serving.entities import Calls, Model, Service, ServiceEvent, ServiceUpdate
from bottega_serving.lifecycle import address
from bottega_serving.package import USER_CODE
from bottega_serving.runtimes import Runtimes


def model_row(model: Model, runtimes: Runtimes) -> dict[str, Any]:
    """As in a list."""
    return {
        "model_id": model.id,
        "model_name": model.name,
        "model_version": model.version,
        "model_type": model.model_type,
        "model_status": model.status,
        "model_size": model.size,
        "model_source": "custom",
        "description": model.description,
        "project": model.project_id,
        "tenant": model.account_id,
        "owner": model.owner_id,
        "workspace_id": model.workspace_id,
        "create_at": model.created_at,
        "install_type": ["real-time"] if runtimes.find(model.model_type) else [],
        "tunable": False,
        "market_flag": False,
        "publishable_flag": False,
    }


def model_detail(model: Model, runtimes: Runtimes) -> dict[str, Any]:
    config = model.config
    apis = config.get("apis", [])
    has_code = any(file["path"] == f"model/{USER_CODE}" for file in model.files)
    shown = {
        **model_row(model, runtimes),
        "model_algorithm": config.get("model_algorithm", ""),
        "model_metrics": orjson.dumps(config.get("metrics", {})).decode(),
        "runtime": config.get("runtime"),
        "apis": orjson.dumps(apis).decode(),
        "input_params": [_param(api, "request") for api in apis],
        "output_params": [_param(api, "response") for api in apis],
        "dependencies": config.get("dependencies", []),
        "health": config.get("health"),
        "config": orjson.dumps(config).decode(),
        "model_docs": model.docs,
        "model_labels": config.get("bottega", {}).get("labels", []),
        "source_location": model.source_location,
        "source_job_id": model.source_job_id,
        "source_job_version": model.source_job_version,
        "execution_code": f"{model.location}model/{USER_CODE}" if has_code else None,
        "image_address": config.get("swr_location"),
        "error_msg": model.error_msg or None,
        "files": [{key: file.get(key) for key in ("path", "size", "etag", "sha256")} for file in model.files],
    }
    return {name: value for name, value in shown.items() if value is not None}


def _param(api: Mapping[str, Any], side: str) -> dict[str, Any]:
    return {
        "url": api["url"],
        "protocol": api["protocol"],
        "method": api["method"],
        "param_type": api[side]["Content-type"],
        "param_name": "",
        "param_desc": orjson.dumps(api[side]["data"]).decode(),
    }


def engine_runtimes(runtimes: Runtimes) -> dict[str, Any]:
    rows = [
        {
            "ai_engine": model_type,
            "runtimes": list(runtime.versions),
            "request_mode": ["sync"],
            "accelerators": [{"type": "none"}],
            "arch": ["x86_64", "aarch64"],
            "status_list": ["normal"],
        }
        for runtime in runtimes.all
        for model_type in runtime.model_types
    ]
    return {"total_count": len(rows), "count": len(rows), "engine_runtimes": rows}


def service_row(service: Service, calls: Sequence[Calls]) -> dict[str, Any]:
    """As in a list."""
    shown = {
        "service_id": service.id,
        "service_name": service.name,
        "description": service.description,
        "status": service.status,
        "progress": 50 if service.status == "deploying" else None,
        "infer_type": "real-time",
        "project": service.project_id,
        "tenant": service.account_id,
        "owner": service.owner_id,
        "workspace_id": service.workspace_id,
        "publish_at": service.published_at,
        "transition_at": service.transition_at,
        "due_time": service.due_time,
        "schedule": service.schedule or None,
        "invocation_times": sum(row.calls for row in calls),
        "failed_times": sum(row.failed for row in calls),
        "is_shared": False,
        "shared_count": 0,
        "is_free": False,
    }
    return {name: value for name, value in shown.items() if value is not None}


def service_detail(service: Service, calls: Sequence[Calls]) -> dict[str, Any]:
    shown = {
        **service_row(service, calls),
        "update_time": service.updated_at,
        "access_address": address(service) or None,
        "error_msg": service.error_msg or None,
        "config": [{**entry, "status": service.status, "scaling": False} for entry in service.config],
    }
    return {name: value for name, value in shown.items() if value is not None}


def monitor(
    service: Service, calls: Sequence[Calls], usage: Mapping[str, float], flavor: Flavor | None
) -> dict[str, Any]:
    """Use of the machine is measured for the whole service; calls for each version."""
    by_model = {row.model_id: row for row in calls}
    runs = service.status in ("running", "concerning")
    rows = []
    for entry in service.config:
        counted = by_model.get(entry["model_id"])
        rows.append(
            {
                "model_id": entry["model_id"],
                "model_name": entry["model_name"],
                "model_version": entry["model_version"],
                "invocation_times": counted.calls if counted else 0,
                "failed_times": counted.failed if counted else 0,
                "model_instance_count": entry["instance_count"],
                "model_running_instance_count": entry["instance_count"] if runs else 0,
                "cpu_core_usage": round(usage.get("cpu_percent", 0.0) / 100, 3),
                "cpu_core_total": flavor.cpus if flavor else 0,
                "cpu_memory_usage": int(usage.get("memory_mb", 0)),
                "cpu_memory_total": flavor.memory_mb if flavor else 0,
                "gpu_total": flavor.gpus if flavor else 0,
                "gpu_usage": 0,
            }
        )
    return {
        "service_id": service.id,
        "service_name": service.name,
        "monitors": rows,
        "service_instance_count": 1,
        "service_running_instance_count": 1 if runs else 0,
        "req_count_per_min": sum(row.per_minute(now_ms()) for row in calls),
    }


def event_rows(rows: Sequence[ServiceEvent]) -> list[dict[str, Any]]:
    return [{"event_type": row.event_type, "event_info": row.event_info, "occur_time": row.occur_time} for row in rows]


def update_rows(rows: Sequence[ServiceUpdate]) -> list[dict[str, Any]]:
    return [{"update_time": row.update_time, "result": row.result, "config": row.config} for row in rows]


def specification(flavor: Flavor) -> dict[str, Any]:
    return {
        "specification": flavor.id,
        "billing_spec": flavor.id,
        "is_open": True,
        "spec_status": "normal",
        "is_free": False,
        "over_quota": False,
        "source_type": "",
        "cpu_info": {"arch": flavor.arch, "cpu": flavor.cpus},
        "memory_info": {"unit": "MB", "memory": flavor.memory_mb},
        "gpu_info": {"gpu": flavor.gpus},
        "display_en": flavor.name,
        "display_cn": flavor.name,
    }
