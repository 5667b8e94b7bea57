"""PyTorch's names of collectives in several processes, as a script for PyTorch writes them."""

from __future__ import annotations

import anynet.torch as torch
import anynet.torch.distributed as dist
from anynet.torch.nn.parallel import DistributedDataParallel as DDP

assert dist.is_available()
assert not dist.is_initialized()
dist.init_process_group("gloo", init_method="env://")
assert dist.is_initialized()
rank, size = dist.get_rank(), dist.get_world_size()

x = torch.tensor([1.0, 2.0]) * (rank + 1)
dist.all_reduce(x)
total = size * (size + 1) / 2
assert x.tolist() == [total, 2 * total]
for op, expected in ((dist.ReduceOp.AVG, (size + 1) / 2), (dist.ReduceOp.MAX, size), (dist.ReduceOp.MIN, 1)):
    y = torch.tensor([rank + 1.0])
    work = dist.all_reduce(y, op, async_op=True)
    work.wait()
    assert y.item() == expected, (op, y)

y = torch.tensor([float(rank)])
dist.broadcast(y, src=size - 1)
assert y.item() == size - 1
y = torch.tensor([1.0])
dist.reduce(y, dst=0)
assert y.item() == (size if rank == 0 else 1)

parts = [torch.zeros(2) for _ in range(size)]
dist.all_gather(parts, torch.tensor([float(rank), 0.0]))
assert [p[0].item() for p in parts] == list(range(size))
whole = torch.zeros(2 * size)
dist.all_gather_into_tensor(whole, torch.tensor([float(rank), 1.0]))
assert whole.tolist() == [v for r in range(size) for v in (r, 1.0)]
own = torch.zeros(1)
dist.reduce_scatter_tensor(own, torch.arange(size, dtype=torch.float32))
assert own.item() == rank * size

names: list = [None] * size
dist.all_gather_object(names, f"process {rank}")
assert names == [f"process {r}" for r in range(size)]
said = [f"from {rank}", rank]
dist.broadcast_object_list(said, src=0)
assert said == ["from 0", 0]

torch.manual_seed(rank)
net = DDP(torch.nn.Linear(3, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(3):
    loss = ((net(torch.ones(4, 3) * (rank + 1)) - 1) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
weights = [torch.zeros(1, 3) for _ in range(size)]
dist.all_gather(weights, net.module.weight)
assert all(torch.equal(w, weights[0]) for w in weights)
dist.barrier()
dist.destroy_process_group()
if rank == 0:
    print("all names are right")
