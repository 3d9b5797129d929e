"""Fuzzing of what a Python program reads from its workers: `python tests/python/result_stream.py --help`.

A real pool runs real tasks. When one has ended, and before its outcome is taken, this program writes over its slot, or
over the block that its reply lies in, as a worker that has gone mad might; then it takes the outcome. Whatever was
written, that ends in a value or in an `Exception`, and the pool goes on.

What is a pickle is left to pickle only where it is one that was sent: to read any other one is to run it. Instead of what
others would make of the process, the reader here makes objects that no worker sends.
"""

from __future__ import annotations

import argparse
import array
import multiprocessing
import os
import pickle
import random
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, Optional

import procpool
from procpool import pickling

#: Heads of messages that once led the fuzzer of `frame.rs` somewhere new, after two bytes that are not theirs.
CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus" / "frames"

#: A slot in the shared memory: state, event, kind, and the place of the payload.
SLOT = struct.Struct("<QIIQQQ")
SLOT_SIZE = 256
INLINE = SLOT_SIZE - SLOT.size
DONE = 4

#: The header of a message: call, flags, count of buffers, length of the function.
HEADER = struct.Struct("<BBHII")

NUMBERS = (0, 1, 7, 8, 63, 64, 65, 215, 216, 217, 4096, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


#: How exceptions begin that say that a reply was written over, or that there is none.
TOLD: dict[type[BaseException], tuple[str, ...]] = {
    procpool.PoolBroken: ("a worker wrote over the shared memory",),
    # The second is `array`'s, of a buffer that was cut.
    ValueError: ("the shared memory holds no message", "bytes length not a multiple"),
    MemoryError: ("the result of",),
    pickle.UnpicklingError: ("not a pickle that was sent",),
}


class Failure(Exception):
    """Something that must not happen."""


# ---- tasks ----


def give(kind: str) -> Any:
    if kind == "small":
        return {"small": (1, 2.5, "three")}
    if kind == "long":
        return "long" * 3000
    if kind == "buffers":
        return [array.array("d", range(300)), array.array("q", range(1000)), b"between"]
    if kind == "nothing":
        return None
    raise LookupError(kind)


KINDS = ("small", "long", "buffers", "nothing", "raised")

# ---- the reader ----


class Odd:
    """Takes no attributes and has no text."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise ValueError("no text")


def no_accounts() -> list[Any]:
    """What a stream may say instead of an account of an exception. New ones each time: exceptions hold on to frames."""
    return [
        None,
        (),
        7,
        "ab",
        (None, None),
        (ValueError("without text"),),
        (ValueError("with a number"), 5),
        (ValueError("with an odd text"), Odd()),
        (ValueError, "a class and no exception"),
        (Odd(), "text"),
        (ValueError("with more"), "text", "and more"),
    ]


def accounts() -> list[Any]:
    return [(KeyboardInterrupt("account"), "text"), (ValueError("account"), "text")]


class Reader:
    """In the place of `pickle.loads`."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.sent: set[bytes] = set()

    def __call__(self, data: Any, buffers: Any = ()) -> Any:
        stream = bytes(data)
        if os.getpid() != self.process or stream in self.sent:
            return pickle.loads(stream, buffers=buffers)
        # Every byte that was promised is there.
        touched = len(stream) + sum(sum(memoryview(buffer)) for buffer in buffers)
        if touched % 3 == 0:
            raise pickle.UnpicklingError("not a pickle that was sent")
        objects = no_accounts() + accounts()
        return objects[touched % len(objects)]


# ---- the scribbler ----


class Memory:
    """The pool's shared memory, by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def find(self, pattern: bytes) -> int:
        """Where `pattern` lies, of which there must be one."""
        found = [place for place, data in self._written() for place in _places(place, data, pattern)]
        if len(found) != 1:
            raise Failure(f"{len(found)} places have the pattern")
        return found[0]

    def _written(self) -> Iterator[tuple[int, bytes]]:
        """The pages that were ever written to."""
        end = 0
        while True:
            try:
                start = os.lseek(self.descriptor, end, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(self.descriptor, start, os.SEEK_HOLE)
            yield start, self.read(start, end - start)

    def read(self, place: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, place)

    def write(self, place: int, data: bytes) -> None:
        if 0 <= place <= self.size - len(data):
            os.pwrite(self.descriptor, data, place)


def _places(start: int, data: bytes, pattern: bytes) -> Iterator[int]:
    place = data.find(pattern)
    while place >= 0:
        yield start + place
        place = data.find(pattern, place + 1)


class Scribbler:
    """Writes over the reply in one slot."""

    def __init__(self, memory: Memory, slot: int, noise: random.Random) -> None:
        self.memory = memory
        self.slot = slot
        self.noise = noise
        self.heads = [path.read_bytes()[2:] for path in sorted(CORPUS.iterdir())]

    def head(self) -> tuple[int, bytes]:
        """Where the reply's head lies, and what it is."""
        word, _event, _kind, length, block, _buffers = SLOT.unpack(self.memory.read(self.slot, SLOT.size))
        if word >> 60 != DONE:
            raise Failure("the task is not where the one before was")
        place = block or self.slot + SLOT.size
        return place, self.memory.read(place, length)

    def scribble(self) -> str:
        """Gives what it did."""
        deed = self.noise.choice((self._flip, self._number, self._replace, self._cut, self._fields, self._kind))
        deed()
        return deed.__name__

    def _flip(self) -> None:
        place, head = self.head()
        for _ in range(self.noise.choice((1, 1, 2, 8))):
            # Mostly where the numbers are.
            at = self.noise.randrange(min(len(head), self.noise.choice((12, 40, 1 << 20))))
            self.memory.write(place + at, bytes([self.noise.randrange(256)]))

    def _number(self) -> None:
        place, head = self.head()
        number = self._any_number(len(head))
        at = self.noise.choice((4, 8, 12, 20, 28))
        self.memory.write(
            place + at, (number % 2**32).to_bytes(4, "little") if at < 12 else number.to_bytes(8, "little")
        )

    def _replace(self) -> None:
        """Another message altogether: one that was kept, or one of a few numbers."""
        place, head = self.head()
        room = max(len(head), INLINE if place == self.slot + SLOT.size else len(head))
        if self.noise.random() < 0.5:
            new = self.noise.choice(self.heads)[:room]
        else:
            lengths = [self.noise.choice((0, 1, 8, 64, 100, 2400, 8000)) for _ in range(self.noise.randrange(6))]
            header = HEADER.pack(self.noise.randrange(7), 1, 0, len(lengths), self.noise.choice((0, 0, 3, 500)))
            new = (header + struct.pack(f"<{len(lengths)}Q", *lengths) + self.noise.randbytes(20))[:room]
        self.memory.write(place, new)
        self._field(3, len(new))

    def _cut(self) -> None:
        _, head = self.head()
        self._field(3, self.noise.randrange(len(head) + 1))

    def _fields(self) -> None:
        """The slot's own numbers: length of the head, place of the block, length of the buffers."""
        for field in self.noise.sample((3, 4, 5), self.noise.choice((1, 1, 2))):
            old = SLOT.unpack(self.memory.read(self.slot, SLOT.size))[field]
            change = self.noise.choice((-64, -1, 1, 64, 1024, -1024))
            self._field(field, self.noise.choice((self._any_number(old), (old + change) % 2**64)))

    def _kind(self) -> None:
        """Returned, raised, no room, or what there is not; over a message that was changed or was not."""
        self.memory.write(self.slot + 12, self.noise.randrange(6).to_bytes(4, "little"))
        if self.noise.random() < 0.5:
            self._flip()

    def _field(self, index: int, number: int) -> None:
        self.memory.write(self.slot + 16 + 8 * (index - 3), number.to_bytes(8, "little"))

    def _any_number(self, near: int) -> int:
        return self.noise.choice((*NUMBERS, near, near + 1, max(near - 1, 0), self.noise.getrandbits(64)))


# ---- a run ----


class Run:
    """A pool of one worker, and what came of its tasks."""

    def __init__(self, seed: int) -> None:
        self.noise = random.Random(seed)
        self.outcomes: Counter[str] = Counter()

    def go(self, rounds: Optional[int], seconds: Optional[float]) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        reader = Reader()
        original, pickling.loads = pickling.loads, reader
        try:
            while rounds is None or sum(self.outcomes.values()) < rounds:
                # What was written over may be lost to the pool for as long as its worker lives.
                self._some_rounds(reader, rounds, deadline)
                if deadline is not None and time.monotonic() >= deadline:
                    return
        finally:
            pickling.loads = original

    def _some_rounds(self, reader: Reader, rounds: Optional[int], deadline: Optional[float]) -> None:
        with procpool.Pool(1, context=multiprocessing.get_context("fork")) as pool:
            scribbler = self._begin(pool, reader)
            for _ in range(2000):
                if rounds is not None and sum(self.outcomes.values()) >= rounds:
                    break
                if deadline is not None and time.monotonic() >= deadline:
                    break
                self._round(pool, scribbler)
            if pool.apply(give, ("small",)) != give("small"):
                raise Failure("the pool does not work any more")
            pool.close()
            pool.join()

    def _begin(self, pool: Any, reader: Reader) -> Scribbler:
        """Learns where the slot is, and the pickles that are sent."""
        memory = Memory(pool._engine.descriptors[0])
        mark = self.noise.randbytes(16)
        result = pool.apply_async(bytes.fromhex, (mark.hex(),))
        result._task.wait()
        slot = memory.find(mark) // SLOT_SIZE * SLOT_SIZE
        scribbler = Scribbler(memory, slot, self.noise)
        self._learn(reader, scribbler)
        result.get()
        for kind in KINDS:
            result = pool.apply_async(give, (kind,))
            result._task.wait()
            self._learn(reader, scribbler)
            self._check_whole(result, kind)
        return scribbler

    @staticmethod
    def _learn(reader: Reader, scribbler: Scribbler) -> None:
        _, head = scribbler.head()
        _call, _flags, _, count, function = HEADER.unpack_from(head)
        reader.sent.add(head[HEADER.size + 8 * count + function :])

    def _check_whole(self, result: Any, kind: str) -> None:
        try:
            value = result.get()
        except LookupError as error:
            if kind != "raised" or error.args != ("raised",):
                raise Failure("an exception that nobody raised") from error
        else:
            if value != give(kind):
                raise Failure(f"{kind} did not arrive as it was sent")

    def _round(self, pool: Any, scribbler: Scribbler) -> None:
        kind = self.noise.choice(KINDS)
        result = pool.apply_async(give, (kind,))
        result._task.wait()
        if self.noise.random() < 0.05:
            self._check_whole(result, kind)
            self.outcomes["untouched"] += 1
            return
        deed = scribbler.scribble()
        try:
            value = result.get()
        except (Exception, KeyboardInterrupt) as error:
            self._check_error(error, f"{kind}, {deed}, round {sum(self.outcomes.values())}")
            self.outcomes[type(error).__name__] += 1
        else:
            if isinstance(value, BaseException):
                raise Failure(f"an exception as a value: {value!r}")
            self.outcomes["a value"] += 1

    @staticmethod
    def _check_error(error: BaseException, where: str) -> None:
        """What is raised is an exception that somebody can read, and says what happened."""
        is_raised = type(error) is LookupError and error.args == ("raised",)
        is_account = isinstance(error, (ValueError, KeyboardInterrupt)) and error.args == ("account",)
        is_told = type(error) in TOLD and str(error).startswith(TOLD[type(error)])
        if not (is_raised or is_account or is_told):
            raise Failure(f"{type(error).__name__}: {error} ({where})") from error


def main() -> None:
    parser = argparse.ArgumentParser(description="Reads replies that were written over.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    run = Run(seed)
    run.go(None, options.seconds)
    print(f"{sum(run.outcomes.values())} replies")
    for outcome, count in run.outcomes.most_common():
        print(f"{count:>10} {outcome}")


if __name__ == "__main__":
    main()
