"""What is answered is described by the models of the clients, as they are installed, and by nobody's hand."""

from __future__ import annotations

from typing import Any

import pytest

from . import answers


@pytest.mark.parametrize("plugin", answers.HOMES)
def test_the_description_is_that_of_the_clients(
    plugin: str, served: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    page, text = answers.HOMES[plugin] / "answers.json", answers.text(answers.described(served)[plugin])
    if request.config.getoption("write_answers", False):
        page.write_text(text, "utf-8")
    assert page.read_text("utf-8") == text, "run: pytest tests/conformance/test_answers.py --write-answers"


def test_openapi_has_the_models(served: dict[str, Any]) -> None:
    shown = served["paths"]["/v3/users/{user_id}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert shown == {"$ref": "#/components/schemas/iam.KeystoneShowUserResponse"}
    user = served["components"]["schemas"]["iam.KeystoneShowUserResult"]
    assert user["properties"]["enabled"] == {"type": ["boolean", "null"]}
    named = set(answers.named(served["paths"]))
    assert len(named) > 200
    assert named <= {f"#/components/schemas/{name}" for name in served["components"]["schemas"]}
