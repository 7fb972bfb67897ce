"""Fixtures that all suites share stand in tests/support/fixtures.py."""

import signal

from hypothesis import HealthCheck, settings

from tests.support import held_ports

# A shell that starts a suite in the background has it ignore SIGINT, and its children inherit that: a test
# that interrupts a command would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no fault of the code under test.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

held_ports.hold()

pytest_plugins = [
    "tests.support.shared_servers",
    "tests.support.fixtures",
    "tests.support.process_state",
    "tests.support.reports",
]
