"""PyTorch Geometric's own figures under the protocol of this crate, to set beside those of `gnn-prune train`.

    python tests/pytorch/train_reference.py cora.npz --features l1 --model gat --seeds 10

The protocol: full batch; Adam, learning rate 0.01, L2 weight decay 5e-4 on all parameters; Glorot weights, zero biases; dropout 0.5 on the
non-zeros of the features and on the input of every later layer; cross-entropy; at most 200 epochs, stop after 100 without a better
validation metric, keep the first epoch with the strictly best. `--init pyg` leaves what PyTorch Geometric draws in the place of the
protocol's Glorot weights. Where the file has no split, the seed draws 20 and 30 nodes a class, and the rest tests: the nodes that the crate
draws by this seed (`draws.py`). Of ten masks it takes its own.

`--csr` multiplies by the normalised adjacency matrix as PyTorch's sparse product does, in the place of a gather and a scatter of messages: the
same function for gcn and sage, and some times faster. Per seed it prints the test metric and, after it, the epoch that was kept.
"""

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
import torch_geometric.nn as pyg
from draws import per_class
from torch_geometric.nn.inits import glorot, zeros


class Data:
    """An npz file of the gnn-benchmark or the heterophilous layout."""

    def __init__(self, path, how):
        file = np.load(path)
        if "adj_indptr" in file:
            targets = np.repeat(np.arange(len(file["adj_indptr"]) - 1), np.diff(file["adj_indptr"]))
            self.edge_index = torch.from_numpy(np.stack([targets, file["adj_indices"]]).astype(np.int64))
            # What is stored is undirected in all of these files, or becomes so.
            self.edge_index = torch.unique(torch.cat([self.edge_index, self.edge_index.flip(0)], 1), dim=1)
            # Classes in sorted order, whatever number they start from.
            self.y = torch.from_numpy(np.unique(file["labels"], return_inverse=True)[1].astype(np.int64))
            shape = tuple(file["attr_shape"])
            rows = np.repeat(np.arange(shape[0]), np.diff(file["attr_indptr"]))
            index = np.stack([rows, file["attr_indices"]]).astype(np.int64)
            values = file["attr_data"].astype(np.float32)
            if how == "binary":
                values = np.ones_like(values)
            elif how in ("l1", "l2"):
                sums = np.bincount(rows, np.abs(values) if how == "l1" else values**2, minlength=shape[0])
                sums = sums if how == "l1" else np.sqrt(sums)
                values = (values / np.maximum(sums, 1e-12)[rows]).astype(np.float32)
            self.x = torch.sparse_coo_tensor(torch.from_numpy(index), torch.from_numpy(values), shape).coalesce()
        else:
            pairs = torch.from_numpy(file["edges"].astype(np.int64)).t()
            self.edge_index = torch.unique(torch.cat([pairs, pairs.flip(0)], 1), dim=1)
            self.y = torch.from_numpy(file["node_labels"].astype(np.int64))
            self.x = torch.from_numpy(np.ascontiguousarray(file["node_features"], dtype=np.float32))
        self.num_classes = int(self.y.max()) + 1
        shares = torch.bincount(self.y).float() / len(self.y)
        self.auc = self.num_classes == 2 and shares.min() < 0.3
        names = [name for name in ("train_mask", "val_mask", "test_mask") if name in file]
        self.masks = [torch.from_numpy(np.asarray(file[name]).astype(bool)) for name in names]
        names = [name for name in ("train_masks", "val_masks", "test_masks") if name in file]
        self.many = [torch.from_numpy(np.asarray(file[name]).astype(bool)) for name in names]

    def split(self, seed):
        if self.masks:
            return self.masks
        if self.many:
            return [masks[seed % len(masks)] for masks in self.many]
        parts = [torch.zeros(len(self.y), dtype=torch.bool) for _ in range(3)]
        for part, chosen in zip(parts, per_class(self.y.numpy(), 20, 30, seed)):
            part[chosen] = True
        return parts

    def score(self, logits, mask):
        if not self.auc:
            return 100 * (logits[mask].argmax(1) == self.y[mask]).float().mean().item()
        from sklearn.metrics import roc_auc_score

        return 100 * roc_auc_score(self.y[mask].numpy(), (logits[mask, 1] - logits[mask, 0]).numpy())


def dropped(x, p, training):
    if x.is_sparse:
        return torch.sparse_coo_tensor(x.indices(), F.dropout(x.values(), p, training), x.shape, is_coalesced=True)
    return F.dropout(x, p, training)


