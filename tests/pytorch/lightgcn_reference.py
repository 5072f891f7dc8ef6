"""LightGCN in PyTorch by its authors' formula under the protocol of this crate, to set beside `gnn-prune train lastfm --model lightgcn`.

    python tests/pytorch/lightgcn_reference.py lastfm --seeds 10
    python tests/pytorch/lightgcn_reference.py gowalla --seeds 1 --batch 16384 --lr 0.02 --epochs 20 --validate-every 5

The protocol: a tenth of each user's training items, rounded down, validates and is in no graph; it is what the crate takes out by seed 0
(`draws.py`), for every seed. A table of users and items, N(0, 0.1), 64 channels; the mean of it and of what three hops of the symmetrically
normalised adjacency make of it, without self-loops; scores are dot products. An epoch has as many draws as interactions train, in batches of
2048: a user, uniform over those who have an item, one of its items, and an item that it has not. Loss: mean of `softplus(s_neg − s_pos)`, and
1e-4 · ½ of the squares of the three rows that the draw names in the table, over the number of draws. Adam, learning rate 0.001. All items that
a user has not are ranked; on test, what validates counts as had. Recall@20 and NDCG@20; 600 epochs, validated every 10, and the first with the
strictly best Recall@20 is kept.

*Source*: He et al., "LightGCN", SIGIR 2020, eqs. 3 to 5 and 15; the authors' code for how users are drawn and the weight of the penalty.
"""

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from draws import held_out
from train_reference import Product

K = 20


def read(folder):
    """Items of each user that train and that test, and the number of items; users and items counted from 0."""
    if os.path.exists(os.path.join(folder, "train.txt")):
        parts = []
        for name in ("train.txt", "test.txt"):
            with open(os.path.join(folder, name)) as lines:
                ids = [[int(word) for word in line.split()] for line in lines]
            parts.append({user: sorted(set(items)) for user, *items in ids})
        users = 1 + max(max(part) for part in parts)
        items = 1 + max(max(own, default=0) for part in parts for own in part.values())
        return *([part.get(user, []) for user in range(users)] for part in parts), items
    parts = [np.loadtxt(os.path.join(folder, name), dtype=np.int64, usecols=(0, 1)) for name in ("data1.txt", "test1.txt")]
    both = np.concatenate(parts)
    first = np.minimum(both.min(0), 1)
    users, items = both.max(0) - first + 1
    lists = []
    for part in parts:
        own = [set() for _ in range(users)]
        for user, item in part - first:
            own[user].add(int(item))
        lists.append([sorted(items) for items in own])
    return lists[0], lists[1], int(items)


class Ranking:
    """Judges the answers of each user among all items but those that are left out, some users at a time."""

    SOME = 4096

    def __init__(self, answers, left_out, items):
        self.users, self.items = [user for user, own in enumerate(answers) if own], items
        self.answers, self.left_out = answers, left_out
        self.discount = 1 / torch.log2(torch.arange(K) + 2.0)

    def judged(self, rows, first_item):
        """Recall@20 and NDCG@20 of a table of users and items, in per cent."""
        return self.of_scores(lambda users: rows[users] @ rows[first_item:].t())

    def of_scores(self, scores_of):
        sums = torch.zeros(2)
        for start in range(0, len(self.users), self.SOME):
            users = self.users[start : start + self.SOME]

            def places(lists):
                rows = np.repeat(np.arange(len(users)), [len(lists[user]) for user in users])
                return torch.from_numpy(rows), torch.tensor([item for user in users for item in lists[user]], dtype=torch.long)

            scores, hit = scores_of(users), torch.zeros(len(users), self.items)
            scores[places(self.left_out)] = -torch.inf
            hit[places(self.answers)] = 1
            hits, counts = hit.gather(1, scores.topk(K).indices), hit.sum(1)
            ideal = self.discount.cumsum(0)[counts.clamp(max=K).long() - 1]
            sums += torch.stack([(hits.sum(1) / counts).sum(), (hits @ self.discount / ideal).sum()])
        return tuple((100 * sums / len(self.users)).tolist())


