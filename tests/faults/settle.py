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
    assert not account.unexplained, f"ran again and nobody had died: {story(rig, account.unexplained)}"
    assert not account.strangers
    if counted:
        rig.assert_counted()
    rig.assert_well()


def story(rig: Rig, jids: tuple[str, ...]) -> str:
    """What the ledger says of the first few."""
    runs = [str(line) for line in rig.ledger.lines if line["jid"] in jids[:5]]
    logs = (path.read_text(errors="replace") for path in rig.directory.glob("*.log"))
    leases = [line for log in logs for line in log.splitlines() if "FENCED" in line or "recovered" in line]
    return "\n".join(["", *runs, *leases[-40:]])


def settle_once(rig: Rig, report: Report, fault: str, recovery: float | None, note: str = "") -> None:
    """As ``settle``, and nothing at all ran twice."""
    settle(rig, report, fault, recovery, note)
    assert report.lines[-1].repeated == 0
