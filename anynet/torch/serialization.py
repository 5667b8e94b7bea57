"""`torch.save` and `torch.load`: weights and states, never code.

What is written is safetensors with the rest as JSON (`anynet.save`), whatever the name of the file. Read are such files, other safetensors,
and PyTorch's own .pt and .pth files, by a reader that makes tensors and nothing else (`anynet_backends.torch_files`).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from anynet.nn import Module
from anynet.tensor import Tensor as AnyTensor
from anynet.tensor import wrap
from anynet.torch.tensor import Tensor, adopt
from anynet.train.checkpoint import load as _load
from anynet.train.checkpoint import packed
from anynet_backends import files, resolve, safetensors_io, torch_files

__all__ = ["add_safe_globals", "load", "safe_globals", "save"]

_WHOLE = "$value"  # the key of what is no dict


def save(
    obj: Any, f: str | os.PathLike[str] | IO[bytes], pickle_module: Any = None, pickle_protocol: int = 2
) -> None:
    """Write a state (nested dicts, lists, tensors, numbers, texts) to a file, by its path or opened for writing bytes.

    A file at a path is complete or as it was, also where the process is killed meanwhile. As with PyTorch's, it is left to the system
    when it comes to the disk; `anynet.save` waits for that.

    A whole module, which is code and data, is written by Python's pickle. `load` refuses such a file, as PyTorch's does by default;
    ``pickle.load`` reads it, and runs what it names. TypeError for another object that is no data: save its ``state_dict()``.

    >>> import anynet.torch as torch, tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "weights.pt"
    >>> torch.save({"w": torch.ones(2)}, file)
    >>> torch.load(file)
    {'w': tensor([1., 1.])}
    """
    if not isinstance(f, (str, os.PathLike)) and not hasattr(f, "write"):
        msg = f"save: f must be a path or a file opened for writing bytes, got {type(f).__name__}"
        raise TypeError(msg)
    if isinstance(obj, Module):
        written = pickle.dumps(obj)  # before the file is opened: what cannot be pickled leaves it as it was
        if isinstance(f, (str, os.PathLike)):
            with files.writing(f, durable=False) as file:
                files.write_all(file, written)
        else:
            f.write(written)
        return
    if hasattr(obj, "state_dict"):
        msg = f"save: a {type(obj).__name__} is code and data; save its data: torch.save(x.state_dict(), …)"
        raise TypeError(msg)
    if not isinstance(f, (str, os.PathLike)):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "file"
            save(obj, copy)
            f.write(copy.read_bytes())
        return
    safetensors_io.save(f, *packed(obj if isinstance(obj, Mapping) else {_WHOLE: obj}), durable=False)


class safe_globals(contextlib.nullcontext[None]):
    """Nothing is allowed by it: `load` makes tensors, numbers, texts and nests of them, and refuses the rest of what a file names."""

    def __init__(self, safe_globals: Any) -> None:
        super().__init__()


def add_safe_globals(safe_globals: Any) -> None:
    """Nothing is allowed by it, as by `safe_globals`."""


def load(
    f: str | os.PathLike[str] | IO[bytes],
    map_location: Any = None,
    *,
    weights_only: bool = True,
    mmap: Any = None,
    **_: Any,
) -> Any:
    """Read what `save` wrote, a safetensors file, or a .pt or .pth file of PyTorch's.

    `map_location` is the device for all tensors; without it they come to the host. ValueError for a file with anything but data in it,
    `weights_only` or not: nothing that a file names is run.
    """
    if hasattr(f, "read"):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "file"
            copy.write_bytes(f.read())
            return load(copy, map_location, weights_only=weights_only)
    where = (
        None
        if map_location is None or callable(map_location) or isinstance(map_location, Mapping)
        else str(map_location)
    )
    xp, place = resolve("cpu" if where is None else where)
    if torch_files.is_torch_file(f):

        def make(array: Any, requires_grad: bool) -> AnyTensor:
            x = wrap(xp.from_host(array, place), Tensor)
            return x.requires_grad_() if requires_grad else x

        return torch_files.read(f, make)
    found = adopt(_load(f, device=place))
    return found[_WHOLE] if set(found) == {_WHOLE} else found
