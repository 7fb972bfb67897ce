"""The variables that the demo's processes get from the shell that starts it.

The list names the variables that pass, not those that do not. `REDIS_URL`, `DATABASE_URL`, `BRIDGE_*`,
`CELERY_*`, `FLOWER_*`, `RAILS_ENV`, `SENTRY_DSN`, `RUBYOPT` or another library's variable would lead the demo
to an application of the user, or send the demo's data to a service of the user.
"""

import os
from collections.abc import Mapping

KEPT = frozenset(
    [
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "LANG", "LANGUAGE"),
        # The places of interpreters and gems. BUNDLE_GEMFILE is absent: the demo has an app of its own.
        *("LD_LIBRARY_PATH", "BUNDLE_PATH", "BUNDLE_APP_CONFIG", "BUNDLE_USER_HOME"),
    ]
)
KEPT_PREFIXES = ("LC_", "GEM_", "RBENV_", "ASDF_", "MISE_", "PYENV_")


def kept(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The part of an environment that says how this machine runs programs."""
    return {
        name: value for name, value in environment.items() if name in KEPT or name.startswith(KEPT_PREFIXES)
    }
