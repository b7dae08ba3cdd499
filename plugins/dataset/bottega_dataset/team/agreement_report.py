"""How far the annotators of a task agree, in figures and sample by sample.

Samples are read one after the other; what is kept of each is its figure and the classes given, not its labels.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import AsyncIterator, Hashable
from itertools import combinations
from typing import Any

from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega_dataset.entities import Sample
from bottega_dataset.sample import Annotation
from bottega_dataset.team.agreement import classes, cohen_kappa, fleiss_kappa, kind_of, similarity
from bottega_dataset.team.entities import TeamItem, TeamTask, Worker
from bottega_dataset.team.items import unpack

_AT_ONCE = 1000
_METHODS = {"class": "kappa", "iou": "iou", "span": "span_f1", "text": "word_f1"}
Said = dict[str, list[Annotation]]
"""What each worker says of a sample, by the workers' ids."""


async def report(session: AsyncSession, task: TeamTask, offset: int, limit: int) -> dict[str, Any]:
    """Of all samples that two or more annotators have labeled.

    `agreement` is the mean of how alike the annotators of a sample are in pairs (0 to 1); `kappa`, for classes, takes
    off what chance would give: Cohen's for each pair, Fleiss' over samples with as many annotators as the task wants
    (Cohen's where it is always the same two). `disagreements` are a page of the samples on which not all agree, the
    worst first.
    """
    kinds: set[str] = set()
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])
    pairs: dict[tuple[str, str], list[tuple[Hashable, Hashable]]] = defaultdict(list)
    rated: list[list[Hashable]] = []
    alike: list[tuple[float, int]] = []
    async for sample, said in _compared(session, task):
        kind = kind_of(one for labels in said.values() for one in labels)
        kinds.add(kind)
        scores = []
        for a, b in combinations(sorted(said), 2):
            score = similarity(said[a], said[b])
            scores.append(score)
            totals[a, b][0] += 1
            totals[a, b][1] += score
            if kind == "class":
                pairs[a, b].append((classes(said[a]), classes(said[b])))
        if kind == "class" and len(said) == task.repetition:
            rated.append([classes(labels) for labels in said.values()])
        alike.append((sum(scores) / len(scores), sample))
    unlike = [one for one in alike if one[0] < 1]
    worst = heapq.nsmallest(offset + limit, unlike)[offset:]
    by_class = kinds <= {"class"}
    return {
        "method": _METHODS["class" if by_class else min(kinds - {"class"})],
        "sample_count": len(alike),
        "agreement": sum(score for score, _ in alike) / len(alike) if alike else None,
        "kappa": _kappa(rated, pairs) if by_class else None,
        "pairs": [
            {
                "workers": [a, b],
                "sample_count": int(count),
                "agreement": score / count,
                "kappa": cohen_kappa(pairs[a, b]) if by_class else None,
            }
            for (a, b), (count, score) in sorted(totals.items())
        ],
        "disagreement_count": len(unlike),
        "disagreements": await _shown(session, task, worst),
    }


async def _compared(session: AsyncSession, task: TeamTask, *keys: int) -> AsyncIterator[tuple[int, Said]]:
    """Samples that two or more have labeled (of these keys, or all), with what each says."""
    query = (
        select(TeamItem.sample_key, Worker.id, TeamItem.labels)
        .join(Worker, col(Worker.key) == TeamItem.worker_key)
        .where(TeamItem.task_key == task.key, col(TeamItem.labels).is_not(None))
        .order_by(col(TeamItem.sample_key), col(TeamItem.worker_key))
    )
    if keys:
        query = query.where(col(TeamItem.sample_key).in_(keys))
    present, said = -1, Said()
    async for some in (await session.stream(query)).partitions(_AT_ONCE):
        for sample, worker, labels in some:
            if sample != present:
                if len(said) > 1:
                    yield present, said
                present, said = sample, {}
            said[worker] = unpack(labels)
    if len(said) > 1:
        yield present, said


async def _shown(session: AsyncSession, task: TeamTask, worst: list[tuple[float, int]]) -> list[dict[str, Any]]:
    if not worst:
        return []
    keys = [key for _, key in worst]
    said = {key: labels async for key, labels in _compared(session, task, *keys)}
    query = select(Sample.key, Sample.sample_id).where(col(Sample.key).in_(keys))
    ids = {key: bytes(ident).hex() for key, ident in (await session.exec(query)).all()}
    return [
        {
            "sample_id": ids[key],
            "agreement": score,
            "labels": {
                worker: [{"name": one.name, "property": one.property or {}} for one in labels]
                for worker, labels in said[key].items()
            },
        }
        for score, key in worst
        if key in ids and key in said
    ]


def _kappa(rated: list[list[Hashable]], pairs: dict[tuple[str, str], list[tuple[Hashable, Hashable]]]) -> float | None:
    if not rated or len(rated[0]) < 2:
        return None
    return cohen_kappa(next(iter(pairs.values()))) if len(pairs) == 1 else fleiss_kappa(rated)
