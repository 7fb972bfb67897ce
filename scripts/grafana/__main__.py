"""The command line of ``scripts/dashboard``."""

from __future__ import annotations

import argparse
import sys

from scripts.grafana import dashboard


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(prog="scripts/dashboard")
    parser.add_argument("--check", action="store_true", help="only say whether the file is current")
    options = parser.parse_args()
    if options.check:
        current = dashboard.FILE.exists() and dashboard.FILE.read_text(encoding="utf-8") == dashboard.text()
        sys.exit(None if current else "the dashboard is not current: run scripts/dashboard")
    else:
        dashboard.FILE.write_text(dashboard.text(), encoding="utf-8")


if __name__ == "__main__":
    main()
