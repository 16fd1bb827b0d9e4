#!/usr/bin/env python3
"""Fits a small ranker on the logs up to a date and writes its scores as the source `ranker_scores`.

    python3 examples/kuairand/fit_ranker.py FOLDER OUT [--date 2022-05-04] [--top 500]

A logistic regression of the click on simple statistics of user and item. It learns from the exposures of the last two days,
with statistics from the days before them only; then the statistics are taken anew over all days up to the date, and every
user who clicked in the event days gets scores for the whole catalogue, of which the best are written to
OUT/dt=DATE/part-00000.parquet. Nothing after the date is read for that. With --report, the day after the date is read
too, to say how well the ranker does there.
"""

import argparse
import datetime
import pathlib
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

USERS_AT_ONCE = 256
NAMES = ["bias", "log clicks", "click rate", "recent clicks", "author", "tags", "co-clicked", "seconds", "known user"]


class Logs:
    """Exposures by day, the earlier histories, and the catalogue."""

    def __init__(self, folder):
        self.folder = folder
        past = pq.read_table(folder / "history_positives.parquet", columns=["user_id", "item_id"])
        self.past = tuple(past[name].to_numpy().astype(np.int64) for name in ("user_id", "item_id"))
        items = pq.read_table(folder / "items.parquet").sort_by("item_id")
        if not np.array_equal(items["item_id"].to_numpy(), np.arange(len(items))):
            sys.exit("items.parquet: expected the item ids 0, 1, 2 ... without a gap")
        self.items = len(items)
        self.author = np.unique(items["author_id"].to_numpy(), return_inverse=True)[1]
        tags = [tag.split(",") for tag in items["tag"].to_pylist()]
        names = {name: at for at, name in enumerate(sorted({name for of_item in tags for name in of_item}))}
        self.tags = np.zeros((self.items, len(names)), np.float32)
        for item, of_item in enumerate(tags):
            self.tags[item, [names[name] for name in of_item]] = 1 / np.sqrt(len(of_item))
        seconds = items["video_duration"].to_numpy(zero_copy_only=False) / 1000
        self.seconds = np.log1p(np.nan_to_num(seconds, nan=np.nanmedian(seconds))).astype(np.float32)
        users = pq.read_table(folder / "users.parquet", columns=["user_id"])["user_id"].to_numpy()
        self.users = int(users.max()) + 1

    def day(self, date):
        """(user, item, click) of one day's exposures."""
        path = self.folder / "events" / f"dt={date}" / "part-00000.parquet"
        if not path.exists():
            sys.exit(f"{path} does not exist; expected the exposures of {date}")
        table = pq.ParquetFile(path).read(columns=["user_id", "item_id", "is_click"])
        return tuple(table[name].to_numpy().astype(np.int64) for name in ("user_id", "item_id", "is_click"))

    def days(self, dates):
        return tuple(np.concatenate(column) for column in zip(*(self.day(date) for date in dates)))


class Statistics:
    """What is known at the end of `dates`: clicks of items, items and tags of users, items clicked together."""

    def __init__(self, logs, dates):
        self.logs = logs
        user, item, click = logs.days(dates)
        clicked = click == 1
        pairs = np.concatenate([logs.past[0] * logs.items + logs.past[1], (user * logs.items + item)[clicked]])
        pairs = np.unique(pairs)
        liked_user, liked_item = pairs // logs.items, pairs % logs.items
        self.start = np.searchsorted(liked_user, np.arange(logs.users + 1))
        self.liked = liked_item
        self.clicked_users = np.unique(user[clicked])

        counts = np.bincount(liked_item, minlength=logs.items)
        shown = np.bincount(item, minlength=logs.items)
        rate = np.bincount(item[clicked], minlength=logs.items) + 20 * click.mean()
        recent_user, recent_item, recent_click = logs.days(dates[-3:])
        recent = np.bincount(recent_item[recent_click == 1], minlength=logs.items)
        del recent_user
        self.item_columns = np.stack([np.log1p(counts), rate / (shown + 20), np.log1p(recent)], axis=1).astype(np.float32)
        self.similar = self.co_clicks(counts)

    def co_clicks(self, counts):
        """Cosine of the sets of users of every two items, shrunk where few users are shared."""
        n = self.logs.items
        together = np.zeros(n * n, np.float32)
        for user in range(self.logs.users):
            items = self.liked[self.start[user] : self.start[user + 1]]
            # a pair stands once in a user's list, so plain indexing adds it once
            together[(items[:, None] * n + items).ravel()] += 1
        together = together.reshape(n, n)
        np.fill_diagonal(together, 0)
        scale = (1 / np.sqrt(counts + 10)).astype(np.float32)
        together *= scale[:, None]
        together *= scale
        return together

    def columns(self, user):
        """Features of one user against every item: [items, features]."""
        logs = self.logs
        items = self.liked[self.start[user] : self.start[user + 1]]
        out = np.empty((logs.items, len(NAMES)), np.float32)
        out[:, 0] = 1
        out[:, 1:4] = self.item_columns
        out[:, 7] = logs.seconds
        out[:, 8] = len(items) > 0
        scale = 1 / np.sqrt(max(len(items), 1))
        by_author = np.bincount(logs.author[items], minlength=logs.author.max() + 1)[logs.author]
        # what the user is known to like must not count towards itself: the click to guess is never in it at training time
        by_author[items] -= 1
        out[:, 4] = by_author * scale
        tags = logs.tags @ logs.tags[items].sum(axis=0)
        tags[items] -= (logs.tags[items] ** 2).sum(axis=1)
        out[:, 5] = tags * scale
        out[:, 6] = self.similar[items].sum(axis=0) * scale
        return out

    def rows(self, user, item):
        """Features of (user, item) pairs, for fitting."""
        out = np.empty((len(user), len(NAMES)), np.float32)
        order = np.argsort(user, kind="stable")
        bounds = np.flatnonzero(np.diff(user[order], prepend=-1))
        for rows in np.split(order, bounds[1:]):
            out[rows] = self.columns(user[rows[0]])[item[rows]]
        return out


