"""Checkpoints both ways: networks of PyTorch Geometric in, compressed ones out, logits compared on either side.

    python tests/pytorch/checkpoints.py target/release/gnn-prune

Each network is trained for some epochs on a random graph, saved by `safetensors.torch.save_file(model.state_dict())`, and its logits are
compared with those of `gnn-prune predict`. Then `gnn-prune compress` prunes it, `gnn-prune export` writes it back, the Python that this
prints is run, and its logits are compared with those of `predict` again. Nothing may differ by more than 1e-4 absolute plus 1e-4 relative.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
import torch_geometric.nn as pyg
from safetensors.torch import save_file

NODES, FEATURES, CLASSES = 300, 24, 5


def graph(folder, draw):
    """A directed graph of communities with isolated nodes, as a file that both sides read."""
    y = torch.arange(NODES) % CLASSES
    ends = torch.randint(0, NODES - 10, (2, 9000), generator=draw)
    likely = torch.where(y[ends[0]] == y[ends[1]], 0.6, 0.08)
    ends = torch.unique(ends[:, torch.rand(ends.shape[1], generator=draw) < likely], dim=1)
    x = F.one_hot(y, FEATURES) * 0.7 + torch.randn(NODES, FEATURES, generator=draw)
    parts = torch.randperm(NODES, generator=draw)
    masks = {name: torch.isin(torch.arange(NODES), part) for name, part in zip(("train_mask", "val_mask", "test_mask"), parts.split(100))}
    save_file({"x": x, "edge_index": ends.contiguous(), "y": y, **masks}, folder / "graph.safetensors")
    return x, ends, y, masks


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout, done.stderr


def apart(ours, theirs):
    """The largest difference in tolerances: 1 is 1e-4 absolute plus 1e-4 relative."""
    return float((np.abs(ours - theirs) / (1e-4 + 1e-4 * np.abs(theirs))).max())


def networks():
    size = dict(in_channels=FEATURES, hidden_channels=32, num_layers=2, out_channels=CLASSES)
    deep = size | {"num_layers": 3}
    yield "GCN", pyg.GCN(**size), ""
    yield "GCN 4 layers, batch norm, JK cat", pyg.GCN(**size | {"num_layers": 4}, norm="batch_norm", jk="cat"), ""
    yield "GCN elu, dropout", pyg.GCN(**deep, act="elu", dropout=0.3), "activation=elu,dropout=0.3"
    yield "GCN JK last", pyg.GCN(**deep, jk="last"), "jumping=last"
    yield "GraphSAGE", pyg.GraphSAGE(**size), ""
    yield "GraphSAGE max, layer norm", pyg.GraphSAGE(**deep, aggr="max", norm="layer_norm"), "aggregation=max"
    yield "GraphSAGE project", pyg.GraphSAGE(**deep, project=True), ""
    yield "GAT 4 heads", pyg.GAT(**deep, heads=4), ""
    yield "GAT 8 heads, batch norm, JK max", pyg.GAT(**deep, heads=8, norm="batch_norm", jk="max"), ""
    yield "GAT residual, slope 0.1", pyg.GAT(**deep, heads=4, residual=True, negative_slope=0.1), "negative_slope=0.1"
    yield "GATv2 4 heads", pyg.GAT(**deep, heads=4, v2=True), ""
    yield "GATv2 layer norm, JK cat", pyg.GAT(**deep, heads=2, v2=True, norm="layer_norm", jk="cat"), ""
    yield "GIN", pyg.GIN(**size), ""
    yield "GIN batch norm, train eps", pyg.GIN(**deep, norm="batch_norm", train_eps=True), ""
    yield "GIN JK max", pyg.GIN(**deep, jk="max"), ""
    yield "GIN tanh", pyg.GIN(**deep, act="tanh"), "activation=tanh"


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    worst = 0.0
    print("| network | test %, PyTorch | `predict`, tolerances | pruned to | test %, pruned | exported, tolerances |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        x, ends, y, masks = graph(folder, torch.Generator().manual_seed(1))
        data, saved, small, exported, logits = (folder / name for name in ("graph.safetensors", "net.safetensors", "small.safetensors", "out.safetensors", "logits.npy"))
        score = lambda z: 100 * (z.argmax(1) == y.numpy())[masks["test_mask"].numpy()].mean()
        for name, net, assume in networks():
            adam = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=5e-4)
            for _ in range(60):
                adam.zero_grad()
                F.cross_entropy(net(x, ends)[masks["train_mask"]], y[masks["train_mask"]]).backward()
                adam.step()
            net.eval()
            save_file(net.state_dict(), saved)
            theirs = net(x, ends).detach().numpy()
            assumed = ["--assume", assume] if assume else []
            _, note = run(program, "predict", data, "--from", saved, *assumed, "--out", logits)
            if "--notes" in sys.argv:
                print(note.strip())
            way_in = apart(np.load(logits), theirs)

            prune = ("--channels", "0.5", "--finetune", "20", "--controls", "none")
            run(program, "compress", data, "--from", saved, *assumed, *prune, "--out", small)
            run(program, "predict", data, "--from", small, "--out", logits)
            python, _ = run(program, "export", "--from", small, "--out", exported)
            room = {}
            exec(python, room)
            pruned = room["net"](x, ends).detach().numpy()
            way_out = apart(pruned, np.load(logits))
            count = lambda module: sum(p.numel() for p in module.parameters())
            sizes = f"{count(room['net'])} of {count(net)} parameters"
            print(f"| {name} | {score(theirs):.1f} | {way_in:.3f} | {sizes} | {score(pruned):.1f} | {way_out:.3f} |", flush=True)
            worst = max(worst, way_in, way_out)
    print(f"\nworst: {worst:.3f} tolerances")
    raise SystemExit(worst > 1)


main()
