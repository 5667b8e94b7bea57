"""The emulator's commands:

python -m ci.cuda_emulator build [--also REQUIREMENT]…     builds it, once, and prints its folder
python -m ci.cuda_emulator run [--devices N] COMMAND…      runs a command with the emulator in place of GPUs
python -m ci.cuda_emulator nvrtc FOLDER [sm_70 …]          compiles the sources that a run kept there by the real NVRTC
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ci.cuda_emulator.build import BuildError, build
from ci.cuda_emulator.real_nvrtc import ARCHITECTURES, compile_all


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m ci.cuda_emulator", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build", help="build it, once, and print its folder")
    make.add_argument(
        "--also", action="append", default=[], metavar="REQUIREMENT", help="put this into its environment too"
    )
    run = commands.add_parser("run", help="run a command with the emulator in place of GPUs")
    run.add_argument("--devices", type=int, default=1, help="how many GPUs there are (default 1)")
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="COMMAND…")
    check = commands.add_parser("nvrtc", help="compile kept sources by the real NVRTC")
    check.add_argument("folder", help="what CUDA_EMULATOR_SOURCES named in a run")
    check.add_argument(
        "architectures", nargs="*", default=list(ARCHITECTURES), help=f"default {' '.join(ARCHITECTURES)}"
    )
    given = parser.parse_args(arguments)
    try:
        emulator = build(given.also if given.command == "build" else ())
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.command == "build":
        print(emulator.folder)
        return 0
    if given.command == "nvrtc":
        return compile_all(emulator.beside, given.folder, given.architectures)
    if not given.program:
        parser.error("run needs a command")
    variables = {**os.environ, **emulator.variables(), "CUDA_EMULATOR_DEVICES": str(given.devices)}
    try:
        os.execvpe(given.program[0], given.program, variables)
    except OSError as error:
        print(f"error: {given.program[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    raise SystemExit(main())
