"""The grammar of the command line: click, with ``key=value`` beside ``--key value`` and `--key=value`.

A command is a function with parameters (`argument`, `option`) under `command`. It returns a `Result`, which is printed as text, or as
JSON with ``json=1``. What click refuses is said again in the words of this library, with the nearest name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anynet._hints import nearest

__all__ = [
    "Choice",
    "Names",
    "Number",
    "Output",
    "Result",
    "Switch",
    "Time",
    "Whole",
    "argument",
    "command",
    "option",
]

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:  # it is generic from click 8.5 on
    ParamType = click.ParamType

_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=(.*)", re.DOTALL)


# ----- what options take -----


class Whole(ParamType):
    """A whole number of at least `least`."""

    name = "N"

    def __init__(self, least: int | None = None) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            raise click.UsageError(f"{_name(param)}={value!r}: expected a whole number", ctx) from None
        if self.least is not None and number < self.least:
            raise click.UsageError(f"{_name(param)}={value}: expected at least {self.least}", ctx)
        if number >= 1 << 63:
            raise click.UsageError(f"{_name(param)}={value}: expected less than 2⁶³", ctx)
        return number


class Number(ParamType):
    """A finite number, from `least` to `most`."""

    name = "X"

    def __init__(self, least: float | None = None, most: float | None = None) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            raise click.UsageError(f"{_name(param)}={value!r}: expected a number", ctx) from None
        for bound, fails, words in (
            (self.least, self.least is not None and number < self.least, "at least"),
            (self.most, self.most is not None and number > self.most, "at most"),
        ):
            if fails:
                raise click.UsageError(f"{_name(param)}={value}: expected {words} {bound:g}", ctx)
        if not math.isfinite(number):
            raise click.UsageError(f"{_name(param)}={value}: expected a finite number", ctx)
        return number


class Time(ParamType):
    """A length of time above 0 with its unit: 30s, 10min, 2h."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from anynet.train.checks import seconds  # start-up time: only commands that train ask

        try:
            seconds("", "", str(value))
        except ValueError:
            raise click.UsageError(
                f"{_name(param)}={value!r}: expected a time such as 30s, 10min or 2h", ctx
            ) from None
        return str(value)


class Switch(ParamType):
    """Yes or no: 1, true, yes, on and 0, false, no, off."""

    name = "0|1"
    words: Mapping[str, bool] = {
        "1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False,
    }  # fmt: skip

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() not in self.words:
            raise click.UsageError(
                f"{_name(param)}={value!r}: expected 1 or 0 (yes or no, true or false)", ctx
            )
        return self.words[str(value).lower()]


