"""Every call of a group, compared with what the ranks say the result must be."""

import sys

import numpy as np

import anynet as an

device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
group = an.distributed.on_device(an.distributed.world(), device)
assert isinstance(group, an.distributed.NCCLGroup) == (device == "cuda")
an.set_default_device(device)
r, n = group.rank, group.size
ranks = range(n)
assert group.all_reduce(r + 1) == n * (n + 1) // 2
assert group.all_reduce(0.5) == n / 2
assert group.all_reduce(r, "max") == n - 1
x = an.asarray([float(r), 2.0], dtype="float64")
total = group.all_reduce(x)
assert isinstance(total, an.Tensor)
assert total.dtype is an.float64
assert total.tolist() == [sum(ranks), 2.0 * n]
assert x.tolist() == [float(r), 2.0]  # the argument stays
plain = group.allreduce(np.full((2, 3), r, dtype="int32"))
assert type(plain) is np.ndarray
assert plain.dtype == np.int32
assert plain.shape == (2, 3)
assert (plain == sum(ranks)).all()
half = group.all_reduce(an.asarray([0.5], dtype="float16"))
assert half.dtype.name == "float16"
assert half.tolist() == [0.5 * n]
assert group.all_reduce(an.asarray(float(r))).shape == ()
assert group.broadcast(x, n - 1).tolist() == [n - 1.0, 2.0]
assert [a.tolist() for a in group.all_gather(an.ones(r + 1))] == [[1.0] * (k + 1) for k in ranks]
assert group.reduce_scatter(an.arange(0, 2 * n)).tolist() == [n * 2 * r, n * (2 * r + 1)]
assert group.gather({"rank": r}) == [{"rank": k} for k in ranks]
strict = an.asarray([1.0, float(r)], device="strict")
assert group.all_reduce(strict).device == strict.device
assert group.all_reduce(strict).tolist() == [float(n), float(sum(ranks))]
group.barrier()
for wrong, error in ((lambda: group.all_reduce(x, "mean"), ValueError), (lambda: group.broadcast(x, n), ValueError),
                     (lambda: group.all_reduce("text"), TypeError),
                     (lambda: group.reduce_scatter(an.asarray(1.0)), ValueError)):  # fmt: skip
    try:
        wrong()
    except error:
        continue
    raise AssertionError(wrong)

# batch norm over all, against one that has all
rng = np.random.default_rng(0)
whole = rng.normal(size=(8, 3, 4))
a, b = group.share(8)
net = an.nn.Sequential(
    an.nn.SyncBatchNorm(3, process_group=group, dtype="float64"), an.nn.Conv1d(3, 2, 2, dtype="float64")
)
for p in net.parameters():
    p.assign_(an.asarray(np.random.default_rng(1).normal(size=p.shape), device=device))
reducer = an.distributed.GradientReducer(net.parameters(), group, chunk=64)
reducer.begin()
an.sum(net(an.asarray(whole[a:b], device=device)) ** 3).backward()
single = an.nn.Sequential(an.nn.BatchNorm1d(3, dtype="float64"), an.nn.Conv1d(3, 2, 2, dtype="float64"))
single.load_state_dict(
    {k: v for k, v in net.state_dict().items() if "running" not in k and "num" not in k}, strict=False
)
an.sum(single(an.asarray(whole, device=device)) ** 3).backward()
for p, q in zip(net.parameters(), single.parameters(), strict=True):
    np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12, atol=1e-12)
for p, q in zip(net.buffers(), single.buffers(), strict=True):
    np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-12)

# accumulation: two backward passes, one sum
layer = an.nn.Linear(2, 1, dtype="float64")
unused = an.nn.Linear(2, 1, dtype="float64")
reducer = an.distributed.GradientReducer([*layer.parameters(), *unused.parameters()], group)
with reducer.no_sync():
    reducer.begin()
    an.sum(layer(an.ones((3, 2), dtype="float64"))).backward()
assert layer.bias.grad.tolist() == [3.0]
reducer.begin()
an.sum(layer(an.ones((3, 2), dtype="float64"))).backward()
assert layer.bias.grad.tolist() == [6.0 * n]
assert unused.bias.grad is None
layer.zero_grad()
reducer.begin()
if r == 0:  # the others have nothing to say, and take part
    an.sum(unused(an.ones((3, 2), dtype="float64"))).backward()
reducer.finish()
assert unused.bias.grad.tolist() == [3.0]
assert layer.bias.grad is None
if r == 0:
    print("all calls are right")
