"""anynet.torchvision.ops: boxes, regions and blocks against loops that are written down here, gradients against finite differences."""

import math

import numpy as np
import pytest

import anynet.torch as torch
from anynet.torchvision import ops

F = torch.nn.functional
DRAW = np.random.default_rng


def corners(n, seed=0, size=20.0):
    draw = DRAW(seed)
    low = draw.uniform(0, size, (n, 2))
    return np.concatenate([low, low + draw.uniform(0.5, size, (n, 2))], 1)


def iou_of(a, b):
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / union, union


def hull_of(a, b):
    return max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])


def generalized(a, b):
    iou, union = iou_of(a, b)
    w, h = hull_of(a, b)
    return iou - (w * h - union) / (w * h)


def distance(a, b):
    w, h = hull_of(a, b)
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    return iou_of(a, b)[0] - apart / (w * w + h * h + 1e-7)


def complete(a, b):
    v = (
        4
        / math.pi**2
        * (math.atan((a[2] - a[0]) / (a[3] - a[1])) - math.atan((b[2] - b[0]) / (b[3] - b[1]))) ** 2
    )
    return distance(a, b) - v * v / (1 - iou_of(a, b)[0] + v + 1e-7)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (ops.box_iou, lambda a, b: iou_of(a, b)[0]),
        (ops.generalized_box_iou, generalized),
        (ops.distance_box_iou, distance),
        (ops.complete_box_iou, complete),
    ],
)
def test_overlaps_of_boxes(function, expected):
    a, b = corners(6, 1), corners(4, 2)
    found = function(torch.tensor(a), torch.tensor(b))
    np.testing.assert_allclose(found.numpy(), [[expected(x, y) for y in b] for x in a], rtol=1e-12)
    assert tuple(function(torch.tensor(a[:0]), torch.tensor(b)).shape) == (0, 4)
    assert function(torch.tensor(a).float(), torch.tensor(b).float()).dtype is torch.float32


@pytest.mark.parametrize(
    ("loss", "overlap"),
    [
        (ops.generalized_box_iou_loss, ops.generalized_box_iou),
        (ops.distance_box_iou_loss, ops.distance_box_iou),
        (ops.complete_box_iou_loss, ops.complete_box_iou),
    ],
)
def test_losses_of_boxes(loss, overlap):
    a, b = torch.tensor(corners(5, 1), requires_grad=True), torch.tensor(corners(5, 2))
    lacking = 1 - overlap(a, b).diagonal()
    np.testing.assert_allclose(loss(a, b).detach().numpy(), lacking.detach().numpy(), rtol=1e-6)
    assert torch.allclose(loss(a, b, "sum"), loss(a, b).sum())
    assert torch.allclose(loss(a, b, "mean"), loss(a, b).mean())
    (given,) = torch.autograd.grad(loss(a, b).sum(), a)
    (expected,) = torch.autograd.grad(lacking.sum(), a)
    np.testing.assert_allclose(given.numpy(), expected.numpy(), rtol=1e-5, atol=1e-7)
    assert loss(a[:0], b[:0], "mean").item() == 0.0
    with pytest.raises(ValueError, match="reduction must be 'none', 'mean' or 'sum', got 'all'"):
        loss(a, b, "all")


def test_formats_of_boxes():
    x = torch.tensor(corners(4))
    for way in ("xywh", "cxcywh"):
        there = ops.box_convert(x, "xyxy", way)
        np.testing.assert_allclose(ops.box_convert(there, way, "xyxy").numpy(), x.numpy(), rtol=1e-12)
        np.testing.assert_allclose(ops.box_area(there, way).numpy(), ops.box_area(x).numpy(), rtol=1e-12)
        np.testing.assert_allclose(
            ops.box_iou(there, there, way).numpy(), ops.box_iou(x, x).numpy(), rtol=1e-9
        )
    assert ops.box_convert(torch.tensor([[1.0, 1, 3, 5]]), "xyxy", "xywh").tolist() == [[1, 1, 2, 4]]
    assert ops.box_area(torch.tensor([[0, 0, 200, 200]], dtype=torch.uint8)).dtype is torch.int32
    with pytest.raises(ValueError, match="the format must be one of xyxy, xywh, cxcywh"):
        ops.box_convert(x, "xyxy", "cxcywhr")