class Choice(ParamType):
    """One of some words; `-` and `_` are the same."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.name = "|".join(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word = str(value).lower().replace("-", "_")
        known = {w.replace("-", "_"): w for w in self.words}
        if word not in known:
            raise click.UsageError(f"unknown {_name(param)} {value!r}{nearest(word, self.words)}", ctx)
        return known[word]

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """The words that begin so."""
        return [click.shell_completion.CompletionItem(w) for w in self.words if w.startswith(incomplete)]


class Names(ParamType):
    """Words separated by commas, each converted by `of`."""

    def __init__(self, of: ParamType | None = None, name: str = "A,B,…") -> None:
        self.of, self.name = of, name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        parts = [part.strip() for part in str(value).split(",") if part.strip()]
        if not parts:
            raise click.UsageError(f"{_name(param)}={value!r}: expected words separated by commas", ctx)
        return tuple(parts if self.of is None else (self.of.convert(part, param, ctx) for part in parts))


def _name(param: click.Parameter | None) -> str:
    return "value" if param is None or param.name is None else param.name


# ----- options and arguments -----


class _Option(click.Option):
    """An option that the help page shows as ``key=VALUE``, under the heading `group`."""

    def __init__(self, *args: Any, group: str, shown: str | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group, self.shown = group, shown

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        kind = self.metavar or self.type.name
        default = self.shown
        if default is None and self.default is not None:
            default = f"{self.default:g}" if isinstance(self.default, float) else str(self.default)
        return f"{self.name}={kind}", (self.help or "") + (f"  [default: {default}]" if default else "")


def option(
    name: str,
    kind: ParamType,
    meaning: str,
    default: Any = None,
    *,
    shown: str | None = None,
    metavar: str | None = None,
    group: str = "Options",
) -> click.Option:
    """An option ``name=VALUE``. `shown` is the default in words, where it follows from the data, say."""
    spelled = name.replace("_", "-")
    more: dict[str, Any] = {"is_flag": False, "flag_value": "1"} if isinstance(kind, Switch) else {}
    return _Option(
        [f"--{spelled}", name], type=kind, default=default, help=meaning, group=group, shown=shown, metavar=metavar,
        **more,
    )  # fmt: skip


class _Argument(click.Argument):
    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected


def argument(
    name: str, expected: str, *, count: int = 1, required: bool = True, kind: ParamType | None = None
) -> click.Argument:
    """A positional argument, a path unless `kind` says otherwise; `expected` says what it is where it is missing. `count` −1: any
    number, at least one if `required`."""
    return _Argument([name], nargs=count, required=required, type=kind or click.Path(), expected=expected)


# ----- output -----


@dataclass(frozen=True)
class Result:
    """What a command has found: `text` for people, `data` for ``json=1``; `code` is the exit code."""

    data: Any
    text: str
    code: int = 0


class Output:
    """Where a command says what it is doing, besides its result: nothing with ``quiet=1``, and with ``json=1`` nothing either, so that the
    output is one JSON document."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet
        self.silent = False  # of several processes of one training all but the first are

    @property
    def talks(self) -> bool:
        """Whether progress is shown."""
        return not (self.as_json or self.quiet or self.silent)

    def say(self, text: str) -> None:
        """A line about what is going on."""
        if self.talks:
            click.echo(text)

    def finish(self, result: Result) -> int:
        """Print the result."""
        if self.silent:
            return result.code
        if self.as_json:
            click.echo(json.dumps(plain(result.data), ensure_ascii=False, indent=2))
        elif result.text:
            click.echo(result.text)
        return result.code


