"""What fits on this machine beside what runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

_LONG_LIVED = frozenset({"serving", "notebook"})


def is_batch(kind: str) -> bool:
    """Whether a workload of this kind ends by itself, so that others can wait for its processors."""
    return kind not in _LONG_LIVED


def choose_cores(cpus: float, available: Sequence[int], taken: Iterable[Sequence[int] | None]) -> list[int] | None:
    """The least used processors for a workload of `cpus`; None when it may use all.

    `taken` are the processors of what runs already, None for all.
    """
    count = math.ceil(cpus)
    if count >= len(available):
        return None
    load = Counter(core for cores in taken for core in (available if cores is None else cores))
    return sorted(sorted(available, key=lambda core: load[core])[:count])
