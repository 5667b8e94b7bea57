"""What a network of texts writes while it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anynet.data.text import TextPreprocessing
from anynet.generation import generate
from anynet.train.callbacks import Callback
from anynet.train.checks import whole_number
from anynet.train.records import append_record

if TYPE_CHECKING:
    from anynet.data.source import Preprocessing
    from anynet.train.training import Training

__all__ = ["FILE", "TextSamples"]

FILE = "samples.jsonl"


class TextSamples(Callback):
    """After each epoch `length` tokens that the network writes, in `records` and as ``samples.jsonl`` in the run's folder.

    A record is ``{"epoch": 1, "prompt": "To ", "text": "…"}``; `prompt` is a new line unless given, or where the vocabulary has none its
    first token. Prompt, temperature and seed are the same each time, so that the texts
    differ by what was learned alone. `preprocessing` is that of the text (None: of the `Source` that `fit` was given). The random
    streams of the training are not touched. Errors: those of `anynet.generate`, before the training begins.
    """

    writes = True

    def __init__(
        self, prompt: str | None = None, *, length: int = 200, temperature: float = 0.8, seed: int = 0,
        preprocessing: Preprocessing | None = None,
    ) -> None:  # fmt: skip
        self.prompt, self.temperature, self.seed = prompt, temperature, seed
        self.length = whole_number("TextSamples", "length", length, 1)
        self.preprocessing = preprocessing
        self.records: list[dict[str, Any]] = []

    def on_train_begin(self, run: Training) -> None:
        """Begin with no records, and refuse what cannot be written."""
        self.records = []
        if self.prompt is None:
            self.prompt = "\n"
            try:
                self._written(run, 0)
            except ValueError:
                found = self._coder(run)
                self.prompt = found.decode_ids([0]) if isinstance(found, TextPreprocessing) else "\n"
        self._written(run, 0)

    def on_epoch_end(self, run: Training) -> None:
        """Write."""
        self.records.append(
            {"epoch": run.epoch, "prompt": self.prompt, "text": self._written(run, self.length)}
        )
        if run.folder is not None:
            append_record(run.folder / FILE, self.records[-1])

    def _coder(self, run: Training) -> Preprocessing | None:
        return self.preprocessing if self.preprocessing is not None else run.setup.preprocessing

    def _written(self, run: Training, length: int) -> str:
        pieces = generate(
            run.model, self.prompt, length=length, temperature=self.temperature, seed=self.seed,
            preprocessing=self._coder(run),
        )  # fmt: skip
        return "".join(pieces)
