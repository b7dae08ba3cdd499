"""What the platform reads back from buckets of its users opens nothing that they may not open themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.objects import ObjectPath
from bottega.testing import RunningPlatform, Tenant
from bottega_dataset.client import Datasets, TaskFailed
from bottega_dataset.learning import worker
from bottega_dataset.processing.client import Processing

Make = Callable[..., str]
TASKS = "/v2/{project_id}/processor-tasks"


@pytest.fixture
def processing(tenant: Tenant) -> Processing:
    return Processing(tenant.client)


@pytest.fixture
def texts(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> str:
    lines = [json.dumps({"source": f"content://text {n}"}) for n in range(6)]
    tenant.objects.put(f"s3://{bucket}/texts.manifest", "\n".join(lines).encode())
    name = make("texts", dataset_type=100)
    datasets.import_from(name, f"s3://{bucket}/texts.manifest", import_type="manifest")
    return name


@pytest.fixture
def secret(stranger: Tenant) -> str:
    bucket = stranger.create_bucket()
    stranger.objects.put(f"s3://{bucket}/secret.txt", b"of somebody else")
    return f"s3://{bucket}/secret.txt"


@pytest.fixture
def meddle(running: RunningPlatform, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes a file in storage at the worst moment: ``meddle("head", "report.json", {"samples.manifest": change})``.

    Right before the platform reads the one (``head``), or after it has written it (``upload``), a user writes others.
    """
    store = running.platform().objects

    def meddle(moment: str, name: str, changes: dict[str, Callable[[bytes], bytes]]) -> None:
        original = getattr(type(store), moment)

        async def change(path: ObjectPath) -> None:
            for other, change in changes.items():
                there = ObjectPath(path.bucket, path.key.removesuffix(name) + other)
                await store.put(there, change(await store.get(there)))

        async def head(path: ObjectPath) -> Any:
            if path.key.endswith(name):
                await change(path)
            return await original(store, path)

        async def upload(file: Path, path: ObjectPath, *rest: Any) -> None:
            await original(store, file, path, *rest)
            if path.key.endswith(name):
                await change(path)

        monkeypatch.setattr(store, moment, {"head": head, "upload": upload}[moment])

    return meddle


def test_a_forged_result_of_processing_is_not_taken_in(
    bucket: str, texts: str, secret: str, datasets: Datasets, processing: Processing, meddle: Callable[..., None]
) -> None:
    def forged(file: str, change: Callable[[dict[str, Any]], None]) -> str:
        def changed(data: bytes) -> bytes:
            first, _, rest = data.partition(b"\n")
            said = json.loads(first)
            change(said)
            return json.dumps(said).encode() + b"\n" + rest

        meddle("head", "report.json", {file: changed})
        with pytest.raises(TaskFailed) as failed:
            processing.process(
                texts, "sys_data_selection", {"RandomSelection": {}}, new_dataset=("made", f"/{bucket}/m/")
            )
        with pytest.raises(ApiFailure, match="no dataset 'made'"):
            datasets.get("made")
        return str(failed.value)

    said = forged("samples.manifest", lambda line: line.update(source=secret))
    assert f"samples.manifest names {secret}: bucket" in said
    assert "is not one of yours" in said
    assert f"results.jsonl names {secret}" in forged("results.jsonl", lambda line: line.update(origin=secret))
    assert "line 1, is not what the worker wrote: notes" in forged("results.jsonl", lambda line: line.update(notes=1))


def test_a_forged_report_of_an_analysis_presigns_nothing(
    texts: str, processing: Processing, meddle: Callable[..., None]
) -> None:
    def changed(data: bytes) -> bytes:
        report = json.loads(data)
        report["findings"]["class_balance"] = {"figure": "../../secret.png"}
        return json.dumps(report).encode()

    meddle("head", "report.json", {"report.json": changed})
    with pytest.raises(TaskFailed, match="is no picture beside the report"):
        processing.analyze(texts, operators={"ClassBalance": {}})


def test_workers_take_no_other_samples_than_those_they_were_given(
    tmp_path: Path,
    bucket: str,
    texts: str,
    secret: str,
    processing: Processing,
    meddle: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = json.dumps({"id": "1", "source": secret}).encode() + b"\n"
    meddle("upload", "input.manifest", {"input.manifest": lambda data: data + line})
    with pytest.raises(TaskFailed, match=r"input\.manifest was changed since the task was prepared"):
        processing.process(texts, "sys_data_selection", {"RandomSelection": {}}, folder=f"s3://{bucket}/half/")
    # So does the worker of auto-labeling.
    (tmp_path / "samples.manifest").write_bytes(line)
    order = {
        "task_type": "auto-label",
        "learner": None,
        "manifest": "samples.manifest",
        "manifest_sha256": hashlib.sha256(b"as it was").hexdigest(),
        "output": "output",
        "annotation_type": "text_classification",
    }
    (tmp_path / "task.json").write_text(json.dumps(order))
    assert worker.main(tmp_path / "task.json") == 1
    assert "samples.manifest was changed since the task was prepared" in capsys.readouterr().out


def test_each_sample_is_read_by_the_rights_of_the_user_and_of_the_agency(
    tenant: Tenant, bucket: str, make: Make, datasets: Datasets, programs_may_touch: Callable[[str], None]
) -> None:
    """Of two in one folder, too."""
    names = ("a1", "b1", "b2")
    tenant.objects.put_many({f"s3://{bucket}/in/{name}.txt": b"text" for name in names})
    lines = "\n".join(json.dumps({"source": f"s3://{bucket}/in/{name}.txt"}) for name in names)
    tenant.objects.put(f"s3://{bucket}/in.manifest", lines.encode())
    name = make("some", dataset_type=900)
    datasets.import_from(name, f"s3://{bucket}/in.manifest", import_type="manifest")

    def left_out(who: Tenant) -> list[str]:
        done = Processing(who.client).process(
            name, "sys_data_selection", {"RandomSelection": {}}, folder=f"s3://{bucket}/done/"
        )
        return sorted(one["place"].rpartition("/")[2] for one in done["problems"])

    statements = [
        {"Effect": "Allow", "Action": ["modelarts:*:*"]},
        {"Effect": "Allow", "Action": ["obs:object:*"], "Resource": ["*"]},
        {"Effect": "Deny", "Action": ["obs:object:GetObject"], "Resource": [f"obs:*:*:object:{bucket}/in/b2.txt"]},
    ]
    assert left_out(tenant.user([{"Version": "1.1", "Statement": statements}])) == ["b2.txt"]
    programs_may_touch(f"{bucket}/*1*")
    assert left_out(tenant) == ["b2.txt"]


def test_copies_of_a_version_are_made_by_the_rights_of_who_publishes(
    tenant: Tenant, bucket: str, pictures: str, make: Make, datasets: Datasets
) -> None:
    name = make(data_path=pictures)
    allowed = [
        {"Effect": "Allow", "Action": ["modelarts:*:*"]},
        {"Effect": "Allow", "Action": ["obs:object:*"], "Resource": [f"obs:*:*:object:{bucket}/output/*"]},
    ]
    user = tenant.user([{"Version": "1.1", "Statement": allowed}])
    with pytest.raises((TaskFailed, ApiFailure), match="you may not read it"):
        Datasets(user.client).publish(name, export_images=True)
