"""Native tasks of the benchmarks (``celery -A benchmarks.apps.native worker``)."""

# mypy: disable-error-code=untyped-decorator
import asyncio
import os
import time

from benchmarks.apps.computing import compute
from benchmarks.apps.probes import write_probe
from bridge import app as app


@app.task(name="NativeNoop")
def noop(*args: object) -> None:
    """Nothing: what is measured is everything around it."""


@app.task(name="NativeWait")
def wait(milliseconds: float, *args: object) -> None:
    """As jobs.rb's WaitJob."""
    time.sleep(milliseconds / 1000)


@app.task(name="NativeCpu")
def cpu(milliseconds: float, *args: object) -> None:
    """As jobs.rb's CpuJob."""
    compute(milliseconds)


@app.task(name="NativeAwait")
async def await_(milliseconds: float, *args: object) -> None:
    """The same in a coroutine."""
    await asyncio.sleep(milliseconds / 1000)


@app.task(name="NativeCoroutine")
async def coroutine(*args: object) -> None:
    """A coroutine that does nothing."""


@app.task(name="NativeFail")
def fail(*args: object) -> None:
    """As jobs.rb's FailJob."""
    raise RuntimeError("on purpose")


@app.task(name="NativeProbe")
def probe(pushed_ns: int, milliseconds: float = 0, *args: object) -> None:
    """As jobs.rb's ProbeJob."""
    write_probe(os.environ["BENCH_PROBES"], pushed_ns)
    if milliseconds:
        time.sleep(milliseconds / 1000)
