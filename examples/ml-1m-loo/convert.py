#!/usr/bin/env python3
"""Turns MovieLens-1M, leave one out, into Parquet tables that the SQL of this example reads.

    python3 examples/ml-1m-loo/convert.py FOLDER OUT [--validate]

FOLDER holds train.parquet, test.parquet, test_negatives_99.parquet, users.dat and movies.dat. `--validate` makes a test of one
training item of each user, drawn by a seed, with 99 others, and leaves the real test out: for choosing settings.
"""

import pathlib
import random
import re
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

SEED = 17
NEGATIVES = 99
# a held-out item is drawn in proportion to its popularity to the power of minus this
RARITY = 0.3


def read_dat(path, fields):
    """Rows of a file of `a::b::c` lines."""
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), 1):
        values = line.split("::")
        if len(values) != fields:
            sys.exit(f"{path}:{number}: found {len(values)} fields in `{line[:60]}`, expected {fields}")
        yield values


def read_users(path):
    rows = list(read_dat(path, 5))
    users, genders, ages, occupations, zips = zip(*rows)
    columns = {
        "user_id": pa.array(map(int, users), pa.int64()),
        "gender": genders,
        "age": pa.array(map(int, ages), pa.int64()),
        "occupation": pa.array(map(int, occupations), pa.int64()),
        # the first digit of an American zip code is a group of states
        "region": [code[:1] for code in zips],
    }
    return pa.table(columns)


def read_movies(path, rated):
    rows = [row for row in read_dat(path, 3) if int(row[0]) in rated]
    years = [re.search(r"\((\d{4})\)\s*$", title) for _, title, _ in rows]
    columns = {
        "item_id": pa.array([int(movie) for movie, _, _ in rows], pa.int64()),
        "genres": pa.array([genres.split("|") for _, _, genres in rows]),
        "year": pa.array([int(year.group(1)) if year else None for year in years], pa.int64()),
    }
    return pa.table(columns)


def by_user(pairs):
    """Each user's items in the order of the file."""
    items = {}
    for user, item in pairs:
        items.setdefault(user, []).append(item)
    return items


def hold_out(train, catalogue):
    """One training item of each user as a test of its own, and others that are not in his training. The test's items are less popular
    than an item drawn evenly: rare ones are drawn more often, so that popularity finds as many of both."""
    draw = random.Random(SEED)
    popularity = Counter(item for items in train.values() for item in items)
    test, negatives = {}, {}
    for user, items in train.items():
        rated = set(items)
        weights = [popularity[item] ** -RARITY for item in items]
        test[user] = items.pop(draw.choices(range(len(items)), weights)[0])
        free = [item for item in catalogue if item not in rated]
        negatives[user] = draw.sample(free, NEGATIVES)
    return test, negatives


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--validate"]
    if len(arguments) != 2:
        sys.exit(__doc__.strip())
    folder, out = map(pathlib.Path, arguments)
    out.mkdir(parents=True, exist_ok=True)
    read = lambda name, *columns: zip(*(pq.read_table(folder / f"{name}.parquet")[column].to_pylist() for column in columns))
    train = by_user(read("train", "user_id", "item_id"))
    test, negatives = dict(read("test", "user_id", "item_id")), dict(read("test_negatives_99", "user_id", "negatives"))
    inside = sum(test[user] in set(items) for user, items in train.items())
    if inside:
        sys.exit(f"{inside} users have their test item among their training items: this is not the benchmark's split")
    catalogue = sorted({item for items in train.values() for item in items} | set(test.values()))
    if "--validate" in sys.argv:
        test, negatives = hold_out(train, catalogue)
    rows = [(user, item, place) for user, items in train.items() for place, item in enumerate(items)]
    tables = {
        "train": pair_table(rows, "position"),
        "test": pair_table(test.items()),
        "candidates": pair_table(sorted({(user, item) for user, items in negatives.items() for item in items})),
        "users": read_users(folder / "users.dat"),
        "items": read_movies(folder / "movies.dat", set(catalogue)),
    }
    for name, table in tables.items():
        pq.write_table(table, out / f"{name}.parquet", compression="zstd")
        print(f"{out / name}.parquet: {table.num_rows} rows")


def pair_table(rows, *more):
    columns = zip(*rows)
    return pa.table({name: pa.array(column, pa.int64()) for name, column in zip(("user_id", "item_id", *more), columns)})


if __name__ == "__main__":
    main()