class Sparse(torch.nn.Module):
    """`pyg.Linear` that takes a sparse matrix too; the name of its weight stays."""

    def __init__(self, linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x):
        y = torch.sparse.mm(x, self.weight.t()) if x.is_sparse else x @ self.weight.t()
        return y if self.bias is None else y + self.bias


class Product(torch.autograd.Function):
    """`A·x` of a constant sparse matrix, given with its transpose."""

    @staticmethod
    def forward(ctx, a, transposed, x):
        ctx.transposed = transposed
        return a @ x

    @staticmethod
    def backward(ctx, dy):
        return None, None, ctx.transposed @ dy


class Operator:
    """A matrix `[targets, sources]` of edges with weights, by which `--csr` aggregates."""

    def __init__(self, edge_index, weight, nodes):
        source, target = edge_index
        forth = torch.sparse_coo_tensor(torch.stack([target, source]), weight, (nodes, nodes))
        self.forth, self.back = forth.to_sparse_csr(), forth.t().to_sparse_csr()

    def __matmul__(self, x):
        return Product.apply(self.forth, self.back, x)


class GcnCsr(torch.nn.Module):
    """A `pyg.GCNConv` that aggregates by a sparse product, with PyTorch Geometric's own weights of edges; the function is the same."""

    def __init__(self, conv):
        super().__init__()
        self.lin, self.bias, self.operator = conv.lin, conv.bias, None

    def forward(self, x, edge_index):
        if self.operator is None:
            self.operator = Operator(*pyg.conv.gcn_conv.gcn_norm(edge_index, None, x.shape[0]), x.shape[0])
        return self.operator @ self.lin(x) + self.bias


class SageFirst(torch.nn.Module):
    """A `pyg.SAGEConv` by mean whose product with sparse features comes before the aggregation; the function is the same."""

    def __init__(self, conv, csr):
        super().__init__()
        self.lin_l, self.lin_r, self.csr, self.operator = conv.lin_l, conv.lin_r, csr, None
        self.mean = pyg.MeanAggregation()

    def near(self, x, edge_index):
        source, target = edge_index
        if not self.csr:
            return self.mean(x[source], target, dim_size=x.shape[0])
        if self.operator is None:
            degree = torch.bincount(target, minlength=x.shape[0]).clamp(min=1)
            self.operator = Operator(edge_index, 1.0 / degree[target].float(), x.shape[0])
        return self.operator @ x

    def forward(self, x, edge_index):
        if not x.is_sparse:
            return self.lin_l(self.near(x, edge_index)) + self.lin_r(x)
        near = self.near(torch.sparse.mm(x, self.lin_l.weight.t()), edge_index)
        return near + self.lin_l.bias + torch.sparse.mm(x, self.lin_r.weight.t())


class Net(torch.nn.Module):
    def __init__(self, args, inputs, classes):
        super().__init__()
        self.kind, self.p = args.model, args.dropout
        hidden, heads = args.hidden, args.heads
        widths = [inputs] + [hidden] * (args.layers - 1) + [classes]
        pairs = list(zip(widths, widths[1:]))
        if self.kind == "gcn":
            self.convs = torch.nn.ModuleList(pyg.GCNConv(i, o, cached=True) for i, o in pairs)
        elif self.kind == "sage":
            self.convs = torch.nn.ModuleList(SageFirst(pyg.SAGEConv(i, o), args.csr) for i, o in pairs)
        elif self.kind in ("gat", "gatv2"):
            conv = pyg.GATConv if self.kind == "gat" else pyg.GATv2Conv
            widths = [inputs] + [hidden * heads] * (args.layers - 1)
            self.convs = torch.nn.ModuleList(
                conv(i, classes if k == args.layers - 1 else hidden, heads=heads, concat=k < args.layers - 1, dropout=self.p)
                for k, i in enumerate(widths)
            )
        elif self.kind == "sgc":
            self.convs = torch.nn.ModuleList([pyg.SGConv(inputs, classes, K=args.hops or 2)])
        elif self.kind == "appnp":
            self.lins = torch.nn.ModuleList(pyg.Linear(i, o) for i, o in pairs)
            self.prop = pyg.APPNP(args.hops or 10, args.alpha, cached=True)
        elif self.kind == "gcn2":
            self.lins = torch.nn.ModuleList([pyg.Linear(inputs, hidden), pyg.Linear(hidden, classes)])
            convs = (pyg.GCN2Conv(hidden, args.alpha, 0.5, layer + 1, cached=True) for layer in range(args.layers))
            self.convs = torch.nn.ModuleList(convs)
        for module in self.modules():
            if not args.init_pyg and getattr(module, "weight", None) is not None:
                glorot(module.weight)
                zeros(getattr(module, "bias", None))
        if self.kind == "gcn" and args.csr:
            self.convs = torch.nn.ModuleList(GcnCsr(conv) for conv in self.convs)
        for module in list(self.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, (pyg.Linear, torch.nn.Linear)):
                    setattr(module, name, Sparse(child))

    def forward(self, x, edge_index):
        if self.kind == "sgc":
            # Products first, so that sparse features stay sparse; K hops of the same operator follow.
            conv = self.convs[0]
            index, weight = pyg.conv.gcn_conv.gcn_norm(edge_index, None, x.shape[0])
            z = torch.sparse.mm(dropped(x, self.p, self.training), conv.lin.weight.t())
            for _ in range(conv.K):
                z = conv.propagate(index, x=z, edge_weight=weight)
            return z + conv.lin.bias
        if self.kind == "appnp":
            for k, lin in enumerate(self.lins):
                x = lin(dropped(x if k == 0 else x.relu(), self.p, self.training))
            return self.prop(x, edge_index)
        if self.kind == "gcn2":
            x = first = self.lins[0](dropped(x, self.p, self.training)).relu()
            for conv in self.convs:
                x = conv(dropped(x, self.p, self.training), first, edge_index).relu()
            return self.lins[1](dropped(x, self.p, self.training))
        for k, conv in enumerate(self.convs):
            x = conv(dropped(x if k == 0 else x.relu(), self.p, self.training), edge_index)
        return x


