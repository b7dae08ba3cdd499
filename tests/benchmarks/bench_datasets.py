"""Datasets at scale: a manifest of 1,000,000 lines in and out, filters, labeling, publishing, comparing, uploading.

Everything goes through the API of ``bottega up`` in a process of its own. Beside the import stands a bare loop of JSON
parsing and ``executemany`` into the same database, beside the export a bare ``SELECT`` and JSON loop, beside the upload
bare boto3 with as many threads; in the same run, in turns, as medians. Memory is the highest sum of the resident sizes
of the platform's Python processes while it imports. On PostgreSQL import and export only.

Run: ``python tests/benchmarks/bench_datasets.py``; ``SAMPLES=50000 ROUNDS=1`` makes it short, ``POSTGRES=0`` leaves
PostgreSQL out. The exit status is 1 when a goal is missed.
"""

from __future__ import annotations

import os
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import psycopg

from bottega.testing.process import PlatformProcess
from bottega_dataset.client import Datasets

SAMPLES = int(os.environ.get("SAMPLES", 1_000_000))
ROUNDS = int(os.environ.get("ROUNDS", 3))
QUESTIONS = int(os.environ.get("QUESTIONS", 40))
LABELS = 10
IMAGES, IMAGE_BYTES, THREADS = 2000, 8 * 1024, 8
AT_ONCE = 10_000
BUCKET = "bench-datasets"
MANIFEST = f"s3://{BUCKET}/in.manifest"
ENVIRONMENT = {"BOTTEGA__SERVER__RATE_LIMIT": "1000000/second", "BOTTEGA__LOG__LEVEL": "warning"}
_failed = False


def report(what: str, measured: str, goal: str = "", *, met: bool = True) -> None:
    global _failed
    _failed |= not met
    print(f"{what:<58} {measured:<44} {goal}{'' if met else '  MISSED'}", flush=True)


def line(n: int) -> bytes:
    label = b"label-%d" % (n % LABELS)
    at = b"2019-01-%02d 11:30:%02d" % (n % 28 + 1, n % 60)
    said = (
        b'{"type":"modelarts/image_classification","name":"%s","annotated-by":"human","creation-time":"%s"}'
        % (label, at)
        if n % 20
        else b""
    )
    return b'{"source":"s3://%s/pictures/%03d/%08d.jpg","usage":"TRAIN","annotation":[%s]}\n' % (
        BUCKET.encode(),
        n % 1000,
        n,
        said,
    )


@contextmanager
def peak(platform: PlatformProcess) -> Iterator[list[float]]:
    """The highest resident size of the platform's Python processes together, in MB, while the block runs."""
    found, ended = [0.0], threading.Event()

    def watch() -> None:
        root = psutil.Process(platform.pid)
        while not ended.wait(0.05):
            total = 0
            for process in [root, *root.children(recursive=True)]:
                try:
                    if process.name().startswith("python"):
                        total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            found[0] = max(found[0], total / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rows_of(file: Path) -> Iterator[list[tuple[str, str, bytes]]]:
    """What a bare importer makes of a manifest."""
    rows = []
    with file.open("rb") as lines:
        for text in lines:
            data = orjson.loads(text)
            rows.append((data["source"], data.get("usage"), orjson.dumps(data.get("annotation"))))
            if len(rows) == AT_ONCE:
                yield rows
                rows = []
    yield rows


class Sqlite:
    """The platform's own database file, past the platform."""

    name = "SQLite"

    def __init__(self, data: Path) -> None:
        self._file = data / "bottega.db"

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, isolation_level=None, timeout=60)
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def import_bare(self, file: Path) -> None:
        connection = self._open()
        connection.execute("CREATE TABLE bench_bare (source TEXT, usage TEXT, annotation TEXT)")
        for rows in rows_of(file):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO bench_bare VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
        connection.close()

    def drop(self) -> None:
        connection = self._open()
        connection.execute("DROP TABLE bench_bare")
        connection.close()

    def rows(self, key: int) -> Iterator[tuple[Any, ...]]:
        connection = self._open()
        yield from connection.execute(SELECT.format(**span(key)))
        connection.close()


