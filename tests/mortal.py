"""Children that end with us, however we end: what is killed cleans nothing up.

Run as a script it becomes a program that the kernel kills when its parent is gone: `mortal.py PARENT PROGRAM …`. A
fresh process asks for that, because code between fork and exec of a process with threads can deadlock.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2). The kernel forgets it where the program changes its user, and means the thread that started it."""


def mortal(*command):
    """The command, so that it ends with us."""
    return (sys.executable, "-I", "-S", __file__, str(os.getpid()), *map(str, command))


def main():
    """Replaces this process; exits with 70 when the parent is gone already."""
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        sys.exit(71)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(70)
    os.execvp(sys.argv[2], sys.argv[2:])  # what our parent asked for, without a shell


if __name__ == "__main__":
    main()
