"""Whether Sidekiq's Web UI has its JavaScript, which Debian's packages of Sidekiq leave out."""

import re

from scripts.demo import probes
from scripts.demo.place import Place

NOTE = """
Sidekiq's Web UI has no JavaScript here ({script} is missing), as in every Debian package of Sidekiq:
the Dashboard's graph stays empty, Live Poll and "Show All" do nothing, and Delete does not ask back.
The gem of the same version has it. Install it beside the package, and start the demo again:
  gem install --user-install --ignore-dependencies sidekiq{version}

"""


def note(place: Place) -> str:
    """What to tell the user about it; nothing where every script of the Dashboard is there."""
    page = probes.http_body(place.web_port, "/sidekiq/")
    script = _missing_script(page, place.web_port)
    version = re.search(r"Sidekiq v(\d[\w.]*)", page)
    return NOTE.format(script=script, version=f" -v {version[1]}" if version else "") if script else ""


def _missing_script(page: str, port: int) -> str | None:
    """The first script of the Dashboard that is not served."""
    paths: list[str] = re.findall(r"""<script[^>]*\ssrc=["'](/[^"']+)["']""", page)
    return next((path for path in paths if probes.http_status(port, path) != 200), None)
