"""Damaged files of weights: `python tests/models/fuzz_weights.py 1200` reads changed ones of Keras, HDF5, msgpack and PyTorch for twenty
minutes; a short form is a test. Whatever comes of it, reading gives arrays or a ValueError, in a few seconds, in little memory.
"""

from __future__ import annotations

import io
import os
import random
import resource
import struct
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from anynet import nn
from anynet.models import foreign, load_weights
from anynet.models.foreign import files as foreign_files
from anynet_backends import torch_files

MEMORY = 3 << 30
SECONDS = 20.0
NUMBERS = [
    0,
    1,
    2,
    7,
    255,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
]


def files() -> list[tuple[str, bytes]]:
    """What is changed: by name, which says the kind. The parts of archives, too, which are changed before they are put together."""
    here = Path(__file__)
    with zipfile.ZipFile(here.with_name("foreign_files.zip")) as archive:
        found = [(name, archive.read(name)) for name in archive.namelist() if not name.endswith(".npz")]
    found += [
        (f"{p.parent.name}.bin", p.read_bytes())
        for p in sorted(here.parent.parent.glob("hub/checkpoints/*/*.bin"))
    ]
    try:
        import torch
    except ImportError:
        return found
    for form in (True, False):
        file = io.BytesIO()
        state = {
            "a": torch.ones(3, 2),
            "b": torch.zeros(2, dtype=torch.bfloat16),
            "n": [1, {"c": torch.arange(4)[::2]}],
        }
        torch.save(state, file, _use_new_zipfile_serialization=form)
        found.append((f"state{form}.pt", file.getvalue()))
    return found


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bytes or numbers changed, removed, repeated or put in."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at, kind = rng.randrange(len(found) or 1), rng.randrange(7)
        if kind == 0:
            found[at : at + 1] = rng.randbytes(1)
        elif kind == 1 and found:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del found[at : at + rng.randrange(1, 9)]
        elif kind == 3:
            found[at:at] = found[at : at + rng.randrange(1, 33)]
        elif kind == 4:
            width = rng.choice([2, 4, 8])
            at -= at % width
            number = rng.choice([*NUMBERS, rng.randrange(len(found) or 1)]) & ((1 << 8 * width) - 1)
            found[at : at + width] = number.to_bytes(width, rng.choice(["little", "little", "big"]))
        elif kind == 5:  # a part in another place
            width, other = rng.choice([8, 16, 40]), rng.randrange(len(found) or 1)
            found[at : at + width] = found[other : other + width]
        else:
            # among what is not zero there is more to break
            places = [i for i in range(at, min(at + 400, len(found))) if found[i]]
            if places:
                found[rng.choice(places)] = rng.randrange(256)
    return bytes(found)


def changed(data: bytes, rng: random.Random) -> bytes:
    """A file changed; of an archive more often one of its parts, so that the sums are right."""
    if data[:2] != b"PK" or rng.random() < 0.3:
        return changed_bytes(data, rng)
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(file, "w") as after:
        names = before.namelist()
        chosen = rng.choice(names)
        for name in names:
            part = before.read(name)
            after.writestr(zipfile.ZipInfo(name), changed_bytes(part, rng) if name == chosen else part)
    return file.getvalue()


def one(name: str, data: bytes, folder: Path) -> str:
    """What came of one file."""
    path = folder / name
    path.write_bytes(data)
    begin = time.monotonic()
    try:
        if path.suffix in foreign.SUFFIXES:
            arrays = foreign_files.read(path).arrays
        else:
            arrays = torch_files.read(path, lambda array, requires_grad: array)
        total = sum(
            float(np.sum(np.abs(x), dtype=np.float64))
            for x in _arrays(arrays)
            if x.size < 1 << 24 and x.dtype.kind in "fiub"
        )
        found = f"read: {total}"
        load_weights(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), path)
    except ValueError as error:  # StateError is one, too
        found = locals().get("found", f"refused: {error!s:.60}")
    except TypeError as error:
        if "must be" not in str(error):  # what is no state dict is a TypeError of load_weights
            raise
        found = "refused: a TypeError"
    if time.monotonic() - begin > SECONDS:
        raise TimeoutError(f"{time.monotonic() - begin:.0f} seconds")
    return found


def _arrays(tree: Any) -> list[np.ndarray]:
    if isinstance(tree, dict):
        return [x for v in tree.values() for x in _arrays(v)]
    if isinstance(tree, (list, tuple)):
        return [x for v in tree for x in _arrays(v)]
    return [tree] if isinstance(tree, np.ndarray) else []


# ----- msgpack, as Flax writes it -----


class Packed(bytes):
    """Bytes that are msgpack already."""


def packed(value: Any) -> bytes:
    """A tree of dicts, arrays, numbers and texts in msgpack, as Flax writes it."""
    if isinstance(value, Packed):
        return value
    if isinstance(value, dict):
        return (
            b"\xdf"
            + struct.pack(">I", len(value))
            + b"".join(packed(k) + packed(v) for k, v in value.items())
        )
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xd3" + struct.pack(">q", value)
    if isinstance(value, str):
        return b"\xdb" + struct.pack(">I", len(value.encode())) + value.encode()
    return array(value.shape, str(value.dtype).encode(), value.tobytes())


def array(shape: tuple[int, ...], dtype: bytes, data: bytes) -> bytes:
    """An array, as Flax's type of msgpack."""
    inner = (
        b"\x93"
        + b"\xdd"
        + struct.pack(">I", len(shape))
        + b"".join(b"\xcf" + struct.pack(">Q", n) for n in shape)
    )
    inner += packed(dtype.decode()) + b"\xc6" + struct.pack(">I", len(data)) + data
    return b"\xc9" + struct.pack(">IB", len(inner), 1) + inner


def main(seconds: float, seed: int) -> int:
    """Change and read for a time; 1 where something else happened than what may."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    whole, rng, found, bad = files(), random.Random(seed), Counter[str](), 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - begin < seconds:
            name, data = rng.choice(whole)
            data = changed(data, rng)
            kind = Path(name).suffix
            try:
                found[f"{kind} {one(f'file{kind}', data, Path(folder)).partition(':')[0]}"] += 1
            except BaseException as error:  # noqa: BLE001 - each of them is what is looked for
                bad += 1
                to = f"fuzz-{seed}-{bad}{kind}"
                Path(os.environ.get("FUZZ_FOUND", "."), to).write_bytes(data)
                print(to, type(error).__name__, str(error)[:300], flush=True)
                if isinstance(error, KeyboardInterrupt):
                    raise
    print(
        f"{sum(found.values())} files in {time.monotonic() - begin:.0f} s: {dict(sorted(found.items()))}; {bad} bad"
    )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    )
