"""Files of PyTorch with what is to be read from each: `python tests/pytorch/make_pt.py tests/fixtures/pt`.

Beside `NAME.pt` stands `NAME.safetensors`, its tensors made contiguous and widened by PyTorch itself: floats to float32, the rest to int64.
Files under `refused` have no twin; those under `unlabelled` hold NaN, which is a label that is not known. Made with torch 2.x, torch_geometric 2.x and safetensors; any seed would do, this one is 0.
"""

import collections
import gzip
import os
import pickle
import sys
from pathlib import Path

import numpy
import torch
import torch_geometric
from safetensors.torch import save_file
from torch import nn
from torch_geometric.data import Data, HeteroData, InMemoryDataset
from torch_geometric.nn import GAT, GCN, BatchNorm, GATConv, GCNConv, GraphSAGE, SAGEConv

folder = Path(sys.argv[1]).resolve()
# Old files name the place of their source too, which is nobody's business.
os.chdir(Path(__file__).parent)
__file__ = Path(__file__).name
for kind in ("refused", "unlabelled"):
    (folder / kind).mkdir(parents=True, exist_ok=True)


def plain(tensor):
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor.to(torch.int64)).contiguous().clone()


def keep(name, saved, expected, **options):
    torch.save(saved, folder / name, **options)
    save_file({key: plain(tensor) for key, tensor in expected.items()}, (folder / name).with_suffix(".safetensors"))


def refuse(name, saved, **options):
    torch.save(saved, folder / "refused" / name, **options)


class Net(nn.Module):
    """A network as people write them, with a little of everything that a module can hold."""

    def __init__(self):
        super().__init__()
        self.conv1 = GCNConv(3, 4, normalize=True, improved=True)
        self.conv2 = GATConv(4, 2, heads=3, concat=False, negative_slope=0.1, add_self_loops=False)
        self.conv3 = SAGEConv(2, 2, aggr="max")
        self.bn = nn.BatchNorm1d(4)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4, bias=False)])
        self.layers[1].weight = self.layers[0].weight  # tied
        self.again = self.bn
        self.drop = nn.Dropout(0.25)
        self.act = nn.LeakyReLU(0.3)
        self.register_buffer("scale", torch.tensor([1.5, 2.5]))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.register_parameter("nothing", None)
        self.unregistered = {"widths": [3, 4]}
        self.widths = [3, 4, 2]
        self.jk = None
        self.function = torch.relu


class Bare(nn.Module):
    """Old files keep the source of each class: this is all that there is."""

    def __init__(self, inner):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2))
        self.inner = inner


def models():
    gcn = GCN(3, 4, num_layers=2, out_channels=2, dropout=0.5, act="elu")
    keep("state_dict.pt", gcn.state_dict(), gcn.state_dict())
    # 21 characters, by which an archive looks as if it began 76 bytes later than it does.
    keep("state_dict_protocol_4.pt", gcn.state_dict(), gcn.state_dict(), pickle_protocol=4)
    keep("state_dict_legacy.pt", gcn.state_dict(), gcn.state_dict(), _use_new_zipfile_serialization=False)
    keep("module_gcn.pt", gcn, gcn.state_dict())
    bare = Bare(Bare(None))
    keep("module_legacy.pt", bare, bare.state_dict(), _use_new_zipfile_serialization=False)
    gat = GAT(3, 4, num_layers=2, out_channels=2, heads=2, norm="batch_norm", v2=True)
    keep("module_gat.pt", gat, gat.state_dict())
    net = Net()
    keep("module_net.pt", net, net.state_dict(), pickle_protocol=5)
    sage = GraphSAGE(3, 4, num_layers=2, out_channels=2, aggr="max", jk="cat")
    optimizer = torch.optim.Adam(sage.parameters())
    sum(p.sum() for p in sage.parameters()).backward()
    optimizer.step()
    lightning = {
        "epoch": 3,
        "global_step": 12,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{key}": value for key, value in sage.state_dict().items()},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hyper_parameters": {"hidden_channels": 4, "dropout": 0.5, "aggr": "max", "norm": None, "widths": [4, 4]},
    }
    keep("lightning.ckpt", lightning, lightning["state_dict"])
    keep("wrapped_state.pth", {"epoch": 1, "model_state_dict": sage.state_dict(), "optimizer_state_dict": optimizer.state_dict()}, sage.state_dict())
    keep("wrapped_module.pth", {"model": net, "args": {"lr": 0.1}}, net.state_dict())
    keep("wrapped_in_one.pth", {"epoch": 1, "my_network": sage.state_dict(), "optim": optimizer.state_dict()}, sage.state_dict())
    nested = {"encoder": {"weight": torch.randn(2, 3), 0: torch.randn(2)}, "scale": torch.tensor(0.25)}
    keep("nested.pt", nested, {"encoder.weight": nested["encoder"]["weight"], "encoder.0": nested["encoder"][0], "scale": nested["scale"]})


