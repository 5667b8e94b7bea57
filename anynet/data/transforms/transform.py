"""What a transform is, and transforms made of others.

A transform changes a batch of pictures (n, channels, height, width): of uint8, from 0 to 255, or of floating-point numbers, from 0 to
1. What is drawn for a picture are uniform numbers, `draws` of them, and the rest is a function of the picture and these numbers. So
the same numbers give the same bits on every backend, and numbers addressed by (seed, epoch, sample) give a picture that does not
depend on its batch, on the worker that makes it, or on where a training was resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anynet.autograd.graph import GradientError
from anynet.streams import AUGMENTATION, Generator, next_mask
from anynet.tensor import Tensor, to_plain, wrap
from anynet_backends import Array, backend_of, philox, registry

__all__ = ["Compose", "OneOf", "RandomApply", "Transform", "numbers"]


def numbers(seed: int, epoch: int, samples: Sequence[int], count: int) -> Array:
    """Uniform numbers on [0, 1) for samples in an epoch, float64 (len(samples), count), on the host."""
    return philox.uniform_rows(seed, AUGMENTATION, [(epoch << 32) + int(i) for i in samples], count)


class Transform:
    """Base of transforms: ``transform(x)``, or ``transform(x, targets)`` → the pair.

    x is a batch (n, channels, height, width) or one picture (channels, height, width), an array or Tensor; the result is of the
    same kind. Numbers are drawn from `generator`, or from the streams of `anynet.random.manual_seed`. `at` takes numbers that are
    addressed by the sample instead.

    A transform of one's own sets `draws` and defines ``apply(x, u)``, with x a plain array and u (n, draws) uniform numbers on
    the host; ``apply_pair(x, y, u)`` instead where it changes the targets.

    >>> import anynet as an
    >>> class Invert(an.data.transforms.Transform):
    ...     def apply(self, x, u):
    ...         return 255 - x
    >>> Invert()(an.zeros((1, 1, 1, 2), dtype=an.uint8)).tolist()
    [[[[255, 255]]]]
    """

    draws: int = 0
    """How many uniform numbers a picture takes."""
    mixes: bool = False
    """Whether pictures are mixed, so that targets are probabilities of the classes afterwards."""

    def apply(self, x: Array, u: Array) -> Array:
        """The batch, changed."""
        msg = f"{type(self).__name__} does not define apply"
        raise NotImplementedError(msg)

    def apply_pair(self, x: Array, y: Array | None, u: Array) -> tuple[Array, Array | None]:
        """The batch and its targets, changed."""
        return self.apply(x, u), y

    def __call__(self, x: Any, targets: Any = None, *, generator: Generator | None = None) -> Any:
        seed, step = next_mask() if generator is None else generator.next()

        def drawn(n: int) -> Array:
            return philox.uniform(seed, AUGMENTATION + 16, step, (n, self.draws))

        return self._changed(x, targets, drawn)

    def at(self, x: Any, targets: Any = None, *, seed: int, epoch: int, samples: Sequence[int]) -> Any:
        """The pictures `samples` (their numbers in the data set) of a batch, as they are in an epoch."""

        def drawn(n: int) -> Array:
            if n != len(samples):
                msg = f"{type(self).__name__}: {n} pictures need as many samples, got {len(samples)}"
                raise ValueError(msg)
            return numbers(seed, epoch, samples, self.draws)

        return self._changed(x, targets, drawn)

    def _changed(self, x: Any, targets: Any, drawn: Callable[[int], Array]) -> Any:
        if isinstance(x, Tensor) and x.requires_grad:
            msg = f"{type(self).__name__}: transforms have no gradient; give x.detach()"
            raise GradientError(msg)
        plain = to_plain(x)
        _check(type(self).__name__, plain)
        single = len(plain.shape) == 3
        if single and targets is not None:
            msg = f"{type(self).__name__}: one picture {tuple(plain.shape)} takes no targets; give a batch (1, …)"
            raise ValueError(msg)
        if single:
            plain = plain[None, ...]
        y = None if targets is None else to_plain(targets)
        if y is not None and (not y.shape or y.shape[0] != plain.shape[0]):
            msg = f"{type(self).__name__}: {plain.shape[0]} pictures need as many targets, got shape {tuple(y.shape)}"
            raise ValueError(msg)
        out, y = self.apply_pair(plain, y, drawn(int(plain.shape[0])))
        out = out[0, ...] if single else out
        out = out if registry.is_array(x) else wrap(out)
        if targets is None:
            return out
        return out, wrap(y) if isinstance(targets, Tensor) else y

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({shown})"


def _check(where: str, x: Array) -> None:
    xp = backend_of(x)
    shape = tuple(x.shape)
    if len(shape) not in (3, 4) or shape[-3] not in (1, 3):
        hint = (
            "; channels come first: permute_dims(x, (0, 3, 1, 2))"
            if len(shape) == 4 and shape[-1] in (1, 3)
            else ""
        )
        msg = f"{where}: pictures are (n, channels, height, width) with 1 or 3 channels, or one without n, got {shape}{hint}"
        raise ValueError(msg)
    if x.dtype != xp.uint8 and not xp.isdtype(x.dtype, "real floating"):
        msg = f"{where}: pictures are uint8 (0 to 255) or floating-point numbers (0 to 1), got {xp.dtype_name(x.dtype)}"
        raise TypeError(msg)


# ----- transforms made of others -----


class Compose(Transform):
    """One transform after the other.

    >>> import anynet as an
    >>> from anynet.data import transforms as T
    >>> augment = T.Compose([T.RandomHorizontalFlip(), T.RandomCrop(32, padding=4)])
    >>> augment(an.zeros((8, 3, 32, 32), dtype=an.uint8)).shape
    (8, 3, 32, 32)
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = _transforms("Compose", transforms)
        self.draws = sum(t.draws for t in self.transforms)
        self.mixes = any(t.mixes for t in self.transforms)

    def apply(self, x: Array, u: Array) -> Array:
        return self.apply_pair(x, None, u)[0]

    def apply_pair(self, x: Array, y: Array | None, u: Array) -> tuple[Array, Array | None]:
        at = 0
        for t in self.transforms:
            x, y = t.apply_pair(x, y, u[:, at : at + t.draws])
            at += t.draws
        return x, y

    def __repr__(self) -> str:
        return f"Compose({self.transforms!r})"