def plain(data: Any) -> Any:
    """The same as JSON has it: numbers that are not finite are null, paths are texts, Tensors are lists."""
    if isinstance(data, Mapping):
        return {str(k): plain(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain(v) for v in data]
    if hasattr(data, "tolist"):
        return plain(data.tolist())
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    return data if data is None or isinstance(data, (bool, int, str)) else str(data)


# ----- commands -----


class Command(click.Command):
    """A command that takes ``key=value``, too."""

    takes_script = False  # whether a first argument that ends with .py takes all that follows as its own
    takes_variables = False  # whether ``name=value`` of other names are values of variables: they come as ctx.meta["variables"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = {p.name: p for p in self.params if isinstance(p, click.Option) and p.name}
        if self.takes_script and args and args[0].endswith(".py"):
            ctx.meta["script"] = args
            return super().parse_args(ctx, args[:1])
        if self.takes_variables:
            args = _without_variables(ctx, args, options)
        rewritten = list(_rewritten(ctx, args, options))
        try:
            return super().parse_args(ctx, rewritten)
        except click.NoSuchOption as error:
            word = error.option_name.lstrip("-").replace("-", "_")
            raise click.UsageError(f"unknown option {word!r}{nearest(word, options)}", ctx) from None
        except click.BadOptionUsage as error:
            name = error.option_name
            raise click.UsageError(
                f"{name} needs a value: {name} VALUE or {name.lstrip('-')}=VALUE", ctx
            ) from None
        except click.MissingParameter as error:
            missing = error.param
            expected = missing.expected if isinstance(missing, _Argument) else "a value"
            raise click.UsageError(f"expected {expected}, got nothing", ctx) from None
        except click.UsageError as error:
            extra = re.match(r"Got unexpected extra arguments? \((.*)\)", error.message)
            if extra is None:
                raise
            wanted = [p.expected for p in self.params if isinstance(p, _Argument)]
            what = (
                f"expected {' and '.join(wanted)}, also got"
                if wanted
                else f"{self.name} takes no arguments, got"
            )
            raise click.UsageError(f"{what} {extra[1]}", ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.params:
            if isinstance(parameter, _Option):
                groups.setdefault(parameter.group, []).append(parameter.get_help_record(ctx))
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        arguments = [p.make_metavar(ctx) for p in self.params if isinstance(p, click.Argument)]
        return [*arguments, "[key=value | --key value …]"]

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """`key=` for each option, and its values once the key is there."""
        Item = click.shell_completion.CompletionItem
        key, eq, value = incomplete.partition("=")
        options = [p for p in self.params if isinstance(p, click.Option) and p.name]
        if eq:
            found = [
                p.type.shell_complete(ctx, p, value)
                for p in options
                if p.name == key.lstrip("-").replace("-", "_")
            ]
            return [Item(f"{key}={item.value}", type=item.type) for items in found for item in items]
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [Item(f"{p.name}=") for p in options if p.name is not None and p.name.startswith(incomplete)]


def _without_variables(
    ctx: click.Context, args: Sequence[str], options: Mapping[str, click.Option]
) -> list[str]:
    """The arguments but for the values of variables; what begins with a minus and is no option is an argument (``-x**2``)."""
    variables: dict[str, str] = {}
    rest, signed = [], []
    for arg in args:
        found = _KEY.fullmatch(arg)
        if found is not None and found[1].replace("-", "_") not in options:
            if found[1] in variables:
                raise click.UsageError(f"variable {found[1]} is given twice", ctx)
            variables[found[1]] = found[2]
        elif re.match(r"-[^-h]", arg):
            signed.append(arg)
        else:
            rest.append(arg)
    ctx.meta["variables"] = variables
    return [*rest, "--", *signed] if signed else rest


def _rewritten(ctx: click.Context, args: Sequence[str], options: Mapping[str, click.Option]) -> Iterator[str]:
    """``key=value`` as ``--key=value``; an option is given once."""
    given: set[str] = set()
    for arg in args:
        key = None
        found = _KEY.fullmatch(arg)
        if found is not None:
            key, value = found[1].replace("-", "_"), found[2]
            if key not in options and Path(arg).exists():  # a file whose name has an equals sign
                yield arg
                continue
            if key not in options:
                raise click.UsageError(f"unknown option {key!r}{nearest(key, options)}", ctx)
            arg = f"--{key.replace('_', '-')}={value}"
        elif arg.startswith("--") and len(arg) > 2:
            key = arg[2:].partition("=")[0].replace("-", "_")
        if key is not None:
            if key in given:
                raise click.UsageError(f"option {key} is given twice", ctx)
            given.add(key)
        yield arg


def command(
    name: str, *parameters: click.Parameter, script: bool = False, variables: bool = False
) -> Callable[[Callable[..., Result]], Command]:
    """Make a command of a function (output, **parameters) → Result; its docstring is the help page's text."""
    both = (
        option(
            "json", Switch(), "print the result as JSON, and nothing else", False, shown="0", group="Output"
        ),
        option("quiet", Switch(), "print the result only", False, shown="0", group="Output"),
    )

    def decorate(function: Callable[..., Result]) -> Command:
        def run(json: bool, quiet: bool, **values: Any) -> int:
            output = Output(json, quiet)
            return output.finish(function(output, **values))

        made = Command(
            name, params=[*parameters, *both], callback=run, help=function.__doc__,
            context_settings={
                "help_option_names": ["--help", "-h"], "max_content_width": 110,
                "token_normalize_func": lambda token: token.replace("_", "-"),
            },
        )  # fmt: skip
        made.takes_script, made.takes_variables = script, variables
        return made

    return decorate
