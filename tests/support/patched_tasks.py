"""A module of tasks that patches Python for gevent when it is imported."""

from gevent import monkey

monkey.patch_all()

from tests.support.native_tasks import app  # noqa: E402

__all__ = ["app"]
