#!/usr/bin/env python3
"""Turns the benchmark's train.txt and test.txt (`user item item ...` a line) into Parquet tables of pairs.

    python3 examples/gowalla/convert.py FOLDER OUT     writes OUT/train.parquet and OUT/test.parquet
"""

import pathlib
import sys
from array import array

import pyarrow as pa
import pyarrow.parquet as pq


def read_pairs(path):
    users, items = array("q"), array("q")
    with open(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                user, *of_user = map(int, line.split())
            except ValueError:
                sys.exit(f"{path}:{number}: found `{line.strip()[:60]}`, expected integers `user item item ...`")
            users.extend([user] * len(of_user))
            items.extend(of_user)
    return pa.table({"user_id": pa.array(users, pa.int64()), "item_id": pa.array(items, pa.int64())})


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    folder, out = map(pathlib.Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    tables = {name: read_pairs(folder / f"{name}.txt") for name in ("train", "test")}
    train, test = (set(zip(*(column.to_pylist() for column in tables[name].columns))) for name in ("train", "test"))
    if train & test:
        sys.exit(f"{len(train & test)} pairs stand in both train.txt and test.txt: this is not the benchmark's split")
    for name, table in tables.items():
        pq.write_table(table, out / f"{name}.parquet", compression="zstd")
        print(f"{out / name}.parquet: {table.num_rows} pairs")


if __name__ == "__main__":
    main()
