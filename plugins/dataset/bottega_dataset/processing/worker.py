"""``python -m bottega_dataset.processing.worker TASK_FILE``: process samples and write what came of them (a workload).

It reads the manifest written for it (``input.manifest``) and writes, under ``report/``, ``report.json``,
``results.jsonl`` (a line for each sample), ``samples.manifest`` (those of the result) and pictures, and under
``result/`` the objects that are new.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bottega_dataset.manifest import format_line, parse_line
from bottega_dataset.processing.processors import ProcessingFailure, Processor
from bottega_dataset.processing.work import ADDED, DELETED, MODIFIED, Fetch, Work
from bottega_dataset.sample import CONTENT, identity

INPUT, REPORT, RESULTS, SAMPLES = "input.manifest", "report.json", "results.jsonl", "samples.manifest"
PROGRESS = "progress "
"""How a line of the log that tells the percentage begins."""


class TaskStep(BaseModel):
    """`processor` is ``module:class``."""

    processor: str
    params: dict[str, Any]


class Task(BaseModel):
    """What the service writes for the worker. `target` is the folder in storage for ``result/``.

    `input_sha256` is that of the manifest as the service wrote it; None when nobody else can write it.
    """

    steps: list[TaskStep]
    seed: int
    sample_type: int
    annotation_type: str
    target: str
    makes_samples: bool
    largest_mb: int
    cache_mb: int
    input_sha256: str | None = None


def main(task_file: Path) -> int:
    """0 when a report was written, 1 with the reason as the last line otherwise."""
    from bottega_dataset.processing.fetching import Fetcher

    try:
        task = Task.model_validate_json(task_file.read_bytes())
        process(task, task_file.parent, Fetcher(task.largest_mb << 20))
    except ProcessingFailure as problem:
        print(f"processing failed: {problem}", flush=True)
        return 1
    except Exception as problem:  # processors are foreign code; whatever they raise is why the task failed
        traceback.print_exc()
        print(f"processing failed: {_first_line(problem)}", flush=True)
        return 1
    return 0


def process(task: Task, folder: Path, fetch: Fetch) -> Work:
    """Do what `task` says in `folder`. Raises ProcessingFailure, and what processors raise."""
    with (folder / INPUT).open("rb") as lines:
        if task.input_sha256 not in (None, hashlib.file_digest(lines, "sha256").hexdigest()):
            raise ProcessingFailure(f"{INPUT} was changed since the task was prepared; leave it alone and begin again")
        lines.seek(0)
        records = [parse_line(line) for line in lines]
    work = Work(
        records,
        fetch=fetch,
        folder=folder,
        target=task.target,
        seed=task.seed,
        sample_type=task.sample_type,
        annotation_type=task.annotation_type,
        cache_mb=task.cache_mb,
        progress=_Progress(),
    )
    done = []
    for number, step in enumerate(task.steps):
        module, _, name = step.processor.partition(":")
        processor: Processor = getattr(import_module(module), name)()
        params = processor.read_params(step.params)
        print(f"{processor.name}: {len(work.items)} samples", flush=True)
        work.begin(processor.id, number, len(task.steps))
        began, before = time.perf_counter(), _counted(work)
        processor.process(work, params)
        after = _counted(work)
        done.append(
            {
                "id": processor.id,
                "params": params.model_dump(mode="json"),
                "seconds": round(time.perf_counter() - began, 2),
                **{name: after[name] - before[name] for name in after},
            }
        )
    _write(task, folder, work, done)
    return work


def _counted(work: Work) -> dict[str, int]:
    """How many samples there are of each fate."""
    deleted = [item for item in work.all[: work.originals] if item.outcome == DELETED]
    return {
        "deleted": len(deleted),
        "modified": sum(item.outcome == MODIFIED for item in work.all),
        "added": sum(item.outcome == ADDED for item in work.all),
        "flagged": sum(item.flagged for item in work.all),
        "unreadable": len(work.unreadable),
    }


def _write(task: Task, folder: Path, work: Work, done: list[dict[str, Any]]) -> None:
    for name in ("report", "result"):
        (folder / name).mkdir(exist_ok=True)
    for item, reason in work.unreadable.items():
        if not any(note["reason"] == reason for note in item.notes):
            item.notes.append({"operator": "", "reason": f"cannot be read: {reason}"})
    if task.makes_samples:
        with (folder / "report" / RESULTS).open("wb") as results:
            for number, item in enumerate(work.all):
                if number >= work.originals and item.outcome == DELETED:
                    continue  # made by one operator and left out by a later one
                line = {
                    "property": item.outcome,
                    "origin": _shown(item.origin),
                    "new": "" if item.outcome == DELETED else _shown(item.record.source),
                    "id": identity(item.record).hex(),
                    "notes": item.notes,
                }
                results.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        with (folder / "report" / SAMPLES).open("wb") as manifest:
            manifest.writelines(format_line(item.record) for item in work.items)
    counted = _counted(work)
    origin = work.originals
    counted["unmodified"] = origin - counted["deleted"] - sum(i.outcome == MODIFIED for i in work.all[:origin])
    report = {"origin": origin, "kept": len(work.items), **counted, "operators": done, "findings": work.findings}
    (folder / "report" / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{PROGRESS}100", flush=True)


def _shown(source: str) -> str:
    """A source as the report shows it; a text by its beginning."""
    return source[:500] if source.startswith(CONTENT) else source


class _Progress:
    """Says each percent once."""

    def __init__(self) -> None:
        self._last = -1

    def __call__(self, part: float) -> None:
        percent = min(99, int(part * 100))
        if percent > self._last:
            self._last = percent
            print(f"{PROGRESS}{percent}", flush=True)


def _first_line(problem: BaseException) -> str:
    text = next((line.strip() for line in str(problem).splitlines() if line.strip()), "")
    return f"{type(problem).__name__}: {text}"[:400]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