def test_boxes_and_their_picture():
    x = torch.tensor([[-1.0, 2.0, 30.0, 5.0], [1.0, 1.0, 2.0, 9.0]])
    assert ops.clip_boxes_to_image(x, (8, 20)).tolist() == [[0, 2, 20, 5], [1, 1, 2, 8]]
    assert ops.remove_small_boxes(x, 2.0).tolist() == [0]
    masks = torch.zeros(2, 5, 6)
    masks[0, 1:3, 2:6] = 1.0
    assert ops.masks_to_boxes(masks).tolist() == [[2, 1, 5, 2], [0, 0, 0, 0]]
    assert tuple(ops.masks_to_boxes(masks[:0]).shape) == (0, 4)


def left(boxes, scores, threshold):
    order, kept = sorted(range(len(boxes)), key=lambda i: -scores[i]), []
    for i in order:
        if all(not iou_of(boxes[i], boxes[k])[0] > threshold for k in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_nms(threshold):
    boxes, scores, classes = corners(300, 3, 40.0), DRAW(4).random(300), DRAW(5).integers(0, 3, 300)
    scores[50:60] = scores[50]  # of equal ones the first
    x, s = torch.tensor(boxes), torch.tensor(scores)
    assert ops.nms(x, s, threshold).tolist() == left(boxes, scores, threshold)
    kept = [
        np.flatnonzero(classes == k)[i]
        for k in range(3)
        for i in left(boxes[classes == k], scores[classes == k], threshold)
    ]
    found = ops.batched_nms(x, s, torch.tensor(classes), threshold)
    assert sorted(found.tolist()) == sorted(kept)
    assert found.tolist() == sorted(found.tolist(), key=lambda i: -scores[i])
    assert ops.nms(x[:0], s[:0], threshold).tolist() == []
    assert ops.batched_nms(x[:0], s[:0], torch.tensor(classes[:0]), threshold).tolist() == []


def test_nms_of_boxes_without_area_and_wrong_arguments():
    x = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1]])
    assert ops.nms(x, torch.tensor([0.1, 0.2]), 0.5).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"boxes must be \(n, 4\) and scores \(n,\)"):
        ops.nms(x, torch.ones(3), 0.5)
    with pytest.raises(TypeError, match="must have one dtype"):
        ops.nms(x, torch.ones(2).double(), 0.5)


def test_focal_loss():
    x, y = DRAW(0).normal(size=(3, 4)), (DRAW(1).random((3, 4)) < 0.5) * 1.0
    p = 1 / (1 + np.exp(-x))
    right = np.where(y == 1, p, 1 - p)
    weight = np.where(y == 1, 0.25, 0.75)
    found = ops.sigmoid_focal_loss(torch.tensor(x), torch.tensor(y))
    np.testing.assert_allclose(found.numpy(), -weight * (1 - right) ** 2 * np.log(right), rtol=1e-12)
    bare = ops.sigmoid_focal_loss(torch.tensor(x), torch.tensor(y), -1, 0.0, "sum")
    np.testing.assert_allclose(bare.item(), -np.log(right).sum(), rtol=1e-12)
    with pytest.raises(ValueError, match="alpha must be in"):
        ops.sigmoid_focal_loss(torch.tensor(x), torch.tensor(y), 2.0)
    torch.autograd.gradcheck(
        lambda a: ops.sigmoid_focal_loss(a, torch.tensor(y)), (torch.tensor(x, requires_grad=True),)
    )


def between(plane, y, x):
    h, w = plane.shape
    if y < -1 or y > h or x < -1 or x > w:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    top, side = min(int(y), h - 1), min(int(x), w - 1)
    down, across = (0.0 if top >= h - 1 else y - top), (0.0 if side >= w - 1 else x - side)
    below, right = min(top + 1, h - 1), min(side + 1, w - 1)
    upper = plane[top, side] * (1 - across) + plane[top, right] * across
    return upper * (1 - down) + (plane[below, side] * (1 - across) + plane[below, right] * across) * down


def aligned(x, rois, size, scale, ratio, half):
    out = np.zeros((len(rois), x.shape[1], *size))
    for k, (n, *box) in enumerate(rois):
        x1, y1, x2, y2 = np.array(box) * scale - (0.5 if half else 0.0)
        w, h = (x2 - x1, y2 - y1) if half else (max(x2 - x1, 1.0), max(y2 - y1, 1.0))
        bh, bw = h / size[0], w / size[1]
        gh, gw = (ratio, ratio) if ratio > 0 else (math.ceil(bh), math.ceil(bw))
        for c, p, q in np.ndindex(x.shape[1], *size):
            found = [
                between(x[int(n), c], y1 + p * bh + (i + 0.5) * bh / gh, x1 + q * bw + (j + 0.5) * bw / gw)
                for i in range(gh)
                for j in range(gw)
            ]
            out[k, c, p, q] = sum(found) / max(len(found), 1)
    return out


