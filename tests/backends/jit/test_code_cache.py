"""The folder of compiled code: what is not the user's alone is never run, and a disk that does not work only costs time."""

import functools
import os
import resource
import shutil
import subprocess
import sys
import time

import pytest

from anynet_backends import files
from anynet_backends.jit import availability, code_cache
from anynet_backends.jit.code_cache import CodeCache
from anynet_backends.ownership import RefusedError, open_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")
extra = pytest.mark.skipif(not availability.available(), reason="the extra numba is not installed")
root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="takes root, and setpriv, to be two users",
)
USE = """
import anynet as an
from anynet import nn, optim
m = nn.Sequential(nn.Linear(4, 2), nn.Tanh()); o = optim.Adam(m.parameters())
f = an.compile(lambda x: an.sum(an.exp(m(x))))
for _ in range(30):
    f(an.ones((3, 4))); o.zero_grad(); an.mean(m(an.ones((3, 4))) ** 2).backward(); o.step()
from anynet_backends.jit.compiler import compiler
print(compiler().cache.status())
"""
OTHER = 54321
ELF = (
    b"\x7fELF\x02\x01\x01" + bytes(33) + (64).to_bytes(8, "little") + bytes(10) + b"\x40\x00\x01\x00\x00\x00"
)


def object_of(text):
    """What has the form of an object file: a header, and one section of 64 bytes; then the text."""
    assert len(ELF) == 64
    return ELF + bytes(64) + text


CODE = object_of(b"code")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "machine"


@pytest.fixture
def cache(folder):
    return CodeCache(str(folder))


def use(*, user=None, env=None, umask=-1, limit=None, cwd="/"):
    """Run a process that uses machine code; its last line, without a warning or an error."""
    full = {k: v for k, v in {**os.environ, **(env or {})}.items() if v is not None}
    before = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    prepare = None if limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    done = subprocess.run(
        [*before, sys.executable, "-W", "error", "-c", USE], env=full, cwd=cwd, umask=umask, preexec_fn=prepare,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()[-1]


@functools.cache
def another_user_can_read():
    command = [
        "setpriv",
        f"--reuid={OTHER}",
        f"--regid={OTHER}",
        "--clear-groups",
        sys.executable,
        "-c",
        "import anynet",
    ]
    return subprocess.run(command, cwd="/", capture_output=True, check=False).returncode == 0


def names(folder):
    return sorted(os.listdir(folder))


# ----- what is written is read -----


def test_what_is_written_is_read(cache, folder):
    assert cache.read("key") is None
    assert not folder.exists()
    cache.write("key", CODE)
    assert cache.read("key") == CODE == CodeCache(str(folder)).read("key")
    assert cache.read("other") is None
    assert [n.endswith(".code") for n in names(folder)] == [True]
    assert "1 files" in cache.status()


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_modes_do_not_depend_on_the_umask(cache, folder, umask):
    before = os.umask(umask)
    try:
        cache.write("key", CODE)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o7777 == folder.parent.stat().st_mode & 0o7777 == 0o700
    assert [f.stat().st_mode & 0o7777 for f in folder.iterdir()] == [0o600]
    assert cache.read("key") == CODE


def test_a_readable_folder_becomes_private(folder):
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    CodeCache(str(folder)).write("key", CODE)
    assert folder.stat().st_mode & 0o7777 == 0o700


# ----- what could have been written by others is not used -----


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_may_write(cache, folder, mode):
    cache.write("key", CODE)
    folder.chmod(mode)
    assert cache.read("key") is None
    assert CodeCache(str(folder)).read("key") is None
    assert "may be written by others" in CodeCache(str(folder)).status()
    CodeCache(str(folder)).write("other", CODE)
    assert len(names(folder)) == 1


@pytest.mark.parametrize(("mode", "fine"), [(0o777, False), (0o770, False), (0o1777, True), (0o755, True)])
def test_a_folder_above_that_others_may_write(cache, folder, mode, fine):
    cache.write("key", CODE)
    folder.parent.chmod(mode)
    assert (CodeCache(str(folder)).read("key") == CODE) is fine
    assert CodeCache(str(folder)).status().startswith("not used") is not fine


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write(cache, folder, mode):
    cache.write("key", CODE)
    (folder / names(folder)[0]).chmod(mode)
    assert cache.read("key") is None
    cache.write("key", CODE)
    assert cache.read("key") == CODE


@pytest.mark.parametrize("what", ["link", "fifo", "folder", "large"])
def test_what_is_no_regular_file_of_a_sensible_size(cache, folder, tmp_path, what, monkeypatch):
    cache.write("key", CODE)
    path = folder / names(folder)[0]
    content = path.read_bytes()
    path.unlink()
    if what == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.write_bytes(content)
        path.chmod(0o600)
        monkeypatch.setattr(code_cache, "LARGEST", 50)
    assert cache.read("key") is None


def test_the_folder_is_no_link(cache, folder, tmp_path):
    cache.write("key", CODE)
    link = tmp_path / "machine"
    link.symlink_to(folder)
    assert CodeCache(str(link)).read("key") is None
    assert CodeCache(str(link)).status().startswith("not used")


def test_links_above_lead_to_what_is_looked_at(cache, folder, tmp_path):
    cache.write("key", CODE)
    link = tmp_path / "link"
    link.symlink_to(folder.parent)
    assert CodeCache(str(link / "machine")).read("key") == CODE
    folder.parent.chmod(0o777)
    assert CodeCache(str(link / "machine")).read("key") is None


@root
def test_a_folder_of_another_user(cache, folder):
    cache.write("key", CODE)
    path = folder / names(folder)[0]
    os.chown(path, OTHER, OTHER)
    assert CodeCache(str(folder)).read("key") is None
    os.chown(path, 0, 0)
    os.chown(folder, OTHER, OTHER)
    assert CodeCache(str(folder)).read("key") is None
    assert f"belongs to user {OTHER}" in CodeCache(str(folder)).status()
    os.chown(folder, 0, 0)
    os.chown(folder.parent, OTHER, OTHER)  # who could put another folder in its place
    with pytest.raises(RefusedError, match="belongs to user"):
        open_folder(str(folder))


# ----- damaged files -----


def test_every_flipped_bit_is_noticed(cache, folder):
    cache.write("key", CODE)
    path = folder / names(folder)[0]
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), 3):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert cache.read("key") is None
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        assert cache.read("key") is None
    path.write_bytes(content + b"x")
    assert cache.read("key") is None
    path.write_bytes(content)
    assert cache.read("key") == CODE


