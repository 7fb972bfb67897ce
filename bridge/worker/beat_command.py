"""``celery beat`` of a bridge application.

This module loads Celery's beat, which a worker needs only with ``-B``.
"""

from __future__ import annotations

from celery.apps.beat import Beat

from bridge.worker.beat import check_or_end


class CheckingBeat(Beat):
    """``celery beat`` of a bridge application."""

    def init_loader(self) -> None:
        """Celery's own, and the check: modules that are loaded now may add entries."""
        super().init_loader()
        check_or_end(self.app)
