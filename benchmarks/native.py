"""Native tasks of the benchmarks (``celery -A benchmarks.native worker``)."""

from bridge import app


@app.task(name="NativeNoop")
def noop(*args: object) -> None:
    """Nothing: what is measured is everything around it."""
