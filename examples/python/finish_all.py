"""Ten tasks of a second each for two workers, and a pool that finishes them all: five seconds.

`close` takes no more tasks and `join` waits until those that were accepted are done and the workers are gone.
"""

import time

from procpool import Pool


def report_after_a_second(number: int) -> None:
    time.sleep(1)
    print(f"{number}------>{time.ctime()}")


if __name__ == "__main__":
    pool = Pool(2)
    for number in range(10):
        pool.apply_async(report_after_a_second, (number,))

    pool.close()
    pool.join()
    print("ending")
