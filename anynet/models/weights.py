"""Weights that others have trained: files of PyTorch, Hugging Face, Keras, Flax and Haiku, or modules and state dicts of PyTorch's.

Nothing in a file is run: safetensors are read, and PyTorch's own files (.pt, .pth, .bin, .ckpt) by a reader that makes tensors and
nothing else (`anynet_backends.torch_files`); other pickles are refused.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anynet._hints import closest
from anynet.models.foreign import SUFFIXES
from anynet.nn.errors import StateError
from anynet.nn.members import named_state
from anynet.nn.module import Module
from anynet_backends import registry, torch_files
from anynet_backends.concurrency import late_import
from anynet_backends.safetensors_io import load as read_safetensors

__all__ = ["LoadReport", "load_weights"]

Rename = Mapping[str, str | None] | Callable[[str], str | None]
_SHOWN = 12


@dataclass
class LoadReport:
    """What `load_weights` did: names of the model's tensors that were loaded, and of what did not find its counterpart.

    `missing`: the model has it, the weights have not; `unexpected`: the other way round; `kept`: of the head, left as it was since
    the weights have it in another size or not at all; `ignored`: given the name None. `prefix` was taken off all names. `reordered`:
    loaded in another order, since channels were last where the weights come from, and are first here.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    prefix: str = ""
    reordered: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{len(self.loaded)} tensors loaded"
            + (f" (the prefix {self.prefix!r} taken off)" if self.prefix else "")
        ]
        for name, said in (
            ("missing", "missing in the weights, left as they were"),
            ("unexpected", "unexpected in the weights, not used"),
            ("kept", "of the head, left as they were"),
            ("ignored", "ignored as asked"),
            ("reordered", "reordered from channels last to channels first"),
        ):
            names = getattr(self, name)
            if names:
                more = f", … and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                lines.append(f"{len(names)} {said}: {', '.join(names[:_SHOWN])}{more}")
        return "\n".join(lines)


def load_weights(
    model: Module,
    source: Any,
    *,
    strict: bool = True,
    rename: Rename | None = None,
    head: str = "same",
    channels: str = "first",
) -> LoadReport:
    """Load weights into a model by name; say what was missing and what was left over.

    Parameters:
      source: a .safetensors file, or one of PyTorch's (.pt, .pth, .bin, .ckpt) with a state dict in it; a folder or an index of several
        (….index.json), as Hugging Face's; a file of Keras (.keras, .weights.h5, .h5), Flax or Haiku (.msgpack); a state dict of anynet
        or PyTorch; a PyTorch module. Safetensors are mapped into memory: no second copy of the weights is made.
      strict: every name must have its counterpart, as in PyTorch. With False the report says what had none; that no name at all fits
        is still refused, and so are other shapes.
      rename: what names of the weights are called in the model: a dict of beginnings (``{"backbone.": "", "classifier.": None}``,
        where None leaves tensors out), or a function of the whole name.
      head: "same", or "new": the model's last layer keeps its values where the weights have it for other classes or not at all.
      channels: "first", or "last": how the model flattens places, where it takes weights of Keras, Flax or Haiku.

    Weights of Keras go into the same architecture layer by layer, in their order, unless `rename` says which goes where
    (``{"layers.dense": "fc1"}``) or the names of layers are the model's; those of Flax and Haiku by name (``{"Dense_0": "0"}``). Kernels
    get PyTorch's layout, gates its order, the rows of a Linear behind a convolution that of channels first, as the report says. How ε and
    GRU's reset are set in a .keras file must be as in the model.

    A prefix that all names share ("module.", …) is taken off where the model's names lack it, and a module may know the names of
    others: it defines ``adapt_state(state)``, which gives a state dict of its own (`ResNet`, `ViT`: torchvision's, timm's, Hugging
    Face's). Values get the model's dtype and device. Counters of batch norms that old files lack stay zero.

    Errors: `StateError`, a ValueError, for what does not fit, ValueError for a file that holds other things; nothing is changed then.

    >>> import anynet as an
    >>> trained, net = an.models.MLP(4, 3, hidden=(8,)), an.models.MLP(4, 5, hidden=(8,))
    >>> print(an.models.load_weights(net, trained.state_dict(), head="new"))
    2 tensors loaded
    2 of the head, left as they were: 2.weight, 2.bias
    """
    for name, value, known in (("head", head, ("same", "new")), ("channels", channels, ("first", "last"))):
        if value not in known:
            raise ValueError(f"load_weights: {name} must be {known[0]!r} or {known[1]!r}, got {value!r}")
    if not isinstance(model, Module):
        raise TypeError(f"load_weights: model must be a Module, got {type(model).__name__}")
    report = LoadReport()
    own = dict(named_state(model))
    state = _named(model, source, own, rename, channels, report)
    values = {name: value for name, value in state.items() if name in own}
    report.unexpected = [name for name in state if name not in own]
    ends = _head(model) if head == "new" else set()
    for name in own:
        if name in ends and (name not in values or tuple(values[name].shape) != own[name].shape):
            values.pop(name, None)
            report.kept.append(name)
        elif name not in values and not name.endswith("num_batches_tracked"):
            report.missing.append(name)
    _check(model, report, values, own, strict)
    model.load_state_dict(values, strict=False)
    report.loaded = list(values)
    return report


