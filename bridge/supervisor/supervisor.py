"""Decides: what starts, what is started again, what is told, and when all is over."""

from __future__ import annotations

import time
from pathlib import Path
from signal import Signals

from bridge.errors import EX_CONFIG, EX_NOPERM
from bridge.settings.systemd import ServiceManager
from bridge.supervisor.output import Output
from bridge.supervisor.processes import Child, Processes
from bridge.supervisor.programs import Plan
from bridge.supervisor.rolling import RollingRestart, Steps
from bridge.supervisor.slot import Slot

#: These signals end `bridge up`. HUP arrives when a terminal closes.
ENDING = (Signals.SIGTERM, Signals.SIGINT, Signals.SIGHUP, Signals.SIGQUIT)
SIGNALS = (*ENDING, Signals.SIGTSTP, Signals.SIGTTIN, Signals.SIGUSR2)
#: Another start does not correct these: settings, and a user of Redis without the rights.
FATAL = (EX_NOPERM, EX_CONFIG)
#: Wrong words on the command line of Celery (2) and of the sidecar (64).
FATAL_AT_START = (2, 64)
#: Workers start without their sidecar after this long: native jobs need none.
SIDECAR_START_SECONDS = 60.0
#: A worker gives back the jobs that did not end in its shutdown timeout within this time.
WORKER_MARGIN_SECONDS = 15.0
#: `--timeout` of the sidecar, and its last replies.
SIDECAR_STOP_SECONDS = 45.0
QUICK_STOP_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_MORE_TIME = "EXTEND_TIMEOUT_USEC=30000000"


