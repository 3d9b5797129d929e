"""Runs whole programs in interpreters of their own, in bounded time, and looks at what they leave."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path
from typing import NamedTuple, Optional

from waiting import LONG, wait_until

#: A program with more processes than this has run wild.
CROWD = 100

HERE = str(Path(__file__).parent)


class Finished(NamedTuple):
    status: int
    output: str
    errors: str

    def check(self) -> str:
        """The output of a program that was to succeed."""
        assert self.status == 0, f"status {self.status}\n{self.output}\n{self.errors}"
        return self.output


class Program:
    """A running program, alone in its session, so that whatever it starts can be found and ended. Its input is `text`, or
    a terminal."""

    def __init__(
        self,
        *arguments: str,
        folder: Optional[Path] = None,
        text: Optional[str] = None,
        has_terminal: bool = False,
    ) -> None:
        paths = [HERE, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._terminal, terminal = pty.openpty() if has_terminal else (None, None)
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=terminal or (subprocess.DEVNULL if text is None else subprocess.PIPE),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            preexec_fn=_take_terminal if has_terminal else None,
        )
        if terminal is not None:
            os.close(terminal)
        self._text = text

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """The next line of its output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def interrupt(self) -> None:
        """Ctrl-C: the signal goes to all of its processes."""
        if self._terminal is None:
            os.killpg(self.pid, signal.SIGINT)
        else:
            self.type("\x03")

    def type(self, text: str) -> None:
        """At its terminal."""
        assert self._terminal is not None
        os.write(self._terminal, text.encode())

    def finish(self, timeout: float = LONG) -> Finished:
        """Waits for its end; kills it, and fails, if there is none."""
        deadline = time.monotonic() + timeout
        while True:
            # Only the first call may give the input; the later ones go on with it.
            text, self._text = self._text, None
            try:
                output, errors = self.process.communicate(text, timeout=0.5)
                return Finished(self.process.returncode, output, errors)
            except subprocess.TimeoutExpired:
                pass
            crowd = len(self.members())
            if crowd > CROWD or time.monotonic() > deadline:
                self.kill()
                output, errors = self.process.communicate()
                said = f"{crowd} processes\n{output[-5000:]}\n{errors[-5000:]}"
                raise AssertionError(f"the program has not ended in {timeout:g} s, or has run wild: {said}")

    def kill(self) -> None:
        """Ends all of its processes, and the terminal."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        terminal, self._terminal = self._terminal, None
        if terminal is not None:
            os.close(terminal)

    def members(self) -> list[int]:
        """All live processes of its session."""
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _session_of(path) == self.pid]

    def check_all_have_gone(self) -> None:
        """None of its processes has outlived it."""
        try:
            wait_until(lambda: not self.members(), "all processes of the program have gone", 20)
        finally:
            self.kill()


def _session_of(path: Path) -> Optional[int]:
    try:
        state, _parent, _group, session = (path / "stat").read_text().rsplit(")", 1)[1].split()[:4]
    except OSError:
        return None
    return None if state == "Z" else int(session)


def _take_terminal() -> None:
    """In the new process: its input is the terminal that its whole session listens to."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def start(folder: Path, source: str, *arguments: str, has_terminal: bool = False) -> Program:
    """Begins a program with this source."""
    script = folder / "program.py"
    script.write_text(textwrap.dedent(source))
    return Program(str(script), *arguments, folder=folder, has_terminal=has_terminal)


def run(folder: Path, source: str, *arguments: str, timeout: float = LONG) -> Finished:
    """Runs a program with this source to its end, and checks that nothing of it goes on."""
    program = start(folder, source, *arguments)
    finished = program.finish(timeout)
    program.check_all_have_gone()
    return finished
