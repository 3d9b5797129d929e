"""A global optimizer that evaluates its population in a pool of its own."""

from scipy.optimize import differential_evolution, rosen

if __name__ == "__main__":
    result = differential_evolution(
        rosen, [(-5, 5)] * 4, rng=11, maxiter=60, polish=False, updating="deferred", workers=2
    )
    print(result.message, result.nit, result.nfev)
    print(result.x.tolist(), result.fun)
