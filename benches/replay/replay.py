"""Days of generated logs, with interests that drift and items that appear each day, run twice side by side: each day from its parent, and
each day from nothing. Prints a line a day, and the means. Needs nothing beside Python itself.

    python3 benches/replay/replay.py --program target/debug/twotower [--days 30] [--users 2000] [--items 2000] [--new-items 150]
        [--drift 30] [--set KEY=VALUE …]

Recall is that of exact search at the largest K of the config, over the users of `holdout` (a fifth of the users, whose clicks of the day are
kept from training); "new" counts their clicks on items that nobody had clicked in training. Seconds are those of the stage `train`.
"""

import argparse
import datetime
import json
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WINDOW = 7
FIRST = datetime.date(2026, 1, 1)


def main():
    arguments = parse()
    program, out = str(pathlib.Path(arguments.program).resolve()), pathlib.Path(arguments.out).resolve()
    logs = out / "logs-{users}-{items}-{new_items}-{drift}-{seed}".format(**vars(arguments))
    last = WINDOW - 1 + arguments.days
    call(program, ["generate", "--out", logs, "--days", last + 1, "--start", FIRST, "--users", arguments.users, "--items", arguments.items,
                   "--new-items", arguments.new_items, "--drift", arguments.drift, "--seed", arguments.seed])
    ways = {"warm": out / "warm", "cold": out / "cold"}
    for folder in ways.values():
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'date':<10}  {'recall':^17}  {'recall of new':^17} {'to find':>7}  {'seconds':^15}")
    print(f"{'':<10}  {'warm':>8} {'cold':>8}  {'warm':>8} {'cold':>8} {'':>7}  {'warm':>7} {'cold':>7}")
    # the first day has no parent: it is cold in both, and not shown
    days = [day(program, arguments, logs, ways, FIRST + datetime.timedelta(days=at)) for at in range(WINDOW - 1, last + 1)][1:]
    for name, of in [("mean", lambda values: sum(values) / len(values))]:
        print(line(name, {way: {key: of([one[way][key] for one in days if one[way][key] is not None]) for key in days[0][way]} for way in ways}))
    targets = sum(one["warm"]["new_targets"] for one in days)
    found = {way: sum(one[way]["new_found"] for one in days) for way in ways}
    print(f"\nof {targets} clicks on new items warm found {found['warm']:.0f}, cold {found['cold']:.0f}")
    better = sum(one["warm"]["recall"] > one["cold"]["recall"] for one in days)
    print(f"warm found more on {better} of {len(days)} days")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--out", default=ROOT / "demo" / "replay")
    for name, value in [("days", 30), ("users", 2000), ("items", 2000), ("new-items", 150), ("drift", 30), ("seed", 17)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for both ways")
    parser.add_argument("--warm-set", action="append", default=[], metavar="KEY=VALUE", help="for the warm one")
    return parser.parse_args()


def call(program, arguments):
    done = subprocess.run([program, "-q", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}\nended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def day(program, arguments, logs, ways, date):
    found = {}
    for way, out in ways.items():
        settings = [f"output={out}", "gates.min_recall_over_popularity=null"]
        settings += [f"sources.{source}.path={logs / source}" for source in ("impressions", "items", "users", "ranker_scores")]
        settings += arguments.set + (arguments.warm_set if way == "warm" else [])
        options = [word for setting in settings for word in ("--set", setting)] + (["--cold"] if way == "cold" else [])
        summary = call(program, ["run", "-c", "configs/demo.yaml", "--date", date, *options]).splitlines()[-1]
        found[way] = figures(out, date, json.loads(summary))
    if found["warm"]["goes_on"]:
        print(line(date, found), flush=True)
    return found


def figures(out, date, summary):
    run = out / "runs" / f"dt={date}" / summary["run_id"]
    facts = {stage: json.loads((run / stage / "manifest.json").read_text()) for stage in ("model", "report")}
    evaluation, train = facts["report"]["facts"], facts["model"]
    k = max(evaluation["exact"]["at"], key=int)
    new = evaluation["new_items"] or {"targets": 0, "recall": {k: 0.0}}
    return {
        "recall": evaluation["exact"]["at"][k]["recall"],
        "new": new["recall"][k] if new["targets"] else None,
        "new_targets": new["targets"],
        "new_found": new["targets"] * new["recall"][k],
        "seconds": train["measured"]["seconds"],
        "goes_on": train["facts"]["start"].get("parent") is not None,
    }


def line(name, found):
    warm, cold = found["warm"], found["cold"]
    share = lambda value: "       –" if value is None else f"{value:8.4f}"
    return (f"{name!s:<10}  {share(warm['recall'])} {share(cold['recall'])}  {share(warm['new'])} {share(cold['new'])} "
            f"{warm['new_targets']:7.0f}  {warm['seconds']:7.2f} {cold['seconds']:7.2f}")


main()
