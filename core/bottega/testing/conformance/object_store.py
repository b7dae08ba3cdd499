"""What every object store must do. Subclass it and give it a store::

class TestMyStore(ObjectStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[ObjectStore]:
        yield MyStore(...)
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import anyio
import httpx
import pytest

from bottega.errors import Conflict, Invalid, NotFound
from bottega.objects import ObjectPath, ObjectStore

LARGE = 65 * 2**20 + 1
"""Bytes; more than any store takes in one part of an upload."""


@pytest.mark.anyio
class ObjectStoreContract:
    """Tests of ``bottega.objects.ObjectStore``. The fixture `store` gives one; each test uses a bucket of its own."""

    listing_size = 1050
    """How many objects the test of long listings makes: more than one page (of S3: 1000)."""

    @pytest.fixture
    async def store(self) -> ObjectStore:
        raise NotImplementedError("a subclass gives the store to be tested")

    @pytest.fixture
    async def bucket(self, store: ObjectStore) -> ObjectPath:
        """A fresh bucket."""
        name = f"contract-{uuid.uuid4().hex[:12]}"
        await store.create_bucket(name)
        return ObjectPath(name)

    async def keys(
        self, store: ObjectStore, folder: ObjectPath, start_after: str = "", limit: int | None = None
    ) -> list[str]:
        return [info.path.key async for info in store.list(folder, start_after=start_after, limit=limit)]

    async def test_buckets_are_made_once_and_listed(self, store: ObjectStore, bucket: ObjectPath) -> None:
        assert bucket.bucket in await store.list_buckets()
        with pytest.raises(Conflict):
            await store.create_bucket(bucket.bucket)

    async def test_what_is_put_can_be_read(self, store: ObjectStore, bucket: ObjectPath) -> None:
        path = bucket / "folder/data.bin"
        before = time.time() * 1000
        etag = await store.put(path, b"some bytes", "text/plain")
        assert await store.get(path) == b"some bytes"
        info = await store.head(path)
        assert (info.path, info.size, info.etag) == (path, 10, etag)
        assert abs(info.modified_at - before) < 60_000
        assert [i.etag async for i in store.list(bucket)] == [etag]
        await store.put(path, b"others")
        assert await store.get(path) == b"others"
        assert (await store.head(path)).size == 6

    async def test_an_empty_object(self, store: ObjectStore, bucket: ObjectPath) -> None:
        await store.put(bucket / "empty", b"")
        assert await store.get(bucket / "empty") == b""
        assert (await store.head(bucket / "empty")).size == 0

    async def test_ranges_are_inclusive(self, store: ObjectStore, bucket: ObjectPath) -> None:
        path = bucket / "digits"
        await store.put(path, b"0123456789")
        assert await store.get(path, 2, 4) == b"234"
        assert await store.get(path, 7) == b"789"
        assert await store.get(path, 8, 100) == b"89"
        with pytest.raises(Invalid):
            await store.get(path, 10, 12)

    async def test_what_is_not_there(self, store: ObjectStore, bucket: ObjectPath, tmp_path: Path) -> None:
        nowhere = ObjectPath(f"missing-{uuid.uuid4().hex[:12]}", "key")
        for path in (bucket / "missing", nowhere):
            with pytest.raises(NotFound):
                await store.get(path)
            with pytest.raises(NotFound):
                await store.head(path)
            with pytest.raises(NotFound):
                await store.download(path, tmp_path / "out")
        with pytest.raises(NotFound):
            await store.put(nowhere, b"x")
        with pytest.raises(NotFound):
            await self.keys(store, ObjectPath(nowhere.bucket))
        assert list(tmp_path.iterdir()) == []

    async def test_deleting(self, store: ObjectStore, bucket: ObjectPath) -> None:
        paths = [bucket / f"d/{n}" for n in range(5)]
        for path in paths:
            await store.put(path, b"x")
        await store.delete([*paths[:3], bucket / "never-there"])
        assert await self.keys(store, bucket) == ["d/3", "d/4"]
        await store.delete(paths)
        await store.delete([])
        assert await self.keys(store, bucket) == []

    async def test_listing_is_in_key_order_under_a_prefix(self, store: ObjectStore, bucket: ObjectPath) -> None:
        names = ["B", "a/1.jpg", "a/1.txt", "a/10.jpg", "a/b/c", "a-b", "a.b", "ab", "ä"]
        for name in reversed(names):
            await store.put(bucket / name, b"x")
        assert await self.keys(store, bucket) == sorted(names, key=lambda n: n.encode())
        assert await self.keys(store, bucket / "a/") == ["a/1.jpg", "a/1.txt", "a/10.jpg", "a/b/c"]
        assert await self.keys(store, bucket / "a/", start_after="a/1.jpg", limit=2) == ["a/1.txt", "a/10.jpg"]
        assert await self.keys(store, bucket / "a/", start_after="a/b/c") == []
        assert await self.keys(store, bucket / "nothing/") == []

    async def test_a_long_listing_is_whole(self, store: ObjectStore, bucket: ObjectPath) -> None:
        names = [f"many/{n:05d}" for n in range(self.listing_size)]
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(store.put, bucket / name, b"x")
        assert await self.keys(store, bucket / "many/") == names
        assert await self.keys(store, bucket / "many/", start_after=names[9]) == names[10:]
        assert await self.keys(store, bucket / "many/", limit=len(names) - 5) == names[:-5]

    @pytest.mark.parametrize(
        "name", ["with space", "plus+and%25percent", "quest?ion#hash", "猫/狗.jpg", "a&b=c;d", "tilde~'quote"]
    )
    async def test_odd_names(self, store: ObjectStore, bucket: ObjectPath, name: str) -> None:
        path = bucket / name
        await store.put(path, name.encode())
        assert await store.get(path) == name.encode()
        assert await self.keys(store, bucket) == [name]
        async with httpx.AsyncClient() as http:
            assert (await http.get(store.presign("GET", path))).content == name.encode()
        await store.delete([path])
        assert await self.keys(store, bucket) == []

    async def test_files_small_and_in_parts(self, store: ObjectStore, bucket: ObjectPath, tmp_path: Path) -> None:
        for size in (0, 1000, LARGE):
            source, back = tmp_path / "source", tmp_path / "back"
            source.write_bytes((b"%09d\n" % size) * (size // 10) + b"." * (size % 10))
            await store.upload(source, bucket / "file")
            assert (await store.head(bucket / "file")).size == size
            await store.download(bucket / "file", back)
            assert back.read_bytes() == source.read_bytes()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "source"]

    async def test_presigned_urls_open_one_object_for_one_thing_for_a_while(
        self, store: ObjectStore, bucket: ObjectPath
    ) -> None:
        await store.put(bucket / "open", b"yes")
        await store.put(bucket / "shut", b"no")
        async with httpx.AsyncClient() as http:
            url = store.presign("GET", bucket / "open", 60)
            assert (await http.get(url)).content == b"yes"
            assert (await http.get(url.replace("/open?", "/shut?"))).status_code in (400, 403)
            assert (await http.put(url, content=b"changed")).status_code in (400, 403)
            assert (await http.get(url.partition("?")[0])).status_code in (400, 401, 403)
            assert (await http.put(store.presign("PUT", bucket / "new"), content=b"sent")).status_code == 200
            assert await store.get(bucket / "new") == b"sent"
            brief = store.presign("GET", bucket / "open", 1)
            deadline = time.monotonic() + 15
            while (await http.get(brief)).status_code == 200:
                assert time.monotonic() < deadline, "a URL for 1 s still works after 15 s"
                await anyio.sleep(0.5)
        with pytest.raises(Invalid):
            store.presign("DELETE", bucket / "open")

    async def test_a_key_that_is_also_a_folder_is_kept_or_clearly_refused(
        self, store: ObjectStore, bucket: ObjectPath
    ) -> None:
        await store.put(bucket / "both/inside", b"inside")
        await store.put(bucket / "file", b"file")
        for path in (bucket / "both", bucket / "file/below"):
            refusal = ""
            try:
                await store.put(path, b"new")
            except Invalid as e:
                refusal = e.message
            assert str(path) in refusal or await store.get(path) == b"new"
        assert await store.get(bucket / "both/inside") == b"inside"
        assert await store.get(bucket / "file") == b"file"
        assert {"both/inside", "file"} <= set(await self.keys(store, bucket))
