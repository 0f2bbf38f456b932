"""A function in a process of its own, which is killed when a call takes too long.

Nothing inside a Python process can end a call that does not want to end: `9**9**9**9` is one
instruction, which no signal handler and no other thread gets in between of. So the function is sent
to a second process, once, and calls go there.

That process is a nursery: it imports and unpickles, and forks a child that does the work. A child
that is killed is replaced by another fork, which takes milliseconds, where a new Python and its
imports would take seconds. The nursery starts from nothing instead of being forked from the caller,
whose threads, locks and CUDA context a fork would not survive.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

START_LIMIT = 120.0  # seconds for imports and unpickling
_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from llm_gym.scorers.worker import main; main()"
)
_PID_BYTES = 8
_READY = "ready"


class TimeLimitError(RuntimeError):
    """A call took too long; its process has been killed."""


class WorkerDiedError(RuntimeError):
    """The process that a function ran in has ended during the call."""


class Worker:
    """Calls a function in another process, and kills that at the time limit.

    The process starts with the first call and is kept; what the function remembers stays there, and
    is forgotten when it is killed. It ends with this object, or with this process, whatever ends
    that. Copies and pickles start a process of their own.

    Args:
        function: Called with the arguments of each call. Lambdas and functions of a notebook or a
            script will do: it is sent with cloudpickle.

    Raises:
        TypeError: The function cannot be pickled.
        OSError: The system cannot fork (Windows).
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        import cloudpickle

        if not hasattr(os, "fork"):
            raise OSError(
                "a time limit needs a system that can fork (Linux, macOS): pass time_limit=None"
            )
        try:
            self._payload = cloudpickle.dumps(function)
        except Exception as error:  # whatever some object's __reduce__ raises
            raise TypeError(
                f"cannot be sent to another process: {type(error).__name__}: {error}"
            ) from error
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._control: socket.socket | None = None
        self._child: tuple[int, Connection] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"payload": self._payload}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._payload = state["payload"]
        self._forget()

    def start(self) -> None:
        """Starts the process, if it does not run: a call would do it, too.

        Raises:
            RuntimeError: It cannot start, or the function cannot be unpickled there.
        """
        if self._owner != os.getpid():  # forked with the worker of another process
            self._forget()
        with self._lock:
            if self._child is None:
                self._start()

    def call(self, *arguments: Any, time_limit: float) -> Any:
        """Calls the function.

        Args:
            *arguments: What it is called with; pickled.
            time_limit: Seconds until it is killed, from the moment that the arguments are sent.

        Returns:
            What it returned.

        Raises:
            TimeLimitError: It took longer.
            WorkerDiedError: Its process ended by itself.
            RuntimeError: The process cannot start, or the function cannot be unpickled there.
            Exception: What the function raised.
        """
        import cloudpickle

        job = cloudpickle.dumps(arguments)
        self.start()
        with self._lock:
            pid, connection = self._child or self._start()
            try:
                connection.send_bytes(job)
                if not connection.poll(time_limit):
                    raise TimeLimitError(f"no answer within {time_limit:g} s")
                succeeded, outcome = _loads(connection.recv_bytes())
            except BaseException as error:  # Ctrl-C as well: the child must not go on
                self._child = None
                connection.close()
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)
                if isinstance(error, (EOFError, ConnectionError)):
                    raise WorkerDiedError("the process that it ran in has died") from error
                raise
        if not succeeded:
            raise outcome
        return outcome

    def _start(self) -> tuple[int, Connection]:
        """Waits for the next child of the nursery, which is started if there is none."""
        for control in (self._control, None):
            child = self._next_child(control or self._start_nursery())
            if child is not None:
                self._child = child
                return child
        raise RuntimeError("the process that it should run in does not start")

    def _start_nursery(self) -> socket.socket:
        control, theirs = socket.socketpair()
        path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
        with theirs:
            command = [sys.executable, "-c", _COMMAND, path]
            nursery = subprocess.Popen(command, stdin=theirs.fileno())  # noqa: S603 - our own code
        weakref.finalize(self, _end, nursery, control, os.getpid())
        control.settimeout(START_LIMIT)
        control.sendall(len(self._payload).to_bytes(_PID_BYTES, "little") + self._payload)
        self._control = control
        return control

    def _next_child(self, control: socket.socket) -> tuple[int, Connection] | None:
        try:
            message, fds, _, _ = socket.recv_fds(control, 65536, 1)
        except OSError:
            message, fds = b"", []
        if not fds:
            self._control = None
            control.close()
            if message:
                raise RuntimeError(message.decode(errors="replace"))
            return None
        connection = Connection(fds[0])
        with contextlib.suppress(EOFError, OSError):
            if connection.poll(START_LIMIT) and _loads(connection.recv_bytes()) == _READY:
                return int.from_bytes(message, "little"), connection
        raise RuntimeError(f"the process that it should run in does not start in {START_LIMIT:g} s")


