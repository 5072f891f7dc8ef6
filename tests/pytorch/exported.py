"""Makes every module that `export` writes: `python tests/pytorch/exported.py tests/fixtures/exported.txt`.

The file has the lines of Python for every layer; here each `self.NAME = MODULE` is evaluated with torch and torch_geometric, so that no
class, argument or default is one that PyTorch Geometric does not have. What the modules compute is compared by `checkpoints.py` and
`handwritten.py`.
"""

import sys

import torch
import torch_geometric.nn as pyg

made = 0
for line in open(sys.argv[1]):
    if line.startswith("self."):
        module = eval(line.split(" = ", 1)[1], {"torch": torch, "pyg": pyg})
        assert isinstance(module, torch.nn.Module), line
        made += 1
print(f"{made} modules")