ROIS = np.array(
    [[0, -3, -4, 2, 2], [1, 5, 5, 5, 5], [0, 30, 30, 40, 40], [1, 1.3, 0.2, 7.9, 6.1], [0, 2, 3, 4, 8.5]],
    "f8",
)


@pytest.mark.parametrize(
    ("size", "scale", "ratio", "half"),
    [
        ((3, 2), 1.0, -1, False),
        ((2, 2), 0.5, 2, False),
        ((2, 3), 1.0, -1, True),
        ((2, 2), 0.7, 3, True),
        ((1, 1), 2.0, 0, False),
    ],
)
def test_roi_align(size, scale, ratio, half, monkeypatch):
    x = DRAW(0).normal(size=(2, 3, 9, 11))
    expected = aligned(x, ROIS, size, scale, ratio, half)
    at, boxes = torch.tensor(x, requires_grad=True), torch.tensor(ROIS)
    found = ops.roi_align(at, boxes, size, scale, ratio, half)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    weight = torch.tensor(DRAW(1).normal(size=expected.shape))
    (g,) = torch.autograd.grad((found * weight).sum(), at)
    direction = DRAW(2).normal(size=x.shape)  # linear in the picture: the slope is exact
    slope = (aligned(direction, ROIS, size, scale, ratio, half) * weight.numpy()).sum()
    np.testing.assert_allclose((g.numpy() * direction).sum(), slope, rtol=1e-10)
    monkeypatch.setattr("anynet.torchvision.ops.poolers._ROOM", 1)  # region by region
    again = ops.roi_align(at, boxes, size, scale, ratio, half)
    np.testing.assert_array_equal(again.detach().numpy(), found.detach().numpy())


def test_roi_align_leaves_out_what_lies_outside():
    x = torch.ones(1, 1, 6, 6)
    x[0, 0, 0, 0] = math.nan
    x[0, 0, 5, 5] = math.inf
    assert ops.roi_align(x, [torch.tensor([[2.0, 2.0, 4.0, 4.0]])], 2, sampling_ratio=2).tolist() == [
        [[[1.0, 1.0], [1.0, 1.0]]]
    ]
    assert tuple(ops.roi_align(x, [torch.zeros(0, 4)], 2).shape) == (0, 1, 2, 2)
    with pytest.raises(ValueError, match="for each of the 1 pictures"):
        ops.roi_align(x, [torch.zeros(1, 4)] * 2, 2)
    with pytest.raises(ValueError, match=r"boxes must be \(k, 5\)"):
        ops.roi_align(x, torch.zeros(1, 4), 2)
    with pytest.raises(TypeError, match="must have one dtype"):
        ops.roi_align(x.double(), torch.zeros(1, 5), 2)


def pooled(x, rois, size, scale):
    out = np.zeros((len(rois), x.shape[1], *size))
    h, w = x.shape[2:]
    for k, (n, *box) in enumerate(rois):
        x1, y1, x2, y2 = (int(math.copysign(math.floor(abs(v * scale) + 0.5), v)) for v in box)
        bh, bw = max(y2 - y1 + 1, 1) / size[0], max(x2 - x1 + 1, 1) / size[1]
        for p, q in np.ndindex(*size):
            top, end = (min(max(v + y1, 0), h) for v in (math.floor(p * bh), math.ceil((p + 1) * bh)))
            side, far = (min(max(v + x1, 0), w) for v in (math.floor(q * bw), math.ceil((q + 1) * bw)))
            part = x[int(n), :, top:end, side:far]
            if part.size:
                out[k, :, p, q] = part.max((1, 2))
    return out


@pytest.mark.parametrize(("size", "scale"), [((3, 2), 1.0), ((2, 2), 0.5), ((4, 1), 2.0)])
def test_roi_pool(size, scale):
    x = DRAW(0).normal(size=(2, 3, 9, 11))
    at = torch.tensor(x, requires_grad=True)
    found = ops.roi_pool(at, torch.tensor(ROIS), size, scale)
    np.testing.assert_array_equal(found.detach().numpy(), pooled(x, ROIS, size, scale))
    found.sum().backward()
    step = 1e-6 * DRAW(3).normal(size=x.shape)
    slope = (pooled(x + step, ROIS, size, scale) - pooled(x - step, ROIS, size, scale)).sum() / 2
    np.testing.assert_allclose((at.grad.numpy() * step).sum(), slope, rtol=1e-6)
    layer = ops.RoIPool(size, scale)
    np.testing.assert_array_equal(layer(at, torch.tensor(ROIS)).detach().numpy(), found.detach().numpy())


