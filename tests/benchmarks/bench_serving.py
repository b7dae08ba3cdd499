"""Predictions per second of a small tabular model: JSON, keep-alive, 32 connections, one worker.

A service of the running platform (two versions 90/10, authenticated, counted) beside a bare ASGI application around
ONNX Runtime on the same uvicorn, in the same run, loaded by the same client in turns; medians. Limit (issue "The house
stands"): at least 0.5 of the bare application with a token. With ``PEERS=1`` MLServer, LitServe and BentoML serve the
same model from environments of their own under ``.bench/``.

Run: ``python tests/benchmarks/bench_serving.py``; the exit status is 1 when the limit is missed.
"""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

CONNECTIONS = 32
ROUNDS = 5
SECONDS = 2.0
LIMIT = 0.5
ROW = [5.1, 3.5, 1.4, 0.2, 6.7, 3.1, 4.7, 1.5]
HERE = Path(__file__).resolve()

BARE = """
import sys
import numpy as np, onnxruntime, orjson, uvicorn
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
async def app(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message.get("more_body")
    rows = np.asarray(orjson.loads(body)["input"], np.float32)
    scores = session.run(None, {"input": rows})[0]
    answer = orjson.dumps({"scores": scores}, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
uvicorn.run(app, port=int(sys.argv[2]), http="httptools", loop="uvloop", ws="none", lifespan="off",
            access_log=False, server_header=False, log_level="warning")
"""


