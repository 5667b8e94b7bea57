"""The folder of a run: settings, environment, history and checkpoints."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from anynet.train.checkpoint import load, save
from anynet.train.run_folder import RunFolder
from anynet.train.state import TrainingState
from anynet_backends import files

__all__ = ["Run", "environment"]


class Run:
    """The folder of a run, held while it trains."""

    def __init__(self, folder: str | os.PathLike[str] | None, resume: bool, settings: dict[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        self.resume, self.settings = resume, settings
        self.lock = None if folder is None else RunFolder(folder)

    def __enter__(self) -> Run:
        if self.lock is None or self.folder is None:
            return self
        if self.resume and not self.folder.is_dir():
            msg = f"no run to resume at {self.folder}"
            raise FileNotFoundError(msg)
        self.lock.acquire()
        try:
            if not self.resume:
                self.begin(self.folder)
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.lock is not None:
            self.lock.release()

    def begin(self, folder: Path) -> None:
        """Refuse a folder with a run in it; write down what this one is."""
        if (folder / "last.safetensors").exists():
            msg = f"{folder} holds a run already; resume it, or choose another run_dir"
            raise FileExistsError(msg)
        files.write(folder / "settings.json", json.dumps(self.settings, indent=2) + "\n")
        files.write(folder / "environment.json", json.dumps(environment(), indent=2) + "\n")

    def last(self) -> dict[str, Any]:
        return load(self.folder / "last.safetensors")  # type: ignore[operator]

    def epoch(self, state: TrainingState, record: dict[str, Any], monitor: str) -> None:
        value = -record[monitor] if "accuracy" in monitor else record[monitor]
        best = value < state.best
        if best:
            state.best = value
        if self.folder is None:
            return
        files.write(self.folder / "history.jsonl", "".join(json.dumps(r) + "\n" for r in state.history))
        if best:
            save(self.folder / "best.safetensors", dict(state.model.state_dict()))
        save(self.folder / "last.safetensors", state.tree())

    def interrupt(self, state: TrainingState) -> str:
        at = f"stopped in epoch {state.epoch + 1} after batch {state.batch}"
        if self.folder is None:
            return f"{at}; there is no run_dir, so nothing was saved"
        save(self.folder / "last.safetensors", state.tree())
        return f"{at}; go on with: anynet resume {self.folder}"


def environment() -> dict[str, Any]:
    """Versions and devices, for the run folder and `anynet doctor`."""
    import platform

    import anynet_backends
    from anynet._version import __version__

    return {
        "anynet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: xp.versions() for name, xp in anynet_backends.loaded().items()},
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
