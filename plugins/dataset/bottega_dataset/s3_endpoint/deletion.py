"""Deleting many objects in one request: each key is checked by itself, and refused ones do not hold up the others."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from fastapi.responses import Response

from bottega.errors import ApiError, Unavailable
from bottega.gateway import Caller
from bottega.objects import ObjectPath
from bottega_dataset import buckets

from . import errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .upstream import Upstream

_MOST = 1000
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


async def delete(upstream: Upstream, caller: Caller, bucket: str, document: bytes) -> tuple[Response, list[str]]:
    """The answer, and the keys that are gone. Raises S3Error for a document that is no ``Delete`` of 1 to 1000 keys."""
    keys, quiet = _read(document)
    allowed, failed = [], []
    for key in keys:
        try:
            path = ObjectPath.parse(f"s3://{bucket}/{key}", "key")
            await buckets.check(caller, "obs:object:DeleteObject", bucket, path.key)
            allowed.append(key)
        except ApiError as e:
            failed.append((key, errors.named(e)[0], e.message))
    if allowed:
        failed += await _delete(upstream, bucket, allowed)
    refused = {key for key, _, _ in failed}
    deleted = [] if quiet else [key for key in keys if key not in refused]
    xml = "".join(f"<Deleted><Key>{errors.text(key)}</Key></Deleted>" for key in deleted) + "".join(
        f"<Error><Key>{errors.text(key)}</Key><Code>{code}</Code><Message>{errors.text(message)}</Message></Error>"
        for key, code, message in failed
    )
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    answer = Response(f'{head}<DeleteResult xmlns="{_NAMESPACE}">{xml}</DeleteResult>', media_type="application/xml")
    return answer, [key for key in keys if key not in refused]


async def _delete(upstream: Upstream, bucket: str, keys: Iterable[str]) -> list[tuple[str, str, str]]:
    """Delete in the store; returns key, code and message of each that it did not delete."""
    inside = "".join(f"<Object><Key>{errors.text(key)}</Key></Object>" for key in keys)
    document = f'<Delete xmlns="{_NAMESPACE}"><Quiet>true</Quiet>{inside}</Delete>'.encode()
    digest = base64.b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()
    headers = {"content-type": "application/xml", "content-md5": digest, "content-length": str(len(document))}
    answer = await upstream.send("POST", f"/{bucket}", [("delete", "")], headers, document)
    content = await answer.aread()
    if answer.status_code != 200:
        raise Unavailable(f"the object store failed to delete: {answer.status_code}")
    found = []
    for entry in _parse(content).iter():
        if entry.tag.rpartition("}")[2] == "Error":
            said = {child.tag.rpartition("}")[2]: child.text or "" for child in entry}
            if said.get("Code") not in ("NoSuchKey", "404"):
                found.append((said.get("Key", ""), said.get("Code", "InternalError"), said.get("Message", "")))
    return found


def _read(document: bytes) -> tuple[list[str], bool]:
    try:
        root = _parse(document)
    except ElementTree.ParseError as e:
        raise errors.S3Error("MalformedXML", f"the body is not XML: {e}") from e
    keys, quiet = [], False
    for child in root:
        name = child.tag.rpartition("}")[2]
        if name == "Quiet":
            quiet = (child.text or "").strip().lower() == "true"
        elif name == "Object":
            fields = {field.tag.rpartition("}")[2]: field.text or "" for field in child}
            if fields.get("VersionId"):
                raise errors.S3Error("NotImplemented", "versions of objects are not offered here")
            keys.append(fields.get("Key", ""))
    if root.tag.rpartition("}")[2] != "Delete" or not 1 <= len(keys) <= _MOST or not all(keys):
        raise errors.S3Error("MalformedXML", f"the body must be a Delete of 1 to {_MOST} objects, each with its Key")
    return keys, quiet


def _parse(document: bytes) -> ElementTree.Element:
    if b"<!" in document:
        # Without declarations there are no entities to expand.
        raise ElementTree.ParseError("declarations are not taken")
    return ElementTree.fromstring(document)  # noqa: S314  # no declarations, see above
