"""Checkpoints: what is saved comes back, and every file that is damaged is refused with CheckpointError."""

import json
import math
import os
import random

import numpy as np
import pytest

import anynet as an
from anynet.train import CheckpointError
from anynet_backends import safetensors_io

LONG = os.environ.get("ANYNET_LONG_TESTS") == "1"
TREE = {
    "w": an.asarray(np.arange(6, dtype=np.float32).reshape(2, 3)), "z": an.asarray(np.array([1 + 2j])),
    "none": an.zeros((0, 4)), "mask": an.asarray([True, False]),
    "deep": {"list": [1, 2.5, None, True, "ä", (an.asarray(3), "t")], 7: {"$tensor": "no tensor"}},
    "best": math.inf, "worst": -math.inf, "nothing": {},
}  # fmt: skip


def same(a, b):
    if isinstance(a, an.Tensor):
        a, b = a.numpy(), b.numpy()
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.fixture
def file(tmp_path):
    return an.save(tmp_path / "a.safetensors", TREE)


def test_what_is_saved_comes_back(file):
    assert same(an.load(file), TREE)
    assert os.listdir(file.parent) == [file.name]


def test_a_flat_state_is_ordinary_weights(tmp_path):
    reference = pytest.importorskip("safetensors.numpy", reason="safetensors reads what anynet writes")
    state = an.nn.Linear(3, 2).state_dict()
    theirs = reference.load_file(an.save(tmp_path / "a", state))
    assert theirs.keys() == state.keys()
    assert all((theirs[k] == v.numpy()).all() for k, v in state.items())


def test_files_without_a_checksum_load(tmp_path):
    reference = pytest.importorskip("safetensors.numpy", reason="writes a file of another program")
    w = np.ones((2, 2), np.float32)
    (tmp_path / "others").write_bytes(reference.save({"w": w}, {"format": "pt"}))
    assert same(an.load(tmp_path / "others"), {"w": an.asarray(w)})
    described = json.dumps({"version": 2, "tree": {"step": 3, "w": {"$tensor": "w"}}})  # as we wrote before
    (tmp_path / "ours").write_bytes(reference.save({"w": w}, {"anynet": described}))
    assert same(an.load(tmp_path / "ours"), {"step": 3, "w": an.asarray(w)})


# ---- damaged files ----


def refused(path, data):
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=path.name):
        an.load(path)


def test_every_flipped_bit_is_found(file):
    whole = file.read_bytes()
    bits = range(8 * len(whole)) if LONG else random.Random(1).sample(range(8 * len(whole)), 500)
    begin = whole.index(b"anynet")  # the names of the metadata: all of their bits
    for bit in {*bits, *range(8 * begin - 8, 8 * begin + 120)}:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        refused(file, changed)


def test_every_truncation_is_found(file):
    whole = file.read_bytes()
    for end in range(len(whole)) if LONG else [*range(20), *range(20, len(whole), 13), len(whole) - 1]:
        refused(file, whole[:end])


def mutated(rng, data):
    """Some bytes of a file changed, taken out, doubled or put elsewhere."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        b = min(b, a + rng.choice((1, 4, 30, 1000)))
        kind = rng.randrange(6)
        if kind == 0:
            data[a:b] = rng.randbytes(b - a)
        elif kind == 1:
            del data[a:b]
        elif kind == 2:
            data[a:a] = data[a:b]
        elif kind == 3:
            data[a : a + 1] = rng.choice(
                (b"[", b"]", b"{", b"}", b'"', b",", b":", b"-", b"9", b"\xff", b"\0", b"1e999", b"NaN")
            )
        elif kind == 4 and data:
            data[rng.randrange(min(len(data), 9))] = rng.randrange(256)  # the length
        else:
            data[a:b] = bytes(data[a:b])[::-1]
        if not data:
            return b""
    return bytes(data)


def changed_json(rng, value):
    """A JSON value with one part replaced, taken out or doubled."""
    odd = (None, True, -1, 0, 3, 2**70, 1e400, "", "x", [], {}, [1], [[]], {"$tensor": "w"}, {"$tensor": 3}, {"$tensor": []},
           {"$tuple": 3}, {"$items": 3}, {"$items": [[1, 2, 3]]}, {"$items": [[[], 1]]}, {"$complex": "w"},
           {"$complex": "none"}, {"$complex": None})  # fmt: skip
    if isinstance(value, dict) and value and rng.random() < 0.8:
        value = dict(value)
        key = rng.choice(list(value))
        what = rng.random()
        if what < 0.15:
            del value[key]
        elif what < 0.3:
            value[rng.choice(("$tensor", "$tuple", "$items", "x", "dtype"))] = value.pop(key)
        else:
            value[key] = changed_json(rng, value[key])
        return value
    if isinstance(value, list) and value and rng.random() < 0.8:
        i = rng.randrange(len(value))
        return [*value[:i], *([] if rng.random() < 0.2 else [changed_json(rng, value[i])]), *value[i + 1 :]]
    return rng.choice(odd)


def header_of(whole):
    length = int.from_bytes(whole[:8], "little")
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def with_header(table, data):
    raw = json.dumps(table).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def loads(path, data):
    """The file's contents, or None where it is refused as it should be; any other error leaves."""
    path.write_bytes(data)
    try:
        return an.load(path)
    except CheckpointError:
        return None


