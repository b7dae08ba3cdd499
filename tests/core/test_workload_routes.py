"""What a workload gets from the platform for its own paths, and what it and others do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from bottega.backends import WorkloadSpec
from bottega.entities import Workload
from bottega.testing import RunningPlatform, Tenant


@dataclass
class Caller:
    """A workload that no backend runs, and its identity."""

    tenant: Tenant
    workload: Workload
    http: httpx.Client

    @property
    def address(self) -> str:
        return f"/v1/{self.workload.project_id}/workloads/{self.workload.id}/objects"

    def list(self, path: str, **parameters: str) -> httpx.Response:
        return self.http.get(self.address, params={"path": path, **parameters})

    def put(self, *paths: str) -> httpx.Response:
        return self.http.post(self.address, json={"paths": paths})


def save(running: RunningPlatform, workload: Workload) -> None:
    async def write() -> None:
        async with running.platform().database.transaction() as tx:
            await tx.session.merge(workload)

    running.run(write())


@pytest.fixture
def caller(running: RunningPlatform, tenant: Tenant, bucket: str) -> Iterator[Caller]:
    spec = WorkloadSpec(
        command=["true"],
        inputs=[{"path": f"/{bucket}/in/", "local": "in"}, {"path": f"s3://{bucket}/one", "local": "one"}],
        outputs=[{"path": f"obs://{bucket}/out/", "local": "out"}],
        log_path=f"s3://{bucket}/logs/job.log",
        may_read=[f"s3://{bucket}/shared/"],
    )
    workload = Workload(
        project_id=tenant.project_id,
        user_id=tenant.user_id,
        kind="training",
        resource_urn="bottega:core:p:probe/1",
        backend="nobody",
        flavor="none",
        spec=spec.model_dump(mode="json"),
    )
    save(running, workload)
    token = running.run(running.platform().identity.issue_workload_token(workload, 60))
    with httpx.Client(base_url=running.url, headers={"X-Auth-Token": token}) as http:
        yield Caller(tenant, workload, http)


def test_a_folder_is_listed_with_urls_that_read_it(caller: Caller, bucket: str) -> None:
    caller.tenant.objects.put_many({f"s3://{bucket}/in/a": b"1", f"s3://{bucket}/in/deep/b": b"22"})
    answer = caller.list(f"/{bucket}/in/").json()
    found = [(entry["name"], entry["size"], httpx.get(entry["url"]).content) for entry in answer["objects"]]
    assert found == [("a", 1, b"1"), ("deep/b", 2, b"22")]
    assert answer["next"] is None
    rest = caller.list(f"/{bucket}/in/", start_after="in/a").json()
    assert [entry["name"] for entry in rest["objects"]] == ["deep/b"]


def test_a_large_folder_comes_in_pages(caller: Caller, bucket: str) -> None:
    caller.tenant.objects.put_many({f"s3://{bucket}/in/{n:04}": b"x" for n in range(1003)})
    first = caller.list(f"/{bucket}/in/").json()
    assert (len(first["objects"]), first["next"]) == (1000, "in/0999")
    second = caller.list(f"/{bucket}/in/", start_after=first["next"]).json()
    assert ([entry["name"] for entry in second["objects"]], second["next"]) == (["1000", "1001", "1002"], None)


def test_one_object_is_found_or_not(caller: Caller, bucket: str) -> None:
    assert caller.list(f"s3://{bucket}/one").json()["objects"] == []
    caller.tenant.objects.put(f"s3://{bucket}/one", b"1")
    assert [entry["name"] for entry in caller.list(f"s3://{bucket}/one").json()["objects"]] == ["one"]


def test_many_objects_are_read_by_url_wherever_the_workload_may(caller: Caller, bucket: str) -> None:
    caller.tenant.objects.put(f"s3://{bucket}/shared/a", b"1")
    paths = [f"obs://{bucket}/shared/a", f"/{bucket}/in/not-there"]
    urls: dict[str, str] = caller.http.post(f"{caller.address}/reads", json={"paths": paths}).json()["urls"]
    assert [httpx.get(urls[path]).status_code for path in paths] == [200, 404]
    refused = caller.http.post(f"{caller.address}/reads", json={"paths": [*paths, f"s3://{bucket}/other/a"]})
    assert refused.status_code == 403
    assert f"may not read s3://{bucket}/other/a" in refused.json()["error_msg"]


def test_outputs_and_the_log_are_stored_by_url(caller: Caller, bucket: str) -> None:
    paths = [f"obs://{bucket}/out/a", f"s3://{bucket}/logs/job.log"]
    urls: dict[str, str] = caller.put(*paths).json()["urls"]
    assert list(urls) == paths
    assert httpx.put(urls[paths[0]], content=b"data").status_code == 200
    assert caller.tenant.objects.get(f"s3://{bucket}/out/a") == b"data"


@pytest.mark.parametrize("path", ["other/", "in", "", "logs/job.log", "input-of-others/", "shared"])
def test_it_reads_nothing_else(caller: Caller, bucket: str, path: str) -> None:
    answer = caller.list(f"s3://{bucket}/{path}")
    assert answer.status_code == 403, answer.text
    assert "may not read" in answer.json()["error_msg"]


@pytest.mark.parametrize("path", ["in/a", "shared/a", "out", "outside/a", "logs/job.log.2"])
def test_it_writes_nothing_else(caller: Caller, bucket: str, path: str) -> None:
    answer = caller.put(f"s3://{bucket}/out/fine", f"s3://{bucket}/{path}")
    assert answer.status_code == 403, answer.text
    assert "urls" not in answer.json()


@pytest.mark.parametrize("path", ["s3://b/x", "nonsense", "s3://{bucket}/out/../in/a", "s3://{bucket}/out//a"])
def test_paths_that_are_none_are_refused(caller: Caller, bucket: str, path: str) -> None:
    answer = caller.put(path.format(bucket=bucket))
    assert (answer.status_code, answer.json()["error_code"]) == (400, "ModelArts.0101")


@pytest.mark.parametrize("body", [{}, {"paths": []}, {"paths": "x"}, {"paths": ["x"], "more": 1}])
def test_a_malformed_question_is_refused(caller: Caller, body: dict[str, Any]) -> None:
    assert caller.http.post(caller.address, json=body).status_code == 400


def test_nobody_else_may_ask(running: RunningPlatform, caller: Caller, bucket: str, stranger: Tenant) -> None:
    other = Workload(**{**caller.workload.model_dump(), "id": "other"})
    identity = running.platform().identity
    tokens = {
        "another workload": running.run(identity.issue_workload_token(other, 60)),
        "its own user": identity.issue_token(running.run(identity.principal(caller.tenant.user_id)), 60),
        "a stranger": identity.issue_token(running.run(identity.principal(stranger.user_id)), 60),
    }
    for who, token in tokens.items():
        answer = httpx.get(
            running.url + caller.address, params={"path": f"s3://{bucket}/in/"}, headers={"X-Auth-Token": token}
        )
        assert answer.status_code == 403, who
    assert httpx.get(running.url + caller.address, params={"path": "x"}).status_code == 401


def test_after_its_end_it_gets_nothing(running: RunningPlatform, caller: Caller, bucket: str) -> None:
    caller.workload.state = "succeeded"
    save(running, caller.workload)
    assert caller.list(f"s3://{bucket}/in/").status_code == 403