class Postgres:
    name = "PostgreSQL"

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://")

    def import_bare(self, file: Path) -> None:
        with psycopg.connect(self._url) as connection:
            connection.execute("CREATE TABLE bench_bare (source TEXT, usage TEXT, annotation TEXT)")
            for rows in rows_of(file):
                with connection.cursor() as cursor:
                    cursor.executemany(
                        "INSERT INTO bench_bare VALUES (%s, %s, %s)", [(a, b, c.decode()) for a, b, c in rows]
                    )
                connection.commit()

    def drop(self) -> None:
        with psycopg.connect(self._url) as connection:
            connection.execute("DROP TABLE bench_bare")

    def rows(self, key: int) -> Iterator[tuple[Any, ...]]:
        with psycopg.connect(self._url) as connection, connection.cursor("bench") as cursor:
            cursor.itersize = AT_ONCE
            cursor.execute(SELECT.format(**span(key)))
            yield from cursor


SELECT = """
SELECT s.key, s.sample_id, s.source, s.usage, l.name, a.annotated_by, a.created_at
FROM dataset_sample s LEFT JOIN dataset_annotation a ON a.sample_key = s.key LEFT JOIN dataset_label l
ON l.key = a.label_key WHERE s.key BETWEEN {first} AND {last} ORDER BY s.key
"""


def span(key: int) -> dict[str, int]:
    """The first and last key of the samples of a dataset."""
    return {"first": key << 32, "last": (key + 1 << 32) - 1}


def export_bare(database: Sqlite | Postgres, key: int, file: Path) -> None:
    written = 0
    with file.open("wb") as out:
        for _, ident, source, usage, name, by, at in database.rows(key):
            data = {"source": source, "usage": usage, "id": bytes(ident).hex()}
            if name is not None:
                moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at / 1000))
                data["annotation"] = [{"type": "modelarts/image_classification", "name": name, "annotated-by": by}]
                data["annotation"][0]["creation-time"] = moment
            out.write(orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE))
            written += 1
    assert written == SAMPLES


def in_and_out(platform: PlatformProcess, database: Sqlite | Postgres, manifest: Path, rounds: int) -> Datasets:
    """Import and export, each beside its bare loop. The datasets are called ``d0``, ``d1``, …"""
    datasets = Datasets(platform.client)
    took: dict[str, list[float]] = {"bare": [], "import": [], "bare out": [], "export": []}
    most, out = 0.0, manifest.with_suffix(".out")
    for n in range(rounds):
        took["bare"].append(timed(lambda: database.import_bare(manifest)))
        database.drop()
        datasets.create(f"d{n}", f"s3://{BUCKET}/work/")
        with peak(platform) as found:
            took["import"].append(timed(lambda n=n: datasets.import_from(f"d{n}", MANIFEST, import_type="manifest")))  # type: ignore[misc]
        most = max(most, found[0])
        took["bare out"].append(timed(lambda n=n: export_bare(database, n + 1, out)))  # type: ignore[misc]
        out.unlink()
        took["export"].append(timed(lambda n=n: datasets.export(f"d{n}", f"s3://{BUCKET}/out/")))  # type: ignore[misc]
    assert datasets.get("d0")["total_sample_count"] == SAMPLES
    middle = {name: statistics.median(seconds) for name, seconds in took.items()}
    for what, bare in (("import", "bare"), ("export", "bare out")):
        ratio = middle[bare] / middle[what]
        rates = f"{SAMPLES / middle[what]:,.0f}/s (bare {SAMPLES / middle[bare]:,.0f}/s), {ratio:.2f} of bare"
        report(f"{database.name}: manifest of {SAMPLES:,} lines, {what}", rates, ">= 0.5", met=ratio >= 0.5)
    report(f"{database.name}: memory while importing", f"{most:.0f} MB", "<= 512 MB", met=most <= 512)
    return datasets


