"""Ten tasks of a second each for two workers, and a pool that is told to stop after two seconds.

`terminate` ends the pool at once: tasks that run are stopped where they are, queued ones never begin. So only what was
finished by then has printed its line.
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
    time.sleep(2)
    pool.terminate()
    pool.join()
    print("ending")
