"""The file to `source` in another terminal: `bridge` and `celery` then speak to the demo."""

import os
import shlex
import sys
from pathlib import Path

from scripts.demo.place import Place

#: Removes the shell's variables for an application of the user, which would override the demo's settings.
FORGET = """foreign='(BRIDGE|CELERY|FLOWER)_[A-Za-z0-9_]*|REDIS_PROVIDER|DATABASE_URL'
for name in $(env | sed -nE "s/^($foreign)=.*/\\1/p"); do unset "$name"; done
unset foreign name
"""


def write(place: Place) -> None:
    """Write it, for the user alone: it holds the sidecar's secret."""
    settings = place.settings | place.bridge_settings
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(settings.items())]
    tools = shlex.quote(str(Path(sys.executable).parent))
    text = "".join(
        [
            f"# Written by make demo, and removed when it stops: . {place.by_hand}\n",
            FORGET,
            *lines,
            f'export PATH={tools}:"$PATH"\n',
        ]
    )
    place.by_hand.unlink(missing_ok=True)
    descriptor = os.open(place.by_hand, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
