"""Options about the process of a worker or of beat: its user, its files, the background.

Celery acts on these before a worker exists, and ends in a traceback, or without a word once it is in the
background. Each of them works here, or is refused in one sentence.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
import stat
import sys
from pathlib import Path
from typing import Any

import celery
import click
from celery import platforms
from celery.exceptions import SecurityError
from celery.utils.nodenames import node_format

from bridge.errors import ConfigurationError
from bridge.worker import preflight, setting_types

#: A second ``-D`` would send the process that is in the background there again, without end.
_DETACHES = re.compile("-[BE]*D[BDE]*|--detach")
_USER = ("--uid", "--gid")
#: Words in the command line of another worker, or of beat.
_OURS = (b"celery", b"bridge")


def install(app: Any) -> None:
    """Have these options checked by the commands ``worker`` and ``beat`` of this application."""
    for command in ("worker", "beat"):
        app.user_options[command].add(_hidden("--check-daemon-options", check))
    app.user_options["worker"].add(_hidden("--check-names", _check_names, is_eager=True))


def _hidden(name: str, callback: Any, **options: Any) -> click.Option:
    """For click, which calls back before all other options, or (not eager) behind them."""
    return click.Option([name], is_flag=True, hidden=True, expose_value=False, callback=callback, **options)


def _check_names(context: click.Context, *_: Any) -> None:
    """A module that reads ``app.conf`` while it is imported is ahead of the check at the first read."""
    if (sentence := setting_types.unloadable(context.obj.app.conf)) is not None:
        preflight.refuse(ConfigurationError(sentence))


def check(context: click.Context, *_: Any) -> None:
    """Become the user, then look at the files as that user."""
    given = context.params
    try:
        who = _become(given)
        named = _check_files(given, who, context.obj.app.bridge.settings, context.info_name == "worker")
        if given.get("detach") and not os.access(given.get("executable") or sys.executable, os.X_OK):
            raise ConfigurationError(f"--executable {given['executable']}: {who} may not run this file.")
    except ConfigurationError as error:
        preflight.refuse(error)
    if given.get("detach"):
        if not named:
            click.echo("bridge: -D without -f: the log goes nowhere. Name a file by -f.", err=True)
        _leave_out_of_command_line()


# -- the user


def _become(given: dict[str, Any]) -> str:
    """Become the user and group of the options. Returns the words for the user of this process."""
    uid, gid = _number("uid", given.get("uid")), _number("gid", given.get("gid"))
    if uid is None and gid is None:
        return f"the user {_name(os.geteuid())}"
    asked = " ".join(f"--{name} {given[name]}" for name in ("uid", "gid") if given.get(name))
    if uid in (None, os.geteuid()) and gid in (None, os.getegid()):
        pass  # it is that user already, as the process in the background is
    elif os.geteuid() != 0:
        raise ConfigurationError(
            f"{asked}: only root may become another user, and this is {_name(os.geteuid())}. Start the "
            "worker as that user, and leave the option away."
        )
    else:
        try:
            platforms.maybe_drop_privileges(uid=uid, gid=gid)
        except (KeyError, OSError, SecurityError) as error:
            raise ConfigurationError(f"{asked}: cannot become that user: {error}.") from None
    given["uid"] = given["gid"] = None  # Celery has nothing left to do
    who = f"the user {_name(os.geteuid())}"
    for file in (given.get("executable") or sys.executable, os.__file__, celery.__file__, __file__):
        if not os.access(file, os.R_OK):
            raise ConfigurationError(
                f"{asked}: {who} may not read {file}, which this worker needs. Install Python and the bridge "
                "where that user may read them."
            )
    return who


def _number(option: str, value: Any) -> int | None:
    if value in (None, ""):
        return None
    try:
        return int((platforms.parse_uid if option == "uid" else platforms.parse_gid)(value))
    except KeyError:
        kind = "user" if option == "uid" else "group"
        raise ConfigurationError(f"--{option} {value}: this machine has no such {kind}.") from None


def _name(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


# -- files


def _check_files(given: dict[str, Any], who: str, settings: Any, is_worker: bool) -> bool:
    """Whether a file for the log is named."""
    node = given.get("hostname") or ""
    log_file = settings.log_file if is_worker else None
    if path := given.get("logfile"):
        _check_writable(f"-f {path}", node_format(path, node), who)
    elif log_file:
        _check_writable(f"{settings.source('log_file')}={log_file}", log_file, who)
    if pidfile := given.get("pidfile"):
        _check_pidfile(f"--pidfile {pidfile}", Path(node_format(pidfile, node)), who)
    return bool(path or log_file)


def _check_writable(named: str, path: str | Path, who: str) -> None:
    folder = _folder_of(named, path, who)
    if not os.path.exists(path):
        _check_folder(named, folder, who)
    elif not os.access(path, os.W_OK):
        raise ConfigurationError(f"{named}: {who} may not write to this file. Name a file elsewhere.")


def _folder_of(named: str, path: str | Path, who: str) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise ConfigurationError(f"{named}: this is a folder. Name a file in it.")
    if not os.path.isdir(folder):
        raise ConfigurationError(f"{named}: {who} finds no folder {folder}. Make it, or name another.")
    return folder


def _check_folder(named: str, folder: str, who: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{named}: {who} may not write to {folder}. Name a file elsewhere.")


def _check_pidfile(named: str, path: Path, who: str) -> None:
    """Celery removes a file of a process that is gone, and a broken one; it makes a new file each time."""
    _check_folder(named, _folder_of(named, path, who), who)
    if not os.path.lexists(path):
        return
    if not os.access(path, os.R_OK) or _is_kept_by_folder(path):
        owner = _name(path.lstat().st_uid)
        raise ConfigurationError(f"{named}: the file belongs to the user {owner}. Name another.")
    pid = _pid_in(path)
    if pid is not None and pid != os.getpid() and _lives(pid):
        print(
            f"bridge: {named}: the process {pid} runs. If it is not this worker, remove the file: its number "
            "is that of another program now.",
            file=sys.stderr,
        )
        sys.exit(os.EX_CANTCREAT)


def _is_kept_by_folder(path: Path) -> bool:
    """In a folder like /tmp only the owner may remove a file."""
    folder, own = path.absolute().parent.stat(), os.geteuid()
    return bool(folder.st_mode & stat.S_ISVTX) and own not in (0, folder.st_uid, path.lstat().st_uid)


def _pid_in(path: Path) -> int | None:
    try:
        return int(path.read_text().strip())
    except ValueError:
        return None


def _lives(pid: int) -> bool:
    """Whether a process has that number. One of another user counts if it is a worker, or beat."""
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) != errno.EPERM:
            return False
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            return any(word in command for word in _OURS)
        return False
    return pid > 0


# -- the background


def _leave_out_of_command_line() -> None:
    """The process in the background starts by this command line, as the user that this process is now.

    Celery takes the words ``--uid`` and ``-D`` away, but no value behind a word, and no ``-ED``.
    """
    kept: list[str] = []
    words = iter(sys.argv)
    for word in words:
        if word in _USER:
            next(words, None)
        elif _DETACHES.fullmatch(word):
            kept.extend(f"-{flag}" for flag in word if flag in "BE" and not word.startswith("--"))
        elif not word.startswith(tuple(f"{option}=" for option in _USER)):
            kept.append(word)
    sys.argv[:] = kept
    for name in ("DETACH", "UID", "GID"):
        os.environ.pop(f"CELERY_WORKER_{name}", None)
