"""What a worker process runs."""

from __future__ import annotations

import errno
import faulthandler
import itertools
import os
import select
import traceback
from multiprocessing import reduction

from . import _procpool, interrupts, pickling, stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

#: How deep pools of pools may go. Each level multiplies the processes.
MAX_DEPTH = 10

#: A seat's room in the file of words, in bytes: the number of the start that its parent knows of, then the last words.
WORDS = 64 << 10
_START = 8

#: How long a worker waits at a time for its parent to know of it, in milliseconds.
_LOOK = 1

#: How many pools this process is a worker of a worker of.
depth = 0

#: Whether this process is in a sandbox in which no program can be started.
_forbids_programs = False

#: Whether procpool is in the place of the standard library's pools here, and so is to be in this process's workers
#: (`installation`).
is_installed = False

#: How an initializer's exception begins in the last words.
_EXCEPTION = b"exception:"


_starts = itertools.count(1)


class Attachment:
    """What a new worker needs to reach its pool. It goes along with the process object, by the means of its context."""

    def __init__(
        self,
        seat: int,
        descriptors: tuple[int, ...],
        sandbox: Optional[_procpool.Sandbox],
        words: Optional[int],
        stacks: Optional[int],
    ) -> None:
        self.seat = seat
        self.descriptors = descriptors
        self.sandbox = sandbox
        self.words = words
        self.stacks = stacks
        self.depth = depth + 1
        self.is_installed = is_installed
        self.is_inherited = True
        self.start = next(_starts)

    def __getstate__(self) -> dict[str, Any]:
        sent = [reduction.DupFd(descriptor) for descriptor in self.descriptors]
        places = {name: _sent(getattr(self, name)) for name in ("words", "stacks")}
        return {**self.__dict__, "descriptors": sent, **places, "is_inherited": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.descriptors = tuple(descriptor.detach() for descriptor in state["descriptors"])
        for name in ("words", "stacks"):
            setattr(self, name, None if state[name] is None else state[name].detach())

    def announce(self) -> None:
        """Parent: the process was started, and its pid is known."""
        if self.words is not None:
            os.pwrite(self.words, self.start.to_bytes(_START, "little"), self.seat * WORDS)

    def disown(self) -> None:
        """Parent: it could not be started. If there is a process all the same, it has to leave."""
        self.start = next(_starts)
        self.announce()

    def is_expected(self) -> bool:
        """Whether the parent knows of this process. One that a fork server started, and was killed before it could say so,
        would sit in a seat that is another's."""
        if self.words is None or self.is_inherited:
            return True
        parent = select.poll()
        parent.register(self.descriptors[1], select.POLLIN)
        while (known := self._known_start()) < self.start:
            if parent.poll(_LOOK):
                # It is dead.
                return False
        return known == self.start

    def _known_start(self) -> int:
        assert self.words is not None
        return int.from_bytes(os.pread(self.words, _START, self.seat * WORDS), "little")

    def take(self) -> tuple[int, ...]:
        """The descriptors, as this process's own."""
        # After a fork the numbers also belong to a copy of the pool's object, which may close them.
        return tuple(map(os.dup, self.descriptors)) if self.is_inherited else self.descriptors


def _sent(descriptor: Optional[int]) -> Any:
    return None if descriptor is None else reduction.DupFd(descriptor)


def main(
    attachment: Attachment,
    initializer: Optional[Callable[..., object]],
    initargs: tuple[Any, ...],
    unpicklable: Callable[[BaseException, Any], BaseException],
) -> None:
    """Serves the pool until it needs this process no more."""
    global depth, _forbids_programs
    depth = attachment.depth
    if attachment.sandbox is not None and not attachment.sandbox.programs:
        _forbids_programs = True
    interrupts.leave_to_the_parent()
    if not attachment.is_expected():
        return
    words = _LastWords(attachment)
    stacks.offer(attachment.stacks)
    if attachment.is_installed:
        from . import installation

        installation.install()

    def prepare() -> None:
        if initializer is not None:
            initializer(*initargs)

    def prepare_failed(error: BaseException) -> str:
        words.leave(_EXCEPTION + report(error))
        return "".join(traceback.format_exception_only(type(error), error)).strip()

    _procpool.work(
        attachment.seat,
        attachment.take(),
        attachment.sandbox,
        prepare=prepare,
        prepare_failed=prepare_failed,
        report=report,
        unpicklable=lambda error, result: report(unpicklable(error, result), error),
        make_pickler=pickling.make_pickler,
        reducers=pickling.reducers(),
        loads=pickling.loads,
    )


def initialize(initializer: Callable[..., object], *initargs: Any) -> None:
    """An executor's initializer: what it raises is logged as well."""
    try:
        initializer(*initargs)
    except BaseException:
        import logging

        logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
        raise


# ---- exceptions ----


def maybe_encoding_error(error: BaseException, result: Any) -> BaseException:
    """What the caller of a pool gets of a result that cannot be pickled, as `error` says."""
    from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

    encoding_error: BaseException
    try:
        encoding_error = MaybeEncodingError(error, result)
    except Exception:
        # Nor can it be shown.
        encoding_error = MaybeEncodingError(error, object.__repr__(result))
    return encoding_error


def the_error_itself(error: BaseException, result: Any) -> BaseException:
    """The same of an executor."""
    return error


def report(error: BaseException, reason: Optional[BaseException] = None) -> bytes:
    """`error` and the text of its traceback, or of that of `reason`, as bytes which the parent can certainly read."""
    shown = reason or error
    text = "".join(traceback.format_exception(type(shown), shown, shown.__traceback__))
    for form in (_whole, _rebuilt, _as_text):
        try:
            data = pickling.dumps((form(error), text))
            pickling.loads(data)
        except Exception:
            continue
        return data
    return pickling.dumps((RuntimeError("an exception that cannot be sent"), text))


def _whole(error: BaseException) -> BaseException:
    return error


class _Rebuilt:
    """An exception whose own way of being pickled does not work."""

    def __init__(self, error: BaseException) -> None:
        self.kind = type(error)
        self.args = error.args
        self.state = {name: value for name, value in vars(error).items() if _is_picklable(value)}

    def __reduce__(self) -> Any:
        return rebuild_exception, (self.kind, self.args, self.state)


def rebuild_exception(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """An exception of this class without a call of its `__init__`."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _rebuilt(error: BaseException) -> _Rebuilt:
    return _Rebuilt(error)


def _as_text(error: BaseException) -> BaseException:
    from .errors import UnpicklableError

    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return UnpicklableError(f"{name}: {error}")


def _is_picklable(value: Any) -> bool:
    try:
        pickling.loads(pickling.dumps(value))
    except Exception:
        return False
    return True


# ---- last words ----


class _LastWords:
    """A place in the parent's memory that outlives this process: a crash writes its stack there."""

    def __init__(self, attachment: Attachment) -> None:
        self._file: Optional[int] = None
        if attachment.words is None:
            return
        try:
            # A file position of this process's own: every worker writes at another place.
            self._file = os.open(f"/proc/self/fd/{attachment.words}", os.O_WRONLY | os.O_CLOEXEC)
            os.lseek(self._file, attachment.seat * WORDS + _START, os.SEEK_SET)
            if not faulthandler.is_enabled():
                faulthandler.enable(self._file)
        except OSError:
            # Words are a convenience; without /proc there are none.
            self._file = None

    def leave(self, words: bytes) -> None:
        if self._file is not None and len(words) < WORDS - _START:
            os.write(self._file, words)


def read_words(words: int, seat: int) -> tuple[Optional[str], Optional[bytes]]:
    """Parent: what the worker in `seat` left behind, which is dead: text, or the account of its initializer's exception.
    The place is empty afterwards."""
    place = seat * WORDS + _START
    data = os.pread(words, WORDS - _START, place).rstrip(b"\0")
    if not data:
        return None, None
    os.pwrite(words, bytes(len(data)), place)
    if data.startswith(_EXCEPTION):
        return None, data[len(_EXCEPTION) :]
    return data.decode(errors="replace").strip(), None


def check_place(context: Any) -> None:
    """Raises where there can be no pool here: one too deep, or one whose processes `context` cannot start."""
    method = context.get_start_method() if _forbids_programs else "fork"
    if method != "fork":
        raise PermissionError(
            errno.EPERM,
            f"this worker's sandbox forbids programs, and the start method {method!r} needs one: "
            "use 'fork', or allow programs in the sandbox",
        )
    if depth >= MAX_DEPTH:
        raise RuntimeError(
            f"pools within workers of pools, {depth} deep: no deeper, since every level multiplies the processes"
        )