def test_a_file_in_the_place_of_another(cache, folder):
    cache.write("one", CODE)
    cache.write("two", object_of(b"another"))
    a, b = (folder / name for name in names(folder))
    b.write_bytes(a.read_bytes())
    assert {cache.read("one"), cache.read("two")} in ({CODE, None}, {object_of(b"another"), None})


@pytest.mark.parametrize("code", [b"", b"garbage" * 30, CODE[:70], b"\x7fELF" + bytes(200)])
def test_what_is_no_object_file(cache, code):
    """LLVM would end the process."""
    cache.write("key", code)
    assert cache.read("key") is None


@extra
def test_damaged_files_are_made_anew(tmp_path):
    env = {"ANYNET_CACHE": str(tmp_path)}
    use(env=env)
    folder = tmp_path / "machine"
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    assert len(before) > 5
    for i, f in enumerate(sorted(folder.iterdir())):
        f.write_bytes([b"", b"garbage", before[f.name][:-9], before[f.name][::-1]][i % 4])
    use(env=env)
    assert {f.name for f in folder.iterdir()} == set(before)
    assert all(f.read_bytes()[:100] == before[f.name][:100] for f in folder.iterdir())


# ----- size -----


def test_what_was_used_longest_ago_goes_first(cache, folder, monkeypatch):
    monkeypatch.setattr(code_cache, "MOST", 10 * 4096)
    for i in range(8):
        cache.write(f"key{i}", object_of(bytes([i]) * 3000))
        (old,) = (f for f in folder.iterdir() if f.stat().st_mtime > time.time() - 1000)
        os.utime(old, (0, i + 1))
    assert cache.read("key0")  # used now
    monkeypatch.setattr(code_cache, "MOST", 6 * 4096)
    (folder / "notes.txt").write_text("of the user's")
    cache.write("new", CODE)
    there = [i for i in range(8) if CodeCache(str(folder)).read(f"key{i}")]
    assert 0 in there
    assert not {1, 2} & set(there)
    assert cache.read("new") == CODE
    assert (folder / "notes.txt").exists()


def test_leftovers_of_dead_processes_are_removed(cache, folder):
    cache.write("key", CODE)
    code = "from anynet_backends.files import temporary_name; print(temporary_name('0.code'))"
    dead = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    mine = files.temporary_name("0.code")
    for name in (dead, mine):
        (folder / name).write_bytes(b"half")
    CodeCache(str(folder)).read("key")
    assert [n for n in names(folder) if n.endswith(".tmp")] == [mine]


# ----- disks that do not work -----


