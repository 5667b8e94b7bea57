"""The safetensors format: what is written, what is read, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import threading

import numpy as np
import pytest

from anynet_backends import safetensors_io

TENSORS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7, dtype=np.int64),
    "empty": np.zeros((0, 4)),
    "mask": np.array([True, False]), "half": np.array([1.5], np.float16),
    "z": np.array([1 + 2j], np.complex64),
    "bytes": np.arange(3, dtype=np.uint8), "turned": np.arange(6.0).reshape(2, 3).T,
}  # fmt: skip


def test_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors_io.save(path, TENSORS, {"epoch": "3", "ü": "é"})
    tensors, metadata = safetensors_io.load(path)
    assert list(metadata) == [safetensors_io.CHECKSUM, "epoch", "ü"]
    assert (metadata["epoch"], metadata["ü"]) == ("3", "é")
    assert set(tensors) == set(TENSORS)
    for name, expected in TENSORS.items():
        assert tensors[name].dtype == expected.dtype, name
        assert tensors[name].shape == expected.shape, name
        assert np.array_equal(tensors[name], expected), name
        assert tensors[name].flags.writeable
    assert os.listdir(tmp_path) == ["a.safetensors"]
    again = tmp_path / "b.safetensors"
    safetensors_io.save(again, tensors, metadata)  # with the old file's checksum among the metadata
    assert again.read_bytes() == path.read_bytes()


def test_the_checksum_is_that_of_the_file_with_zeros_in_its_place(tmp_path):
    path = tmp_path / "a"
    safetensors_io.save(path, TENSORS, {"a": "b"})
    found = safetensors_io.load(path)[1][safetensors_io.CHECKSUM]
    raw = path.read_bytes()
    assert raw.count(found.encode()) == 1
    assert hashlib.sha256(raw.replace(found.encode(), b"0" * 64)).hexdigest() == found


def test_the_reference_reads_what_we_write_and_we_what_it_writes(tmp_path):
    reference = pytest.importorskip("safetensors", reason="safetensors is not installed")
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    tensors = {k: np.ascontiguousarray(v) for k, v in TENSORS.items()}
    path = tmp_path / "a"
    safetensors_io.save(path, TENSORS, {"a": "b"})
    theirs = numpy.load_file(path)
    assert theirs.keys() == TENSORS.keys()
    assert all(np.array_equal(theirs[k], v) and theirs[k].dtype == v.dtype for k, v in TENSORS.items())
    with reference.safe_open(path, "np") as opened:
        metadata = opened.metadata()
        assert metadata.keys() == {"a", safetensors_io.CHECKSUM}
    path.write_bytes(numpy.save(tensors, {"a": "b"}))
    ours, metadata = safetensors_io.load(path)
    assert metadata == {"a": "b"}
    assert all(np.array_equal(ours[k], v) for k, v in tensors.items())


def test_the_tensors_lie_as_in_the_references_files(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    kinds = [
        "bool",
        "uint8",
        "int8",
        "int16",
        "uint16",
        "float16",
        "int32",
        "uint32",
        "float32",
        "float64",
        "int64",
        "uint64",
    ]
    tensors = {f"{i}.{kind}": np.ones(3, kind) for i in "ab" for kind in kinds}
    safetensors_io.save(tmp_path / "ours", tensors)
    (tmp_path / "theirs").write_bytes(numpy.save(tensors))

    def table(name):
        raw = (tmp_path / name).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        assert length % 8 == 0
        header = json.loads(raw[8 : 8 + length])
        header.pop("__metadata__", None)
        return list(header.items()), raw[8 + length :]

    assert table("ours") == table("theirs")


def test_the_bytes_depend_on_the_contents_alone(tmp_path):
    safetensors_io.save(tmp_path / "a", TENSORS)
    safetensors_io.save(tmp_path / "b", dict(reversed(TENSORS.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_checksum_that_another_program_kept_is_refused(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    path = tmp_path / "a"
    safetensors_io.save(path, {"x": np.ones(2)})
    metadata = safetensors_io.load(path)[1]
    path.write_bytes(numpy.save({"x": np.zeros(2)}, metadata))
    with pytest.raises(
        ValueError, match=f"a is damaged.* must leave out '{safetensors_io.CHECKSUM}' from the metadata"
    ):
        safetensors_io.load(path)


def test_large_arrays(tmp_path):
    """Longer than the pieces in which files are read and written; without a copy in C order; changed meanwhile."""
    big = np.arange(3 * 2**18 + 5, dtype=np.float32)
    tensors = {"big": big, "turned": big[:-5].reshape(3, -1).T, "every other": big[::2]}
    safetensors_io.save(tmp_path / "a", tensors)
    found = safetensors_io.load(tmp_path / "a")[0]
    assert all(np.array_equal(found[k], v) for k, v in tensors.items())


def test_arrays_that_change_while_they_are_written_give_a_whole_file(tmp_path):
    array, stop = np.zeros(2**21, np.float32), threading.Event()

    def change():
        while not stop.is_set():
            array[:] += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(10):
            safetensors_io.save(tmp_path / "a", {"x": array})
            safetensors_io.load(tmp_path / "a")
    finally:
        stop.set()
        thread.join()


def test_bfloat16_is_read_as_float32(tmp_path):
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    bits = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    (tmp_path / "b").write_bytes(len(header).to_bytes(8, "little") + header + bits)
    x = safetensors_io.load(tmp_path / "b")[0]["x"]
    assert x.tolist() == [1.5, -2.0]
    assert x.dtype == np.float32


def _file(header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def _one(**changes):
    return {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes}


BROKEN = {
    "empty": b"",
    "a pickle": b"\x80\x02}q\x00X\x01\x00\x00\x00",
    "header longer than the file": _file(_one(), length=400),
    "no JSON": _file(b"{nonsense"),
    "no table": _file([1, 2]),
    "no shape": _file({"x": {"dtype": "F32"}}),
    "a number for a tensor": _file({"x": 3}),
    "negative shape": _file(_one(shape=[-1]), b"1234"),
    "unknown dtype": _file(_one(dtype="F31"), b"1234"),
    "too few bytes for the shape": _file(_one(shape=[2]), b"1234"),
    "a gap": _file(_one(data_offsets=[4, 8]), b"12345678"),
    "one byte short": _file(_one(), b"123"),
    "one byte over": _file(_one(), b"12345"),
    "metadata that are no strings": _file({"__metadata__": {"a": 1}}),
    "a name twice": _file(
        b'{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    ),
    "NaN": _file(b'{"__metadata__":{"a":NaN}}'),
    "Infinity for a length": _file(_one(shape=[float("inf")]), b"1234"),
    "a fraction for a length": _file(_one(shape=[1.0]), b"1234"),
    "true for a length": _file(_one(shape=[True]), b"1234"),
    "length times length wraps around": _file(_one(shape=[2**33, 2**31]), b"1234"),
    "no bytes, lengths beyond any array": _file(_one(shape=[0, 2**62, 2**62], data_offsets=[0, 0])),
    "an endless length": _file(
        b'{"x":{"dtype":"F32","shape":[%s],"data_offsets":[0,4]}}' % (b"9" * 5000), b"1234"
    ),
    "65 axes": _file(_one(shape=[1] * 65), b"1234"),
    "overlap": _file({"x": _one()["x"], "y": _one()["x"]}, b"1234"),
    "ends before it begins": _file(_one(data_offsets=[4, 0]), b"1234"),
    "negative place": _file(_one(data_offsets=[-4, 0]), b"1234"),
    "three places": _file(_one(data_offsets=[0, 4, 8]), b"1234"),
    "a list for a dtype": _file(_one(dtype=["F32"]), b"1234"),
    "deep nesting": _file(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "not UTF-8": _file(b'{"\xff":{}}'),
    "half a character": _file(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"),
    "a huge header": _file(b"{}", length=2**63),
    "a huge header, again": _file(b"{}", length=2**64 - 1),
    "no header": _file(b"", length=0),
    "zeros": bytes(1000),
    "metadata that are a list": _file({"__metadata__": []}),
    "a checksum that is not first": _file(b'{"__metadata__":{"a":"","anynet.sha256":"%s"}}' % (b"0" * 64)),
    "half a checksum": _file(b'{"__metadata__":{"anynet.sha256":"%s"}}' % (b"0" * 32)),
    "bool 2": _file(_one(dtype="BOOL", data_offsets=[0, 1]), b"\2"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(tmp_path, name):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(BROKEN[name])
    with pytest.raises(ValueError, match=r"broken.safetensors: not a valid safetensors file: ."):
        safetensors_io.load(path)


def test_a_dtype_that_numpy_has_not(tmp_path):
    path = tmp_path / "eight"
    path.write_bytes(_file(_one(dtype="F8_E4M3", shape=[4]), b"1234"))
    with pytest.raises(ValueError, match="tensor 'x' has dtype F8_E4M3, which NumPy lacks; known: BOOL"):
        safetensors_io.load(path)


def test_every_truncation_and_every_longer_file_is_refused(tmp_path):
    path = tmp_path / "cut"
    safetensors_io.save(path, {"x": np.ones(3, np.float32)}, {"a": "b"})
    whole = path.read_bytes()
    for data in [*(whole[:end] for end in range(len(whole))), whole + b"\0", whole + whole]:
        path.write_bytes(data)
        with pytest.raises(ValueError, match="not a valid safetensors file"):
            safetensors_io.load(path)


def test_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a"
    safetensors_io.save(path, {"x": np.ones(3, np.float32)}, {"a": "b"})
    whole = path.read_bytes()
    name = f'"{safetensors_io.CHECKSUM}"'.encode()
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        if whole.index(name) < bit // 8 < whole.index(name) + len(name) - 1:
            continue  # the checksum has another name now; a checkpoint knows that it has one (tests/train/test_checkpoint.py)
        with pytest.raises(ValueError, match=r"a is damaged|a: not a valid safetensors file|has dtype F8"):
            safetensors_io.load(path)


def test_the_kinds_of_other_files_are_named(tmp_path):
    path = tmp_path / "a.pt"
    for data, words in (
        (pickle.dumps({}), "a pickle, as torch.save"),
        (b"PK\3\4" + bytes(90), "a zip archive, as torch.save"),
    ):
        path.write_bytes(data)
        with pytest.raises(
            ValueError, match=rf"it looks like {words}.* reads safetensors files only and runs nothing"
        ):
            safetensors_io.load(path)


def test_what_safetensors_cannot_hold(tmp_path):
    path = tmp_path / "a"
    for error, match, tensors, metadata in (
        (TypeError, "'x' has dtype object", {"x": np.array([object()])}, {}),
        (TypeError, "complex128", {"x": np.ones(1, complex)}, {}),
        (TypeError, "metadata 'a' must be a str in a safetensors file, got int", {}, {"a": 3}),
        (TypeError, "the name of a tensor must be a str in a safetensors file, got int", {3: np.ones(1)}, {}),
        (ValueError, "__metadata__", {"__metadata__": np.ones(1)}, {}),
        (ValueError, "a text that UTF-8 can hold", {"\ud800": np.ones(1)}, {}),
    ):
        with pytest.raises(error, match=match):
            safetensors_io.save(path, tensors, metadata)
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    safetensors_io.save(path, {"x": np.ones(1)})
    old = path.read_bytes()

    def fail(*_):
        msg = "the disk is full"
        raise OSError(msg)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        safetensors_io.save(path, {"x": np.zeros(9)})
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a"]