class RandomApply(Transform):
    """A transform (or several, in a row) for each picture with probability `p`.

    >>> import anynet as an
    >>> from anynet.data import transforms as T
    >>> T.RandomApply(T.RandomRotation(90), p=0.0)(an.ones((1, 1, 1, 2), dtype=an.uint8)).tolist()
    [[[[1, 1]]]]
    """

    def __init__(self, transform: Transform | Sequence[Transform], p: float = 0.5) -> None:
        self.transform = transform if isinstance(transform, Transform) else Compose(transform)
        _refuse_mixing("RandomApply", [self.transform])
        self.p = probability("RandomApply", p)
        self.draws = self.transform.draws + 1

    def apply(self, x: Array, u: Array) -> Array:
        return by_group(x, u, backend_of(u).astype(u[:, 0] < self.p, "int64"), [None, self.transform.apply])


class OneOf(Transform):
    """One of several transforms for each picture, drawn with equal probability, or with probability proportional to `weights`.

    >>> import anynet as an
    >>> from anynet.data import transforms as T
    >>> T.OneOf([T.RandomHorizontalFlip(1.0), T.RandomVerticalFlip(1.0)])(an.ones((2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    def __init__(self, transforms: Sequence[Transform], weights: Sequence[float] | None = None) -> None:
        self.transforms = _transforms("OneOf", transforms)
        _refuse_mixing("OneOf", self.transforms)
        given = [1.0] * len(self.transforms) if weights is None else [float(w) for w in weights]
        if len(given) != len(self.transforms) or min(given) < 0 or sum(given) <= 0:
            msg = f"OneOf: weights must be {len(self.transforms)} numbers ≥ 0, not all 0, got {weights!r}"
            raise ValueError(msg)
        self.weights = given
        self.draws = 1 + max(t.draws for t in self.transforms)

    def apply(self, x: Array, u: Array) -> Array:
        hx = backend_of(u)
        choice, passed = 0 * hx.astype(u[:, 0], "int64"), 0.0
        for weight in self.weights[:-1]:
            passed += weight / sum(self.weights)
            choice = choice + hx.astype(u[:, 0] >= passed, "int64")
        return by_group(x, u, choice, [_shorter(t) for t in self.transforms])

    def __repr__(self) -> str:
        return f"OneOf({self.transforms!r})"


Change = Callable[[Array, Array], Array]


def _shorter(t: Transform) -> Change:
    return lambda x, u: t.apply(x, u[:, : t.draws])


def by_group(x: Array, u: Array, choice: Array, changes: Sequence[Change | None]) -> Array:
    """Each picture changed by ``changes[choice]`` (None: as it is), with its numbers but for the first; `choice` is on the host."""
    xp, hx = backend_of(x), backend_of(u)
    rows, parts = [], []
    for k, change in enumerate(changes):
        [group] = hx.nonzero(choice == k)
        if group.shape[0]:
            part = xp.take(x, xp.from_host(group, xp.device_of(x)), axis=0)
            parts.append(part if change is None else change(part, hx.take(u, group, axis=0)[:, 1:]))
            rows.append(group)
    if len(parts) <= 1:
        return parts[0] if parts else x
    back = hx.argsort(hx.concat(rows, axis=0))
    return xp.take(xp.concat(parts, axis=0), xp.from_host(back, xp.device_of(x)), axis=0)


# ----- checks of options -----


def probability(where: str, p: float) -> float:
    """A probability."""
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
        msg = f"{where}: p must be in [0, 1], got {p!r}"
        raise ValueError(msg)
    return float(p)


def _transforms(where: str, transforms: Sequence[Transform]) -> list[Transform]:
    found = list(transforms) if isinstance(transforms, Sequence) else [transforms]
    wrong = [t for t in found if not isinstance(t, Transform)]
    if wrong or (not found and where != "Compose"):
        msg = (
            f"{where}: transforms must be a list of Transforms, got {wrong[0]!r:.60}"
            if wrong
            else f"{where}: got no transforms"
        )
        raise TypeError(msg)
    return found


def _refuse_mixing(where: str, transforms: Sequence[Transform]) -> None:
    if any(t.mixes for t in transforms):
        msg = f"{where}: MixUp and CutMix mix the whole batch; use their own p, in a Compose"
        raise ValueError(msg)