def questions() -> Mapping[str, Callable[[random.Random], dict[str, Any]]]:
    """Parameters of a first page, by what is asked; each time with other values."""

    def search(**condition: Any) -> dict[str, Any]:
        return {"search_conditions": orjson.dumps([condition]).decode()}

    return {
        "all": lambda r: {},
        "labeled": lambda r: {"sample_state": "__ALL__"},
        "unlabeled": lambda r: {"sample_state": "__NONE__"},
        "label": lambda r: {"label_name": f"label-{r.randrange(LABELS)}"},
        "label nobody bears": lambda r: {"label_name": f"nothing-{r.random()}"},
        "name": lambda r: search(sample_name=f"{r.randrange(SAMPLES):08d}.jpg"),
        "name that is not there": lambda r: search(sample_name=f"x{r.randrange(SAMPLES)}"),
        "folder": lambda r: search(sample_dir=f"/{BUCKET}/pictures/{r.randrange(1000):03d}/"),
        "hard": lambda r: search(hard="1"),
        "annotator": lambda r: search(labeler="human"),
        "annotator who did nothing": lambda r: search(labeler=f"nobody-{r.random()}"),
        "confidence": lambda r: search(score="0.2,0.9"),
        "time": lambda r: search(sample_time="week"),
        "two labels": lambda r: search(label_list={"labels": [{"name": "label-1"}, {"name": "label-2"}], "op": "OR"}),
    }


def pages(datasets: Datasets, platform: PlatformProcess, name: str) -> None:
    client, rng = platform.client, random.Random(20261127)
    where = f"/v2/{{project_id}}/datasets/{datasets.get(name)['dataset_id']}/data-annotations"
    for what, make in questions().items():
        took = [timed(lambda: client.get(f"{where}/samples", make(rng))) * 1000 for _ in range(QUESTIONS)]  # noqa: B023
        p95 = statistics.quantiles(took, n=20)[18] if len(took) > 1 else took[0]
        measured = f"p50 {statistics.median(took):.1f} ms, p95 {p95:.1f} ms"
        report(f"first page of 10: {what}", measured, "p95 <= 100 ms", met=p95 <= 100)
    took = [timed(lambda: client.get(f"{where}/stats")) * 1000 for _ in range(5)]
    measured = f"{statistics.median(took):.0f} ms"
    report("counts by label", measured, "<= 300 ms", met=statistics.median(took) <= 300)


