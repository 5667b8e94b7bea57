"""The `anynet` command."""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from anynet import losses
from anynet.autograd.debug.profiler import profile
from anynet.cli.tasks import (
    TASKS,
    Task,
    UsageError,
    build_model,
    make_task,
    nearest,
    task_data,
    train_options,
)
from anynet.data import DataError, read_idx
from anynet.ops import creation
from anynet.train import (
    CheckpointError,
    Interrupted,
    NonFiniteError,
    evaluate,
    fit,
    load,
    predict,
    unique_folder,
)

__all__ = ["main"]

USAGE = """\
anynet: neural networks on any array that speaks the array API

  anynet train digits|mnist|fashion [key=value | --key value …]   train a network on real data
  anynet train SCRIPT.py [arguments …]                            run a training script
  anynet resume RUN                                               go on with a run that was stopped
  anynet eval RUN [which=best|last]                               test accuracy of a run
  anynet predict RUN IMAGES [which=best|last]                     class of each image of an IDX file
  anynet profile digits|mnist|fashion [steps=20] [trace=FILE] [key=value]
                                                                  where the time of a training step goes
  anynet doctor                                                   what works on this machine
  anynet parity [DEVICE …]                                        every operation on every backend, against NumPy
  anynet parity record FILE [DEVICE]                              keep what a device computes (a GPU, say)
  anynet parity check FILE                                        compare it with what this machine computes

Options of train (defaults depend on the task): model=cnn|lenet|mlp epochs batch_size lr optimizer momentum
weight_decay schedule=cosine|constant dropout seed device limit run_dir
"""
COMMANDS = ("train", "resume", "eval", "predict", "profile", "doctor", "parity", "help")


