"""Layers over one, two or three spatial axes: sequences, images and volumes.

The three variants of a layer share one class and one docstring, that of the private base class (`anynet.nn.docstrings` fills it in).
"""

from __future__ import annotations

from typing import ClassVar, cast

from anynet.nn.docstrings import SharedDocstring, spatial_words
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.typing import ArrayLike

__all__ = ["Spatial"]


class Spatial(Module):
    """A layer over the last `axes` axes of (batch, channels, *spatial). A subclass that sets `axes` gets the docstring of its base
    class, filled in for that number of axes."""

    axes: ClassVar[int]
    _template: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__doc__ is not None and "$name" in cls.__doc__:
            cls._template, cls.__doc__ = cls.__doc__, None
        elif cls.__doc__ is None and cls._template is not None and "axes" in vars(cls):
            words = spatial_words(cls.__name__, cls.axes)
            cls.__doc__ = cast("str", SharedDocstring(cls._template, words))

    def _check_axes(self, x: ArrayLike) -> None:
        if len(x.shape) not in (self.axes + 1, self.axes + 2):
            msg = (
                f"got {tuple(x.shape)}: expected {self.axes + 2} axes (batch, channels, *spatial), or "
                f"{self.axes + 1} without the batch"
            )
            raise ShapeError(msg)