def test_multi_scale_roi_align():
    large, small = torch.randn(1, 2, 32, 32), torch.randn(1, 2, 16, 16)
    boxes = torch.tensor([[3.0, 4.0, 60.0, 50.0], [0.0, 0.0, 127.0, 127.0]])
    layer = ops.MultiScaleRoIAlign(["a", "b"], 3, 2, canonical_scale=64, canonical_level=3)
    found = layer({"a": large, "b": small, "c": small}, [boxes], [(128, 128)])
    by_hand = [
        ops.roi_align(large, [boxes[:1]], 3, 0.25, 2),
        ops.roi_align(small, [boxes[1:]], 3, 0.125, 2),
    ]
    np.testing.assert_array_equal(found.numpy(), torch.cat(by_hand).numpy())
    assert torch.equal(layer({"a": large}, [boxes], [(128, 128)]), ops.roi_align(large, [boxes], 3, 0.25, 2))


def test_deform_conv():
    draw = DRAW(0)
    x, w, b = (torch.tensor(draw.normal(size=s)) for s in ((2, 4, 7, 8), (6, 2, 3, 3), (6,)))
    still = torch.zeros(2, 2 * 9, 3, 4, dtype=torch.float64)
    plain = F.conv2d(x, w, b, stride=2, padding=(1, 1), groups=2)[:, :, :3, :4]
    size = tuple(F.conv2d(x, w, stride=2, padding=1, groups=2).shape[2:])
    still = torch.zeros(2, 18, *size, dtype=torch.float64)
    found = ops.deform_conv2d(x, still, w, b, stride=2, padding=1)
    np.testing.assert_allclose(found.numpy()[:, :, :3, :4], plain.numpy(), rtol=1e-10)
    moved = still.clone()
    moved[:, 0::2] = 1.0  # all places one pixel down
    below = F.conv2d(F.pad(x, (1, 1, 0, 2)), w, b, stride=2, groups=2)
    np.testing.assert_allclose(
        ops.deform_conv2d(x, moved, w, b, stride=2, padding=1).numpy(),
        below[:, :, : size[0], : size[1]].numpy(), rtol=1e-10,
    )  # fmt: skip
    half = torch.full((2, 9, *size), 0.5, dtype=torch.float64)
    np.testing.assert_allclose(
        ops.deform_conv2d(x, still, w, stride=2, padding=1, mask=half).numpy(), (found - b.view(1, -1, 1, 1)).numpy() / 2, rtol=1e-10
    )  # fmt: skip
    small = [
        torch.tensor(draw.normal(size=s)) for s in ((1, 2, 3, 4), (1, 8, 2, 3), (2, 2, 2, 2), (1, 4, 2, 3))
    ]
    small[1] = small[1] * 0.3 + 0.37  # between pixels, where it is smooth
    small = [t.requires_grad_() for t in small]
    assert torch.autograd.gradcheck(lambda x, o, w, m: ops.deform_conv2d(x, o, w, mask=m), tuple(small))
    with pytest.raises(ValueError, match="offset must be"):
        ops.deform_conv2d(x, still[:, :17], w)
    layer = ops.DeformConv2d(4, 6, 3, padding=1, groups=2)
    assert [(n, tuple(p.shape)) for n, p in layer.named_parameters()] == [
        ("weight", (6, 2, 3, 3)),
        ("bias", (6,)),
    ]


