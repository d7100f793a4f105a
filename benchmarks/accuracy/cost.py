"""CPU seconds beside imports of ``predict TABLE`` without a fit, of one series and of 1,000, in Markdown.

    python benchmarks/accuracy/cost.py

The series are months with a trend, a season and noise, 200 steps each; the default command draws its picture
as well. The least of five runs: what else a machine does only adds to it.
"""

import numpy as np
from origins import Table
from tables import forecast_of

LENGTH, HORIZON, SEASON = 200, 24, 12


def table(num_series: int) -> Table:
    rng, time = np.random.default_rng(0), np.arange(LENGTH)
    stamps = [f"{2000 + step // 12}-{step % 12 + 1:02}-01" for step in time]
    known = {
        f"series_{index}": 100 + 0.2 * time + 10 * np.sin(2 * np.pi * time / SEASON) + rng.normal(size=LENGTH)
        for index in range(num_series)
    }
    rows = [
        (id, stamp, f"{value:.3f}")
        for id, values in known.items()
        for stamp, value in zip(stamps, values, strict=True)
    ]
    return Table(rows, known, {id: np.zeros(HORIZON) for id in known}, SEASON)


def main() -> None:
    print("| series | CPU s beside imports |\n|---|---|")
    for num_series in (1, 1000):
        of_runs = [forecast_of(table(num_series), {"predict": []})[1] for _ in range(5)]
        seconds = min(sum(seconds.values()) for seconds in of_runs)
        print(f"| {num_series:,} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
