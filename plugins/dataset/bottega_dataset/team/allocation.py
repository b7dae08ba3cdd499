"""Who gets which sample: evenly, by weight, by label, several persons a sample where they are to be compared."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping


class Allocator:
    """Gives samples to workers so that what each has stays in proportion to its weight.

    :param weights: workers by key, with weights above 0.
    :param repetition: how many different workers each sample is given to (fewer where there are fewer).
    :param loads: what each has already.
    :param of_label: the workers who get samples that bear a label; samples of other labels go to all.
    """

    def __init__(
        self,
        weights: Mapping[int, float],
        repetition: int = 1,
        loads: Mapping[int, int] | None = None,
        of_label: Mapping[str, Collection[int]] | None = None,
    ) -> None:
        self._weights = dict(weights)
        self._repetition = repetition
        self.loads = {worker: (loads or {}).get(worker, 0) for worker in weights}
        self._of_label = {label: set(workers) & set(weights) for label, workers in (of_label or {}).items()}
        self._heap = [(self._rank(worker), worker) for worker in self._weights]
        heapq.heapify(self._heap)

    def allocate(self, labels: Iterable[str] = (), having: Collection[int] = ()) -> list[int]:
        """The workers that get a sample which bears `labels` and which those of `having` have already."""
        among: set[int] = set().union(*(self._of_label.get(label, ()) for label in labels))
        chosen: list[int] = []
        if among:
            ranked = sorted((self._rank(worker), worker) for worker in among if worker not in having)
            chosen = [worker for _, worker in ranked[: self._repetition]]
            for worker in chosen:
                self.loads[worker] += 1
        missing = self._repetition - len(chosen) - len(having)
        if missing <= 0:
            return chosen
        aside: list[tuple[float, int]] = []
        found: list[int] = []
        while self._heap and len(found) < missing:
            rank, worker = heapq.heappop(self._heap)
            if rank != self._rank(worker):  # it got something since: back to its place
                heapq.heappush(self._heap, (self._rank(worker), worker))
            elif worker in having or worker in chosen:
                aside.append((rank, worker))
            else:
                found.append(worker)
        for worker in found:
            self.loads[worker] += 1
            heapq.heappush(self._heap, (self._rank(worker), worker))
        for entry in aside:
            heapq.heappush(self._heap, entry)
        return [*chosen, *found]

    def _rank(self, worker: int) -> float:
        return (self.loads[worker] + 1) / self._weights[worker]