def _end(nursery: subprocess.Popen[bytes], control: socket.socket, owner: int) -> None:
    if owner != os.getpid():
        return
    control.close()  # the nursery sees it, kills its child and ends
    try:
        nursery.wait(5)
    except subprocess.TimeoutExpired:
        nursery.kill()
        nursery.wait()


def main() -> None:
    """The nursery: unpickles what the other end of its standard input sends, and forks workers."""
    import cloudpickle  # noqa: F401 - here, so that no worker has to

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who then closes
    control = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    with control.makefile("rb") as received:
        payload = received.read(int.from_bytes(received.read(_PID_BYTES), "little"))
    try:
        function = _loads(payload)
    except BaseException as error:
        control.sendall(f"it cannot be unpickled: {type(error).__name__}: {error}".encode()[:65536])
        return
    if _has_cuda():  # a context does not survive a fork: serve here, start anew when killed
        ours, theirs = socket.socketpair()
        os.setpgid(0, 0)
        socket.send_fds(control, [os.getpid().to_bytes(_PID_BYTES, "little")], [theirs.fileno()])
        theirs.close()
        _serve(Connection(ours.detach()), function)
        return
    while _fork_worker(control, function):
        pass


def _has_cuda() -> bool:
    return "torch" in sys.modules and importlib.import_module("torch").cuda.is_initialized()


def _fork_worker(control: socket.socket, function: Callable[..., Any]) -> bool:
    """Forks a worker and waits until it has ended. Returns False once the caller has gone."""
    ours, theirs = socket.socketpair()
    ended, running = os.pipe()  # the write end is the worker's alone: its death closes it
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        for end in (control, theirs):
            end.close()
        os.close(ended)
        try:
            _serve(Connection(ours.detach()), function)
        finally:
            os._exit(0)  # also from a function that raises SystemExit
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # here too: whichever of both comes first
    os.close(running)
    try:
        socket.send_fds(control, [pid.to_bytes(_PID_BYTES, "little")], [theirs.fileno()])
        ours.close()
        theirs.close()
        readable, _, _ = select.select([control.fileno(), ended], [], [])
    except OSError:
        readable = [control.fileno()]
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(ended)
    return control.fileno() not in readable


def _serve(connection: Connection, function: Callable[..., Any]) -> None:
    """Answers calls until the caller closes the connection."""
    import cloudpickle

    connection.send_bytes(cloudpickle.dumps(_READY))
    while True:
        try:
            arguments = _loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer = cloudpickle.dumps((True, function(*arguments)))
        except Exception as error:
            answer = _pickled_error(error)
        sys.stdout.flush()  # a worker ends without Python's cleaning up
        connection.send_bytes(answer)


def _pickled_error(error: Exception) -> bytes:
    import cloudpickle

    try:
        answer = cloudpickle.dumps((False, error))
        _loads(answer)  # an exception that wants other arguments fails only here
    except Exception:
        answer = cloudpickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return answer


def _loads(message: bytes) -> Any:
    return pickle.loads(message)  # noqa: S301 - from this process's child, or the one it serves
