"""What workers do in a chaos run. Everything can be checked: a payload and a reply are known from the order's number."""

from __future__ import annotations

import array
import hashlib
import os
import signal
import time
from typing import Any, Callable, NamedTuple

from process import Process

#: What a task does, beside its answer.
ANSWER, RAISE, DIE, DIE_ONCE, EXIT, LINGER = "answer", "raise", "die", "die once", "exit", "linger"

#: The status with which a worker exits that was told to.
STATUS = 7


class Order(NamedTuple):
    """One item of work."""

    number: int
    #: A file to which every attempt at an order is added. It is outside of the pools, and outlives workers.
    journal: str
    behaviour: str
    seconds: float
    #: Bytes of the payload and of the reply.
    payload: int
    reply: int


class Refused(Exception):
    """What a task raises that was told to."""


class Spoilt(Exception):
    """The payload is not the one that was sent."""


def pattern(number: int, size: int) -> bytes:
    """Bytes that belong to this number alone."""
    block = hashlib.sha256(str(number).encode()).digest()
    return (block * (size // len(block) + 1))[:size]


#: The kinds of payloads. They travel in the pickle, or out of band.
KINDS: list[Callable[[bytes], Any]] = [
    bytes,
    bytearray,
    lambda data: memoryview(data) if data else data,
    lambda data: array.array("B", data) if data else data,
]


def carry_out(order: Order, payload: Any) -> tuple[int, bytearray]:
    """The task itself."""
    _begin(order)
    if bytes(payload) != pattern(order.number, order.payload):
        raise Spoilt(order.number)
    time.sleep(order.seconds)
    if order.behaviour != ANSWER:
        _misbehave(order)
    return order.number, answer(order)


def carry_out_pair(pair: tuple[Order, Any]) -> tuple[int, bytearray]:
    """The same for calls that give one argument."""
    return carry_out(*pair)


def answer(order: Order) -> bytearray:
    """The only right reply."""
    return bytearray(pattern(-order.number, order.reply))


def _begin(order: Order) -> None:
    process = Process.of(os.getpid())
    file = os.open(order.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    # In one write, so that a kill leaves a whole line or none.
    os.write(file, f"{order.number} {process.pid} {process.start}\n".encode())
    os.close(file)


def _misbehave(order: Order) -> None:
    if order.behaviour == RAISE:
        raise Refused(order.number)
    if order.behaviour == LINGER:
        time.sleep(3600)
    if order.behaviour == EXIT:
        os._exit(STATUS)
    if order.behaviour == DIE or _is_first_attempt(order):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_first_attempt(order: Order) -> bool:
    try:
        os.close(os.open(f"{order.journal}.{order.number}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
