"""``python -m bottega_conversion.worker TASK_FILE``: convert, check, and write what was found (runs as a workload)."""

from __future__ import annotations

import json
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from bottega_conversion import checking, samples
from bottega_conversion.converters import ConversionFailure, Converter, Options
from bottega_conversion.model_config import ModelConfig

REPORT = "report.json"


class Task(BaseModel):
    """What the service writes for the worker; paths are relative to the working directory.

    `converter` is ``module:class``.
    """

    converter: str
    options: dict[str, Any]
    source: str
    target_name: str
    output: str
    data_kind: Literal["npz", "manifest", "none"] = "none"
    data: str = ""
    max_accuracy_loss: float


def main(task_file: Path) -> int:
    """0 when a report was written, be the model accepted or not; 1 with the reason as the last line otherwise."""
    try:
        _convert(Task.model_validate_json(task_file.read_bytes()), task_file.parent)
    except ConversionFailure as problem:
        print(f"conversion failed: {problem}", flush=True)
        return 1
    except Exception as problem:  # libraries raise what they like; all of it is why this model cannot be converted
        traceback.print_exc()
        print(f"conversion failed: {_first_line(problem)}", flush=True)
        return 1
    return 0


def _convert(task: Task, directory: Path) -> None:
    module, _, name = task.converter.partition(":")
    converter: Converter = getattr(import_module(module), name)()
    options = converter.read_options(task.options)
    source = directory / task.source
    try:
        config = ModelConfig.read(source.parent)
    except ValueError as problem:
        raise ConversionFailure(str(problem)) from problem
    given = _given(task, directory, converter, options, config)

    _say(f"{converter.name}: converting {source.name} ({source.stat().st_size} bytes)")
    target = directory / "converted" / task.target_name
    target.parent.mkdir()
    began = time.perf_counter()
    try:
        converter.convert(source, target, options, config, given.calibration if given else None)
    except ConversionFailure:
        raise
    except Exception as problem:  # whatever a converter's library raises is its answer about this model
        traceback.print_exc()
        raise ConversionFailure(f"{converter.name}: {_first_line(problem)}") from problem
    taken_s = time.perf_counter() - began
    _say(f"converted in {taken_s:.1f} s to {checking.size_of(target)} bytes; comparing")

    report, accepted = _check(task, converter, config, source, target, given)
    output = directory / task.output
    output.mkdir(exist_ok=True)
    if accepted:
        accuracy = report["comparison"]["accuracy"]
        metrics = {"metrics": {**config.metrics, "accuracy": accuracy["after"]}} if accuracy else {}
        config.write(target.parent, model_type=converter.model_type, **metrics)
        target.parent.rename(output / "model")
    (output / REPORT).write_text(json.dumps({**report, "conversion_s": round(taken_s, 2)}, indent=2) + "\n", "utf-8")
    _say("accepted" if accepted else f"not accepted: {report['reason']}")


def _given(
    task: Task, directory: Path, converter: Converter, options: Options, config: ModelConfig
) -> samples.Samples | None:
    wanted = converter.calibration_rows(options)
    if task.data_kind == "none":
        return None
    if task.data_kind == "npz":
        given = samples.from_npz(directory / task.data, wanted)
    else:
        given = samples.from_manifest(directory / task.data, config, wanted)
    needed = converter.minimum_calibration_rows
    if len(given.calibration) < needed:
        raise ConversionFailure(
            f"{converter.name} needs at least {needed} calibration rows; there are {len(given.calibration)}"
        )
    _say(f"data: {len(given.calibration)} rows to calibrate, {len(given.evaluation)} to compare ({given.origin})")
    return given


def _check(
    task: Task, converter: Converter, config: ModelConfig, source: Path, target: Path, given: samples.Samples | None
) -> tuple[dict[str, Any], bool]:
    before, after = converter.open_source(source), converter.open_target(target)
    if given is None:
        shape = after.input_shape or before.input_shape or (tuple(config.image.shape) if config.image else None)
        if shape is None:
            raise ConversionFailure(
                "the shape of the model's input is not known, so its outputs cannot be compared; give data"
            )
        given = samples.synthetic(shape)
    comparison, verdict = checking.compare(before, after, given.evaluation, given.labels, task.max_accuracy_loss)
    row = given.evaluation[:1]
    report = {
        "accepted": verdict.accepted,
        "judged_by": verdict.judged_by,
        "reason": verdict.reason,
        "max_accuracy_loss": task.max_accuracy_loss,
        "data": given.origin,
        "comparison": comparison,
        "size_bytes": {"before": checking.size_of(source), "after": checking.size_of(target)},
        "latency_ms": {"before": checking.latency_ms(before, row), "after": checking.latency_ms(after, row)},
        "model": f"model/{target.name}",
    }
    return report, verdict.accepted


def _first_line(problem: BaseException) -> str:
    text = next((line.strip() for line in str(problem).splitlines() if line.strip()), "")
    return f"{type(problem).__name__}: {text}"[:400]


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
