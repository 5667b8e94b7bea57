"""Networks and training loops as they are written for PyTorch: the same weights here and there give the same losses and gradients."""

import math

import numpy as np
import pytest

import anynet.torch as ours

theirs = pytest.importorskip("torch")

GPT = """
import math
nn, F = torch.nn, torch.nn.functional

class NewGELU(nn.Module):
    def forward(self, x):
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))

class CausalSelfAttention(nn.Module):
    def __init__(self, n_embd, n_head, block_size):
        super().__init__()
        assert n_embd % n_head == 0
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)
        self.register_buffer("bias", torch.tril(torch.ones(block_size, block_size)).view(1, 1, block_size, block_size))
        self.n_head, self.n_embd = n_head, n_embd

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
        y = F.softmax(att, dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

class Block(nn.Module):
    def __init__(self, n_embd, n_head, block_size):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.attn = CausalSelfAttention(n_embd, n_head, block_size)
        self.mlp = nn.ModuleDict(dict(c_fc=nn.Linear(n_embd, 4 * n_embd), c_proj=nn.Linear(4 * n_embd, n_embd), act=NewGELU()))
        m = self.mlp
        self.mlpf = lambda x: m.c_proj(m.act(m.c_fc(x)))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlpf(self.ln_2(x))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.transformer = nn.ModuleDict(dict(
            wte=nn.Embedding(11, 16), wpe=nn.Embedding(8, 16), h=nn.ModuleList([Block(16, 2, 8) for _ in range(2)]), ln_f=nn.LayerNorm(16)))
        self.lm_head = nn.Linear(16, 11, bias=False)
        self.apply(self._init_weights)
        for pn, p in self.named_parameters():
            if pn.endswith("c_proj.weight"):
                torch.nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(4))

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            module.weight.data.normal_(mean=0.0, std=0.02)

    def forward(self, batch):
        idx, targets = batch
        b, t = idx.size()
        pos = torch.arange(0, t, dtype=torch.long, device=idx.device).unsqueeze(0)
        x = self.transformer.wte(idx) + self.transformer.wpe(pos)
        for block in self.transformer.h:
            x = block(x)
        logits = self.lm_head(self.transformer.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)

def batches(draw):
    for _ in range(3):
        idx = draw.integers(0, 11, size=(2, 9))
        yield torch.tensor(idx[:, :-1].tolist()), torch.tensor(idx[:, 1:].tolist())

def optimizer_of(net):
    decay = [p for n, p in net.named_parameters() if p.dim() >= 2]
    rest = [p for n, p in net.named_parameters() if p.dim() < 2]
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-2, betas=(0.9, 0.95))
"""
RESNET = """
nn, F = torch.nn, torch.nn.functional

class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super(BasicBlock, self).__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)

class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.layer1 = nn.Sequential(*[BasicBlock(4, 4), BasicBlock(4, 8, 2)])
        self.linear = nn.Linear(8, 5)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
            elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.constant_(m.weight, 1)

    def forward(self, batch):
        x, y = batch
        out = self.layer1(self.conv1(x))
        out = F.avg_pool2d(out, 4)
        out = out.view(out.size(0), -1)
        out = F.log_softmax(self.linear(out), dim=1)
        return F.nll_loss(out, y) + 0.1 * torch.cat([p.view(-1) for p in self.parameters()]).norm(2)

def batches(draw):
    for _ in range(3):
        yield torch.tensor(draw.normal(size=(2, 3, 8, 8)).tolist(), dtype=torch.get_default_dtype()), torch.tensor([1, 4])

def optimizer_of(net):
    return torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
"""
RNN = """
nn, F = torch.nn, torch.nn.functional

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(7, 5)
        self.rnn = nn.LSTM(5, 6, num_layers=2, batch_first=True)
        self.decoder = nn.Linear(6, 7)
        self.scale = nn.Parameter(torch.Tensor([1.5]))
        self.mean = None
        initrange = 0.1
        self.encoder.weight.data.uniform_(-initrange, initrange)
        self.decoder.bias.data.zero_()

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return weight.new_zeros(2, bsz, 6), weight.new_zeros(2, bsz, 6)

    def forward(self, batch):
        x, lengths = batch
        out, (h, c) = self.rnn(self.encoder(x), self.init_hidden(x.size(0)))
        mask = torch.arange(x.size(1))[None, :] < lengths[:, None]
        logits = self.decoder(out) * self.scale
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, 7), x[:, 1:].reshape(-1), reduction="none").view(x.size(0), -1)
        m = mask[:, 1:].float().to(loss.dtype)
        loss = (loss * m).sum() / m.sum()
        probs = torch.softmax(logits, -1).clamp(1e-6, 1.0)
        entropy = -(probs * probs.log()).sum(-1).mean()
        z = h[-1]
        mu, logvar = z.chunk(2, dim=1)
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return loss - 0.01 * entropy + 0.1 * kl + torch.einsum("bi,bj->bij", z, z).std() * 0.1

def batches(draw):
    for _ in range(3):
        yield torch.tensor(draw.integers(0, 7, size=(3, 6)).tolist()), torch.tensor([6, 4, 2])

def optimizer_of(net):
    return torch.optim.Adam(net.parameters(), lr=1e-2)
"""
VIT = """
nn, F = torch.nn, torch.nn.functional

class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.to_qkv = nn.Linear(dim, dim * 3, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0.0))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = map(lambda t: t.reshape(b, n, self.heads, -1).permute(0, 2, 1, 3), self.to_qkv(self.norm(x)).chunk(3, dim=-1))
        dots = torch.einsum("b h i d, b h j d -> b h i j", q, k) * self.scale
        attn = dots.softmax(dim=-1)
        out = torch.einsum("bhij,bhjd->bhid", attn, v)
        return self.to_out(out.transpose(1, 2).flatten(2))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 8))
        self.pos_embedding = nn.Parameter(torch.zeros(1, 5, 8))
        self.layers = nn.ModuleList([])
        for _ in range(2):
            ff = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
            self.layers.append(nn.ModuleList([Attention(8, 2), ff]))
        self.head = nn.Linear(8, 3)
        nn.init.trunc_normal_(self.pos_embedding, std=0.02)

    def forward(self, batch):
        img, y = batch
        x = self.patch(img).flatten(2).transpose(1, 2)
        cls = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat((cls, x), dim=1)
        x += self.pos_embedding[:, : x.size(1)]
        for attn, ff in self.layers:
            x = attn(x) + x
            x = ff(x) + x
        freq = torch.arange(4) / 4
        x = x + torch.cat([freq.sin(), freq.cos()])[None, None, :].to(x)
        logits = self.head(x[:, 0])
        smooth = torch.zeros_like(logits).scatter_(1, y.unsqueeze(1), 0.9) + 0.1 / 3
        acc = (logits.argmax(dim=1) == y).float().mean().item()
        assert 0 <= acc <= 1
        return -(smooth * F.log_softmax(logits, dim=1)).sum(dim=1).mean()

def batches(draw):
    for _ in range(3):
        yield torch.tensor(draw.normal(size=(2, 3, 8, 8)).tolist(), dtype=torch.get_default_dtype()), torch.tensor([1, 2])

def optimizer_of(net):
    return torch.optim.RMSprop(net.parameters(), lr=1e-3)
"""


