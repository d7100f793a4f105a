"""What each part of the default buys: scores of the tables of a folder with one option changed at a time.

    python benchmarks/accuracy/ablations.py FOLDER --row="--model=Forecaster" --row="--data.season=none"

Each row has options of ``fit``, separated by spaces; the first row is the default, the last one ``predict``
without a fit. Scores and seconds are those of ``tables.py``, in Markdown.
"""

import argparse
from pathlib import Path

from origins import read_meta
from tables import commands_by_seed, mean_of, scores_of_table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="+", help="tables; if none are given, all")
    parser.add_argument("--seeds", type=int, default=3, help="number of fits from different seeds")
    parser.add_argument("--row", action="append", default=[], help="options of a row, in one string")
    arguments = parser.parse_args()
    rows = {"the default": commands_by_seed(arguments.seeds, [])}
    rows |= {f"`{row}`": commands_by_seed(arguments.seeds, row.split()) for row in arguments.row}
    rows["`predict` alone"] = commands_by_seed(1, [], fit=False)
    names = arguments.names or list(read_meta(arguments.folder))
    print("| | relative error | worst table | CPU s, median |\n|---|---|---|---|")
    for row, commands in rows.items():
        tables = [scores_of_table(arguments.folder, name, commands) for name in names]
        overall, worst = mean_of(tables), max(of_table["here"] for of_table in tables)
        seconds = sum(value for key, value in overall.items() if key.endswith("CPU s"))
        print(f"| {row} | {overall['here']:.3f} | {worst:.2f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