def versions(datasets: Datasets, platform: PlatformProcess, name: str) -> None:
    client = platform.client
    where = f"/v2/{{project_id}}/datasets/{datasets.get(name)['dataset_id']}"
    first = {}
    seconds = timed(lambda: first.update(datasets.publish(name, train_ratio=0.8, timeout_s=1200)))
    report("publish, split 80:20", f"{seconds:.1f} s", "<= 60 s", met=seconds <= 60)
    some: list[str] = []
    after: str | None = None
    while len(some) < min(AT_ONCE, SAMPLES // 2):
        page = client.get(
            f"{where}/data-annotations/samples", {"limit": 1000, "after_sample_id": after, "count": "none"}
        )
        some += [s["sample_id"] for s in page["samples"]]
        after = some[-1]
    body = {"samples": [{"sample_id": one, "labels": [{"name": "label-0"}]} for one in some]}
    seconds = timed(lambda: client.put(f"{where}/data-annotations/samples", body))
    report(f"label {len(some):,} samples in one call", f"{seconds:.2f} s", "<= 2 s", met=seconds <= 2)
    second = {}
    seconds = timed(lambda: second.update(datasets.publish(name, train_ratio=0.8, timeout_s=1200)))
    report("publish again, counting what changed", f"{seconds:.1f} s", "<= 60 s", met=seconds <= 60)
    options = {"version_id": first["version_id"], "base_version_id": second["version_id"], "limit": 100}
    answer = {}
    seconds = timed(lambda: answer.update(client.get(f"{where}/versions/compare", options)))
    found = f"{seconds:.2f} s, {answer['total_number']:,} samples differ"
    report("compare both versions", found, "<= 30 s", met=seconds <= 30)
    took = [
        timed(
            lambda n=n: client.get(  # type: ignore[misc]
                f"{where}/data-annotations/samples",
                {"version_id": first["version_id"], "offset": n * SAMPLES // 20, "order": "asc"},
            )
        )
        * 1000
        for n in range(20)
    ]
    report("page of a version", f"p50 {statistics.median(took):.1f} ms, highest {max(took):.1f} ms")


def upload(datasets: Datasets, platform: PlatformProcess, folder: Path) -> None:
    import boto3
    from botocore.client import Config

    known = platform.credentials
    direct = boto3.session.Session().client(
        "s3",
        endpoint_url=known["s3_endpoint"],
        region_name="us-east-1",
        aws_access_key_id=known["s3_access_key"],
        aws_secret_access_key=known["s3_secret_key"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, max_pool_connections=THREADS),
    )
    pictures = folder / "pictures"
    pictures.mkdir()
    for n in range(IMAGES):
        (pictures / f"{n:05}.jpg").write_bytes(os.urandom(IMAGE_BYTES))

    def bare(place: str) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(
                pool.map(
                    lambda file: direct.put_object(Bucket=BUCKET, Key=f"{place}/{file.name}", Body=file.read_bytes()),
                    sorted(pictures.iterdir()),
                )
            )

    took: dict[str, list[float]] = {"bare": [], "ours": []}
    for n in range(ROUNDS):
        took["bare"].append(timed(lambda n=n: bare(f"bare{n}")))  # type: ignore[misc]
        took["ours"].append(timed(lambda n=n: datasets.objects.put(pictures, f"s3://{BUCKET}/ours{n}/")))  # type: ignore[misc]
    seconds = {name: statistics.median(each) for name, each in took.items()}
    ratio = seconds["bare"] / seconds["ours"]
    rates = f"{IMAGES / seconds['ours']:.0f}/s (boto3 {IMAGES / seconds['bare']:.0f}/s), {ratio:.2f} of bare"
    report(f"upload of {IMAGES} images of 8 KB, {THREADS} at once", rates, ">= 0.7", met=ratio >= 0.7)


def measure(folder: Path, manifest: Path, database: str | None) -> None:
    environment = ENVIRONMENT | ({"BOTTEGA__DATABASE__URL": database} if database else {})
    with PlatformProcess(folder / "data", environment) as platform:
        datasets = Datasets(platform.client)
        datasets.objects.create_bucket(BUCKET)
        datasets.objects.put(manifest, MANIFEST)
        if database:
            in_and_out(platform, Postgres(database), manifest, max(1, ROUNDS - 1))
            return
        in_and_out(platform, Sqlite(folder / "data"), manifest, ROUNDS)
        pages(datasets, platform, "d0")
        versions(datasets, platform, "d0")
        upload(datasets, platform, folder)


def main() -> int:
    print(f"{SAMPLES:,} samples, {ROUNDS} rounds; load before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as place:
        manifest = Path(place) / "in.manifest"
        with manifest.open("wb") as out:
            out.writelines(line(n) for n in range(SAMPLES))
        (Path(place) / "sqlite").mkdir()
        measure(Path(place) / "sqlite", manifest, None)
        if os.environ.get("POSTGRES", "1") != "0":
            from bottega.testing.postgres import Postgres as Server

            server = Server()
            try:
                (Path(place) / "postgres").mkdir()
                measure(Path(place) / "postgres", manifest, server.database())
            finally:
                server.stop()
    return int(_failed)


if __name__ == "__main__":
    sys.exit(main())
