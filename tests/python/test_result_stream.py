"""What the parent reads from its workers, after somebody wrote over it."""

from __future__ import annotations

import types
from typing import Any

import procpool
import pytest
from procpool.failures import Failures
from result_stream import Run, no_accounts


@pytest.mark.parametrize("seed", range(2))
def test_replies_that_were_written_over_end_in_a_value_or_an_exception_that_says_so(seed: int) -> None:
    run = Run(seed)
    run.go(rounds=500, seconds=None)
    assert sum(run.outcomes.values()) == 500
    assert run.outcomes["PoolBroken"] and run.outcomes["ValueError"] and run.outcomes["a value"]


def failures(initializer_error: bytes) -> Failures:
    crew: Any = types.SimpleNamespace(initializer_error=initializer_error)
    return Failures(crew, RuntimeError)


@pytest.mark.parametrize("account", no_accounts())
def test_what_is_no_account_of_an_exception_is_told_as_shared_memory_written_over(account: Any) -> None:
    assert isinstance(failures(b"").raised(account), procpool.PoolBroken)


@pytest.mark.parametrize("words", [b"\x80", b"\x80\x05cno_such_module\nname\n.", b"\x80\x05N."])
def test_an_initializers_exception_that_cannot_be_read_leaves_what_the_engine_knows(words: bytes) -> None:
    error = failures(words).broken(True, "the initializer failed")
    assert isinstance(error, procpool.PoolBroken)
