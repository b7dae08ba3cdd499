"""``python -m bottega_dataset.learning.worker TASK_FILE``: an intelligent task at work (runs as a workload).

Reads the samples a manifest names, and writes into the output folder: ``report.json`` (what was done, written last),
``suggestions.jsonl`` or ``groups.jsonl`` (a line a sample), and ``problems.jsonl`` (samples that could not be read).
Lines ``progress 0.42 reading`` of its output tell how far it is.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel

from bottega_dataset.learner import Answers, Learner, Lesson
from bottega_dataset.learning import contents, groups, hard, order
from bottega_dataset.learning.files import GROUPS, PROBLEMS, REPORT, SUGGESTIONS
from bottega_dataset.learning.own_model import OwnModel, agreement, as_answers
from bottega_dataset.manifest import format_line
from bottega_dataset.sample import Annotation, BadSample, SampleRecord

FAILED = "auto labeling failed: "


_COMPARED = 500
"""So many labeled samples a model of the user's is compared with."""


class Task(BaseModel):
    """What the platform writes for the worker; paths are relative to the working directory.

    `manifest_sha256` is that of the manifest as the platform wrote it; None when nobody else can write it.
    `learner` is ``module:class``, None where only a model of the user's is at hand. `scope` is the span of confidences
    that are low; `ranked` how many samples get a place in the order of labeling. `model` is the folder of a model of
    the user's, which then makes the suggestions.
    """

    task_type: str
    learner: str | None
    manifest: str
    manifest_sha256: str | None = None
    output: str
    annotation_type: str
    accurate: bool = True
    seed: int = 0
    backbone: str | None = None
    model: str | None = None
    scope: tuple[float, float] = (0.0, 0.5)
    ranked: int = 500
    hard_output: str | None = None
    groups: int | None = None
    group_by: list[str] = []


class CannotLearn(Exception):
    """The task cannot be done; the message says why."""


@dataclass
class Opened:
    """Samples that could be read, and what the user's model says of them, where there is one."""

    records: list[SampleRecord] = field(default_factory=list)
    opened: list[Any] = field(default_factory=list)
    said: list[list[Annotation]] = field(default_factory=list)

    def part(self, labeled: bool) -> list[int]:
        return [n for n, record in enumerate(self.records) if bool(record.annotations) is labeled]


def main(task_file: Path) -> int:
    """0 when a report was written; 1 with the reason as the last line otherwise."""
    try:
        _perform(Task.model_validate_json(task_file.read_bytes()), task_file.parent)
    except CannotLearn as problem:
        print(f"{FAILED}{problem}", flush=True)
        return 1
    except Exception as problem:  # learners and libraries raise what they like; all of it is why this run failed
        traceback.print_exc()
        print(f"{FAILED}{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}", flush=True)
        return 1
    return 0


def _perform(task: Task, directory: Path) -> None:
    with (directory / task.manifest).open("rb") as lines:
        if task.manifest_sha256 not in (None, hashlib.file_digest(lines, "sha256").hexdigest()):
            raise CannotLearn(f"{task.manifest} was changed since the task was prepared; begin again")
    learner: Learner | None = None
    if task.learner:
        module, _, name = task.learner.partition(":")
        learner = getattr(import_module(module), name)()
    output = directory / task.output
    output.mkdir(exist_ok=True)
    samples = _read(task, learner, directory, output)
    if not samples.records:
        raise CannotLearn("not one sample could be read; problems.jsonl beside the report says why")
    _progress(0.5, "features")
    features = learner.features(samples.opened, task.backbone) if learner else np.zeros((len(samples.records), 1))
    points = order.compact(features, task.seed)
    _progress(0.6, "grouping" if task.task_type == "auto-grouping" else "learning")
    if task.task_type == "auto-grouping":
        report = _group(task, learner, samples, points, output)
    else:
        report = _label(task, learner, directory, samples, features, points, output)
    (output / REPORT).write_bytes(orjson.dumps(report))
    _progress(1.0, "done")


def _read(task: Task, learner: Learner | None, directory: Path, output: Path) -> Opened:
    wanted = list(contents.records(directory / task.manifest))
    model = OwnModel(directory / task.model) if task.model else None
    found = Opened()
    compared = 0
    with (output / PROBLEMS).open("wb") as problems:
        for number, (record, data) in enumerate(contents.Contents().of(wanted)):
            if number % 200 == 0:
                _progress(0.5 * number / len(wanted), "reading")
            said: list[Annotation] = []
            try:
                if isinstance(data, BadSample):
                    raise data
                opened = learner.open(record, data) if learner else None
                if model and (not record.annotations or compared < _COMPARED):
                    said = model.said(record, data, task.annotation_type)
                    compared += bool(record.annotations)
            except BadSample as problem:
                problems.write(_line({"place": record.source[:500], "reason": str(problem)[:500]}))
                continue
            found.records.append(record)
            found.opened.append(opened)
            found.said.append(said)
    return found