@pytest.mark.parametrize("seed", range(40 if LONG else 1))
def test_mutated_files_are_read_or_refused(file, seed):
    """With a checksum no changed file loads, unless both of the names that make it one of ours are gone. Without one, a file
    loads only if the reference reads the same from it."""
    reference = pytest.importorskip("safetensors.numpy", reason="reads the files, too")
    error = pytest.importorskip("safetensors").SafetensorError
    rng, whole = random.Random(seed), file.read_bytes()
    weights = {k: v for k, v in safetensors_io.load(file)[0].items() if k != "z"}
    plain = reference.save(weights, {"format": "np"})
    for _ in range(2500 if LONG else 300):
        data = mutated(rng, whole)
        ours = b'"anynet.sha256"' in data or b'"anynet"' in data
        assert data == whole or loads(file, data) is None or not ours
        table, data = header_of(plain)
        data = with_header(changed_json(rng, table), data) if rng.random() < 0.5 else mutated(rng, plain)
        found = loads(file, data)
        if found is not None:
            theirs = reference.load(data)
            assert theirs.keys() == found.keys()
            assert all(theirs[k].tobytes() == v.numpy().tobytes() for k, v in found.items())
        else:
            try:
                reference.load(data)
            except (error, ValueError, KeyError, TypeError):
                continue
            with pytest.raises(
                ValueError, match=r"duplicate key|other bytes than 0, 1"
            ):  # where we are stricter
                safetensors_io.load(file)


@pytest.mark.parametrize("seed", range(40 if LONG else 1))
def test_mutated_descriptions_are_read_or_refused(tmp_path, seed):
    """With a checksum that is right, so that only what the description says can be wrong."""
    rng, path = random.Random(seed), tmp_path / "a"
    an.save(path, TREE)
    arrays, metadata = safetensors_io.load(path)
    for _ in range(1500 if LONG else 200):
        described = changed_json(rng, json.loads(metadata["anynet"]))
        text = json.dumps(described)
        if rng.random() < 0.2:
            text = mutated(rng, text.encode()).decode("utf-8", "replace")
        safetensors_io.save(path, arrays, {"anynet": text})
        loads(path, path.read_bytes())


@pytest.mark.parametrize(
    "text", ["", "3", "[]", "{}", '{"version":9,"tree":{}}', '{"version":3,"tree":[]}', '{"version":3}', '{"version":[],"tree":{}}',
             '{"version":3,"tree":{"a":' + "[" * 100_000 + "]" * 100_000 + "}}", '{"version":3,"tree":{"a":{"$tensor":"gone"}}}',
             '{"version":3,"tree":{"a":{"$complex":"half"}}}', '{"version":3,"tree":{"a":{"$complex":"none"}}}'],
)  # fmt: skip
def test_descriptions_that_mean_nothing(tmp_path, text):
    arrays = {"half": np.ones(3), "none": np.zeros((3, 0)), "one": np.ones(())}
    safetensors_io.save(tmp_path / "a.safetensors", arrays, {"anynet": text})
    with pytest.raises(
        CheckpointError, match=r"a.safetensors (is damaged: .* take another copy|has checkpoint version)"
    ):
        an.load(tmp_path / "a.safetensors")


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX systems")
def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path, "folder"), (tmp_path / "pipe", "named pipe"), ("/dev/zero", "device")):
        with pytest.raises(
            CheckpointError, match=f"{path} is a {kind}, expected a file; give the .safetensors file"
        ):
            an.load(path)


def test_the_systems_own_refusals_stay(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no checkpoint at {tmp_path / 'gone'}"):
        an.load(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        an.save(tmp_path / "gone" / "a", {})
    if os.name == "posix" and os.geteuid() != 0:
        path = an.save(tmp_path / "a", {})
        path.chmod(0)
        with pytest.raises(PermissionError):
            an.load(path)


def test_what_cannot_be_saved(tmp_path):
    itself = {}
    itself["a"] = itself
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for error, match, tree in (
        (ValueError, "contains itself", itself), (ValueError, "contains itself", {"a": deep}),
        (TypeError, "a path and a dict, got .* and list", []), (TypeError, "neither data nor a container", {"a": object()}),
        (ValueError, "both called 'a.b'", {"a": {"b": an.ones(1)}, "a.b": an.ones(1)}),
    ):  # fmt: skip
        with pytest.raises(error, match=match):
            an.save(tmp_path / "a", tree)
    with pytest.raises(TypeError, match="a path and a dict, got dict and str"):
        an.save({}, "a")
    assert os.listdir(tmp_path) == []