class Supervisor:
    """Runs until a signal or a fatal end of a process."""

    def __init__(
        self, plan: Plan, processes: Processes, output: Output, manager: ServiceManager | None
    ) -> None:
        self._plan, self._processes, self._output, self._manager = plan, processes, output, manager
        self.worker_seconds = plan.settings.shutdown_timeout_seconds + WORKER_MARGIN_SECONDS
        self._generation = 0
        self.sidecars = [self.new_sidecar()] if plan.sidecar else []
        url = self.sidecars[0].program.sidecar_url if self.sidecars else None
        self.workers = [
            Slot(plan.worker(number, url), processes.start, number) for number in range(1, plan.workers + 1)
        ]
        self._workers_may_start_at = time.monotonic() + (SIDECAR_START_SECONDS if self.sidecars else 0.0)
        self._rolling: Steps | None = None
        self._roll_again = False
        self._is_quiet = self._is_ending = self._is_quick = self._was_ready = False
        self._status = 0
        self._told = ""
        self._linked: str | None = None

    def run(self) -> int:
        """Supervise. Returns the exit status."""
        while not (self._is_ending and not self._processes.running):
            self._step(time.monotonic())
            received, ended = self._processes.turn(self._pause())
            for number in received:
                self._signalled(number)
            for child in ended:
                self._ended(child)
        if self._linked:
            self._plan.newest_socket.unlink(missing_ok=True)
        return self._status

    def new_sidecar(self) -> Slot:
        """A slot for a sidecar of the next generation."""
        self._generation += 1
        return Slot(self._plan.sidecar_program(self._generation), self._processes.start)

    def retire(self, slot: Slot) -> None:
        """Supervise this sidecar no longer, and end it."""
        self.sidecars.remove(slot)
        if slot.child is not None:
            slot.child.leave(Signals.SIGTERM, SIDECAR_STOP_SECONDS)

    def say(self, message: str, level: str = "INFO") -> None:
        """A line in the log."""
        self._output.say(message, level)

    # -- each turn

    def _step(self, now: float) -> None:
        for child in self._processes.running.values():
            if child.kill_at is not None and now >= child.kill_at:
                self.say(f"{child.name} (pid {child.pid}) did not end in its time: killed", "WARN")
                child.kill_at = None
                child.signal(Signals.SIGKILL)
        if self._is_ending:
            self._end_sidecars()
            return
        self._fill(now)
        self._end_silent(now)
        self._roll()
        self._link()
        self._report()

    def _fill(self, now: float) -> None:
        if self._is_quiet:
            return
        for slot in self.sidecars:
            slot.fill(now)
        if self._was_ready or now >= self._workers_may_start_at or self._sidecars_ready():
            self._workers_may_start_at = now
            for slot in self.workers:
                slot.fill(now)

    def _sidecars_ready(self) -> bool:
        return all(slot.is_ready for slot in self.sidecars)

    def _end_silent(self, now: float) -> None:
        for child in self._processes.running.values():
            if child.hears_nothing(now):
                self.say(f"{child.name} (pid {child.pid}) gives no sign of life: killed", "ERROR")
                child.heard_at = now
                child.signal(Signals.SIGKILL)

    def _roll(self) -> None:
        if self._rolling is None and self._roll_again:
            self._roll_again = False
            self._rolling = RollingRestart(self, self._plan, self._processes.start).steps()
        if self._rolling is not None:
            try:
                next(self._rolling)
            except StopIteration:
                self._rolling = None

    def _link(self) -> None:
        """Let ``sidecar.sock`` lead to the newest sidecar."""
        slot = self.sidecars[-1] if self.sidecars else None
        if slot is None or not slot.is_ready or slot.program.sidecar_url == self._linked:
            return
        self._linked = slot.program.sidecar_url
        link = self._plan.newest_socket
        fresh = link.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path(str(self._linked).removeprefix("unix://")).name)
        fresh.replace(link)

    def _report(self) -> None:
        ready = sum(slot.is_ready for slot in self.workers)
        complete = ready == len(self.workers) and self._sidecars_ready()
        if complete and not self._was_ready:
            self._was_ready = True
            self.say(f"ready: {_inventory(self.sidecars, self.workers)}")
            self._tell("READY=1")
        if self._manager is not None:
            self._tell("WATCHDOG=1" if self._was_ready else _MORE_TIME)
            status = f"STATUS={ready} of {len(self.workers)} workers ready"
            if status != self._told:
                self._told = status
                self._tell(status)

    def _tell(self, lines: str) -> None:
        if self._manager is not None:
            self._manager.tell(lines)

    def _pause(self) -> float:
        now = time.monotonic()
        due = [slot.next_start - now for slot in (*self.sidecars, *self.workers) if slot.child is None]
        if self._roll_again and self._rolling is None:
            return 0.0
        return min([_LOOK_SECONDS, *(seconds for seconds in due if seconds > 0)])

    # -- signals

    def _signalled(self, number: Signals) -> None:
        self.say(f"received {number.name}")
        if number in ENDING:
            self._stop(number)
        elif number is Signals.SIGUSR2:
            self._ask_to_roll()
        else:
            self._is_quiet = self._is_quiet or number is Signals.SIGTSTP
            for child in [*self._processes.running.values()]:
                child.signal(number)

    def _ask_to_roll(self) -> None:
        if self._is_quiet or self._is_ending:
            self.say("nothing is replaced: the workers are quiet or end", "WARN")
        else:
            self._roll_again = True

    def _stop(self, number: Signals) -> None:
        """The first signal ends in order, the second one quickly, the third one at once."""
        if self._is_quick:
            self.say("a third signal: every process is killed", "WARN")
            self._all(Signals.SIGKILL, QUICK_STOP_SECONDS)
        elif self._is_ending or number is Signals.SIGQUIT:
            self._is_quick = True
            self._end(self._status, Signals.SIGQUIT, QUICK_STOP_SECONDS)
        else:
            self._end(0)

    def _end(self, status: int, number: Signals = Signals.SIGTERM, seconds: float | None = None) -> None:
        self._is_ending, self._status, self._rolling = True, status, None
        self._tell("STOPPING=1")
        for child in self._alive(is_sidecar=False):
            child.leave(number, self.worker_seconds if seconds is None else seconds)

    def _end_sidecars(self) -> None:
        """Sidecars end after the last worker: no running job loses its sidecar."""
        if self._alive(is_sidecar=False):
            return
        seconds = QUICK_STOP_SECONDS if self._is_quick else SIDECAR_STOP_SECONDS
        for child in self._alive(is_sidecar=True):
            if not child.is_leaving:
                child.leave(Signals.SIGTERM, seconds)

    def _all(self, number: Signals, seconds: float) -> None:
        for child in [*self._processes.running.values()]:
            child.leave(number, seconds)

    def _alive(self, *, is_sidecar: bool) -> list[Child]:
        return [child for child in self._processes.running.values() if child.program.is_sidecar is is_sidecar]

    # -- ends

    def _ended(self, child: Child) -> None:
        words = child.end_in_words()
        slot = next((each for each in (*self.sidecars, *self.workers) if each.child is child), None)
        if child.is_leaving or self._is_ending or slot is None:
            self.say(words)
            return
        fatal = FATAL if child.ready_at is not None else (*FATAL, *FATAL_AT_START)
        if child.status in fatal:
            slot.child = None
            self.say(f"{words}. Another start would not help: everything ends", "FATAL")
            self._end(child.status or 0)
            return
        wait = slot.ended(child)
        if not self._is_quiet:
            self.say(f"{words}: started again{f' in {wait:g} s' if wait else ''}", "WARN")
        elif any(each.child for each in self.workers):
            self.say(f"{words}: a quiet worker is not started again", "WARN")
        else:
            self.say(f"{words}: the last worker, and all are quiet", "WARN")
            self._end(0)


def _inventory(sidecars: list[Slot], workers: list[Slot]) -> str:
    parts = [f"{slot.program.name} on {slot.program.sidecar_url}" for slot in sidecars]
    parts += [f"{slot.program.name} (pid {slot.child.pid})" for slot in workers if slot.child]
    return ", ".join(parts)