def _split(args: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Words, and options given as key=value, --key value or --key=value."""
    words: list[str] = []
    options: dict[str, str] = {}
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if arg.startswith("--"):
            key, eq, value = arg[2:].partition("=")
            if not eq:
                if not rest or rest[0].startswith("--"):
                    msg = f"--{key} needs a value: --{key} VALUE or {key}=VALUE"
                    raise UsageError(msg)
                value = rest.pop(0)
        elif "=" in arg:
            key, _, value = arg.partition("=")
        else:
            words.append(arg)
            continue
        key = key.replace("-", "_")
        if key in options:
            msg = f"option {key} is given twice"
            raise UsageError(msg)
        options[key] = value
    return words, options


def _one(words: list[str], what: str) -> str:
    if len(words) != 1:
        msg = f"expected {what}, got {' '.join(words) or 'nothing'}"
        raise UsageError(msg)
    return words[0]


def _train(args: Sequence[str]) -> int:
    if args and args[0].endswith(".py"):
        script = Path(args[0])
        if not script.is_file():
            msg = f"no script at {script}"
            raise FileNotFoundError(msg)
        return _run_script(script, args[1:])
    words, options = _split(args)
    return _run(make_task(_one(words, f"a task ({', '.join(TASKS)}) or a script"), options), resume=False)


def _run_script(script: Path, args: Sequence[str]) -> int:
    """Run a user's script as Python would; its errors are shown with their traceback."""
    argv, path = sys.argv, list(sys.path)
    sys.argv, sys.path[:0] = [str(script), *args], [str(script.resolve().parent)]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except (Interrupted, KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != str(script):
            trace = trace.tb_next  # the frames of this command and of runpy
        traceback.print_exception(error.with_traceback(trace or error.__traceback__))
        return 1
    finally:
        sys.argv, sys.path[:] = argv, path
    return 0


def _run(task: Task, resume: bool) -> int:
    began = time.perf_counter()
    model = build_model(task)
    train, test = task_data(task, "train"), task_data(task, "test")
    print(
        f"{task.data}: {len(train[0]):,} training and {len(test[0]):,} test images, model {task.model}",
        flush=True,
    )
    if not resume:
        total = sum(p.size for p in model.parameters())
        print(f"{total:,} parameters, {task.optimizer}, lr {task.lr:g}, {task.epochs} epochs", flush=True)
    folder = (
        Path(task.run_dir)
        if task.run_dir
        else unique_folder(Path("runs") / f"{task.data}-{time.strftime('%Y%m%d-%H%M%S')}")
    )
    fit(
        model, train, loss="cross_entropy", metrics=["accuracy"], epochs=task.epochs, batch_size=task.batch_size,
        device=task.device, seed=task.seed, run_dir=folder, settings=asdict(task), resume=resume,
        **train_options(task, model),
    )  # fmt: skip
    result = evaluate(model, test, loss="cross_entropy", metrics=["accuracy"])
    print(
        f"test accuracy {100 * result['accuracy']:.2f} %  (loss {result['loss']:.4f}, "
        f"{time.perf_counter() - began:.1f} s, run folder {folder})"
    )
    return 0


def _task_of(folder: Path) -> Task:
    file = folder / "settings.json"
    if not file.is_file():
        msg = f"{folder} is not a run folder: it has no settings.json"
        raise FileNotFoundError(msg)
    try:
        task = Task(**json.loads(file.read_text(encoding="utf-8")))
        options = {k: str(v) for k, v in asdict(task).items() if k != "data"}
        if make_task(str(task.data), options) != task:  # a number where a text should be, say
            msg = "values of other types than it has"
            raise ValueError(msg)
    except (ValueError, TypeError, RecursionError) as error:
        msg = (
            f"{file} is not the settings of a built-in task ({error}); resume a script's run from the script"
        )
        raise CheckpointError(msg) from error
    return task


def _resume(args: Sequence[str]) -> int:
    words, options = _split(args)
    if options:
        msg = "resume takes no options: it goes on with the run's own settings"
        raise UsageError(msg)
    folder = Path(_one(words, "a run folder"))
    task = _task_of(folder)
    return _run(Task(**{**asdict(task), "run_dir": str(folder)}), resume=True)


def _trained(folder: Path, options: dict[str, str]):  # type: ignore[no-untyped-def]
    for key in options:
        if key != "which":
            raise UsageError(nearest("option", key, ["which"]))
    which = options.get("which", "last")
    if which not in ("best", "last"):
        raise UsageError(nearest("checkpoint", which, ["best", "last"]))
    task = _task_of(folder)
    file, model = folder / f"{which}.safetensors", build_model(task)
    state = load(file)
    try:
        model.load_state_dict(state["model"] if which == "last" else state)
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"{file} holds no weights of the run's network ({type(error).__name__}: {error})"
        raise CheckpointError(msg) from error
    return task, model.eval()


def _eval(args: Sequence[str]) -> int:
    words, options = _split(args)
    task, model = _trained(Path(_one(words, "a run folder")), options)
    result = evaluate(model, task_data(task, "test"), loss="cross_entropy", metrics=["accuracy"])
    print(f"test accuracy {100 * result['accuracy']:.2f} %  (loss {result['loss']:.4f})")
    return 0


def _predict(args: Sequence[str]) -> int:
    words, options = _split(args)
    if len(words) != 2:
        msg = f"expected a run folder and a file of images, got {' '.join(words) or 'nothing'}"
        raise UsageError(msg)
    task, model = _trained(Path(words[0]), options)
    images = read_idx(Path(words[1]))
    sample = task_data(task, "test")[0]
    if images.ndim != 3 or tuple(images.shape[1:]) != tuple(sample.shape[2:]):
        msg = f"{words[1]}: got images of shape {tuple(images.shape)}, expected (n, {sample.shape[2]}, {sample.shape[3]})"
        raise ValueError(msg)
    from anynet.cli.tasks import scale  # start-up time: of the other commands

    for row in predict(model, scale(task, images)).numpy().argmax(1):
        print(int(row))
    return 0


def _profile(args: Sequence[str]) -> int:
    words, options = _split(args)
    trace, count = options.pop("trace", ""), options.pop("steps", "20")
    if not count.isdigit() or int(count) < 1:
        msg = f"steps must be ≥ 1, got {count}"
        raise UsageError(msg)
    steps = int(count)
    task = make_task(_one(words, f"a task ({', '.join(TASKS)})"), {"limit": "0", **options})
    model = build_model(task).to(device=task.device)
    images, labels = task_data(task, "train")
    images, labels = (creation.asarray(a[: task.batch_size], device=task.device) for a in (images, labels))
    optimizer = train_options(task, model)["optimizer"](model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        losses.cross_entropy(model(images), labels).backward()
        optimizer.step()

    for _ in range(3):
        step()
    with profile() as found:
        for _ in range(steps):
            step()
    print(f"{task.data}, model {task.model}, {steps} steps with a batch of {len(labels)} on {images.device}")
    print(found)
    if trace:
        found.save(trace)
        print(f"trace in {trace}: open it in ui.perfetto.dev or chrome://tracing")
    return 0


def _doctor(args: Sequence[str]) -> int:
    from anynet.cli.doctor import report  # start-up time: of the other commands

    if args:
        msg = f"doctor takes no arguments, got {' '.join(args)}"
        raise UsageError(msg)
    text, good = report()
    print(text)
    return 0 if good else 1


def _parity(args: Sequence[str]) -> int:
    from anynet.testing.parity import check, measure, record, table  # start-up time: of the other commands

    if args and args[0] == "record":
        if len(args) not in (2, 3):
            msg = "parity record takes a file and at most one device: anynet parity record FILE [DEVICE]"
            raise UsageError(msg)
        written = record(args[1], args[2] if len(args) == 3 else "auto")
        print(f"{written} arrays in {args[1]}")
        return 0
    if args and args[0] == "check":
        if len(args) != 2:
            msg = "parity check takes one file: anynet parity check FILE"
            raise UsageError(msg)
        rows = check(args[1])
    else:
        rows = measure(args or None)
    print(table(rows))
    return 0 if all(row.ok for row in rows) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 1 an error, 2 a command line that cannot be meant, 130 a stop by Ctrl-C, 143 by
    SIGTERM.

    Where the reader of the output has gone (``anynet doctor | head -1``), the command ends without a word.
    """
    try:
        code = _main(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # the interpreter flushes at its end, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _main(argv: Sequence[str] | None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("help", "-h", "--help") or "--help" in args[1:]:
        print(USAGE)
        return 0
    command = args.pop(0)
    try:
        if command not in COMMANDS:
            raise UsageError(nearest("command", command, COMMANDS))
        run = {
            "train": _train,
            "resume": _resume,
            "eval": _eval,
            "predict": _predict,
            "profile": _profile,
            "doctor": _doctor,
            "parity": _parity,
        }[command]
        return run(args)
    except UsageError as error:
        print(f"anynet {command}: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"\nanynet: {stop}", file=sys.stderr)
        return 128 + stop.signal
    except KeyboardInterrupt:
        print("\nanynet: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except (
        OSError,
        ValueError,
        RuntimeError,
        NonFiniteError,
        CheckpointError,
        DataError,
        IndexError,
    ) as error:
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        print(f"anynet {command}: {error}{notes}", file=sys.stderr)
        return 1
