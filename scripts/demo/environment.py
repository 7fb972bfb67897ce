"""What the demo's processes get of the environment of the shell that starts it.

A list of what may pass, not of what may not: `REDIS_URL`, `DATABASE_URL`, `BRIDGE_*`, `CELERY_*`, `FLOWER_*`,
`RAILS_ENV`, `SENTRY_DSN`, `RUBYOPT` and the next library's variable would each lead the demo to an
application of the user, or send what the demo does to a service of the user.
"""

import os
from collections.abc import Mapping

KEPT = frozenset(
    [
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "LANG", "LANGUAGE"),
        # Where interpreters and gems are installed. BUNDLE_GEMFILE is absent: the demo has an app of its own.
        *("LD_LIBRARY_PATH", "BUNDLE_PATH", "BUNDLE_APP_CONFIG", "BUNDLE_USER_HOME"),
    ]
)
KEPT_PREFIXES = ("LC_", "GEM_", "RBENV_", "ASDF_", "MISE_", "PYENV_")


def kept(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The part of an environment that says how this machine runs programs."""
    return {
        name: value for name, value in environment.items() if name in KEPT or name.startswith(KEPT_PREFIXES)
    }
