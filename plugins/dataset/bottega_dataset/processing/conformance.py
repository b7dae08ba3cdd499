"""What every processor (operator of processing tasks) must do. Subclass this in your tests::

class TestMyOperator(ProcessorContract):
    operator, template = "MyOperator", "sys_data_cleaning"

    def samples(self):
        return [(SampleRecord("s3://{bucket}/in/a.png"), picture), …]
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bottega.client import ApiFailure
from bottega.testing.running import RunningPlatform, Tenant, wait_until
from bottega_dataset.client import Datasets
from bottega_dataset.extension_points import DatasetType, check
from bottega_dataset.kinds import Kinds
from bottega_dataset.manifest import format_line
from bottega_dataset.processing.processors import TEMPLATES, Processor, Processors
from bottega_dataset.processing.trial import TARGET, Trial, try_out
from bottega_dataset.processing.work import DELETED, RESERVED
from bottega_dataset.processing.worker import REPORT
from bottega_dataset.sample import SampleRecord

_TASKS = "/v2/{project_id}/processor-tasks"
_FRESH = """
import sys
from importlib import import_module
processor = getattr(import_module(sys.argv[1]), sys.argv[2])()
processor.describe()
print(sorted(set(processor.needs) & set(sys.modules)))
"""


class ProcessorContract:
    """Tests of `Processor`, on the platform of the ``running`` fixture, where its plugin must be on.

    `code` is a dataset type it understands, `params` are parameters that make it do something to `samples`.
    """

    operator: str
    template: str
    code: int = 0
    params: ClassVar[Mapping[str, Any]] = {}
    timeout_s: float = 120

    def samples(self) -> Sequence[tuple[SampleRecord, bytes | None]]:
        """Samples and the content of their objects (None for a text); ``{bucket}`` is a bucket of the test."""
        raise NotImplementedError("a subclass gives samples")

    def processor(self, running: RunningPlatform) -> Processor:
        found = Processors.of_platform(running.platform("dataset")).of_template(self.template)
        return next(one for one in found if one.id == self.operator)

    def kind(self, running: RunningPlatform) -> DatasetType:
        return Kinds.of_platform(running.platform("dataset")).of(self.code)

    def run(self, running: RunningPlatform, folder: Path, *, broken: bool = False) -> Trial:
        """As the worker does it.

        :param broken: one more sample's object is cut off, and one's is not there.
        """
        kind = self.kind(running)
        given = [(replace(one, source=one.source.replace("{bucket}", "pets")), data) for one, data in self.samples()]
        stored = next(((record, data) for record, data in given if data is not None), None)
        if broken and stored is not None:
            record, data = stored
            stem, dot, suffix = record.source.rpartition(".")
            given.append((replace(record, source=f"{stem}-cut{dot}{suffix}", id=None), data[:40]))
            given.append((replace(record, source=f"{stem}-gone{dot}{suffix}", id=None), None))
        return try_out(
            folder,
            [(type(self.processor(running)), self.params)],
            given,
            sample_type=kind.sample_type,
            annotation_type=kind.annotation_type,
            seed=7,
            makes_samples=TEMPLATES[self.template].makes_samples,
        )

    def test_it_describes_itself(self, running: RunningPlatform, tenant: Tenant) -> None:
        items = tenant.client.get(_TASKS + "/items")["items"]
        (template,) = (one for one in items if one["template_id"] == self.template)
        (shown,) = (one for one in template["operators"] if one["id"] == self.operator)
        assert [field for field in ("name", "description") if not shown[field]] == []
        assert (shown["available"], shown["reason"]) == (True, "")
        assert self.processor(running).fits(self.kind(running).sample_type)

    def test_it_says_what_is_missing(self, running: RunningPlatform) -> None:
        kind = type(self.processor(running))
        absent = "a_package_that_is_not_here"
        elsewhere = type("Elsewhere", (kind,), {"needs": (*kind.needs, absent)})().describe()
        assert elsewhere["available"] is False, "it is offered where what it needs is not installed"
        assert absent in elsewhere["reason"], "the reason does not name what is missing"

    def test_an_unknown_parameter_is_refused(self, tenant: Tenant, bucket: str) -> None:
        tenant.objects.put(f"s3://{bucket}/in/x.png", b"x")
        order = self._order(bucket, {**self.params, "no_such_parameter": 1})
        order["inputs"] = [{"type": "OBS", "source": f"s3://{bucket}/in/", "dataset_type": self.code}]
        with pytest.raises(ApiFailure, match="no_such_parameter") as refused:
            tenant.client.post(_TASKS, order)
        assert refused.value.status == 400
        assert self.operator in refused.value.message
        assert tenant.client.get(_TASKS)["count"] == 0

    def test_what_is_heavy_comes_late(self, running: RunningPlatform) -> None:
        kind = type(self.processor(running))
        ran = subprocess.run(
            [sys.executable, "-c", _FRESH, kind.__module__, kind.__qualname__],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.strip() == "[]", "these are imported before there is something to process"

    def test_the_same_seed_gives_the_same(self, running: RunningPlatform, tmp_path: Path) -> None:
        first, second = (self._without_times(self.run(running, tmp_path / name)) for name in ("one", "two"))
        assert first.keys() == second.keys()
        assert [name for name in first if first[name] != second[name]] == [], "these differ from run to run"

    def test_every_sample_is_accounted_for(self, running: RunningPlatform, tmp_path: Path) -> None:
        done = self.run(running, tmp_path)
        self._check_result(running, done, len(self.samples()))
        assert done.results or done.findings, "it says something of the samples"

    def test_what_cannot_be_read_does_not_end_it(self, running: RunningPlatform, tmp_path: Path) -> None:
        stored = any(content is not None for _, content in self.samples())
        self._check_result(running, self.run(running, tmp_path, broken=True), len(self.samples()) + 2 * stored)

    def test_a_task_gives_its_result(self, tenant: Tenant, bucket: str) -> None:
        given = [(replace(r, source=r.source.replace("{bucket}", bucket)), c) for r, c in self.samples()]
        tenant.objects.put_many({record.source: content for record, content in given if content is not None})
        tenant.objects.put(f"s3://{bucket}/all.manifest", b"".join(format_line(record) for record, _ in given))
        datasets = Datasets(tenant.client)
        dataset_id = datasets.create("mine", f"/{bucket}/work/", dataset_type=self.code)["dataset_id"]
        datasets.import_from("mine", f"s3://{bucket}/all.manifest", import_type="manifest")
        order = self._order(bucket, dict(self.params))
        order["inputs"] = [{"type": "DATASET", "source": dataset_id}]
        task_id = tenant.client.post(_TASKS, order)["task_id"]

        def ended() -> dict[str, Any] | None:
            shown: dict[str, Any] = tenant.client.get(f"{_TASKS}/{task_id}")
            return shown if shown["status"] > 1 else None

        task = wait_until(ended, self.timeout_s)
        assert task is not None
        assert task["status"] == 2, task.get("error_msg")
        (version,) = tenant.client.get(f"{_TASKS}/{task_id}/versions")["versions"]
        assert version["origin_sample_count"] == len(given)
        if not TEMPLATES[self.template].makes_samples:
            assert task["result"], "an analysis finds something"
            return
        made = datasets.get("made")
        left = len(given) - version["deleted_sample_count"] + version["add_sample_count"]
        assert made["total_sample_count"] == left
        results = tenant.client.get(f"{_TASKS}/{task_id}/versions/{version['task_version_id']}/results?limit=100")
        assert results["count"] == len(given) + version["add_sample_count"]

    def _order(self, bucket: str, params: dict[str, Any]) -> dict[str, Any]:
        makes = TEMPLATES[self.template].makes_samples
        into = {"type": "DATASET", "name": "made", "output_path": f"/{bucket}/made/"}
        return {
            "name": "probe",
            "create_version": makes,
            "template": {"id": self.template, "operator_params": [{"id": self.operator, "params": params}]},
            "work_path": into if makes else {"type": "OBS", "path": f"/{bucket}/report/"},
            "seed": 7,
        }

    def _check_result(self, running: RunningPlatform, done: Trial, count: int) -> None:
        assert done.report["origin"] == count
        if not TEMPLATES[self.template].makes_samples:
            return
        assert len(done.results) == count + done.report["added"]
        changed = [line for line in done.results if line["property"] != RESERVED]
        assert [line for line in changed if not line["notes"]] == [], "what becomes of a sample has a reason"
        assert all(note["reason"] for line in done.results for note in line["notes"]), "a reason says something"
        kind = self.kind(running)
        kept = [check(kind, record).source for record in done.records]
        assert kept == [line["new"] for line in done.results if line["property"] != DELETED]
        written = {TARGET + name.removeprefix("result/") for name in done.files}
        assert {source for source in kept if source.startswith(TARGET)} <= written, "objects are named but not written"

    @staticmethod
    def _without_times(done: Trial) -> dict[str, Any]:
        operators = [{**one, "seconds": 0} for one in done.report["operators"]]
        return {**done.files, f"report/{REPORT}": {**done.report, "operators": operators}}
