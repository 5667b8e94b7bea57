"""Run folders: unique names, one owner at a time, what killed runs leave behind."""

import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.train import RunFolder, RunFolderError, run_folder, unique_folder
from anynet.train.run_folder import LOCK

posix = pytest.mark.skipif(os.name != "posix", reason="processes of POSIX systems")


def python(code, *args):
    """A process that runs `code`, with a pipe to its output."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True)


HOLD = """
import sys, time
from anynet.train import RunFolder
with RunFolder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A live process that holds the folder."""
    process = python(HOLD, tmp_path / "run")
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_free_folder_is_made_held_and_given_back(tmp_path):
    with RunFolder(tmp_path / "a" / "run") as folder:
        owner = json.loads((folder.path / LOCK).read_text())
        assert owner["pid"] == os.getpid()
        with pytest.raises(
            RunFolderError, match=rf"{folder.path} is in use: this process on .* choose another run_dir"
        ):
            RunFolder(folder.path).acquire()
    assert os.listdir(folder.path) == []
    with folder:
        assert os.listdir(folder.path) == [LOCK]


@posix
def test_a_held_folder_is_refused_and_nothing_in_it_changes(holder, tmp_path):
    before = (tmp_path / "run" / LOCK).read_bytes()
    with pytest.raises(RunFolderError, match=rf"{tmp_path / 'run'} is in use: process {holder.pid} on"):
        RunFolder(tmp_path / "run").acquire()
    data = np.ones((4, 2), "f4"), np.zeros((4, 1), "f4")
    with pytest.raises(RunFolderError, match=f"process {holder.pid}"):
        an.fit(nn.Linear(2, 1), data, loss="mse", run_dir=tmp_path / "run", progress=False)
    assert os.listdir(tmp_path / "run") == [LOCK]
    assert (tmp_path / "run" / LOCK).read_bytes() == before


@posix
def test_the_folder_of_a_killed_process_is_taken_over_with_a_word(holder, tmp_path, caplog):
    holder.kill()
    holder.wait()
    with caplog.at_level(logging.WARNING, "anynet"), RunFolder(tmp_path / "run") as folder:
        assert json.loads((folder.path / LOCK).read_text())["pid"] == os.getpid()
    assert f"took over the run folder {tmp_path / 'run'}: process {holder.pid} on" in caplog.text


@posix
def test_a_forked_child_does_not_hold_on(tmp_path):
    code = HOLD.replace(
        '    print("held", flush=True)',
        "    import os\n    child = os.fork()\n    if child: print(child, flush=True)",
    )
    process = python(code, tmp_path / "run")
    child = int(process.stdout.readline())
    try:
        with pytest.raises(RunFolderError, match=f"process {process.pid}"):
            RunFolder(tmp_path / "run").acquire()
        os.kill(child, signal.SIGSTOP)
        process.kill()
        process.wait()
        threading.Timer(0.1, os.kill, (child, signal.SIGCONT)).start()
        with RunFolder(tmp_path / "run"):  # where the child was too late, it waits a moment
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


@posix
def test_of_many_that_want_a_dead_runs_folder_one_gets_it(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps(run_folder._owner() | {"pid": 2**22 + 1}))
    code = """
import sys, time
from anynet.train import RunFolder, RunFolderError
print("ready", flush=True); sys.stdin.readline()
try:
    RunFolder(sys.argv[1]).acquire(); print("mine", flush=True)
except RunFolderError:
    print("not mine", flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    many = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for _ in range(6)]  # fmt: skip
    try:
        assert [p.stdout.readline() for p in many] == ["ready\n"] * 6
        for p in many:
            p.stdin.write("\n")
            p.stdin.flush()
        assert sorted(p.stdout.readline() for p in many) == ["mine\n"] + ["not mine\n"] * 5
    finally:
        for p in many:
            p.communicate("\n")


def test_a_lock_of_another_host_is_refused(tmp_path):
    other = run_folder._owner() | {"pid": 12, "host": "elsewhere", "boot": "another"}
    (tmp_path / LOCK).write_text(json.dumps(other))
    with pytest.raises(
        RunFolderError, match=rf"process 12 on another host, elsewhere, .* remove {tmp_path / LOCK}"
    ):
        RunFolder(tmp_path).acquire()
    assert json.loads((tmp_path / LOCK).read_text()) == other
    (tmp_path / LOCK).unlink()
    with RunFolder(tmp_path):
        pass


@posix
@pytest.mark.parametrize("text", ["", "nonsense", "[" * 9000, "{}", "\0" * 50])
def test_a_damaged_lock_that_nobody_holds_is_taken_over(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    with RunFolder(tmp_path):
        pass


def test_without_locks_of_the_file_system_the_owner_is_looked_up(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "_lock", lambda descriptor: False)
    (tmp_path / LOCK).write_text(json.dumps(run_folder._owner()))  # alive: this process
    with pytest.raises(RunFolderError, match="this process"):
        RunFolder(tmp_path).acquire()
    reused = run_folder._owner() | {"start": 1}  # its number belongs to a later process now
    (tmp_path / LOCK).write_text(json.dumps(reused))
    with RunFolder(tmp_path):
        pass
    rebooted = run_folder._owner() | {"boot": "before"}
    (tmp_path / LOCK).write_text(json.dumps(rebooted))
    with RunFolder(tmp_path):
        pass


def test_unique_folders(tmp_path):
    code = "import sys\nfrom anynet.train import unique_folder\nfor _ in range(20): print(unique_folder(sys.argv[1]))"
    many = [python(code, tmp_path / "runs" / "digits") for _ in range(3)]
    made = [line for p in many for line in p.communicate()[0].split()]
    assert len(set(made)) == 60
    assert {pathlib.Path(p).name for p in made} == {"digits", *(f"digits-{i}" for i in range(2, 61))}
    (tmp_path / "file").write_text("")
    assert unique_folder(tmp_path / "file").name == "file-2"


@pytest.mark.parametrize("resume", [False, True])
def test_fit_gives_the_folder_back_on_errors(tmp_path, resume):
    data = np.ones((4, 2), "f4"), np.zeros((4, 1), "f4")
    an.fit(nn.Linear(2, 1), data, loss="mse", run_dir=tmp_path / "r", progress=False)
    (tmp_path / "r" / "last.safetensors").write_bytes(b"damaged")
    with pytest.raises((FileExistsError, an.train.CheckpointError)) as error:
        an.fit(nn.Linear(2, 1), data, loss="mse", run_dir=tmp_path / "r", progress=False, resume=resume)
    assert not (tmp_path / "r" / LOCK).exists()
    del error


@posix
def test_two_commands_in_one_second_have_folders_of_their_own(tmp_path):
    command = [sys.executable, "-m", "anynet", "train", "digits", "model=mlp", "epochs=1", "limit=64"]
    time.sleep(1 - time.time() % 1)
    both = [
        subprocess.Popen([*command, f"seed={s}"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for s in (1, 2)
    ]
    assert [(p.communicate(), p.returncode)[1] for p in both] == [0, 0]
    seeds = [json.loads(f.read_text())["seed"] for f in (tmp_path / "runs").glob("*/run.json")]
    assert sorted(seeds) == [1, 2]
