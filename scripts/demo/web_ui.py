"""Whether Sidekiq's Web UI has its JavaScript, which Debian's packages of Sidekiq leave out."""

import re

from scripts.demo import probes
from scripts.demo.place import Place

NOTE = """
This Sidekiq's Web UI has no JavaScript ({path} is missing): the Dashboard's graph stays empty,
and buttons that ask back, live polling and the language menu do nothing. Debian's package ships it so.
{remedy}
"""
REMEDY = 'To see all of it, use the gem instead of the package: see docs/web-ui.md, "Without JavaScript".\n'


def note(place: Place) -> str:
    """What to tell the user about it; nothing where every script of the Dashboard is there."""
    missing = missing_script(place.web_port)
    return NOTE.format(path=missing, remedy=REMEDY) if missing else ""


def missing_script(port: int) -> str | None:
    """The first script of the Dashboard that is not served."""
    page = probes.http_body(port, "/sidekiq/")
    for path in re.findall(r"""<script[^>]*\ssrc=["'](/[^"']+)["']""", page):
        if probes.http_status(port, path) != 200:
            return str(path)
    return None
