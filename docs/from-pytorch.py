"""Saves a network and a graph of PyTorch Geometric so that gnn-prune reads both without assuming anything.

    from from_pytorch import save          # this file beside yours, as from_pytorch.py
    save(model, data, "net.safetensors", "graph.safetensors")

`save` follows `model.forward` by torch.fx and writes, beside the weights, the list of layers that gnn-prune calls a network file: which layer
reads which, activations, sums, and every setting that no tensor tells. What it cannot follow or gnn-prune does not build is an error that says
so; nothing is guessed. `describe(model)` gives the list alone. Needs torch, torch_geometric and safetensors.
"""

import json
import math
import operator

import torch
import torch.fx
import torch.nn.functional as F
import torch_geometric.nn as pyg
from safetensors.torch import save_file

WRAPPERS = ("module", "_orig_mod")  # DataParallel and DistributedDataParallel, torch.compile


class NotSaved(ValueError):
    """What stands in the way, in one line."""


def save(model, data, network_file, graph_file=None):
    """Writes the weights of `model` with its list of layers, and `data` (a `Data`) if a second file is given."""
    model, prefix = unwrapped(model), ""
    layers = describe(model)
    state = {prefix + name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    metadata = {"network": toml(layers)}
    x = getattr(data, "x", None)
    if torch.is_tensor(x) and x.dim() == 2 and x.layout in (torch.strided, torch.sparse_coo):
        # Features that are scaled otherwise give other numbers without an error; gnn-prune compares.
        rows = x.detach().cpu().to_dense()
        length = rows.double().norm(dim=1).mean().item()
        if math.isfinite(length):
            metadata["gnn_prune.trained_on"] = json.dumps({"columns": rows.shape[1], "row_length": length})
    save_file(state, network_file, metadata=metadata)
    if graph_file is not None:
        save_graph(data, graph_file)


def save_graph(data, graph_file):
    """Writes the tensors of a `Data` that gnn-prune reads."""
    names = ("x", "edge_index", "edge_weight", "edge_attr", "edge_type", "y", "train_mask", "val_mask", "test_mask")
    found = {name: getattr(data, name, None) for name in names}
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in found.items() if torch.is_tensor(tensor)}, graph_file)


def describe(model):
    """The layers of `model` as a list of dicts: name, kind, tensors, inputs and settings."""
    model = unwrapped(model)
    was_training = model.training
    model.eval()
    try:
        return Layers(model).of_basic() if isinstance(model, pyg.models.basic_gnn.BasicGNN) else Layers(model).of_trace()
    finally:
        model.train(was_training)


def unwrapped(model):
    while True:
        inner = next((getattr(model, name) for name in WRAPPERS if isinstance(getattr(model, name, None), torch.nn.Module)), None)
        if inner is None or len(list(model.children())) != 1:
            return model
        model = inner


class Tracer(torch.fx.Tracer):
    """Layers of torch and of PyTorch Geometric are followed no further."""

    def is_leaf_module(self, module, name):
        own = type(module).__module__
        return own.startswith(("torch.nn", "torch_geometric")) and not isinstance(module, (torch.nn.Sequential, pyg.Sequential))


