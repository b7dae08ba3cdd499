"""OpenStack Swift with its S3 API on one port: a strict S3 server of another origin than the embedded one.

``python swift_server.py DIRECTORY PORT``; access key ``app:admin``, secret ``a-secret``. Prints a line when it answers.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

SECRET = "a-secret"
SWIFT = """[swift-hash]
swift_hash_path_suffix = here
[storage-policy:0]
name = one
default = yes
"""
LOG = "log_facility = LOG_LOCAL1\nlog_level = CRITICAL\n"
STORAGE = """[DEFAULT]
swift_dir = {directory}
devices = {directory}/devices
mount_check = false
disable_fallocate = true
bind_ip = 127.0.0.1
bind_port = {port}
fallocate_reserve = 0
{log}
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
PROXY = """[DEFAULT]
swift_dir = {directory}
bind_ip = 127.0.0.1
bind_port = {port}
{log}
[pipeline:main]
pipeline = catch_errors cache listing_formats bulk s3api tempauth slo dlo proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{nothing}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:tempauth]
use = egg:swift#tempauth
user_app_admin = {secret} .admin
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
check_bucket_owner = false
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


def listen(port: int = 0) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    found.listen(128)
    return found


def main(directory: Path, port: int) -> None:
    from swift.common import utils
    from swift.common.ring import RingBuilder

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "swift.conf").write_text(SWIFT)
    (directory / "devices" / "d1").mkdir(parents=True, exist_ok=True)
    utils.set_swift_dir(str(directory))
    servers: list[tuple[str, socket.socket, str]] = []
    for kind in ("account", "container", "object"):
        server = listen()
        at = server.getsockname()[1]
        builder = RingBuilder(8, 1, 1)
        builder.add_dev(
            {"id": 0, "region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": at, "device": "d1"}
            | {"replication_ip": "127.0.0.1", "replication_port": at}
        )
        builder.rebalance()
        builder.get_ring().save(str(directory / f"{kind}.ring.gz"))
        servers.append((kind, server, STORAGE.format(directory=directory, port=at, kind=kind, log=LOG)))
    proxy = PROXY.format(directory=directory, port=port, log=LOG, secret=SECRET, nothing=listen().getsockname()[1])
    servers.append(("proxy", listen(port), proxy))
    children = []
    for kind, server, text in servers:
        file = directory / f"{kind}-server.conf"
        file.write_text(text)
        child = os.fork()
        if not child:
            serve(file, server)
        children.append(child)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for child in children:
        os.waitpid(child, 0)


def serve(file: Path, server: socket.socket) -> None:
    from eventlet.greenio import GreenSocket  # type: ignore[import-untyped]  # comes with Swift, has no types
    from swift.common.utils import get_logger
    from swift.common.wsgi import run_server

    # A parent that was killed must not leave servers behind.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    run_server({"__file__": str(file)}, get_logger({}, name=file.stem), GreenSocket(server))
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
