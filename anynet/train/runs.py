"""The folder of a run: settings, environment, history and checkpoints."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from anynet.train.checkpoint import load, save
from anynet.train.run_folder import RunFolder
from anynet.train.state import NonFiniteError, TrainingState, first_non_finite, non_finite
from anynet_backends import files

__all__ = ["Run", "environment"]


class Run:
    """The folder of a run, held while it trains."""

    def __init__(self, folder: str | os.PathLike[str] | None, resume: bool, settings: dict[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        self.resume, self.settings = resume, settings
        self.lock = None if folder is None else RunFolder(folder)
        self.known: frozenset[str] = frozenset()

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

    def last(self) -> dict[str, Any] | None:
        """The last checkpoint; None where the run had none yet."""
        if self.folder is None:
            return None
        file = self.folder / "last.safetensors"
        if not file.exists() and (self.folder / "settings.json").exists():
            return None
        return load(file)

    def expect_finite(self, state: TrainingState) -> None:
        """Remember which arrays hold infinities from the beginning (a mask, say): others never get into a file."""
        if self.folder is not None:
            self.known = frozenset(non_finite(state.tree()))

    def save_last(self, state: TrainingState) -> None:
        """The checkpoint to go on from, and the history."""
        if self.folder is None:
            return
        tree = state.tree()
        self._save("last.safetensors", tree, tree)
        files.write(self.folder / "history.jsonl", "".join(json.dumps(r) + "\n" for r in state.history))

    def save_best(self, state: TrainingState) -> None:
        """The weights of the best epoch so far, as they are now."""
        if self.folder is not None:
            weights = dict(state.model.state_dict())
            self._save("best.safetensors", weights, {"model": weights})

    def farewell(self, state: TrainingState) -> str:
        """Where a run that was interrupted is, and how to go on."""
        at = f"stopped in epoch {state.epoch + 1} after batch {state.batch}"
        if self.folder is None:
            return f"{at}; there is no run_dir, so nothing was saved"
        return f"{at}; go on with: anynet resume {self.folder} (in a script: fit(…, resume=True))"

    def _save(self, name: str, tree: dict[str, Any], looked_at: dict[str, Any]) -> None:
        file = self.folder / name  # type: ignore[operator]
        wrong = first_non_finite(looked_at, self.known)
        if wrong is not None:
            kept = f"{file} is left as it was" if file.exists() else f"{file} was not written"
            msg = f"{wrong} holds NaN or infinite numbers; {kept}. Try a smaller learning rate or clip_norm"
            raise NonFiniteError(msg)
        save(file, tree)


def environment() -> dict[str, Any]:
    """Versions and devices, for the run folder and `anynet doctor`."""
    # start-up time: only a run with a folder asks
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
