"""Data selection: a part of the samples, by chance, by label, by how different or how hard they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from bottega.hookspecs import hookimpl
from bottega_dataset.processing.processors import AUDIO, IMAGE, SELECTION, TEXT, Params, Processor
from bottega_dataset.processing.work import Item, Work


class PartParams(Params):
    sample_ratio: float = Field(0.5, ge=0, le=1)
    """The part of the samples that stays."""
    sample_count: int | None = Field(None, ge=1)
    """How many stay, instead."""

    def number(self, there: int) -> int:
        return min(there, self.sample_count) if self.sample_count is not None else round(self.sample_ratio * there)


class RandomSelection(Processor):
    id, name = "RandomSelection", "Random selection"
    description = "A random part of the samples."
    templates = (SELECTION,)
    params = PartParams
    needs = ("numpy",)

    def process(self, work: Work, params: PartParams) -> None:
        items = work.items
        order = work.random().permutation(len(items))
        keep = {items[at] for at in order[: params.number(len(items))]}
        _keep(work, keep, "not drawn")


class StratifiedSelection(Processor):
    id, name = "StratifiedSelection", "Stratified selection"
    description = (
        "A random part of each label (a sample counts for its first one), so that the labels stay as they are."
    )
    templates = (SELECTION,)
    params = PartParams
    needs = ("numpy",)

    def process(self, work: Work, params: PartParams) -> None:
        groups: dict[str, list[Item]] = {}
        for item in work.items:
            groups.setdefault(_first(item), []).append(item)
        total = sum(map(len, groups.values()))
        wanted = params.number(total)
        # Largest remainders: the parts add up to exactly what was asked for.
        shares = {name: wanted * len(items) / total for name, items in groups.items()}
        takes = {name: int(share) for name, share in shares.items()}
        rest = sorted(shares, key=lambda name: (takes[name] - shares[name], name))
        for name in rest[: wanted - sum(takes.values())]:
            takes[name] += 1
        draw = work.random()
        keep: set[Item] = set()
        for name in sorted(groups):
            items = groups[name]
            keep.update(items[at] for at in draw.permutation(len(items))[: takes[name]])
        _keep(work, keep, "not drawn for its label")


class BalanceParams(Params):
    max_per_label: int | None = Field(None, ge=1)
    """How many samples of a label stay; None: as many as the rarest label has."""
    keep_unlabeled: bool = False


class BalancedSelection(Processor):
    id, name = "BalancedSelection", "Balance of the labels"
    description = "Of each label (a sample counts for its first one) no more samples than of the rarest."
    templates = (SELECTION,)
    params = BalanceParams
    needs = ("numpy",)

    def process(self, work: Work, params: BalanceParams) -> None:
        labeled = [item for item in work.items if item.labels]
        counted = Counter(_first(item) for item in labeled)
        most = params.max_per_label or min(counted.values(), default=0)
        keep = {item for item in work.items if params.keep_unlabeled and not item.labels}
        draw = work.random()
        for name in sorted(counted):
            items = [item for item in labeled if _first(item) == name]
            keep.update(items[at] for at in draw.permutation(len(items))[:most])
        for item in work.items:
            if item not in keep:
                why = f"there are {counted[_first(item)]} of label '{_first(item)}'; {most} stay" if item.labels else ""
                work.drop(item, why or "it bears no label")


class DiverseParams(PartParams):
    sample_ratio: float = Field(0.9, ge=0, le=1)
    do_validation: bool = True
    """Whether samples that cannot be read are dropped, too; else they stay."""


class DiverseSelection(Processor):
    id, name = "RRD", "Diverse selection"
    description = "The samples that differ most from each other (core-set by greedy k-center on simple features)."
    templates, sample_types = (SELECTION,), frozenset({IMAGE, TEXT, AUDIO})
    params = DiverseParams
    needs = ("PIL", "numpy", "scipy", "sklearn")

    def process(self, work: Work, params: DiverseParams) -> None:
        import numpy as np

        from bottega_dataset.processing import features

        before = work.items
        items, rows = features.vectors(work, before)
        wanted = params.number(len(items))
        rows = rows.astype(np.float32)
        away = np.linalg.norm(rows - rows.mean(0), axis=1) if len(items) else np.zeros(0)
        chosen: list[int] = []
        nearest = np.full(len(items), np.inf, np.float32)
        while len(chosen) < wanted:
            at = int(away.argmin()) if not chosen else int(nearest.argmax())
            chosen.append(at)
            nearest = np.minimum(nearest, np.linalg.norm(rows - rows[at], axis=1))
            nearest[at] = -1.0
        keep = {items[at] for at in chosen}
        for number, item in enumerate(items):
            if item not in keep:
                distance = round(float(nearest[number]), 4)
                work.drop(item, "like samples that stay", distance=distance)
        for item in before:
            if item in work.unreadable and params.do_validation:
                work.drop(item, f"cannot be read: {work.unreadable[item]}")


class HardParams(PartParams):
    by: Literal["hard", "confidence"] = "confidence"
    """``hard``: only samples marked as hard examples. ``confidence``: those of the least confidence."""


class HardSelection(Processor):
    id, name = "HardSelection", "Hard examples"
    description = "The samples that are marked as hard, or whose annotations are the least certain."
    templates = (SELECTION,)
    params = HardParams
    needs = ("numpy",)

    def process(self, work: Work, params: HardParams) -> None:
        items = work.items
        if params.by == "hard":
            _keep(
                work, (item for item in items if any(one.hard for one in item.record.annotations)), "not a hard example"
            )
            return
        certain = {
            item: min((_confidence(a.confidence) for a in item.record.annotations), default=1.0) for item in items
        }
        order = sorted(items, key=lambda item: certain[item])  # stable: of equals, the first
        keep = set(order[: params.number(len(items))])
        for item in items:
            if item not in keep:
                work.drop(item, f"more certain than those that stay: {certain[item]:.3f}", confidence=certain[item])


def _first(item: Item) -> str:
    return item.labels[0] if item.labels else ""


def _confidence(value: float | None) -> float:
    """What a person said is certain."""
    return 1.0 if value is None else value


def _keep(work: Work, keep: Iterable[Item], reason: str) -> None:
    kept = set(keep)
    for item in work.items:
        if item not in kept:
            work.drop(item, reason)


@hookimpl
def bottega_dataset_processors() -> list[Processor]:
    return [RandomSelection(), StratifiedSelection(), BalancedSelection(), DiverseSelection(), HardSelection()]