def fit(args, data, seed):
    torch.manual_seed(seed)
    net = Net(args, data.x.shape[1], data.num_classes)
    adam = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=5e-4)
    train, val, test = data.split(seed)
    best, best_epoch, kept = -1.0, 0, 0.0
    for epoch in range(1, args.epochs + 1):
        net.train()
        adam.zero_grad()
        F.cross_entropy(net(data.x, data.edge_index)[train], data.y[train]).backward()
        adam.step()
        net.eval()
        with torch.no_grad():
            logits = net(data.x, data.edge_index)
        score = data.score(logits, val)
        if score > best:
            best, best_epoch, kept = score, epoch, data.score(logits, test)
        if epoch - best_epoch >= args.patience:
            break
    return kept, best_epoch


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="an npz file, looked for in GNN_PRUNE_DATA too")
    parser.add_argument("--model", default="gcn", choices="gcn sage gat gatv2 sgc appnp gcn2".split())
    parser.add_argument("--features", default=None, choices="l1 l2 binary raw".split())
    parser.add_argument("--init", dest="init_pyg", default="glorot", choices=["glorot", "pyg"])
    for name, kind, value in [("hidden", int, None), ("layers", int, None), ("heads", int, 8), ("hops", int, None), ("alpha", float, 0.1)]:
        parser.add_argument(f"--{name}", type=kind, default=value)
    for name, kind, value in [("dropout", float, 0.5), ("epochs", int, 200), ("patience", int, 100), ("seeds", int, 10)]:
        parser.add_argument(f"--{name}", type=kind, default=value)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--csr", action="store_true", help="aggregate by a sparse product: gcn and sage")
    args = parser.parse_args()
    args.init_pyg = args.init_pyg == "pyg"
    args.hidden = args.hidden or (8 if args.model in ("gat", "gatv2") else 64)
    args.layers = args.layers or (16 if args.model == "gcn2" else 2)
    torch.set_num_threads(1)
    path = args.data if os.path.exists(args.data) else os.path.join(os.environ.get("GNN_PRUNE_DATA", "."), args.data)
    sparse = "adj_indptr" in np.load(path)
    data = Data(path, args.features or ("l2" if sparse else "raw"))
    started, scores = time.time(), []
    for seed in range(args.first, args.first + args.seeds):
        score, epoch = fit(args, data, seed)
        scores.append(score)
        print(f"# seed {seed}: {score:.2f}, epoch {epoch}, {time.time() - started:.0f} s", flush=True)
    # As the crate prints: the deviation of the population would be smaller by sqrt((n-1)/n).
    spread = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
    name = f"{os.path.basename(path)} {args.model} {args.features or 'default'} {'pyg' if args.init_pyg else 'glorot'}"
    print(f"{name}: {np.mean(scores):.2f} ± {spread:.2f} over {len(scores)} seeds, {time.time() - started:.0f} s  {np.round(scores, 2).tolist()}")


if __name__ == "__main__":
    main()
