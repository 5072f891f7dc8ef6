"""Networks as tutorials write them: 20 classes of their own, saved by docs/from-pytorch.py, read, pruned and sent back.

    python tests/pytorch/handwritten.py target/release/gnn-prune [WORD OF A NAME …]

Each is trained for some epochs on a random graph and saved with its list of layers; `gnn-prune predict` must agree with PyTorch. Then it is saved as a
plain state dict too: there gnn-prune must agree, or name what it assumed, or refuse. It is pruned by `compress --channels 0.5`, exported, and the
Python that `export` prints must agree with `predict` again. Nothing may differ by more than 1e-4 absolute plus 1e-4 relative.

Of the first network the same weights are also read as a state dict and as a whole module in a `.pt` file, as a checkpoint of Lightning, and with the
prefixes of `torch.compile` and of DistributedDataParallel.
"""

import importlib.util
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch_geometric.nn as pyg
from safetensors.torch import save_file
from torch_geometric.data import Data

NODES, FEATURES, CLASSES, HIDDEN = 240, 20, 4, 16

here = pathlib.Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("from_pytorch", here.parent.parent / "docs" / "from-pytorch.py")
from_pytorch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(from_pytorch)


class Planetoid(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = pyg.GCNConv(FEATURES, HIDDEN)
        self.conv2 = pyg.GCNConv(HIDDEN, CLASSES)

    def forward(self, x, edge_index):
        x = F.dropout(x, p=0.2, training=self.training)
        x = F.relu(self.conv1(x, edge_index))
        x = F.dropout(x, training=self.training)
        return F.log_softmax(self.conv2(x, edge_index), dim=1)


class Colab(nn.Module):
    """Three convolutions with tanh and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = pyg.GCNConv(FEATURES, HIDDEN), pyg.GCNConv(HIDDEN, HIDDEN), pyg.GCNConv(HIDDEN, 8)
        self.classifier = nn.Linear(8, CLASSES)

    def forward(self, x, edge_index):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = conv(x, edge_index).tanh()
        return self.classifier(x)


class Stack(nn.Module):
    """Lists of convolutions and batch norms, as OGB's examples have them."""

    def __init__(self, conv, **settings):
        super().__init__()
        self.convs = nn.ModuleList([conv(FEATURES, HIDDEN, **settings), conv(HIDDEN, HIDDEN, **settings), conv(HIDDEN, CLASSES, **settings)])
        self.bns = nn.ModuleList([nn.BatchNorm1d(HIDDEN), nn.BatchNorm1d(HIDDEN)])

    def forward(self, x, edge_index):
        for i, conv in enumerate(self.convs[:-1]):
            x = F.dropout(F.relu(self.bns[i](conv(x, edge_index))), p=0.5, training=self.training)
        return self.convs[-1](x, edge_index)


class Attention(nn.Module):
    """Eight heads, then one."""

    def __init__(self, conv=pyg.GATConv):
        super().__init__()
        self.gat1 = conv(FEATURES, 4, heads=8, dropout=0.3)
        self.gat2 = conv(32, CLASSES, heads=1, concat=False, dropout=0.3)

    def forward(self, x, edge_index):
        x = F.elu(self.gat1(F.dropout(x, p=0.3, training=self.training), edge_index))
        return self.gat2(F.dropout(x, p=0.3, training=self.training), edge_index)


class Isomorphism(nn.Module):
    """Inner networks that end with an activation, two linear layers after."""

    def __init__(self):
        super().__init__()
        net = lambda i, o: nn.Sequential(nn.Linear(i, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, o), nn.ReLU())
        self.conv1, self.conv2 = pyg.GINConv(net(FEATURES, HIDDEN)), pyg.GINConv(net(HIDDEN, HIDDEN), train_eps=True)
        self.lin1, self.lin2 = nn.Linear(HIDDEN, 8), nn.Linear(8, CLASSES)

    def forward(self, x, edge_index):
        x = self.conv2(self.conv1(x, edge_index), edge_index)
        return self.lin2(F.dropout(self.lin1(x).relu(), p=0.5, training=self.training))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(FEATURES, HIDDEN)
        self.layers = nn.ModuleList([pyg.GCNConv(HIDDEN, HIDDEN) for _ in range(3)])
        self.norms = nn.ModuleList([nn.LayerNorm(HIDDEN) for _ in range(3)])
        self.decode = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x, edge_index):
        x = self.encode(x)
        for conv, norm in zip(self.layers, self.norms):
            x = x + F.relu(norm(conv(x, edge_index)))
        return self.decode(x)


