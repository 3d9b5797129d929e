"""An ensemble sampler that evaluates its walkers in a pool, as in emcee's documentation; then in threads."""

from multiprocessing import Pool
from multiprocessing.pool import ThreadPool

import emcee
import numpy as np

DIMENSIONS = 5
WALKERS = 32
STEPS = 300

generator = np.random.default_rng(42)
means = generator.random(DIMENSIONS)
shape = 0.5 - generator.random((DIMENSIONS, DIMENSIONS))
covariance = np.linalg.inv(shape @ shape.T + np.eye(DIMENSIONS))


def log_probability(position):
    difference = position - means
    return -0.5 * difference @ covariance @ difference


def sample(pool):
    np.random.seed(7)
    sampler = emcee.EnsembleSampler(WALKERS, DIMENSIONS, log_probability, pool=pool)
    sampler.run_mcmc(start, STEPS)
    return sampler


if __name__ == "__main__":
    start = generator.random((WALKERS, DIMENSIONS))
    with Pool(2) as pool:
        sampler = sample(pool)
    print("acceptance", sampler.acceptance_fraction.tolist())
    print("mean", sampler.get_chain(flat=True).mean(axis=0).tolist())
    np.save("chain.npy", sampler.get_chain())

    with ThreadPool(2) as threads:
        print("the same in threads:", np.array_equal(sample(threads).get_chain(), sampler.get_chain()))
