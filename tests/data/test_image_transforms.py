"""Transforms of pictures: Pillow's values, the same bits on every backend, draws by the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet.data import transforms as T
from anynet.data.transforms import color, geometry, policies
from anynet.data.transforms.mixing import beta
from anynet_backends import backend_of, resolve
from optional_libraries import needs


def pictures(n: int = 4, size: tuple[int, int] = (20, 18), channels: int = 3, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (n, channels, *size), dtype=np.uint8)


EVERY = [
    T.RandomHorizontalFlip(), T.RandomVerticalFlip(), T.RandomCrop(9, padding=3, padding_mode="reflect"),
    T.RandomCrop((14, 10), padding=2, fill=7),
    T.RandomCrop(8, padding=(1, 2, 3, 4), padding_mode="edge"), T.CenterCrop(12), T.Pad(2, "wrap"), T.Resize((7, 5)),
    T.Resize((20, 9), "nearest"),
    T.RandomResizedCrop(8), T.RandomRotation(40), T.RandomRotation((10, 80), "nearest", "reflect"),
    T.RandomAffine(20, (0.2, 0.1), (0.7, 1.4), (-5, 5, -8, 8), padding_mode="edge"), T.ColorJitter(0.5, 0.5, 0.5, 0.2),
    T.RandomGrayscale(0.5), T.RandomInvert(), T.RandomAutocontrast(), T.RandomEqualize(), T.RandomPosterize(3), T.RandomSolarize(0.5),
    T.Normalize([0.1, 0.5, 0.7], [0.2, 0.3, 0.4]), T.RandomErasing(0.8), T.Cutout(5, value=[1, 2, 3]), T.RandAugment(3), T.TrivialAugment(),
    T.Compose([T.RandomHorizontalFlip(), T.RandomCrop(14, padding=4)]), T.OneOf([T.RandomInvert(1.0), T.RandomRotation(30)], [0.3, 0.7]),
    T.RandomApply([T.RandomInvert(0.5), T.ColorJitter(0.9)], 0.6), T.MixUp(0.4, 5), T.CutMix(1.0, 5), T.MixUp(3, 5, p=0.5),
]  # fmt: skip
BYTES_ONLY = (T.RandomAutocontrast, T.RandomEqualize, T.RandomPosterize, T.RandAugment, T.TrivialAugment)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("device", ["strict", "torch:cpu"])
@pytest.mark.parametrize("t", EVERY, ids=lambda t: type(t).__name__)
def test_the_same_bits_on_every_backend(t: T.Transform, device: str, kind: str) -> None:
    if device.startswith("torch"):
        pytest.importorskip("torch", reason="the torch backend")
    x, y = pictures(12), np.arange(12) % 5
    if kind == "float32":
        x = x.astype(np.float32) / 255
        if isinstance(t, BYTES_ONLY):
            with pytest.raises(TypeError, match="uint8"):
                t.at(x, y, seed=3, epoch=2, samples=range(12))
            return
    expected = t.at(x, y, seed=3, epoch=2, samples=range(12))
    xp, name = resolve(device)
    got = t.at(xp.from_host(x, name), xp.from_host(y, name), seed=3, epoch=2, samples=range(12))
    for a, b in zip(got, expected, strict=True):
        back = xp.to_host(a)
        assert back.dtype == b.dtype
        np.testing.assert_array_equal(back, b)
    if not isinstance(t, (T.CenterCrop, T.Pad, T.Resize, T.Normalize)):
        assert t.draws
        changed = t.at(x, y, seed=3, epoch=3, samples=range(12))[0]
        assert not np.array_equal(changed, expected[0])


@pytest.mark.parametrize("t", [t for t in EVERY if not t.mixes], ids=lambda t: type(t).__name__)
def test_a_picture_does_not_depend_on_its_batch(t: T.Transform) -> None:
    x = pictures(12)
    whole = t.at(x, seed=1, epoch=0, samples=range(12))
    part = t.at(x[[7, 2]], seed=1, epoch=0, samples=[7, 2])
    np.testing.assert_array_equal(part, whole[[7, 2]])
    np.testing.assert_array_equal(t.at(x[5], seed=1, epoch=0, samples=[5]), whole[5])


def pillow(x: Any, f: Any) -> Any:
    image = needs("PIL.Image", "images")
    return np.stack([np.asarray(f(image.fromarray(p.transpose(1, 2, 0)))).transpose(2, 0, 1) for p in x])


@pytest.mark.parametrize("amount", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (color.brightness, "Brightness"),
        (color.contrast, "Contrast"),
        (color.saturation, "Color"),
        (color.sharpness, "Sharpness"),
    ],
)
def test_enhancements_are_pillows(change: Any, name: str, amount: float) -> None:
    enhance = needs("PIL.ImageEnhance", "images")
    x = pictures()
    expected = pillow(x, lambda i: getattr(enhance, name)(i).enhance(amount))
    np.testing.assert_array_equal(change(x, np.full(4, amount)), expected)


def test_changes_of_values_are_pillows() -> None:
    ops = needs("PIL.ImageOps", "images")
    x = pictures()
    x[1] = x[1] // 3 + 20
    x[2] = 77
    np.testing.assert_array_equal(color.equalize(x), pillow(x, ops.equalize))
    np.testing.assert_array_equal(color.autocontrast(x), pillow(x, ops.autocontrast))
    np.testing.assert_array_equal(color.invert(x), pillow(x, ops.invert))
    np.testing.assert_array_equal(
        color.posterize(x, np.full(4, 3.0)), pillow(x, lambda i: ops.posterize(i, 3))
    )
    np.testing.assert_array_equal(
        color.solarize(x, np.full(4, 90.0)), pillow(x, lambda i: ops.solarize(i, 90))
    )
    np.testing.assert_array_equal(color.grey(x), pillow(x, lambda i: np.asarray(i.convert("L"))[..., None]))


def test_hue_is_that_of_colorsys() -> None:
    import colorsys

    x = pictures(1, (3, 4)).astype(np.float64) / 255
    y = color.hue(x, np.asarray([0.3]))
    for i in range(3):
        for j in range(4):
            h, s, v = colorsys.rgb_to_hsv(*x[0, :, i, j])
            np.testing.assert_allclose(y[0, :, i, j], colorsys.hsv_to_rgb((h + 0.3) % 1, s, v), atol=1e-6)


def test_affine_maps_are_pillows() -> None:
    image = needs("PIL.Image", "images")
    x = pictures(4, (31, 23))
    for numbers in (
        (0.9, 0.2, 1.3, -0.1, 1.1, 0.4),
        (1.0, 0.3, 0.0, 0.0, 1.0, 0.0),
        (0.5, 0.0, 3.0, 0.0, 0.5, 2.0),
    ):
        matrices = np.tile(np.asarray(numbers), (4, 1))
        for name, most in (("nearest", 0), ("bilinear", 1)):
            flag = getattr(image.Resampling, name.upper())
            expected = pillow(x, lambda i: i.transform(i.size, image.Transform.AFFINE, numbers, flag))  # noqa: B023
            got = geometry.warp(x, matrices, None, name)
            inner = (
                (got > 0) & (expected > 0) if most else ...
            )  # at the very edge rounding decides what is outside
            assert np.abs(got.astype(int) - expected.astype(int))[inner].max() <= most


def test_rotations_and_crops() -> None:
    x = pictures(3, (6, 6))
    np.testing.assert_array_equal(T.RandomRotation((90, 90))(x), np.rot90(x, axes=(2, 3)))
    np.testing.assert_array_equal(T.RandomRotation((180, 180), "nearest")(x), x[:, :, ::-1, ::-1])
    np.testing.assert_array_equal(T.RandomAffine((90, 90))(x), np.rot90(x, -1, axes=(2, 3)))
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    np.testing.assert_array_equal(T.Pad(2, "reflect")(x), padded)
    out = T.RandomCrop(6, padding=2, padding_mode="reflect").at(x, seed=0, epoch=0, samples=[4, 5, 6])
    for i in range(3):
        assert any(
            np.array_equal(out[i], padded[i, :, a : a + 6, b : b + 6]) for a in range(5) for b in range(5)
        )
    np.testing.assert_array_equal(T.RandomResizedCrop(6, (1, 1), (1, 1))(x), x)
    np.testing.assert_array_equal(T.CenterCrop(2)(x), x[:, :, 2:4, 2:4])


def test_chances() -> None:
    x = np.ones((2000, 1, 1, 2), np.uint8) * np.asarray([0, 200], np.uint8)
    share = (
        T.RandomHorizontalFlip(0.3).at(x, seed=0, epoch=0, samples=range(2000))[:, 0, 0, 0] == 200
    ).mean()
    assert abs(share - 0.3) < 0.05
    t = T.OneOf([T.RandomInvert(1.0), T.RandomHorizontalFlip(1.0)], weights=[3, 1])
    out = t.at(x, seed=0, epoch=0, samples=range(2000))
    assert abs((out[:, 0, 0, 0] == 255).mean() - 0.75) < 0.05
    u = np.random.default_rng(0).random((20000, 64))
    for alpha in (0.2, 1.0, 3):
        drawn = beta(backend_of(u), u, alpha)
        assert abs(drawn.mean() - 0.5) < 0.01
        assert abs(drawn.var() - 1 / (4 * (2 * alpha + 1))) < 0.005


def test_mixed_pictures_train_with_cross_entropy() -> None:
    x, y = pictures(8), np.arange(8) % 3
    for t in (T.MixUp(0.5, 3), T.CutMix(1.0, 3)):
        out, p = t.at(x, y, seed=0, epoch=0, samples=range(8))
        assert (out.dtype, p.dtype, p.shape) == (np.uint8, np.float32, (8, 3))
        np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
    _, p = T.CutMix(1.0, 3).at(
        np.zeros((8, 1, 4, 4), np.float32) + y[:, None, None, None], y, seed=0, epoch=0, samples=range(8)
    )
    values = T.CutMix(1.0, 3).at(
        np.zeros((8, 1, 4, 4), np.float32) + y[:, None, None, None], y, seed=0, epoch=0, samples=range(8)
    )[0]
    np.testing.assert_allclose([(values[i] == y[i]).mean() for i in range(8)], p[np.arange(8), y], rtol=1e-6)
    data = T.MixUp(0.5, 3)(an.asarray(x), an.asarray(y))
    pixels = an.astype(data[0], an.float32) / 255
    net = an.nn.Sequential(an.nn.Flatten(), an.nn.Linear(3 * 20 * 18, 3))
    history = an.fit(
        net, (pixels, data[1]), loss="cross_entropy", metrics=["accuracy"], epochs=1, progress=False
    )
    assert 0 <= history[-1]["accuracy"] <= 1


def test_draws_follow_the_seed_and_a_generator() -> None:
    x = pictures(16)
    t = T.RandomCrop(8)
    an.random.manual_seed(5)
    first, second = t(x), t(x)
    assert not np.array_equal(first, second)
    an.random.manual_seed(5)
    np.testing.assert_array_equal(t(x), first)
    np.testing.assert_array_equal(
        t(x, generator=an.random.Generator(1)), t(x, generator=an.random.Generator(1))
    )
    assert isinstance(t(an.asarray(x)), an.Tensor)


def test_every_change_of_a_policy_is_reached() -> None:
    assert list(policies.RandAugment.space) == list(policies.TrivialAugment.space) == list(policies._CHANGES)
    x = pictures(14)
    kinds = (np.arange(14) + 0.5) / 14
    out = T.RandAugment().once(x, kinds, np.full(14, 0.5), np.ones(14))
    same = [i for i in range(14) if np.array_equal(out[i], x[i])]
    assert same[0] == 0
    assert set(same) <= {0, 12}  # a random picture has its full contrast already


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.RandomHorizontalFlip(2), r"RandomHorizontalFlip: p must be in \[0, 1\], got 2"),
        (lambda: T.RandomCrop(0), "RandomCrop: size must be a positive integer"),
        (lambda: T.RandomCrop(4, padding=-1), "padding must be one, two or four integers"),
        (lambda: T.RandomCrop(4, padding_mode="mirror"), "padding_mode must be 'constant'"),
        (lambda: T.RandomCrop(99)(pictures()), "smaller than size"),
        (lambda: T.RandomRotation((5, 1)), "degrees must be a number, or"),
        (lambda: T.RandomAffine(scale=(2, 1)), r"scale must be \(low, high\)"),
        (lambda: T.ColorJitter(hue=0.7), "hue must be in"),
        (lambda: T.MixUp(2.5), "alpha must be at most 1, or an integer"),
        (lambda: T.MixUp(0.2)(pictures(), np.arange(4)), "class indices need num_classes"),
        (lambda: T.RandAugment(magnitude=40), "magnitude in"),
        (lambda: T.RandomInvert()(pictures().transpose(0, 2, 3, 1)), "channels come first"),
        (lambda: T.RandomApply(T.MixUp(0.2)), "mix the whole batch"),
        (lambda: T.RandAugment(magnitude="strong"), "RandAugment: magnitude must be a number, got 'strong'"),
        (lambda: T.RandomSolarize("half"), "RandomSolarize: threshold must be a number, got 'half'"),
        (lambda: T.RandomErasing(value="white"), "RandomErasing: value must be a number, got 'w'"),
        (lambda: T.Cutout(4, value=None), "Cutout: value must be a number, got None"),
        (
            lambda: T.RandomAffine(shear=None, fill="black"),
            "RandomAffine: fill must be a number, got 'black'",
        ),
        (lambda: T.RandomAffine(shear=object()), "RandomAffine: shear must be a number, got <object"),
        (lambda: T.Pad(None), "padding must be one, two or four integers ≥ 0, got None"),
        (lambda: T.ColorJitter(hue=None), "hue must be in"),
        (lambda: T.Normalize([0.0], [1.0])(pictures()), "1 means for pictures of 3 channels"),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_dtypes() -> None:
    with pytest.raises(TypeError, match=r"uint8 \(0 to 255\) or floating-point"):
        T.RandomInvert()(pictures().astype(np.int32))
    with pytest.raises(TypeError, match="equalize takes pictures of uint8"):
        T.RandomEqualize(1.0)(pictures().astype(np.float32) / 255)
    with pytest.raises(TypeError, match="transforms must be a list of Transforms, got 3"):
        T.Compose(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="targets are mixed too"):
        T.MixUp(0.2, 3)(pictures())
    with pytest.raises(an.GradientError, match="no gradient"):
        T.RandomInvert()(an.asarray([[[[1.0]]]], requires_grad=True))
