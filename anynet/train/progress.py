"""Progress: a live line on a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

__all__ = ["Progress", "line"]


def line(epoch: int, epochs: int, record: Mapping[str, Any]) -> str:
    """One epoch as text: ``epoch  3/10  loss 0.1234  val_accuracy 0.9750  1.2 s``."""
    parts = [f"epoch {epoch:>{len(str(epochs))}}/{epochs}"]
    parts += [
        f"{k} {v:.4f}" for k, v in record.items() if isinstance(v, float) and k not in ("seconds", "lr")
    ]
    if "lr" in record:
        parts.append(f"lr {record['lr']:.3g}")
    if "seconds" in record:
        parts.append(f"{record['seconds']:.1f} s")
    return "  ".join(parts)


class Progress:
    """Shows how far training is: a bar that is redrawn where `stream` is a terminal, else one line an epoch."""

    def __init__(self, epochs: int, batches: int, *, on: bool = True, stream: TextIO | None = None) -> None:
        self.epochs, self.batches, self.on = epochs, batches, on
        self.stream = stream if stream is not None else sys.stdout
        self.live: Any = None
        self.task: Any = None
        self._last = 0.0
        if on and self.stream.isatty():
            # start-up time: only a terminal has a bar
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.live = Bar(
                TextColumn("epoch {task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"), TimeRemainingColumn(), console=Console(file=self.stream), transient=True,
            )  # fmt: skip

    def __enter__(self) -> Progress:
        if self.live is not None:
            self.live.start()
            self.task = self.live.add_task("", total=self.batches, epoch="", note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def batch(self, epoch: int, done: int, loss: float) -> None:
        """Redraw the bar, at most ten times a second."""
        if self.live is not None and (now := time.monotonic()) - self._last > 0.1:
            self._last = now
            self.live.update(
                self.task, completed=done, epoch=f"{epoch}/{self.epochs}", note=f"loss {loss:.4f}"
            )

    def epoch(self, epoch: int, record: Mapping[str, Any]) -> None:
        """Print the line of a finished epoch."""
        if not self.on:
            return
        text = line(epoch, self.epochs, record)
        if self.live is not None:
            self.live.console.print(text, highlight=False)
        else:
            print(text, file=self.stream, flush=True)
