"""The programs: how each is called, what it works on, and what of its output is never twice the same."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from corpus import copy_here, copy_packages, write_queries, write_secrets

SCRIPTS = Path(__file__).parent / "scripts"


def as_it_is(text: str) -> str:
    return text


def sorted_lines(text: str) -> str:
    """For programs that report each file when it happens to be ready."""
    return "\n".join(sorted(text.splitlines()))


def without_times(text: str) -> str:
    """For programs that say when or how long they ran."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    return re.sub(r"\d+\.\d+s\b", "SECONDS", text)


def sorted_without_times(text: str) -> str:
    return sorted_lines(without_times(text))


def sorted_without_leaks(text: str) -> str:
    """For programs that terminate workers which may be putting away their semaphores by then.

    The standard library's tracker warns of those that it finds, and of those that are gone already.
    """
    kept = [line for line in text.splitlines() if "resource_tracker: " not in line]
    return sorted_lines("\n".join(kept))


@dataclass(frozen=True)
class Program:
    """A program, and how to call it."""

    name: str
    #: Whose version is shown; None for the interpreter's own.
    distribution: str | None
    #: The pool of the standard library that it uses.
    uses: str
    #: What comes after `python` or `python -m procpool`.
    arguments: list[str]
    #: How it ends if it did its work: linters that find something do not end with 0.
    status: int = 0
    #: Makes the files that it works on.
    prepare: Callable[[Path], None] = lambda folder: folder.mkdir()
    normalised: Callable[[str], str] = as_it_is
    environment: dict[str, str] = field(default_factory=dict)


def packages(*names: str) -> Callable[[Path], None]:
    return lambda folder: copy_packages(folder, names)


def script(name: str) -> str:
    """A program that was installed beside this interpreter."""
    return str(Path(sys.executable).parent / name)


POOL = "Pool"
EXECUTOR = "ProcessPoolExecutor"

#: The pool's initializer gets the lock of the progress bar.
FACTORIALS = """
import math, os
from tqdm.contrib.concurrent import process_map
with open(os.devnull, "w") as nowhere:
    print(process_map(math.factorial, range(200), max_workers=2, chunksize=5, file=nowhere))
"""

PROGRAMS = [
    Program(
        "black",
        "black",
        EXECUTOR,
        ["-m", "black", "--workers", "2", "source"],
        prepare=packages("json", "wsgiref", "html", "importlib"),
        normalised=sorted_lines,
    ),
    Program(
        "flake8",
        "flake8",
        POOL,
        [script("flake8"), "-j2", "--statistics", "source"],
        status=1,
        prepare=packages("json", "email", "wsgiref", "html"),
    ),
    Program(
        "pylint",
        "pylint",
        EXECUTOR,
        ["-m", "pylint", "-j2", "source/json", "source/wsgiref"],
        status=30,
        prepare=packages("json", "wsgiref"),
    ),
    # Quiet, since the standard library loses what workers had to print that it terminates too soon.
    Program(
        "isort",
        "isort",
        POOL,
        [script("isort"), "--jobs", "2", "--quiet", "--force-single-line-imports", "source"],
        prepare=packages("json", "email", "asyncio", "http"),
        normalised=sorted_lines,
    ),
    Program(
        "yapf",
        "yapf",
        EXECUTOR,
        ["-m", "yapf", "--parallel", "--in-place", "--recursive", "source"],
        prepare=packages("json", "wsgiref"),
    ),
    Program(
        "autopep8",
        "autopep8",
        POOL,
        ["-m", "autopep8", "--jobs", "2", "--aggressive", "--diff", "--recursive", "source"],
        prepare=packages("json", "wsgiref"),
    ),
    Program(
        "autoflake",
        "autoflake",
        POOL,
        [
            script("autoflake"),
            "--jobs",
            "2",
            "--in-place",
            "--remove-all-unused-imports",
            "--recursive",
            "source",
        ],
        prepare=packages("json", "email", "asyncio", "http"),
    ),
    Program(
        "sqlfluff",
        "sqlfluff",
        POOL,
        ["-m", "sqlfluff", "lint", "--dialect", "ansi", "--processes", "2", "--nocolor", "source"],
        status=1,
        prepare=lambda folder: write_queries(folder, 6),
        normalised=sorted_without_leaks,
    ),
    Program(
        "detect-secrets",
        "detect-secrets",
        POOL,
        [script("detect-secrets"), "--cores", "2", "scan", "--all-files", "source"],
        prepare=lambda folder: write_secrets(folder, 40),
        normalised=without_times,
    ),
    Program(
        "unittest-parallel",
        "unittest-parallel",
        POOL,
        ["-m", "unittest_parallel", "-j2", "-v", "--level", "class", "-s", "source", "-t", "."],
        status=2,
        prepare=lambda folder: copy_here(folder, "suite"),
        normalised=sorted_without_times,
    ),
    Program("emcee", "emcee", POOL, [str(SCRIPTS / "sampler.py")]),
    Program("scipy", "scipy", POOL, [str(SCRIPTS / "optimizer.py")]),
    Program(
        "tqdm",
        "tqdm",
        EXECUTOR,
        ["-c", FACTORIALS],
    ),
    Program(
        "compileall",
        None,
        EXECUTOR,
        ["-m", "compileall", "-j2", "source"],
        prepare=packages("json", "email", "asyncio", "http", "xml"),
        normalised=sorted_lines,
        environment={"PYTHONDONTWRITEBYTECODE": ""},
    ),
]