def tensors():
    edges = [0.0, -0.0, 1.0, -1.5, 6e-8, 6.1e-5, 65504.0, -65504.0, 1 / 3]
    named = {
        "half": torch.tensor(edges).half(),
        "bfloat": torch.tensor([*edges, 1e-40, 3e38]).bfloat16(),
        "double": torch.tensor([*edges, 1e-300, 1 / 3, 16777217.0], dtype=torch.float64),
        "single": torch.randn(2, 3, 2),
    }
    keep("floats.pt", named, named)
    save_file({key: tensor.contiguous() for key, tensor in named.items()}, folder / "floats_as_they_are.safetensors")
    kinds = ["int64", "int32", "int16", "int8", "uint8", "uint16", "uint32"]
    named = {kind: torch.tensor([0, 1, 100, torch.iinfo(getattr(torch, kind)).max, torch.iinfo(getattr(torch, kind)).min]).to(getattr(torch, kind)) for kind in kinds}
    named["uint64"] = torch.tensor([0, 7], dtype=torch.int64).to(torch.uint64)
    named["bool"] = torch.tensor([[True, False], [False, True]])
    keep("integers.pt", named, named)
    base = torch.arange(24, dtype=torch.float32)
    matrix = base.view(4, 6)
    views = {
        "transposed": matrix.t(),
        "columns": matrix[:, 1:5:2],
        "rows": matrix[1:3],
        "expanded": base[3:4].expand(2, 3, 1),
        "cube": base.view(2, 3, 4).permute(2, 0, 1),
        "one": base[5],
        "empty": matrix[:0],
        "whole": base,
        "integers": torch.arange(6).view(2, 3).t(),
        "parameter": nn.Parameter(matrix.t()[1:]),
    }
    keep("views.pt", views, views)
    keep("views_legacy.pt", views, views, _use_new_zipfile_serialization=False)


