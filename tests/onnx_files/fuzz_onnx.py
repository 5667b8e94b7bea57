"""Damaged ONNX files: `python tests/onnx_files/fuzz_onnx.py 3600` reads changed ones for an hour; a short form is a test.

Each file comes of a node test or of a whole model by changes of bytes, or of a field of its protocol buffers. Whatever comes of it, reading
and running it gives a result or `ONNXError`, in a few seconds, in little memory.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import anynet as an

LARGEST = 1 << 24
MEMORY = 6 << 30
SECONDS = 20.0
NUMBERS = [0, 1, -1, 2, 3, 7, 64, 255, 1 << 16, 1 << 31, -(1 << 31), 1 << 40, (1 << 63) - 1, -(1 << 63)]


def models() -> list[bytes]:
    """What is changed."""
    from onnx.backend.test.loader import load_node_model_tests

    return [case.model.SerializeToString() for case in load_node_model_tests()]


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, removed, repeated or put in."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at, kind = rng.randrange(len(found) or 1), rng.randrange(5)
        if kind == 0:
            found[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1 and found:
            found[at] = found[at] ^ (1 << rng.randrange(8)) if at < len(found) else 0
        elif kind == 2:
            del found[at : at + rng.randrange(1, 9)]
        elif kind == 3:
            found[at:at] = found[at : at + rng.randrange(1, 33)]
        else:
            found[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(found)


def changed_fields(data: bytes, rng: random.Random) -> bytes:
    """A number, a name or an order of the model changed, so that it is still one."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    for _ in range(rng.choice([1, 1, 2, 3])):
        kind = rng.randrange(8)
        node = rng.choice(graph.node) if graph.node else None
        attributes = [a for a in node.attribute if a.ints or a.type == a.INT] if node is not None else []
        if kind == 0 and attributes:
            a = rng.choice(attributes)
            if a.type == a.INT:
                a.i = rng.choice(NUMBERS)
            else:
                a.ints[rng.randrange(len(a.ints))] = rng.choice(NUMBERS)
        elif kind == 1 and node is not None and len(node.input):
            node.input[rng.randrange(len(node.input))] = rng.choice(
                ["", "x", *node.output, *(i.name for i in graph.input)]
            )
        elif kind == 2 and len(graph.input):
            for dim in rng.choice(graph.input).type.tensor_type.shape.dim:
                dim.dim_value = rng.choice([0, 1, 2, 3, 5])
        elif kind == 3 and graph.initializer:
            tensor = rng.choice(graph.initializer)
            tensor.dims[:] = [rng.choice(NUMBERS) for _ in tensor.dims]
        elif kind == 4 and node is not None:
            node.op_type = rng.choice(
                [
                    "Expand",
                    "Tile",
                    "Range",
                    "ConstantOfShape",
                    "Pad",
                    "Resize",
                    "Conv",
                    "Reshape",
                    "Gather",
                    "LSTM",
                ]
            )
        elif kind == 5:
            model.opset_import[0].version = rng.choice([1, 6, 9, 11, 13, 18, 22, 99])
        elif kind == 6 and node is not None:
            graph.node.append(node)
        elif node is not None:
            for a in node.attribute:
                a.f = rng.choice([0.0, -1.0, 1e30, float("nan"), float("inf")])
    return model.SerializeToString()


def inputs_for(model: an.onnx.Model, rng: random.Random) -> Iterator[np.ndarray]:
    """Small arrays that fit what the file says; of integers also those that ask for much."""
    for dtype, shape in model._inputs.values():
        sizes = [n if isinstance(n, int) and n < 9 else rng.randrange(4) for n in shape or ()]
        if dtype.startswith(("int", "uint")):
            values = [rng.choice([0, 1, 2, 3, rng.choice(NUMBERS)]) for _ in range(int(np.prod(sizes)))]
            yield (
                np.array(values, dtype=object).astype(np.int64, casting="unsafe").astype(dtype).reshape(sizes)
            )
        else:
            yield np.asarray(np.random.default_rng(rng.randrange(99)).normal(size=sizes)).astype(dtype)


def one(data: bytes, rng: random.Random, folder: Path) -> str:
    """What came of one file."""
    path = folder / "model.onnx"
    path.write_bytes(data)
    begin = time.monotonic()
    try:
        net = an.onnx.load(path, largest=LARGEST)
        net(*map(an.asarray, inputs_for(net, rng)))
        found = "ran"
    except an.onnx.ONNXError as error:
        found = "refused: " + str(error).rpartition(": ")[2][:40]
    if time.monotonic() - begin > SECONDS:
        raise TimeoutError(f"{time.monotonic() - begin:.0f} seconds")
    return found


def main(seconds: float, seed: int) -> int:
    """Change and read for a time; 1 where something else happened than what may."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    whole, rng, found, bad = models(), random.Random(seed), Counter[str](), 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - begin < seconds:
            data = rng.choice(whole)
            data = changed_bytes(data, rng) if rng.random() < 0.4 else changed_fields(data, rng)
            state = rng.getstate()
            Path(folder, "last.bin").write_bytes(data)
            try:
                found[one(data, rng, Path(folder)).split(":")[0]] += 1
            except BaseException as error:  # noqa: BLE001 - each of them is what is looked for
                bad += 1
                name = f"fuzz-{seed}-{bad}.onnx"
                Path(os.environ.get("FUZZ_FOUND", "."), name).write_bytes(data)
                print(name, type(error).__name__, str(error)[:300], flush=True)
                if isinstance(error, KeyboardInterrupt):
                    raise
                rng.setstate(state)
                rng.random()
    print(f"{sum(found.values())} files in {time.monotonic() - begin:.0f} s: {dict(found)}; {bad} bad")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    )
