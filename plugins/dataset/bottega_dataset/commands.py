from __future__ import annotations

import typer

datasets = typer.Typer()
