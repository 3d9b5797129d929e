"""Tasks that try what a sandbox refuses, and give the number of the error; 0 where it went well."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import pathlib
import resource
import shutil
import socket
import subprocess
import sys
import threading
from typing import Any, Callable, Optional

#: What came of the initializer's attempt.
_initialized: Optional[int] = None


def attempt(action: Callable[[], object]) -> int:
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


def create(path: str) -> int:
    return attempt(lambda: pathlib.Path(path).write_text("written"))


def initialize(path: str) -> None:
    global _initialized
    _initialized = create(path)


def initialized(*_: Any) -> Optional[int]:
    return _initialized


def change(folder: str) -> dict[str, int]:
    """All that can be done to files of a folder that has `old` and `older`."""
    path = pathlib.Path(folder)
    return {
        "append": attempt(lambda: (path / "old").open("a").close()),
        "truncate": attempt(lambda: os.truncate(path / "old", 0)),
        "create": create(str(path / "new")),
        "create a folder": attempt((path / "folder").mkdir),
        "link": attempt(lambda: os.link(path / "old", path / "link")),
        "rename": attempt(lambda: os.rename(path / "old", path / "renamed")),
        "remove": attempt((path / "older").unlink),
        "copy": attempt(lambda: shutil.copy(__file__, path / "copy")),
    }


def open_network(port: int) -> dict[str, int]:
    def connect(family: int, address: Any) -> None:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.connect(address)

    return {
        "connect": attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", port))),
        "unix": attempt(lambda: connect(socket.AF_UNIX, "/run/nobody-listens-here")),
        "datagram": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()),
        "look up": attempt(lambda: socket.create_connection(("localhost", port)).close()),
    }


def start_program(folder: Optional[str] = None) -> int:
    """What starting one came to, or what its own attempt to write in `folder` came to."""
    try:
        program = subprocess.run(
            [shutil.which("sh") or "sh", "-c", "echo x > file"], cwd=folder, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        return error.errno or -1
    return program.returncode


def work_as_usual(_: Any) -> list[Any]:
    """What every program may do."""
    import decimal  # not imported before: files are read

    seen: list[Any] = [decimal.Decimal(1) + 1]
    thread = threading.Thread(target=seen.append, args=("thread",))
    thread.start()
    thread.join()
    seen.append(asyncio.run(_later("loop")))
    with open(os.devnull, "w") as null:
        null.write("nothing")
    seen.append(pathlib.Path(__file__).read_text()[:3])
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    seen.append(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
    return seen


async def _later(value: str) -> str:
    await asyncio.sleep(0)
    return value


def limits(_: Any) -> list[int]:
    """What the limits on memory, descriptors and the size of files come to."""
    return [
        resource.getrlimit(limit)[1] for limit in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)
    ]


def allocate(size: int) -> int:
    return len(bytearray(size))


def write_long(path: str, size: int) -> int:
    return attempt(lambda: pathlib.Path(path).write_bytes(bytes(size)))


def open_many(count: int) -> int:
    opened: list[int] = []

    def open_all() -> None:
        opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(count))

    try:
        return attempt(open_all)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def own_status(*names: str) -> list[str]:
    lines = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    return [lines[name].strip() for name in names]


def nested(
    kind: Callable[..., Any], method: str, function: Callable[..., Any] = abs, args: tuple[Any, ...] = (1,)
) -> Any:
    """Calls in a pool of the worker's own."""
    with kind(1, **{_CONTEXT[kind.__name__]: multiprocessing.get_context(method)}) as pool:
        call = getattr(pool, "apply_async", None)
        return call(function, args).get() if call else pool.submit(function, *args).result()


_CONTEXT = {"Pool": "context", "ProcessPoolExecutor": "mp_context"}


# ---- a kernel that lacks something ----


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction))]


#: Numbers of system calls, by processor.
CALLS = {
    "x86_64": {"landlock_create_ruleset": 444, "landlock_restrict_self": 446, "seccomp": 317},
    "aarch64": {"landlock_create_ruleset": 444, "landlock_restrict_self": 446, "seccomp": 277},
}[os.uname().machine]


def forget_call(name: str, errno: int) -> None:
    """From now on this system call ends with an error, in this thread and all that it starts."""
    instructions = (_Instruction * 4)(
        _Instruction(0x20, 0, 0, 0),
        _Instruction(0x15, 0, 1, CALLS[name]),
        _Instruction(0x06, 0, 0, 0x00050000 | errno),
        _Instruction(0x06, 0, 0, 0x7FFF0000),
    )
    program = _Program(4, instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, ctypes.byref(program)) != 0:
        sys.exit(f"no seccomp: {os.strerror(ctypes.get_errno())}")
