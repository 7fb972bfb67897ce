"""What every fault ends with."""

from __future__ import annotations

from tests.faults.report import Report
from tests.faults.rig import Rig


def settle(
    rig: Rig, report: Report, fault: str, recovery: float | None, note: str = "", *, counted: bool = True
) -> None:
    """Wait until all is quiet. Nothing is lost; nothing ran again unless a process died that ran it."""
    rig.wait_quiet()
    account = rig.account()
    report.add(fault, account, recovery, note)
    assert not account.lost, f"{len(account.lost)} jobs are lost: {account.lost[:5]}"
    assert not account.unexplained, f"ran again and nobody had died: {account.unexplained[:5]}"
    assert not account.strangers
    if counted:
        rig.assert_counted()
    rig.assert_well()


def settle_once(rig: Rig, report: Report, fault: str, recovery: float | None, note: str = "") -> None:
    """As ``settle``, and nothing at all ran twice."""
    settle(rig, report, fault, recovery, note)
    assert report.lines[-1].repeated == 0
