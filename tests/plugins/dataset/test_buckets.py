"""Buckets and objects over the API: whose they are, and who may do what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bottega.client import ApiFailure, Client
from bottega.testing import RecordedEvents, Tenant
from bottega_dataset.transfer import Objects

BUCKETS = "/v1/{project_id}/buckets"


def allow(*actions: str, resource: str = "*") -> dict[str, object]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": [resource]}
    return {"Version": "1.1", "Statement": [statement]}


def test_a_bucket_is_its_accounts(client: Client, tenant: Tenant, stranger: Tenant, events: RecordedEvents) -> None:
    name = f"mine-{tenant.name}"
    assert client.post(BUCKETS, {"name": name})["name"] == name
    assert [b["name"] for b in client.get(BUCKETS)["buckets"]] == [name]
    assert stranger.client.get(BUCKETS)["buckets"] == []
    events.wait("store-s3.bucket.created.v1", name=name)
    for who in (client, stranger.client):
        with pytest.raises(ApiFailure) as taken:
            who.post(BUCKETS, {"name": name})
        assert taken.value.status == 409
    for wrong in ("ab", "Upper-case", "under_score", "-dash", "a..b", "x" * 64, ""):
        with pytest.raises(ApiFailure) as refused:
            client.post(BUCKETS, {"name": wrong})
        assert refused.value.status == 400, wrong


def test_of_many_at_once_one_gets_the_name(tenant: Tenant, stranger: Tenant) -> None:
    name = f"race-{tenant.name}"

    def ask(who: Tenant) -> int:
        try:
            who.client.post(BUCKETS, {"name": name})
        except ApiFailure as e:
            return e.status
        return 201

    with ThreadPoolExecutor(10) as pool:
        answers = sorted(pool.map(ask, [tenant, stranger] * 5))
    assert answers == [201] + [409] * 9


def test_objects_are_put_listed_read_and_deleted(client: Client, bucket: str, events: RecordedEvents) -> None:
    where = f"{BUCKETS}/{bucket}/objects"
    for key in ("a/1.txt", "a/b c+ü.txt", "z"):
        made = client.request("PUT", f"{where}/{key}", content=key.encode()).json()
        assert (made["key"], made["size"]) == (key, len(key.encode()))
    assert [o["key"] for o in client.get(where, {"prefix": "a/"})["objects"]] == ["a/1.txt", "a/b c+ü.txt"]
    page = client.get(where, {"limit": 2})
    assert page["next_after"] == "a/b c+ü.txt"
    rest = client.get(where, {"limit": 2, "after": page["next_after"]})
    assert ([o["key"] for o in rest["objects"]], rest["next_after"]) == (["z"], None)
    assert client.request("GET", f"{where}/a/b c+ü.txt").content == "a/b c+ü.txt".encode()
    client.delete(f"{where}/z")
    events.wait("core.api.called.v1", trace="deleteObject")
    with pytest.raises(ApiFailure) as gone:
        client.request("GET", f"{where}/z")
    assert gone.value.status == 404
    for wrong in ("a/../b", "a//b"):
        with pytest.raises(ApiFailure) as refused:
            client.post(f"{BUCKETS}/{bucket}/presigned-urls", {"keys": [wrong]})
        assert refused.value.status == 400


def test_strangers_and_policies(tenant: Tenant, stranger: Tenant, bucket: str) -> None:
    tenant.objects.put_many({f"s3://{bucket}/open/1": b"x", f"s3://{bucket}/shut/1": b"x"})
    outsider = Client(tenant.running.url, tenant.project_id, stranger.access_key, stranger.secret_key)
    limited = tenant.user([allow("obs:object:GetObject", resource=f"obs:*:*:object:{bucket}/open/*")]).client
    calls = [
        ("GET", "/objects", None),
        ("PUT", "/objects/open/1", None),
        ("DELETE", "/objects/open/1", None),
        ("GET", "/objects/shut/1", None),
        ("POST", "/presigned-urls", {"keys": ["open/1", "shut/1"]}),
        ("POST", "/presigned-urls", {"keys": ["open/1"], "method": "PUT"}),
    ]
    for who in (outsider, stranger.client, tenant.user().client, limited):
        for method, tail, body in calls:
            with pytest.raises(ApiFailure) as refused:
                who.request(method, f"{BUCKETS}/{bucket}{tail}", json=body)
            assert refused.value.status == 403, f"{method} {tail}"
    assert limited.request("GET", f"{BUCKETS}/{bucket}/objects/open/1").content == b"x"
    assert limited.post(f"{BUCKETS}/{bucket}/presigned-urls", {"keys": ["open/1"]})["urls"]
    with pytest.raises(ApiFailure) as refused:
        limited.post(BUCKETS, {"name": "would-be-mine"})
    assert refused.value.status == 403


def test_a_listing_asks_for_the_right_to_its_prefix(tenant: Tenant, bucket: str) -> None:
    where, own = f"{BUCKETS}/{bucket}/objects", {"StringStartWith": {"obs:prefix": ["own/"]}}
    tenant.objects.put_many({f"s3://{bucket}/{key}": b"x" for key in ("own/1", "secret/1")})
    everything = allow("obs:bucket:ListBucket")
    hidden = {
        "Version": "1.1",
        "Statement": [
            {
                "Effect": "Deny",
                "Action": ["obs:bucket:ListBucket"],
                "Condition": {"StringStartWith": {"obs:prefix": ["secret/"]}},
            }
        ],
    }
    shown = {
        "Version": "1.1",
        "Statement": [{"Effect": "Allow", "Action": ["obs:bucket:ListBucket"], "Condition": own}],
    }
    cases: list[list[Mapping[str, Any]]] = [[everything, hidden], [shown]]
    for policies in cases:
        user = tenant.user(policies)
        assert [o["key"] for o in user.client.get(where, {"prefix": "own/"})["objects"]] == ["own/1"]
        with pytest.raises(ApiFailure) as refused:
            user.client.get(where, {"prefix": "secret/"})
        assert refused.value.status == 403


def test_folders_go_there_and_back(tenant: Tenant, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for n in range(30):
        file = source / f"sub {n % 3}" / f"{n}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes([n]) * 1000)
    moved: list[int] = []
    objects = Objects(tenant.client)
    assert objects.put(source, f"s3://{bucket}/up/", moved.append) == 30
    assert sum(moved) == 30_000
    assert objects.get(f"s3://{bucket}/up/", tmp_path / "back") == 30
    original = {p.relative_to(source): p.read_bytes() for p in source.rglob("*.bin")}
    assert {p.relative_to(tmp_path / "back"): p.read_bytes() for p in (tmp_path / "back").rglob("*.bin")} == original
    with pytest.raises(ApiFailure) as missing:
        objects.get(f"s3://{bucket}/up/nothing", tmp_path / "nothing")
    assert missing.value.status == 404
    assert not (tmp_path / "nothing").exists()


def test_from_the_command_line(tenant: Tenant, tmp_path: Path) -> None:
    import typer

    from bottega.cli_support import OPTIONS
    from bottega_dataset.bucket_commands import objects

    credentials = tmp_path / "credentials.json"
    keys = {"access_key": tenant.access_key, "secret_key": tenant.secret_key}
    credentials.write_text(json.dumps({"url": tenant.running.url, "project_id": tenant.project_id, **keys}))
    OPTIONS.credentials = credentials
    cli = typer.Typer()
    cli.add_typer(objects, name="objects")

    def run(*words: str) -> str:
        result = CliRunner().invoke(cli, ["objects", *words])
        assert result.exit_code == 0, result.output
        return result.output

    try:
        name = f"cli-{tenant.name}"
        run("mb", name)
        (tmp_path / "file.txt").write_text("hello")
        run("put", str(tmp_path / "file.txt"), f"s3://{name}/docs/")
        run("get", f"s3://{name}/docs/file.txt", str(tmp_path / "copy.txt"))
        assert (tmp_path / "copy.txt").read_text() == "hello"
        assert tenant.objects.list(f"s3://{name}/") == [f"s3://{name}/docs/file.txt"]
        tenant.events.wait("core.api.called.v1", trace="putObject")
        for words, says in (
            (("put", str(tmp_path / "file.txt"), f"s3://no-{name}/x"), f"there is no bucket 'no-{name}'"),
            (("get", f"s3://{name}/none", str(tmp_path / "x")), f"there is no object s3://{name}/none"),
            (("get", f"s3://{name}/docs/", "/proc/nope/x"), "cannot write /proc/nope"),
        ):
            assert says in str(CliRunner().invoke(cli, ["objects", *words]).exception)
        run("rm", f"s3://{name}/docs/file.txt")
        assert tenant.objects.list(f"s3://{name}/") == []
    finally:
        OPTIONS.credentials = None
