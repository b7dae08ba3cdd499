"""What every converter must do. Subclass it in your tests::

class TestMyConverter(ConverterContract):
    template_id = "converter-mine"
    source_name = "model.onnx"

    def model(self) -> bytes: ...

    def rows(self) -> NDArray[np.float32]: ...
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from bottega.client import ApiFailure
from bottega.testing.running import RunningPlatform, Tenant, wait_until
from bottega_conversion.converters import Converter, OpenModel
from bottega_conversion.model_config import ModelConfig

if TYPE_CHECKING:
    from bottega_conversion.converters import Rows

_TASKS = "/v2/{project_id}/conversions"
_ENDED = ("SUCCESS", "FAILED", "STOPPED")
_FRESH = """
import json, sys
from importlib import import_module
converter = getattr(import_module(sys.argv[1]), sys.argv[2])()
converter.describe()
converter.read_options(json.loads(sys.argv[3]))
print(json.dumps(sorted(set(converter.needs) & set(sys.modules))))
"""


class ConverterContract:
    """Tests of `Converter`, on the platform of the ``running`` fixture, where its plugin must be on.

    `options` and `config` (``config.json``) are those that the model of the test needs.
    """

    template_id: str
    source_name: str
    options: ClassVar[Mapping[str, Any]] = {}
    config: ClassVar[Mapping[str, Any]] = {}
    timeout_s: float = 120

    def model(self) -> bytes:
        """A model file that can be converted."""
        raise NotImplementedError("a subclass gives a model")

    def rows(self) -> Rows:
        """At least eight rows as the model takes them, and as many as the calibration wants."""
        raise NotImplementedError("a subclass gives rows")

    def converter(self, running: RunningPlatform) -> Converter:
        brought = running.platform("conversion").extensions("bottega_conversion_converters")
        (found,) = (c for c in brought if c.id == self.template_id)
        assert isinstance(found, Converter)
        return found

    def test_it_describes_itself(self, running: RunningPlatform, tenant: Tenant) -> None:
        converter = self.converter(running)
        listed = tenant.client.get("/v2/{project_id}/conversion-templates")["templates"]
        (shown,) = (row for row in listed if row["id"] == converter.id)
        texts = ("name", "description", "framework", "target", "output_format")
        assert [text for text in texts if not shown[text]] == []
        suffixes = [*shown["model_formats"], shown["output_format"]]
        assert [s for s in suffixes if not s.startswith(".")] == [], "formats are suffixes, with their dot"
        assert self.source_name.endswith(tuple(shown["model_formats"]))
        assert converter.model_type, "model_type says what config.json says of the result"
        assert (shown["available"], shown["reason"]) == (True, "")

    def test_it_says_what_is_missing(self, running: RunningPlatform) -> None:
        kind = type(self.converter(running))
        absent = "a_package_that_is_not_here"
        elsewhere = type("Elsewhere", (kind,), {"needs": (*kind.needs, absent)})().describe()
        assert elsewhere["available"] is False, "it is offered where what it needs is not installed"
        assert absent in elsewhere["reason"], "the reason does not name what is missing"

    def test_an_unknown_option_is_refused(self, tenant: Tenant, bucket: str) -> None:
        with pytest.raises(ApiFailure, match="no_such_option") as refused:
            tenant.client.post(_TASKS, self._order(bucket, options={**self.options, "no_such_option": 1}))
        assert refused.value.status == 400
        assert self.template_id in refused.value.message
        assert tenant.client.get(_TASKS)["total_count"] == 0

    def test_a_worker_can_make_one_and_what_is_heavy_comes_late(self, running: RunningPlatform) -> None:
        kind = type(self.converter(running))
        ran = subprocess.run(
            [sys.executable, "-c", _FRESH, kind.__module__, kind.__qualname__, json.dumps(dict(self.options))],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout) == [], "these are imported before there is something to convert"

    def test_it_writes_the_target_and_nothing_else(self, running: RunningPlatform, tmp_path: Path) -> None:
        import numpy as np

        source, target, rows = self._convert(self.converter(running), tmp_path, self.model())
        assert source.read_bytes() == self.model(), "the source was changed"
        assert [p.name for p in source.parent.iterdir()] == [self.source_name], "files were left beside the source"
        left = {p.name for p in target.parent.iterdir()} - {target.name, f"{target.name}.data"}
        assert left == set(), "files were left beside the target"
        before, after = self.converter(running).open_source(source), self.converter(running).open_target(target)
        answers = [self._answers(model, rows[:8]) for model in (before, after)]
        assert [a.shape for a in answers[0]] == [a.shape for a in answers[1]]
        for model, together in zip((before, after), answers, strict=True):
            assert model.input_shape in (None, rows.shape[1:])
            alone = [self._answers(model, rows[n : n + 1]) for n in range(8)]
            for index, output in enumerate(together):
                # Kernels for one row and for several add up in another order.
                near = 0.02 * float(np.abs(output).max())
                assert np.allclose(np.concatenate([one[index] for one in alone]), output, atol=near), (
                    "a row's answer depends on the rows beside it"
                )

    def test_what_is_no_model_is_refused_with_a_reason(self, running: RunningPlatform, tmp_path: Path) -> None:
        with pytest.raises(Exception, match=r"\S"):
            self._convert(self.converter(running), tmp_path, b"no model at all")

    def test_a_task_gives_a_package_that_answers_as_before(self, tenant: Tenant, bucket: str) -> None:
        import numpy as np

        converter = self.converter(tenant.running)
        archive = io.BytesIO()
        np.savez(archive, x=self.rows())
        tenant.objects.put(f"s3://{bucket}/in/model/{self.source_name}", self.model())
        tenant.objects.put(f"s3://{bucket}/in/model/config.json", json.dumps(dict(self.config)).encode())
        tenant.objects.put(f"s3://{bucket}/rows.npz", archive.getvalue())
        order = self._order(bucket, options=dict(self.options), data={"path": f"s3://{bucket}/rows.npz"})
        path = f"{_TASKS}/{tenant.client.post(_TASKS, order)['id']}"

        def ended() -> dict[str, Any] | None:
            shown: dict[str, Any] = tenant.client.get(path)
            return shown if shown["status"] in _ENDED else None

        task = wait_until(ended, self.timeout_s)
        assert task is not None
        assert task["status"] == "SUCCESS", task["fail_reason"]
        assert task["report"]["accepted"] is True
        assert task["model_path"] == f"s3://{bucket}/out/model/model{converter.target_suffix}"
        assert tenant.objects.get(task["model_path"])
        config = json.loads(tenant.objects.get(f"s3://{bucket}/out/model/config.json"))
        assert config["model_type"] == converter.model_type
        kept = {k: v for k, v in self.config.items() if k not in ("model_type", "metrics")}
        assert {k: config[k] for k in kept} == kept

    def _order(self, bucket: str, **fields: Any) -> dict[str, Any]:
        paths = {"input_path": f"s3://{bucket}/in/", "output_path": f"s3://{bucket}/out/"}
        return {"name": "probe", "template_id": self.template_id, **paths, **fields}

    def _convert(self, converter: Converter, folder: Path, model: bytes) -> tuple[Path, Path, Rows]:
        """As the worker does it. Returns the source, the target and the rows."""
        source = folder / "source" / self.source_name
        target = folder / "converted" / f"model{converter.target_suffix}"
        source.parent.mkdir()
        target.parent.mkdir()
        source.write_bytes(model)
        options = converter.read_options(dict(self.options))
        rows = self.rows()
        calibration = rows[: converter.calibration_rows(options)]
        assert len(calibration) >= converter.minimum_calibration_rows
        converter.convert(source, target, options, ModelConfig.model_validate(dict(self.config)), calibration)
        return source, target, rows

    @staticmethod
    def _answers(model: OpenModel, rows: Rows) -> list[Any]:
        found = model.predict(rows)
        assert found, "a model has at least one output"
        assert {len(output) for output in found} == {len(rows)}, "outputs have an entry for each row"
        return found
