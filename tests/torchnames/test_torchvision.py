"""anynet.torchvision: pictures, arrays and tensors through the same transforms; data sets; networks."""

import numpy as np
import pytest

import anynet.torch as torch
from anynet.torch.imports import with_changed_imports
from anynet.torchvision import datasets, models, utils
from anynet.torchvision import transforms as T  # noqa: N812 - as it is imported
from anynet.torchvision.transforms import functional as TF  # noqa: N812

ARRAY = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)


def pillow():
    return pytest.importorskip("PIL.Image", reason="needs PIL of the extra images")


def tensor():
    return TF.to_tensor(ARRAY)


def test_to_tensor():
    x = tensor()
    assert x.dtype is torch.float32
    np.testing.assert_array_equal(x.numpy(), ARRAY.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    assert tuple(TF.to_tensor(ARRAY[..., 0]).shape) == (1, 9, 12)
    assert TF.pil_to_tensor(ARRAY).dtype is torch.uint8
    np.testing.assert_array_equal(TF.to_tensor(ARRAY.astype(np.float64)).numpy(), ARRAY.transpose(2, 0, 1))
    with pytest.raises(TypeError, match="pic must be Pillow's picture or an array, got Tensor"):
        TF.to_tensor(x)


def test_normalize():
    y = T.Normalize((0.5, 0.4, 0.3), (0.1, 0.2, 0.5))(tensor())
    expected = (tensor().numpy() - np.array([0.5, 0.4, 0.3]).reshape(3, 1, 1)) / np.array(
        [0.1, 0.2, 0.5]
    ).reshape(3, 1, 1)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="std must not be 0"):
        TF.normalize(tensor(), [0.0] * 3, [0.0] * 3)
    with pytest.raises(TypeError, match="put ToTensor before"):
        TF.normalize(ARRAY, [0.0], [1.0])


CHANGES = {
    "crop": (lambda p: TF.crop(p, 2, 3, 4, 5), ARRAY[2:6, 3:8]),
    "crop outside": (lambda p: TF.crop(p, -1, 8, 4, 6), np.pad(ARRAY, ((1, 0), (0, 2), (0, 0)))[0:4, 8:14]),
    "center_crop": (lambda p: TF.center_crop(p, [5, 4]), ARRAY[2:7, 4:8]),
    "hflip": (TF.hflip, ARRAY[:, ::-1]),
    "vflip": (TF.vflip, ARRAY[::-1]),
    "pad": (lambda p: TF.pad(p, [1, 2]), np.pad(ARRAY, ((2, 2), (1, 1), (0, 0)))),
    "pad, filled": (
        lambda p: TF.pad(p, 2, fill=7),
        np.pad(ARRAY, ((2, 2), (2, 2), (0, 0)), constant_values=7),
    ),
    "pad, edge": (
        lambda p: TF.pad(p, [1, 2, 3, 0], padding_mode="edge"),
        np.pad(ARRAY, ((2, 0), (1, 3), (0, 0)), "edge"),
    ),
    "pad, reflect": (
        lambda p: TF.pad(p, 2, padding_mode="reflect"),
        np.pad(ARRAY, ((2, 2), (2, 2), (0, 0)), "reflect"),
    ),
    "resize to itself": (lambda p: TF.resize(p, [9, 12]), ARRAY),
    "brightness 0": (lambda p: TF.adjust_brightness(p, 0.0), ARRAY * 0),
    "saturation 1": (lambda p: TF.adjust_saturation(p, 1.0), ARRAY),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_picture_an_array_and_a_tensor_change_alike(name):
    change, expected = CHANGES[name]
    found = change(ARRAY)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(change(TF.pil_to_tensor(ARRAY)).permute(1, 2, 0).numpy(), expected)
    np.testing.assert_array_equal(np.asarray(change(pillow().fromarray(ARRAY))), expected)


def test_sizes_and_colours():
    Image = pillow()  # noqa: N806 - Pillow's name
    picture = Image.fromarray(ARRAY)
    assert TF.resize(picture, 6).size == (8, 6)
    assert TF.resize(picture, 6, max_size=7).size == (7, 5)
    assert TF.get_image_size(ARRAY) == [12, 9]
    assert TF.get_dimensions(tensor()) == [3, 9, 12]
    np.testing.assert_array_equal(
        np.asarray(TF.resize(picture, [5, 7])), np.asarray(picture.resize((7, 5), Image.Resampling.BILINEAR))
    )
    small = TF.resize(tensor(), [5, 7]).numpy() * 255
    assert np.abs(small - np.asarray(TF.resize(picture, [5, 7])).transpose(2, 0, 1)).max() < 1.5
    grey = TF.rgb_to_grayscale(tensor()).numpy()
    np.testing.assert_allclose(grey[0] * 255, ARRAY @ [0.2989, 0.587, 0.114], rtol=1e-4)
    assert TF.rgb_to_grayscale(picture, 3).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(TF.to_pil_image(tensor())), ARRAY)
    np.testing.assert_array_equal(np.asarray(TF.rotate(picture, 30)), np.asarray(picture.rotate(30)))
    assert tuple(TF.rotate(tensor(), 30).shape) == (3, 9, 12)


