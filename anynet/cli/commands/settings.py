"""What `train`, `plan` and `profile` have in common: options of the data, of the network and of the training."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import click

from anynet.cli.grammar import Choice, Names, Number, ParamType, Switch, Time, Whole, option
from anynet.data.opening import options_of, source_of
from anynet.data.source import Source

__all__ = ["DATA", "NETWORK", "SEED", "TRAINING", "fit_options", "given_of", "source_given"]

_TABLES, _PICTURES, _TEXTS = "Data: tables", "Data: pictures", "Data: texts"


class _Share(ParamType):
    """A share as a number, or a text (a file, a column)."""

    name = "SHARE|FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        try:
            return float(value)
        except ValueError:
            return str(value)


class _Size(ParamType):
    """A side, or height,width."""

    name = "N|H,W"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[int, ...]:
        sides = tuple(Whole(1).convert(part, param, ctx) for part in str(value).split(","))
        return sides[0] if len(sides) == 1 else sides


_NUMBER = re.compile(r"-?\d+")
"""A target that counts the columns, where none has this name."""

_data = functools.partial(option, group="Data")
_table = functools.partial(option, group=_TABLES)
_network = functools.partial(option, group="Network")

DATA = (
    _data("valid", _Share(), "the share that is held out to choose the best weights by, or a file of its own", shown="by the data"),
    _data("test", _Share(), "the share that is held out for the end, or a file of its own", shown="none"),
    _data("encoding", click.STRING, "of tables and texts: utf-8, latin-1, cp1252, utf-16, …", shown="found", metavar="NAME"),
    _data("limit", Whole(1), "take so many samples of a named data set", shown="all"),
    _table("target", Names(name="COLUMN,…"), "the column to predict (a name, or a number: 0 is the first, -1 the last), or several"),
    _table("task", Choice("regression", "classification"), "what the target is", shown="by the column"),
    _table("ignore", Names(name="COLUMN,…"), "columns to leave out"),
    _table("categorical", Names(name="COLUMN,…"), "columns of numbers that are names"),
    _table("group", click.STRING, "rows with the same value of this column are in the same part", metavar="COLUMN"),
    _table("order", click.STRING, "the column of time, by which the last rows are held out", metavar="COLUMN"),
    _table("weight", click.STRING, "the column of numbers that say how much each row counts", metavar="COLUMN"),
    _table("missing", Choice("auto", "error"), "fill what is missing, or refuse it", shown="auto"),
    _table("separator", click.STRING, "what stands between fields; tab for a tab", shown="found", metavar="CHARACTER"),
    _table("header", Switch(), "whether the first line names the columns", shown="found"),
    _table("names", Names(name="NAME,…"), "names for the columns of a file without a header"),
    option("size", _Size(), "the side of the pictures", shown="that of the files", group=_PICTURES),
    option("augment", Choice("none", "light", "strong"), "random changes to pictures while training", shown="light", group=_PICTURES),
    option("channels", Choice("auto", "1", "3"), "grey or colour", shown="auto", group=_PICTURES),
    option("resize", Choice("crop", "stretch", "pad"), "how pictures of another shape get the size", shown="crop", group=_PICTURES),
    option("broken", Choice("error", "skip"), "refuse pictures that cannot be read, or leave them out", shown="error", group=_PICTURES),
    option(
        "tokens", click.STRING, "char, byte, bpe:2000 (trained on the text) or a tokenizer.json", shown="char", metavar="KIND",
        group=_TEXTS,
    ),
    option("context", Whole(1), "how many tokens the network sees", shown="by the text", group=_TEXTS),
)  # fmt: skip
"""Options of sources; those that the source does not have are refused with what it has."""

NETWORK = (
    _network("model", click.STRING, "mlp, linear; cnn, lenet, resnet9, resnet18, …; gpt, lstm", shown="by the data", metavar="NAME"),
    _network("hidden", Names(Whole(1), "N,N,…"), "the widths of the hidden layers"),
    _network("width", Whole(1), "the width"),
    _network("layers", Whole(1), "how many layers"),
    _network("heads", Whole(1), "heads of attention"),
    _network("activation", click.STRING, "relu, gelu, silu, tanh, …", metavar="NAME"),
    _network("dropout", Number(0, 1), "the share of units that is dropped while training"),
)  # fmt: skip
"""Options of networks; those that the network does not have are refused with what it has."""

SEED = option("seed", Whole(0), "of the split, the first weights and all else that is drawn", 0)

TRAINING = (
    option("epochs", Whole(1), "times through the data", shown="by the data"),
    option("time", Time(), "end after this long, with the course of the learning rate: 60s, 3min, 2h", shown="by the data"),
    option("batch_size", Whole(1), "samples an update", shown="by the data"),
    option("lr", Number(0), "the (largest) learning rate", shown="by the data"),
    option("optimizer", click.STRING, "sgd, adam, adamw, lion, …", shown="by the data", metavar="NAME"),
    option("momentum", Number(0, 1), "momentum, of an optimizer that has it"),
    option("weight_decay", Number(0), "decay of the weights, of an optimizer that has it", shown="the optimizer's"),
    option("schedule", Choice("cosine", "onecycle", "constant"), "the course of the learning rate", shown="by the data"),
    option("loss", click.STRING, "cross_entropy, mse, l1, huber, …", shown="by the data", metavar="NAME"),
    option("metrics", Names(), "what is measured besides the loss: accuracy, f1, rmse, r2, …", shown="by the data"),
    option("label_smoothing", Number(0, 1), "of loss=cross_entropy: the share of a target that goes to all classes"),
    option("class_weight", click.STRING, "balanced, or the weights of classes: cat=1,dog=2.5", metavar="WEIGHTS"),
    option("clip_norm", Number(0), "the largest norm that the gradient may have"),
    option("clip_value", Number(0), "the largest size of each number in the gradient"),
    option("accumulate", Whole(1), "update once in so many batches", shown="1"),
    option("precision", Choice("float32", "float64", "tf32", "mixed-bf16", "mixed-fp16"), "of all, or of products", shown="the network's"),
    option("monitor", click.STRING, "what makes an epoch the best", shown="val_loss", metavar="NAME"),
    option("restore_best", Choice("yes", "no"), "end with the weights of the best epoch", "yes"),
    option("checkpoint_every", click.STRING, "save within epochs, too: every so many batches, or 30s, 10min", metavar="TIME"),
    option("patience", Whole(1), "stop after so many epochs without improvement"),
    option("callbacks", Names(), "what else is recorded or done: statistics (of layers), csv, tensorboard, ema", shown="by the data"),
    option("device", click.STRING, "cpu, cuda, cuda:1, auto", "auto", metavar="DEVICE"),
    option("compile", Choice("auto", "yes", "no"), "replay the step as one program", "auto"),
)  # fmt: skip
"""Options of the training."""


def given_of(values: Mapping[str, Any], options: tuple[click.Option, ...]) -> dict[str, Any]:
    """The options of a group that were given."""
    names = [o.name for o in options if o.name is not None]
    found = {n: values[n] for n in names if values.get(n) is not None}
    if "target" in found:
        columns = [int(t) if _NUMBER.fullmatch(t) else t for t in found["target"]]
        found["target"] = columns[0] if len(columns) == 1 else columns
    if found.get("separator", "").lower() in ("tab", "\\t"):
        found["separator"] = "\t"
    if found.get("channels", "auto") != "auto":
        found["channels"] = int(found["channels"])
    if "order" in found:
        found["time"] = found.pop("order")
    return found


def source_given(source: Any, values: Mapping[str, Any]) -> Source:
    """The source of a command line."""
    options = given_of(values, DATA)
    if "seed" in options_of(source, options):
        options["seed"] = values["seed"]
    return source_of(source, **options)


def _class_weight(text: str) -> str | dict[str, float]:
    """ "balanced", or {class: weight} from ``cat=1,dog=2.5``."""
    if text == "balanced":
        return text
    found: dict[str, float] = {}
    for part in text.split(","):
        name, sign, weight = part.strip().rpartition("=")
        try:
            found[name] = float(weight)
        except ValueError:
            sign = ""
        if not sign or not name:
            raise click.UsageError(
                f"class_weight must be balanced, or the weights of classes such as cat=1,dog=2.5, got {text!r}"
            )
    return found


def fit_options(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the training as `anynet.fit` takes them; `usual` are those of the data."""
    found = given_of(values, TRAINING)
    for name, of in (("momentum", "optimizer"), ("label_smoothing", "loss")):
        if name in found:
            found[of] = {"name": found.get(of, usual[of]), name: found.pop(name)}
    if "class_weight" in found:
        found["class_weight"] = _class_weight(found["class_weight"])
    if found.get("checkpoint_every", "").isdigit():
        found["checkpoint_every"] = int(found["checkpoint_every"])
    if "restore_best" in found:
        found["restore_best"] = found["restore_best"] == "yes"
    if "schedule" in found:
        schedule = found.pop("schedule")
        found["scheduler"] = None if schedule == "constant" else schedule
    names = found.pop("callbacks", ())
    if "patience" in found:
        names = [*names, {"name": "early_stopping", "patience": found.pop("patience")}]
    if names:
        found["callbacks"] = list(names)
    if "compile" in found:
        found["compile"] = {"auto": "auto", "yes": True, "no": False}[found["compile"]]
    return found
