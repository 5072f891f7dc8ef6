"""Makes cases for `tests/conformance.rs`: layers and networks of PyTorch Geometric on random graphs, forward and backward.

    python tests/pytorch/make_cases.py FOLDER --seed 1 --rounds 3
    GNN_PRUNE_FIXTURES=FOLDER cargo test --release --test conformance -- --nocapture

Each file is one case: metadata `case`, which is JSON of the layer's name and arguments in PyTorch Geometric's words; `x`, `edge_index` and
what else goes in; `param/NAME` as in the state dict; `out`, `grad_out`, `grad/x`, `grad/param/NAME`. `--only WORD` makes the cases whose
names contain the word.
"""

import argparse
import copy
import json
import pathlib

import torch
import torch_geometric
import torch_geometric.nn as pyg
from safetensors.torch import save_file
from torch import nn


def graphs(draw):
    """Graphs by name: nodes and edges."""

    def random(n, m, loops=False):
        ends = torch.randint(0, n, (2, 4 * m), generator=draw)
        ends = torch.unique(ends if loops else ends[:, ends[0] != ends[1]], dim=1)
        return ends[:, torch.randperm(ends.shape[1], generator=draw)[:m]]

    directed = random(19, 70)
    pairs = random(14, 20)
    return {
        "directed": (23, directed),  # the last four nodes are isolated
        "undirected": (14, torch.unique(torch.cat([pairs, pairs.flip(0)], 1), dim=1)),
        "loops": (12, torch.unique(torch.cat([random(12, 30, True), torch.tensor([[0, 3, 7], [0, 3, 7]])], 1), dim=1)),
        "twice": (11, torch.cat([random(9, 25), random(9, 25)[:, :9], torch.tensor([[2, 2, 2, 4, 4], [5, 5, 5, 4, 4]])], 1)),
        "empty": (5, torch.zeros(2, 0, dtype=torch.long)),
        "one": (1, torch.zeros(2, 0, dtype=torch.long)),
        "one_loop": (1, torch.zeros(2, 1, dtype=torch.long)),
        "star": (16, torch.stack([torch.arange(1, 16), torch.zeros(15, dtype=torch.long)])),
        "large": (210, random(200, 2600)),
    }


