"""Judging a converted model beside its source, on the same rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bottega_conversion.converters import ConversionFailure, OpenModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH = 64
_WARMUP_S, _MEASURE_S, _MOST_RUNS = 0.2, 1.0, 500


@dataclass(frozen=True)
class Verdict:
    """`judged_by` is ``accuracy`` (labels were given), ``agreement`` (classes compared, no labels) or ``nothing``."""

    accepted: bool
    judged_by: str
    reason: str


def compare(
    source: OpenModel,
    target: OpenModel,
    rows: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    max_accuracy_loss: float,
) -> tuple[dict[str, Any], Verdict]:
    """What differs, and whether it is within the bound.

    Without labels the share of rows put in another class is taken for the loss: it is the most the accuracy can
    have fallen. Raises ConversionFailure when the outputs cannot be compared at all.
    """
    before, after = _run(source, rows), _run(target, rows)
    if len(before) != len(after):
        raise ConversionFailure(f"the converted model has {len(after)} outputs, its source {len(before)}")
    differences = []
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        if old.shape != new.shape:
            raise ConversionFailure(
                f"output {index} has the shape {new.shape} after the conversion, {old.shape} before"
            )
        gap = np.abs(old.astype(np.float64) - new.astype(np.float64))
        if not np.isfinite(gap).all():
            raise ConversionFailure(f"output {index} is not a finite number for some rows")
        differences.append({"max_abs": float(gap.max()), "mean_abs": float(gap.mean())})
    found: dict[str, Any] = {"rows": len(rows), "outputs": differences, "agreement": None, "accuracy": None}
    if before[0].ndim != 2 or before[0].shape[1] < 2:
        return found, Verdict(True, "nothing", "the first output is not one of classes")
    old_class, new_class = before[0].argmax(1), after[0].argmax(1)
    agreement = found["agreement"] = float((old_class == new_class).mean())
    loss, judged_by = 1 - agreement, "agreement"
    if labels is not None:
        right_before, right_after = float((old_class == labels).mean()), float((new_class == labels).mean())
        loss, judged_by = right_before - right_after, "accuracy"
        found["accuracy"] = {"before": right_before, "after": right_after, "loss": loss}
    accepted = loss <= max_accuracy_loss
    measure = f"accuracy fell by {loss:.4f}" if labels is not None else f"{loss:.4f} of the rows change their class"
    return found, Verdict(accepted, judged_by, "" if accepted else f"{measure}; the bound is {max_accuracy_loss:.4f}")


def latency_ms(model: OpenModel, row: NDArray[np.float32]) -> dict[str, Any]:
    """Milliseconds for one row on one thread, after a warm-up."""
    until = time.perf_counter() + _WARMUP_S
    while time.perf_counter() < until:
        model.predict(row)
    taken: list[int] = []
    until = time.perf_counter() + _MEASURE_S
    while time.perf_counter() < until and len(taken) < _MOST_RUNS:
        began = time.perf_counter_ns()
        model.predict(row)
        taken.append(time.perf_counter_ns() - began)
    p50, p95 = np.percentile(taken, [50, 95]) / 1e6
    return {"p50": round(float(p50), 4), "p95": round(float(p95), 4), "runs": len(taken)}


def size_of(path: Path) -> int:
    """Bytes of a model file, with ONNX weights that lie in a file of their own."""
    weights = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (weights.stat().st_size if weights.exists() else 0)


def _run(model: OpenModel, rows: NDArray[np.float32]) -> list[NDArray[Any]]:
    parts = [model.predict(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
