"""`train_on`: from data to a trained network that is ready to be used; `resume`: going on."""

from __future__ import annotations

import inspect
import json
import os
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anynet import random
from anynet._hints import nearest
from anynet.data.opening import options_of, source_of
from anynet.data.source import Source
from anynet.distributed import failing_together, world
from anynet.nn.module import Module
from anynet.runs.reading import RunError
from anynet.runs.run import Run, open_run
from anynet.train import Callback, fit, unique_folder
from anynet.train.runs import update_record

__all__ = ["resume", "train_on"]

_OWN = frozenset({"model", "train", "val", "run_dir", "epochs", "seed", "progress", "resume", "settings"})
_ALIASES = {
    "learning_rate": "lr",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "validation_split": "valid",
    "bs": "batch_size",
}
_FIT = frozenset(inspect.signature(fit).parameters) - _OWN


def train_on(
    source: Any,
    *,
    model: Module | str | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    epochs: int | None = None,
    time: str | float | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Train a network on data and return its `Run`, ready to predict.

    Parameters:
      source: a path (a table, a folder of pictures, a text), the name of a data set, a DataFrame, or a `Source`: what it is follows
        from what it is (`anynet.data.opening.source_of`).
      model: a network, the name of one that the source has, or None for what suits the data.
      run_dir: the folder of the run; None: runs/NAME-TIME.
      epochs: how many; None for what suits the data.
      time: a limit, such as "60s" or "3min", after which training ends with the best weights so far.
      seed: of the split (where the source is made here), the initial weights, the shuffles and the masks.
      options: those of the source (``target=``, ``valid=``, ``size=``, …), of `anynet.fit` (``lr=``, ``optimizer=``,
        ``batch_size=``, ``callbacks=``, …), and of the network (``hidden=``, ``dropout=``, …), each by its name.

    What is not given follows from the data: network, loss, metrics, optimizer, learning rate and its course. At the end the best
    weights are evaluated on the test part, or on the validation part (``run.results``).

    Errors: what cannot be meant is refused before anything is trained or written.

    >>> import anynet as an, tempfile, pathlib
    >>> rows = {"x": [i / 10 for i in range(100)], "y": [3 * i / 10 + 1 for i in range(100)]}
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "line"
    >>> run = an.train_on(rows, target="y", epochs=2, run_dir=folder, progress=False)
    >>> run.status, sorted(run.results)
    ('done', ['loss', 'mae', 'r2', 'rmse'])
    >>> len(run.predict({"x": [1.0, 2.0]}))
    2
    """
    for_fit = {k: v for k, v in options.items() if k in _FIT}
    source, made_with, for_network = _source(
        source, {k: v for k, v in options.items() if k not in _FIT}, seed
    )
    if isinstance(model, Module) and for_network:
        name = next(iter(for_network))
        msg = f"train_on has no option {name!r}{_near(name, source)}"
        raise TypeError(msg)
    named = model if isinstance(model, str) else None
    with random.fork_rng(seed):
        network = model if isinstance(model, Module) else _network(source, named, for_network)
    if time is not None:
        for_fit["time_limit"] = time
    chosen = _chosen(source, for_fit, epochs)
    if (model is not None or for_network) and "time_limit" not in for_fit:
        chosen = {k: v for k, v in chosen.items() if k != "time_limit"}  # it was for the usual network
    given = {
        "network": None if isinstance(model, Module) else {"name": named, **for_network},
        "fit": chosen, "seed": seed, "source": made_with, "own_limit": "time_limit" in for_fit,
    }  # fmt: skip
    folder = _folder(source) if run_dir is None else Path(run_dir)
    return _run(network, source, folder, chosen, seed, progress, given, resumed=False)


def resume(
    run: Run | str | os.PathLike[str],
    *,
    source: Any = None,
    epochs: int | None = None,
    time: str | float | None = None,
    classes: Any = None,
    trust: Any = None,
    progress: bool = True,
) -> Run:
    """Go on with a run of `train_on` that was stopped or killed, bit for bit as if it had not been.

    Everything comes from its folder: data (if they are still the same, by their SHA-256; else give `source`), network and
    options. `epochs`, `time`: how many epochs there are to be, and how long it may take, in all, where other than before (the run's
    settings say so from then on): an epoch that the limit of time had cut short goes on where it was. `classes`, `trust`: as of
    `open`. A run of `fit` in a script goes on there, with ``fit(…, resume=True)``.

    Errors: `RunError` for a run that cannot be taken up from its folder alone; the message says why.
    """
    found = open_run(run, classes=classes, trust=trust)
    settings = found.info.get("settings")
    given = settings.get("train_on") if isinstance(settings, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(given.get("fit"), Mapping) or not found.path.is_dir():
        how = f"fit(…, run_dir={str(found.path)!r}, resume=True)"
        msg = f"{found.path} was not made by train_on: go on in the script that made it, with {how}"
        raise RunError(msg)
    lost = [k for k, v in given["fit"].items() if "$lost" in json.dumps(v)]
    if lost:
        msg = f"{found.path} was trained with {', '.join(lost)} that a file cannot hold; go on in the script, with fit(…, resume=True)"
        raise RunError(msg)
    if found.status == "running":
        msg = f"{found.path} is still running"
        raise RunError(msg)
    data = found.source() if source is None else source_of(source)
    chosen = {**given["fit"]} | ({} if epochs is None else {"epochs": epochs})
    if time is not None:
        chosen["time_limit"] = time
    elif epochs is not None and given.get("own_limit") is False and "time_limit" in chosen:
        chosen["time_limit"] = 1e9  # the usual limit was for the usual number of epochs
    asked = {**given, "fit": chosen, "own_limit": time is not None or given.get("own_limit", True)}
    if (found.path / "last.safetensors").exists():
        network = found._network(classes, trust).train()
    elif isinstance(
        given.get("network"), Mapping
    ):  # killed before the first checkpoint: its first weights, drawn again
        with random.fork_rng(int(given.get("seed") or 0)):
            network = _network(
                data, given["network"].get("name"), {k: v for k, v in given["network"].items() if k != "name"}
            )
    else:
        msg = f"{found.path} has no checkpoint, and its network was a module of the script: begin again there"
        raise RunError(msg)
    return _run(network, data, found.path, chosen, int(given.get("seed") or 0), progress, asked, resumed=True)


def _chosen(source: Source, given: dict[str, Any], epochs: int | None) -> dict[str, Any]:
    """What suits the data, and in its place what was given; callbacks stand beside those that suit the data."""
    usual = dict(source.defaults())
    optimizer = given.get("optimizer")
    if (isinstance(optimizer, Mapping) and "lr" in optimizer) or hasattr(optimizer, "param_groups"):
        usual.pop("lr", None)  # it has its own
    if epochs is not None or given.get("steps") is not None:
        usual.pop("time_limit", None)
    chosen = {**usual, **given} | ({} if epochs is None else {"epochs": epochs})
    if "callbacks" in usual and "callbacks" in given:
        more = given["callbacks"]
        more = [more] if isinstance(more, (Callback, str, Mapping)) else list(more)
        chosen["callbacks"] = [*usual["callbacks"], *(c for c in more if c not in usual["callbacks"])]
    return chosen


def _run(
    network: Module, source: Source, folder: Path, chosen: dict[str, Any], seed: int, progress: bool, given: dict[str, Any], *,
    resumed: bool,
) -> Run:  # fmt: skip
    val = source.valid if source.valid is not None else None
    settings = {"train_on": _as_json(given)}
    group = world()
    with failing_together(group):
        group.barrier()  # of several processes all have looked at the folder before the first one writes into it
        fit(
            network, source, val, run_dir=folder, seed=seed, progress=progress, resume=resumed,
            settings=settings, **chosen,
        )  # fmt: skip
        if group.rank == 0:
            run = open_run(folder, classes=network)
            results = dict(run.info.get("results") or {})
            for part in ("valid", "test"):
                data = getattr(source, part)
                if data is not None and (folder / "best.safetensors").exists():
                    results[part] = run.evaluate(
                        data, loss=chosen.get("loss"), metrics=chosen.get("metrics", ())
                    )
            update_record(folder, results=results)
        group.barrier()
        run = open_run(folder, classes=network)
        group.barrier()  # the next training may write into it
    run._source = source
    return run


def _source(source: Any, options: dict[str, Any], seed: int) -> tuple[Source, dict[str, Any], dict[str, Any]]:
    """The source; the options that it was made with, and those that are left for the network."""
    if isinstance(source, Source):
        return source, {}, options
    known = options_of(source, [k for k, v in options.items() if v is not None])
    own = {k: v for k, v in options.items() if k in known}
    if "seed" in known:
        own["seed"] = seed
    return source_of(source, **own), own, {k: v for k, v in options.items() if k not in known}


def _network(source: Source, name: str | None, settings: dict[str, Any]) -> Module:
    try:
        return source.network(name, **settings)
    except (TypeError, ValueError) as error:
        wrong = next((k for k in settings if repr(k) in str(error)), None)
        if wrong is None:
            raise
        msg = f"train_on has no option {wrong!r}{_near(wrong, source)}. {error}"
        raise TypeError(msg) from None


def _near(name: str, source: Source) -> str:
    known = [
        *inspect.signature(type(source).__init__).parameters,
        *_FIT,
        "epochs",
        "time",
        "seed",
        "run_dir",
        "model",
    ]
    if name in _ALIASES:
        return f"; it is called {_ALIASES[name]}"
    found = nearest(name, [k for k in known if k not in ("self", "source", "name", "root")], everything=False)
    return (
        found
        or f"; options of the training are those of anynet.fit, of the data those of {type(source).__name__}"
    )


def _folder(source: Source) -> Path:
    """A new folder; of several processes the first one makes it."""
    group = world()
    with failing_together(group):
        found: Path = group.gather(_new_folder(source) if group.rank == 0 else None)[0]
    return found


def _new_folder(source: Source) -> Path:
    origin = source.origin()
    path = origin.get("path")
    path = path[0] if isinstance(path, list) and path else path
    stem = Path(str(path)).name.split(".")[0] if path else str(origin.get("kind", "run"))
    return unique_folder(Path("runs") / f"{stem or 'run'}-{clock.strftime('%Y%m%d-%H%M%S')}")


def _as_json(value: Any) -> Any:
    """Options as JSON; what has no such form says so, and such a run is not resumed from its folder."""
    if isinstance(value, Mapping):
        return {str(k): _as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(v) for v in value]
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return {"$lost": f"{type(value).__name__}"}
    return value