class Maker:
    def __init__(self, folder, seed, only):
        self.folder, self.only, self.count = folder, only, 0
        self.unstable = 0
        self.draw = torch.Generator().manual_seed(seed)
        self.graphs = graphs(self.draw)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.draw)

    def pick(self, *values):
        return values[int(torch.randint(0, len(values), (1,), generator=self.draw))]

    def width(self):
        return self.pick(1, 2, 3, 5, 8, 9, 12, 17)

    def case(self, name, layer, args, make, graph, x, state=None, **inputs):
        """`inputs` are tensors by the name that the layer's `forward` has for them; `state` names the parameters."""
        if self.only and self.only not in name:
            return
        module = make()
        for parameter in module.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=self.draw)
        for key, buffer in module.named_buffers():
            if key.endswith("running_mean"):
                buffer.copy_(self.normal(*buffer.shape))
            if key.endswith("running_var"):
                buffer.copy_(0.5 + self.normal(*buffer.shape) ** 2)
        training = args.get("training", False)
        module.train(training)
        state = {key: value.detach().clone() for key, value in module.state_dict().items()}
        x = x.clone().requires_grad_()
        _, ends = self.graphs[graph] if graph else (None, None)
        first = inputs.pop("x_0", None)
        positional = [x] + ([first] if first is not None else []) + ([ends] if ends is not None else [])
        if layer == "RGCNConv":
            positional.append(inputs["edge_type"])
            y = module(*positional)
        else:
            y = module(*positional, **inputs)
        grad = self.normal(*y.shape)
        y.backward(grad)
        tensors = {"x": x, "out": y, "grad_out": grad, "grad/x": x.grad if x.grad is not None else torch.zeros_like(x)}
        if ends is not None:
            tensors["edge_index"] = ends
        if first is not None:
            tensors["x_0"] = first
        tensors |= inputs | {f"param/{key}": value for key, value in state.items()}
        tensors |= {f"grad/param/{key}": p.grad for key, p in module.named_parameters() if p.grad is not None}
        tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
        if not all(value.isfinite().all() for value in tensors.values()) or not self.is_stable(module, state, tensors, positional, inputs, layer):
            self.unstable += 1
            return
        case = {"layer": layer, "args": args, "torch": torch.__version__, "torch_geometric": torch_geometric.__version__}
        file = self.folder / f"{self.count:04}_{name}_{graph or 'none'}.safetensors"
        save_file(tensors, file, metadata={"case": json.dumps(case)})
        self.count += 1

    def is_stable(self, module, state, tensors, positional, inputs, layer):
        """Whether PyTorch's own rounding stays under a third of the tolerance: in double precision nearly the same must come out."""
        double = lambda value: value.double() if torch.is_floating_point(value) else value
        exact = copy.deepcopy(module).double()
        exact.load_state_dict({key: double(value) for key, value in state.items()})
        exact.zero_grad()
        x = positional[0].detach().double().requires_grad_()
        rest = [double(value) for value in positional[1:]]
        words = {} if layer == "RGCNConv" else {key: double(value) for key, value in inputs.items()}
        y = exact(x, *rest, **words)
        y.backward(tensors["grad_out"].double())
        pairs = [("out", y), ("grad/x", x.grad)] + [(f"grad/param/{key}", p.grad) for key, p in exact.named_parameters()]
        near = lambda a, b: bool(((a.double() - b).abs() <= (1e-4 + 1e-4 * b.abs()) / 3).all())
        return all(near(tensors[key], value) for key, value in pairs if value is not None)

    def conv(self, name, args, graph, weights=None, edge_dim=None, types=None, relu_x=False):
        """A layer of `pyg` by its class's name."""
        nodes, ends = self.graphs[graph]
        edges = ends.shape[1]
        x = self.normal(nodes, args.get("in_channels") or args.get("channels") or self.width())
        inputs = {}
        if weights == "plain":
            inputs["edge_weight"] = 0.2 + torch.rand(edges, generator=self.draw)
        if weights == "wild":
            inputs["edge_weight"] = torch.tensor([0.0, 1e-3, 1.0, 30.0])[torch.randint(0, 4, (edges,), generator=self.draw)]
        if edge_dim:
            inputs["edge_attr"] = self.normal(edges, edge_dim)
        if types:
            inputs["edge_type"] = torch.randint(0, types, (edges,), generator=self.draw)
        if name == "GCN2Conv":
            inputs["x_0"] = self.normal(nodes, args["channels"])
        words = "".join(f"_{k}{v}" for k, v in args.items() if k not in ("in_channels", "out_channels", "channels", "num_relations"))
        words = words.replace(" ", "").replace("[", "").replace("]", "").replace(",", "-").replace("/", "") + (f"_{weights}" if weights else "")
        self.case(f"{name}{words}", name, args, lambda: getattr(pyg, name)(**args), graph, x, **inputs)

    def gin(self, args, graph, edge=None):
        widths = args["mlp"]
        nodes, ends = self.graphs[graph]
        parts = []
        for i, o in zip(widths, widths[1:]):
            parts += [nn.Linear(i, o), nn.ReLU()]
        rest = {key: value for key, value in args.items() if key != "mlp"}
        name = "GINEConv" if edge else "GINConv"
        inputs = {"edge_attr": self.normal(ends.shape[1], edge)} if edge else {}
        make = lambda: getattr(pyg, name)(nn.Sequential(*parts[:-1]), **rest)
        self.case(f"{name}_{len(widths)}_{rest}".translate(str.maketrans("", "", " {}':,")), name, args, make, graph, self.normal(nodes, widths[0]), **inputs)

    def model(self, name, args, graph, edge_dim=None, weights=False):
        nodes, ends = self.graphs[graph]
        inputs = {"edge_attr": self.normal(ends.shape[1], edge_dim)} if edge_dim else {}
        if weights:
            inputs["edge_weight"] = 0.2 + torch.rand(ends.shape[1], generator=self.draw)
        rest = {key: value for key, value in args.items() if not key.endswith("channels")}
        words = f"model_{name}_{rest}".translate(str.maketrans("", "", " {}':,"))
        self.case(words, name, args, lambda: getattr(pyg, name)(**args), graph, self.normal(nodes, args["in_channels"]), **inputs)


