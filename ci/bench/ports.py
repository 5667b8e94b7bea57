"""``python -m ci.bench.ports``: step times of PyTorch scripts, with PyTorch and, their import lines changed, with `anynet.torch`.

python -m ci.bench.ports                        all scripts there are; writes ci/bench/PORTS.md
python -m ci.bench.ports --only makemore        those with this in their names; the others keep the rows that are there
python -m ci.bench.ports --rounds 5 --write     how many rounds; --write: only the page again, from ports.json

The scripts are the project's own short ones (`ci/bench/scripts`) and, where `ANYNET_PORTS` names a folder of repositories, the public
ones of `tests/torchnames/public_scripts.py`, in sizes near their own. Both run eagerly, as they are written, in one thread, in a process
each; the processes take turns: a few steps of the one, then as many of the other, while it waits. A step is what lies between two
backward passes, data loading and printing included. Measured is CPU time, and beside it how long a process waited for a disk. Random
tensors come from NumPy in both, dropout is off.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "torchnames"
sys.path[:0] = [str(TESTS)]
HERE = pathlib.Path(__file__).parent
PAGE, KEPT = HERE / "PORTS.md", HERE / "ports.json"
ROUND = 0.2  # seconds that a process works in a round, at least one step
WARM = 30  # steps that are not measured: an operation becomes machine code at its 24th call
PATIENCE = 12.0  # seconds after which a process is warm, whatever it has done

LARGER: dict[str, list[str]] = {
    "examples: mnist": ["--epochs", "1000"],
    "examples: mnist_rnn": ["--epochs", "1000"],
    "examples: vae": ["--epochs", "1000", "--batch-size", "32"],
    "examples: dcgan": ["--dataset", "fake", "--batchSize", "16", "--ngf", "32", "--ndf", "32", "--niter", "50", "--outf", "out",
                        "--workers", "0"],
    "examples: super_resolution": ["--upscale_factor", "4", "--batchSize", "4", "--threads", "0", "--nEpochs", "50"],
    "examples: word_language_model, LSTM": ["--model", "LSTM", "--data", "corpus", "--epochs", "900", "--dropout", "0"],
    "examples: word_language_model, GRU": ["--model", "GRU", "--data", "corpus", "--epochs", "900", "--dropout", "0"],
    "examples: word_language_model, Transformer": ["--model", "Transformer", "--data", "corpus", "--epochs", "900", "--dropout", "0"],
    "examples: siamese_network": ["--epochs", "50", "--batch-size", "16"],
    "examples: gcn": ["--epochs", "9000"],
    "examples: imagenet": ["pictures", "-a", "resnet18", "-b", "2", "--epochs", "90", "-j", "0"],
    "examples: mnist_forward_forward": ["--epochs", "1000", "--train_size", "64", "--test_size", "16"],
    "examples: language_translation": ["--embed_size", "64", "--attn_heads", "4", "--enc_layers", "2", "--dec_layers", "2",
                                       "--dim_feedforward", "128", "--batch", "16", "--dropout", "0", "--epochs", "900",
                                       "--logging_dir", "out/"],
    "examples: fast_neural_style": ["train", "--dataset", "pictures", "--style-image", "pictures/a/0.png", "--save-model-dir", "out",
                                    "--image-size", "64", "--batch-size", "2", "--epochs", "900"],
    "makemore": ["-n", "0"],
    "makemore, mlp": ["-n", "0", "--type", "mlp"],
    "makemore, gru": ["-n", "0", "--type", "gru"],
    "nanoGPT": ["--dataset=small", "--device=cpu", "--compile=False", "--eval_iters=1", "--log_interval=1", "--block_size=64",
                "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000",
                "--dropout=0.0", "--dtype=float32", "--gradient_accumulation_steps=1"],
    "minGPT: adder": ["--trainer.num_workers=0", "--trainer.max_iters=450"],
    "U-Net": ["--epochs", "50", "--batch-size", "2", "--scale", "1.0"],
    "flows: maf": ["--train", "--dataset", "TOY", "--n_epochs", "50", "--output_dir", "out"],
    "flows: planar": ["--train", "--target_potential", "u_z1", "--flow_length", "16", "--n_steps", "9000", "--start_step", "1",
                      "--output_dir", "out", "--no_cuda"],
    "flows: bnaf": ["--train", "--dataset", "u1", "--hidden_dim", "50", "--n_steps", "9000", "--output_dir", "out",
                    "--log_interval", "9000"],
    "ConvNeXt": ["--model", "small", "--data_set", "CIFAR", "--batch_size", "8", "--epochs", "900", "--device", "cpu", "--num_workers", "0",
                 "--mixup", "0", "--cutmix", "0", "--input_size", "32", "--warmup_epochs", "0", "--disable_eval", "true",
                 "--layer_scale_init_value", "0.5"],
    "pyGAT": ["--epochs", "400"],
    "pyGAT, sparse": ["--sparse", "--epochs", "9000", "--patience", "9000"],
    "pygcn": ["--epochs", "4000"],
}  # fmt: skip
LONGER: dict[str, list[tuple[str, str]]] = {
    "ConvNeXt": [("depths=[1, 1, 1, 1], dims=[8, 12, 16, 20]", "depths=[1, 1, 3, 1], dims=[32, 64, 128, 256]")],
    "vit-pytorch": [("", """
class Longer(vision.datasets.CIFAR100):
    def __len__(self):
        return 6400
    def __getitem__(self, i):
        return super().__getitem__(i % 64)
vision.datasets.CIFAR100 = Longer
""")],
    "DDPM": [("Unet(dim=8", "Unet(dim=16"), ("train_num_steps=10,", "train_num_steps=90000, save_and_sample_every=90000,")],
    "DeepAR": [('"batch_size": 4', '"batch_size": 64'), ('"num_epochs": 2', '"num_epochs": 900'),
               ('"lstm_hidden_dim": 8', '"lstm_hidden_dim": 40'), ('"embedding_dim": 4', '"embedding_dim": 20'),
               ('("train", 24)', '("train", 12800)')],
    "d2l: LeNet": [("batch_size=8", "batch_size=64"), ("Trainer(max_epochs=1)", "model.board.display = False\nTrainer(max_epochs=9000)")],
}  # fmt: skip
"""What is changed in the texts that run before and after a script, so that it goes on until it has been measured."""

CAUSES: dict[str, str] = {
    "own: characters": "three quarters of a step are oneDNN's LSTM and products; PyTorch calls the same LSTM",
    "examples: word_language_model, LSTM": "three quarters of a step are oneDNN's LSTM and products; PyTorch calls the same LSTM",
    "makemore, mlp": "small operations: seven lookups and rolls a step, and the seeds of a batch, which PyTorch's loader does not set",
}
"""Why a script is slower here, by its name."""


SHORT = ("examples: regression", "examples: time_sequence_prediction", "d2l: minibatch")
"""Scripts that end before they are warm, or measure nothing but themselves: left out."""


def scripts() -> dict[str, dict[str, Any]]:
    """The scripts there are: where, which file, how it is called."""
    from public_scripts import SCRIPTS  # late: a file of the tests

    own = {
        f"own: {path.stem}": {
            "folder": path.parent,
            "script": path.name,
            "args": [],
            "plain": path.stem == "perceptron",
        }
        for path in sorted((HERE / "scripts").glob("*.py"))
    }
    where = pathlib.Path(os.environ.get("ANYNET_PORTS", ""))
    public = {
        name: _longer(name, script)
        | {"folder": where / script["repository"], "args": LARGER.get(name, script["args"])}
        for name, script in SCRIPTS.items()
        if os.environ.get("ANYNET_PORTS") and (where / script["repository"]).is_dir() and name not in SHORT
    }
    return own | public


def _longer(name: str, script: dict[str, Any]) -> dict[str, Any]:
    """A script with the changes of `LONGER`."""
    texts = {key: script.get(key, "") for key in ("before", "after")}
    for old, new in LONGER.get(name, ()):
        key = next(key for key, text in texts.items() if old in text)
        texts[key] = texts[key].replace(old, new) if old else texts[key] + new
    return script | texts


class Runner:
    """A script in a process of its own, which runs as many steps as it is told."""

    def __init__(self, script: dict[str, Any], folder: pathlib.Path, room: str, where: pathlib.Path) -> None:
        from test_public_scripts import laid_out

        run = laid_out(script, folder, room, "float32", where) | {"steps": 10**9, "paced": True}
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / "run_public_script.py"), json.dumps(run)], cwd=where, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=(where / "stderr").open("w"), env=os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.where = where
        self.answer()

    def answer(self) -> tuple[float, float]:
        """What it says next: the seconds of its steps, of CPU time and of waiting."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError((self.where / "stderr").read_text(encoding="utf-8")[-600:] or "it ended")
        cpu, waited = map(float, line.split())
        return cpu, waited

    def steps(self, count: int) -> tuple[float, float]:
        """Seconds for so many steps, of CPU time and of waiting."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def measured(script: dict[str, Any], rounds: int, folder: pathlib.Path) -> dict[str, Any]:
    """Seconds a step, one number a round, of PyTorch and of anynet: CPU time, and under ``waits`` what they waited for a disk."""
    from public_code import ported

    changed = ported(script["folder"], folder / "changed")
    both: dict[str, Runner] = {}
    try:
        for name, room, source in (("torch", "torch", script["folder"]), ("anynet", "anynet.torch", changed)):
            both[name] = Runner(script, source, room, folder / name / "here")
        counts = {}
        for name, runner in both.items():
            began, done = time.perf_counter(), 0
            while done < WARM and time.perf_counter() - began < PATIENCE:
                last = sum(runner.steps(1))
                done += 1
            counts[name] = max(1, int(ROUND / last))
        found: dict[str, Any] = {name: [] for name in both} | {"waits": {name: [] for name in both}}
        for _ in range(rounds):
            for name, runner in both.items():
                cpu, waited = (seconds / counts[name] for seconds in runner.steps(counts[name]))
                found[name].append(cpu)
                found["waits"][name].append(waited)
        return found
    finally:
        for runner in both.values():
            runner.close()


def _ratio(found: dict[str, Any]) -> float:
    """PyTorch's time by anynet's, the median of the rounds."""
    return statistics.median(t / a for t, a in zip(found["torch"], found["anynet"], strict=True))


def _waits(found: dict[str, Any]) -> str:
    """Milliseconds a step of waiting, PyTorch's and anynet's, where they are a twentieth of its time."""
    waits = {n: statistics.median(seconds) for n, seconds in found.get("waits", {}).items()}
    if all(seconds < 0.05 * statistics.median(found[n]) for n, seconds in waits.items()):
        return ""
    return ", ".join(f"{seconds * 1e3:.2f}" for seconds in waits.values())


def rows(kept: dict[str, Any]) -> list[str]:
    """The lines of the table."""
    lines = []
    for name, found in kept.items():
        if "failed" in found:
            lines.append(f"| {name} | | | | | not measured: {found['failed']} |")
            continue
        ratios = sorted(t / a for t, a in zip(found["torch"], found["anynet"], strict=True))
        wall = "" if "waits" in found else "†"
        quarter = len(ratios) // 4
        median = statistics.median(ratios)
        spread = f"{ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}"
        times = " | ".join(f"{statistics.median(found[n]) * 1e3:.2f}" for n in ("torch", "anynet"))
        why = CAUSES.get(name, "") if median < 1 else ""
        lines.append(f"| {name}{wall} | {times} | {_waits(found)} | **{median:.2f}** ({spread}) | {why} |")
    return lines


def write(kept: dict[str, Any]) -> None:
    """The page."""
    older = (
        ""
        if all("waits" in f or "failed" in f for f in kept.values())
        else " †: measured in wall time, at an earlier state."
    )
    above = sum(1 for f in kept.values() if "failed" not in f and _ratio(f) >= 1)
    text = f"""# PyTorch scripts beside PyTorch

