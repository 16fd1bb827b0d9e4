"""The sample tables as PyTorch gets them: the rows that twotower trains on, encoded and put into batches as it does.

The draws are those of src/train/random.rs and src/train/batches.rs, written again, so that step N of an epoch is the same batch here
and there.
"""

import json
import pathlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import torch

GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)


def splitmix64(state):
    with np.errstate(over="ignore"):
        x = np.asarray(state, dtype=np.uint64) + GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
        return x ^ (x >> np.uint64(31))


def bits(seed, *place):
    state = splitmix64(seed)
    for part in place:
        state = splitmix64(state ^ np.asarray(part).astype(np.uint64))
    return state


def below(draws, n):
    """The high half of the 128-bit product, from two halves of the draw. `n` may be an array, one for each draw."""
    n, low = np.asarray(n).astype(np.uint64), np.uint64(0xFFFF_FFFF)
    return (((draws >> np.uint64(32)) * n + (((draws & low) * n) >> np.uint64(32))) >> np.uint64(32)).astype(np.int64)


def shuffled(rows, seed):
    """Fisher and Yates, from the end."""
    places = np.arange(len(rows) - 1, 0, -1)
    # each place has a range of its own to draw from: `below` takes them as one array
    rows, others = list(rows), below(bits(seed, places), places + 1)
    for at, other in zip(places.tolist(), others.tolist()):
        rows[at], rows[other] = rows[other], rows[at]
    return np.array(rows, dtype=np.int64)


@dataclass
class Batch:
    """B users, then C = B + N items: the users' positives and the shared random negatives."""

    user: torch.Tensor  # [B] rows of the table of users
    history: torch.Tensor  # [B, 50] rows of the table of items
    item: torch.Tensor  # [C] rows of the table of items
    minus_log_q: torch.Tensor  # [C]
    masked: tuple  # rows and columns of the logits that are no negatives
    loss_rows: torch.Tensor  # [B] each row's own column


class Samples:
    def __init__(self, folder, model, seed):
        self.seed = seed
        read = lambda name, *columns: pq.read_table(pathlib.Path(folder) / name, columns=list(columns))
        vocabulary = pq.read_table(pathlib.Path(model) / "vocabulary.parquet")
        self.spec = json.loads((pathlib.Path(model) / "feature_spec.json").read_text())
        rows_of = {name: table_rows(vocabulary, name) for name in ("user_id", "item_id")}
        items = read("item_features", "item_id")["item_id"].to_numpy()
        positives = read("positives", "sample_id", "user_id", "item_id", "history")
        ids = {name: positives[name].to_numpy() for name in ("sample_id", "user_id", "item_id")}
        self.users = rows_of["user_id"](ids["user_id"])
        self.histories = rows_of["item_id"](lists(positives["history"])).reshape(len(self.users), -1)
        # items of the catalogue by place, as twotower counts and masks them
        self.rows_of_items = rows_of["item_id"](items)
        place_of = places(items)
        self.items = place_of(ids["item_id"])
        count = np.bincount(self.items, minlength=len(items))
        self.log_share = np.log(np.maximum(count, 0.5) / len(self.items)).astype(np.float32)
        negatives = read("random_negatives", "sample_id", "item_id", "sampling_probability")
        owner = places(ids["sample_id"])(negatives["sample_id"].to_numpy())
        order = np.argsort(owner, kind="stable")
        self.random_items = place_of(negatives["item_id"].to_numpy())[order]
        self.probabilities = negatives["sampling_probability"].to_numpy().astype(np.float32)[order]
        self.random_offsets = offsets(owner, len(self.items))
        # what each user liked, for the mask
        pairs = np.unique(self.users * len(items) + self.items)
        users, self.liked_items = np.divmod(pairs, len(items))
        self.liked_offsets = offsets(users, self.users.max() + 1)

    def batches(self, epoch, size, random_negatives, most=None):
        order = self.order(epoch)
        steps = -(-len(order) // size)
        return [self.batch(order, epoch, step, size, random_negatives) for step in range(min(steps, most or steps))]

    def order(self, epoch):
        return shuffled(np.arange(len(self.items)), bits(self.seed, 1, epoch))

    def batch(self, order, epoch, step, size, wanted):
        rows = order[step * size : (step + 1) * size]
        log_q = np.log(len(rows)) + self.log_share[self.items[rows]].astype(np.float64)
        owners = rows[self.random_offsets[rows] < self.random_offsets[rows + 1]]
        draws = bits(self.seed, 2, epoch, step, np.arange(wanted))
        owner = owners[below(draws, len(owners))]
        start, end = self.random_offsets[owner], self.random_offsets[owner + 1]
        entry = start + below(splitmix64(draws), end - start)
        log_q = np.concatenate([log_q, np.log(self.probabilities[entry].astype(np.float64) * wanted)])
        items = np.concatenate([self.items[rows], self.random_items[entry]])
        masked = self.masked(self.users[rows], items)
        return Batch(
            user=torch.from_numpy(self.users[rows]),
            history=torch.from_numpy(self.histories[rows]),
            item=torch.from_numpy(self.rows_of_items[items]),
            minus_log_q=torch.from_numpy(-log_q.astype(np.float32)),
            masked=tuple(map(torch.from_numpy, masked)),
            loss_rows=torch.arange(len(rows)),
        )

    def masked(self, users, items):
        """Rows and columns where the column's item is one that the row's user likes, but for his own."""
        liked, row = ranges(self.liked_offsets[users], self.liked_offsets[users + 1])
        by_item = np.argsort(items, kind="stable")
        sorted_items, wanted = items[by_item], self.liked_items[liked]
        at, pair = ranges(np.searchsorted(sorted_items, wanted), np.searchsorted(sorted_items, wanted, "right"))
        rows, columns = row[pair], by_item[at]
        return rows[rows != columns], columns[rows != columns]


def ranges(starts, ends):
    """The numbers of all ranges one after another, and which range each is of."""
    counts = ends - starts
    of = np.repeat(np.arange(len(counts)), counts)
    return np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts) + starts[of], of


def offsets(owners, count):
    return np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count))])


def places(ids):
    """From ids to their places in `ids`, all of which must be there."""
    order = np.argsort(ids)
    return lambda wanted: order[np.searchsorted(ids, wanted, sorter=order)]


def table_rows(vocabulary, table):
    """From ids, which are small numbers here, to rows of a table; row 0 for those that it does not know."""
    of_table = vocabulary.filter(pa.compute.equal(vocabulary["table"], table))
    ids, rows = of_table["value_int"].to_numpy(), of_table["row"].to_numpy()
    row_of = np.zeros(2 * ids.max(), dtype=np.int64)
    row_of[ids] = rows
    return lambda wanted: row_of[wanted]


def lists(column):
    return column.combine_chunks().flatten().to_numpy()
