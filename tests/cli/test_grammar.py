"""The grammar of the command line: how options are written, what is refused with which words, help pages, JSON, completion."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import click
import pytest

from anynet.cli import COMMANDS, main
from anynet.cli.grammar import Choice, Names, Number, Result, Switch, Whole, argument, command, option, plain


@command(
    "demo", argument("source", "a table"), argument("more", "files", count=-1, required=False),
    option("batch_size", Whole(1), "samples an update", 32), option("lr", Number(0, 1), "the rate", shown="by the data"),
    option("kind", Choice("one", "two_words"), "which", group="Data"), option("hidden", Names(Whole(1)), "widths"),
    option("fast", Switch(), "quickly", False),
)  # fmt: skip
def demo(output, **values):
    """A command for tests."""
    output.say("working")
    return Result(values, f"done {values['batch_size']}", 3)


def ask(*args: str) -> dict:
    with demo.make_context("demo", list(args)) as ctx:
        return {k: v for k, v in ctx.params.items() if k not in ("json", "quiet")}


def refused(*args: str) -> str:
    with pytest.raises(click.UsageError) as caught:
        ask(*args)
    return caught.value.format_message()


@pytest.mark.parametrize(
    "written",
    [["batch_size=7"], ["batch-size=7"], ["--batch_size=7"], ["--batch-size=7"], ["--batch-size", "7"], ["--batch_size", "7"]],
)  # fmt: skip
def test_spellings_of_an_option(written):
    assert ask("a.csv", *written)["batch_size"] == 7
    assert ask(*written, "a.csv")["batch_size"] == 7


def test_values():
    found = ask("a.csv", "b", "c", "lr=1e-3", "kind=two-words", "hidden=128,64", "fast=yes")
    assert found == {
        "source": "a.csv", "more": ("b", "c"), "batch_size": 32, "lr": 1e-3, "kind": "two_words", "hidden": (128, 64), "fast": True,
    }  # fmt: skip
    assert ask("a.csv", "--fast")["fast"] is True
    assert ask("a.csv", "fast=0")["fast"] is False
    assert ask("a.csv")["lr"] is None


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "expected a table, got nothing"),
        (["a", "batchsize=3"], "unknown option 'batchsize'; did you mean 'batch_size'?"),
        (["a", "--batchsize", "3"], "unknown option 'batchsize'; did you mean 'batch_size'?"),
        (["a", "batch_size=three"], "batch_size='three': expected a whole number"),
        (["a", "batch_size=0"], "batch_size=0: expected at least 1"),
        (["a", "batch_size=9223372036854775808"], "expected less than 2⁶³"),
        (["a", "batch_size="], "batch_size='': expected a whole number"),
        (["a", "lr=2"], "lr=2: expected at most 1"),
        (["a", "lr=nan"], "lr=nan: expected a finite number"),
        (["a", "kind=too_words"], "unknown kind 'too_words'; did you mean 'two_words'?"),
        (["a", "hidden=,"], "hidden=',': expected words separated by commas"),
        (["a", "hidden=3,x"], "hidden='x': expected a whole number"),
        (["a", "fast=maybe"], "fast='maybe': expected 1 or 0"),
        (["a", "lr=1", "--lr", "1"], "option lr is given twice"),
        (["a", "lr=1", "lr=1"], "option lr is given twice"),
        (["a", "--lr"], "--lr needs a value: --lr VALUE or lr=VALUE"),
    ],
)
def test_what_is_refused(args, words):
    assert words in refused(*args)


def test_a_file_with_an_equals_sign_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.csv").write_text("")
    assert ask("a=b.csv")["source"] == "a=b.csv"
    assert "unknown option 'c'" in refused("c=b.csv")


def test_text_json_and_quiet(capsys):
    for more, out in (([], "working\ndone 32\n"), (["quiet=1"], "done 32\n")):
        with demo.make_context("demo", ["a.csv", *more]) as ctx:
            assert demo.invoke(ctx) == 3
        assert capsys.readouterr().out == out
    with demo.make_context("demo", ["a.csv", "json=1"]) as ctx:
        demo.invoke(ctx)
    assert json.loads(capsys.readouterr().out)["batch_size"] == 32


def test_json_has_no_numbers_that_json_has_not():
    assert plain({"a": float("nan"), 2: (1.5, float("inf")), "p": os.sep}) == {
        "a": None,
        "2": [1.5, None],
        "p": os.sep,
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_own_page(name, capsys):
    assert main([name, "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"Usage: anynet {name}")
    assert "json=0|1" in page
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == page
    with click.Context(click.Command("x")) as ctx:
        from anynet.cli import _GROUP

        found = _GROUP.get_command(ctx, name)
        assert found is not None
        for parameter in found.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name


def test_version(capsys):
    for args in (["version"], ["--version"], ["-V", "quiet=1"]):
        assert main(args) == 0
        assert capsys.readouterr().out.startswith("anynet ")
    assert main(["--version", "json=1"]) == 0
    assert json.loads(capsys.readouterr().out)["version"]
    assert main(["help", "help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: anynet COMMAND")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")
def test_an_output_that_is_closed_or_full():
    for name in ("version", "help"):
        command = f"{sys.executable} -m anynet {name}"
        closed = subprocess.run(f"{command} >&-", shell=True, stderr=subprocess.PIPE, text=True, timeout=60)
        assert (closed.returncode, closed.stderr) == (0, "")
        full = subprocess.run(
            f"{command} >/dev/full", shell=True, stderr=subprocess.PIPE, text=True, timeout=60
        )
        assert full.returncode == 1
        assert "No space left" in full.stderr
        assert "Traceback" not in full.stderr


def test_broken_pipe():
    child = subprocess.Popen(
        [sys.executable, "-m", "anynet", "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.close()
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert err == ""


COMPLETE = """
eval "$({python} -m anynet completion bash)"
words=({words})
COMP_WORDS=("${{words[@]}}"); COMP_CWORD={cword}
_anynet_completion anynet
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash, which is not installed")
@pytest.mark.parametrize(
    ("words", "cword", "expected"),
    [
        ("anynet tra", 1, {"train"}),
        ("anynet train digits epo", 3, {"epochs="}),
        ("anynet train digits augment = st", 5, {"strong"}),
        ("anynet train digits augment =", 4, {"none", "light", "strong"}),
        ("anynet train digits --augment s", 4, {"strong"}),
        ("anynet completion z", 2, {"zsh"}),
    ],
)
def test_completion_in_bash(words, cword, expected, tmp_path):
    """As bash calls it: it breaks words at the equals sign."""
    command = tmp_path / "anynet"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m anynet "$@"\n')
    command.chmod(0o755)
    script = COMPLETE.format(python=sys.executable, words=words, cword=cword)
    answer = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert set(answer.stdout.split()) == expected, answer.stderr


def test_completion_scripts_of_other_shells(capsys):
    for shell, word in (("zsh", "compdef"), ("fish", "complete")):
        assert main(["completion", shell]) == 0
        assert word in capsys.readouterr().out
