"""Kills `gnn-prune` at random moments and goes on.

    python3 tests/kill.py target/release/gnn-prune [--moments 50] [--seed 0] [--only train|compress]

For each of two commands: it runs once to the end, which says what the model and the report must be. Then, for every moment, it runs over
good files that are there already, is killed by SIGKILL (every third time its `--resume` is killed as well), and runs with `--resume` to the
end. At every moment each file must be the old one or a whole new one; a stage that counts as finished must be sound; and the end must be
the model of the uninterrupted run to the bit, and its report but for times. Needs Python 3 and nothing else.
"""

import argparse
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

DATA = "sbm:nodes=200,classes=3,degree=6,features=16,homophily=0.6,seed=1"
COMMANDS = {
    "train --seeds 5 --out": f"train {DATA} --hidden 8 --epochs 60 --seeds 5",
    "compress --seeds 5 --out --report": f"compress {DATA} --hidden 8 --epochs 40 --channels 0.5 --finetune 10 --bits 8 --qat 3 --seeds 5",
}
OLD = b"a good file of an earlier day\n" * 50


def timeless(text):
    """The report without times."""
    report = json.loads(text)
    for row in report["rows"]:
        del row["latency_ms"]
    for words in ("summary", "notes", "command"):
        report.pop(words, None)
    return report


class Place:
    """A folder with good files, and the command that writes over them."""

    def __init__(self, binary, command, old):
        self.folder = tempfile.TemporaryDirectory()
        root = pathlib.Path(self.folder.name)
        self.out, self.json = root / "model.safetensors", root / "report.json"
        self.report = root / "report.html" if command.startswith("compress") else None
        self.work = root / "model.safetensors.work"
        self.files = [path for path in (self.out, self.json, self.report) if path]
        self.line = [binary, *command.split(), "--out", str(self.out), "--json", str(self.json)]
        self.line += ["--report", str(self.report)] if self.report else []
        if old:
            for path in self.files:
                path.write_bytes(OLD)

    def start(self, *flags):
        return subprocess.Popen([*self.line, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def stages(self):
        return len(list(self.work.glob("gnn-prune-seed*.json")))

    def is_kept(self):
        """Whether stages count: the record of the run goes first when the folder is removed, and that is after the last file is written."""
        return (self.work / "gnn-prune-run.json").exists()

    def is_done(self, model):
        """Whether every file is a new one."""
        return self.out.read_bytes() == model and all(path.read_bytes() != OLD for path in self.files)

    def check_whole(self, model):
        """Every file is the old one or a whole new one."""
        assert self.out.read_bytes() in (OLD, model), "the model is neither the old one nor the new one"
        assert self.json.read_bytes() == OLD or json.loads(self.json.read_text())["rows"], "half a report as JSON"
        if self.report:
            page = self.report.read_bytes()
            assert page == OLD or page.endswith(b"</html>\n"), "half a report as a page"
        if self.stages() and not self.is_kept():
            assert self.is_done(model), "stages are removed before all is written"
            return
        for record in self.work.glob("gnn-prune-seed*.json"):
            json.loads(record.read_text())
            assert record.with_suffix(".safetensors").stat().st_size > 0, f"{record.name} has no model"


def kill_after(process, seconds):
    """Whether the process was still at work."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    assert process.returncode == 0, process.stderr.read()
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["train", "compress"], help="one of the two commands")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    failures = 0
    for name, command in COMMANDS.items():
        if args.only and not command.startswith(args.only):
            continue
        whole = Place(args.binary, command, old=False)
        began = time.monotonic()
        process = whole.start()
        process.wait()
        assert process.returncode == 0, process.stderr.read()
        lasts = time.monotonic() - began
        model, report = whole.out.read_bytes(), timeless(whole.json.read_text())
        assert not whole.work.exists(), "the work folder stays after success"
        killed, kills, kept, redone = 0, 0, [], 0
        for moment in range(args.moments):
            place = Place(args.binary, command, old=True)
            try:
                began = time.monotonic()
                at_work = kill_after(place.start(), rng.uniform(0.0, 1.02 * lasts))
                # Where the machine has become faster, later moments lie within what it takes now.
                lasts = lasts if at_work else min(lasts, time.monotonic() - began)
                killed += at_work
                kills += at_work
                place.check_whole(model)
                kept.append(place.stages())
                if at_work and moment % 3 == 0:
                    before = place.stages()
                    kills += kill_after(place.start("--resume"), rng.uniform(0.0, 0.5 * lasts))
                    place.check_whole(model)
                    going_on = place.is_kept() and place.stages() >= before
                    assert before == 0 or going_on or place.is_done(model), f"going on lost a stage: {before} before, {place.stages()} after"
                last = place.start("--resume")
                _, notes = last.communicate()
                assert last.returncode == 0, notes
                redone += notes.count("done again")
                assert place.out.read_bytes() == model, "another model"
                assert timeless(place.json.read_text()) == report, "another report"
                assert not place.report or place.report.read_bytes().endswith(b"</html>\n"), "half a page"
                left = sorted(path.name for path in pathlib.Path(place.folder.name).iterdir())
                assert left == sorted(path.name for path in place.files), f"left behind: {left}"
            except AssertionError as error:
                failures += 1
                print(f"{name}, moment {moment}: {error}", flush=True)
            print(f"{name}: {moment + 1} of {args.moments}", end="\r", file=sys.stderr, flush=True)
        assert killed * 2 > args.moments, f"only {killed} of {args.moments} moments were before the end"
        assert redone == 0, f"{redone} stages that counted as finished were not"
        stages = f"{min(kept)} to {max(kept)} finished stages kept"
        print(f"{name}: {args.moments} moments in {lasts:.1f} s, {killed} killed at work ({kills} kills), {stages}, failures so far: {failures}", flush=True)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
