"""Celery's fix-up for Django, which an application gets when it is made."""

from __future__ import annotations

import os
from typing import Any


def ensure(app: Any) -> None:
    """Install it if the user named Django's settings after ``from bridge import app``.

    Celery looks for DJANGO_SETTINGS_MODULE while it makes an application. Ours is made by that import, which
    is among the first lines of a project's ``celery.py``. Without the fix-up ``autodiscover_tasks`` finds no
    app of the project, and connections to the database stay open after a task.
    """
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        return
    from celery.fixups import django  # loads Celery's worker

    if not any(isinstance(each, django.DjangoFixup) for each in app._fixups):
        app._fixups.append(django.fixup(app))
