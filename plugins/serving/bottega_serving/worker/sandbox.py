"""Keeps user code away from the files and processes of the platform, by the kernel (Landlock, Linux 5.13).

A worker runs under the same user as the data plane that started it, so file modes alone do not keep it from reading
that one's credentials. Landlock does: what is not listed cannot be opened, other processes under /proc included, and
no process outside can be traced. It cannot be undone, and holds for everything the worker starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
# Rights of linux/landlock.h by the version of the kernel interface that brought them.
_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read file, read directory
_FILE_ONLY = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15

SYSTEM = (
    *("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/sys"),
    *(f"/proc/{name}" for name in ("self", "cpuinfo", "meminfo", "stat", "version", "sys", "driver", "filesystems")),
)
DEVICES = (
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
    "/dev/random",
    "/dev/shm",  # noqa: S108  # shared memory of the frameworks, not a temporary file
    "/dev/nvidia0",
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
)


def confine(readable: Iterable[Path | str], writable: Iterable[Path | str]) -> bool:
    """From here on this process opens files below these paths only. False when the kernel has no Landlock."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, 0, _RULESET_VERSION)
    if version < 1:
        return False
    everything = (1 << _RIGHTS_BY_VERSION.get(version, 16)) - 1
    attributes = struct.pack("=Q", everything)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        for paths, rights in ((readable, _READ), (writable, everything)):
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    _allow(libc, ruleset, path, rights & everything)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(_RESTRICT_SELF, ruleset, 0):
            raise OSError(ctypes.get_errno(), "Landlock refuses its own ruleset")
    finally:
        os.close(ruleset)
    return True


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path | str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= _FILE_ONLY
        rule = struct.pack("=Qi", rights, descriptor)
        if libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0):
            raise OSError(ctypes.get_errno(), f"Landlock takes no rule for {path}")
    finally:
        os.close(descriptor)
