"""Answers about teams, in the vendor's shapes (its public REST reference)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bottega.entities import Resource
from bottega_dataset import shapes as dataset_shapes
from bottega_dataset.entities import Dataset
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.team.entities import ANNOTATOR, DELETED, REVIEWER, TeamItem, TeamMember, TeamTask, Worker
from bottega_dataset.team.items import STATE_NAMES, Row, unpack
from bottega_dataset.team.workforces import Member


def workforce(team: Resource, worker_count: int) -> dict[str, Any]:
    return {
        "workforce_id": team.id,
        "workforce_name": team.name,
        "description": team.description,
        "worker_count": worker_count,
        "workspace_id": team.workspace_id,
        "create_time": team.created_at,
        "update_time": team.updated_at,
    }


def worker(member: Member, role: int | None = None) -> dict[str, Any]:
    """`role`: that which it has in a task, which may be another than the present one."""
    one = member.worker
    return {
        "worker_id": one.id,
        "workforce_id": one.workforce_id,
        "email": member.email,
        "role": one.role if role is None else role,
        "status": one.status,
        "description": one.description,
        "create_time": one.created_at,
        "update_time": one.updated_at,
    }


def team_task(
    task: TeamTask,
    dataset: Dataset,
    members: Sequence[tuple[TeamMember, Member]],
    names: Mapping[str, str],
    checking: dict[str, Any] | None,
    verdict: tuple[float, float],
) -> dict[str, Any]:
    """`names` are those of teams by id; `checking` is about the current acceptance; `verdict` pass rate and score."""
    teams: dict[str, list[dict[str, Any]]] = {}
    for member, person in members:
        teams.setdefault(person.worker.workforce_id, []).append(worker(person, member.role))
    agency = next((person.email for _, person in members if person.worker.id == task.agency), None)
    pass_rate, score = verdict
    return {
        "task_id": task.id,
        "task_name": task.name,
        "dataset_id": dataset.id,
        "version_id": dataset.current_version_id,
        "description": task.description,
        "status": task.status,
        "repetition": task.repetition,
        "auto_sync_dataset": task.auto_sync_dataset,
        "synchronize_data": task.synchronize_data,
        "synchronize_auto_labeling_data": task.synchronize_auto_labeling_data,
        "sample_search_conditions": task.conditions,
        "allocation": task.allocation.get("method", "even"),
        "seed": task.seed,
        "check_rate": checking["checking_stats"]["sampling_rate"] if checking else 0.0,
        "pass_rate": pass_rate,
        "score": score,
        "checking_task_desc": checking,
        "workforces_config": {
            "agency": agency,
            "workforces": [
                {"workforce_id": id, "workforce_name": names.get(id, ""), "workers": some} for id, some in teams.items()
            ],
        },
        "create_time": task.created_at,
        "update_time": task.updated_at,
    }


def workforce_stats(members: Sequence[tuple[TeamMember, Member]]) -> dict[str, int]:
    present = [(member.role, person.worker) for member, person in members if person.worker.status != DELETED]
    return {
        "labeler_count": sum(role == ANNOTATOR for role, _ in present),
        "reviewer_count": sum(role == REVIEWER for role, _ in present),
        "workforce_count": len({one.workforce_id for _, one in present}),
    }


def worker_task(
    task: TeamTask,
    dataset: Dataset,
    member: TeamMember,
    person: Member,
    stats: Mapping[str, int],
    verdict: tuple[float, float],
) -> dict[str, Any]:
    """What a worker has to do in a task."""
    return {
        "task_id": task.id,
        "workforce_task_name": task.name,
        "task_status": task.status,
        "dataset_id": dataset.id,
        "dataset_type": dataset.dataset_type,
        "worker_id": person.worker.id,
        "email": person.email,
        "role": member.role,
        "email_status": member.email_status,
        "last_notify_time": member.notified_at,
        "pass_rate": verdict[0],
        "score": verdict[1],
        "sample_stats": dict(stats),
        "create_time": member.created_at,
        "update_time": member.updated_at,
    }


def item(row: Row, kind: DatasetType, workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A sample with what one worker says of it; `workers` are those it was given to."""
    one, said = row.item, row.item.said or {}
    shown = dataset_shapes.sample(row.sample, unpack(one.labels), kind)
    shown["metadata"] |= said.get("property") or {}
    if "hard" in said:
        shown["metadata"][dataset_shapes.HARD] = float(said["hard"])
    return shown | {
        "usage": said.get("usage", shown["usage"]),
        "sample_status": STATE_NAMES[one.state],
        "labelers": list(workers),
        "revision": one.revision,
        **verdicts(one, row.worker),
    }


def verdicts(one: TeamItem, worker: Worker) -> dict[str, Any]:
    """Whose labels they are, and what was said of them in review and acceptance."""
    return {
        "worker_id": worker.id,
        "review_accept": one.review_accept,
        "review_comment": one.review_comment,
        "review_score": one.review_score,
        "check_accept": one.check_accept,
        "check_comment": one.check_comment,
        "check_score": one.check_score,
        "score": one.check_score or one.review_score,
    }