class Joined(nn.Module):
    """All layers side by side before the last."""

    def __init__(self, conv=pyg.SAGEConv):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = conv(FEATURES, HIDDEN), conv(HIDDEN, HIDDEN), conv(HIDDEN, HIDDEN)
        self.lin = nn.Linear(3 * HIDDEN, CLASSES)

    def forward(self, x, edge_index):
        a = F.relu(self.conv1(x, edge_index))
        b = F.relu(self.conv2(a, edge_index))
        c = F.relu(self.conv3(b, edge_index))
        return self.lin(torch.cat([a, b, c], dim=-1))


class Mixed(nn.Module):
    """A convolution of each kind."""

    def __init__(self):
        super().__init__()
        self.pre = nn.Linear(FEATURES, HIDDEN)
        self.gcn = pyg.GCNConv(HIDDEN, HIDDEN, improved=True)
        self.bn1 = nn.BatchNorm1d(HIDDEN)
        self.sage = pyg.SAGEConv(HIDDEN, HIDDEN, aggr="max")
        self.gat = pyg.GATConv(HIDDEN, 4, heads=4, negative_slope=0.1)
        self.post = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x, edge_index):
        x = F.leaky_relu(self.pre(x), 0.2)
        x = F.relu(self.bn1(self.gcn(x, edge_index)))
        x = F.relu(self.sage(x, edge_index)) + x
        return self.post(F.elu(self.gat(x, edge_index)))


