"""Writes the logs of the comparison: clicks of many users on items of Zipf popularity, each with the 50 items before it.

    python3 logs.py OUT CLICKS USERS ITEMS     writes OUT/clicks.parquet and OUT/items.parquet
"""

import pathlib
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HISTORY = 50
SEED = 17
# clicks of the item at rank r are in proportion to r ** -ZIPF
ZIPF = 0.8
ROWS_PER_GROUP = 65_536
DAY = np.datetime64("2026-11-20", "us")


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__.strip())
    out = pathlib.Path(sys.argv[1])
    clicks, users, items = map(int, sys.argv[2:])
    out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    # ids in no order of popularity, as real ones
    ids = random.permutation(items).astype(np.int64) + 1
    cumulative = np.cumsum(np.arange(1, items + 1) ** -ZIPF)
    draw = lambda count: ids[np.searchsorted(cumulative, random.random(count) * cumulative[-1])]
    schema = pa.schema(
        {
            "event_time": pa.timestamp("us"),
            "user_id": pa.int64(),
            "item_id": pa.int64(),
            "history": pa.list_(pa.int64()),
        }
    )
    partial = out / "clicks.parquet.partial"
    with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for start in range(0, clicks, ROWS_PER_GROUP):
            rows = min(ROWS_PER_GROUP, clicks - start)
            offsets = np.arange(0, (rows + 1) * HISTORY, HISTORY, dtype=np.int32)
            columns = [
                # one after another, so that no two are the same
                DAY + np.arange(start, start + rows),
                random.integers(1, users + 1, rows),
                draw(rows),
                pa.ListArray.from_arrays(offsets, draw(rows * HISTORY)),
            ]
            writer.write_table(pa.table([pa.array(column) for column in columns], schema=schema))
    pq.write_table(pa.table({"item_id": np.sort(ids)}), out / "items.parquet")
    # last, and whole: a run that was stopped leaves nothing that the next would take for done
    partial.rename(out / "clicks.parquet")


if __name__ == "__main__":
    main()
