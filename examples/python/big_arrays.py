"""Big numpy arrays go both ways through shared memory: the receiver gets a view of it, writable and not copied."""

import time

import numpy as np
from numpy.typing import NDArray
from procpool import Pool

Array = NDArray[np.float64]


def doubled(array: Array) -> Array:
    array *= 2  # in place, in the worker: the sender's array stays as it is
    return array


if __name__ == "__main__":
    array = np.ones(8 << 20)
    with Pool(2) as pool:
        pool.apply(doubled, (array,))
        start = time.perf_counter()
        result: Array = pool.apply(doubled, (array,))
        elapsed = time.perf_counter() - start
        print(f"{array.nbytes >> 20} MiB there and back in {elapsed * 1e3:.0f} ms")
        print(f"sent {array[0]}, received {result[0]}, writable: {result.flags.writeable}")
    # What was received outlives its pool.
    result += 1
    print(f"after the pool has gone: {result[0]}")