def _named(
    model: Module,
    source: Any,
    own: Mapping[str, Any],
    rename: Rename | None,
    channels: str,
    report: LoadReport,
) -> dict[str, Any]:
    """The weights under the model's names, as far as they have them, and in its layout."""
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix in SUFFIXES:
        files, layouts = (late_import(f"anynet.models.foreign.{name}") for name in ("files", "layouts"))
        read = files.read(Path(source))
        state = _renamed(read.arrays, rename, report)
        named = callable(rename) or any(new is not None for new in (rename or {}).values())
        state, report.reordered = layouts.adapt(
            model, state, None if named else read.layers, ordered=read.ordered, keras=read.layers is not None, turned=channels == "first",
        )  # fmt: skip
    else:
        state = _without_prefix(_renamed(_tensors(source), rename, report), own, report)
    adapt = getattr(model, "adapt_state", None)
    return dict(adapt(state)) if callable(adapt) else state


def _check(
    model: Module, report: LoadReport, values: Mapping[str, Any], own: Mapping[str, Any], strict: bool
) -> None:
    problems = []
    if strict:
        problems += [f"missing {name}" for name in report.missing]
        for name in report.unexpected:
            near = closest(name, report.missing or own)
            problems.append(f"unexpected {name}" + (f" (did you mean {near}?)" if near else ""))
    if not values:
        problems = [f"no name fits: the model has {_some(own)}; the weights have {_some(report.unexpected)}"]
    last = _head(model)
    for name, value in values.items():
        if tuple(value.shape) != own[name].shape:
            more = "; head='new' leaves the last layer as it is" if name in last else ""
            problems.append(f"{name}: got shape {tuple(value.shape)}, expected {own[name].shape}{more}")
    if problems:
        rest = [f"… and {len(problems) - 20} more"] if len(problems) > 20 else []
        hint = (
            "\nrename= maps names; strict=False loads what fits"
            if report.missing or report.unexpected
            else ""
        )
        shown = "\n  ".join(problems[:20] + rest)
        msg = f"load_weights: the weights do not fit {type(model).__name__}; nothing was changed:\n  {shown}{hint}"
        raise StateError(msg)


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:4]) + (", …" if len(listed) > 4 else "") if listed else "none"


def _head(model: Module) -> set[str]:
    """The names of the tensors of the model's last layer that has a matrix of weights."""
    last: set[str] = set()
    for path, module in model.named_modules():
        own = [name for name, value in vars(module).items() if getattr(value, "ndim", 0) >= 2]
        if own:
            prefix = f"{path}." if path else ""
            last = {prefix + name for name, value in vars(module).items() if hasattr(value, "ndim")}
    return last


# ----- names -----


def _renamed(state: Mapping[str, Any], rename: Rename | None, report: LoadReport) -> dict[str, Any]:
    if rename is None:
        return dict(state)
    found: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, value in state.items():
        new = _new_name(name, rename)
        if new is None:
            report.ignored.append(name)
            continue
        if new in found:
            msg = f"load_weights: rename calls both {origin[new]!r} and {name!r} {new!r}"
            raise ValueError(msg)
        found[new], origin[new] = value, name
    if isinstance(rename, Mapping) and (
        idle := [k for k in rename if not any(name.startswith(k) for name in state)]
    ):
        msg = f"load_weights: rename has {idle[0]!r}, with which no name of the weights begins; they have {_some(state)}"
        raise ValueError(msg)
    return found


