"""`open`: a trained network, as it can be used again."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anynet import random
from anynet.autograd.pytree import flatten
from anynet.data.opening import remade
from anynet.data.predictions import Predictions
from anynet.data.source import Preprocessing, Source, preprocessing_from_json
from anynet.nn import init
from anynet.nn.description import DescriptionError, build
from anynet.nn.module import Module
from anynet.runs.reading import RunError, checkpoint, json_lines, json_of, json_table
from anynet.runs.scoring import objective_of, scores
from anynet.train import CheckpointError, History, evaluate, predict
from anynet.train.checkpoint import read
from anynet.train.run_folder import holds
from anynet.train.runs import FORMAT

__all__ = ["Run", "open_run", "report"]


def open_run(path: str | os.PathLike[str] | Run, *, classes: Any = None, trust: Any = None) -> Run:
    """The run in a folder, or the network in a best.safetensors alone, ready to be used.

    Parameters:
      path: the folder of a run (``run_dir`` of `fit`, or what `train_on` made), or a best.safetensors that was copied out of one.
      classes: the user's own classes that the network is made of: a class, a module, a dict by name, or several of these.
      trust: the path of a Python file (or several) that defines them; it is executed.

    Nothing of what the files name is imported or executed but this library and what is named here.

    Errors: FileNotFoundError where there is nothing; `RunError`, a ValueError, for everything that is no run, or damaged.

    >>> import anynet as an, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "lines"
    >>> x = an.asarray([[0.0], [1.0], [2.0], [3.0]])
    >>> net = an.nn.Linear(1, 1)
    >>> _ = an.fit(net, (x, 2 * x), loss="mse", lr=0.1, epochs=50, run_dir=folder, progress=False)
    >>> run = an.open(folder)
    >>> run.status, len(run.history), run.model()
    ('done', 50, Linear(in_features=1, out_features=1, bias=True))
    >>> run.predict([[4.0]]).values == [run.model()(an.asarray([[4.0]])).item()]
    True
    """
    if isinstance(path, Run):
        return path
    if not isinstance(path, (str, os.PathLike)):
        msg = f"open: expected the path of a run, got {type(path).__name__} {path!r:.60}"
        raise TypeError(msg)
    place = Path(path)
    if not place.exists():
        msg = f"there is no run at {place}"
        raise FileNotFoundError(msg)
    if place.is_dir():
        return _of_folder(place, classes, trust)
    if place.name in ("run.json", "model.json", "history.jsonl", "last.safetensors"):
        return _of_folder(place.parent, classes, trust)
    return _of_file(place, classes, trust)


def _of_folder(folder: Path, classes: Any, trust: Any) -> Run:
    if (folder / "run.json").exists():
        info = json_table(folder / "run.json")
        if info.get("format") != FORMAT:
            msg = f"{folder / 'run.json'} has format {info.get('format')!r:.60}, this anynet reads {FORMAT}: written by a later one?"
            raise RunError(msg)
        return Run(folder, info, classes, trust)
    if (folder / "settings.json").exists() and any(
        (folder / n).exists() for n in ("last.safetensors", "history.jsonl")
    ):
        info = {"format": None, "settings": json_table(folder / "settings.json")}
        if (folder / "environment.json").exists():
            info["environment"] = json_table(folder / "environment.json")
        return Run(folder, info, classes, trust)
    if (folder / "best.safetensors").is_file():
        return _of_file(folder / "best.safetensors", classes, trust)
    inner = sorted(p.parent.name for p in folder.glob("*/run.json"))[:5]
    hint = f"; the runs in it are {', '.join(inner)}" if inner else ""
    msg = f"{folder} is not the folder of a run: it has no run.json{hint}"
    raise RunError(msg)


def _of_file(file: Path, classes: Any, trust: Any) -> Run:
    try:
        _, metadata = read(file)
    except CheckpointError as error:
        raise RunError(str(error)) from None
    if "anynet.model" not in metadata:
        msg = (
            f"{file} holds weights, but not the network that they are of; make the network and load them: "
            "net.load_state_dict(anynet.load(path))"
        )
        raise RunError(msg)
    return Run(file, {"format": FORMAT, "status": "done"}, classes, trust, metadata)


class Run:
    """A run: its record, its history, and its network. `open` and `train_on` give one.

    Attributes:
      path, name: where it is, and the folder's name.
      info: run.json: command, source, split, model, loss, optimizer, versions, git, device, status, results.
    """

    def __init__(
        self,
        path: Path,
        info: dict[str, Any],
        classes: Any = None,
        trust: Any = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.info = path, info
        self._classes, self._trust, self._metadata = classes, trust, metadata
        self._ready: dict[str, Module] = {}
        self._source: Source | None = None

    # ----- what is known -----

    @property
    def name(self) -> str:
        """The name of the folder, or of the file."""
        return self.path.absolute().name

    @property
    def status(self) -> str:
        """ "running", "done", "stopped" (go on with `resume`), "failed", or "died" for one whose process is gone; "unknown" for
        folders of earlier versions."""
        found = self.info.get("status")
        if found == "running" and holds(self.path) is False:
            return "died"
        return found if isinstance(found, str) else "unknown"

    @property
    def reason(self) -> str | None:
        """Why it stopped or failed."""
        found = self.info.get("reason")
        return None if found is None else str(found)

    @property
    def history(self) -> History:
        """A record for each epoch."""
        history = History(json_lines(self.path / "history.jsonl") if self.path.is_dir() else [])
        best = self.info.get("best")
        history.stopped = self.reason
        history.best_epoch = best.get("epoch") if isinstance(best, Mapping) else None
        return history

    @property
    def results(self) -> dict[str, float]:
        """The results on the test part where there is one, else on the validation part, else of the best epoch."""
        found = self.info.get("results")
        found = found if isinstance(found, Mapping) else {}
        for part in ("test", "valid", "epoch"):
            if isinstance(found.get(part), Mapping):
                return dict(found[part])
        return {}

    @property
    def description(self) -> dict[str, Any]:
        """model.json: the network as plain data (`anynet.nn.description`)."""
        return self._part("model")

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How samples become inputs, and outputs answers; None for folders of earlier versions."""
        if self._metadata is None and not (self.path / "preprocessing.json").exists():
            return None
        data = self._part("preprocessing")
        try:
            return preprocessing_from_json(data)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            msg = f"{self.path}: the preprocessing is damaged: {why:.200}"
            raise RunError(msg) from error

    @property
    def classes(self) -> list[Any] | None:
        """The classes that it tells apart."""
        found = self.preprocessing
        return None if found is None else found.classes

    def _part(self, name: str) -> dict[str, Any]:
        if self._metadata is not None:
            found = json_of(self._metadata.get(f"anynet.{name}", "null"), f"{self.path} ({name})")
            if not isinstance(found, dict):
                msg = f"{self.path} does not say its {name}: expected a table, got {type(found).__name__}"
                raise RunError(msg)
            return found
        file = self.path / f"{name}.json"
        if not file.exists():
            msg = f"{self.path} has no {file.name}: a run of an earlier version; make the network and load its weights"
            raise RunError(msg)
        return json_table(file)

    # ----- the network -----

    def model(
        self, which: str = "best", *, classes: Any = None, trust: Any = None, network: Module | None = None
    ) -> Module:
        """The network with its weights, in evaluation mode: a new one at each call.

        `which`: "best", or "last" (where training ended). `classes`, `trust`: as of `open`. `network`: a network of the user's to put
        the weights into, where it cannot be described.
        """
        if which not in ("best", "last"):
            msg = f"model: which must be 'best' or 'last', got {which!r:.40}"
            raise ValueError(msg)
        state = self._state(which)
        if network is None:
            network = self._network(classes, trust)
        if not isinstance(network, Module):
            msg = f"model: network must be a Module, got {type(network).__name__}"
            raise TypeError(msg)
        network.load_state_dict(state)
        return network.eval()

    def _state(self, which: str) -> dict[str, Any]:
        if self._metadata is not None:
            if which == "last":
                msg = f"{self.path} is the best weights alone; the last are in the folder of the run"
                raise RunError(msg)
            return checkpoint(self.path)
        file = self.path / f"{which}.safetensors"
        if not file.exists():
            other = "last" if which == "best" else "best"
            there = (self.path / f"{other}.safetensors").exists()
            more = f"; which={other!r} is there" if there else "; no epoch has been finished"
            msg = f"{self.path} has no {file.name}{more}"
            raise RunError(msg)
        tree = checkpoint(file)
        state = tree.get("model") if which == "last" else tree
        if not isinstance(state, dict):
            msg = f"{file} is no training state: it has no weights"
            raise RunError(msg)
        return state

    def _network(self, classes: Any, trust: Any) -> Module:
        described = self.description
        if "problem" in described:
            msg = (
                f"the network of {self.path} could not be written down when it was trained: {described['problem']!s:.300}. Make it "
                "yourself and put the weights into it: run.model(network=net)"
            )
            raise RunError(msg)
        try:
            with random.fork_rng(), init.skipped(draw=False):
                network = build(
                    described,
                    self._classes if classes is None else classes,
                    trust=self._trust if trust is None else trust,
                )
        except DescriptionError as error:
            msg = f"{self.path}: {error}"
            raise RunError(msg) from error
        left = described.get("left_out")
        if left:
            shown = ", ".join(map(str, list(left)[:5]))
            warnings.warn(
                f"the network of {self.path} is opened without {shown}, which could not be kept",
                UserWarning,
                stacklevel=3,
            )
        return network

    def _prepared(self, which: str) -> Module:
        if not isinstance(which, str) or which not in self._ready:
            self._ready[which] = self.model(which)
        return self._ready[which]

    # ----- using it -----

    def predict(self, samples: Any, *, which: str = "best", batch_size: int = 256) -> Predictions:
        """The answers for new samples, as they come: rows (a file, a DataFrame, dicts), pictures, texts, or arrays.

        The result is a sequence of answers in the words and units of the data, with probabilities as columns:
        ``run.predict("new.csv").to_csv("out.csv")``.
        """
        preprocessing = self._preprocessing()
        output = predict(self._prepared(which), preprocessing.inputs(samples), batch_size=batch_size)
        return preprocessing.decode(output, samples)

    def _preprocessing(self) -> Preprocessing:
        found = self.preprocessing
        if found is None:
            msg = f"{self.path} is of an earlier version and does not say how samples become inputs; use run.model() and anynet.predict"
            raise RunError(msg)
        return found

    def evaluate(
        self,
        data: Any = None,
        *,
        which: str = "best",
        loss: Any = None,
        metrics: Any = None,
        batch_size: int = 256,
    ) -> dict[str, float]:
        """The loss and the metrics on data with targets.

        `data` is a path, a DataFrame or rows with the target, a `Source` (its test part, else its validation part), or what
        `anynet.evaluate` takes: a pair (inputs, targets), a data set, a loader. None is the test part of the run's own data, or its
        validation part: only if they are still what they were, which their SHA-256 tells.

        For regression rmse, mae and r2 are in the units of the data. Rows of a table count by their weights, where the training had such
        a column and they have it. `loss` and `metrics` are those of the training where not given.
        """
        if data is None or isinstance(data, Source):
            source = self.source() if data is None else data
            data = source.test if source.test is not None else source.valid
            if data is None:
                msg = f"the data of {self.path} have no part for test or validation; give data"
                raise RunError(msg)
        elif not _is_dataset(data):
            preprocessing = self._preprocessing()
            weights = preprocessing.weights(data)
            data = (
                preprocessing.inputs(data),
                preprocessing.targets(data),
                *(() if weights is None else (weights,)),
            )
        model = self._prepared(which)
        objective = objective_of(self.info) if loss is None else loss
        metrics = (
            [m for m in self.info.get("metrics") or [] if isinstance(m, str)] if metrics is None else metrics
        )
        found = evaluate(model, data, loss=objective, metrics=metrics, batch_size=batch_size)
        return found | scores(model, data, self.preprocessing, batch_size)

    def source(self) -> Source:
        """The data that it was trained with, read again; `RunError` where they are not there, or others."""
        if self._source is None:
            origin = self.info.get("source")
            if not isinstance(origin, Mapping):
                msg = f"{self.path} does not say what it was trained on; give the data"
                raise RunError(msg)
            try:
                self._source = remade(origin)
            except (ValueError, FileNotFoundError, TypeError, KeyError, AttributeError) as error:
                msg = f"{self.path}: {error}"
                raise RunError(msg) from error
        return self._source

    def validation(self) -> Any:
        """The data that were held out of the training: a data set, or None."""
        source = self.source()
        return source.valid if source.valid is not None else source.test

    def records(self, name: str) -> list[dict[str, Any]]:
        """What a callback wrote down as NAME.jsonl, a record for each epoch ("statistics", "samples"); none without such a file."""
        file = self.path / f"{name}.jsonl"
        return json_lines(file) if self.path.is_dir() else []

    def training_state(self) -> Mapping[str, Any] | None:
        """The last checkpoint: weights, the optimizer's state; None where there is none."""
        file = self.path / "last.safetensors"
        return checkpoint(file) if self.path.is_dir() and file.exists() else None

    def report(self, out: str | os.PathLike[str] | None = None, *, data: Any = None) -> Path:
        """Write a report of the run as one HTML file, report.html in its folder unless `out` is given; returns its path
        (`anynet.report`, which says what `data` is)."""
        return report(self, out=out, data=data)

    def export(
        self,
        out: str | os.PathLike[str] | None = None,
        *,
        to: str = "torch",
        which: str = "best",
        **options: Any,
    ) -> Any:
        """Take the network elsewhere: ``to`` "torch", "numpy" or "onnx" (see `anynet.export`); returns the certificate."""
        from anynet.runs.exporting import export_run  # start-up time: only where something is exported

        return export_run(self, out, to=to, which=which, **options)

    # ----- showing -----

    def __repr__(self) -> str:
        epochs = len(self.history)
        numbers = ", ".join(
            f"{k} {v:.4g}" for k, v in list(self.results.items())[:3] if isinstance(v, (int, float))
        )
        parts = [self.status, f"{epochs} epoch{'' if epochs == 1 else 's'}" if epochs else "", numbers]
        return f"Run({str(self.path)!r}: {', '.join(p for p in parts if p)})"

    def _repr_html_(self) -> str:
        from anynet.reports import short_html  # much, of which nothing is needed to open a run

        return short_html(self)


