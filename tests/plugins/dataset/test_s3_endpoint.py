"""The S3 endpoint ``/s3`` with real boto3: whose buckets, whose keys, which operations; what is refused."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import httpx
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.client import Config
from botocore.credentials import Credentials

from bottega.context import move_clock
from bottega.entities import Agency, Policy, PolicyGrant
from bottega.testing import RunningPlatform, Tenant

Refused = Callable[..., tuple[int, str]]


def s3(running: RunningPlatform, access: str, secret: str, token: str | None = None, **config: Any) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=f"{running.url}/s3",
        region_name="us-east-1",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **config),
    )


def of(tenant: Tenant, **config: Any) -> Any:
    return s3(tenant.running, tenant.access_key, tenant.secret_key, **config)


def temporary(tenant: Tenant, *statements: dict[str, Any], seconds: int = 900) -> Any:
    identity: dict[str, Any] = {"methods": ["token"], "token": {"duration_seconds": seconds}}
    if statements:
        identity["policy"] = {"Version": "1.1", "Statement": list(statements)}
    answer = tenant.client.post("/v3.0/OS-CREDENTIAL/securitytokens", {"auth": {"identity": identity}})["credential"]
    return s3(tenant.running, answer["access"], answer["secret"], answer["securitytoken"])


def test_a_permanent_key_has_the_buckets_of_its_account(
    tenant: Tenant, stranger: Tenant, mine: Any, refused: Refused
) -> None:
    name = f"b{uuid.uuid4().hex[:16]}"
    mine.create_bucket(Bucket=name)
    assert [b["Name"] for b in mine.list_buckets()["Buckets"]] == [name]
    assert mine.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert mine.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    assert refused(of(stranger).create_bucket, Bucket=name) == (409, "BucketAlreadyExists")
    assert refused(mine.head_bucket, Bucket="no-such-bucket")[0] == 404
    assert refused(mine.list_objects_v2, Bucket="no-such-bucket") == (404, "NoSuchBucket")
    assert [b["name"] for b in tenant.client.get("/v1/{project_id}/buckets")["buckets"]] == [name]
    mine.put_object(Bucket=name, Key="a.txt", Body=b"x")
    assert refused(mine.delete_bucket, Bucket=name) == (409, "BucketNotEmpty")
    mine.delete_object(Bucket=name, Key="a.txt")
    mine.delete_bucket(Bucket=name)
    assert mine.list_buckets()["Buckets"] == []
    of(stranger).create_bucket(Bucket=name)


def test_objects_are_put_read_ranged_copied_and_deleted(bucket: str, mine: Any, refused: Refused) -> None:
    body = bytes(range(256)) * 40
    put = mine.put_object(Bucket=bucket, Key="a/b.bin", Body=body, ContentType="image/x", Metadata={"made-by": "me"})
    assert put["ETag"].strip('"') == hashlib.md5(body).hexdigest()
    got = mine.get_object(Bucket=bucket, Key="a/b.bin")
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (body, "image/x", {"made-by": "me"})
    part = mine.get_object(Bucket=bucket, Key="a/b.bin", Range="bytes=10-19")
    assert (part["Body"].read(), part["ContentRange"]) == (body[10:20], f"bytes 10-19/{len(body)}")
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert refused(mine.get_object, Bucket=bucket, Key="a/b.bin", Range="bytes=99999-") == (416, "InvalidRange")
    head = mine.head_object(Bucket=bucket, Key="a/b.bin")
    assert (head["ContentLength"], head["ETag"]) == (len(body), put["ETag"])
    mine.copy_object(Bucket=bucket, Key="c d.bin", CopySource={"Bucket": bucket, "Key": "a/b.bin"})
    assert mine.get_object(Bucket=bucket, Key="c d.bin")["Body"].read() == body
    mine.delete_object(Bucket=bucket, Key="a/b.bin")
    assert refused(mine.get_object, Bucket=bucket, Key="a/b.bin") == (404, "NoSuchKey")
    assert refused(mine.head_object, Bucket=bucket, Key="a/b.bin")[0] == 404
    mine.put_object(Bucket=bucket, Key="empty", Body=b"")
    assert mine.get_object(Bucket=bucket, Key="empty")["Body"].read() == b""


ODD = [
    "plain.txt",
    "with space.txt",
    "a+b=c&d;e,f.txt",
    "percent%2Fencoded%20.txt",
    "umlaute-äöü.txt",
    "漢字/文件.jpg",
    "emoji-🙂.png",
    "quote'and\"double.txt",
    "brackets[1](2){3}.txt",
    "hash#question?.txt",
    "tilde~dot.star*colon:at@dollar$bang!.txt",
    "combining-e\u0301.txt",
    "<xml>&amp;.txt",
]


@pytest.mark.parametrize("key", ODD)
def test_odd_keys_are_what_they_are(bucket: str, mine: Any, key: str) -> None:
    mine.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert mine.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [o["Key"] for o in mine.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    url = mine.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
    assert httpx.get(url).content == key.encode()
    mine.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    answer = mine.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}, {"Key": "copy"}]})
    assert {d["Key"] for d in answer["Deleted"]} == {key, "copy"}
    assert "Contents" not in mine.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("key", ["a/../b", "../other/b", "./a", "a//b", "/a", "a\x01b"])
def test_keys_that_climb_are_refused(bucket: str, mine: Any, key: str, refused: Refused) -> None:
    assert refused(mine.put_object, Bucket=bucket, Key=key, Body=b"x") == (400, "InvalidArgument")


def test_a_folder_is_not_overwritten_by_an_object(bucket: str, mine: Any, refused: Refused) -> None:
    mine.put_object(Bucket=bucket, Key="folder/x.txt", Body=b"x")
    assert refused(mine.put_object, Bucket=bucket, Key="folder", Body=b"y") == (400, "InvalidArgument")
    assert refused(mine.put_object, Bucket=bucket, Key="folder/x.txt/y.txt", Body=b"y") == (400, "InvalidArgument")
    assert mine.get_object(Bucket=bucket, Key="folder/x.txt")["Body"].read() == b"x"


def test_listings_have_prefixes_delimiters_and_pages(bucket: str, mine: Any) -> None:
    keys = [f"{folder}/{i:02}.txt" for folder in ("a", "b b") for i in range(6)]
    for key in keys:
        mine.put_object(Bucket=bucket, Key=key, Body=b"x")
    pages = mine.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 5})
    assert [o["Key"] for page in pages for o in page["Contents"]] == keys
    old = mine.get_paginator("list_objects").paginate(Bucket=bucket, PaginationConfig={"PageSize": 5})
    assert [o["Key"] for page in old for o in page["Contents"]] == keys
    folders = mine.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in folders["CommonPrefixes"]] == ["a/", "b b/"]
    assert mine.list_objects_v2(Bucket=bucket, Prefix="b b/")["KeyCount"] == 6
    after = mine.list_objects_v2(Bucket=bucket, StartAfter="b b/03.txt")["Contents"]
    assert [o["Key"] for o in after] == ["b b/04.txt", "b b/05.txt"]


def test_what_a_user_may_do_is_what_its_policies_say(tenant: Tenant, bucket: str, mine: Any, refused: Refused) -> None:
    mine.put_object(Bucket=bucket, Key="in/a.txt", Body=b"a")
    mine.put_object(Bucket=bucket, Key="out/b.txt", Body=b"b")
    user = tenant.user(
        [
            {
                "Version": "1.1",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Action": ["obs:object:GetObject"],
                        "Resource": [f"obs:*:*:object:{bucket}/in/*"],
                    },
                    {
                        "Effect": "Allow",
                        "Action": ["obs:object:PutObject", "obs:object:DeleteObject"],
                        "Resource": [f"obs:*:*:object:{bucket}/new/*"],
                    },
                    {
                        "Effect": "Allow",
                        "Action": ["obs:bucket:ListBucket"],
                        "Resource": [f"obs:*:*:bucket:{bucket}"],
                        "Condition": {"StringStartWith": {"obs:prefix": ["in/"]}},
                    },
                ],
            }
        ]
    )
    client, denied = of(user), (403, "AccessDenied")
    assert client.get_object(Bucket=bucket, Key="in/a.txt")["Body"].read() == b"a"
    assert refused(client.get_object, Bucket=bucket, Key="out/b.txt") == denied
    assert refused(client.put_object, Bucket=bucket, Key="in/c.txt", Body=b"c") == denied
    client.put_object(Bucket=bucket, Key="new/c.txt", Body=b"c")
    client.copy_object(Bucket=bucket, Key="new/a.txt", CopySource=f"{bucket}/in/a.txt")
    copied = refused(client.copy_object, Bucket=bucket, Key="new/b.txt", CopySource=f"{bucket}/out/b.txt")
    assert copied == denied
    assert refused(client.copy_object, Bucket=bucket, Key="in/b.txt", CopySource=f"{bucket}/in/a.txt") == denied
    assert [o["Key"] for o in client.list_objects_v2(Bucket=bucket, Prefix="in/")["Contents"]] == ["in/a.txt"]
    assert refused(client.list_objects_v2, Bucket=bucket) == denied
    assert refused(client.list_objects_v2, Bucket=bucket, Prefix="out/") == denied
    assert refused(client.list_buckets) == denied
    assert refused(client.head_bucket, Bucket=bucket)[0] == 403
    assert refused(client.create_bucket, Bucket=f"x{bucket}") == denied
    assert refused(client.delete_bucket, Bucket=bucket) == denied
    assert refused(client.create_multipart_upload, Bucket=bucket, Key="in/x") == denied
    answer = client.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": "new/c.txt"}, {"Key": "out/b.txt"}, {"Key": "new/never"}]}
    )
    assert {d["Key"] for d in answer["Deleted"]} == {"new/c.txt", "new/never"}
    assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [("out/b.txt", "AccessDenied")]
    assert mine.get_object(Bucket=bucket, Key="out/b.txt")["Body"].read() == b"b"


def test_a_listing_is_of_the_prefix_that_was_checked(tenant: Tenant, bucket: str, mine: Any) -> None:
    mine.put_object(Bucket=bucket, Key="secret/x.txt", Body=b"x")
    only_own = {
        "Effect": "Allow",
        "Action": ["obs:bucket:ListBucket"],
        "Condition": {"StringEquals": {"obs:prefix": ["own/"]}},
    }
    user = tenant.user([{"Version": "1.1", "Statement": [only_own]}])

    def listed(query: str) -> httpx.Response:
        request = AWSRequest("GET", f"{tenant.running.url}/s3/{bucket}?{query}")
        S3SigV4Auth(Credentials(user.access_key, user.secret_key), "s3", "us-east-1").add_auth(request)
        return httpx.get(str(request.url), headers=dict(request.headers))

    assert listed("prefix=own%2F").status_code == 200
    assert listed("prefix=secret%2F").status_code == 403
    for twice in ("prefix=secret%2F&prefix=own%2F", "prefix=own%2F&prefix=secret%2F"):
        assert (answer := listed(twice)).status_code == 400
        assert "secret/x.txt" not in answer.text


def test_strangers_get_nothing(bucket: str, mine: Any, stranger: Tenant, refused: Refused) -> None:
    mine.put_object(Bucket=bucket, Key="a.txt", Body=b"a")
    other, denied = of(stranger), (403, "AccessDenied")
    theirs = stranger.create_bucket()
    assert bucket not in [b["Name"] for b in other.list_buckets()["Buckets"]]
    assert refused(other.get_object, Bucket=bucket, Key="a.txt") == denied
    assert refused(other.list_objects_v2, Bucket=bucket) == denied
    assert refused(other.put_object, Bucket=bucket, Key="b.txt", Body=b"b") == denied
    assert refused(other.copy_object, Bucket=theirs, Key="b.txt", CopySource=f"{bucket}/a.txt") == denied
    assert refused(other.delete_bucket, Bucket=bucket) == denied
    errors = other.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a.txt"}]})["Errors"]
    assert [e["Code"] for e in errors] == ["AccessDenied"]
    assert mine.get_object(Bucket=bucket, Key="a.txt")["Body"].read() == b"a"


def test_a_temporary_key_is_limited_to_its_session_policy(
    tenant: Tenant, bucket: str, mine: Any, refused: Refused
) -> None:
    mine.put_object(Bucket=bucket, Key="in/a.txt", Body=b"a")
    mine.put_object(Bucket=bucket, Key="out/b.txt", Body=b"b")
    everything = temporary(tenant)
    assert everything.get_object(Bucket=bucket, Key="out/b.txt")["Body"].read() == b"b"
    limited = temporary(
        tenant,
        {"Effect": "Allow", "Action": ["obs:object:*"], "Resource": [f"obs:*:*:object:{bucket}/in/*"]},
    )
    assert limited.get_object(Bucket=bucket, Key="in/a.txt")["Body"].read() == b"a"
    limited.put_object(Bucket=bucket, Key="in/new.txt", Body=b"n")
    for call, arguments in (
        (limited.get_object, {"Bucket": bucket, "Key": "out/b.txt"}),
        (limited.put_object, {"Bucket": bucket, "Key": "out/c.txt", "Body": b"c"}),
        (limited.list_objects_v2, {"Bucket": bucket}),
        (limited.list_buckets, {}),
    ):
        assert refused(call, **arguments) == (403, "AccessDenied")


def test_presigned_urls_of_a_temporary_key_work_and_end_with_it(tenant: Tenant, bucket: str, refused: Refused) -> None:
    client = temporary(tenant)
    put = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "p.txt"}, ExpiresIn=3600)
    get = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "p.txt"}, ExpiresIn=3600)
    assert httpx.put(put, content=b"hello").status_code == 200
    assert httpx.get(get).content == b"hello"
    assert httpx.get(put).status_code == 403
    assert httpx.get(get.replace("p.txt", "q.txt")).status_code == 403
    assert httpx.get(get + "&response-content-type=text/html").status_code == 403
    move_clock(901_000)
    try:
        gone = httpx.get(get)
        assert gone.status_code == 403
        assert "<Code>ExpiredToken</Code>" in gone.text
        assert refused(client.get_object, Bucket=bucket, Key="p.txt") == (403, "ExpiredToken")
    finally:
        move_clock(-901_000)


def test_a_presigned_url_cannot_be_made_to_copy_another_object(tenant: Tenant, bucket: str, mine: Any) -> None:
    mine.put_object(Bucket=bucket, Key="secret.txt", Body=b"secret")
    put = mine.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "inbox.txt"})
    answer = httpx.put(put, headers={"x-amz-copy-source": f"/{bucket}/secret.txt"})
    assert (answer.status_code, "x-amz-copy-source must be signed" in answer.text) == (403, True)
    assert [o["Key"] for o in mine.list_objects_v2(Bucket=bucket)["Contents"]] == ["secret.txt"]
    described = {"Bucket": bucket, "Key": "inbox.txt", "Metadata": {"color": "blue"}}
    put = mine.generate_presigned_url("put_object", Params=described)
    assert httpx.put(put, content=b"x", headers={"x-amz-meta-color": "blue"}).status_code == 200
    assert mine.head_object(Bucket=bucket, Key="inbox.txt")["Metadata"] == {"color": "blue"}


def test_a_presigned_url_expires(tenant: Tenant, bucket: str) -> None:
    url = f"{tenant.running.url}/s3/{bucket}/x.txt"

    def presigned(signed_ago_s: int, expires: int) -> httpx.Response:
        request = AWSRequest("GET", url)
        signer = S3SigV4QueryAuth(Credentials(tenant.access_key, tenant.secret_key), "s3", "us-east-1", expires=expires)
        from unittest import mock  # only the signer's clock is moved

        then = time.gmtime(time.time() - signed_ago_s)
        with mock.patch("botocore.auth.get_current_datetime") as now:
            import datetime

            now.return_value = datetime.datetime(*then[:6])
            signer.add_auth(request)
        return httpx.get(str(request.url))

    assert presigned(0, 60).status_code == 404
    assert presigned(50, 60).status_code == 404
    late = presigned(61, 60)
    assert (late.status_code, "expired" in late.text) == (403, True)
    assert presigned(-3600, 60).status_code == 403
    assert presigned(0, 604801).status_code == 403


def test_an_agency_reaches_only_what_it_was_given(
    running: RunningPlatform, tenant: Tenant, stranger: Tenant, bucket: str, mine: Any, refused: Refused
) -> None:
    mine.put_object(Bucket=bucket, Key="shared/a.txt", Body=b"a")
    mine.put_object(Bucket=bucket, Key="own/b.txt", Body=b"b")
    statement = {
        "Effect": "Allow",
        "Action": ["obs:object:GetObject"],
        "Resource": [f"obs:*:*:object:{bucket}/shared/*"],
    }

    async def make() -> None:
        async with running.platform().database.transaction() as tx:
            agency = Agency(account_id=tenant.account_id, name="reader", trusted_account_id=stranger.account_id)
            document = {"Version": "1.1", "Statement": [statement]}
            policy = Policy(account_id=tenant.account_id, name="shared", document=document)
            tx.session.add_all([agency, policy])
            await tx.session.flush()
            tx.session.add(PolicyGrant(policy_id=policy.id, agency_id=agency.id))

    running.run(make())
    role = {"agency_name": "reader", "domain_name": tenant.name}
    identity = {"methods": ["assume_role"], "assume_role": role}
    key = stranger.client.post("/v3.0/OS-CREDENTIAL/securitytokens", {"auth": {"identity": identity}})["credential"]
    client = s3(running, key["access"], key["secret"], key["securitytoken"])
    assert client.get_object(Bucket=bucket, Key="shared/a.txt")["Body"].read() == b"a"
    assert refused(client.get_object, Bucket=bucket, Key="own/b.txt") == (403, "AccessDenied")
    theirs = stranger.create_bucket()
    assert refused(client.list_objects_v2, Bucket=theirs) == (403, "AccessDenied")


def test_wrong_credentials_are_refused(tenant: Tenant, stranger: Tenant, bucket: str, refused: Refused) -> None:
    running, list_ = tenant.running, {"Bucket": bucket}
    good = temporary(tenant)._request_signer._credentials
    other = temporary(stranger)._request_signer._credentials
    wrong = s3(running, tenant.access_key, "guess")
    assert refused(wrong.list_objects_v2, **list_) == (403, "SignatureDoesNotMatch")
    assert refused(s3(running, "NOSUCHKEY", "guess").list_objects_v2, **list_) == (403, "InvalidAccessKeyId")
    untold = s3(running, good.access_key, good.secret_key)
    assert refused(untold.list_objects_v2, **list_) == (403, "InvalidAccessKeyId")
    borrowed = s3(running, good.access_key, good.secret_key, other.token)
    assert refused(borrowed.list_objects_v2, **list_) == (403, "InvalidToken")
    tampered = s3(running, good.access_key, good.secret_key, good.token[:-8] + "AAAAAAAA")
    assert refused(tampered.list_objects_v2, **list_) == (403, "InvalidToken")
    anonymous = httpx.get(f"{running.url}/s3/{bucket}")
    assert (anonymous.status_code, "<Code>AccessDenied</Code>" in anonymous.text) == (401, True)
    assert httpx.get(f"{running.url}/s3/{bucket}", headers={"Authorization": "AWS4-HMAC-SHA256 x"}).status_code == 403


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("get_bucket_acl", {}),
        ("get_bucket_policy", {}),
        ("get_bucket_versioning", {}),
        ("get_bucket_tagging", {}),
        ("get_bucket_lifecycle_configuration", {}),
        ("get_object_acl", {"Key": "k"}),
        ("get_object_tagging", {"Key": "k"}),
        ("put_object", {"Key": "k", "Body": b"x", "Tagging": "a=b"}),
        ("put_object", {"Key": "k", "Body": b"x", "ACL": "public-read"}),
        ("put_object", {"Key": "k", "Body": b"x", "IfNoneMatch": "*"}),
        ("get_object", {"Key": "k", "VersionId": "1"}),
        ("delete_object", {"Key": "k", "VersionId": "1"}),
    ],
)
def test_what_is_not_offered_says_so(
    bucket: str, mine: Any, call: str, arguments: dict[str, Any], refused: Refused
) -> None:
    assert refused(getattr(mine, call), Bucket=bucket, **arguments) == (501, "NotImplemented")


@pytest.mark.parametrize("body", [b"", b"<Delete/>", b"<x", b'<!DOCTYPE a [<!ENTITY b "c">]><Delete/>', b"\xff"])
def test_a_broken_multi_delete_is_refused(tenant: Tenant, bucket: str, body: bytes) -> None:
    request = AWSRequest("POST", f"{tenant.running.url}/s3/{bucket}?delete", data=body)
    S3SigV4Auth(Credentials(tenant.access_key, tenant.secret_key), "s3", "us-east-1").add_auth(request)
    answer = httpx.post(str(request.url), headers=dict(request.headers.items()), content=body)
    assert (answer.status_code, "MalformedXML" in answer.text) == (400, True), answer.text


def test_allowed_operations_on_objects_leave_no_events(
    tenant: Tenant, bucket: str, mine: Any, refused: Refused
) -> None:
    mine.put_object(Bucket=bucket, Key="quiet.txt", Body=b"x")
    mine.delete_object(Bucket=bucket, Key="quiet.txt")
    refused(of(tenant.user()).get_object, Bucket=bucket, Key="quiet.txt")
    mine.create_bucket(Bucket=f"c{bucket}")

    async def paths() -> list[str]:
        found = tenant.running.platform().bus.tail("evt.*.core.api.called.v1", sequence=1, follow=False)
        return [e.data["path"] async for e in found if e.data["account_id"] == tenant.account_id]

    from bottega.testing import wait_until

    seen = wait_until(lambda: p if len(p := tenant.running.run(paths())) >= 2 else [])
    assert [p for p in seen if p.startswith("/s3/")] == [f"/s3/{bucket}/quiet.txt", f"/s3/c{bucket}"]
