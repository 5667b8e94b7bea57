"""`ImageFolder` and its preprocessing, on small pictures that are made here."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet.data import DataError, DataLoader, ImageFolder
from anynet.data.images import store
from anynet.data.source import preprocessing_from_json
from optional_libraries import needs

Image = needs("PIL.Image", "images")

COLOURS = {"blue": (20, 30, 220), "red": (220, 30, 20)}


def noisy(colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (12, 10)) -> Any:
    """(width, height) = (10, 12)"""
    noise = np.random.default_rng(seed).integers(-20, 21, (*size, 3))
    return Image.fromarray(np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8))


def made(root: Path, count: int = 10, parts: tuple[str, ...] = ("",)) -> Path:
    seed = 0
    for part in parts:
        for name, colour in COLOURS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                seed += 1
                noisy(colour, seed).save(folder / f"{i}.png")
    return root


def test_folders_of_classes(tmp_path: Path) -> None:
    folder = ImageFolder(made(tmp_path), valid=0.2, test=0.1)
    assert folder.classes == ["blue", "red"]
    assert folder.size == (12, 10)
    assert [len(d) for d in (folder.train, folder.valid, folder.test)] == [14, 4, 2]
    assert folder.counts("valid") == {"blue": 2, "red": 2}
    rows = [i for r in folder._rows for i in r.tolist()]
    assert sorted(rows) == list(range(20))
    train = np.stack([folder.train.picture(i) for i in range(14)]) / 255
    np.testing.assert_allclose(folder.mean, train.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(folder.std, train.std((0, 1, 2)), rtol=1e-9)
    x, y = folder.valid.batch([0, 3])
    assert (x.shape, x.dtype, y.dtype) == ((2, 3, 12, 10), an.float32, an.int64)
    expected = (np.stack([folder.valid.picture(i) for i in (0, 3)]) / 255 - folder.mean) / folder.std
    np.testing.assert_allclose(np.asarray(x), expected.transpose(0, 3, 1, 2), rtol=2e-5, atol=2e-6)
    assert y.tolist() == [0, 1]
    assert "blue  7 + 2 + 1" in folder.describe()
    assert "<table>" in folder._repr_html_()
    assert folder.show(4) is not None


def test_folders_of_parts_under_one_folder_and_in_a_zip(tmp_path: Path) -> None:
    made(tmp_path / "data", 5, ("train", "Val", "test"))
    noisy(COLOURS["red"], 99).save(tmp_path / "data" / "train" / "red" / "UPPER.JPG")
    (tmp_path / "data" / "train" / "green").mkdir()
    (tmp_path / "data" / "train" / "notes.txt").write_text("x")
    (tmp_path / "data" / "train" / "red" / ".hidden.png").write_bytes(b"x")
    folder = ImageFolder(tmp_path)
    assert [len(d) for d in (folder.train, folder.valid, folder.test)] == [11, 10, 10]
    said = folder.describe()
    for part in (
        "the classes are in data",
        "1 file left out that are no pictures (1 .txt)",
        "data/train/green",
    ):
        assert part in said
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted((tmp_path / "data").rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
    zipped = ImageFolder(tmp_path / "all.zip")
    assert zipped.origin()["sha256"] == folder.origin()["sha256"]
    np.testing.assert_array_equal(zipped.test.batch([0, 7])[0], folder.test.batch([0, 7])[0])


def test_classes_of_one_picture_are_trained_on(tmp_path: Path) -> None:
    folder = ImageFolder(made(tmp_path, 1))
    assert (len(folder.train), folder.valid) == (2, None)
    assert "too few of them to hold one out" in folder.describe()


def test_what_cannot_be_learnt_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no pictures: it is empty"):
        ImageFolder(tmp_path)
    (tmp_path / "one").mkdir()
    noisy(COLOURS["red"], 0).save(tmp_path / "loose.png")
    with pytest.raises(DataError, match="1 picture, but no folders of classes"):
        ImageFolder(tmp_path)
    noisy(COLOURS["red"], 0).save(tmp_path / "one" / "0.png")
    with pytest.raises(DataError, match="class 'one' alone"):
        ImageFolder(tmp_path)


def test_broken_files_are_named_or_skipped(tmp_path: Path) -> None:
    made(tmp_path)
    whole = io.BytesIO()
    noisy(COLOURS["red"], 5, (64, 64)).save(whole, "JPEG")
    (tmp_path / "red" / "cut.jpg").write_bytes(whole.getvalue()[:700])
    (tmp_path / "red" / "text.jpg").write_text("no picture")
    (tmp_path / "blue" / "empty.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"2 pictures cannot be read: blue/empty.png \(the file is empty\), red/text.jpg"
    ):
        ImageFolder(tmp_path)
    folder = ImageFolder(tmp_path, broken="skip")
    assert len(folder.found.names) == 20
    assert "red/cut.jpg (" in folder.describe()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes, which this system has not")
def test_a_pipe_among_the_pictures_is_named(tmp_path: Path) -> None:
    os.mkfifo(made(tmp_path) / "red" / "pipe.png")
    with pytest.raises(DataError, match=r"1 picture cannot be read: red/pipe.png \(no regular file\)"):
        ImageFolder(tmp_path)


def modes() -> dict[str, Any]:
    grey = Image.fromarray(np.full((4, 4), 100, np.uint8))
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    deep = Image.fromarray(np.full((4, 4), 100 * 257, np.uint16))
    return {
        "grey": (grey, "png", (100, 100, 100)), "clear": (clear, "png", (255, 255, 255)), "palette": (palette, "png", (10, 20, 30)),
        "deep": (deep, "png", (100, 100, 100)), "cmyk": (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "tif", (255, 0, 0)),
        "bits": (Image.new("1", (4, 4), 1), "png", (255, 255, 255)), "float": (Image.new("F", (4, 4), 0.4), "tif", (102, 102, 102)),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(modes()))
def test_modes(name: str, tmp_path: Path) -> None:
    image, suffix, expected = modes()[name]
    image.save(tmp_path / f"x.{suffix}")
    p = an.data.images.ImagePreprocessing((4, 4), 3, [0.0] * 3, [1.0] * 3, ["a", "b"])
    x = p.inputs(tmp_path / f"x.{suffix}")
    np.testing.assert_allclose(np.asarray(x)[0, :, 1, 2] * 255, expected, atol=1e-4)


def test_turned_as_the_exif_data_say_and_animations(tmp_path: Path) -> None:
    p = an.data.images.ImagePreprocessing((2, 1), 1, [0.0], [1 / 255], ["a", "b"])
    image = Image.fromarray(np.asarray([[10, 200]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image.save(tmp_path / "x.png", exif=exif)
    assert np.round(np.asarray(p.inputs(tmp_path / "x.png"))).tolist() == [[[[10], [200]]]]
    first, second = (Image.new("L", (1, 2), v) for v in (0, 255))
    first.save(tmp_path / "x.gif", save_all=True, append_images=[second])
    assert np.asarray(p.inputs(tmp_path / "x.gif")).max() == 0


def test_inputs_in_every_form_are_the_same(tmp_path: Path) -> None:
    folder = ImageFolder(made(tmp_path, 4), valid=0.25, augment="none")
    p = folder.preprocessing
    files = [tmp_path / "blue" / "0.png", tmp_path / "red" / "1.png"]
    arrays = np.stack([np.asarray(Image.open(f)) for f in files])
    expected = p.inputs(files).tolist()
    for samples in (
        arrays,
        arrays / 255,
        [Image.open(f) for f in files],
        list(arrays),
        [f.read_bytes() for f in files],
        an.asarray(arrays),
    ):
        np.testing.assert_array_equal(np.asarray(p.inputs(samples)), np.asarray(expected, np.float32))
    assert p.inputs(tmp_path).shape == (8, 3, 12, 10)
    assert p.targets(tmp_path).tolist() == [0] * 4 + [1] * 4
    with pytest.raises(ValueError, match="channels come last here"):
        p.inputs(arrays.transpose(0, 3, 1, 2))
    with pytest.raises(ValueError, match="from 0 to 1, got"):
        p.inputs(arrays.astype(np.float32))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        p.inputs("nowhere.jpg")
    with pytest.raises(ValueError, match="none of its folders is a class"):
        p.targets("/elsewhere/x.png") if Path("/elsewhere/x.png").exists() else p.targets([_lost(tmp_path)])


def _lost(tmp_path: Path) -> Path:
    (tmp_path / "grey").mkdir()
    noisy((9, 9, 9), 1).save(tmp_path / "grey" / "x.png")
    return tmp_path / "grey" / "x.png"


@pytest.mark.parametrize(("resize", "corner"), [("crop", 0), ("stretch", 0), ("pad", 255)])
def test_resizing(resize: str, corner: int) -> None:
    p = an.data.images.ImagePreprocessing((4, 4), 1, [0.0], [1 / 255], ["a", "b"], resize)
    x = np.asarray(p.inputs(np.zeros((4, 8), np.uint8)))
    assert x.shape == (1, 1, 4, 4)
    assert round(float(x[0, 0, 0, 0])) == corner


def test_decode_and_json(tmp_path: Path) -> None:
    p = an.data.images.ImagePreprocessing((4, 6), 3, [0.1, 0.2, 0.3], [0.5, 0.5, 0.5], ["cat", "dog"], "pad")
    again = preprocessing_from_json(json.loads(json.dumps({"kind": "images", **p.to_json()})))
    assert again.to_json() == p.to_json()
    noisy(COLOURS["red"], 0).save(tmp_path / "x.png")
    found = again.decode(an.asarray([[0.0, 1.0]]), [tmp_path / "x.png"]).to_dict()
    assert found["prediction"] == ["dog"]
    assert found["file"] == [str(tmp_path / "x.png")]
    np.testing.assert_allclose(found["probability_dog"], 1 / (1 + np.exp(-1)), rtol=1e-6)
    many = an.data.images.ImagePreprocessing((4, 4), 1, [0.0], [1.0], list(range(30)))
    assert many.decode(an.asarray([list(map(float, range(30)))])).to_dict()["class_2"] == [28]
    for name, wrong in (
        ("size", [0, 4]),
        ("std", [0.0] * 3),
        ("classes", "ab"),
        ("resize", "zoom"),
        ("channels", 2),
    ):
        with pytest.raises(ValueError, match=f"no valid '{name}'"):
            preprocessing_from_json({"kind": "images", **p.to_json(), name: wrong})


def test_augmentation_follows_from_the_epoch_and_the_picture(tmp_path: Path) -> None:
    folder = ImageFolder(made(tmp_path), seed=3)
    first = folder.train.batch([0, 1, 2, 3])[0]
    np.testing.assert_array_equal(folder.train.batch([3, 1])[0], an.take(first, an.asarray([3, 1]), axis=0))
    assert not np.array_equal(folder.train.at_epoch(1).batch([0, 1, 2, 3])[0], first)
    loader = DataLoader(folder.train, 4, shuffle=True, seed=1)
    whole = [b[0].tolist() for _ in range(2) for b in loader]
    loader.set_epoch(1, 2)
    assert [b[0].tolist() for b in loader] == whole[6:]
    own = ImageFolder(tmp_path, augment=lambda x: x * 0, seed=3).train.batch([0])[0]
    np.testing.assert_allclose(np.asarray(own)[0, :, 0, 0], -np.asarray(folder.mean) / folder.std, rtol=1e-5)


@pytest.mark.parametrize("augment", ["strong", "mixup"])
def test_stronger_augmentation_and_mixed_labels_train(augment: str, tmp_path: Path) -> None:
    mix = an.data.transforms.Compose(
        [an.data.transforms.RandomHorizontalFlip(), an.data.transforms.MixUp(0.4)]
    )
    folder = ImageFolder(made(tmp_path), augment=mix if augment == "mixup" else augment)
    x, y = folder.train.batch([0, 9])
    assert (x.shape, x.dtype) == ((2, 3, 12, 10), an.float32)
    assert (y.shape, y.dtype) == (((2, 2), an.float32) if augment == "mixup" else ((2,), an.int64))
    history = an.fit(folder.network(width=16), folder, progress=False, **{**folder.defaults(), "epochs": 2})
    assert 0 <= history[-1]["accuracy"] <= 1


def test_the_cache_follows_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "FILE_FROM", 1)
    made(tmp_path / "data")
    first = ImageFolder(tmp_path / "data", augment="none")
    [file] = (tmp_path / "cache" / "images").iterdir()
    monkeypatch.setattr(store, "decoded", None)  # nothing is decoded again
    again = ImageFolder(tmp_path / "data", augment="none")
    np.testing.assert_array_equal(again.train.batch(range(16))[0], first.train.batch(range(16))[0])
    monkeypatch.undo()
    monkeypatch.setenv("ANYNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "FILE_FROM", 1)
    plain = ImageFolder(tmp_path / "data", augment="none", cache=False)
    np.testing.assert_array_equal(plain.train.batch(range(16))[0], first.train.batch(range(16))[0])
    half = file.read_bytes()[:100]
    file.unlink()  # others may have it mapped
    file.write_bytes(half)  # is not believed
    np.testing.assert_array_equal(
        ImageFolder(tmp_path / "data", augment="none").train.batch(range(16))[0],
        first.train.batch(range(16))[0],
    )
    noisy(COLOURS["blue"], 77).save(tmp_path / "data" / "red" / "0.png")
    changed = ImageFolder(tmp_path / "data", augment="none")
    assert changed.origin()["sha256"] != first.origin()["sha256"]
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 2}, "size must be an integer from 4"),
        ({"valid": 1.0}, "valid must be a share"), ({"augment": "heavy"}, "augment must be"),
        ({"resize": "zoom"}, "resize must be"), ({"broken": "no"}, "broken must be"), ({"channels": 2}, "channels must be"),
        ({"cache": "disk"}, "cache must be"), ({"seed": -1}, "seed must be"), ({"valid": 0.6, "test": 0.5}, "must leave pictures"),
    ],
)  # fmt: skip
def test_bad_options(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        ImageFolder(made(tmp_path, 2), **options)


def test_training_by_the_defaults_and_the_networks(tmp_path: Path) -> None:
    folder = ImageFolder(made(tmp_path))
    options = {**folder.defaults(), "epochs": 3}
    an.random.manual_seed(0)
    net = folder.network()
    history = an.fit(net, folder, progress=False, **options)
    assert history[-1]["val_accuracy"] == 1.0
    answers = folder.preprocessing.decode(an.predict(net, folder.preprocessing.inputs(tmp_path)))
    assert list(answers) == ["blue"] * 10 + ["red"] * 10
    x = folder.train.batch([0, 1])[0]
    for name in ("resnet9", "resnet20"):
        assert folder.network(name)(x).shape == (2, 2)
    with pytest.raises(ValueError, match="unknown network 'cn'"):
        folder.network("cn")
    with pytest.raises(ValueError, match="cnn has no setting 'depth'; it has dropout, width"):
        folder.network(depth=3)


def test_copies_are_said(tmp_path: Path) -> None:
    made(tmp_path, 4, ("train", "test"))
    data = (tmp_path / "train" / "red" / "0.png").read_bytes()
    (tmp_path / "test" / "red" / "copy.png").write_bytes(data)
    (tmp_path / "train" / "blue" / "copy.png").write_bytes(data)
    said = ImageFolder(tmp_path, valid=0).describe()
    assert "1 picture of the part test is in the training part" in said
    assert "1 picture is in several classes" in said


def test_folders_for_parts_without_one_to_train_on(tmp_path: Path) -> None:
    made(tmp_path, 2, ("valid", "test"))
    with pytest.raises(DataError, match="the parts test, valid, and no folder train"):
        ImageFolder(tmp_path)
    made(tmp_path, 2, ("train",))
    (tmp_path / "train" / "red").rename(tmp_path / "train" / "Red")
    with pytest.raises(DataError, match=r"the classes red are in valid or test.*train on are Red, blue"):
        ImageFolder(tmp_path)