def arrays():
    """What numpy makes stays numpy's in a file of PyTorch."""
    named = {kind: numpy.arange(6).reshape(2, 3).astype(kind) for kind in ("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "float64", "float32", "float16", "bool")}
    # Bytes that are two letters of UTF-8 each.
    named["negative"] = -numpy.arange(5)
    named["by_column"] = numpy.asfortranarray(numpy.arange(12.0).reshape(3, 4))
    named["cube"] = numpy.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)
    named["one"] = numpy.array(7)
    named["empty"] = numpy.zeros((0, 3))
    named["tensor"] = torch.arange(3)
    expected = {key: torch.as_tensor(numpy.ascontiguousarray(value).reshape(numpy.shape(value)) if isinstance(value, numpy.ndarray) else value) for key, value in named.items()}
    # Arrays of words and objects are passed by.
    named["words"] = numpy.array(["a", "b"])
    named["objects"] = numpy.array([None, 3], dtype=object)
    state = {"lin.weight": torch.ones(2, 2)}
    keep("arrays_beside_a_network.pt", {"epoch": 3, "my_network": state, "losses": numpy.arange(3.0)}, state)
    for protocol in (2, 4, 5):
        keep(f"arrays_protocol_{protocol}.pt", named, expected, pickle_protocol=protocol)


def graphs():
    data = Data(
        x=torch.randn(6, 3),
        edge_index=torch.tensor([[0, 1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 0, 2]]),
        y=torch.tensor([0, 1, 0, 1, 0, 1]),
        edge_attr=torch.rand(7, 2),
        edge_weight=torch.rand(7),
        edge_type=torch.tensor([0, 1, 0, 1, 0, 1, 1]),
        train_mask=torch.tensor([True, True, False, False, False, False]),
        val_mask=torch.tensor([False, False, True, True, False, False]),
        test_mask=torch.tensor([False, False, False, False, True, True]),
    )
    # As it often lies in memory: a view of a list of pairs.
    data.edge_index = data.edge_index.t().contiguous().t()
    expected = {key: value for key, value in data.to_dict().items() if torch.is_tensor(value)}
    keep("data.pt", data, expected)
    keep("data_legacy.pt", data, expected, _use_new_zipfile_serialization=False)
    keep("data_as_dict.pt", data.to_dict(), expected)
    keep("data_processed.pt", (data.to_dict(), None, Data), expected)
    slices = {key: torch.tensor([0, 7 if key.startswith("edge") else 6]) for key in expected}
    keep("data_of_one.pt", (data, slices), expected)
    unknown = Data(x=data.x, edge_index=data.edge_index, y=torch.tensor([0.0, 1.0, float("nan"), 1.0, 0.0, float("nan")]))
    for part, nodes in [("train", [0, 1]), ("val", [3]), ("test", [4])]:
        unknown[f"{part}_mask"] = torch.tensor([node in nodes for node in range(6)])
    keep("unlabelled/data.pt", unknown, unknown.to_dict())
    few = Data(x=data.x, edge_index=data.edge_index, y=data.y, name="small", num_classes=2)
    keep("data_in_a_list.pt", [few], {"x": few.x, "edge_index": few.edge_index, "y": few.y})
    refuse("two_graphs.pt", [few, few])
    refuse("slices.pt", (data.to_dict(), {"x": torch.tensor([0, 2, 6])}, Data))
    hetero = HeteroData()
    hetero["paper"].x = torch.randn(2, 3)
    hetero["paper", "cites", "paper"].edge_index = torch.tensor([[0], [1]])
    refuse("hetero.pt", hetero)


def graph_sets():
    """Three graphs as a list and as a data set saves them; what is read of them stands in `tests/pt_files.rs`."""
    (folder / "graphs").mkdir(exist_ok=True)
    save = lambda name, saved, **options: torch.save(saved, folder / "graphs" / name, **options)
    each, first = [], 0
    for label, nodes in [(3, 3), (7, 1), (3, 4)]:
        edges = [(i, i + 1) for i in range(nodes - 1)]
        each.append(
            Data(
                x=torch.arange(first, first + 2 * nodes, dtype=torch.float).view(nodes, 2),
                edge_index=torch.tensor(edges, dtype=torch.long).view(-1, 2).t().contiguous(),
                edge_attr=torch.arange(len(edges), dtype=torch.float).view(-1, 1) + nodes,
                y=torch.tensor([label]),
                pos=torch.zeros(nodes, 3),
            )
        )
        first += 2 * nodes
    joined, slices = InMemoryDataset.collate(each)
    save("list.pt", each)
    save("list_legacy.pt", each, _use_new_zipfile_serialization=False)
    save("dataset.pt", (joined.to_dict(), slices, Data))
    save("dataset_of_data.pt", (joined, slices))
    bare = [Data(edge_index=data.edge_index, y=data.y, num_nodes=data.num_nodes) for data in each]
    joined, slices = InMemoryDataset.collate(bare)
    save("bare_list.pt", bare)
    save("bare_dataset.pt", (joined.to_dict(), slices, Data))
    wrong = lambda **changed: [each[0], Data(**{**each[1].to_dict(), **changed})]
    save("wrong_edge.pt", wrong(edge_index=torch.tensor([[0], [1]]), edge_attr=torch.zeros(1, 1)))
    save("wrong_width.pt", wrong(x=torch.zeros(1, 3)))
    save("wrong_label.pt", wrong(y=torch.tensor([0.5])))
    save("no_label.pt", [Data(x=data.x, edge_index=data.edge_index) for data in each])
    save("claims.pt", [Data(edge_index=each[1].edge_index, y=each[1].y, num_nodes=2**40), bare[1]])
    joined, slices = InMemoryDataset.collate(each)
    slices["x"][1] = 2**40
    save("wrong_slices.pt", (joined.to_dict(), slices, Data))
    del slices["x"]
    save("no_slices.pt", (joined.to_dict(), slices, Data))


def ogb():
    """Folders in the layout of the Open Graph Benchmark's link tasks, whose parts are dicts of arrays of numpy."""

    def write(name, raw, parts):
        place = folder / "ogb" / name
        (place / "raw").mkdir(parents=True, exist_ok=True)
        (place / "split" / "time").mkdir(parents=True, exist_ok=True)
        for file, rows in raw.items():
            text = "".join(",".join(map(str, row)) + "\n" for row in rows)
            (place / "raw" / f"{file}.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        for part, arrays in parts.items():
            torch.save(arrays, place / "split" / "time" / f"{part}.pt")

    # Entity k follows k by relation 0, and k + 2 by relation 1; entity 12 is in no triple.
    facts = numpy.array([(k, r, (k + 1 + r) % 12) for k in range(12) for r in range(2)])
    order = numpy.random.default_rng(0).permutation(len(facts))
    columns = lambda rows: {"head": rows[:, 0], "relation": rows[:, 1], "tail": rows[:, 2]}
    wrong = lambda rows: {"head_neg": numpy.zeros((len(rows), 3), dtype=numpy.int64), "tail_neg": numpy.ones((len(rows), 3), dtype=numpy.int32)}
    train, valid, test = (facts[order[a:b]] for a, b in ((0, 16), (16, 20), (20, 24)))
    parts = {"train": columns(train), "valid": columns(valid) | wrong(valid), "test": columns(test) | wrong(test)}
    write("facts", {"edge": train[:, [0, 2]], "edge_reltype": train[:, [1]], "num-node-list": [[13]]}, parts)
    # Circles of ten people, each of whom knows all others of it.
    pairs = numpy.array([(u, v) for u in range(40) for v in range(u) if u % 4 == v % 4])
    pairs = pairs[numpy.random.default_rng(1).permutation(len(pairs))]
    none = numpy.array([(u, u + 1 + k) for k in (0, 1) for u in range(30)])
    train, valid, test = pairs[:140], pairs[140:160], pairs[160:]
    parts = {
        "train": {"edge": train, "weight": numpy.ones(len(train)), "year": numpy.full(len(train), 2010)},
        "valid": {"edge": valid, "edge_neg": none[:30]},
        "test": {"edge": test[:, ::-1], "edge_neg": none[30:]},
    }
    features = [[round(float(u % 4 == c) + 0.01 * u, 2) for c in range(4)] for u in range(40)]
    write("people", {"edge": train, "num-node-list": [[40]], "node-feat": features}, parts)


def refused():
    refuse("sparse.pt", {"a": torch.randn(2), "adj": torch.eye(3).to_sparse()})
    refuse("complex.pt", {"a": torch.randn(2, dtype=torch.complex64)})
    refuse("negative.pt", {"a": torch.randn(2, dtype=torch.complex64).conj().imag})
    refuse("float8.pt", {"a": torch.randn(2).to(torch.float8_e4m3fn)})
    refuse("quantized.pt", {"a": torch.quantize_per_tensor(torch.randn(2), 0.1, 0, torch.qint8)})
    refuse("not_finite.pt", {"fine": torch.zeros(2), "lin.weight": torch.tensor([1.0, float("inf")])})
    refuse("too_large.pt", {"y": torch.tensor([2**63], dtype=torch.uint64)})
    refuse("lazy.pt", nn.Sequential(nn.LazyLinear(3)))
    refuse("one_tensor.pt", torch.randn(2))
    refuse("text.pt", "hello")
    refuse("nothing.pt", {"epoch": 3, "history": [0.5, 0.25]})
    refuse("two_of_them.pt", {"state_dict": {"a": torch.zeros(1)}, "model": {"b": torch.zeros(1)}})
    refuse("same_name.pt", {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}})
    refuse("high_byte_first.pt", {"a": numpy.arange(3).astype(">i8")})
    torch.jit.save(torch.jit.script(nn.Linear(3, 2)), folder / "refused" / "scripted.pt")
    (folder / "refused" / "plain.pkl").write_bytes(pickle.dumps(collections.OrderedDict(a=1)))
    (folder / "refused" / "plain_state.pkl").write_bytes(pickle.dumps({"a": torch.zeros(2)}))


torch.manual_seed(0)
for make in (models, tensors, arrays, graphs, graph_sets, ogb, refused):
    make()
print(torch.__version__, torch_geometric.__version__)
