"""Checkpoints: one safetensors file holds the arrays, and beside them, as JSON in its header, everything else.

A checkpoint is a tree of dicts, lists, numbers, strings and arrays. The arrays become tensors of the file, named by
their path in the tree; the rest is JSON with ``{"$tensor": path}`` in their places. (complex128, which safetensors has
not, is stored as real and imaginary parts along a last axis, ``{"$complex": path}``.) Never pickle, never an importable
name. Files are written atomically, so that a kill at any instant leaves the old file or the new one whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anynet.tensor import Tensor, unwrap, wrap
from anynet_backends import backend_of, host, resolve

__all__ = ["CheckpointError", "load", "save"]

_KEY = "anynet"  # of the one entry of metadata: {"version": …, "tree": …}
_VERSION = 2


class CheckpointError(ValueError):
    """A file that is not a checkpoint, is damaged, or belongs to something else."""


def save(path: str | os.PathLike[str], tree: Mapping[str, Any]) -> Path:
    """Write a tree of dicts, lists, scalars, strings and arrays (a ``state_dict``, say) to one safetensors file.

    A flat dict of Tensors is stored under its own names, so that other programs read it as ordinary weights.

    >>> import anynet as an, tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> _ = an.save(file, {"w": an.ones(2), "step": 3})
    >>> an.load(file)
    {'w': Tensor([1., 1.]), 'step': 3}
    """
    arrays: dict[str, Any] = {}
    skeleton = _pack(tree, (), arrays)
    metadata = {_KEY: json.dumps({"version": _VERSION, "tree": skeleton})}
    target = Path(path)
    if not target.parent.is_dir():
        msg = f"cannot save {target}: the folder {target.parent} does not exist"
        raise FileNotFoundError(msg)
    host.save_safetensors(target, arrays, metadata)
    return target


def load(path: str | os.PathLike[str], *, device: str | None = None) -> dict[str, Any]:
    """Read what `save` wrote, or any safetensors file of weights (as a flat dict of Tensors).

    Errors: FileNotFoundError; CheckpointError where the file is truncated or not a safetensors file.
    """
    try:
        arrays, metadata = host.load_safetensors(path)
    except FileNotFoundError as error:
        msg = f"no checkpoint at {os.fspath(path)}"
        raise FileNotFoundError(msg) from error
    except IsADirectoryError as error:
        msg = f"{os.fspath(path)} is a folder; give the .safetensors file in it"
        raise CheckpointError(msg) from error
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    xp, name = resolve("cpu" if device is None else device)

    def tensor(key: str, pairs: bool = False) -> Tensor:
        array = arrays[key].view("complex128")[..., 0] if pairs else arrays[key]
        return wrap(xp.from_host(array, name))

    if _KEY not in metadata:
        return {key: tensor(key) for key in arrays}
    try:
        described = json.loads(metadata[_KEY])
        version = described["version"]
        tree = _unpack(described["tree"], tensor) if version == _VERSION else None
    except (KeyError, ValueError, TypeError) as error:
        msg = f"{os.fspath(path)}: the description of its contents is damaged ({error})"
        raise CheckpointError(msg) from error
    if version != _VERSION:
        msg = f"{os.fspath(path)} has checkpoint version {version}, this anynet reads {_VERSION}"
        raise CheckpointError(msg)
    if not isinstance(tree, dict):
        msg = f"{os.fspath(path)}: expected a dict at the top, got {type(tree).__name__}"
        raise CheckpointError(msg)
    return tree


def _pack(value: Any, path: tuple[str, ...], arrays: dict[str, Any]) -> Any:
    if isinstance(value, Tensor) or hasattr(value, "dtype"):
        plain = unwrap(value)
        name = ".".join(path)
        if name in arrays:
            msg = f"two entries of the checkpoint are both called {name!r}"
            raise ValueError(msg)
        array = host.asarray(backend_of(plain).to_host(plain))
        if array.dtype == "complex128":
            arrays[name] = host.asarray(array.reshape((*array.shape, 1)).view("float64"))
            return {"$complex": name}
        arrays[name] = array
        return {"$tensor": name}
    if isinstance(value, Mapping):
        if any(not isinstance(k, (str, int)) for k in value):
            msg = f"keys of a checkpoint are strings or integers, got {list(value)[:5]}"
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


def _unpack(value: Any, tensor: Callable[..., Tensor]) -> Any:
    if isinstance(value, dict):
        if "$tensor" in value:
            return tensor(value["$tensor"])
        if "$complex" in value:
            return tensor(value["$complex"], True)
        if "$tuple" in value:
            return tuple(_unpack(v, tensor) for v in value["$tuple"])
        if "$items" in value:
            return {k: _unpack(v, tensor) for k, v in value["$items"]}
        return {k: _unpack(v, tensor) for k, v in value.items()}
    if isinstance(value, list):
        return [_unpack(v, tensor) for v in value]
    return value
