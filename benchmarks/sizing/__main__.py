"""`python -m benchmarks.sizing --symbols 100000 --rows-per-s 1000000 --wire frames`: how large a cluster must be."""

from __future__ import annotations

import argparse
import sys

from benchmarks.sizing.constants import WIRES, costs_of, measured
from benchmarks.sizing.model import Wanted, size
from benchmarks.sizing.table import LINES


def main() -> int:
    """Print the size for three inputs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--symbols", type=int, required=True)
    parser.add_argument("--rows-per-s", type=float, required=True)
    parser.add_argument("--wire", choices=WIRES, default="rows", help="of features and predictions [rows]")
    parser.add_argument("--commit-s", type=float, default=1.0, help="inference.commit_interval [1]")
    parser.add_argument("--kept-h", type=float, default=24.0, help="hours for which topics are kept [24]")
    args = parser.parse_args()
    want = Wanted(symbols=args.symbols, rows_per_s=args.rows_per_s, wire=args.wire, commit_s=args.commit_s, kept_h=args.kept_h)
    answer = size(want, costs_of(measured(), args.wire))
    for name, said in LINES:
        print(f"{name:<46} {said(answer):>10}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
