"""The main job: each method is one step, done through the platform's public interface and shown as it happens."""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

from bottega.client import ApiFailure, Client, SigningAuth
from bottega_demo.digits import Digit, load
from bottega_demo.intern import hire_intern
from bottega_demo.stage import Stage, StepFailed, expect

ACCURACY = 0.97
PREDICTIONS = 200
CERTAIN = 0.9
FLAVOR = "local.medium"
_V2, _V1 = "/v2/{project_id}", "/v1/{project_id}"
_JOBS = f"{_V2}/training-jobs"


class MainJob:
    def __init__(self, stage: Stage, client: Client, credentials: Path) -> None:
        self.stage = stage
        self.client = client
        self.credentials = credentials
        self.mark = secrets.token_hex(3)
        self.bucket = f"bottega-demo-{self.mark}"
        self.known = json.loads(credentials.read_text("utf-8"))
        self.began_ms = int(time.time() * 1000)
        self.truth: list[Digit] = []
        self.dataset_id = self.version_id = self.job_id = self.service_id = self.notebook_id = self.address = ""
        self.models: list[str] = []

    def run(self) -> None:
        self.show_plugins()
        self.store_pictures()
        self.make_dataset()
        self.label_the_rest()
        self.train()
        self.convert()
        self.register()
        self.deploy()
        self.predict()
        self.use_notebook()
        self.show_lineage()
        self.show_bill()
        self.show_trail()
        self.show_denial()

    # -- steps ---------------------------------------------------------------------------------------------------

    def show_plugins(self) -> None:
        with self.stage.step("The platform is up: a small core, NATS, and plugins"):
            plugins = self.client.get("/v1/plugins")["plugins"]
            broken = [f"{p['name']}: {p['reason']}" for p in plugins if p["state"] == "broken"]
            expect(not broken, f"plugins are broken: {'; '.join(broken)}")
            self.stage.say(f"{self.client.url}: " + ", ".join(p["name"] for p in plugins if p["state"] == "on"))

    def store_pictures(self) -> None:
        with self.stage.step("Store 1,797 pictures of handwritten digits, a folder a label, 200 of them unlabeled"):
            labeled, self.truth = load()
            self.client.post(f"{_V1}/buckets", {"name": self.bucket})
            files = {f"digits/{d.label}/{d.name}": d.png for d in labeled} | {
                f"digits/{d.name}": d.png for d in self.truth
            }
            self._upload(files)
            self.stage.say(f"s3://{self.bucket}/digits/  ({len(files)} PNG files)")

    def make_dataset(self) -> None:
        with self.stage.step("Make a dataset, import the folder, publish version V001"):
            made = self.client.post(
                f"{_V2}/datasets",
                {
                    "dataset_name": f"digits-{self.mark}",
                    "dataset_type": 0,
                    "data_sources": [{"data_type": 0, "data_path": f"/{self.bucket}/digits/"}],
                    "work_path": f"/{self.bucket}/work/",
                    "work_path_type": 0,
                },
            )
            self.dataset_id = made["dataset_id"]
            where = f"{_V2}/datasets/{self.dataset_id}"

            def imported() -> tuple[bool, str]:
                task = self.client.get(f"{where}/import-tasks/{made['import_task_id']}")
                expect(task["status"] != "FAILED", f"the import failed: {task}")
                return task["status"] == "COMPLETED", f"{task.get('imported_sample_count', 0)} samples"

            self.stage.wait("importing", imported)
            found = self.client.get(where)
            counted = found["total_sample_count"], found["annotated_sample_count"]
            expect(counted == (1797, 1797 - PREDICTIONS), f"expected 1797 samples, 1597 labeled; found {counted}")
            version = self.client.post(f"{where}/versions", {"train_evaluate_sample_ratio": "0.8"})
            self.version_id = version["version_id"]

            def published() -> tuple[bool, str]:
                status = self.client.get(f"{where}/versions/{self.version_id}")["status"]
                expect(status != 4, "the version could not be published")
                return status == 1, f"status {status}"

            self.stage.wait("publishing", published)
            self.stage.say(
                f"{counted[0]} samples, {counted[1]} labeled; version {version['version_name']}, split 80/20"
            )

    def label_the_rest(self) -> None:
        with self.stage.step(f"Let the platform label the {PREDICTIONS} pictures that have no label"):
            where = f"{_V2}/datasets/{self.dataset_id}"
            task_id = self.client.post(f"{where}/tasks", {"task_type": "auto-label"})["task_id"]
            task: dict[str, Any] = {}

            def labeled() -> tuple[bool, str]:
                task.update(self.client.get(f"{where}/tasks/{task_id}"))
                expect(task["status"] not in (2, 5), f"the labeling failed: {task['error_msg']}")
                return task["status"] == 3, f"{task['progress']:.0f}% {task['message']}"

            self.stage.wait("labeling", labeled)
            where = f"{where}/auto-annotations/samples"
            truth = {digit.name: digit.label for digit in self.truth}
            sure = self.client.get(where, {"low_score": CERTAIN, "limit": 1000})["samples"]
            right = sum(one["labels"][0]["name"] == truth[one["sample_name"]] for one in sure)
            confirmed = self.client.post(f"{where}/confirm", {"all": True, "low_score": CERTAIN})
            saved = confirmed["confirmed_sample_count"]
            self.stage.say(
                f"learned with {task['result']['method']}; {task['annotated_sample_count']} suggestions, {saved} of "
                f"them with a confidence of at least {CERTAIN} confirmed, {right} rightly"
            )
            self.stage.say(f"[green]labels saved: {saved} of {PREDICTIONS} ({saved / PREDICTIONS:.0%})[/]")
            expect(saved >= 0.7 * PREDICTIONS, f"only {saved} labels were saved")
            expect(right >= 0.97 * saved, f"{saved - right} of {saved} labels are wrong")

    def train(self) -> None:
        with self.stage.step("Train a small convolutional network with PyTorch"):
            with tempfile.TemporaryDirectory() as folder:
                self._cli("jobs", "example", "digits_cnn", folder)
                self._upload({f"code/{f.name}": f.read_bytes() for f in Path(folder).iterdir()})
            quote = self.client.post(f"{_JOBS}/quote", self._job())
            self.stage.say(f"an hour of it costs {float(quote['amount_per_hour']):.2f} {quote['currency']}")
            ready = self.client.post(f"{_JOBS}/preflight", self._job())
            expect(ready["allowed"], f"preflight: {ready['missing']}")
            self.stage.say(f"preflight: {len(ready['needs'])} permissions are needed, none is missing")
            job = self.client.post(_JOBS, self._job())
            self.job_id = job["metadata"]["id"]
            where = f"{_JOBS}/{self.job_id}"

            def trained() -> tuple[bool, str]:
                status = self.client.get(where)["status"]
                if status["phase"] in ("Failed", "Abnormal", "Terminated"):
                    raise StepFailed(f"the job ended as {status['phase']}:\n{self._log(where)[-2000:]}")
                return status["phase"] == "Completed", status["phase"]

            self.stage.wait("training", trained, timeout_s=240)
            for line in self._log(where).splitlines()[-3:]:
                self.stage.say(f"[dim]{line}[/]")
            evaluation = self.client.get(f"{where}/evaluation")
            self._show_confusion(evaluation)
            expect(evaluation["accuracy"] >= ACCURACY, f"accuracy {evaluation['accuracy']:.4f} is less than {ACCURACY}")

    def convert(self) -> None:
        with self.stage.step("Convert it to ONNX, then to 8 bit, and check both against the original"):
            first = self._convert("converter-pytorch-onnx", f"/{self.bucket}/trained/", "onnx")
            second = self._convert("converter-onnx-int8", f"/{self.bucket}/onnx/", "int8")
            table = Table("", "size", "latency p50", "accuracy")
            for name, report, when in (
                ("PyTorch", first, "before"),
                ("ONNX", first, "after"),
                ("ONNX int8", second, "after"),
            ):
                table.add_row(
                    name,
                    f"{report['size_bytes'][when] / 1024:.0f} KB",
                    f"{report['latency_ms'][when]['p50']:.3f} ms",
                    f"{report['comparison']['accuracy'][when]:.4f}",
                )
            self.stage.console.print(table)
            lost = first["comparison"]["accuracy"]["before"] - second["comparison"]["accuracy"]["after"]
            expect(lost < 0.01, f"8 bit lost {lost * 100:.2f} points of accuracy")

    def register(self) -> None:
        with self.stage.step("Register both models"):
            self.models = [
                self._import_model("0.0.1", {"source_job_id": self.job_id, "model_type": "PyTorch"}),
                self._import_model("0.0.2", {"source_location": f"/{self.bucket}/int8/", "model_type": "ONNX"}),
            ]

    def deploy(self) -> None:
        with self.stage.step("Deploy one service with both versions: 90% PyTorch, 10% ONNX int8"):
            made = self.client.post(
                f"{_V1}/services",
                {
                    "service_name": f"digits-{self.mark}",
                    "infer_type": "real-time",
                    "config": [
                        {"model_id": model, "weight": weight, "specification": "local.small", "instance_count": 1}
                        for model, weight in zip(self.models, (90, 10), strict=True)
                    ],
                },
            )
            self.service_id = made["service_id"]

            def running() -> tuple[bool, str]:
                service = self.client.get(f"{_V1}/services/{self.service_id}")
                expect(service["status"] != "failed", f"the service failed: {service.get('error_msg')}")
                self.address = service.get("access_address") or ""
                return service["status"] == "running", service["status"]

            self.stage.wait("deploying", running)
            self.stage.say(self.address)

    def predict(self) -> None:
        with self.stage.step(f"Ask it about the {PREDICTIONS} unlabeled pictures, each request signed"):
            refused = httpx.post(self.address, files={"images": self.truth[0].png})
            expect(refused.status_code == 401, f"an unsigned request was answered with {refused.status_code}")
            auth = SigningAuth(self.known["access_key"], self.known["secret_key"])
            with httpx.Client(auth=auth, timeout=30) as http, ThreadPoolExecutor(4) as pool:

                def ask(digit: Digit) -> tuple[bool, str, float]:
                    began = time.perf_counter()
                    answer = http.post(self.address, files={"images": (digit.name, digit.png, "image/png")})
                    spent = time.perf_counter() - began
                    expect(answer.status_code == 200, f"prediction failed ({answer.status_code}): {answer.text[:300]}")
                    right = str(answer.json()["predicted_label"]) == digit.label
                    return right, answer.headers["x-model-version"], spent

                results = list(pool.map(ask, self.truth))
            accuracy = sum(right for right, _, _ in results) / len(results)
            times = sorted(spent * 1000 for _, _, spent in results)
            shares = ", ".join(f"{n}× {version}" for version, n in Counter(v for _, v, _ in results).most_common())
            self.stage.say(
                f"accuracy {accuracy:.3f}; latency p50 {statistics.median(times):.1f} ms, "
                f"p95 {times[int(len(times) * 0.95)]:.1f} ms; answered by {shares}; an unsigned request got 401"
            )
            expect(accuracy >= 0.9, f"accuracy {accuracy:.3f} on the unlabeled pictures")

    def use_notebook(self) -> None:
        with self.stage.step("Open a notebook and read the dataset in a cell"):
            name = f"demo-{self.mark}"
            made = self.client.post(f"{_V1}/notebooks", {"name": name, "flavor": "local.small"})
            self.notebook_id = made["id"]

            def running() -> tuple[bool, str]:
                notebook = self.client.get(f"{_V1}/notebooks/{self.notebook_id}")
                expect(notebook["status"] not in ("ERROR", "CREATE_FAILED"), f"the notebook failed: {notebook}")
                return notebook["status"] == "RUNNING", notebook["status"]

            self.stage.wait("starting JupyterLab", running)
            cell = (
                "from bottega.client import Client\n"
                "from bottega_dataset.client import Datasets\n"
                f"found = Datasets(Client.from_environment()).get('digits-{self.mark}')\n"
                "print(found['dataset_name'], found['total_sample_count'], 'samples')"
            )
            for line in cell.splitlines():
                self.stage.say(f"[dim]>>> {line}[/]")
            output = self._cli("notebooks", "run", name, cell)
            expect("1797 samples" in output, f"the cell printed: {output}")
            self.stage.say(output.strip())

    def show_lineage(self) -> None:
        with self.stage.step("Where a prediction comes from: the lineage of the service, back to the pictures"):
            urn = f"bottega:serving:{self.client.project_id}:service/{self.service_id}"
            self.stage.console.print(self._cli("lineage", urn).rstrip(), highlight=False, soft_wrap=True)
            graph = self.client.get(f"{_V1}/lineage", {"urn": urn})
            kinds = {n["kind"] for n in graph["nodes"]}
            pictures = any(f"s3://{self.bucket}/digits/" in n["urn"] for n in graph["nodes"])
            expect(
                pictures and kinds >= {"service", "model", "job", "version", "dataset"},
                f"the lineage does not reach the pictures: {sorted(kinds)}",
            )

    def show_bill(self) -> None:
        with self.stage.step("What it cost, to the cent"):
            self.client.put(f"{_V1}/services/{self.service_id}", {"status": "stopped"})
            self.client.post(f"{_V1}/notebooks/{self.notebook_id}/stop")
            self.stage.console.print(self._cli("bill", "--by", "resource").rstrip(), highlight=False, soft_wrap=True)

    def show_trail(self) -> None:
        with self.stage.step("Who did what: the audit trail"):
            traces = {"createDataset", "createModelArtsTrainJob", "addModel", "addService"}

            def recorded() -> tuple[bool, str]:
                rows = self.client.get("/v3/{project_id}/traces", {"limit": 200, "from": self.began_ms})["traces"]
                missing = traces - {row["trace_name"] for row in rows}
                return not missing, f"waiting for {', '.join(sorted(missing))}"

            self.stage.wait("reading", recorded, timeout_s=30)
            self.stage.console.print(self._cli("trail").rstrip(), highlight=False, soft_wrap=True)

    def show_denial(self) -> None:
        with self.stage.step("Someone who may not delete is refused, and told by what"):
            intern = hire_intern(self.client, self.mark)
            ready = intern.post(f"{_JOBS}/preflight", self._job())
            expect(not ready["allowed"], "the intern has rights to storage that nobody gave")
            self.stage.say(
                f"preflight of the same training job: {len(ready['missing'])} permissions are missing, such as"
            )
            for missing in ready["missing"][:2]:
                self.stage.say(f"  [red]{missing['action']}[/] because {missing['why']}")
            found = intern.get(f"{_V2}/datasets")["total_number"]
            self.stage.say(f"[green]allowed[/] listing datasets ({found} found), by ModelArts CommonOperations")
            try:
                intern.delete(f"{_V2}/datasets/{self.dataset_id}")
            except ApiFailure as refused:
                self.stage.say(f"[red]{refused.status} {refused.error_code}[/] {refused.message}")
                named = f"no-deletion-{self.mark}" in refused.message
                expect(refused.status == 403 and named, f"the refusal does not name what decided: {refused}")
            else:
                raise StepFailed("the intern could delete the dataset")

    def tidy(self) -> None:
        """Stop what still runs, so that the demo leaves nothing running on a platform that goes on."""
        for path in (
            f"{_V1}/services/{self.service_id}" if self.service_id else "",
            f"{_V1}/notebooks/{self.notebook_id}" if self.notebook_id else "",
        ):
            if path:
                try:
                    self.client.delete(path)
                except ApiFailure as e:
                    self.stage.say(f"[yellow]could not delete {path}: {e}[/]")

    # -- parts ---------------------------------------------------------------------------------------------------

    def _upload(self, files: dict[str, bytes]) -> None:
        keys = list(files)
        with httpx.Client(timeout=60) as http, ThreadPoolExecutor(8) as pool:
            for at in range(0, len(keys), 500):
                wanted = {"keys": keys[at : at + 500], "method": "PUT"}
                urls = self.client.post(f"{_V1}/buckets/{self.bucket}/presigned-urls", wanted)["urls"]

                def put(entry: dict[str, str]) -> None:
                    http.put(entry["url"], content=files[entry["key"]]).raise_for_status()

                list(pool.map(put, urls))

    def _log(self, where: str) -> str:
        content = self.client.get(f"{where}/tasks/worker-0/logs/preview")["content"]
        return str(content)

    def _convert(self, template: str, source: str, name: str) -> dict[str, Any]:
        task = self.client.post(
            f"{_V2}/conversions",
            {
                "name": f"{name}-{self.mark}",
                "template_id": template,
                "input_path": source,
                "output_path": f"/{self.bucket}/{name}/",
                "data": {"dataset_version_id": self.version_id},
                "max_accuracy_loss": 0.01,
            },
        )
        where = f"{_V2}/conversions/{task['id']}"
        shown: dict[str, Any] = {}

        def converted() -> tuple[bool, str]:
            shown.update(self.client.get(where))
            if shown["status"] in ("FAILED", "STOPPED"):
                raise StepFailed(
                    f"conversion {name}: {shown['fail_reason']}\n{self.client.get(where + '/log')['text'][-1500:]}"
                )
            return shown["status"] == "SUCCESS", shown["status"]

        self.stage.wait(f"converting to {name}", converted)
        report: dict[str, Any] = shown["report"]
        return report

    def _import_model(self, version: str, source: dict[str, Any]) -> str:
        made = self.client.post(
            f"{_V1}/models", {"model_name": f"digits-{self.mark}", "model_version": version, **source}
        )
        where = f"{_V1}/models/{made['model_id']}"

        def published() -> tuple[bool, str]:
            model = self.client.get(where)
            expect(model["model_status"] != "failed", f"model {version} could not be imported: {model}")
            return model["model_status"] == "published", model["model_status"]

        self.stage.wait(f"importing {version}", published)
        self.stage.say(f"model digits-{self.mark} {version} ({source['model_type']})")
        return str(made["model_id"])

    def _show_confusion(self, evaluation: dict[str, Any]) -> None:
        labels = (
            [row["label"] for row in evaluation["labels"]]
            if isinstance(evaluation["labels"][0], dict)
            else evaluation["labels"]
        )
        table = Table(title=f"confusion matrix, accuracy {evaluation['accuracy']:.4f}", padding=(0, 0))
        table.add_column("true \\ said")
        for label in labels:
            table.add_column(str(label), justify="right", min_width=3)
        for label, row in zip(labels, evaluation["confusion_matrix"], strict=True):
            table.add_row(str(label), *(f"[dim]{n}[/]" if n == 0 else str(n) for n in row))
        self.stage.console.print(table)

    def _job(self) -> dict[str, Any]:
        """The request for the training job."""
        version = {"id": self.dataset_id, "version_id": self.version_id}
        return {
            "kind": "job",
            "metadata": {"name": f"digits-cnn-{self.mark}"},
            "algorithm": {
                "code_dir": f"/{self.bucket}/code/",
                "boot_file": f"/{self.bucket}/code/train.py",
                "engine": {"engine_name": "PyTorch"},
                "parameters": [{"name": "epochs", "value": "12"}],
                "inputs": [{"name": "data_url", "remote": {"dataset": version}}],
                "outputs": [{"name": "train_url", "remote": {"obs": {"obs_url": f"/{self.bucket}/trained/"}}}],
            },
            "spec": {"resource": {"flavor_id": FLAVOR, "node_count": 1}},
        }

    def _cli(self, *arguments: str) -> str:
        """Run the command line as a user would, and give what it prints."""
        command = [sys.executable, "-m", "bottega", "--credentials", str(self.credentials)]
        environment = {**os.environ, "COLUMNS": str(min(max(self.stage.console.width, 80), 100))}
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, env=environment)
        expect(done.returncode == 0, f"bottega {' '.join(arguments[:2])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout
