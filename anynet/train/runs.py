"""The folder of a run while it trains, format ``anynet-run/1``: everything that is needed to use the network again, and to repeat it.

========================= =======================================================================================================
run.json                  command, script, data, split, model, loss, optimizer, versions, git, device, status, best epoch, results
model.json                the network (`anynet.nn.description`)
preprocessing.json        how samples become inputs, and outputs answers (`anynet.data.Preprocessing`)
history.jsonl             a record for each epoch
proof.jsonl               hashes of the parameters (`anynet.train.proof`)
best.safetensors          the best weights; their metadata hold model.json and preprocessing.json: this file alone is a model
last.safetensors          the training state to go on from
previous.safetensors      the one before, from which `anynet.runs.verify` trains again
best-before.safetensors   where a limit has cut an epoch short: the best weights before it, which a run that is resumed takes back
========================= =======================================================================================================

Each file is written whole or not at all. `status` is running, stopped, failed or done; a run that is "running" while its process is
gone has died.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from anynet.tensor import Tensor
from anynet.train.batches import first_batch, parts_of
from anynet.train.checkpoint import load, save
from anynet.train.precision import said
from anynet.train.proof import Proof
from anynet.train.run_folder import RunFolder
from anynet.train.signals import Interrupted
from anynet.train.state import NonFiniteError, TrainingState, first_non_finite, non_finite
from anynet.train.streams import UNLIMITED
from anynet_backends import files

if TYPE_CHECKING:
    from anynet.data.arrays import ArrayPreprocessing
    from anynet.train.setup import Setup

__all__ = ["FORMAT", "RunWriter", "update_record", "write_json"]

FORMAT = "anynet-run/1"
_BEFORE = "best-before.safetensors"
_log = logging.getLogger("anynet")


class RunWriter:
    """Writes the folder of a run, which it holds while it trains. Without a folder it does nothing; of several processes that train
    together the first one writes."""

    def __init__(self, folder: str | os.PathLike[str] | None, resume: bool, setup: Setup) -> None:
        self.place = None if folder is None else Path(folder)
        folder = folder if setup.group.rank == 0 else None
        self.folder = None if folder is None else Path(folder)
        self.resume, self.setup = resume, setup
        self.lock = None if folder is None else RunFolder(folder)
        self.known: frozenset[str] = frozenset()
        self.proof = None if folder is None else Proof()
        self.record: dict[str, Any] = {}
        self.metadata: dict[str, str] = {}
        self.state: TrainingState | None = None
        self.seconds, self.began = 0.0, time.perf_counter()
        self.made = self.begun = False

    def __enter__(self) -> RunWriter:
        if self.lock is None or self.folder is None:
            return self
        if self.resume and not self.folder.is_dir():
            msg = f"no run to resume at {self.folder}"
            raise FileNotFoundError(msg)
        self.made = not self.folder.exists()
        self.lock.acquire()
        if not self.resume and (self.folder / "last.safetensors").exists():
            self.lock.release()
            msg = f"{self.folder} holds a run already; resume it, or choose another run_dir"
            raise FileExistsError(msg)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self.lock is None:
            return
        try:
            if self.begun:
                with contextlib.suppress(
                    OSError
                ):  # the folder is gone, or the disk full: the error before is to be seen
                    self.end(error)
        finally:
            self.lock.release()
            if self.made and not self.begun and self.folder is not None:
                with contextlib.suppress(OSError):
                    self.folder.rmdir()

    def begin(self) -> None:
        """Write down what this run is: after all that may be refused."""
        if (folder := self.folder) is None:
            return
        self.begun = True
        # start-up time: only a run with a folder asks
        from anynet.nn.description import FORMAT as MODEL_FORMAT
        from anynet.nn.description import DescriptionError, describe
        from anynet.train.circumstances import command, environment, git, now, script

        setup, before = self.setup, read_record(folder) if self.resume else {}
        self.seconds = float(before.get("seconds") or 0.0)
        self.record = {
            "format": FORMAT, "status": "running", "reason": None, "started": before.get("started") or now(), "ended": None,
            **({"resumed": [*before.get("resumed", []), now()]} if self.resume else {}),
            "command": command(), "script": script(), **_facts(setup), "settings": setup.settings, "environment": environment(),
            "git": git(), "results": before.get("results"), "best": before.get("best"), "epochs_done": before.get("epochs_done", 0),
        }  # fmt: skip
        preprocessing = setup.preprocessing or _of_arrays(setup)
        described = {"kind": type(preprocessing).kind, **preprocessing.to_json()}
        try:
            model = describe(setup.model)
        except Exception as error:  # noqa: BLE001 its constructor runs again: no fault there may end a training
            why = str(error) if isinstance(error, DescriptionError) else f"{type(error).__name__}: {error}"
            model = {"format": MODEL_FORMAT, "problem": why}
        for name, value in (("model", model), ("preprocessing", described)):
            self.metadata[f"anynet.{name}"] = json.dumps(value, allow_nan=False)
            write_json(folder / f"{name}.json", value)
        write_json(folder / "run.json", self.record)

    def end(self, error: BaseException | None) -> None:
        """Write down how it ended."""
        from anynet.train.circumstances import now  # start-up time: only a run with a folder needs it

        assert self.folder is not None
        state, record = self.state, self.record
        record["seconds"], record["ended"] = round(self.seconds + time.perf_counter() - self.began, 3), now()
        if isinstance(error, (Interrupted, KeyboardInterrupt)):
            record["status"], record["reason"] = "stopped", "interrupted by Ctrl-C or a signal"
        elif error is not None:
            record["status"], record["reason"] = "failed", f"{type(error).__name__}: {error}"[:2000]
        else:
            stopped = None if state is None else state.stopped
            record["status"], record["reason"] = "done", stopped  # by a callback, maybe: that is an end, too
        write_json(self.folder / "run.json", record)

    # ----- while it trains -----

    def last(self) -> dict[str, Any] | None:
        """The last checkpoint; None where the run had none yet."""
        if self.folder is None:
            return None
        file, proof = self.folder / "last.safetensors", self.folder / "proof.jsonl"
        began = any((self.folder / n).exists() for n in ("run.json", "settings.json"))
        if began and not file.exists() and not proof.exists():  # which comes with the first checkpoint
            return None
        tree = load(file)
        if self.proof is not None and proof.is_file() and isinstance(tree.get("epoch"), int):
            self.proof.resume(
                proof.read_text(encoding="utf-8", errors="replace"), tree["epoch"], tree.get("batch") or 0
            )
        return tree

    def expect_finite(self, state: TrainingState) -> None:
        """Remember which arrays hold infinities from the beginning (a mask, say): others never get into a file."""
        self.state = state
        if self.folder is not None:
            self.known = frozenset(non_finite(state.tree()))

    def save_last(self, state: TrainingState) -> None:
        """The checkpoint to go on from, the history and the hashes."""
        if self.folder is None or self.proof is None:
            return
        if state.batch == 0:
            self.proof.add(state.model, state.epoch, 0)
        tree = state.tree()
        self._save("last.safetensors", tree, tree, {})
        files.write(self.folder / "proof.jsonl", self.proof.text)
        self.save_history(state)

    def save_history(self, state: TrainingState) -> None:
        """The records of the epochs, of one that a limit cut short, too."""
        if self.folder is None:
            return
        files.write(self.folder / "history.jsonl", "".join(json.dumps(r) + "\n" for r in state.history))
        self.record["epochs_done"] = state.epoch
        self.record["seconds"] = round(self.seconds + time.perf_counter() - self.began, 3)
        write_json(self.folder / "run.json", self.record)

    def save_best(self, state: TrainingState) -> None:
        """The weights of the best epoch so far, as they are now."""
        if self.folder is None:
            return
        weights = dict(state.model.state_dict())
        self._save("best.safetensors", weights, {"model": weights}, self.metadata)
        self._note_best(state.history[-1])

    def _note_best(self, record: dict[str, Any]) -> None:
        self.record["best"] = {
            "epoch": record["epoch"],
            "monitor": self.setup.monitor,
            "value": record[self.setup.monitor],
        }
        self.record["results"] = {"epoch": {k: v for k, v in record.items() if k not in ("epoch", "seconds")}}

    def keep_best(self) -> None:
        """Give the best weights a second name, before those of an epoch that a limit cut short may replace them: where the run is resumed,
        that epoch goes on, and it counts as a whole."""
        if self.folder is not None and (self.folder / "best.safetensors").exists():
            temporary = self.folder / files.temporary_name(_BEFORE)
            shutil.copyfile(self.folder / "best.safetensors", temporary)
            os.replace(temporary, self.folder / _BEFORE)

    def take_back_best(self, state: TrainingState) -> None:
        """Where the run goes on in an epoch that was cut short: the best weights are those before it."""
        if self.folder is None or not (self.folder / _BEFORE).exists():
            return
        os.replace(self.folder / _BEFORE, self.folder / "best.safetensors")
        if state.best_epoch is not None:
            self._note_best(state.history[state.best_epoch - 1])

    def best_weights(self) -> dict[str, Any] | None:
        """The weights that `save_best` has written last."""
        return None if self.folder is None else dict(load(self.folder / "best.safetensors"))

    def farewell(self, state: TrainingState) -> str:
        """Where a run that was interrupted is, and how to go on."""
        at = f"stopped in epoch {state.epoch + 1} after batch {state.batch}"
        if self.place is None:
            return f"{at}; there is no run_dir, so nothing was saved"
        how = (
            f"anynet resume {self.place}"
            if "train_on" in self.setup.settings and "$lost" not in json.dumps(self.setup.settings)
            else "fit(…, resume=True) in the script"
        )
        return f"{at}; go on with: {how}"

    def _save(
        self, name: str, tree: dict[str, Any], looked_at: dict[str, Any], metadata: dict[str, str]
    ) -> None:
        assert self.folder is not None
        file = self.folder / name
        wrong = first_non_finite(looked_at, self.known)
        if wrong is not None:
            kept = f"{file} is left as it was" if file.exists() else f"{file} was not written"
            msg = f"{wrong} holds NaN or infinite numbers; {kept}. Try a smaller learning rate or clip_norm"
            raise NonFiniteError(msg)
        if name == "last.safetensors" and file.exists():
            _keep_previous(file)
        save(file, tree, metadata=metadata)


def _keep_previous(file: Path) -> None:
    """Give the checkpoint that is about to be replaced a second name, where the file system can."""
    previous = file.with_name("previous.safetensors")
    temporary = file.with_name(files.temporary_name(previous.name))
    with contextlib.suppress(OSError, NotImplementedError):
        if previous.exists() and previous.samefile(file):
            return  # it was killed just then; a rename of one name of a file to another of its names does nothing
        os.link(file, temporary)
        os.replace(temporary, previous)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that every reader takes: NaN and infinities as texts."""
    files.write(
        path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def read_record(folder: Path) -> dict[str, Any]:
    """run.json as far as it can be read."""
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def update_record(folder: str | os.PathLike[str], **entries: Any) -> None:
    """Set entries of run.json."""
    write_json(Path(folder) / "run.json", {**read_record(Path(folder)), **entries})


def _facts(setup: Setup) -> dict[str, Any]:
    """What is trained on what, and how, in plain data."""
    identity, source = setup.identity(), setup.source
    origin = (
        {"kind": "arrays", "samples": identity["data"].get("samples")} if source is None else source.origin()
    )
    sizes = {"train": _samples(setup.loader)} | ({} if setup.val is None else {"valid": _samples(setup.val)})
    drawn = {} if setup.split is None else setup.split.to_dict()
    split = origin.pop("split", None) or {"sizes": sizes, **drawn}
    parameters = list(setup.model.parameters())
    groups = identity["optimizer_options"]
    options: dict[str, Any] = next(iter(groups.values()), {})
    return {
        "source": origin, "split": split, "data": {"train": identity["data"], "valid": identity["val"]},
        "model": {
            "class": type(setup.model).__name__, "parameters": sum(p.size for p in parameters),
            "trained": sum(p.size for p in parameters if p.requires_grad),
        },
        "loss": identity["loss"], "optimizer": {"name": identity["optimizer"], **options},
        **({"optimizer_groups": groups} if len(groups) > 1 else {}),
        "scheduler": {"name": identity["scheduler"], **identity["schedule"]} if identity["scheduler"] else None,
        **{k: identity[k] for k in (
            "schedule_by", "clip_norm", "clip_value", "accumulate", "precision", "class_weight", "metrics", "monitor", "mode", "seed",
        )},
        **({"products": products} if (products := said(setup.precision, setup.device)) else {}),
        "lr": None if callable(setup.lr) else setup.lr,
        "epochs": None if setup.epochs == UNLIMITED else setup.epochs, "batch_size": setup.loader.batch_size,
        "compile": setup.compile, "device": setup.device,
    }  # fmt: skip


def _samples(loader: Any) -> int | None:
    """How many samples data have; None where a stream does not say."""
    return len(loader.dataset) if hasattr(loader.dataset, "__getitem__") else None


def _of_arrays(setup: Setup) -> ArrayPreprocessing:
    """What is known of data that came as arrays."""
    from anynet.data.arrays import ArrayPreprocessing  # start-up time: only a run with a folder needs it

    batch = setup.placed(first_batch(setup.loader))
    try:
        inputs, targets = parts_of("fit", batch)[:2]
    except (TypeError, ValueError):  # a module's own step takes what it likes
        inputs, targets = batch, None
    kind = (setup.objective.labels or (None,))[0]
    classes = getattr(setup.loader.dataset, "classes", None)
    integers = isinstance(targets, Tensor) and targets.dtype.kind in ("int", "uint", "bool")
    outputs = {"classes": "classes", "logits": "logits"}.get(kind or "", "values")
    if kind is None and integers:
        outputs = "classes"
    return ArrayPreprocessing.of(
        inputs, outputs=outputs, classes=list(classes) if classes is not None else None
    )
