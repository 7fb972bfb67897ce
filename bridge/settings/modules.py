"""Whether a module that the settings name is there, without importing it."""

from __future__ import annotations

import importlib.util
import os
import sys


def find(name: str) -> bool:
    """Whether a worker that is started in this directory could import ``name``.

    Celery looks in the current directory too, which a console script does not have on its path.
    """
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        # Of a package above it. The import itself tells of a module that is missing inside of one.
        return not f"{name}.".startswith(f"{error.name}.")
    except ValueError:
        return False
    except Exception:
        return True  # a package above it cannot be loaded: its import tells why
    finally:
        if added:
            sys.path.remove(here)