def _is_dataset(data: Any) -> bool:
    """Whether data are inputs and targets already: a pair, or a triple with weights, a data set or a loader."""
    if isinstance(data, (str, bytes, os.PathLike, Mapping)) or hasattr(data, "columns"):
        return False
    if isinstance(data, tuple):
        return len(data) in (2, 3) and bool(flatten(data)[0])
    if isinstance(data, list) and len(data) in (2, 3):
        return all(hasattr(part, "dtype") and hasattr(part, "shape") for part in data)
    return (
        not isinstance(data, Sequence)
        and hasattr(data, "__getitem__")
        and not hasattr(data, "dtype")
        and hasattr(data, "__len__")
    )


# ----- reports -----


def report(
    *runs: Run | str | os.PathLike[str], out: str | os.PathLike[str] | None = None, data: Any = None
) -> Path:
    """Write a report as one HTML file that needs nothing else, and return its path: of one run in full, of several against each other.

    Parameters:
      runs: runs, or their folders.
      out: the file; report.html in the folder of the first run unless given.
      data: held-out pairs (inputs, targets) for runs whose own data are not there any more (or were arrays, which are not kept): what
        `anynet.evaluate` takes.

    It opens offline, in light and in dark, on a phone, and prints; each figure has its numbers in a table. What cannot be shown (the
    data have moved, the network is made of unknown classes) is named with the reason.

    >>> import anynet as an, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "lines"
    >>> x = an.asarray([[0.0], [1.0], [2.0], [3.0]])
    >>> _ = an.fit(an.nn.Linear(1, 1), (x, 2 * x), loss="mse", epochs=2, run_dir=folder, progress=False)
    >>> an.report(folder, data=(x, 2 * x)).name
    'report.html'
    """
    from anynet import reports  # much, of which nothing is needed to open a run

    opened = [open_run(run) for run in runs]
    if not opened:
        msg = "report: give at least one run, or its folder"
        raise ValueError(msg)
    if out is None:
        first = opened[0].path
        out = first / "report.html" if first.is_dir() else first.with_suffix(".html")
    return reports.report([_With(run, data) if data is not None else run for run in opened], out)


class _With:
    """A run with data that are given."""

    def __init__(self, run: Run, data: Any) -> None:
        self._run, self._data = run, data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def validation(self) -> Any:
        return self._data

    def source(self) -> Any:
        return None
