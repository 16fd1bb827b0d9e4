"""What a step cannot go below on a machine: its operations at the measured speed of a matrix product, its bytes at that of memory."""

from dataclasses import dataclass

DIM, HIDDEN, WIDTHS = 64, 128, (128, 64)
FLOAT = 4


@dataclass
class Work:
    """Operations and bytes of each part of a step, means over batches; and operations where an item has a column for each draw,
    as it has in PyTorch."""

    examples: int
    operations: dict
    bytes: dict
    their_operations: dict

    @staticmethod
    def of(batches, random_negatives):
        users = len(batches[0].user)
        items, looked_up = users + random_negatives, batches[0].history.numel()
        mean = lambda of_batch: sum(map(of_batch, batches)) / len(batches)
        touched = mean(lambda batch: len(batch.users) + len(batch.items))
        dense = lambda items: sum(
            2 * rows * (width * HIDDEN + HIDDEN * DIM) for rows, width in zip((users, items), WIDTHS)
        )
        parameters = sum(width * HIDDEN + HIDDEN * DIM + HIDDEN + DIM for width in WIDTHS)
        inputs = users * WIDTHS[0] + items * WIDTHS[1]
        operations = lambda items: {
            "forward": dense(items),
            # logits, and the gradients of both sides
            "softmax": 3 * 2 * users * items * DIM,
            "backward": 2 * dense(items),
        }
        distinct = mean(lambda batch: len(batch.item.unique()))
        in_bytes = {
            # each touched row once from memory (a row that comes again is in a cache), ids, the input rows
            "gather": touched * DIM * FLOAT + (looked_up + users + items) * FLOAT + inputs * FLOAT,
            # weight, gradient and both moments read, all but the gradient written
            "dense_update": 7 * parameters * FLOAT,
            # gradients and ids read; each touched row and its sum of squares read and written
            "table_update": inputs * FLOAT + (looked_up + users + items) * FLOAT + touched * 2 * (DIM + 1) * FLOAT,
        }
        return Work(users, operations(distinct), in_bytes, operations(items))


def show(found, ours, their_gflops):
    """The table of floors for each shape."""
    gflops, gigabytes = ours["product_gflops"], ours["read_gigabytes_per_second"]
    print(f"a product of 2048 x 2048 matrices: {gflops:.0f} Gflop/s here, {their_gflops:.0f} in torch; memory is read at {gigabytes:.1f} GB/s\n")
    for shape, rates, parts, work in found:
        print(f"ms of a step at {shape}   measured      floor   times the floor")
        total = 0.0
        for part, seconds in parts.items():
            floor = work.operations.get(part, 0) / gflops / 1e9 + work.bytes.get(part, 0) / gigabytes / 1e9
            total += floor
            print(f"{part:24} {seconds * 1e3:12.2f} {floor * 1e3:10.2f} {seconds / floor:17.1f}")
        rate = sorted(rates["twotower"])[len(rates["twotower"]) // 2]
        whole = work.examples / rate
        rest = whole - sum(parts.values())
        print(f"{'waiting, and the rest':24} {rest * 1e3:12.2f}")
        print(f"{'the step':24} {whole * 1e3:12.2f} {total * 1e3:10.2f} {whole / total:17.1f}   ({work.examples / total:,.0f} examples/s)")
        theirs = sum(work.their_operations.values()) / their_gflops / 1e9 + sum(work.bytes.values()) / gigabytes / 1e9
        print(f"{'the same for torch':24} {'':12} {theirs * 1e3:10.2f} {'':17}   ({work.examples / theirs:,.0f} examples/s)\n")