class Ranker:
    """Logistic regression by Newton's method on standardised features, with an L2 penalty."""

    def __init__(self, features, click):
        x = features.astype(np.float64)
        self.mean, self.deviation = x[:, 1:].mean(axis=0), x[:, 1:].std(axis=0) + 1e-9
        x[:, 1:] = (x[:, 1:] - self.mean) / self.deviation
        self.weights = np.zeros(x.shape[1])
        for _ in range(20):
            p = 1 / (1 + np.exp(-x @ self.weights))
            gradient = x.T @ (p - click) + self.weights
            hessian = (x * (p * (1 - p))[:, None]).T @ x + np.eye(len(self.weights))
            step = np.linalg.solve(hessian, gradient)
            self.weights -= step
            if np.abs(step).max() < 1e-8:
                break

    def raw(self):
        """The same weights for features that are not standardised."""
        weights = self.weights.copy()
        weights[1:] /= self.deviation
        weights[0] -= weights[1:] @ self.mean
        return weights.astype(np.float32)


def auc(score, click):
    """Chance that a clicked exposure scores above one that was not clicked; ties count half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = click == 1
    n = positive.sum()
    return (rank[positive].sum() - n * (n + 1) / 2) / (n * (len(click) - n))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="the data: events/, history_positives.parquet ...")
    parser.add_argument("out", type=pathlib.Path, help="folder of the source ranker_scores")
    parser.add_argument("--date", type=datetime.date.fromisoformat, default=datetime.date(2022, 5, 4))
    parser.add_argument("--top", type=int, default=500, help="scores kept for each user")
    parser.add_argument("--report", action="store_true", help="also measure on the day after the date")
    options = parser.parse_args()

    began = time.time()
    logs = Logs(options.folder)
    first = datetime.date(2022, 4, 25)
    dates = [first + datetime.timedelta(n) for n in range((options.date - first).days + 1)]
    if len(dates) < 6:
        sys.exit(f"--date {options.date}: expected at least {first + datetime.timedelta(5)}, so that there are days to learn from")

    # the labels are of days that the statistics do not know
    user, item, click = logs.days(dates[-2:])
    ranker = Ranker(Statistics(logs, dates[:-2]).rows(user, item), click)
    print("weights: " + ", ".join(f"{name} {weight:+.2f}" for name, weight in zip(NAMES, ranker.weights)))

    now = Statistics(logs, dates)
    weights = ranker.raw()
    if options.report:
        user, item, click = logs.day(options.date + datetime.timedelta(1))
        features = now.rows(user, item)
        print(f"AUC on {options.date + datetime.timedelta(1)}: ranker {auc(features @ weights, click):.4f}, "
              f"popularity {auc(features[:, 1], click):.4f}, click rate {auc(features[:, 2], click):.4f}")

    folder = options.out / f"dt={options.date}"
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([("user_id", pa.int64()), ("item_id", pa.int64()), ("score", pa.float32())])
    top = min(options.top, logs.items)
    rows = 0
    with pq.ParquetWriter(folder / "part-00000.parquet", schema, compression="zstd") as file:
        for at in range(0, len(now.clicked_users), USERS_AT_ONCE):
            users = now.clicked_users[at : at + USERS_AT_ONCE]
            items, scores = [], []
            for user in users:
                score = now.columns(user) @ weights
                best = np.argpartition(-score, top - 1)[:top]
                best = best[np.lexsort((best, -score[best]))]
                items.append(best)
                scores.append(score[best])
            columns = [np.repeat(users, top), np.concatenate(items), np.concatenate(scores)]
            file.write_table(pa.table([pa.array(column, kind.type) for column, kind in zip(columns, schema)], schema=schema))
            rows += len(columns[0])
    (folder / "_SUCCESS").touch()
    print(f"{rows} scores of {len(now.clicked_users)} users in {folder}, {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
