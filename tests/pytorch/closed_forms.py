"""Item k-NN and EASE by numpy, on the split of `lightgcn_reference.py`, over values of their one setting: what `baseline::ItemKnn` and
`baseline::Ease` of the crate are held against, and which setting validation chooses.

    python tests/pytorch/closed_forms.py lastfm

Item k-NN: the score of an item is the sum of cosines `|U_i ∩ U_j| / √(|U_i|·|U_j|)` with those of the user's items that are among its k nearest
(Sarwar et al., WWW 2001, §3.1). EASE: `B = argmin |X − X·B|² + λ|B|²` with a zero diagonal, in closed form (Steck, WWW 2019, eq. 8). Both learn
from what trains, without what validates. Printed are Recall@20 and NDCG@20 on validation and on test, in per cent.
"""

import argparse
import os

import numpy as np
import torch
from draws import held_out
from lightgcn_reference import Ranking, read


def nearest(x, neighbours):
    """Maps `[items, items]`, one for each number of neighbours."""
    together = x.T @ x
    root = np.sqrt(np.maximum(np.diag(together), 1))
    cosine = together / root[:, None] / root
    np.fill_diagonal(cosine, 0)
    order = np.argsort(-cosine, 1, kind="stable")
    for k in neighbours:
        kept, rows = np.zeros_like(cosine), np.arange(len(cosine))[:, None]
        kept[rows, order[:, :k]] = cosine[rows, order[:, :k]]
        yield k, kept.T


def ease(x, penalties):
    together = (x.T @ x).astype(np.float64)
    for penalty in penalties:
        inverse = np.linalg.inv(together + penalty * np.eye(len(together)))
        b = -inverse / np.diag(inverse)
        np.fill_diagonal(b, 0)
        yield penalty, b.astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="a folder with data1.txt and test1.txt, looked for in GNN_PRUNE_DATA too")
    parser.add_argument("--neighbours", type=int, nargs="*", default=[100, 400, 800, 1600])
    parser.add_argument("--penalties", type=float, nargs="*", default=[50, 100, 250])
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.data if os.path.exists(args.data) else os.path.join(os.environ.get("GNN_PRUNE_DATA", "."), args.data)
    taken, test, items = read(path)
    train, val = held_out(taken, 0.1, 0)
    x = np.zeros((len(train), items), dtype=np.float32)
    for user, own in enumerate(train):
        x[user, own] = 1
    rankings = [Ranking(val, train, items), Ranking(test, taken, items)]
    for name, maps in (("item k-NN", nearest(x, args.neighbours)), ("EASE", ease(x, args.penalties))):
        for setting, b in maps:
            scores = torch.from_numpy(x @ b)
            found = [ranking.of_scores(lambda users: scores[users]) for ranking in rankings]
            shown = [f"{part}: recall@20 {recall:.2f}, ndcg@20 {ndcg:.2f}" for part, (recall, ndcg) in zip(("validation", "test"), found)]
            print(f"{name} {setting:g}, {'; '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
