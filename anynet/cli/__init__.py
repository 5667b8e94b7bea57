"""The `anynet` command: which commands there are, how errors are said, exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from anynet._hints import nearest
from anynet.cli.commands.completion import VARIABLE, complete
from anynet_backends.config import DEBUG

__all__ = ["main"]

COMMANDS = {
    "train": "train a network on a table, a folder of pictures, a text, a named data set; or run a script",
    "resume": "go on with a run that was stopped",
    "eval": "the metrics of a run on its own held-out part, or on other data",
    "predict": "what a run says of new rows, pictures or texts",
    "generate": "text from a run that was trained on text",
    "report": "a page that shows what was trained, on what, and how good it is",
    "export": "a run as PyTorch source, as one NumPy file, as ONNX",
    "explain": "the chain rule of an expression or a sample; the equation of a layer, loss, optimizer",
    "plan": "what a training would take: parameters, memory, time",
    "runs": "the runs in a folder",
    "compare": "two runs: settings, results, the first difference",
    "diff": "two runs: the first step, layer and number of ulps where they part",
    "verify": "whether a run gives the same bits again",
    "profile": "where the time of a training step goes",
    "examples": "the examples that come with the package",
    "example": "run an example, or print it",
    "doctor": "what works on this machine",
    "port": "the lines of a PyTorch script that differ here",
    "parity": "every operation on every device, against NumPy; traces that another machine checks",
    "completion": "a script that completes commands in a shell",
    "version": "which version this is",
}
"""The commands, each in `anynet.cli.commands`, and what they do."""


class _Commands(click.Group):
    """The commands, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = {"eval": "evaluate", "example": "examples"}.get(cmd_name, cmd_name)
        function = {"eval": "evaluate"}.get(cmd_name, cmd_name)
        command: click.Command = getattr(import_module(f"anynet.cli.commands.{module}"), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            ctx.info_name = f"anynet {args[0]}"
            raise click.UsageError(f"unknown command {args[0]!r}{nearest(args[0], (*COMMANDS, 'help'))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["COMMAND", "…"]


_GROUP = _Commands(
    "anynet",
    help="""Neural networks on any array that speaks the array API.

    \b
    anynet train houses.csv target=price     anynet train photos/     anynet train book.txt     anynet train digits
    anynet predict RUN new.csv               anynet report RUN        anynet generate RUN       anynet export RUN to=onnx

    `anynet COMMAND --help` is the page of a command. Options are written key=value, --key value or --key=value.
    """,
    epilog="Exit codes: 0 success, 1 an error, 2 a command line that cannot be meant, 130 a stop by Ctrl-C (143 by SIGTERM).",
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 1 an error, 2 a command line that cannot be meant, 130 a stop by Ctrl-C, 143 by
    SIGTERM.

    Where the reader of the output has gone (``anynet doctor | head -1``), the command ends without a word. With ANYNET_DEBUG=1
    errors are shown with their tracebacks.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed (``anynet … >&-``)
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the rest of the process
        elif getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a letter that the terminal has not ends nothing
    if instruction := os.environ.get(VARIABLE):
        return complete(_GROUP, instruction)
    try:
        code = _run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # the interpreter flushes at its end, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run(args: list[str]) -> int:
    if args[:1] in (["--version"], ["-V"]):
        args[0] = "version"
    if not args or args[0] == "help":
        args = [*(a for a in args[1:2] if a != "help"), "--help"]
    where = f"anynet {args[0]}" if args[0] in COMMANDS else "anynet"
    try:
        with _GROUP.make_context("anynet", args) as ctx:
            return int(_GROUP.invoke(ctx) or 0)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        print(f"{error.ctx.command_path if error.ctx else where}: {error.format_message()}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as stop:
        print(f"\nanynet: {str(stop) or 'stopped'}", file=sys.stderr)
        return 128 + getattr(stop, "signal", 2)
    except _expected() as error:
        if DEBUG():
            raise
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        print(f"{where}: {error}{notes}", file=sys.stderr)
        return 1


def _expected() -> tuple[type[BaseException], ...]:
    """The errors that speak for themselves; others are faults of this library and come with their traceback."""
    # start-up time: a help page needs none of the engine
    from anynet.train import CheckpointError, NonFiniteError

    return (
        OSError,
        ValueError,
        TypeError,
        RuntimeError,
        ModuleNotFoundError,
        NonFiniteError,
        CheckpointError,
        IndexError,
    )
