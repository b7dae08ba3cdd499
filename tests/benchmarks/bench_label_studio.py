"""100,000 text tasks in, out, and a page of them: Bottega beside Label Studio, each with SQLite and by its own API.

Only with ``PEERS=1``: Label Studio (PyPI) is installed into an environment of its own under ``.bench/``, kept for the
next run. It is given the tasks as JSON in pieces of `PIECE` (it refuses larger ones), and asked for its JSON export and
for pages of 10 tasks. Bottega gets the same texts as one manifest, and writes one.

Run: ``PEERS=1 python tests/benchmarks/bench_label_studio.py``; ``TASKS=5000`` makes it short. The exit status is 1 when
a goal is missed.
"""

from __future__ import annotations

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bottega.testing.process import PlatformProcess
from bottega_dataset.client import Datasets

TASKS = int(os.environ.get("TASKS", 100_000))
PIECE = 25_000
PAGES = 20
IN, OUT, PAGE_MS = 25, 50, 10.0
"""How many times as fast in and out, and what a page may take."""
BUCKET = "bench-labels"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="said" toName="text"><Choice value="good"/>'
    '<Choice value="bad"/></Choices></View>'
)


def text(n: int) -> str:
    return f"review number {n}: what was ordered came after {n % 30} days, and was as it had been described"


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def label_studio(place: Path) -> Iterator[httpx.Client]:
    environment = Path(".bench").resolve() / "label-studio"
    program = environment / "bin" / "label-studio"
    if not program.exists():
        print(f"making an environment for Label Studio in {environment} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "label-studio"], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(place),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "DATA_UPLOAD_MAX_MEMORY_SIZE": str(2**30),
        "TASKS_MAX_NUMBER": "10000000",
    }
    arguments = [
        "start",
        "--no-browser",
        "--port",
        str(port),
        "--username",
        "bench@example.com",
        "--password",
        "bench-123456",
    ]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), *arguments, "--user-token", TOKEN],
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
        )
        try:
            headers = {"Authorization": f"Token {TOKEN}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=1800) as client:
                deadline = time.monotonic() + 900  # its migrations take a while
                while True:
                    try:
                        if client.get("/api/projects/").status_code == 200:
                            break
                    except httpx.TransportError:
                        pass
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"Label Studio did not start:\n{(place / 'log').read_text()[-2000:]}")
                    time.sleep(0.5)
                yield client
        finally:
            process.terminate()
            process.wait(30)


def theirs(place: Path) -> dict[str, float]:
    """Seconds in and out, and milliseconds of a page."""
    with label_studio(place) as client:
        project = (
            client.post("/api/projects/", json={"title": "bench", "label_config": CONFIG}).raise_for_status().json()
        )
        where = f"/api/projects/{project['id']}"
        pieces = [
            json.dumps([{"data": {"text": text(n)}} for n in range(at, min(at + PIECE, TASKS))]).encode()
            for at in range(0, TASKS, PIECE)
        ]

        def send() -> None:
            for piece in pieces:
                headers = {"Content-Type": "application/json"}
                client.post(f"{where}/import", content=piece, headers=headers).raise_for_status()

        found = {"in": timed(send)}
        out: list[Any] = []
        query = {"exportType": "JSON", "download_all_tasks": "true"}
        found["out"] = timed(lambda: out.extend(client.get(f"{where}/export", params=query).raise_for_status().json()))
        assert len(out) == TASKS, f"Label Studio gave {len(out)} tasks"
        rng = random.Random(20261127)
        last = TASKS // 10

        def page() -> None:
            query = {"project": project["id"], "page": rng.randrange(1, last), "page_size": 10}
            client.get("/api/tasks/", params=query).raise_for_status()

        found["page"] = statistics.median(timed(page) * 1000 for _ in range(PAGES))
    return found


def ours(place: Path) -> dict[str, float]:
    manifest = place / "in.manifest"
    manifest.write_text("".join(json.dumps({"source": f"content://{text(n)}"}) + "\n" for n in range(TASKS)), "utf-8")
    environment = {"BOTTEGA__SERVER__RATE_LIMIT": "1000000/second", "BOTTEGA__LOG__LEVEL": "warning"}
    with PlatformProcess(place / "data", environment) as platform:
        client = platform.client
        datasets = Datasets(client)
        datasets.objects.create_bucket(BUCKET)
        datasets.create("reviews", f"s3://{BUCKET}/work/", dataset_type=100)

        def send() -> None:
            datasets.objects.put(manifest, f"s3://{BUCKET}/in.manifest")
            datasets.import_from("reviews", f"s3://{BUCKET}/in.manifest", import_type="manifest")

        def fetch() -> None:
            path = datasets.export("reviews", f"s3://{BUCKET}/out/")["manifest_path"]
            datasets.objects.get(path, place / "out.manifest")

        found = {"in": timed(send), "out": timed(fetch)}
        with (place / "out.manifest").open("rb") as lines:
            assert sum(1 for _ in lines) == TASKS
        where = f"/v2/{{project_id}}/datasets/{datasets.get('reviews')['dataset_id']}/data-annotations/samples"
        rng = random.Random(20261127)

        def page() -> None:
            client.get(where, {"limit": 10, "offset": rng.randrange(TASKS - 10)})

        found["page"] = statistics.median(timed(page) * 1000 for _ in range(PAGES))
        after: dict[str, Any] = {}

        def following() -> None:
            query = {"limit": 10, "cursor": after.get("next_cursor"), "count": "none" if after else None}
            after.update(client.get(where, query))

        found["next page"] = statistics.median(timed(following) * 1000 for _ in range(PAGES))
    return found


def main() -> int:
    if os.environ.get("PEERS") != "1":
        print("beside Label Studio: only with PEERS=1")
        return 0
    print(f"{TASKS:,} text tasks; load before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as place:
        for name in ("theirs", "ours"):
            (Path(place) / name).mkdir()
        peer, own = theirs(Path(place) / "theirs"), ours(Path(place) / "ours")
    missed = False
    for what, goal in (("in", IN), ("out", OUT)):
        times = peer[what] / own[what]
        missed |= times < goal
        rates = f"{TASKS / own[what]:,.0f}/s beside {TASKS / peer[what]:,.0f}/s"
        print(f"{what:<12} {rates:<36} {times:.1f} times as fast (goal {goal})")
    missed |= own["page"] > PAGE_MS
    print(f"page of 10   {own['page']:.1f} ms beside {peer['page']:.1f} ms, anywhere (goal {PAGE_MS:.0f} ms)")
    print(f"next page    {own['next page']:.1f} ms")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