def test_frozen_batch_norm():
    layer = ops.FrozenBatchNorm2d(3).double()
    norm = torch.nn.BatchNorm2d(3).double()
    for _, t in (*norm.named_parameters(), *norm.named_buffers()):
        if t.is_floating_point():
            t.data.uniform_(0.5, 1.5)
    layer.load_state_dict(norm.state_dict())  # without num_batches_tracked
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    np.testing.assert_allclose(layer(x).numpy(), norm.eval()(x).detach().numpy(), rtol=1e-12)
    assert not list(layer.parameters())
    assert list(layer.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert repr(layer) == "FrozenBatchNorm2d(3, eps=1e-05)"


def test_blocks():
    block = ops.Conv2dNormActivation(3, 5, kernel_size=(3, 5), dilation=2)
    assert tuple(block(torch.randn(2, 3, 9, 9)).shape) == (2, 5, 9, 9)
    assert block.out_channels == 5
    assert block[0].bias is None
    assert ops.Conv2dNormActivation(3, 5, norm_layer=None)[0].bias is not None
    assert tuple(ops.Conv3dNormActivation(2, 3)(torch.randn(1, 2, 4, 4, 4)).shape) == (1, 3, 4, 4, 4)
    mlp = ops.MLP(4, [6, 5, 2], torch.nn.LayerNorm)
    assert [type(m).__name__ for m in mlp] == [
        "Linear",
        "LayerNorm",
        "ReLU",
        "Dropout",
        "Linear",
        "LayerNorm",
        "ReLU",
        "Dropout",
        "Linear",
        "Dropout",
    ]
    assert [m.in_features for m in mlp if isinstance(m, torch.nn.Linear)] == [4, 6, 5]
    assert [m.out_features for m in ops.MLP(4, [3]) if isinstance(m, torch.nn.Linear)] == [3]
    squeeze = ops.SqueezeExcitation(4, 2)
    x = torch.randn(2, 4, 3, 3)
    weight = squeeze.fc2(torch.relu(squeeze.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()
    assert torch.allclose(squeeze(x), x * weight)
    assert tuple(ops.Permute([0, 2, 1])(torch.ones(1, 2, 3)).shape) == (1, 3, 2)


def test_feature_pyramid():
    from anynet.torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

    net = ops.FeaturePyramidNetwork([3, 4], 5, LastLevelMaxPool())
    x = {"a": torch.randn(2, 3, 8, 8), "b": torch.randn(2, 4, 4, 4)}
    y = net(x)
    assert [(k, tuple(v.shape)) for k, v in y.items()] == [
        ("a", (2, 5, 8, 8)), ("b", (2, 5, 4, 4)), ("pool", (2, 5, 2, 2)),
    ]  # fmt: skip
    inner = net.inner_blocks[1](x["b"])
    lateral = net.inner_blocks[0](x["a"]) + F.interpolate(inner, size=(8, 8), mode="nearest")
    assert torch.allclose(y["a"], net.layer_blocks[0](lateral))
    assert torch.equal(y["pool"], y["b"][:, :, ::2, ::2])
    older = {
        k.replace(".0.weight", ".weight").replace(".0.bias", ".bias"): v for k, v in net.state_dict().items()
    }
    net.load_state_dict(older)  # of a version whose blocks were convolutions
    more = ops.FeaturePyramidNetwork([3, 4], 5, LastLevelP6P7(4, 5))(x)
    assert list(more) == ["a", "b", "p6", "p7"]
    with pytest.raises(TypeError, match="extra_blocks must be an ExtraFPNBlock"):
        ops.FeaturePyramidNetwork([3], 5, torch.nn.ReLU())


def test_what_is_left_out_by_chance():
    torch.manual_seed(0)
    x = torch.ones(2000, 2, 3)
    y = ops.stochastic_depth(x, 0.25, "row")
    rows = y[:, 0, 0]
    assert torch.equal(y, rows[:, None, None].expand(2000, 2, 3))
    assert set(rows.unique().tolist()) == {0.0, np.float32(1 / 0.75)}
    assert abs(rows.mean().item() - 1) < 0.1
    assert ops.stochastic_depth(x, 0.5, "batch").unique().numel() == 1
    assert ops.stochastic_depth(x, 1.0, "row").abs().sum().item() == 0
    assert ops.StochasticDepth(0.5, "row").eval()(x) is x
    with pytest.raises(ValueError, match="mode must be 'batch' or 'row'"):
        ops.stochastic_depth(x, 0.5, "rows")
    picture = torch.ones(4, 8, 20, 20)
    dropped = ops.DropBlock2d(0.3, 5)(picture)
    zeros = (dropped == 0).float()
    assert 0.1 < zeros.mean().item() < 0.5
    assert abs(dropped.mean().item() - 1) < 1e-3
    middles = F.pad(1 - F.max_pool2d(1 - zeros, 5, stride=1), [4] * 4)
    whole = F.max_pool2d(middles, 5, stride=1)
    assert torch.equal(whole, zeros)  # each zero lies in a block of zeros
    assert ops.drop_block3d(torch.ones(1, 1, 6, 6, 6), 0.2, 3).shape == (1, 1, 6, 6, 6)
    with pytest.raises(ValueError, match="block_size must be odd"):
        ops.drop_block2d(picture, 0.2, 4)