@pytest.mark.parametrize("call", ["write", "replace", "fchmod"])
@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EROFS", "EIO"])
def test_a_disk_that_refuses(cache, folder, monkeypatch, call, number):
    import errno

    cache.write("before", CODE)
    tries = []

    def fail(*args, **kwargs):
        tries.append(call)
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    if call == "write":
        monkeypatch.setattr(code_cache.CodeCache, "_replace", fail)
    else:
        monkeypatch.setattr(code_cache.os, call, fail)
    cache.write("key", CODE)
    cache.write("key", CODE)
    monkeypatch.undo()
    assert tries == [call]  # it is not tried again
    assert len(names(folder)) == 1
    assert cache.read("before") == CODE
    assert os.strerror(getattr(errno, number)) in cache.status()


def test_a_file_is_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    cache = CodeCache(str(tmp_path / "file" / "machine"))
    cache.write("key", CODE)
    assert cache.read("key") is None
    assert cache.status().startswith("not used")
    assert CodeCache(str(tmp_path / "file")).status().startswith("not used")


@extra
@pytest.mark.parametrize("handler", ["ignored", "set back"])
def test_a_limit_on_the_size_of_files(tmp_path, handler):
    """Each file is refused by the system, with a signal that ends a process that has set it back; nothing stays behind."""
    code = (
        USE
        if handler == "ignored"
        else "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n" + USE
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env={**os.environ, "ANYNET_CACHE": str(tmp_path)}, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)), capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "RLIMIT_FSIZE" in done.stdout
    assert names(tmp_path / "machine") == []


@extra
@pytest.mark.parametrize("home", [None, "", "/nonexistent", "relative", "/dev/null"])
def test_without_a_home(tmp_path, home):
    env = {"HOME": home, "ANYNET_CACHE": None, "XDG_CACHE_HOME": None if home != "" else "also/relative"}
    user = OTHER if os.geteuid() == 0 and shutil.which("setpriv") else None
    if user is None and home in (None, "relative"):
        pytest.skip("takes root, and setpriv, to be a user that the system does not know")
    if user and not another_user_can_read():
        pytest.skip("another user cannot read this Python or this package")
    assert use(user=user, env=env).startswith("not used")


@extra
def test_data_without_a_home(monkeypatch, tmp_path):
    import anynet as an
    from anynet.data import download

    def gone():
        raise FileNotFoundError("there is no home folder")

    monkeypatch.setattr(download, "cache_folder", gone)
    monkeypatch.setenv("ANYNET_DATA", str(tmp_path))
    assert len(an.data.load("digits")[0]) > 0
    with pytest.raises(an.data.DataError, match=f"is not in {tmp_path}.*there is no home folder"):
        an.data.load("mnist", mirrors=["https://example.invalid"])
    monkeypatch.delenv("ANYNET_DATA")
    with pytest.raises(an.data.DataError, match="is not in any folder"):
        an.data.load("mnist")


@extra
def test_processes_write_the_same_files_at_once(tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", USE], env={**os.environ, "ANYNET_CACHE": str(tmp_path)},
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        )
        for _ in range(3)
    ]  # fmt: skip
    assert [p.communicate()[1] for p in started] == [b""] * 3
    assert all(n.endswith(".code") for n in names(tmp_path / "machine"))


@extra
@root
def test_another_users_code_is_not_run(tmp_path):
    """What somebody else has prepared in a shared folder, with the right names and checksums."""
    shared = tmp_path / "shared"
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    shared.mkdir()
    shared.chmod(0o777)
    env = {"ANYNET_CACHE": str(shared)}
    (shared / "machine").mkdir()
    use(env={"ANYNET_CACHE": str(tmp_path / "own")})
    for f in (tmp_path / "own" / "machine").iterdir():
        shutil.copy(f, shared / "machine")
    for path in (shared / "machine", *(shared / "machine").iterdir()):
        os.chown(path, OTHER, OTHER)
    said = use(env=env)
    assert said.startswith("not used")
    assert {f.stat().st_uid for f in (shared / "machine").iterdir()} == {OTHER}


@extra
def test_doctor_says_what_is_kept_where_and_why_not(tmp_path):
    def said():
        code = "from anynet.cli.commands.doctor import _speed; print(*(t for _, t in _speed()), sep='\\n')"
        env = {**os.environ, "ANYNET_CACHE": str(tmp_path / "cache")}
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout

    assert f"{tmp_path}/cache/machine, " in said()
    (tmp_path / "cache").chmod(0o777)
    assert f"not used: {tmp_path}/cache may be written by others (mode 0777)" in said()