class Layers:
    def __init__(self, model):
        self.model, self.layers, self.taken = model, [], set()

    # The list as it grows: every function returns the name of the layer whose value it is.

    def add(self, kind, inputs, name, tensors=None, **settings):
        base = "".join(c if c.isalnum() and c.isascii() else "_" for c in name) or kind
        base = base if not base[0].isdigit() else "layer_" + base
        name, k = base, 2
        while name in self.taken or name == "x":
            name, k = f"{base}_{k}", k + 1
        self.taken.add(name)
        layer = {"name": name, "kind": kind, "inputs": list(inputs)}
        if tensors is not None:
            layer["tensors"] = tensors
        self.layers.append(layer | settings)
        return name

    def activation(self, function, x, slope=None):
        word = function.__name__ if callable(function) and not isinstance(function, torch.nn.Module) else type(function).__name__
        words = {"relu": "relu", "relu_": "relu", "ReLU": "relu", "leaky_relu": "leaky_relu", "LeakyReLU": "leaky_relu", "elu": "elu", "elu_": "elu",
                 "ELU": "elu", "tanh": "tanh", "Tanh": "tanh", "sigmoid": "sigmoid", "Sigmoid": "sigmoid"}
        if word in ("Identity",) or function is None:
            return x
        if word not in words:
            raise NotSaved(f"the activation {word} is not built; built are {', '.join(sorted(set(words.values())))}")
        alpha = getattr(function, "alpha", 1.0)
        if alpha != 1.0:
            raise NotSaved(f"{word} with alpha={alpha} is not built; 1 is")
        if words[word] != "leaky_relu":
            return self.add("activation", [x], "act", function=words[word])
        slope = getattr(function, "negative_slope", 0.01) if slope is None else slope
        settings = {} if slope == 0.01 else {"slope": float(slope)}
        return self.add("activation", [x], "act", function="leaky_relu", **settings)

    def dropout(self, x, p):
        return self.add("dropout", [x], "dropout", p=float(p)) if 0 < p < 1 else x

    def module(self, path, module, args):
        """A layer of torch or PyTorch Geometric on the names `args`."""
        x = args[0]
        name = path or "layer"
        refuse = lambda what: NotSaved(f"`{path}` is a {type(module).__name__} {what}, which is not built")
        kind = type(module)
        if kind is torch.nn.Linear or kind is pyg.Linear:
            return self.add("linear", [x], name, path)
        if kind in (torch.nn.Dropout, torch.nn.Identity):
            return self.dropout(x, module.p) if kind is torch.nn.Dropout else x
        if kind in (torch.nn.ReLU, torch.nn.LeakyReLU, torch.nn.ELU, torch.nn.Tanh, torch.nn.Sigmoid):
            return self.activation(module, x)
        if kind in (torch.nn.LogSoftmax, torch.nn.Softmax):
            return self.add("softmax", [x], name)
        if kind in (torch.nn.BatchNorm1d, pyg.BatchNorm):
            if getattr(module, "module", module).running_mean is None:
                raise refuse("without running statistics")
            return self.add("batch_norm", [x], name, path)
        if kind is torch.nn.LayerNorm:
            return self.add("layer_norm", [x], name, path, per_graph=False)
        if kind is pyg.LayerNorm:
            return self.add("layer_norm", [x], name, path, per_graph=module.mode == "graph")
        if kind is pyg.JumpingKnowledge:
            if module.mode == "lstm":
                raise refuse("by an LSTM")
            return {"cat": lambda: self.add("concat", x, "jump"), "max": lambda: self.add("max", x, "jump"), "last": lambda: x[-1]}[module.mode]()
        aggregation = lambda: {"add": "sum"}.get(str(module.aggr), str(module.aggr))
        if getattr(module, "flow", "source_to_target") != "source_to_target":
            raise refuse("from targets to sources")
        residual = getattr(module, "res", None)
        if residual is not None:
            raise refuse("with a residual of its own; write it as a sum")
        if kind is pyg.GCNConv:
            return self.add("gcn_conv", [x], name, path, **norm(module, refuse))
        if kind is pyg.SGConv:
            return self.add("sg_conv", [x], name, path, hops=module.K, **norm(module, refuse))
        if kind is pyg.SAGEConv:
            if aggregation() not in ("mean", "sum", "max"):
                raise refuse(f"that aggregates by {aggregation()}")
            return self.add("sage_conv", [x], name, path, aggregation=aggregation(), normalize=module.normalize)
        if kind in (pyg.GATConv, pyg.GATv2Conv):
            if module.fill_value != "mean":
                raise refuse(f"whose self-loops take {module.fill_value!r} from edges")
            settings = dict(heads=module.heads, average=not module.concat and module.heads > 1, negative_slope=float(module.negative_slope))
            settings |= dict(dropout=float(module.dropout), self_loops=module.add_self_loops)
            return self.add("gat_conv" if kind is pyg.GATConv else "gatv2_conv", [x], name, path, **settings)
        if kind in (pyg.GINConv, pyg.GINEConv):
            if aggregation() != "sum":
                raise refuse(f"that aggregates by {aggregation()}")
            settings = inner(module.nn, refuse)
            return self.add("gin_conv" if kind is pyg.GINConv else "gine_conv", [x], name, path, train_eps=isinstance(module.eps, torch.nn.Parameter), **settings)
        if kind is pyg.RGCNConv:
            if module.num_blocks is not None or aggregation() not in ("mean", "sum"):
                raise refuse("with blocks, or another aggregation than mean and sum")
            return self.add("rgcn_conv", [x], name, path, relations=module.num_relations, **({"sum": True} if aggregation() == "sum" else {}))
        if kind is pyg.GCN2Conv:
            return self.add("gcn2_conv", args[:2], name, path, alpha=float(module.alpha), beta=float(module.beta), **norm(module, refuse))
        if kind is pyg.APPNP:
            if module.dropout:
                raise refuse("with dropout of edges")
            return self.add("appnp", [x], name, hops=module.K, alpha=float(module.alpha), **norm(module, refuse))
        if kind is pyg.LGConv:
            return self.add("lg_conv", [x], name, **({} if module.normalize else {"norm": "sum"}))
        raise refuse("layer")

    def of_basic(self):
        """A network of torch_geometric.nn.models, whose forward is known."""
        net, x, kept = self.model, "x", []
        hidden = net.num_layers if net.jk_mode else net.num_layers - 1
        for k, conv in enumerate(net.convs):
            x = self.module(f"convs.{k}", conv, [x])
            if k == hidden:
                break
            steps = [lambda x: self.activation(net.act, x) if net.act is not None else x]
            if net.norms is not None and not isinstance(net.norms[k], torch.nn.Identity):
                steps.insert(1 if net.act_first else 0, lambda x, k=k: self.module(f"norms.{k}", net.norms[k], [x]))
            for step in steps:
                x = step(x)
            x = self.dropout(x, net.dropout.p)
            kept.append(x)
        if net.jk_mode is not None:
            x = self.module("jk", net.jk, [kept])
        if hasattr(net, "lin"):
            x = self.module("lin", net.lin, [x])
        return self.finished(x)

    def of_sequential(self):
        """A Sequential of PyTorch Geometric, which names what each part reads and gives."""
        arguments = list(self.model.signature.param_dict)
        value = {arguments[0]: "x"} | {name: None for name in arguments[1:]}
        for child in self.model._children:
            module = getattr(self.model, child.name)
            if not isinstance(module, torch.nn.Module):
                raise NotSaved(f"`{child.name}` of the Sequential is a function; write it as a module")
            args = [value[name] for name in child.param_names]
            value[child.return_names[0]] = self.module(child.name, module, args)
            last = child.return_names[0]
        return self.finished(value[last])

    def of_trace(self):
        """Any network, by its forward."""
        if isinstance(self.model, pyg.Sequential):
            return self.of_sequential()
        try:
            graph = Tracer().trace(self.model)
        except Exception as error:
            raise NotSaved(f"{type(self.model).__name__}.forward cannot be followed by torch.fx: {error}") from error
        modules, value, features = dict(self.model.named_modules()), {}, False
        known = lambda node: value[node] if isinstance(node, torch.fx.Node) and value.get(node) is not None else None
        for node in graph.nodes:
            args = [tuple(known(a) for a in arg) if isinstance(arg, (list, tuple)) else known(arg) for arg in node.args]
            if node.op == "placeholder":
                value[node] = None if features else "x"
                features = True
            elif node.op == "call_module":
                value[node] = self.module(node.target, modules[node.target], [list(args[0]) if isinstance(args[0], tuple) else args[0], *args[1:]])
            elif node.op in ("call_function", "call_method"):
                value[node] = self.function(node, args)
            elif node.op == "output":
                output = node.args[0]
                if not isinstance(output, torch.fx.Node):
                    raise NotSaved("forward returns several values; a network has one")
                return self.finished(value[output])
            else:
                raise NotSaved(f"forward reads `{node.target}`, which is no layer")
        raise NotSaved("forward returns nothing")

    def function(self, node, args):
        word = node.target if isinstance(node.target, str) else node.target.__name__
        given = lambda at, name, default: node.args[at] if len(node.args) > at else node.kwargs.get(name, default)
        if word in ("relu", "relu_", "tanh", "sigmoid"):
            return self.activation(getattr(torch, word.rstrip("_")), args[0])
        if word in ("elu", "elu_"):
            if given(1, "alpha", 1.0) != 1.0:
                raise NotSaved(f"elu with alpha={given(1, 'alpha', 1.0)} is not built; 1 is")
            return self.activation(F.elu, args[0])
        if word in ("leaky_relu", "leaky_relu_"):
            return self.activation(F.leaky_relu, args[0], given(1, "negative_slope", 0.01))
        if word == "dropout":
            return self.dropout(args[0], given(1, "p", 0.5))
        if word in ("log_softmax", "softmax"):
            return self.add("softmax", [args[0]], "softmax")
        if word in ("add", "iadd", "add_") and None not in args[:2] and all(isinstance(arg, str) for arg in args[:2]) and not node.kwargs:
            return self.add("add", args[:2], "sum")
        if word in ("cat", "concat", "concatenate") and given(1, "dim", 0) in (1, -1) and None not in args[0]:
            return self.add("concat", args[0], "joined")
        raise NotSaved(f"`{word}` in forward is not followed; activations, dropout, sums and torch.cat(…, dim=-1) are")

    def finished(self, output):
        """The layers that the output needs, without a softmax at the end, which changes no class."""
        by_name = {layer["name"]: layer for layer in self.layers}
        if output in by_name and by_name[output]["kind"] == "softmax":
            output = by_name[output]["inputs"][0]
        needed, left = set(), [output]
        while left:
            name = left.pop()
            if name != "x" and name not in needed:
                needed.add(name)
                left += by_name[name]["inputs"]
        layers = [layer for layer in self.layers if layer["name"] in needed]
        if any(layer["kind"] == "softmax" for layer in layers):
            raise NotSaved("a softmax before the end is not built")
        if not layers or layers[-1]["name"] != output:
            raise NotSaved("the output is no layer")
        return layers


