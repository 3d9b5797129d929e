"""A real segmentation fault in one task costs that task and nothing else, and says where it was."""

import ctypes

from procpool import Pool
from procpool.errors import WorkerDied


def square(number: int) -> int:
    if number == 3:
        ctypes.string_at(0)
    return number * number


if __name__ == "__main__":
    with Pool(2) as pool:
        results = [pool.apply_async(square, (number,)) for number in range(6)]
        for number, result in enumerate(results):
            try:
                print(f"{number} squared is {result.get()}")
            except WorkerDied as death:
                print(f"{number}: worker {death.pid} died of signal {death.signal} in {death.task}")
                print(death.last_words)
