"""Docstrings that variants share, filled in for each of them: classes' when they are read, functions' at once.

In the docstring of a layer's private base class, and in the text for `shared_docstring`, stand for what differs between the one-,
two- and three-dimensional variants:

    $name       the name of the class                           Conv1d · Conv2d · Conv3d
    $axes       the number of spatial axes                      1 · 2 · 3
    $data       what such inputs are                            sequences · images · volumes
    $spatial    the axes                                        length · height, width · depth, height, width
    $out        the axes of the output                          length_out · height_out, width_out · …
    $integers   an option with a value for each axis            an integer · an integer or 2 of them · an integer or 3 of them
    $shapes     what batch normalization takes                  (batch, num_features) or (batch, num_features, length) · …
    $example    the spatial axes of an example                  (none) · , 4, 4 · , 4, 4, 4
    $sides      the number of ends of all axes                  2 · 4 · 6
    $8          a number for each axis                          8 · 8, 8 · 8, 8, 8
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["SharedDocstring", "shared_docstring", "spatial_words", "wrapped"]

_PLACEHOLDER = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_INDENT, _INDENTED = re.compile(r"^    ", re.MULTILINE), re.compile(r"^    \S", re.MULTILINE)
_WIDTH = 116

Function = TypeVar("Function", bound=Callable[..., Any])


def spatial_words(name: str, axes: int) -> dict[str, str]:
    """What stands for the placeholders in the docstring of the variant `name` with so many spatial axes."""
    spatial = ("length",) if axes == 1 else ("depth", "height", "width")[-axes:]
    return {
        "name": name,
        "axes": str(axes),
        "sides": str(2 * axes),
        "shapes": ("(batch, num_features) or " if axes == 1 else "")
        + f"(batch, num_features, {', '.join(spatial)})",
        "example": "" if axes == 1 else ", 4" * axes,
        "data": ("sequences", "images", "volumes")[axes - 1],
        "spatial": ", ".join(spatial),
        "out": ", ".join(f"{axis}_out" for axis in spatial),
        "integers": "an integer" if axes == 1 else f"an integer or {axes} of them",
    }


class SharedDocstring:
    """A class's ``__doc__`` that is made when it is read: with words for the placeholders of a text, in lines of even length, and its
    equation.

    >>> class Variant:
    ...     __doc__ = SharedDocstring("As many axes as $axes: ($8).", {"axes": "2"})
    >>> Variant.__doc__
    'As many axes as 2: (8, 8).'
    """

    def __init__(self, text: str, words: Mapping[str, str]) -> None:
        self.text, self.words = text, words

    def __get__(self, instance: object, owner: type) -> str:
        from anynet.equations.paragraphs import with_equation  # reads the language, which imports do without

        paragraphs = _filled(self.text, self.words).split("\n\n")
        shared = [p if ">>>" in p else wrapped(p) for p in paragraphs]
        if not _INDENTED.search(self.text):  # Python 3.13 and later take the indentation out of docstrings
            shared = [_INDENT.sub("", p) if ">>>" not in p else p for p in shared]
        return with_equation("\n\n".join(shared).lstrip(), owner)


def shared_docstring(text: str, axes: int) -> Callable[[Function], Function]:
    """A decorator that puts paragraphs which the variants of a function share between its summary and its example.

    >>> @shared_docstring("    Shapes: (n, $spatial).", 2)
    ... def area2d(x):
    ...     '''The area.
    ...
    ...     >>> area2d(1)
    ...     '''
    >>> area2d.__doc__.split("\\n")[2].strip()
    'Shapes: (n, height, width).'
    """

    def fill(function: Function) -> Function:
        if function.__doc__:  # none with python -OO
            summary, prompt, example = function.__doc__.partition("    >>>")
            # at each import of anynet, therefore not in lines of even length
            shared = _filled(text.strip("\n"), spatial_words(function.__name__, axes))
            if not prompt:  # Python 3.13 and later take the indentation out of docstrings
                summary, prompt, example = function.__doc__.partition(">>>")
                shared = _INDENT.sub("", shared)
            function.__doc__ = f"{summary.rstrip()}\n\n{shared}\n\n{prompt}{example}"
        return function

    return fill


def _filled(text: str, words: Mapping[str, str]) -> str:
    def replace(found: re.Match[str]) -> str:
        key = found[1] or found[2]
        return ", ".join([key] * int(words["axes"])) if key.isdigit() else words[key]

    return _PLACEHOLDER.sub(replace, text)


def wrapped(paragraph: str) -> str:
    """The paragraph's words in lines, indented as a class's docstring is."""
    lines = [""]
    for word in paragraph.split():
        if len(lines[-1]) + len(word) >= _WIDTH:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else f"    {word}"
    return "\n".join(lines)
