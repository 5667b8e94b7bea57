"""Atomic writes, reads of regular files, and what dead processes left behind."""

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from anynet_backends import files

posix = pytest.mark.skipif(os.name != "posix", reason="modes, pipes and limits of POSIX systems")


def test_write(tmp_path):
    files.write(tmp_path / "a", b"12")
    files.write(tmp_path / "b", "ä")
    assert (tmp_path / "a").read_bytes() == b"12"
    assert (tmp_path / "b").read_bytes() == "ä".encode()
    files.write(tmp_path / "a", b"")
    assert (tmp_path / "a").read_bytes() == b""
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    files.write(tmp_path / ("n" * 255), b"x")  # the longest name there can be


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_modes(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.write(tmp_path / "new", b"1")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~umask
        os.chmod(tmp_path / "new", 0o640)
        files.write(tmp_path / "new", b"2")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    finally:
        os.umask(before)


@posix
def test_links_are_followed_and_stay(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    for text in (b"1", b"22"):
        files.write(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "there" / "file").read_bytes() == text


def special(folder):
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    listening = socket.socket(socket.AF_UNIX)
    before = os.getcwd()
    os.chdir(folder)  # the names of sockets are short
    listening.bind("socket")
    os.chdir(before)
    listening.close()
    return {
        "named pipe": folder / "pipe",
        "folder": folder / "folder",
        "socket": folder / "socket",
        "device": "/dev/null",
    }


@posix
def test_what_is_no_file_is_neither_read_nor_replaced(tmp_path):
    for kind, path in special(tmp_path).items():
        before = os.stat(path)
        with pytest.raises(files.NotRegularError, match=f"{path} is a {kind}, expected a file"):
            files.open_regular(path)
        with pytest.raises(
            files.NotRegularError, match=f"{path} is a {kind}, expected a file or nothing there"
        ):
            files.write(path, b"x")
        assert os.path.samestat(os.stat(path), before)
    with pytest.raises(FileNotFoundError):
        files.open_regular(tmp_path / "missing")


@posix
def test_a_full_disk_leaves_the_old_file(tmp_path):
    code = """
import resource, sys
from anynet_backends import files
files.write(sys.argv[1], b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for name in sys.argv[1:]:
    try:
        files.write(name, bytes(5000))
    except OSError as error:
        print(error.errno, error)
"""
    out = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a", tmp_path / "b"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert out[0].startswith(f"{errno.EFBIG} ")
    assert out[0].endswith(f"cannot write {tmp_path / 'a'}; the file there is as it was")
    assert out[1].endswith(f"cannot write {tmp_path / 'b'}; nothing was written")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_an_error_or_a_stop_inside_leaves_the_old_file(tmp_path):
    files.write(tmp_path / "a", b"old")

    def stopped():
        with files.writing(tmp_path / "a") as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


@posix
def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path):
    code = """
import os, sys, time
from anynet_backends import files
with files.writing(sys.argv[1]) as file:
    print("open", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a"], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "open\n"
        (unfinished,) = os.listdir(tmp_path)
        assert f"-{process.pid}-" in unfinished
        files.write(tmp_path / "b", b"1")
        assert sorted(os.listdir(tmp_path)) == sorted([unfinished, "b"])
        process.kill()
    files.write(tmp_path / "b", b"1")
    assert os.listdir(tmp_path) == ["b"]


@posix
def test_leftovers_of_others(tmp_path):
    mine = f"{files.machine()}-{os.getpid()}"
    here = {
        "reused number": f".a.{mine}-1-00000000.tmp",  # a process of our number, which began at another time
        "live": f".a.{mine}-{files.start_of(os.getpid())}-00000000.tmp",
        "of another machine": ".a.00000000-99999999-1-00000000.tmp",
        "old, of another machine": ".a.00000001-99999999-1-00000000.tmp",
        "not ours": ".a.tmp", "not ours either": "a.tmp",
    }  # fmt: skip
    for name in here.values():
        (tmp_path / name).write_bytes(b"")
    day = time.time() - 90_000
    os.utime(tmp_path / here["old, of another machine"], (day, day))
    os.utime(tmp_path / here["not ours"], (day, day))
    assert sorted(files.remove_leftovers(tmp_path)) == sorted(
        [here["reused number"], here["old, of another machine"]]
    )
    assert files.remove_leftovers(tmp_path / "missing") == []


def test_threads_write_one_file(tmp_path):
    bodies = [bytes([i]) * 50_000 for i in range(4)]
    threads = [
        threading.Thread(target=lambda b=b: [files.write(tmp_path / "a", b) for _ in range(20)])
        for b in bodies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_bytes() in bodies
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="states of processes are read in /proc")
def test_a_process_that_ended_and_that_nobody_waited_for_is_not_alive():
    code = "import sys; sys.stdout.close()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    start = files.start_of(process.pid)
    end = time.monotonic() + 30
    while files.alive(process.pid, start) and time.monotonic() < end:
        time.sleep(0.01)
    assert not files.alive(process.pid, start)
    assert process.poll() == 0
    process.stdout.close()


def test_alive():
    own = os.getpid()
    assert files.alive(own, files.start_of(own))
    assert not files.alive(own, files.start_of(own) + 1)
    if os.name == "posix":
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        assert not files.alive(ended.pid, 0)
        assert files.alive(1, files.start_of(1))
