"""Progress: a bar in terminals and notebooks, one plain line an epoch elsewhere."""

from __future__ import annotations

import html
import importlib
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from anynet.train.objectives import rows
from anynet.train.streams import UNLIMITED

if TYPE_CHECKING:
    from anynet.train.training import Training

__all__ = ["Progress", "duration", "line"]


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(0.0123), duration(3.21), duration(75), duration(4000)
    ('12 ms', '3.2 s', '1 min 15 s', '1 h 06 min')
    """
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms" if seconds >= 0.0095 else f"{seconds * 1e3:.1f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def line(epoch: int, epochs: int, record: Mapping[str, Any]) -> str:
    """One epoch as text: ``epoch  3/10  loss 0.1234  val_accuracy 0.9750  lr 0.001  12 ms``."""
    parts = [f"epoch {_of(epoch, epochs)}", _numbers(record)]
    if "lr" in record:
        parts.append(f"lr {record['lr']:.3g}")
    if "seconds" in record:
        parts.append(duration(record["seconds"]))
    return "  ".join(part for part in parts if part)


def _of(epoch: int, epochs: int) -> str:
    return str(epoch) if epochs >= UNLIMITED else f"{epoch:>{len(str(epochs))}}/{epochs}"


def _numbers(record: Mapping[str, Any]) -> str:
    shown = {k: v for k, v in record.items() if isinstance(v, float) and k not in ("seconds", "lr")}
    return "  ".join(f"{k} {v:.4f}" if v == 0 or abs(v) >= 1e-3 else f"{k} {v:.3g}" for k, v in shown.items())


class _Lines:
    """Where there is nothing that can be redrawn."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def print(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def draw(self, share: float | None, before: str, after: str) -> None:
        """Nothing is redrawn."""

    def close(self) -> None:
        """Nothing is open."""


class _Terminal(_Lines):
    """A line that is redrawn, by rich."""

    def __init__(self, stream: TextIO) -> None:
        # start-up time: only a terminal has a bar
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        super().__init__(stream)
        columns = (
            TextColumn("{task.fields[before]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[after]}"),
        )
        self.bar = Bar(*columns, console=Console(file=stream), transient=True, auto_refresh=False)
        self.bar.start()
        self.task = self.bar.add_task("", total=1.0, before="", after="")

    def print(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False)

    def draw(self, share: float | None, before: str, after: str) -> None:
        total = None if share is None else 1.0
        self.bar.update(
            self.task, total=total, completed=share or 0.0, before=before, after=after, refresh=True
        )

    def close(self) -> None:
        self.bar.stop()


class _Notebook(_Lines):
    """An output of the cell that is replaced, with the lines of the epochs above."""

    def __init__(self, stream: TextIO) -> None:
        shown: Any = importlib.import_module("IPython.display")

        super().__init__(stream)
        self.html = shown.HTML
        self.lines: list[str] = []
        self.bar = ""
        self.handle: Any = shown.display(self.html(""), display_id=True)

    def print(self, text: str) -> None:
        self.lines.append(html.escape(text))
        self.show()

    def draw(self, share: float | None, before: str, after: str) -> None:
        value = "" if share is None else f' value="{share:.4f}"'
        self.bar = (
            f'<div>{html.escape(before)} <progress max="1"{value}></progress> {html.escape(after)}</div>'
        )
        self.show()

    def show(self) -> None:
        text = "\n".join(self.lines)
        self.handle.update(self.html(f'<pre style="margin:0">{text}</pre>{self.bar}'))

    def close(self) -> None:
        self.bar = ""
        self.show()


def _display(stream: TextIO) -> _Lines:
    """What suits the place where the output goes."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None and "IPKernelApp" in getattr(shell, "config", ()):
        return _Notebook(stream)
    return _Terminal(stream) if stream.isatty() else _Lines(stream)


class Progress:
    """Shows how far training is. A redrawing is due four hundred times as long after the last one as that took, so that the bar and the
    numbers in it cost at most a quarter of a hundredth of the time."""

    def __init__(
        self, epochs: int, batches: int | None, *, on: bool = True, stream: TextIO | None = None
    ) -> None:
        self.epochs, self.batches = epochs, batches
        self.stream = stream if stream is not None else sys.stdout
        self.on, self.display = on, _Lines(self.stream)
        self.live = False
        self._next = self._began = self._epoch_began = self._pause_ended = 0.0
        self._done = self._done_before = 0
        self._epoch = 0

    def __enter__(self) -> Progress:
        if self.on:
            self.display = _display(self.stream)
            self.live = type(self.display) is not _Lines
        self._began = self._pause_ended = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.display.close()

    def batch(self, run: Training) -> None:
        """Redraw the bar, where that is due."""
        if not self.live:
            return
        self._done += 1
        now = time.perf_counter()
        if run.epoch != self._epoch:
            self._epoch, self._epoch_began, self._done_before = run.epoch, self._pause_ended, self._done - 1
        if now < self._next:
            return
        share = None if not self.batches else min(run.batch / self.batches, 1.0)
        counted = f"{run.batch}/{self.batches}" if self.batches else f"{run.batch}"
        self.display.draw(
            share,
            f"epoch {_of(run.epoch, self.epochs)}",
            "  ".join([counted, *self._speed(run, now), _numbers(run.metrics)]),
        )
        after = time.perf_counter()
        self._next = after + max(0.1, 400 * (after - now))

    def _speed(self, run: Training, now: float) -> list[str]:
        parts = []
        batches, spent = self._done - self._done_before, now - self._epoch_began
        if batches and spent > 0:
            parts.append(f"{batches * rows(run.inputs) / spent:,.0f} samples/s")
        if self.batches and self.epochs < UNLIMITED:
            left = (self.epochs - run.epoch + 1) * self.batches - run.batch
            parts.append(f"{duration((now - self._began) / self._done * left)} left")
        return parts

    def epoch(self, epoch: int, record: Mapping[str, Any]) -> None:
        """Print the line of a finished epoch."""
        self.note(line(epoch, self.epochs, record))
        self._pause_ended = time.perf_counter()

    def note(self, text: str) -> None:
        """Print a line."""
        if self.on:
            self.display.print(text)
