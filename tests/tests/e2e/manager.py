"""Stands in for systemd: keeps a service running, and the descriptors that it is told to keep.

    manager.py NOTIFY_SOCKET COMMAND [ARGUMENT]...

Speaks sd_notify's FDSTORE, FDNAME and FDSTOREREMOVE and sd_listen_fds' LISTEN_FDS. Whenever the
service ends it is started again at once. SIGHUP asks it to end, SIGUSR1 kills it, and SIGTERM ends
both for good.
"""

import ctypes
import fcntl
import os
import select
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1


class Manager:
    def __init__(self, path, command):
        self.path, self.command = path, command
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.setblocking(False)
        self.notify.bind(path)
        self.kept = []
        self.pid, self.ended, self.last = None, None, False

    def start(self):
        self.pid = os.fork()
        if self.pid == 0:
            self.become()
        self.ended = os.pidfd_open(self.pid)

    def become(self):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        # First out of the way of where they are to be.
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 3 + len(self.kept)) for _, fd in self.kept]
        for place, fd in enumerate(moved):
            os.dup2(fd, 3 + place, inheritable=True)
        environment = dict(os.environ, NOTIFY_SOCKET=self.path)
        if self.kept:
            environment["LISTEN_PID"] = str(os.getpid())
            environment["LISTEN_FDS"] = str(len(self.kept))
            environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in self.kept)
        os.execve(self.command[0], self.command, environment)

    def read(self):
        while True:
            try:
                state, fds, _, _ = socket.recv_fds(self.notify, 65536, 16)
            except BlockingIOError:
                return
            lines = dict(line.split("=", 1) for line in state.decode().splitlines())
            name = lines.get("FDNAME", "stored")
            if lines.get("FDSTOREREMOVE") == "1":
                for kept, fd in self.kept:
                    if kept == name:
                        os.close(fd)
                self.kept = [(kept, fd) for kept, fd in self.kept if kept != name]
            for fd in fds:
                known = any(os.path.sameopenfile(fd, other) for _, other in self.kept)
                if lines.get("FDSTORE") != "1" or known:
                    os.close(fd)
                else:
                    self.kept.append((name, fd))

    def signalled(self, number):
        if number == signal.SIGTERM:
            self.last = True
        what = signal.SIGKILL if number == signal.SIGUSR1 else signal.SIGTERM
        signal.pidfd_send_signal(self.ended, what)

    def run(self):
        wanted = [signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM]
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in wanted:
            signal.signal(number, lambda *_: None)
        self.start()
        while True:
            ready, _, _ = select.select([self.notify, self.ended, woken], [], [])
            self.read()
            if woken in ready:
                for number in os.read(woken, 64):
                    self.signalled(number)
            if self.ended in ready:
                _, status = os.waitpid(self.pid, 0)
                os.close(self.ended)
                self.read()
                if self.last:
                    return os.waitstatus_to_exitcode(status)
                self.start()


sys.exit(Manager(sys.argv[1], sys.argv[2:]).run())