def _label(
    task: Task, learner: Learner | None, directory: Path, samples: Opened, features: Any, points: Any, output: Path
) -> dict[str, Any]:
    labeled, unlabeled = samples.part(True), samples.part(False)
    if not unlabeled:
        raise CannotLearn("not one of the unlabeled samples could be read; problems.jsonl says why")
    lesson = Lesson(
        labeled=[samples.opened[n] for n in labeled],
        annotations=[samples.records[n].annotations for n in labeled],
        unlabeled=[samples.opened[n] for n in unlabeled],
        labeled_features=features[labeled],
        unlabeled_features=features[unlabeled],
        annotation_type=task.annotation_type,
        accurate=task.accurate,
        seed=task.seed,
        report=lambda part: _progress(0.6 + 0.3 * part, "learning"),
    )
    answers = _answers(task, learner, samples, lesson)
    _progress(0.9, "hard examples")
    hardness = hard.examine(
        points[unlabeled],
        points[labeled],
        [[one.name for one in some] for some in lesson.annotations],
        [[(one.name, one.confidence or 0.0) for one in some] for some in answers.suggestions],
        _figures(learner, lesson.unlabeled, answers.suggestions),
        _figures(learner, lesson.labeled, lesson.annotations),
        task.scope,
        task.seed,
    )
    next_ones = order.best(points[unlabeled], np.asarray(answers.uncertainty), points[labeled], task.ranked)
    ranks = {place: rank for rank, place in enumerate(next_ones, 1)}
    with (output / SUGGESTIONS).open("wb") as lines:
        for place, (number, suggested, one) in enumerate(zip(unlabeled, answers.suggestions, hardness, strict=True)):
            lines.write(
                _line(
                    {
                        "id": samples.records[number].id,
                        "labels": [_said(label, task.annotation_type) for label in suggested],
                        "hard": list(one.reasons),
                        "coefficient": one.coefficient,
                        "rank": ranks.get(place),
                    }
                )
            )
    if task.hard_output:
        _write_hard(directory / task.hard_output, [samples.records[n] for n in unlabeled], answers, hardness)
    return {
        "labeled": len(labeled),
        "unlabeled": len(unlabeled),
        "suggested": sum(bool(some) for some in answers.suggestions),
        "hard": sum(bool(one.reasons) for one in hardness),
        "accuracy": answers.accuracy,
        "method": answers.method,
    }


def _write_hard(
    folder: Path, records: Sequence[SampleRecord], answers: Answers, hardness: Sequence[hard.Hardness]
) -> None:
    """The hard examples as a manifest, each with what was suggested for it."""
    folder.mkdir(exist_ok=True)
    with (folder / "hard.manifest").open("wb") as lines:
        for record, suggested, one in zip(records, answers.suggestions, hardness, strict=True):
            if one.reasons:
                annotations = [replace(label, hard=True) for label in suggested]
                lines.write(format_line(replace(record, annotations=annotations)))


def _answers(task: Task, learner: Learner | None, samples: Opened, lesson: Lesson) -> Answers:
    if task.model or learner is None:
        known = samples.part(True)[:_COMPARED]
        measured = agreement([samples.said[n] for n in known], [samples.records[n].annotations for n in known])
        return as_answers([samples.said[n] for n in samples.part(False)], measured)
    answers = learner.suggest(lesson)
    if len(answers.suggestions) != len(lesson.unlabeled) or len(answers.uncertainty) != len(lesson.unlabeled):
        raise CannotLearn(
            f"{learner.id} answered for {len(answers.suggestions)} of {len(lesson.unlabeled)} samples; it must for all"
        )
    return answers


def _group(task: Task, learner: Learner | None, samples: Opened, points: Any, output: Path) -> dict[str, Any]:
    if learner is None:
        raise CannotLearn("nothing here tells which samples of this type are alike")
    if task.group_by:
        figures = _figures(learner, samples.opened, [one.annotations for one in samples.records])
        lacking = next((name for name in task.group_by if any(name not in one for one in figures)), None)
        if lacking:
            raise CannotLearn(f"the samples have no {lacking}, so they cannot be grouped by it")
        points = _standard(np.array([[one[name] for name in task.group_by] for one in figures]))
    found = groups.group(points, task.groups, task.seed)
    with (output / GROUPS).open("wb") as lines:
        for record, number, distance in zip(samples.records, found.numbers, found.distances, strict=True):
            lines.write(_line({"id": record.id, "group": int(number), "distance": round(float(distance), 6)}))
    return {"samples": len(samples.records), "groups": int(found.numbers.max()) + 1}


def _figures(
    learner: Learner | None, opened: Sequence[Any], said: Sequence[Sequence[Annotation]]
) -> list[Mapping[str, float]]:
    return [learner.figures(one, some) if learner else {} for one, some in zip(opened, said, strict=True)]


def _standard(values: Any) -> Any:
    deviation = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1)


def _said(one: Annotation, annotation_type: str) -> dict[str, Any]:
    said: dict[str, Any] = {"name": one.name, "confidence": 1.0 if one.confidence is None else one.confidence}
    if one.type != annotation_type:
        said["type"] = one.type
    if one.property:
        said["property"] = one.property
    if one.id:
        said["id"] = one.id
    return said


def _line(data: dict[str, Any]) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE)


def _progress(part: float, doing: str) -> None:
    print(f"progress {part:.3f} {doing}", flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
