"""How far the annotators of a task agree, in figures and sample by sample."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import combinations
from typing import Any

from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega_dataset.entities import Sample
from bottega_dataset.sample import Annotation
from bottega_dataset.team.agreement import classes, cohen_kappa, fleiss_kappa, kind_of, similarity
from bottega_dataset.team.entities import TeamItem, TeamTask, Worker
from bottega_dataset.team.items import unpack

_METHODS = {"class": "kappa", "iou": "iou", "span": "span_f1", "text": "word_f1"}


async def report(session: AsyncSession, task: TeamTask, offset: int, limit: int) -> dict[str, Any]:
    """Of all samples that two or more annotators have labeled.

    `agreement` is the mean of how alike the annotators of a sample are in pairs (0 to 1); `kappa`, for classes, takes
    off what chance would give: Cohen's for each pair, Fleiss' over samples with as many annotators as the task wants.
    `disagreements` are a page of the samples on which not all agree, the worst first.
    """
    query = select(TeamItem, Sample.sample_id, Worker.id).join(Sample, col(Sample.key) == TeamItem.sample_key)
    query = query.join(Worker, col(Worker.key) == TeamItem.worker_key)
    query = query.where(TeamItem.task_key == task.key, col(TeamItem.labels).is_not(None))
    by_sample: dict[bytes, dict[str, list[Annotation]]] = {}
    stream = await session.stream(query.order_by(col(TeamItem.sample_key), col(TeamItem.worker_key)))
    async for item, sample_id, worker_id in stream:
        by_sample.setdefault(bytes(sample_id), {})[worker_id] = unpack(item.labels)
    compared = {sample: said for sample, said in by_sample.items() if len(said) > 1}
    kind = next((kind_of(labels) for said in compared.values() for labels in said.values()), "class")
    alike: dict[bytes, float] = {}
    pairs: dict[tuple[str, str], list[tuple[list[Annotation], list[Annotation], float]]] = {}
    for sample, said in compared.items():
        scores = []
        for a, b in combinations(said, 2):
            score = similarity(said[a], said[b])
            scores.append(score)
            pairs.setdefault((min(a, b), max(a, b)), []).append((said[min(a, b)], said[max(a, b)], score))
        alike[sample] = sum(scores) / len(scores)
    worst = sorted((score, sample) for sample, score in alike.items() if score < 1)
    return {
        "method": _METHODS[kind],
        "sample_count": len(compared),
        "agreement": sum(alike.values()) / len(alike) if alike else None,
        "kappa": _fleiss(task, compared) if kind == "class" else None,
        "pairs": [
            {
                "workers": [a, b],
                "sample_count": len(both),
                "agreement": sum(score for *_, score in both) / len(both),
                "kappa": cohen_kappa([(classes(x), classes(y)) for x, y, _ in both]) if kind == "class" else None,
            }
            for (a, b), both in sorted(pairs.items())
        ],
        "disagreement_count": len(worst),
        "disagreements": [
            {
                "sample_id": sample.hex(),
                "agreement": score,
                "labels": {
                    worker: [{"name": one.name, "property": one.property or {}} for one in labels]
                    for worker, labels in compared[sample].items()
                },
            }
            for score, sample in worst[offset : offset + limit]
        ],
    }


def _fleiss(task: TeamTask, compared: dict[bytes, dict[str, list[Annotation]]]) -> float | None:
    """Of the samples with as many annotators as the task wants; where always the same two label, it is Cohen's."""
    full = [said for said in compared.values() if len(said) == task.repetition]
    people = {worker for said in full for worker in said}
    if len(people) == 2:
        first, second = sorted(people)
        return cohen_kappa([(classes(said[first]), classes(said[second])) for said in full])
    rated: list[list[Hashable]] = [[classes(labels) for labels in said.values()] for said in full]
    return fleiss_kappa(rated) if task.repetition > 1 else None
