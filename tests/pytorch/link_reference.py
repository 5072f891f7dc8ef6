"""Link prediction by PyTorch Geometric under the protocol of this crate, to set beside `gnn-prune train DATA --task link`.

    python tests/pytorch/link_reference.py blogcatalog.npz --model gcn --seeds 10

The protocol: of the edges of an undirected graph, each taken once, 85 per cent train, 5 validate and 10 test; those that validate and test are in no
graph, and beside them stand as many pairs that are no edges of the whole graph. Both are those that the crate draws by seed 0, for every seed
(`draws.py`; `--split-seed` for others). Two layers of 64 channels on the features with a ReLU between them, no dropout, and the dot product of
both rows as the logit; Glorot weights, zero biases. Full batch: an epoch is one step on all edges that train and as many pairs that are none,
drawn anew; cross-entropy of a sigmoid, mean over pairs; Adam, learning rate 0.01, L2 weight decay 5e-4 on all parameters. At most 200 epochs,
stop after 100 without a better validation ROC AUC, keep the first epoch with the strictly best. Beside the ROC AUC on test stands Hits@50, the
share of edges that score above the 50th best pair that is none.
"""

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
import torch_geometric.nn as pyg
import train_reference as reference
from draws import edges
from sklearn.metrics import roc_auc_score
from torch_geometric.nn.inits import glorot, zeros


class Encoder(torch.nn.Module):
    def __init__(self, args, inputs):
        super().__init__()
        self.p, self.convs = args.dropout, torch.nn.ModuleList()
        for k in range(args.layers):
            read = args.hidden if k else inputs
            if args.model == "gcn":
                conv = pyg.GCNConv(read, args.hidden)
                self.convs.append(reference.GcnCsr(conv))
            else:
                conv = pyg.SAGEConv(read, args.hidden)
                self.convs.append(reference.SageFirst(conv, True))
        for module in list(self.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, (pyg.Linear, torch.nn.Linear)):
                    glorot(child.weight)
                    zeros(child.bias)
                    setattr(module, name, reference.Sparse(child))

    def forward(self, x, edge_index):
        for k, conv in enumerate(self.convs):
            x = conv(reference.dropped(x.relu() if k else x, self.p, self.training), edge_index)
        return F.dropout(x, self.p, self.training)


def logits(z, pairs):
    return (z[pairs[:, 0]] * z[pairs[:, 1]]).sum(1)


def judged(z, right, wrong):
    """ROC AUC and Hits@50, in per cent."""
    right, wrong = logits(z, right).numpy(), logits(z, wrong).numpy()
    labels = np.concatenate([np.ones(len(right)), np.zeros(len(wrong))])
    bar = np.sort(wrong)[-50]
    return 100 * roc_auc_score(labels, np.concatenate([right, wrong])), 100 * (right > bar).mean()


class NoEdges:
    """Draws pairs of nodes that are no edges."""

    def __init__(self, pairs, nodes, seed):
        self.nodes, self.known = nodes, np.sort(pairs[:, 0] * nodes + pairs[:, 1])
        self.rng = np.random.default_rng(seed)

    def draw(self, count):
        kept = np.empty((0, 2), dtype=np.int64)
        while len(kept) < count:
            pairs = np.sort(self.rng.integers(0, self.nodes, (count, 2)), 1)
            keys = pairs[:, 0] * self.nodes + pairs[:, 1]
            at = np.minimum(np.searchsorted(self.known, keys), len(self.known) - 1)
            kept = np.concatenate([kept, pairs[(pairs[:, 0] != pairs[:, 1]) & (self.known[at] != keys)]])
        return torch.from_numpy(kept[:count])


def fit(args, data, all_pairs, parts, others, seed):
    torch.manual_seed(seed)
    encoder = Encoder(args, data.x.shape[1])
    adam = torch.optim.Adam(encoder.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    train, val, test = parts
    edge_index = torch.cat([train.t(), train.t().flip(0)], 1)
    no_edges = NoEdges(all_pairs, data.x.shape[0], seed)
    labels = torch.cat([torch.ones(len(train)), torch.zeros(len(train))])
    best, best_epoch, kept = -1.0, 0, None
    for epoch in range(1, args.epochs + 1):
        encoder.train()
        adam.zero_grad()
        z = encoder(data.x, edge_index)
        F.binary_cross_entropy_with_logits(logits(z, torch.cat([train, no_edges.draw(len(train))])), labels).backward()
        adam.step()
        encoder.eval()
        with torch.no_grad():
            z = encoder(data.x, edge_index)
        score = judged(z, val, others[0])[0]
        if score > best:
            best, best_epoch, kept = score, epoch, judged(z, test, others[1])
        if epoch - best_epoch >= args.patience:
            break
    return kept, best, best_epoch


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="an npz file, looked for in GNN_PRUNE_DATA too")
    parser.add_argument("--model", default="gcn", choices=["gcn", "sage"])
    parser.add_argument("--features", default=None, choices="l1 l2 binary raw".split())
    for name, kind, value in [("hidden", int, 64), ("layers", int, 2), ("epochs", int, 200), ("patience", int, 100), ("seeds", int, 10)]:
        parser.add_argument(f"--{name}", type=kind, default=value)
    for name, kind, value in [("dropout", float, 0.0), ("lr", float, 0.01), ("weight-decay", float, 5e-4), ("split-seed", int, 0), ("first", int, 0)]:
        parser.add_argument(f"--{name}", type=kind, default=value)
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.data if os.path.exists(args.data) else os.path.join(os.environ.get("GNN_PRUNE_DATA", "."), args.data)
    data = reference.Data(path, args.features or ("l2" if "adj_indptr" in np.load(path) else "raw"))
    pairs = data.edge_index[:, data.edge_index[0] < data.edge_index[1]].t().numpy()
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    parts, others = edges(pairs.tolist(), data.x.shape[0], args.split_seed)
    parts, others = ([torch.from_numpy(part) for part in of] for of in (parts, others))
    started, found = time.time(), []
    for seed in range(args.first, args.first + args.seeds):
        kept, val, epoch = fit(args, data, pairs, parts, others, seed)
        found.append(kept)
        print(f"# seed {seed}: {kept[0]:.2f}, hits@50 {kept[1]:.2f}, validation {val:.2f} at epoch {epoch}, {time.time() - started:.0f} s", flush=True)
    mean, spread = np.mean(found, 0), np.std(found, 0, ddof=1) if len(found) > 1 else np.zeros(2)
    name = f"{os.path.basename(path)} {args.model} dot, hidden {args.hidden}, layers {args.layers}, dropout {args.dropout}"
    print(f"{name}: ROC AUC {mean[0]:.2f} ± {spread[0]:.2f}, hits@50 {mean[1]:.2f} ± {spread[1]:.2f} over {len(found)} seeds, {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