def made(source, torch, initial=None):
    torch.manual_seed(0)
    names = {"torch": torch}
    exec(source, names)
    net = names["Net"]()
    if initial is not None:
        net.load_state_dict(
            {k: torch.tensor(v.tolist(), dtype=torch.get_default_dtype()) for k, v in initial.items()}
        )
    return names, net


def train(source, torch, initial):
    names, net = made(source, torch, initial)
    assert [k for k, _ in net.named_parameters()] == [k for k in initial if k in dict(net.named_parameters())]
    optimizer = names["optimizer_of"](net)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    losses = []
    for batch in names["batches"](np.random.default_rng(3)):
        optimizer.zero_grad(set_to_none=True)
        loss = net(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses, {k: v.detach().numpy() for k, v in net.state_dict().items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", [GPT, RESNET, RNN, VIT], ids=["gpt", "resnet", "rnn", "vit"])
def test_trains_alike(source, dtype):
    for torch in (ours, theirs):
        torch.set_default_dtype(getattr(torch, dtype))
    try:
        initial = {k: v.numpy() for k, v in made(source, theirs)[1].state_dict().items()}
        left, right = train(source, ours, initial), train(source, theirs, initial)
    finally:
        for torch in (ours, theirs):
            torch.set_default_dtype(torch.float32)
    limit = 1e-5 if dtype == "float32" else 1e-10
    assert math.isfinite(right[0][-1])
    np.testing.assert_allclose(left[0], right[0], rtol=limit)
    for key, value in right[1].items():
        np.testing.assert_allclose(
            left[1][key], value, rtol=0, atol=limit * 100 * max(1.0, np.abs(value).max()), err_msg=key
        )
