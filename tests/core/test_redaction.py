"""What the record of a request may show: never a secret, whatever its place, and never more than it may."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.redaction import HIDDEN, KEPT, describe

SECRET = "s3cr3t-of-mine"


def body(value: Any) -> Any:
    found = describe({}, b"", orjson.dumps(value))
    assert found is not None
    return found["body"]


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "Password",
        "original_password",
        "passphrase",
        "secret",
        "secret_key",
        "secretAccessKey",
        "access",
        "access_key",
        "token",
        "X-Auth-Token",
        "security_token",
        "credential",
        "private_key",
        "privateKey",
        "api-key",
        "sk",
        "ak",
        "signature",
        "X-Amz-Signature",
        "Authorization",
        "cookie",
        "email",
        "phone",
        "mobile",
    ],
)
def test_what_is_called_a_secret_is_hidden_at_any_depth(name: str) -> None:
    assert body({name: SECRET, "name": "x"}) == {name: HIDDEN, "name": "x"}
    assert body([{"a": {name: [SECRET, {"b": SECRET}]}}]) == [{"a": {name: [HIDDEN, {"b": HIDDEN}]}}]
    assert describe({}, f"{name}={SECRET}&limit=3".encode(), None) == {"query": {name: HIDDEN, "limit": "3"}}


def test_names_and_ids_inside_a_secret_thing_are_shown() -> None:
    login = {"password": {"user": {"name": "ann", "password": SECRET, "domain": {"name": "acme"}}}}
    assert body(login) == {"password": {"user": {"name": "ann", "password": HIDDEN, "domain": {"name": "acme"}}}}
    assert body({"credential": {"user_id": "u1", "description": "ci"}}) == {
        "credential": {"user_id": "u1", "description": "ci"}
    }


def test_a_pair_that_names_a_secret_hides_its_value() -> None:
    assert body({"parameters": [{"name": "DB_PASSWORD", "value": SECRET}, {"name": "epochs", "value": "3"}]}) == {
        "parameters": [{"name": "DB_PASSWORD", "value": HIDDEN}, {"name": "epochs", "value": "3"}]
    }


def test_personal_data_and_logins_in_urls_are_hidden() -> None:
    assert body({"endpoint": "ann@example.com", "protocol": "email"}) == {"endpoint": HIDDEN, "protocol": "email"}
    assert body({"endpoint": "+86 138 0013 8000"}) == {"endpoint": HIDDEN}
    assert body({"url": f"https://ann:{SECRET}@git.example.com/x"}) == {"url": f"https://{HIDDEN}@git.example.com/x"}


def test_what_is_long_is_cut_after_the_secrets_are_gone() -> None:
    found = describe({"id": "1"}, b"q=" + b"y" * 5000, orjson.dumps({"a": SECRET * 5000, "password": SECRET}))
    assert found is not None
    assert len(found["body"]) == KEPT
    assert found["body_bytes"] > 5000
    assert len(found["query"]["q"]) < 300
    hidden = describe({}, b"", orjson.dumps({"password": SECRET * 5000}))
    assert hidden == {"body": {"password": HIDDEN}}


def test_what_is_no_json_is_not_kept() -> None:
    assert describe({}, b"", b"\x00\xff") == {"body": "[not kept: no JSON]"}
    assert describe({}, b"", b"[" * 100_000) == {"body": "[not kept: no JSON]"}
    assert describe({}, b"", b"x", "3 bytes of data") == {"body": "[not kept: 3 bytes of data]"}
    assert describe({}, b"", None) is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(plain, st.binary(max_size=50))
def test_whatever_comes_becomes_json_or_nothing(value: Any, query: bytes) -> None:
    try:
        raw = orjson.dumps({"x": value, "my_password": SECRET, "deep": [{"client_secret": {"v": SECRET}}]})
    except orjson.JSONEncodeError:  # a lone surrogate cannot come over the wire
        return
    found = describe({"id": "1"}, query, raw)
    assert SECRET not in orjson.dumps(found).decode()
