"""A verdict on each gem and hook of the app in Ruby."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.cli.doctor.finding import Check, Finding, error, hint, warning
from bridge.cli.doctor.site import Site
from bridge.sidecar import gems
from bridge.sidecar.gems import Fare, Verdict


def verdicts(site: Site) -> Iterator[Finding]:
    bare = site.bare_tasks if site.healths else ()
    found = {fare.name: fare for health in site.healths for fare in gems.fares(health, bare)}
    for fare in found.values():
        yield _finding(fare, accepted=fare.name in site.settings.accept_gems)


def _finding(fare: Fare, *, accepted: bool) -> Finding:
    code, seen = f"gem-{fare.name}", f"{fare.name} ({fare.verdict.value}): {fare.seen}"
    cure = f"{fare.cure} ({gems.PAGE})"
    if fare.verdict is Verdict.WORKS:
        return hint(code, seen, cure)
    return error(code, seen, cure) if fare.refuses and not accepted else warning(code, seen, cure)


def unknown_options(site: Site) -> Iterator[Finding]:
    names = sorted({name for health in site.healths for name in health.unknown_options})
    if names:
        seen = f"sidekiq.yml has keys that neither Sidekiq nor a known gem reads: {', '.join(names)}"
        yield warning(
            "unknown-options", seen, f"correct or remove them, unless the app reads them ({gems.PAGE})"
        )


CHECKS: tuple[Check, ...] = (verdicts, unknown_options)
