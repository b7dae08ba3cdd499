"""The S3 endpoint for tenants beside the store itself, in one run: many small objects, and one large one.

Both are used by the same boto3 client settings, with 8 threads for the small objects. What is measured includes the
client, which shares the machine's cores with the platform and the store.

Run: ``python tests/benchmarks/bench_s3.py``; the exit status is 1 when the endpoint is slower than the budgets.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.client import Config

from bottega.testing.process import PlatformProcess

MB = 2**20
IMAGES = 2000
IMAGE_BYTES = 8 * 1024
LARGE_BYTES = 256 * MB
THREADS = 8
SMALL_BUDGET, LARGE_BUDGET = 6.0, 2.0
"""How many times as long as direct access it may take."""


def client(endpoint: str, access_key: str, secret_key: str) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, max_pool_connections=THREADS),
    )


def timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(s3: Any, bucket: str, folder: str, large: Path) -> dict[str, float]:
    """Seconds for each piece of work."""
    image = os.urandom(IMAGE_BYTES)
    back = large.with_suffix(f".{folder}")
    transfer = TransferConfig(multipart_threshold=16 * MB, multipart_chunksize=16 * MB, max_concurrency=4)

    def each(call: Any) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(call, (f"{folder}/{i:05}.jpg" for i in range(IMAGES))))

    return {
        f"upload {IMAGES} images of 8 KB": timed(
            lambda: each(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=image))
        ),
        f"download {IMAGES} images of 8 KB": timed(
            lambda: each(lambda key: s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        ),
        "upload 256 MB": timed(lambda: s3.upload_file(str(large), bucket, f"{folder}-large", Config=transfer)),
        "download 256 MB": timed(lambda: s3.download_file(bucket, f"{folder}-large", str(back), Config=transfer)),
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.bin"
        with large.open("wb") as out:
            for _ in range(LARGE_BYTES // MB):
                out.write(os.urandom(MB))
        environment = {"BOTTEGA__SERVER__RATE_LIMIT": "100000/second", "BOTTEGA__LOG__LEVEL": "warning"}
        with PlatformProcess(Path(folder) / "data", environment) as platform:
            known = platform.credentials
            own = client(f"{platform.url}/s3", known["access_key"], known["secret_key"])
            own.create_bucket(Bucket="bench-s3")
            direct = client(known["s3_endpoint"], known["s3_access_key"], known["s3_secret_key"])
            beside = measure(direct, "bench-s3", "direct", large)
            through = measure(own, "bench-s3", "endpoint", large)
    slow = False
    for what, seconds in through.items():
        ratio = seconds / beside[what]
        budget = LARGE_BUDGET if "MB" in what else SMALL_BUDGET
        amount = (
            f"{LARGE_BYTES / MB / seconds:.0f} MB/s (direct {LARGE_BYTES / MB / beside[what]:.0f})"
            if "MB" in what
            else f"{IMAGES / seconds:.0f} objects/s (direct {IMAGES / beside[what]:.0f})"
        )
        slow |= ratio > budget
        print(f"{what:28} {seconds:6.2f} s  {amount:40} {ratio:.1f} times direct (budget {budget:.0f})")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