def layers(m, graph):
    w = m.width
    io = lambda: {"in_channels": w(), "out_channels": w()}
    loop_safe = graph not in ("twice", "loops", "one_loop")
    m.conv("GCNConv", io(), graph)
    m.conv("GCNConv", io() | {"bias": False}, graph)
    m.conv("GCNConv", io() | {"improved": True}, graph, weights="plain")
    m.conv("GCNConv", io() | {"improved": True}, graph)
    m.conv("GCNConv", io() | {"improved": False}, graph, weights="plain")
    m.conv("GCNConv", io(), graph, weights="wild")
    m.conv("GCNConv", io() | {"add_self_loops": False}, graph, weights=m.pick(None, "plain"))
    m.conv("GCNConv", io() | {"normalize": False}, graph, weights=m.pick(None, "plain"))
    for aggr in ("mean", "max", "sum", "add"):
        m.conv("SAGEConv", io() | {"aggr": aggr}, graph)
    m.conv("SAGEConv", io() | {"aggr": m.pick("mean", "max", "sum"), "normalize": True, "bias": m.pick(True, False)}, graph)
    m.conv("SAGEConv", io() | {"root_weight": False, "aggr": m.pick("mean", "max", "sum")}, graph)
    m.conv("SAGEConv", io() | {"project": True, "aggr": m.pick("mean", "max", "sum")}, graph)
    m.conv("SAGEConv", io() | {"normalize": True, "root_weight": False, "bias": False}, graph)
    for name in ("GATConv", "GATv2Conv"):
        m.conv(name, io(), graph)
        for heads in (2, 5):
            m.conv(name, io() | {"heads": heads, "concat": True}, graph)
            m.conv(name, io() | {"heads": heads, "concat": False}, graph)
        m.conv(name, io() | {"heads": 3, "concat": m.pick(True, False), "bias": False}, graph)
        m.conv(name, io() | {"heads": m.pick(1, 2, 4), "negative_slope": m.pick(0.0, 0.05, 0.5), "concat": m.pick(True, False)}, graph)
        for concat in (True, False):
            d = m.pick(1, 2, 4)
            m.conv(name, io() | {"heads": m.pick(1, 2, 3), "concat": concat, "edge_dim": d}, graph, edge_dim=d)
        m.conv(name, io() | {"heads": m.pick(1, 2, 3), "residual": True, "concat": m.pick(True, False)}, graph)
        m.conv(name, io() | {"heads": m.pick(1, 2, 3), "add_self_loops": False}, graph)
        m.conv(name, io() | {"heads": 2, "add_self_loops": False, "edge_dim": 2, "concat": False}, graph, edge_dim=2)
    m.conv("GATv2Conv", io() | {"heads": m.pick(1, 3), "share_weights": True}, graph)
    m.conv("GATv2Conv", io() | {"heads": 2, "concat": False, "share_weights": True, "residual": True, "edge_dim": 3}, graph, edge_dim=3)
    m.gin({"mlp": [w(), w(), w()], "eps": m.pick(0.0, 0.3, -0.4), "train_eps": True}, graph)
    m.gin({"mlp": [w(), w(), w()], "eps": m.pick(0.0, 0.3, -0.4), "train_eps": False}, graph)
    m.gin({"mlp": [w(), w(), w()]}, graph)
    m.gin({"mlp": [w(), w(), w(), w()], "eps": 0.1, "train_eps": True}, graph)
    m.gin({"mlp": [w(), w()], "eps": 0.1}, graph)
    d = m.pick(1, 3, 4)
    m.gin({"mlp": [w(), w(), w()], "eps": m.pick(0.0, 0.2), "train_eps": m.pick(True, False), "edge_dim": d}, graph, edge=d)
    d = w()
    m.gin({"mlp": [d, w(), w()], "eps": m.pick(0.0, 0.2)}, graph, edge=d)
    m.gin({"mlp": [w(), w(), w(), w()], "train_eps": True, "edge_dim": 2}, graph, edge=2)
    for k in (1, 2, 3, 4):
        m.conv("SGConv", io() | {"K": k} | ({"bias": False} if m.pick(0, 1) else {}), graph, weights=m.pick(None, None, "plain"))
    m.conv("SGConv", io() | {"K": 2, "add_self_loops": False}, graph)
    m.conv("SGConv", io(), graph)
    m.conv("APPNP", {"K": m.pick(1, 5, 10), "alpha": m.pick(0.0, 0.1, 0.3, 1.0)}, graph)
    m.conv("APPNP", {"K": 3, "alpha": 0.2}, graph, weights="plain")
    m.conv("APPNP", {"K": 3, "alpha": 0.2, "add_self_loops": False}, graph)
    m.conv("GCN2Conv", {"channels": w(), "alpha": m.pick(0.0, 0.1, 0.5), "theta": m.pick(0.5, 1.0), "layer": m.pick(1, 2, 9)}, graph)
    m.conv("GCN2Conv", {"channels": w(), "alpha": 0.2}, graph, weights=m.pick(None, "plain"))
    m.conv("GCN2Conv", {"channels": w(), "alpha": 0.2, "theta": 0.5, "layer": 3, "shared_weights": False}, graph)
    m.conv("GCN2Conv", {"channels": w(), "alpha": 0.2, "shared_weights": False}, graph)
    m.conv("GCN2Conv", {"channels": w(), "alpha": 0.2, "add_self_loops": False}, graph)
    for extra in ({}, {"num_bases": 2}, {"root_weight": False}, {"bias": False}, {"aggr": "sum"}, {"aggr": "add", "num_bases": 3}):
        types = m.pick(1, 3, 4)
        m.conv("RGCNConv", io() | {"num_relations": types + m.pick(0, 0, 2)} | extra, graph, types=types)
    m.conv("LGConv", {}, graph)
    m.conv("LGConv", {}, graph, weights="plain")
    m.conv("LGConv", {"normalize": False}, graph)
    nodes = m.graphs[graph][0]
    for training in (True, False) if nodes > 1 else (False,):
        c = w()
        m.case("BatchNorm1d", "BatchNorm1d", {"channels": c, "training": training}, lambda: nn.BatchNorm1d(c), None, 3 * m.normal(nodes, c) + 1)
        m.case("BatchNorm", "BatchNorm", {"in_channels": c, "training": training}, lambda: pyg.BatchNorm(c), None, 3 * m.normal(nodes, c) + 1)
    for mode in ("graph", "node", None):
        c = w()
        if nodes * c == 1 or (mode == "node" and c == 1):
            continue
        args = {"channels": c} | ({"mode": mode} if mode else {})
        m.case(f"LayerNorm_{mode}", "LayerNorm", args, lambda: pyg.LayerNorm(c, mode=mode) if mode else nn.LayerNorm(c), None, 3 * m.normal(nodes, c) + 1)


