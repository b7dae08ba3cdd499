"""What the errors of S3 servers mean."""

from __future__ import annotations


def is_full(status: int, code: str, *, writing: bool) -> bool:
    """Whether an answer says that the store has no space left.

    MinIO says so with 507 XMinioStorageFull. The embedded server (rclone) answers a write to a full disk with no more
    than 500 InternalError, and hardly anything else so.
    """
    return status == 507 or code.endswith("StorageFull") or (writing and status == 500 and code == "InternalError")
