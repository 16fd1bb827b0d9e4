#!/usr/bin/env python3
"""Measures speed and memory of training with many ids and many rows.

    python3 scale.py --program TWOTOWER [--ids N,N…] [--rows N,N…] [--draws zipf,uniform] [--history N] [--out FOLDER]

Of so many ids two in seven are items, the rest users: 20 and 50 million at 70 million. Each size is a set of logs, of which `twotower samples`
makes the tables and `twotower train` one epoch: its rate, and the largest resident set of the process, are what is shown. `overhead` is what the
process held beyond the embedding tables and their optimizer. Every item has a row; users have one each in a vocabulary where there are at
least as many rows of samples, and else rows by hash.
Logs are kept and taken again; samples and models are removed after each size.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
DATE, DAY = "2026-11-20", np.datetime64("2026-11-20", "us")
DIM, SEED, ZIPF = 64, 17, 0.8
ROWS_PER_GROUP = 1 << 17
MIB = 1 << 20


def shares(ids):
    items = ids * 2 // 7
    return ids - items, items


def scattered(ranks, count):
    """Ids in no order of popularity: an odd step that has no factor in common with the number of ids."""
    step = 2_654_435_761
    while np.gcd(step, count) != 1:
        step += 2
    return (ranks.astype(np.uint64) * np.uint64(step) % np.uint64(count)).astype(np.int64) + 1


def drawn(random, rows, count, draw):
    """Ids out of `count`: all alike, or with rank r in proportion to r ** -ZIPF (its distribution function, inverted)."""
    u, rest = random.random(rows), 1 - ZIPF
    ranks = u * count if draw == "uniform" else ((count**rest - 1) * u + 1) ** (1 / rest) - 1
    return scattered(np.minimum(ranks.astype(np.int64), count - 1), count)


def write_logs(out, ids, rows, draw, history):
    """clicks.parquet and items.parquet; the last one is written last, so that a stopped run leaves nothing that counts as done."""
    done = out / "items.parquet"
    if done.exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    users, items = shares(ids)
    random = np.random.default_rng(SEED)
    types = {"event_time": pa.timestamp("us"), "user_id": pa.int64(), "item_id": pa.int64(), "history": pa.list_(pa.int64())}
    with pq.ParquetWriter(out / "clicks.parquet", pa.schema(types), compression="zstd") as writer:
        for start in range(0, rows, ROWS_PER_GROUP):
            count = min(ROWS_PER_GROUP, rows - start)
            offsets = np.arange(0, (count + 1) * history, history, dtype=np.int32)
            columns = {
                "event_time": DAY + np.arange(start, start + count) % 86_400_000_000,
                # one after the other, so that with enough rows each has one
                "user_id": scattered(np.arange(start, start + count) % users, users),
                "item_id": drawn(random, count, items, draw),
                "history": pa.ListArray.from_arrays(offsets, drawn(random, count * history, items, draw)),
            }
            writer.write_table(pa.table([pa.array(column) for column in columns.values()], schema=pa.schema(types)))
    pq.write_table(pa.table({"item_id": np.arange(1, items + 1)}), done)


def run(program, stage, settings):
    """Lines of the log and the largest resident set."""
    command = [program, "--log-format", "json", stage, "-c", HERE / "config.yaml", "--date", DATE]
    for setting in settings.items():
        command += ["--set", "{}={}".format(*setting)]
    environment = {**os.environ, "RUST_LOG": "warn,twotower=debug"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"twotower {stage} left with {os.waitstatus_to_exitcode(status)}:\n{log[-4000:]}")
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")], usage.ru_maxrss * 1024


def measure(args, ids, rows, draw, place):
    users, _ = shares(ids)
    logs = args.out / f"logs-{ids}-{rows}-{draw}-{args.history}"
    write_logs(logs, ids, rows, draw, args.history)
    settings = {"sources.clicks.path": logs / "clicks.parquet", "sources.items.path": logs / "items.parquet", "output": place}
    if rows < users:
        settings["features.user.user_id.hash_rows"] = users
    run(args.program, "samples", settings)
    began = time.monotonic()
    lines, peak = run(args.program, "train", settings)
    seconds = time.monotonic() - began
    epoch = next(line for line in lines if line["message"] == "trained an epoch")
    tables = ids * (DIM + 1) * 4
    figures = (f"{ids:,}", f"{rows:,}", draw, f"{epoch['examples_per_second']:,}", f"{epoch['seconds']:.1f}",
               f"{seconds:.1f}", f"{peak / MIB:,.0f}", f"{tables / MIB:,.0f}", f"{(peak - tables) / MIB:,.0f}")
    show(figures)


def show(figures):
    widths = (12, 12, 9, 12, 9, 9, 10, 10, 10)
    print("".join(f"{figure:>{width}}" for figure, width in zip(figures, widths)), flush=True)


def numbers(text):
    return [int(float(part)) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--ids", type=numbers, default=numbers("1e5,1e6,1e7"))
    parser.add_argument("--rows", type=numbers, default=numbers("1e6"))
    parser.add_argument("--draws", default="zipf,uniform")
    parser.add_argument("--history", type=int, default=50)
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parents[1] / "demo/bench-scale")
    args = parser.parse_args()
    args.out = args.out.absolute()
    show(("ids", "rows", "draws", "examples/s", "epoch s", "train s", "peak MiB", "tables", "overhead"))
    for ids in args.ids:
        for rows in args.rows:
            for draw in args.draws.split(","):
                place = args.out / "out"
                shutil.rmtree(place, ignore_errors=True)
                measure(args, ids, rows, draw, place)
                shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