def models(m, graph):
    for depth in (1, 2, 3, 4):
        size = lambda heads=1: {"in_channels": m.width(), "hidden_channels": heads * m.width(), "num_layers": depth, "out_channels": m.width()}
        for extra in (
            {},
            {"jk": "cat"},
            {"jk": "max"},
            {"jk": "last"},
            {"norm": "batch_norm"},
            {"norm": "layer_norm"},
            {"norm": "batch_norm", "jk": "cat"},
            {"norm": "layer_norm", "jk": "max"},
            {"act": m.pick("elu", "tanh", "leaky_relu", "sigmoid")},
            {"act_first": True, "norm": "batch_norm"},
            {"dropout": 0.5},
        ):
            m.model("GCN", size() | extra, graph)
            m.model("GraphSAGE", size() | extra | {"aggr": m.pick("mean", "max", "sum")}, graph)
            m.model("GIN", size() | extra, graph)
            for v2 in ({}, {"v2": True}):
                heads = m.pick(1, 2, 4)
                m.model("GAT", size(heads) | extra | v2 | {"heads": heads}, graph)
        m.model("GCN", size() | {"improved": True}, graph, weights=True)
        m.model("GCN", size() | {"bias": False}, graph)
        m.model("GCN", {key: value for key, value in size().items() if key != "out_channels"}, graph)
        m.model("GraphSAGE", size() | {"normalize": True}, graph)
        m.model("GraphSAGE", size() | {"root_weight": False, "bias": False}, graph)
        m.model("GraphSAGE", size() | {"project": True}, graph)
        m.model("GIN", size() | {"train_eps": True, "eps": 0.25}, graph)
        m.model("GAT", size(2) | {"heads": 2, "edge_dim": 3}, graph, edge_dim=3)
        m.model("GAT", size(2) | {"heads": 2, "v2": True, "edge_dim": 2, "jk": "cat"}, graph, edge_dim=2)
        m.model("GAT", size(2) | {"heads": 2, "residual": True}, graph)
        m.model("GAT", size(2) | {"heads": 2, "v2": True, "share_weights": True}, graph)
        m.model("GAT", size(2) | {"heads": 2, "concat": False}, graph)
        m.model("GAT", size(2) | {"heads": 2, "concat": False, "bias": False}, graph)
        m.model("GAT", size(2) | {"heads": 2, "negative_slope": 0.05, "add_self_loops": False}, graph)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1, help="each with graphs, widths and settings of its own")
    parser.add_argument("--only", default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    count = unstable = 0
    for k in range(args.rounds):
        maker = Maker(args.folder, args.seed + k, args.only)
        maker.count = count
        for graph in maker.graphs:
            layers(maker, graph)
        for graph in ("directed", maker.pick("loops", "twice", "undirected", "empty", "one", "star")):
            models(maker, graph)
        count, unstable = maker.count, unstable + maker.unstable
    print(f"{count} cases; {unstable} left out, where PyTorch itself rounds too much")


main()