def norm(module, refuse):
    """How a convolution of the symmetric norm propagates."""
    if not getattr(module, "normalize", True):
        return {"norm": "sum"}
    if getattr(module, "improved", False):
        if not module.add_self_loops:
            raise refuse("improved without self-loops")
        return {"improved": True}
    return {} if module.add_self_loops else {"norm": "symmetric_plain"}


def inner(network, refuse):
    """Settings of an inner network of GIN: an MLP, a Sequential, or one linear map."""
    if isinstance(network, torch.nn.Linear):
        return {}
    words = {torch.nn.ReLU: "relu", torch.nn.LeakyReLU: "leaky_relu", torch.nn.ELU: "elu", torch.nn.Tanh: "tanh", torch.nn.Sigmoid: "sigmoid"}
    if isinstance(network, pyg.MLP):
        act = type(network.act)
        if network.act is not None and act not in words:
            raise refuse(f"with the inner activation {act.__name__}")
        layer_norm = next((part for part in network.norms if isinstance(part, pyg.LayerNorm)), None)
        settings = dict(inner_activation=words.get(act, "none"), inner_act_first=network.act_first, inner_act_last=not network.plain_last)
        if act is torch.nn.LeakyReLU and network.act.negative_slope != 0.01:
            settings["inner_slope"] = float(network.act.negative_slope)
        return settings | ({} if layer_norm is None or layer_norm.mode == "graph" else {"inner_graph_norm": False})
    if not isinstance(network, torch.nn.Sequential):
        raise refuse(f"with the inner network {type(network).__name__}")
    parts = list(network)
    acts = [part for part in parts if type(part) in words]
    if len({(type(part), getattr(part, "negative_slope", None)) for part in acts}) > 1:
        raise refuse("with several inner activations")
    # Which places hold an activation is read off the gaps; so there must be one between two linear maps, and nothing else without tensors.
    bare = [part for part in parts if not list(part.state_dict())]
    if any(type(part) not in words for part in bare):
        raise refuse("with an inner part that has no tensors and is no activation")
    maps = [k for k, part in enumerate(parts) if isinstance(part, torch.nn.Linear)]
    between = [sum(type(part) in words for part in parts[a:b]) for a, b in zip(maps, maps[1:])]
    last = any(type(part) in words for part in parts[maps[-1]:]) if maps else False
    if any(count > 1 for count in between):
        raise refuse("with two inner activations in a row")
    settings = dict(inner_activation=words[type(acts[0])] if acts else "none", inner_act_last=last)
    if acts and isinstance(acts[0], torch.nn.LeakyReLU) and acts[0].negative_slope != 0.01:
        settings["inner_slope"] = float(acts[0].negative_slope)
    return settings


def toml(layers):
    """The list as a network file."""
    def written(value):
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float):
            if not math.isfinite(value):
                raise NotSaved(f"a setting is {value}")
            return repr(value)
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(map(written, value)) + "]"
        return str(value) if isinstance(value, int) else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "\n".join("[[layer]]\n" + "".join(f"{key} = {written(value)}\n" for key, value in layer.items()) for layer in layers)
