"""What a report needs of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from anynet.data.source import Preprocessing
    from anynet.nn.module import Module

__all__ = ["ReportedRun"]


class ReportedRun(Protocol):
    """A run as a report reads it. What is not there is None or empty, or raises an error whose message the report then shows."""

    @property
    def name(self) -> str:
        """The name to show: the folder's."""

    @property
    def info(self) -> Mapping[str, Any]:
        """run.json: command, source, split, loss, optimizer, versions, git, device, status, results."""

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """A record for each epoch."""

    def records(self, name: str) -> Sequence[Mapping[str, Any]]:
        """What a callback wrote down, a record for each epoch: "statistics", "samples"; none where there is no such file."""

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How samples become inputs, and outputs answers."""

    def model(self) -> Module:
        """The network with its best weights."""

    def source(self) -> Any:
        """The data that it was trained with (`anynet.data.Source`), read again; raises where they are not there."""

    def validation(self) -> Any:
        """The data that were held out, as pairs (inputs, targets): a data set, a loader or two arrays; None where there are none."""

    def training_state(self) -> Mapping[str, Any] | None:
        """The last checkpoint as `anynet.load` gives it: weights, the optimizer's state; None where there is none."""
