"""The process in which one contender is measured in one case: `python child.py CASE CONTENDER quick|full`.

It prepares the contender, then measures once for every line that it reads, until it is told no more.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import cases
from case import FULL, QUICK
from contenders import Missing


def main(case_name: str, contender: str, load: str) -> None:
    # Workers write to the standard output as well; what is said to the parent goes another way.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**facts: Any) -> None:
        print(json.dumps(facts), file=answers)

    case = next(case for case in cases.ALL if case.name == case_name)
    try:
        measure = case.prepare(contender, QUICK if load == "quick" else FULL)
        answer(ready=True)
        for _ in sys.stdin:
            answer(figure=measure())
    except Missing as missing:
        answer(missing=str(missing))
    except Exception as error:
        answer(failed=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
