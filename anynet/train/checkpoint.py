"""Checkpoints: one safetensors file holds the arrays, and beside them, as JSON in its header, everything else.

A checkpoint is a tree of dicts, lists, numbers, strings and arrays. The arrays become tensors of the file, named by
their path in the tree; the rest is JSON with ``{"$tensor": path}`` in their places. (complex128, which safetensors has
not, is stored as real and imaginary parts along a last axis, ``{"$complex": path}``.) Never pickle, never an importable
name. A SHA-256 of the whole file is among its metadata (`anynet_backends.safetensors_io`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anynet.tensor import Tensor, unwrap, wrap
from anynet_backends import backend_of, files, registry, resolve, safetensors_io

__all__ = ["CheckpointError", "load", "packed", "read", "save"]

_KEY = "anynet"  # of the entry of metadata that describes the tree: {"version": …, "tree": …}
_VERSION = 3  # 2, the first, had no checksum


class CheckpointError(ValueError):
    """A file that is not a checkpoint, is damaged, or belongs to something else."""


# names of other formats
_OTHERS = frozenset((".pt", ".pth", ".pkl", ".pickle", ".npz", ".npy", ".h5", ".keras", ".onnx"))


def save(
    path: str | os.PathLike[str], tree: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a tree of dicts, lists, scalars, strings and arrays (a ``state_dict``, say) to one safetensors file.

    A flat dict of Tensors is stored under its own names, so that other programs read it as ordinary weights. The file
    carries a SHA-256 of all of it, which `load` checks. It is written beside `path` and takes its place in one step:
    even after a kill or on a full disk, `path` is the old file or the new one, whole. What killed processes
    left of theirs is removed. `metadata` are further texts for the header, by name.

    Errors, before anything is written: TypeError for what is no data, ValueError for a tree that contains itself or has
    two arrays of one name and for the name of another format (.pt, .npz), FileNotFoundError where the folder does not exist.
    OSError where the disk is full or may not be written.

    >>> import anynet as an, tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> _ = an.save(file, {"w": an.ones(2), "step": 3})
    >>> an.load(file)
    {'w': Tensor([1., 1.]), 'step': 3}
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(tree, Mapping):
        msg = f"save(path, tree): expected a path and a dict, got {type(path).__name__} and {type(tree).__name__}"
        if hasattr(tree, "state_dict"):
            msg += "; write anynet.save(path, x.state_dict())"
        raise TypeError(msg)
    arrays, texts = packed(tree)
    target = Path(path)
    if target.suffix in _OTHERS:
        msg = f"save writes safetensors files, got the name {target.name}; call it {target.stem}.safetensors"
        raise ValueError(msg)
    if not target.parent.is_dir():
        msg = f"cannot save {target}: the folder {target.parent} does not exist"
        raise FileNotFoundError(msg)
    safetensors_io.save(target, arrays, {**(metadata or {}), **texts})
    return target


def packed(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays of a file that `load` reads, and the texts of its header."""
    arrays: dict[str, Any] = {}
    try:
        return arrays, {_KEY: json.dumps({"version": _VERSION, "tree": _pack(tree, (), arrays)})}
    except RecursionError:
        msg = "cannot save a tree that contains itself or is nested some hundred levels deep"
        raise ValueError(msg) from None


def load(path: str | os.PathLike[str], *, device: str | None = None) -> dict[str, Any]:
    """Read what `save` wrote, or any safetensors file of weights (as a flat dict of Tensors).

    The file is opened once, so that one that another process replaces meanwhile is read whole: the old or the new one.
    A pickle is never read.

    Errors: `CheckpointError` for every file that is damaged (any changed bit of a file of `save`, by its SHA-256; files of
    other programs, and those of ours of which both names in the metadata are gone, as far as their format tells) or is
    no checkpoint, a folder or a pipe, say. The system's own refusals stay what they are: FileNotFoundError,
    PermissionError and other OSErrors. RuntimeError where `device` is not here.
    """
    return read(path, device=device)[0]


