"""A program that knows only the standard library. `python -m procpool examples/python/unchanged.py` runs it with
procpool's pool: the same output, from the same source.
"""

import time
from multiprocessing import Pool


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
