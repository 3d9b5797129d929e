"""Why others win where they do: by case, and then by contender or, where one reason is everybody's, by `*`.

The page shows a remark only where that contender has won, and says so where a win has no remark.
"""

from __future__ import annotations

_THREADS = "threads share memory: nothing is encoded, copied or claimed so that a death could be survived"

REMARKS: dict[str, dict[str, str]] = {
    "rust/throughput_empty": {"*": _THREADS + "; see the table of costs in ARCHITECTURE.md"},
    "rust/roundtrip_parked": {"threads": "a thread is woken a little sooner than a process, whose memory the core must change to"},
    "rust/map_u64": {
        "*": _THREADS + ". A cheap function over numbers is a case for threads: one item costs less than to encode it"
    },
    "rust/start_to_first_result": {"*": "a thread is started in microseconds, a process is not"},
    "python/start_to_first_result_fork": {"*": "a tie: most of it is to fork the program, which all do alike"},
    "python/start_to_first_result_forkserver": {"*": "the fork server imports this package besides its own"},
    "python/map_chunksize1": {"ThreadPool": _THREADS},
    "python/map_default": {"ThreadPool": _THREADS},
    "python/apply_async": {"ThreadPool": _THREADS},
    "python/imap": {"ThreadPool": _THREADS, "joblib": "joblib's generator sends tasks in batches"},
    "python/imap_unordered": {"ThreadPool": _THREADS, "joblib": "joblib's generator sends tasks in batches"},
    "python/argument_64MiB": {
        "ThreadPool": "threads get a reference",
        "joblib": "joblib writes an array to a file once and sends its name again and again; the receiver cannot write to it",
    },
    "python/result_64MiB": {"ThreadPool": "threads get a reference"},
    "python/bytes_64MiB": {
        "ThreadPool": "threads get a reference",
    },
    "python/import": {
        "*": "procpool imports multiprocessing.pool itself, whose names it offers, and then its own modules"
    },
}


def remark(case: str, contender: str) -> str:
    remarks = REMARKS.get(case, {})
    return remarks.get(contender) or remarks.get("*") or "no reason known"
