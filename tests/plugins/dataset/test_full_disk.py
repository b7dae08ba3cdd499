"""No space is left, in the middle of work: a clear error; nothing is lost or done twice once there is some again."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.errors import StorageFull
from bottega.testing import RunningPlatform, Tenant
from bottega_dataset.client import Datasets, TaskFailed
from bottega_dataset.snapshot import ManifestFile

SIZE = 40_000


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with RunningPlatform(tmp_path_factory.mktemp("full")) as running:
        yield running


@pytest.fixture
def tenant(full: RunningPlatform) -> Tenant:
    return full.tenant()


def limit(running: RunningPlatform, pages: int) -> None:
    """The pages the database may have beside those it has."""

    async def set_limit() -> None:
        async with running.platform().database.engine.connect() as connection:
            there = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
            await connection.exec_driver_sql(f"PRAGMA max_page_count={there + pages}")

    running.run(set_limit())


def test_an_import_fails_clearly_and_is_completed_without_duplicates(
    full: RunningPlatform, tenant: Tenant, datasets: Datasets, bucket: str
) -> None:
    said = [{"type": "text_classification", "name": "a"}]
    lines = [json.dumps({"source": f"content://text {n} {'x' * 150}", "annotation": said}) for n in range(SIZE)]
    lines[10] = "not a line"
    manifest = f"s3://{bucket}/long.manifest"
    tenant.objects.put(manifest, "\n".join(lines).encode())
    where = f"/v2/{{project_id}}/datasets/{datasets.create('texts', f'/{bucket}/out/', dataset_type=100)['dataset_id']}"
    limit(full, 3000)
    try:
        with pytest.raises(TaskFailed, match="no space is left on the disk of the platform"):
            datasets.import_from("texts", manifest, import_type="manifest")
    finally:
        limit(full, 10**8)
    (failed,) = tenant.client.get(f"{where}/import-tasks")["import_tasks"]
    assert (failed["status"], failed["error_code"]) == ("FAILED", "ModelArts.0109")
    there = datasets.get("texts")["total_sample_count"]
    assert 0 < there == failed["imported_sample_count"] < SIZE, "what the report says is what is there"
    assert [p["place"] for p in datasets.problems("texts", failed["task_id"])] == [f"{manifest}, line 11"]
    done = datasets.import_from("texts", manifest, import_type="manifest")
    assert (done["imported_sample_count"], done["known_sample_count"]) == (SIZE - 1 - there, there)
    assert datasets.get("texts")["total_sample_count"] == SIZE - 1
    assert datasets.statistics("texts")["label_stats"][0]["count"] == SIZE - 1


def test_publishing_and_exporting_fail_clearly_and_leave_nothing(
    full: RunningPlatform, tenant: Tenant, datasets: Datasets, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant.objects.put(f"s3://{bucket}/few.manifest", b'{"source": "content://a"}\n{"source": "content://b"}')
    datasets.create("texts", f"/{bucket}/out/", dataset_type=100)
    datasets.import_from("texts", f"s3://{bucket}/few.manifest", import_type="manifest")

    def no_space(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def store_full(file: Path, path: object, *_: Any) -> None:
        raise StorageFull(f"no space left in the object store for {path}")

    store = full.platform().objects
    with monkeypatch.context() as patched:
        patched.setattr(ManifestFile, "write_block", no_space)
        with pytest.raises((TaskFailed, ApiFailure), match="no space is left on the disk of the platform"):
            datasets.publish("texts")
        with pytest.raises(TaskFailed, match="no space is left on the disk of the platform"):
            datasets.export("texts", f"s3://{bucket}/export/")
    with monkeypatch.context() as patched:
        patched.setattr(store, "upload", store_full)
        with pytest.raises(TaskFailed, match="no space left in the object store"):
            datasets.export("texts", f"s3://{bucket}/export/", format="csv")
    assert tenant.objects.list(f"s3://{bucket}/export/") == []
    (failed,) = datasets.versions("texts")
    assert (failed["status"], failed["manifest_path"]) == (4, "")
    assert "no space is left on the disk of the platform" in failed["message"]
    assert datasets.get("texts").get("current_version_id") is None
    version = datasets.publish("texts")
    assert len(list(datasets.read_manifest(version["manifest_path"]))) == 2
    datasets.export("texts", f"s3://{bucket}/export/", format="csv")
    assert any(path.endswith(".csv") for path in tenant.objects.list(f"s3://{bucket}/export/"))
