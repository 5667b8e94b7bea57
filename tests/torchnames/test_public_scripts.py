"""Public training scripts with changed import lines, each in a process of its own: the first losses are PyTorch's."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from public_code import close_in_float32, ported, repository
from public_scripts import SCRIPTS

RUNNER = pathlib.Path(__file__).with_name("run_public_script.py")


def laid_out(script, folder, room, kind, where):
    """What the runner is told, and the folder in which it works."""
    where.parent.mkdir(parents=True)
    if script.get("there"):  # it reads files of its own repository
        folder = shutil.copytree(folder, where)
    else:
        where.mkdir()
    return {
        **{"room": room, "kind": kind, "script": str(folder / script["script"]), "out": str(where / "losses.json")},
        **{
            name: script.get(name, default)
            for name, default in (("steps", 4), ("args", []), ("before", ""), ("after", ""), ("plain", False), ("once", False))
        },
        "paths": [str(folder / path) for path in script.get("paths", ())],
    }  # fmt: skip


def losses(script, folder, room, kind, where):
    """The losses of a script's first backward passes."""
    run = laid_out(script, folder, room, kind, where)
    done = subprocess.run(
        [sys.executable, str(RUNNER), json.dumps(run)], cwd=where, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONHASHSEED": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((where / "losses.json").read_text(encoding="utf-8"))["losses"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_trains_as_with_pytorch(name, tmp_path):
    script = SCRIPTS[name]
    source = repository(script["repository"])
    pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    changed = ported(source, tmp_path / "changed")
    made = {}
    for kind in script.get("kinds", ("float64", "float32")):
        expected = losses(script, source, "torch", kind, tmp_path / kind / "theirs" / "here")
        found = losses(script, changed, "anynet.torch", kind, tmp_path / kind / "ours" / "here")
        assert expected
        made[kind] = expected
        if "float64" in made and kind == "float32":
            close_in_float32(found, expected, made["float64"])
        else:
            np.testing.assert_allclose(
                found, expected, rtol=1e-5 if kind == "float32" else 1e-10, err_msg=kind
            )