class Draws:
    """Users, items that they have, and items that they have not."""

    def __init__(self, own, items, seed):
        self.counts = np.array([len(items) for items in own])
        self.users, self.items = np.flatnonzero(self.counts), items
        self.starts, self.all = np.cumsum(self.counts) - self.counts, np.concatenate([np.array(own, dtype=np.int64) for own in own])
        self.has = np.zeros((len(own), items), dtype=bool)
        self.has[np.repeat(np.arange(len(own)), self.counts), self.all] = True
        self.rng = np.random.default_rng(seed)

    def draw(self, count):
        users = self.users[self.rng.integers(0, len(self.users), count)]
        right = self.all[self.starts[users] + (self.rng.random(count) * self.counts[users]).astype(np.int64)]
        wrong = self.rng.integers(0, self.items, count)
        while (again := self.has[users, wrong]).any():
            wrong[again] = self.rng.integers(0, self.items, again.sum())
        return [torch.from_numpy(ids) for ids in (users, right, wrong)]


def adjacency(own, items):
    users = len(own)
    rows = np.repeat(np.arange(users), [len(items) for items in own])
    columns = users + np.concatenate([np.array(items, dtype=np.int64) for items in own])
    index = torch.from_numpy(np.stack([np.concatenate([rows, columns]), np.concatenate([columns, rows])]))
    root = torch.bincount(index[0], minlength=users + items).float().rsqrt()
    return torch.sparse_coo_tensor(index, root[index[0]] * root[index[1]], (users + items,) * 2).to_sparse_csr()


def fit(args, train, rankings, operator, items, seed):
    torch.manual_seed(seed)
    users = len(train)
    table = torch.nn.Parameter(args.deviation * torch.randn(users + items, args.hidden))
    adam = torch.optim.Adam([table], lr=args.lr)
    draws, pairs = Draws(train, items, seed), sum(map(len, train))

    def propagated():
        depths = [table]
        for _ in range(args.layers):
            # The matrix is its own transpose.
            depths.append(Product.apply(operator, operator, depths[-1]))
        return sum(depths) / len(depths)

    best, best_epoch, kept = -1.0, 0, None
    for epoch in range(1, args.epochs + 1):
        for start in range(0, pairs, args.batch):
            count = min(args.batch, pairs - start)
            user, right, wrong = draws.draw(count)
            ids = torch.cat([user, users + right, users + wrong])
            adam.zero_grad()
            u, i, j = propagated()[ids].chunk(3)
            loss = F.softplus((u * j).sum(1) - (u * i).sum(1)).mean()
            (loss + args.penalty * 0.5 * table[ids].square().sum() / count).backward()
            adam.step()
        if epoch % args.validate_every == 0 or epoch == args.epochs:
            with torch.no_grad():
                rows = propagated()
            score = rankings[0].judged(rows, users)[0]
            if score > best:
                best, best_epoch, kept = score, epoch, rankings[1].judged(rows, users)
    return kept, best, best_epoch


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="a folder with data1.txt and test1.txt, or train.txt and test.txt, looked for in GNN_PRUNE_DATA too")
    for name, value in [("hidden", 64), ("layers", 3), ("batch", 2048), ("epochs", 600), ("validate-every", 10), ("seeds", 10), ("first", 0)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in [("lr", 0.001), ("penalty", 1e-4), ("deviation", 0.1)]:
        parser.add_argument(f"--{name}", type=float, default=value)
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.data if os.path.exists(args.data) else os.path.join(os.environ.get("GNN_PRUNE_DATA", "."), args.data)
    taken, test, items = read(path)
    train, val = held_out(taken, 0.1, 0)
    print(f"# {len(train)} users, {items} items, {sum(map(len, train))} train, {sum(map(len, val))} validate, {sum(map(len, test))} test", flush=True)
    rankings, operator = [Ranking(val, train, items), Ranking(test, taken, items)], adjacency(train, items)
    started, found = time.time(), []
    for seed in range(args.first, args.first + args.seeds):
        kept, best, epoch = fit(args, train, rankings, operator, items, seed)
        found.append(kept)
        print(f"# seed {seed}: recall@20 {kept[0]:.2f}, ndcg@20 {kept[1]:.2f}, validation {best:.2f} at epoch {epoch}, {time.time() - started:.0f} s", flush=True)
    mean, spread = np.mean(found, 0), np.std(found, 0, ddof=1) if len(found) > 1 else np.zeros(2)
    print(f"lightgcn: recall@20 {mean[0]:.2f} ± {spread[0]:.2f}, ndcg@20 {mean[1]:.2f} ± {spread[1]:.2f} over {len(found)} seeds, {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