def read(path: str | os.PathLike[str], *, device: str | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """What `load` gives, and the texts of the header."""
    try:
        arrays, metadata = safetensors_io.load(path)
    except FileNotFoundError as error:
        msg = f"no checkpoint at {os.fspath(path)}"
        raise FileNotFoundError(msg) from error
    except files.NotRegularError as error:
        raise CheckpointError(f"{error}; give the .safetensors file of a checkpoint") from None
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    tree = _tree(os.fspath(path), arrays, metadata)
    xp, name = resolve("cpu" if device is None else device)
    return _map(tree, lambda array: wrap(xp.from_host(array, name))), metadata


def _tree(path: str, arrays: dict[str, Any], metadata: dict[str, str]) -> dict[str, Any]:
    """The tree of a file, its arrays on the host, each in an `_Array`."""
    if _KEY not in metadata:
        return {key: _Array(array) for key, array in arrays.items()}
    try:
        described = json.loads(metadata[_KEY])
        version = described["version"]
        tree = _unpack(described["tree"], arrays) if version in (2, _VERSION) else None
    except (KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        reason = (
            "nested too deeply" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"
        )
        msg = f"{path} is damaged: the description of its contents cannot be read ({reason:.200}); take another copy of it"
        raise CheckpointError(msg) from None
    if version not in (2, _VERSION):
        msg = f"{path} has checkpoint version {version!r:.80}, this anynet reads 2 and {_VERSION}: written by a later one?"
        raise CheckpointError(msg)
    if version == _VERSION and safetensors_io.CHECKSUM not in metadata:
        msg = f"{path} is damaged: the SHA-256 that was written with it is missing; take another copy of it"
        raise CheckpointError(msg)
    if not isinstance(tree, dict):
        msg = f"{path} is damaged: expected a dict at the top, got {type(tree).__name__}; take another copy of it"
        raise CheckpointError(msg)
    return tree


class _Array:
    """An array of the file, so that it differs from the tree's own values."""

    def __init__(self, array: Any) -> None:
        self.array = array


def _map(value: Any, function: Callable[[Any], Tensor]) -> Any:
    """The tree with a Tensor for each array."""
    if isinstance(value, _Array):
        return function(value.array)
    if isinstance(value, dict):
        return {k: _map(v, function) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_map(v, function) for v in value)
    return value


def _pack(value: Any, path: tuple[str, ...], arrays: dict[str, Any]) -> Any:
    if isinstance(value, Tensor) or hasattr(value, "dtype"):
        plain = unwrap(value)
        name = ".".join(path)
        if name in arrays:
            msg = f"two entries of the checkpoint are both called {name!r}"
            raise ValueError(msg)
        array = registry.asarray(backend_of(plain).to_host(plain))
        if array.dtype == "complex128":
            arrays[name] = registry.asarray(array.reshape((*array.shape, 1)).view("float64"))
            return {"$complex": name}
        arrays[name] = array
        return {"$tensor": name}
    if isinstance(value, Mapping):
        if any(not isinstance(k, (str, int)) for k in value):
            msg = f"keys of a checkpoint must be strings or integers, got {list(value)[:5]}"
            raise TypeError(msg)
        items = [[k, _pack(v, (*path, str(k)), arrays)] for k, v in value.items()]
        if all(isinstance(k, str) and not k.startswith("$") for k in value):
            return dict(items)
        return {"$items": items}
    if isinstance(value, tuple):
        return {"$tuple": [_pack(v, (*path, str(i)), arrays) for i, v in enumerate(value)]}
    if isinstance(value, list):
        return [_pack(v, (*path, str(i)), arrays) for i, v in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    msg = f"cannot save {'.'.join(path) or 'the checkpoint'}: {type(value).__name__} is neither data nor a container"
    raise TypeError(msg)


def _unpack(value: Any, arrays: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_unpack(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return _Array(arrays[value["$tensor"]])
    if "$complex" in value:
        return _Array(arrays[value["$complex"]].view("complex128")[..., 0])
    if "$tuple" in value:
        return tuple(_unpack(v, arrays) for v in value["$tuple"])
    if "$items" in value:
        return {k: _unpack(v, arrays) for k, v in value["$items"]}
    return {k: _unpack(v, arrays) for k, v in value.items()}
