"""The model of config.yaml in PyTorch, in the ways that were found fastest for it (compare.py says how they were found).

- Input rows are looked up outside of autograd, and their gradient goes back to the rows that a batch touches: for the histories as
  one product with a sparse matrix, whose making (which rows, in which order) is no part of the step. EmbeddingBag(sparse=True) with
  torch.optim.Adagrad, what the documentation leads to, is the mode `optim`.
- Logits come from one addmm with the correction as its bias; the mask is made before the step too: a matrix of booleans, and for the
  compiled mode, which is faster with it, the places themselves, as many in each batch so that it is compiled once.
- AdamW is the fused one.
"""

import json
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

MODES = ("optim", "eager", "compiled")
HISTORY = 50
TABLE_RATE, DENSE_RATE, DECAY = 0.05, 1e-3, 1e-4
EPSILON = 1e-8


class Prepared:
    """A batch with what can be made of it before its step in a mode."""

    def __init__(self, batch, masked_places, mode):
        size, columns = len(batch.user), len(batch.item)
        self.user, self.history, self.item, self.minus_log_q = batch.user, batch.history, batch.item, batch.minus_log_q
        self.own = batch.loss_rows
        if mode == "compiled":
            places = batch.masked[0] * columns + batch.masked[1]
            # one of them again and again fills it up
            self.mask = torch.cat([places, places[:1].expand(masked_places - len(places))])
        else:
            self.mask = torch.zeros(size, columns, dtype=torch.bool)
            self.mask[batch.masked] = True
        if mode == "optim":
            return
        self.users, self.of_user = batch.user.unique(return_inverse=True)
        self.items, place = torch.cat([batch.history.flatten(), batch.item]).unique(return_inverse=True)
        in_history, self.of_item = place[: size * HISTORY], place[size * HISTORY :]
        # [touched items, users]: a history's share of each item
        order = in_history.argsort(stable=True)
        starts = F.pad(torch.bincount(in_history, minlength=len(self.items)).cumsum(0), (1, 0))
        users = torch.arange(size).repeat_interleave(HISTORY)[order]
        shares = torch.full((size * HISTORY,), 1 / HISTORY)
        self.shares = starts.int(), users.int(), shares, (len(self.items), size)


def most_masked(batches):
    """Masked places of the batch with the most; the Zipf items see to at least one in each."""
    return max(len(batch.masked[0]) for batch in batches)


class Towers:
    """Weights, optimizer state, and the step that changes them."""

    def __init__(self, model, mode):
        tables, dense = tensors(model / "tables.safetensors"), tensors(model / "towers.safetensors")
        self.mode = mode
        self.tables = [tables[f"{name}.rows"] for name in ("user_id", "item_id")]
        self.sums = [torch.zeros(len(table)) for table in self.tables]
        layers = [f"{tower}.{layer}" for tower in ("user", "item") for layer in (0, 1)]
        # torch keeps weights as [outputs, inputs]
        weights = [torch.nn.Parameter(dense[f"{layer}.weight"].T.contiguous()) for layer in layers]
        biases = [torch.nn.Parameter(dense[f"{layer}.bias"]) for layer in layers]
        self.dense = [tensor for pair in zip(weights, biases) for tensor in pair]
        groups = [{"params": weights, "weight_decay": DECAY}, {"params": biases, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, lr=DENSE_RATE, fused=True)
        self.scale = 1 / dense["temperature"].item()
        self.loss = torch.compile(loss, dynamic=False) if mode == "compiled" else loss
        if mode == "optim":
            self.tables = [torch.nn.Parameter(table) for table in self.tables]
            self.adagrad = torch.optim.Adagrad(self.tables, lr=TABLE_RATE, eps=EPSILON)

    @torch.no_grad()
    def drop_below(self, limit):
        """Sets to 0 what is nearly 0."""
        for tensor in self.tables + self.dense:
            tensor[tensor.abs() < limit] = 0.0

    def step(self, batch):
        """Learns from one batch; returns its loss."""
        sparse = self.mode == "optim"
        users, items = self.tables
        with torch.set_grad_enabled(sparse):
            history = F.embedding_bag(batch.history, items, mode="mean", sparse=sparse)
            user_input = torch.cat([F.embedding(batch.user, users, sparse=sparse), history], 1)
            item_input = F.embedding(batch.item, items, sparse=sparse)
        if not sparse:
            user_input.requires_grad_()
            item_input.requires_grad_()
        inputs = user_input, item_input, batch.minus_log_q
        value = self.loss(self.dense, self.scale, *inputs, batch.mask, batch.own)
        value.backward()
        self.adam.step()
        self.adam.zero_grad()
        if sparse:
            self.adagrad.step()
            self.adagrad.zero_grad()
        else:
            self.update_tables(batch, user_input.grad, item_input.grad)
        return value.item()

    @torch.no_grad()
    def update_tables(self, batch, of_users, of_items):
        width = self.tables[0].shape[1]
        by_user = torch.zeros(len(batch.users), width).index_add_(0, batch.of_user, of_users[:, :width])
        by_item = (torch.sparse_csr_tensor(*batch.shares) @ of_users[:, width:].contiguous()).index_add_(0, batch.of_item, of_items)
        for table, sums, rows, gradient in zip(self.tables, self.sums, (batch.users, batch.items), (by_user, by_item)):
            sum_of_rows = sums[rows] + gradient.square().mean(1)
            sums[rows] = sum_of_rows
            table.index_add_(0, rows, gradient / (sum_of_rows.sqrt() + EPSILON)[:, None], alpha=-TABLE_RATE)


def unit(rows):
    """Rows of length 1; one of length 0 stays as it is, and so does its gradient, as in twotower."""
    squares = rows.square().sum(1, keepdim=True)
    return rows * torch.where(squares < 1e-24, 1.0, squares.clamp_min(1e-24)).rsqrt()


def loss(dense, scale, user_input, item_input, minus_log_q, mask, own):
    tower = lambda x, w, b, v, c: unit(F.linear(F.relu(F.linear(x, w, b)), v, c))
    users, items = tower(user_input, *dense[:4]), tower(item_input, *dense[4:])
    logits = torch.addmm(minus_log_q, users * scale, items.T)
    if mask.dtype == torch.bool:
        return F.cross_entropy(logits.masked_fill(mask, float("-inf")), own)
    return F.cross_entropy(logits.flatten().index_fill(0, mask, float("-inf")).view_as(logits), own)


def tensors(path):
    """A safetensors file of float32."""
    content = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    found = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, end = entry["data_offsets"]
            values = np.frombuffer(content[start + first : start + end], dtype="<f4").reshape(entry["shape"])
            found[name] = torch.from_numpy(values.copy())
    return found


def rate(towers, batches, seconds):
    """Examples a second over whole passes, for at least that long."""
    examples, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        for batch in batches:
            towers.step(batch)
            examples += len(batch.user)
    return examples / elapsed


class MadeBeside(torch.utils.data.Dataset):
    """Batches made anew for each pass by a process beside the steps, as many ahead of them as twotower has."""

    def __init__(self, make, count):
        self.make, self.count = make, count
        self.loader = torch.utils.data.DataLoader(
            self, batch_size=None, num_workers=1, prefetch_factor=2, persistent_workers=True, multiprocessing_context="fork"
        )

    def __len__(self):
        return 2 * self.count

    def __getitem__(self, at):
        return self.make(at % self.count)

    def __iter__(self):
        return iter(self.loader)


def product_rate(size=2048, seconds=1.0):
    """Gflop/s of a product of two square matrices: the best of a second."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    best, until = float("inf"), time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9
