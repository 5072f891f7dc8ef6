"""Hashes of what `gnn-prune` makes, so that a change of the house can be seen to change nothing.

    python3 tests/behaviour.py target/release/gnn-prune --against tests/behaviour.txt
    python3 tests/behaviour.py target/release/gnn-prune > tests/behaviour.txt    # where a change is meant

Every command below runs in a folder of its own. Of each model file, table of predictions and exported file the SHA-256 is printed, of
each report that of its JSON without times, and without the sentences that tell times. `--against FILE` names the lines that differ and
ends with 1 if there are any. The hashes of one machine hold for machines with the same vector instructions: sums are formed in another
order with others. Needs Python 3 and nothing else.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

SBM = "sbm:nodes=300,classes=3,degree=8,features=24,seed=1"
POWERLAW = "powerlaw:nodes=400,classes=4,edges=1200,features=20,seed=2"
SHORT = "--epochs 15 --seeds 2"
RECIPE = """controls = "all"

[[stage]]
channels = 0.5
criterion = "taylor"
scope = "global"

[[stage]]
weights = 0.6
calibrate = "train"

[[stage]]
finetune = 5

[[stage]]
bits = 4
act-bits = 8
qat = 3
"""

# Name, and the words of a command; `--out` and `--json` are added.
MADE = {
    "digits-default": "compress --epochs 20 --seeds 2",
    "digits-one-shot": "compress --one-shot --weights 0.7 --epochs 20",
    "gcn-l1-global": f"compress {SBM} {SHORT} --hidden 16 --channels 0.4 --criterion l1 --scope global --finetune 4",
    "gcn-deep-layers": f"compress {SBM} {SHORT} --hidden 16 --layers 5 --residual --norm batch --drop-layers 2 --finetune 4",
    "gcn-jumping-l2": f"compress {SBM} {SHORT} --hidden 16 --layers 3 --jumping cat --channels 0.5 --criterion l2 --weights 0.5",
    "gcn-jumping-max": f"compress {SBM} {SHORT} --hidden 12 --layers 3 --jumping max --norm layer --channels 0.5 --criterion random",
    "sage-mean": f"compress {POWERLAW} {SHORT} --model sage --hidden 16 --channels 0.5 --bits 8",
    "sage-max": f"compress {POWERLAW} {SHORT} --model sage --aggr max --hidden 16 --channels 0.5 --finetune 4",
    "sage-sum": f"compress {SBM} {SHORT} --model sage --aggr sum --hidden 16 --weights 0.8 --finetune 4 --bits 8",
    "gat": f"compress {SBM} {SHORT} --model gat --hidden 8 --heads 4 --channels 0.5 --finetune 4",
    "gatv2": f"compress {SBM} {SHORT} --model gatv2 --hidden 8 --heads 2 --channels 0.5 --criterion taylor --finetune 4",
    "gin": f"compress {SBM} {SHORT} --model gin --hidden 16 --channels 0.5 --weights 0.5 --bits 8",
    "sgc": f"compress {SBM} {SHORT} --model sgc --hops 3 --weights 0.5 --bits 4",
    "appnp": f"compress {SBM} {SHORT} --model appnp --hidden 16 --hops 4 --channels 0.5 --bits 8",
    "gcn2": f"compress {SBM} {SHORT} --model gcn2 --hidden 16 --layers 6 --channels 0.5 --criterion taylor --finetune 4",
    "mlp": f"compress {SBM} {SHORT} --model mlp --hidden 32 --channels 0.75 --weights 0.5 --bits 2",
    "distil-self": f"compress {SBM} {SHORT} --hidden 16 --distill self --bits 8 --calibration max",
    "distil-mlp": f"compress {SBM} {SHORT} --hidden 16 --distill mlp:8 --bits 8 --qat 4 --calibration percentile:99",
    "distil-gcn": f"compress {SBM} {SHORT} --hidden 16 --distill gcn:4 --controls none",
    "bits-4-act-4": f"compress {SBM} {SHORT} --hidden 16 --bits 4 --act-bits 4 --qat 5 --calibrate train",
    "recipe": f"compress {SBM} {SHORT} --hidden 16 --recipe RECIPE",
    "split": f"train {SBM} {SHORT} --hidden 8 --split 0.6/0.2/0.2",
    "train-gat": f"train {POWERLAW} {SHORT} --model gat --hidden 4 --heads 4",
}
# Name, the model that is read, and the words of a command.
READ = {
    "predict-logits": ("digits-default", "predict digits --write logits"),
    "predict-bits": ("sage-mean", f"predict {POWERLAW} --write probabilities"),
    "from": ("gcn-l1-global", f"compress {SBM} --weights 0.5 --bits 8"),
    "export": ("gin-float", "export"),
}


def run(words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}\n{done.stderr}")
    return done.stdout


def digest(data):
    return hashlib.sha256(data).hexdigest()


def timeless(path):
    """The report without what depends on the moment."""
    report = json.loads(path.read_text())
    for row in report["rows"]:
        row.pop("latency_ms", None)
    for words in ("summary", "notes", "command", "machine", "version"):
        report.pop(words, None)
    return json.dumps(report, sort_keys=True).encode()


def hashes(binary):
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        recipe = root / "recipe.toml"
        recipe.write_text(RECIPE)
        for name, words in {**MADE, "gin-float": f"train {SBM} {SHORT} --model gin --hidden 8"}.items():
            model, report = root / f"{name}.model", root / f"{name}.json"
            words = [str(recipe) if word == "RECIPE" else word for word in words.split()]
            run([binary, "-q", *words, "--out", str(model), "--json", str(report)])
            lines.append(f"{digest(model.read_bytes())}  {name} model")
            lines.append(f"{digest(timeless(report))}  {name} report")
        for name, (model, words) in READ.items():
            out = root / f"{name}.npy"
            stdout = run([binary, "-q", *words.split(), "--from", str(root / f"{model}.model"), "--out", str(out)])
            lines.append(f"{digest(out.read_bytes())}  {name} file")
            if words == "export":
                lines.append(f"{digest(stdout.replace(folder, '').encode())}  {name} program")
    return lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--against")
    args = parser.parse_args()
    found = hashes(args.binary)
    print("\n".join(found))
    if args.against:
        known = pathlib.Path(args.against).read_text().split("\n")
        differ = [line for line in found if line not in known]
        print(f"{len(found) - len(differ)} of {len(found)} as before", *differ, sep="\n  ", file=sys.stderr)
        sys.exit(1 if differ else 0)


main()
