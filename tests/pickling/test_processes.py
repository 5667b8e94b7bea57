"""Networks, optimizers and Tensors go to other processes and come back: process pools of every kind, joblib."""

import multiprocessing
import subprocess
import sys

import pytest

# a program of its own: forked from a process without threads, and importable by those that are started anew
PROGRAM = """
import concurrent.futures, multiprocessing, os, sys
import numpy as np
import anynet as an
from anynet import nn, optim

def train(net, optimizer, x):
    for _ in range(30):
        optimizer.zero_grad()
        loss = an.sum(net(x) ** 2)
        loss.backward()
        optimizer.step()
    return net, optimizer, loss.item(), os.getpid()

def fail(net):
    return net(an.ones((2, 7)))

def made():
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    return net, optim.Adam(net.parameters())

def double(x):
    total = float(an.sum(x))
    x.assign_(x * 2.0)  # what joblib maps from a file may be written, too
    return total, float(an.sum(x))

def check(found, expected):
    assert found[2] == expected[2], (found[2], expected[2])
    assert found[3] != os.getpid()
    pairs = list(zip(found[0].parameters(), expected[0].parameters(), strict=True))
    assert all((a.numpy() == b.numpy()).all() for a, b in pairs)
    train(*found[:2], x)  # it goes on here
    assert all((a.numpy() != b.numpy()).any() for a, b in pairs)

if __name__ == "__main__":
    x = an.asarray(np.random.default_rng(0).normal(size=(8, 1, 6, 6)).astype("f4"))
    for way in sys.argv[1:]:
        expected = train(*made(), x)
        if way == "joblib":
            import joblib
            run = joblib.Parallel(n_jobs=2, max_nbytes=1000)
            for found in run(joblib.delayed(train)(*made(), x) for _ in range(2)):
                check(found, expected)
            big = an.ones((300, 300))
            assert run(joblib.delayed(double)(big) for _ in range(2)) == [(90000.0, 180000.0)] * 2
            joblib.dump(made(), "net.joblib")
            for mode in (None, "r"):
                net, optimizer = joblib.load("net.joblib", mmap_mode=mode)
                check((*train(net, optimizer, x)[:3], None), expected)
        elif way == "pool":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                check(pool.apply(train, (*made(), x)), expected)
        else:
            context = multiprocessing.get_context(way)
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                check(pool.submit(train, *made(), x).result(), expected)
                try:
                    pool.submit(fail, made()[0]).result()
                except ValueError as error:
                    assert "in Sequential" in str(error), error
                else:
                    raise AssertionError("the layer's error did not arrive")
        print(way, "ok")
"""


def run(tmp_path, *ways):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py", *ways], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{way} ok" for way in ways]


@pytest.mark.parametrize("way", [*multiprocessing.get_all_start_methods(), "pool"])
def test_process_pools(tmp_path, way):
    run(tmp_path, way)


def test_joblib(tmp_path):
    pytest.importorskip("joblib", reason="joblib is not installed")
    run(tmp_path, "joblib")
