"""The S3 store against two real servers of different origin, and what it says when there is none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from bottega.embedded import EmbeddedObjectStore
from bottega.errors import Invalid, StorageFull, Unavailable
from bottega.objects import ObjectPath
from bottega.testing.conformance.object_store import ObjectStoreContract
from bottega_dataset.s3 import S3Store


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class TestEmbeddedServer(ObjectStoreContract):
    @pytest.fixture
    async def store(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[S3Store]:
        server = EmbeddedObjectStore(tmp_path_factory.mktemp("objects"))
        await server.start()
        yield S3Store(
            endpoint=server.endpoint,
            region="us-east-1",
            access_key=server.access_key,
            secret_key=server.secret_key,
            keeps_files=True,
        )
        await server.stop()


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory, port = tmp_path_factory.mktemp("swift"), free_port()
    script = Path(__file__).with_name("swift_server.py")
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script), str(directory), str(port)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(url)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "Swift did not answer within 30 s"
                assert server.poll() is None, "Swift ended at once"
                time.sleep(0.1)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


class TestSwift(ObjectStoreContract):
    listing_size = 120  # in pages of 50: it takes about 20 small objects a second

    @pytest.fixture
    async def store(self, swift: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
        monkeypatch.setattr("bottega_dataset.s3._LIST_AT_ONCE", 50)
        return S3Store(endpoint=swift, region="us-east-1", access_key="app:admin", secret_key="a-secret")


@pytest.mark.anyio
async def test_no_server() -> None:
    store = S3Store(endpoint=f"http://127.0.0.1:{free_port()}", region="us-east-1", access_key="a", secret_key="b")
    with pytest.raises(Unavailable, match="does not answer"):
        await store.get(ObjectPath("bucket", "key"))


@pytest.mark.anyio
async def test_wrong_keys_are_the_operators_business(tmp_path: Path) -> None:
    server = EmbeddedObjectStore(tmp_path)
    await server.start()
    store = S3Store(endpoint=server.endpoint, region="us-east-1", access_key=server.access_key, secret_key="wrong")
    with pytest.raises(Unavailable, match="refuses the platform's own keys"):
        await store.list_buckets()
    await server.stop()


@pytest.mark.anyio
async def test_a_bucket_name_s3_does_not_take() -> None:
    store = S3Store(endpoint="http://127.0.0.1:1", region="us-east-1", access_key="a", secret_key="b")
    with pytest.raises(Invalid):
        await store.get(ObjectPath("no such/bucket", "key"))


@pytest.mark.anyio
async def test_a_full_store_says_so() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Full(BaseHTTPRequestHandler):
        """Answers a write as the embedded server does when its disk is full."""

        def do_PUT(self) -> None:
            text = b"<Error><Code>InternalError</Code><Message>Internal Error</Message></Error>"
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(500)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = HTTPServer(("127.0.0.1", 0), Full)
    Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    store = S3Store(endpoint=endpoint, region="us-east-1", access_key="a", secret_key="b")
    with pytest.raises(StorageFull, match="no space left in the object store"):
        await store.put(ObjectPath("bucket", "key"), b"data")
    server.shutdown()
    server.server_close()
