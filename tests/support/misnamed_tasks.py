"""A user's module with the mistakes that people make in the names of native tasks."""

from __future__ import annotations

from bridge import app


@app.task(name="NativeReprotJob")
def report() -> None:
    """Meant for NativeReportJob."""


@app.task(name="myapp.clean_up_job")
def clean_up() -> None:
    """Named as Celery would name it."""
