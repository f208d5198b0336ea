# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Running statistics of one channel's samples.

`moments()` gives minimum, maximum, mean and population standard deviation of the finite samples, None where there are
none, then the NaN and infinity counts.
"""

import numpy as np

Moments = tuple[float | None, float | None, float | None, float | None, int, int]


class HalfTally:
    """Counts of the 65,536 values a half can take: exact, and cheaper than arithmetic on each sample."""

    with np.errstate(invalid="ignore"):
        VALUES = np.arange(65_536, dtype=np.uint16).view(np.float16).astype(np.float64)
    FINITE = np.isfinite(VALUES)

    def __init__(self) -> None:
        self.counts = np.zeros(65_536, dtype=np.int64)

    def add(self, samples: np.ndarray) -> None:
        bits = np.ascontiguousarray(samples).view(np.uint16).ravel()
        self.counts += np.bincount(bits, minlength=65_536)

    def moments(self) -> Moments:
        present = (self.counts > 0) & self.FINITE
        nan_count = int(self.counts[np.isnan(self.VALUES)].sum())
        inf_count = int(self.counts[np.isinf(self.VALUES)].sum())
        values, counts = self.VALUES[present], self.counts[present]
        if not len(values):
            return None, None, None, None, nan_count, inf_count
        total = counts.sum()
        mean = float(np.dot(values, counts) / total)
        deviation = float(np.sqrt(np.dot((values - mean) ** 2, counts) / total))
        return float(values.min()), float(values.max()), mean, deviation, nan_count, inf_count


class RunningTally:
    """Mean and squared deviations merged run by run in 64-bit floats (Chan, Golub and LeVeque's pairwise update)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0
        self.low, self.high = np.inf, -np.inf
        self.nan_count = self.inf_count = 0

    def add(self, samples: np.ndarray) -> None:
        with np.errstate(invalid="ignore"):  # Signalling NaNs.
            values = samples.astype(np.float64).ravel()
        finite = np.isfinite(values)
        if not finite.all():
            nans = int(np.isnan(values).sum())
            self.nan_count += nans
            self.inf_count += len(values) - int(finite.sum()) - nans
            values = values[finite]
        if not len(values):
            return
        mean = float(values.mean())
        squares = float(np.square(values - mean).sum())
        count, shift = self.count + len(values), mean - self.mean
        self.squares += squares + shift * shift * self.count * len(values) / count
        self.mean += shift * len(values) / count
        self.count = count
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def moments(self) -> Moments:
        if not self.count:
            return None, None, None, None, self.nan_count, self.inf_count
        deviation = float(np.sqrt(self.squares / self.count))
        return self.low, self.high, self.mean, deviation, self.nan_count, self.inf_count
