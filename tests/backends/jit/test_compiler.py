"""Compiled code is kept on disk, and checked before it is run."""

from __future__ import annotations

import pathlib

import pytest

from anynet_backends.jit import availability
from anynet_backends.jit.compiler import Compiler
from anynet_backends.jit.loop_ir import FusedLoop, LoopOp

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")


def test_compiled_code_is_kept_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("ANYNET_CACHE", str(tmp_path))
    loop = FusedLoop((("f", "c"), ("f", "c")), (LoopOp("negative", "f", (("in", 0),)),), ((1, 0),), 0)
    first = Compiler().functions(loop.code(), ("kernel",))
    files = {p: p.read_bytes() for p in pathlib.Path(tmp_path, "machine").iterdir()}
    assert first
    assert files
    Compiler().functions(loop.code(), ("kernel",))
    assert {p: p.read_bytes() for p in pathlib.Path(tmp_path, "machine").iterdir()} == files
    for p in files:  # damaged: compiled anew, not run
        p.write_bytes(files[p][:40] + b"x" * (len(files[p]) - 40))
    Compiler().functions(loop.code(), ("kernel",))
    assert {p: p.read_bytes() for p in pathlib.Path(tmp_path, "machine").iterdir()} == files


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("ANYNET_CACHE", str(blocked))
    loop = FusedLoop((("d", "c"), ("d", "c")), (LoopOp("square", "d", (("in", 0),)),), ((1, 0),), 0)
    assert Compiler().functions(loop.code(), ("kernel",))
