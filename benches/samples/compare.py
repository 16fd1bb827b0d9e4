#!/usr/bin/env python3
"""Times the sample tables of twotower, DuckDB and PySpark, in turn, from the same parquet files to parquet.

    python3 compare.py --program TWOTOWER [--impressions N] [--memory GIB] [--threads N] [--rounds N] [--peers duckdb,spark] [--out FOLDER]

A round runs each program once as a whole process; start-up counts. Rows are compared: exactly where nothing is drawn by hash, within half a
percent where something is. twotower's time has the digests of its files in it, its statistics and its audits, which the peers do without: what
statistics and audits took stands in rows of their own, and the last row is the ratio without them.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time

import logs

HERE = pathlib.Path(__file__).parent
# what depends on each engine's hash
DRAWN = {"random_negatives", "hard_negatives"}
# pages of the peers' own: the list that they draw from
OWN = {"slots"}
# what twotower does beside the tables, and how its log tells
BESIDE = {"statistics": "measured the sample tables", "audits": "audited the sample tables"}


def resident(process):
    """Bytes resident of a process and all that it started."""
    pending, total = [process], 0
    while pending:
        pid = pending.pop()
        try:
            total += int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                pending += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total


def run(command):
    """Seconds, largest resident set, what it printed last, and its log."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0

    def watch():
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = process.communicate()
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} left with {process.returncode}:\n{out[-2000:]}{err[-4000:]}")
    return time.monotonic() - began, peak, out.strip().splitlines()[-1], err


def twotower(args, data, out):
    settings = {f"sources.{name}.path": data / name for name in ("impressions", "items", "users", "ranker_scores")}
    settings |= {"output": out, "samples.memory": f"{args.engine_memory}GiB", "samples.threads": args.threads, "samples.spill": out / "spill"}
    command = [args.program, "--log-format", "json", "samples", "-c", HERE / "config.yaml", "--date", logs.LAST]
    for setting in settings.items():
        command += ["--set", "{}={}".format(*setting)]
    seconds, peak, _, log = run(command)
    manifest = json.loads(next(out.glob("samples/*/*/*/manifest.json")).read_text())
    told = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    took = {name: next(line["seconds"] for line in told if line["message"] == message) for name, message in BESIDE.items()}
    return seconds, peak, manifest["facts"]["tables"], took


def peer(name, args, data, out):
    seconds, peak, last, _ = run([sys.executable, HERE / "peer.py", name, data, out, str(args.memory), str(args.threads)])
    return seconds, peak, json.loads(last), {}


def compare_rows(ours, theirs, peer_name):
    for table in sorted(theirs.keys() - OWN):
        mine, other = ours[table]["rows"], theirs[table]["rows"]
        allowed = 0.005 * other if table in DRAWN else 0
        if abs(mine - other) > allowed:
            sys.exit(f"{table}: twotower has {mine} rows, {peer_name} {other}: they do not build the same table")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--impressions", type=int, default=10_000_000)
    parser.add_argument("--memory", type=int, default=8, help="GiB that each may use")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peers", default="duckdb,spark")
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parents[1] / "demo/bench-samples")
    args = parser.parse_args()
    # the process is more than the SQL engine's pool: its code, decoders and writers
    args.engine_memory = max(args.memory - 1, 1)
    data = args.out / f"logs-{args.impressions}"
    logs.write(data, args.impressions)

    names = ["twotower", *filter(None, args.peers.split(","))]
    runs = {name: [] for name in names}
    for _ in range(args.rounds):
        for name in names:
            out = args.out / f"out-{name}"
            shutil.rmtree(out, ignore_errors=True)
            built = twotower(args, data, out) if name == "twotower" else peer(name, args, data, out)
            runs[name].append(built)
            shutil.rmtree(out, ignore_errors=True)
            print(f"{name}: {built[0]:.1f} s, {built[1] / 2**20:.0f} MiB", file=sys.stderr)

    fastest = {name: min(all_runs, key=lambda one: one[0]) for name, all_runs in runs.items()}
    ours = fastest["twotower"]
    for name in names[1:]:
        compare_rows(ours[2], fastest[name][2], name)
    read = sum(file.stat().st_size for file in data.rglob("*.parquet"))
    print(f"\n{args.impressions:,} impressions and as many scores ({read / 2**30:.2f} GiB), {args.threads} threads, {args.memory} GiB, best of {args.rounds}")
    print(f"{'':20}" + "".join(f"{name:>12}" for name in names) + "        rows")
    for table in fastest[names[-1]][2].keys() | ours[2].keys():
        cells = [fastest[name][2].get(table, {}).get("seconds") for name in names]
        rows = (ours[2].get(table) or fastest[names[-1]][2][table])["rows"]
        print(f"{table:20}" + "".join(f"{'' if cell is None else f'{cell:.1f}':>12}" for cell in cells) + f"{rows:>12,}")
    for name in BESIDE:
        print(f"{name:20}{ours[3][name]:>12.1f}")
    print(f"{'whole process':20}" + "".join(f"{fastest[name][0]:>12.1f}" for name in names))
    print(f"{'median of rounds':20}" + "".join(f"{statistics.median(one[0] for one in runs[name]):>12.1f}" for name in names))
    print(f"{'peak MiB':20}" + "".join(f"{fastest[name][1] / 2**20:>12.0f}" for name in names))
    print(f"{'times twotower':20}" + "".join(f"{fastest[name][0] / ours[0]:>12.2f}" for name in names))
    alike = ours[0] - sum(ours[3].values())
    print(f"{'  without these two':20}{'':>12}" + "".join(f"{fastest[name][0] / alike:>12.2f}" for name in names[1:]))


if __name__ == "__main__":
    main()
