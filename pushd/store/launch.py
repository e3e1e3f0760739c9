"""Becomes a PostgreSQL program: drops privileges, asks to be ended with its parent, then replaces itself.

Run as a script by `embedded.py`, never imported: `launch.py PARENT_PID UID GID PROGRAM [ARGUMENT ...]`. A fresh process
does this, because code between fork and exec of a process with threads can deadlock. The order matters: the kernel
forgets the death signal when the user id changes (prctl(2), PR_SET_PDEATHSIG), and the new user may not be able to read
Python's own modules, so all are imported before.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replaces this process; exits with 70 when the parent is gone already."""
    parent, uid, gid = (int(each) for each in sys.argv[1:4])
    command = sys.argv[4:]
    if os.geteuid() == 0 and uid != 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    _die_with_parent()
    if os.getppid() != parent:
        sys.exit(70)
    os.execv(command[0], command)  # noqa: S606  # what our parent asked for, without a shell


def _die_with_parent() -> None:
    # SIGINT is PostgreSQL's fast shutdown.
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0) != 0:
        sys.exit(71)


main()
