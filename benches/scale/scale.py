#!/usr/bin/env python3
"""Measures speed and memory of training with many ids and many rows.

    python3 scale.py --program TWOTOWER [--ids N,N…] [--rows N,N…] [--draws zipf,uniform] [--history N] [--rounds N] [--floors FLOORS]
                     [--s3 SERVER] [--out FOLDER]

Of so many ids two in seven are items, the rest users: 20 and 50 million at 70 million. Each size is a set of logs, of which `twotower samples`
makes the tables and `twotower train` one epoch. README.md beside this file tells what the columns are, and what was found.
Logs are kept and taken again; samples and models are removed after each size. Leaves with 1 where a goal is missed.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
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
BATCH, NEGATIVES = 1024, 512
KEYS = {"AWS_ACCESS_KEY_ID": "bench-key", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_REGION": "us-east-1"}
# goals: MiB that the process holds beyond its tables, and the rate as a share of that with the fewest ids
OVERHEAD, SHARE = 2048, 0.5
COLUMNS = {"ids": 12, "rows": 12, "draws": 9, "from": 7, "examples/s": 12, "floor": 12, "epoch s": 9, "read s": 9, "train s": 9, "peak MiB": 10,
           "tables": 9, "overhead": 10}


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


class Server:
    """An S3 server over a folder, in a process of its own; none without a program."""

    def __init__(self, program, folder):
        self.process, self.env = None, {}
        if program:
            (folder / "bucket").mkdir(parents=True)
            command = [program.absolute(), folder, KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"]]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self.env = {**KEYS, "AWS_ENDPOINT_URL": self.process.stdout.readline().strip()}

    def __enter__(self):
        return self.env

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            self.process.wait()


def run(program, stage, settings, env):
    """Lines of the log and the largest resident set."""
    command = [program, "--log-format", "json", stage, "-c", HERE / "config.yaml", "--date", DATE]
    for setting in settings.items():
        command += ["--set", "{}={}".format(*setting)]
    environment = {**os.environ, "RUST_LOG": "warn,twotower=debug", **env}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"twotower {stage} left with {os.waitstatus_to_exitcode(status)}:\n{log[-4000:]}")
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")], usage.ru_maxrss * 1024


def floor(args, ids, draw):
    """Examples a second if a step did nothing but read each row that it touches once, and change it once, as fast as this machine does that
    at random places of a table of so many items."""
    if not args.floors:
        return None
    items, random = shares(ids)[1], np.random.default_rng(SEED)
    rates = json.loads(subprocess.run([args.floors, "0", str(items)], capture_output=True, check=True).stdout)
    touched = np.concatenate([drawn(random, BATCH * (args.history + 1), items, draw), random.integers(0, items, NEGATIVES)])
    touched = (len(np.unique(touched)) + BATCH) / BATCH
    return 1 / (touched / rates["rows_read_per_second"] + touched / rates["rows_changed_per_second"])


def measure(args, ids, rows, draw, ways):
    """One line of the table for each of `ways`, as numbers by column. A way is where the output lies: name, place, its folder here,
    environment. Trainings of several ways take turns."""
    users, _ = shares(ids)
    logs = args.out / f"logs-{ids}-{rows}-{draw}-{args.history}"
    write_logs(logs, ids, rows, draw, args.history)
    settings = {"sources.clicks.path": logs / "clicks.parquet", "sources.items.path": logs / "items.parquet"}
    if rows < users:
        settings["features.user.user_id.hash_rows"] = users
    for _, place, _, env in ways:
        run(args.program, "samples", {**settings, "output": place}, env)
    found = {name: [] for name, *_ in ways}
    for _ in range(args.rounds):
        for name, place, folder, env in ways:
            began = time.monotonic()
            lines, peak = run(args.program, "train", {**settings, "output": place}, env)
            told = {line["message"]: line for line in lines}
            epoch, read = told["trained an epoch"], told["read the samples"]["elapsed"]
            found[name].append((epoch["examples_per_second"], epoch["seconds"], read, time.monotonic() - began, peak))
            # a model that is there would be taken as it is
            shutil.rmtree(folder / "runs")
    least, tables = floor(args, ids, draw), ids * (DIM + 1) * 4
    for name, trainings in found.items():
        rate, *seconds, _ = map(statistics.median, zip(*trainings))
        peak = max(peak for *_, peak in trainings)
        memory = (round(bytes / MIB) for bytes in (peak, tables, peak - tables))
        yield dict(zip(COLUMNS, (ids, rows, draw, name, int(rate), least, *seconds, *memory)))


def show(figures):
    text = {int: "{:,}", float: "{:,.1f}", type(None): "-", str: "{}"}
    figures = {**figures, "floor": figures["floor"] and int(figures["floor"])}
    print("".join(f"{text[type(figures[name])].format(figures[name]):>{width}}" for name, width in COLUMNS.items()), flush=True)


def judge(found):
    """Says how far the goals are reached; returns whether they are."""
    most = max(found, key=lambda line: line["overhead"])
    reached = [most["overhead"] <= OVERHEAD]
    print(f"\nbeyond the tables at most {most['overhead']:,} MiB, with {most['ids']:,} ids and {most['rows']:,} rows; goal: {OVERHEAD:,}")
    alike = {}
    for line in found:
        alike.setdefault((line["rows"], line["draws"], line["from"]), []).append(line)
    for (rows, draws, source), lines in alike.items():
        few, many = min(lines, key=lambda line: line["ids"]), max(lines, key=lambda line: line["ids"])
        if few is not many:
            share = many["examples/s"] / few["examples/s"]
            reached.append(share >= SHARE)
            print(f"rate with {many['ids']:,} ids as a share of that with {few['ids']:,}, {rows:,} rows, {draws}, {source}: {share:.2f}; goal: {SHARE}")
    if not all(reached):
        print("a goal is missed")
    return all(reached)


def numbers(text):
    return [int(float(part)) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--ids", type=numbers, default=numbers("1e5,1e6,1e7"))
    parser.add_argument("--rows", type=numbers, default=numbers("1e6"))
    parser.add_argument("--draws", default="zipf,uniform")
    parser.add_argument("--history", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--floors", type=pathlib.Path)
    parser.add_argument("--s3", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parents[1] / "demo/bench-scale")
    args = parser.parse_args()
    args.out = args.out.absolute()
    print("".join(f"{name:>{width}}" for name, width in COLUMNS.items()), flush=True)
    found, place = [], args.out / "out"
    shutil.rmtree(place, ignore_errors=True)
    for ids in args.ids:
        for rows in args.rows:
            for draw in args.draws.split(","):
                ways = [("files", place / "files", place / "files", {})]
                with Server(args.s3, place) as env:
                    if env:
                        ways.append(("s3", "s3://bucket/out", place / "bucket/out", env))
                    for figures in measure(args, ids, rows, draw, ways):
                        found.append(figures)
                        show(figures)
                shutil.rmtree(place)
    sys.exit(not judge(found))


if __name__ == "__main__":
    main()