@dataclass
class Target:
    """Something that serves the model: where, and what is sent."""

    name: str
    url: str
    body: Mapping[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def request(self) -> bytes:
        parts = httpx.URL(self.url)
        content = json.dumps(self.body).encode()
        headers = {"Host": parts.netloc.decode(), "Content-Type": "application/json", **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {parts.raw_path.decode()} HTTP/1.1\r\n{lines}Content-Length: {len(content)}\r\n\r\n"
        return head.encode() + content


def write_model(path: Path) -> None:
    """Eight columns, sixteen hidden, three classes."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = {"W1": (8, 16), "b1": (16,), "W2": (16, 3), "b2": (3,)}
    nodes = [
        helper.make_node("Gemm", ["input", "W1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "W2", "b2"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tabular",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(random.normal(size=s).astype(np.float32), n) for n, s in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def load(host: str, port: int, request: bytes, seconds: float) -> dict[str, float]:
    """Send `request` on 32 connections, the next one as soon as an answer is complete."""
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    pending: dict[int, bytes] = {}
    sent: dict[int, float] = {}
    for _ in range(CONNECTIONS):
        connection = socket.create_connection((host, port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = connection.fileno()
        sockets[number], pending[number], sent[number] = connection, b"", time.perf_counter()
        poll.register(number, select.EPOLLIN)
        connection.sendall(request)
    latencies: list[float] = []
    began = now = time.perf_counter()
    while now - began < seconds:
        for number, _ in poll.poll(1):
            answer = pending[number] + sockets[number].recv(65536)
            head, separator, body = answer.partition(b"\r\n\r\n")
            if not separator or not _complete(head.lower(), body):
                pending[number] = answer
                continue
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"the load client met: {answer[:500]!r}")
            now = time.perf_counter()
            latencies.append(now - sent[number])
            pending[number], sent[number] = b"", now
            sockets[number].sendall(request)
    took = time.perf_counter() - began
    for connection in sockets.values():
        connection.close()
    cuts = statistics.quantiles(latencies, n=100)
    return {"rate": len(latencies) / took, "p50": cuts[49] * 1000, "p99": cuts[98] * 1000}


def _complete(head: bytes, body: bytes) -> bool:
    _, found, rest = head.partition(b"content-length:")
    if found:
        return len(body) >= int(rest.partition(b"\r\n")[0])
    return body.endswith(b"0\r\n\r\n")  # chunked


def measure(target: Target) -> None:
    """One round, by a client process of its own."""
    parts = httpx.URL(target.url)
    order = {"host": parts.host, "port": parts.port, "request": target.request().decode(), "seconds": SECONDS}
    done = subprocess.run(
        [sys.executable, str(HERE), "load"], input=json.dumps(order), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{target.name}: {done.stderr[-800:]}")
    found = json.loads(done.stdout)
    target.rates.append(found["rate"])
    target.p50_ms.append(found["p50"])
    target.p99_ms.append(found["p99"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(command: list[str], target: Target, directory: Path, environment: Mapping[str, str] = {}) -> Iterator[None]:
    """Run a server until it answers the target's request, and end it afterwards."""
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=directory, stdout=log, stderr=log, env={**os.environ, **environment}, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                if httpx.post(target.url, json=dict(target.body), timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{target.name} does not serve:\n{(directory / 'server.log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)


@contextmanager
def ours(model: Path, directory: Path) -> Iterator[list[Target]]:
    """A platform of its own with the service, called with a token and with a signature."""
    from bottega import signing
    from bottega.testing import RunningPlatform, wait_until

    api = {"Content-type": "application/json", "data": {"type": "object"}}
    config = {
        "model_algorithm": "predict_analysis",
        "model_type": "ONNX",
        "apis": [{"protocol": "http", "url": "/", "method": "post", "request": api, "response": api}],
    }
    with RunningPlatform(directory) as platform:
        tenant = platform.tenant()
        bucket, client = tenant.create_bucket(), tenant.client
        tenant.objects.put(f"s3://{bucket}/m/model/config.json", json.dumps(config).encode())
        tenant.objects.put(f"s3://{bucket}/m/model/model.onnx", model.read_bytes())
        models, services = "/v1/{project_id}/models", "/v1/{project_id}/services"
        flavor = client.get(f"{services}/specifications")["specifications"][0]["specification"]
        entries = []
        for version, weight in (("1.0.0", 90), ("2.0.0", 10)):
            body: dict[str, Any] = {"model_name": "tabular", "model_version": version}
            id = client.post(models, {**body, "source_location": f"s3://{bucket}/m/"})["model_id"]
            wait_until(lambda id=id: client.get(f"{models}/{id}")["model_status"] == "published")  # type: ignore[misc]
            entries.append({"model_id": id, "weight": weight, "specification": flavor, "instance_count": 1})
        service = client.post(services, {"service_name": "s", "infer_type": "real-time", "config": entries})
        path = f"{services}/{service['service_id']}"
        wait_until(lambda: client.get(path)["status"] == "running", 90)
        address = client.get(path)["access_address"]

        async def issue() -> str:
            identity = platform.platform().identity
            return identity.issue_token(await identity.principal(tenant.user_id), 3600)

        sent = {"input": [ROW]}
        keys = (tenant.access_key, tenant.secret_key)
        signed = signing.sign("POST", address, {}, json.dumps(sent), *keys)
        yield [
            Target("bottega, token", address, sent, {"X-Auth-Token": platform.run(issue())}),
            Target("bottega, signature", address, sent, signed),
        ]
        client.delete(path)


@dataclass(frozen=True)
class Peer:
    """PORT, PORT1 and PORT2 in files and command are filled in."""

    packages: list[str]
    files: dict[str, str]
    command: list[str]
    path: str
    body: dict[str, Any]


PEERS = {
    "mlserver": Peer(
        ["mlserver", "onnxruntime", "numpy"],
        {
            "peer.py": """
                import numpy as np, onnxruntime
                from mlserver import MLModel
                from mlserver.codecs import NumpyCodec, NumpyRequestCodec
                class Tabular(MLModel):
                    async def load(self):
                        options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
                        self.session = onnxruntime.InferenceSession("model.onnx", options)
                        return True
                    async def predict(self, payload):
                        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
                        scores = self.session.run(None, {"input": rows})[0]
                        return NumpyRequestCodec.encode_response(model_name=self.name, payload=scores)
                """,
            "settings.json": """
                {"http_port": PORT, "grpc_port": PORT1, "metrics_port": PORT2, "parallel_workers": 0, "debug": false}
                """,
            "model-settings.json": '{"name": "tabular", "implementation": "peer.Tabular"}',
        },
        ["mlserver", "start", "."],
        "/v2/models/tabular/infer",
        {"inputs": [{"name": "input", "shape": [1, 8], "datatype": "FP32", "data": ROW}]},
    ),
    "litserve": Peer(
        ["litserve", "onnxruntime", "numpy"],
        {
            "peer.py": """
                import litserve, numpy as np, onnxruntime
                class Tabular(litserve.LitAPI):
                    def setup(self, device):
                        options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
                        self.session = onnxruntime.InferenceSession("model.onnx", options)
                    def decode_request(self, request):
                        return np.asarray(request["input"], np.float32)
                    def predict(self, rows):
                        return self.session.run(None, {"input": rows})[0]
                    def encode_response(self, scores):
                        return {"scores": scores.tolist()}
                if __name__ == "__main__":
                    api = Tabular()
                    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
                        host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False)
                """
        },
        ["python", "peer.py"],
        "/predict",
        {"input": [ROW]},
    ),
    "bentoml": Peer(
        ["bentoml", "onnxruntime", "numpy"],
        {
            "peer.py": """
                import bentoml, numpy as np, onnxruntime
                @bentoml.service(workers=1, logging={"access": {"enabled": False}})
                class Tabular:
                    def __init__(self):
                        options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
                        self.session = onnxruntime.InferenceSession("model.onnx", options)
                    @bentoml.api
                    async def predict(self, input: list) -> dict:
                        scores = self.session.run(None, {"input": np.asarray(input, np.float32)})[0]
                        return {"scores": scores.tolist()}
                """
        },
        ["bentoml", "serve", "peer:Tabular", "--host", "127.0.0.1", "--port", "PORT"],
        "/predict",
        {"input": [ROW]},
    ),
}


@contextmanager
def peer(name: str, model: Path, directory: Path) -> Iterator[Target]:
    """A peer in an environment of its own, which is kept for the next run."""
    chosen = PEERS[name]
    environment = Path(".bench").resolve() / name
    if not (environment / "ready").exists():
        print(f"making an environment for {name} in {environment} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *chosen.packages], check=True)
        (environment / "ready").touch()
    place = directory / name
    place.mkdir()
    (place / "model.onnx").write_bytes(model.read_bytes())
    ports = {"PORT1": str(free_port()), "PORT2": str(free_port()), "PORT": str(free_port())}

    def fill(text: str) -> str:
        for placeholder, port in ports.items():
            text = text.replace(placeholder, port)
        return text

    for file, content in chosen.files.items():
        (place / file).write_text(fill(textwrap.dedent(content)))
    target = Target(name, f"http://127.0.0.1:{ports['PORT']}{chosen.path}", chosen.body)
    argv = [str(environment / "bin" / chosen.command[0]), *map(fill, chosen.command[1:])]
    path_variable = f"{environment / 'bin'}:{os.environ['PATH']}"
    with server(argv, target, place, {"PATH": path_variable, "PYTHONPATH": str(place)}):
        yield target


def main() -> int:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bottega-bench-")))
        model = directory / "model.onnx"
        write_model(model)
        bare = Target("bare ASGI + ONNX Runtime", f"http://127.0.0.1:{free_port()}/", {"input": [ROW]})
        port = bare.url.rpartition(":")[2].strip("/")
        stack.enter_context(server([sys.executable, "-c", BARE, str(model), port], bare, directory))
        targets = [bare, *stack.enter_context(ours(model, directory / "platform"))]
        answers = [httpx.post(t.url, content=json.dumps(t.body), headers=t.headers).json() for t in targets]
        if any(answer != answers[0] for answer in answers):
            raise SystemExit(f"the answers differ: {answers}")
        if os.environ.get("PEERS") == "1":
            targets += [stack.enter_context(peer(name, model, directory)) for name in PEERS]
        for _ in range(ROUNDS):
            for target in targets:
                measure(target)
    base = statistics.median(bare.rates)
    print(f"Serving: a tabular model, JSON, {CONNECTIONS} connections, one worker; medians of {ROUNDS} rounds")
    print(f"{'server':<28}{'per second':>12}{'of bare':>10}{'p50':>10}{'p99':>10}   budget")
    for target in targets:
        rate = statistics.median(target.rates)
        times = [f"{statistics.median(series):.2f} ms" for series in (target.p50_ms, target.p99_ms)]
        budget = f">= {LIMIT} of bare" if target.name == "bottega, token" else ""
        print(f"{target.name:<28}{rate:>12,.0f}{rate / base:>10.2f}{times[0]:>10}{times[1]:>10}   {budget}".rstrip())
    return 0 if statistics.median(targets[1].rates) >= LIMIT * base else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["load"]:
        order = json.load(sys.stdin)
        print(json.dumps(load(order["host"], order["port"], order["request"].encode(), order["seconds"])))
    else:
        sys.exit(main())
