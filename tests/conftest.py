"""Fixtures that all suites share stand in tests/support/fixtures.py."""

pytest_plugins = ["tests.support.fixtures"]