class Skip(nn.Module):
    """A linear map of the features is added to what the convolutions make."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = pyg.SAGEConv(FEATURES, HIDDEN, normalize=True), pyg.SAGEConv(HIDDEN, CLASSES)
        self.skip = nn.Linear(FEATURES, CLASSES)

    def forward(self, x, edge_index):
        return self.conv2(torch.sigmoid(self.conv1(x, edge_index)), edge_index) + self.skip(x)


class Propagated(nn.Module):
    """APPNP."""

    def __init__(self):
        super().__init__()
        self.lin1, self.lin2, self.prop = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES), pyg.APPNP(6, 0.15)

    def forward(self, x, edge_index):
        x = F.dropout(F.relu(self.lin1(x)), p=0.5, training=self.training)
        return self.prop(self.lin2(x), edge_index)


class Simplified(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = pyg.SGConv(FEATURES, CLASSES, K=2)

    def forward(self, x, edge_index):
        return self.conv(x, edge_index)


class Deep(nn.Module):
    """GCNII."""

    def __init__(self):
        super().__init__()
        self.lins = nn.ModuleList([nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)])
        self.convs = nn.ModuleList([pyg.GCN2Conv(HIDDEN, alpha=0.1, theta=0.5, layer=k + 1) for k in range(4)])

    def forward(self, x, edge_index):
        x = first = self.lins[0](x).relu()
        for conv in self.convs:
            x = conv(x, first, edge_index).relu()
        return self.lins[1](x)


class Plain(nn.Module):
    """Without normalisation, biases and activation."""

    def __init__(self):
        super().__init__()
        self.a = pyg.GCNConv(FEATURES, HIDDEN, normalize=False, bias=False)
        self.b = pyg.GCNConv(HIDDEN, CLASSES, add_self_loops=False)

    def forward(self, x, edge_index):
        return self.b(self.a(x, edge_index), edge_index)


class Blocks(nn.Module):
    """Blocks with a convolution, a norm and an activation each."""

    class Block(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.conv, self.norm, self.act = pyg.SAGEConv(i, o), pyg.BatchNorm(o), nn.LeakyReLU(0.1)

        def forward(self, x, edge_index):
            return self.act(self.norm(self.conv(x, edge_index)))

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([self.Block(FEATURES, HIDDEN), self.Block(HIDDEN, HIDDEN)])
        self.head = nn.Sequential(nn.Linear(HIDDEN, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, CLASSES))

    def forward(self, x, edge_index):
        for block in self.blocks:
            x = block(x, edge_index)
        return self.head(x)


def networks():
    size = dict(in_channels=FEATURES, hidden_channels=HIDDEN, num_layers=3, out_channels=CLASSES)
    relu = nn.ReLU()
    sequential = pyg.Sequential("x, edge_index", [
        (pyg.GCNConv(FEATURES, HIDDEN), "x, edge_index -> x"), relu, (pyg.GCNConv(HIDDEN, HIDDEN), "x, edge_index -> x"), relu, nn.Linear(HIDDEN, CLASSES)])
    yield "conv1 and conv2", Planetoid()
    yield "three convolutions, tanh, classifier", Colab()
    yield "list with batch norms, GCN", Stack(pyg.GCNConv)
    yield "list with batch norms, GraphSAGE", Stack(pyg.SAGEConv)
    yield "GAT, 8 heads then 1", Attention()
    yield "GATv2, 8 heads then 1", Attention(pyg.GATv2Conv)
    yield "GIN with inner batch norm and a last ReLU", Isomorphism()
    yield "GIN of single maps", Joined(lambda i, o: pyg.GINConv(nn.Linear(i, o)))
    yield "residual sums, layer norm, encoder and decoder", Residual()
    yield "all layers joined, GraphSAGE", Joined()
    yield "all layers joined, GCN", Joined(pyg.GCNConv)
    yield "GCN, GraphSAGE, GAT and Linear", Mixed()
    yield "normalised GraphSAGE beside a linear skip", Skip()
    yield "APPNP", Propagated()
    yield "SGC", Simplified()
    yield "GCNII", Deep()
    yield "no norm, no bias, no activation", Plain()
    yield "blocks of SAGE, norm and leaky ReLU, head in a Sequential", Blocks()
    yield "Sequential of PyTorch Geometric", sequential
    yield "GraphSAGE of PyTorch Geometric, JK", pyg.GraphSAGE(**size, jk="cat", act="leaky_relu", act_kwargs=dict(negative_slope=0.3), norm="layer_norm")


def run(*words):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True)


def must(*words):
    done = run(*words)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def apart(ours, theirs):
    """The largest difference in tolerances: 1 is 1e-4 absolute plus 1e-4 relative."""
    return float((np.abs(ours - theirs) / (1e-4 + 1e-4 * np.abs(theirs))).max())


def logits_of(net, x, ends):
    """What the network puts out before a softmax at the end."""
    kept, softmax = [], F.log_softmax
    F.log_softmax = lambda z, *rest, **named: kept.append(z) or softmax(z, *rest, **named)
    try:
        z = net(x, ends)
    finally:
        F.log_softmax = softmax
    return (kept[0] if kept else z).detach().numpy()


def other_files(program, net, folder, data, theirs, logits):
    """The same weights in every other file that is read."""
    state = net.state_dict()
    torch.save(state, folder / "state.pt")
    torch.save(net, folder / "whole.pt")
    torch.save({"epoch": 3, "pytorch-lightning_version": "2.1.0", "state_dict": {"model." + name: value for name, value in state.items()}, "optimizer_states": []}, folder / "lightning.ckpt")
    torch.save({"_orig_mod." + name: value for name, value in state.items()}, folder / "compiled.pt")
    torch.save({"module." + name: value for name, value in state.items()}, folder / "ddp.pth")
    worst = 0.0
    for name in ("state.pt", "whole.pt", "lightning.ckpt", "compiled.pt", "ddp.pth"):
        must(program, "predict", data, "--from", folder / name, "--out", logits)
        worst = max(worst, apart(np.load(logits), theirs))
        print(f"| {name} | {apart(np.load(logits), theirs):.3f} | | | |", flush=True)
    return worst


def main():
    program, wanted = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    worst = 0.0
    print("| network | `predict`, tolerances | plain state dict | pruned to | exported, tolerances |\n| --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        draw = torch.Generator().manual_seed(1)
        y = torch.arange(NODES) % CLASSES
        ends = torch.randint(0, NODES - 8, (2, 6000), generator=draw)
        likely = torch.where(y[ends[0]] == y[ends[1]], 0.5, 0.1)
        ends = torch.unique(ends[:, torch.rand(ends.shape[1], generator=draw) < likely], dim=1)
        x = F.one_hot(y, FEATURES) * 0.7 + torch.randn(NODES, FEATURES, generator=draw)
        parts = torch.randperm(NODES, generator=draw).split(80)
        masks = {name: torch.isin(torch.arange(NODES), part) for name, part in zip(("train_mask", "val_mask", "test_mask"), parts)}
        graph = Data(x=x, edge_index=ends, y=y, **masks)
        data, saved, plain, small, back, logits = (folder / name for name in (
            "graph.safetensors", "net.safetensors", "plain.safetensors", "small.safetensors", "back.safetensors", "logits.npy"))
        for at, (name, net) in enumerate(networks()):
            if wanted and not any(word in name for word in wanted):
                continue
            adam = torch.optim.Adam(net.parameters(), lr=0.01)
            for _ in range(40):
                adam.zero_grad()
                F.cross_entropy(net(x, ends)[masks["train_mask"]], y[masks["train_mask"]]).backward()
                adam.step()
            net.eval()
            theirs = logits_of(net, x, ends)
            from_pytorch.save(net, graph, saved, data)
            must(program, "predict", data, "--from", saved, "--out", logits)
            way_in = apart(np.load(logits), theirs)

            save_file({key: value.clone() for key, value in net.state_dict().items()}, plain)
            done = run(program, "predict", data, "--from", plain, "--out", logits)
            if done.returncode == 0:
                right = apart(np.load(logits), theirs) <= 1
                told = "agrees" if right else "assumes by name what it is not"
                if not right and "assumed:" not in done.stderr:
                    raise SystemExit(f"{name}: wrong without a word\n{done.stderr}")
            else:
                told = "refused: " + done.stderr.strip().split(": ", 2)[-1][:70]

            # A single layer has no hidden channel.
            prune = "--weights" if isinstance(net, Simplified) else "--channels"
            must(program, "compress", data, "--from", saved, prune, "0.5", "--finetune", "10", "--controls", "none", "--out", small)
            must(program, "predict", data, "--from", small, "--out", logits)
            room = {}
            exec(must(program, "export", "--from", small, "--out", back), room)
            way_out = apart(room["net"](x, ends).detach().numpy(), np.load(logits))
            # What was exported comes back in, without a word to assume.
            must(program, "predict", data, "--from", back, "--out", folder / "again.npy")
            way_out = max(way_out, apart(np.load(folder / "again.npy"), np.load(logits)))
            count = lambda module: sum(p.numel() for p in module.parameters())
            print(f"| {name} | {way_in:.3f} | {told} | {count(room['net'])} of {count(net)} parameters | {way_out:.3f} |", flush=True)
            worst = max(worst, way_in, way_out)
            if at == 0 and not wanted:
                worst = max(worst, other_files(program, net, folder, data, theirs, logits))
    print(f"\nworst: {worst:.3f} tolerances")
    raise SystemExit(worst > 1)


main()