def test_chance_follows_the_seed():
    steps = T.Compose(
        [T.ToTensor(), T.RandomCrop(8, padding=2), T.RandomHorizontalFlip(), T.RandomVerticalFlip(0.5),
         T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4)]), T.RandomGrayscale(0.5), T.RandomErasing(), T.RandomResizedCrop(6)]
    )  # fmt: skip
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(steps(ARRAY).numpy())
    assert found[0].shape == (3, 6, 6)
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert "RandomHorizontalFlip" in repr(steps)
    torch.manual_seed(0)
    flips = sum(T.RandomHorizontalFlip(0.25)(ARRAY) is not ARRAY for _ in range(200))
    assert 30 < flips < 70
    assert {T.RandomChoice([lambda _: 1, lambda _: 2])(0) for _ in range(40)} == {1, 2}
    assert sorted(T.RandomOrder([lambda x: [*x, 1], lambda x: [*x, 2]])([])) == [1, 2]
    assert tuple(T.RandomErasing(1.0, value="random")(tensor()).shape) == (3, 9, 12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.RandomCrop(10)(ARRAY), "size must be at most that of the picture"),
        (lambda: T.RandomCrop(0), "size must be a positive number"),
        (lambda: T.RandomHorizontalFlip(1.5), "p must be in"),
        (lambda: TF.pad(ARRAY, [1, 2, 3]), "padding must be a number or 1, 2 or 4"),
        (lambda: TF.rgb_to_grayscale(ARRAY, 2), "num_output_channels must be 1 or 3"),
        (lambda: TF.adjust_contrast(ARRAY, -1.0), "must not be negative"),
        (lambda: datasets.VisionDataset("x", transforms=1, transform=2), "only one may be given"),
    ],
)
def test_bad_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_other_refusals():
    with pytest.raises(NotImplementedError, match="hue must be 0"):
        T.ColorJitter(hue=0.1)
    with pytest.raises(TypeError, match="lambd must be a function"):
        T.Lambda(3)
    with pytest.raises(TypeError, match="a picture must be"):
        TF.hflip("x")
    with pytest.raises(NotImplementedError, match="nothing is downloaded"):
        models.resnet18(weights="DEFAULT")


def test_folders_and_noise(tmp_path):
    Image = pillow()  # noqa: N806 - Pillow's name
    for name, count in (("b", 2), ("a", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.fromarray(ARRAY).save(tmp_path / name / f"{i}.png")
    folder = datasets.ImageFolder(tmp_path, transform=T.ToTensor(), target_transform=lambda i: -i)
    assert (folder.classes, folder.class_to_idx, folder.targets) == (["a", "b"], {"a": 0, "b": 1}, [0, 1, 1])
    x, y = folder[2]
    assert y == -1
    assert torch.equal(x, tensor())
    batch, _ = next(iter(torch.utils.data.DataLoader(folder, batch_size=3)))
    assert tuple(batch.shape) == (3, 3, 9, 12)
    (tmp_path / "c").mkdir()
    with pytest.raises(FileNotFoundError, match="no pictures of c"):
        datasets.ImageFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="must be a folder"):
        datasets.ImageFolder(tmp_path / "nowhere")
    noise = datasets.FakeData(5, (3, 8, 8), 4, T.ToTensor())
    assert torch.equal(noise[3][0], noise[3][0])
    assert not torch.equal(noise[3][0], noise[2][0])
    assert len(list(noise)) == 5


def test_pictures_by_name(monkeypatch):
    pictures = np.arange(2 * 28 * 28, dtype=np.int64).astype(np.uint8).reshape(2, 28, 28)
    monkeypatch.setattr(datasets._data, "load", lambda *_, **__: (pictures, np.array([3, 7])))
    found = datasets.MNIST("./data", train=True, download=True, transform=T.ToTensor())
    x, y = found[1]
    assert (y, tuple(x.shape), len(found)) == (7, (1, 28, 28), 2)
    assert found.targets.tolist() == [3, 7]
    assert found.data.dtype is torch.uint8
    np.testing.assert_array_equal(found.train_data.numpy(), pictures)


def test_grids(tmp_path):
    x = torch.stack([tensor()] * 5)
    grid = utils.make_grid(x, nrow=3, padding=1)
    assert tuple(grid.shape) == (3, 2 * 10 + 1, 3 * 13 + 1)
    assert torch.equal(grid[:, 1:10, 14:26], x[1])
    assert float(grid[:, 11:, 28:].sum()) == 0.0
    assert tuple(utils.make_grid(torch.ones(4, 1, 2, 2)).shape) == (3, 6, 18)
    scaled = utils.make_grid(x * 4 - 1, normalize=True)
    assert (float(scaled.min()), float(scaled.max())) == (0.0, 1.0)
    pillow()
    utils.save_image(tensor(), tmp_path / "x.png")
    np.testing.assert_array_equal(np.asarray(pillow().open(tmp_path / "x.png")), ARRAY)


def test_networks():
    net = models.resnet18(weights=None, num_classes=4)
    assert [name for name, _ in net.named_children()][-2:] == ["avgpool", "fc"]
    assert isinstance(net.fc.weight, torch.nn.Parameter)
    x = torch.randn(2, 3, 32, 32)
    features = torch.nn.Sequential(*list(net.children())[:-1])
    assert tuple(features(x).shape) == (2, 512, 1, 1)
    assert torch.allclose(net.fc(features(x).view(2, -1)), net(x), atol=1e-5)
    vgg = models.vgg11_bn(num_classes=3, init_weights=False)
    assert tuple(vgg.features(x).shape) == (2, 512, 1, 1)
    assert [k for k in vgg.state_dict() if k.startswith("classifier")][:2] == [
        "classifier.0.weight",
        "classifier.0.bias",
    ]


def test_import_lines():
    assert with_changed_imports("import torchvision\nfrom torchvision import transforms as T") == (
        "import anynet.torchvision as torchvision\nfrom anynet.torchvision import transforms as T"
    )