def _new_name(name: str, rename: Rename) -> str | None:
    if not isinstance(rename, Mapping):
        return rename(name)
    fitting = max((k for k in rename if name.startswith(k)), key=len, default=None)
    if fitting is None:
        return name
    new = rename[fitting]
    return None if new is None else new + name[len(fitting) :]


def _without_prefix(state: dict[str, Any], own: Mapping[str, Any], report: LoadReport) -> dict[str, Any]:
    """Without the prefixes that all names share and the model's names lack."""
    while state and not any(name in own for name in state):
        first, dot, _ = next(iter(state)).partition(".")
        prefix = first + dot
        if (
            not dot
            or not all(name.startswith(prefix) for name in state)
            or any(k.startswith(prefix) for k in own)
        ):
            break
        state = {name[len(prefix) :]: value for name, value in state.items()}
        report.prefix += prefix
    return state


# ----- where weights come from -----

_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_TORCH = (".pt", ".pth", ".bin", ".ckpt")
_PICKLES = (".pkl", ".pickle")


def _tensors(source: Any) -> Mapping[str, Any]:
    """The tensors by name."""
    where = ""
    if isinstance(source, (str, os.PathLike)):
        where = f" of {source}"
        source = _from_files(Path(source))
    if not isinstance(source, Mapping) and callable(getattr(source, "state_dict", None)):
        source = source.state_dict()
    if not isinstance(source, Mapping):
        msg = f"load_weights: the weights{where} must be a path, a state dict or a module, got {type(source).__name__}"
        raise TypeError(msg)
    for key in ("state_dict", "model"):  # a whole training state
        if isinstance(source.get(key), Mapping):
            source = source[key]
    state = {str(name): value for name, value in source.items() if not str(name).startswith("_metadata")}
    for name, value in state.items():
        if not hasattr(value, "dtype") or not (registry.is_array(value) or hasattr(value, "data")):
            msg = f"load_weights: {name!r}{where} must be an array, got {type(value).__name__}; give the state dict alone"
            raise TypeError(msg)
    return {name: value.detach() if hasattr(value, "detach") else value for name, value in state.items()}


def _in_folder(path: Path) -> Path:
    """The file of weights that is meant by a folder: an index, or a whole file, of safetensors before one of PyTorch's."""
    for name in (_INDICES[0], _WHOLE[0]):
        if (path / name).is_file():
            return path / name
    found = sorted(path.glob("*.safetensors"))
    if len(found) > 1:
        msg = (
            f"load_weights: {path} has several *.safetensors and no {_INDICES[0]}; name the one that is meant"
        )
        raise ValueError(msg)
    found += [path / name for name in (_INDICES[1], _WHOLE[1]) if (path / name).is_file()]
    if not found:
        kinds = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
        msg = f"load_weights: {path} has no *.safetensors and no {_WHOLE[1]}, but {kinds}"
        raise FileNotFoundError(msg)
    return found[0]


def _from_files(path: Path) -> Any:
    if path.is_dir():
        path = _in_folder(path)
    if path.suffix in _PICKLES:
        msg = f"load_weights: {path} is a pickle, which could run anything and is not read; save a state dict as safetensors"
        raise ValueError(msg)
    if not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)):
        msg = (
            f"load_weights: there is no file {path}; of a model on Hugging Face's hub give the file: "
            f"huggingface_hub.hf_hub_download({str(path)!r}, 'model.safetensors')"
        )
        raise FileNotFoundError(msg)
    return dict(_sharded(path)) if path.name.endswith(".index.json") else _from_file(path)


def _from_file(path: Path) -> Any:
    if path.suffix in _TORCH:
        return torch_files.read(path, lambda array, requires_grad: array)
    return read_safetensors(path, mapped=True)[0]


def _sharded(index: Path) -> Iterator[tuple[str, Any]]:
    try:
        table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(table.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"load_weights: {index} is no index of weights ({type(error).__name__}: {error})"
        raise ValueError(msg) from None
    for name in files:
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or not name.endswith((".safetensors", *_TORCH))
        ):
            msg = f"load_weights: {index} names the file {name!r}, which is not one of weights beside it"
            raise ValueError(msg)
        part = _from_file(index.parent / name)
        if not isinstance(part, Mapping):
            msg = f"load_weights: {index.parent / name} must hold a state dict, got {type(part).__name__}"
            raise TypeError(msg)
        lost = [k for k, file in table.items() if file == name and k not in part]
        if lost:
            msg = f"load_weights: {index} says that {name} has {lost[0]!r}, but it has not"
            raise ValueError(msg)
        yield from part.items()