Milliseconds of CPU time a step of scripts that are written for PyTorch: run by PyTorch 2.13.0, and, with their import lines changed
and nothing else, by `anynet.torch` with the extras `numba` and `onednn`. Both eager, float32, one thread, one machine; processes take
turns and wait for each other. The machine had other work, which ratios of one round bear better than times. A step is what lies
between two backward passes. The ratio is PyTorch's time by anynet's (above 1: anynet is quicker), the median of rounds with the
middle half of them. {above} of {len(kept)} scripts are at 1 or above. Waits are milliseconds a step in which a process neither
ran nor waited for a core, PyTorch's and anynet's, where they are a twentieth of its time: those for a disk.{older}

Made by `ANYNET_PORTS=folder python -m ci.bench.ports`; the public scripts, by repository and file, are in
`tests/torchnames/public_scripts.py`.

| script | PyTorch | anynet | waits | ratio | why, below 1 |
| --- | --- | --- | --- | --- | --- |
"""
    PAGE.write_text(text + "\n".join(rows(kept)) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m ci.bench.ports",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="scripts with this in their names; several times",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="only write the page again")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {given.rounds}")
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    for name, script in {} if given.write else scripts().items():
        if given.only and not any(word in name for word in given.only):
            continue
        with tempfile.TemporaryDirectory(prefix="anynet-ports-") as folder:
            try:
                kept[name] = measured(script, given.rounds, pathlib.Path(folder))
            except RuntimeError as error:
                kept[name] = {"failed": str(error).strip().splitlines()[-1][:120]}
        print(rows({name: kept[name]})[0], flush=True)
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    write(kept)
    return 0


if __name__ == "__main__":
    sys.exit(main())
