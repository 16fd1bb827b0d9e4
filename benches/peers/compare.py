#!/usr/bin/env python3
"""Compares the speed of a training step here and in PyTorch: same samples, same model, same cores, in turn.

    python3 compare.py --program TWOTOWER --floors FLOORS [--rounds N] [--threads N] [--clicks N] [--out FOLDER]

Here it is `twotower train` as it is: its rate is that of an epoch, with the making of batches on a thread beside the steps. PyTorch is
measured in two ways, over fewer batches again and again: with batches made beside the steps, as here, by the worker of a DataLoader
(see towers.py), and with ready-made batches in memory, for which nobody has to pay. The ratio that counts
is that of like with like, the first; the other is printed beside it.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

import torch

import floors
from sampled import Samples
from towers import MODES, MadeBeside, Prepared, Towers, most_masked, product_rate, rate

HERE = pathlib.Path(__file__).parent
DATE, SEED = "2026-11-20", 17
USERS, ITEMS = 200_000, 100_000
# batch, random negatives, batches that PyTorch goes round
SHAPES = [(4096, 1024, 24), (1024, 512, 96)]
TORCH_SECONDS = 4.0
# the check: one batch is an epoch, so the losses that twotower reports are those of its first steps
CHECK_BATCH, CHECK_NEGATIVES, CHECK_STEPS, CHECK_LIMIT = 1024, 512, 6, 1e-4


class Program:
    """`twotower` on one set of logs."""

    def __init__(self, path, out, clicks, users, items, threads):
        self.path, self.out, self.threads = path, out, threads
        if not (out / "clicks.parquet").exists():
            subprocess.run([sys.executable, HERE / "logs.py", out, str(clicks), str(users), str(items)], check=True)

    def run(self, stage, **settings):
        settings = {
            "output": self.out / "out",
            "sources.clicks.path": self.out / "clicks.parquet",
            "sources.items.path": self.out / "items.parquet",
            "training.threads": self.threads,
            **{f"training.{name}": value for name, value in settings.items()},
        }
        command = [self.path, "--log-format", "json", stage, "-c", HERE / "config.yaml", "--date", DATE]
        for setting in settings.items():
            command += ["--set", "{}={}".format(*setting)]
        done = subprocess.run(command, env={**os.environ, "RUST_LOG": "warn,twotower=debug"}, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"twotower {stage} left with {done.returncode}:\n{done.stdout}{done.stderr}")
        return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]

    def samples(self):
        self.run("samples")
        return newest(self.out / "out/samples")

    def train(self, size, random_negatives, **settings):
        """Facts of each epoch, and seconds of the parts of all steps."""
        # a model that is there would be taken as it is
        shutil.rmtree(self.out / "out/runs", ignore_errors=True)
        lines = self.run("train", batch_size=size, random_negatives=random_negatives, **settings)
        epochs = [line for line in lines if line["message"] == "trained an epoch"]
        profile = [line["profile"] for line in lines if "profile" in line][-1]
        units = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
        parts = {name: float(value) * units[unit] for name, value, unit in re.findall(r"(\w+): ([\d.]+)(\w*s)", profile)}
        return epochs, parts

    def model(self):
        return newest(self.out / "out/runs")


def newest(folder):
    """The folder that was finished last."""
    return max(folder.rglob("manifest.json"), key=lambda path: path.stat().st_mtime).parent


def check(program):
    """Compares the losses of the first steps from the same weights, on the same batches, with the same rates."""
    samples = program.samples()
    # rates too small to change a float32 but 0: the model that is written is the one that training starts from
    nothing = {"learning_rate.dense": 1e-30, "learning_rate.tables": 1e-30}
    program.train(CHECK_BATCH, CHECK_NEGATIVES, **nothing)
    fresh = program.out / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(program.model(), fresh)
    epochs, _ = program.train(CHECK_BATCH, CHECK_NEGATIVES, epochs=CHECK_STEPS)
    ours = [epoch["loss"] for epoch in epochs]
    sampled = Samples(samples, fresh, SEED)
    batches = [sampled.batches(epoch, CHECK_BATCH, CHECK_NEGATIVES)[0] for epoch in range(1, CHECK_STEPS + 1)]
    print(f"loss of the first {CHECK_STEPS} steps, {CHECK_BATCH} positives and {CHECK_NEGATIVES} random negatives each")
    print(f"{'twotower':16}", *(f"{loss:9.5f}" for loss in ours))
    furthest = 0.0
    for mode in MODES:
        towers = Towers(fresh, mode)
        towers.drop_below(1e-20)
        theirs = [towers.step(Prepared(batch, most_masked(batches), mode)) for batch in batches]
        print(f"torch {mode:10}", *(f"{loss:9.5f}" for loss in theirs))
        # torch.optim.Adagrad keeps a sum for each number and not for each row: another update, so the first loss alone must agree
        compared = 1 if mode == "optim" else CHECK_STEPS
        furthest = max(furthest, *(abs(a - b) for a, b in zip(ours[:compared], theirs)))
    print(f"largest difference {furthest:.1e}, allowed {CHECK_LIMIT:.0e}\n", flush=True)
    if furthest > CHECK_LIMIT:
        sys.exit("the two do not compute the same: the speeds below would mean nothing")


def measure(program, samples, rounds):
    """Rates by shape and by who, and the parts of our steps."""
    found = []
    for size, random_negatives, count in SHAPES:
        rates, parts, torches = {}, [], None
        for number in range(rounds):
            epochs, profile = program.train(size, random_negatives)
            rates.setdefault("twotower", []).append(epochs[0]["examples_per_second"])
            parts.append(profile)
            if torches is None:
                sampled = Samples(samples, program.model(), SEED)
                drawn = sampled.batches(1, size, random_negatives, count)
                order, most = sampled.order(1), most_masked(drawn)
                make = lambda mode: lambda step: Prepared(
                    sampled.batch(order, 1, step, size, random_negatives), most, mode
                )
                ready = {mode: [Prepared(batch, most, mode) for batch in drawn] for mode in MODES}
                beside = {mode: MadeBeside(make(mode), count) for mode in MODES}
                torches = {mode: Towers(program.model(), mode) for mode in MODES}
            for mode, towers in torches.items():
                if number == 0:
                    # compiles, and touches the memory
                    for batch in ready[mode][:3]:
                        towers.step(batch)
                ways = {f"torch {mode}": beside[mode], f"torch {mode}, ready": ready[mode]}
                for who, way in ways.items():
                    rates.setdefault(who, []).append(rate(towers, way, TORCH_SECONDS))
        steps = -(-len(sampled.items) // size)
        parts = {name: statistics.median(profile[name] for profile in parts) / steps for name in parts[0]}
        work = floors.Work.of(ready["eager"], random_negatives)
        found.append((f"{size} + {random_negatives}", rates, parts, work))
        print_rates(*found[-1][:2])
    return found


def print_rates(shape, rates):
    rounds = len(rates["twotower"])
    print(f"examples/s at {shape}", *(f"{'round ' + str(n + 1):>10}" for n in range(rounds)), f"{'median':>10}", sep="  ")
    medians = {who: statistics.median(of_rounds) for who, of_rounds in rates.items()}
    for who, of_rounds in rates.items():
        print(f"{who:26}", *(f"{one:10,.0f}" for one in of_rounds), f"{medians[who]:10,.0f}", sep="  ")
    for ready in (False, True):
        best = max((who for who in medians if who != "twotower" and who.endswith(", ready") == ready), key=medians.get)
        print(f"twotower / {best}: {medians['twotower'] / medians[best]:.2f}")
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--floors", required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("demo/bench/peers"))
    parser.add_argument("--clicks", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    options.out = options.out.absolute()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    load = os.getloadavg()[0]
    print(f"{options.threads} threads, torch {torch.__version__}, load of the machine before: {load:.1f}")
    if load > 0.5:
        print("the machine is not idle: rates will be too low, torch's most of all, whose threads wait for each other")
    print()
    check(Program(options.program, options.out / "check", CHECK_BATCH, 2000, 1000, options.threads))
    program = Program(options.program, options.out, options.clicks, USERS, ITEMS, options.threads)
    samples = program.samples()
    found = measure(program, samples, options.rounds)
    measured = json.loads(subprocess.run([options.floors, str(options.threads)], capture_output=True, check=True).stdout)
    floors.show(found, measured, product_rate())


if __name__ == "__main__":
    main()
