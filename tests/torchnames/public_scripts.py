"""The public training scripts that are run, by the names of their repositories and files, with arguments for short forms.

`before` runs in the process before the script, with `np` and the room as `torch`: it lays out small data where the script looks for them,
or stands in for a library. `after` runs in the script's own names: what trains, where the file only defines it. `plain` scripts have no
optimizer, so that parameters begin with NumPy's numbers when the network is first called.
"""

# ruff: noqa: E501 - what runs before other people's code
from __future__ import annotations

from typing import Any

__all__ = ["SCRIPTS"]

WORDS = """
import os
os.makedirs("corpus", exist_ok=True)
for part in ("train", "valid", "test"):
    words = np.random.default_rng(2).integers(0, 30, size=(60, 9))
    with open(f"corpus/{part}.txt", "w") as file:
        file.writelines(" ".join(f"w{i}" for i in line) + "\\n" for line in words)
"""
NAMES = """
words = np.random.default_rng(2).integers(97, 123, size=(200, 6))
with open("names.txt", "w") as file:
    file.writelines("".join(chr(i) for i in word[: 2 + i % 5]) + "\\n" for i, word in enumerate(words))
"""
PICTURES = """
import os
from PIL import Image
for i, folder in enumerate({folders!r}):
    os.makedirs(folder, exist_ok=True)
    for j in range({count}):
        draw = np.random.default_rng([i, j])
        Image.fromarray(draw.integers(0, 256, {shape!r}, dtype=np.uint8)).save(f"{{folder}}/{{j}}.png")
"""
MASKS = (
    PICTURES.format(folders=["data/imgs"], count=10, shape=(32, 32, 3))
    + """
listed = os.listdir
os.listdir = lambda path: sorted(listed(path))
os.makedirs("data/masks", exist_ok=True)
for j in range(10):
    Image.fromarray((np.random.default_rng(j).random((32, 32)) < 0.5).astype(np.uint8)).save(f"data/masks/{j}.png")
"""
)
CORA = """
import io, os, requests, tarfile
os.makedirs("cora", exist_ok=True)
draw, n = np.random.default_rng(2), {n}
links = sorted({{(int(a), int(b)) for a, b in draw.integers(0, n, size=(3 * n, 2)) if a != b}})
files = {{
    "cora/cora.content": "".join(f"{{100 + i}} " + " ".join(map(str, draw.integers(0, 2, 20))) + f" class{{i % 7}}\\n" for i in range(n)),
    "cora/cora.cites": "".join(f"{{100 + a}} {{100 + b}}\\n" for a, b in links),
}}
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w:gz") as archive:
    for name, text in files.items():
        entry = tarfile.TarInfo(name)
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text.encode()))
class Answer:
    raw = io.BytesIO(packed.getvalue())
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
requests.get = lambda *_, **__: Answer()
for folder in {folders!r}:
    os.makedirs(folder, exist_ok=True)
    for name, text in files.items():
        with open(os.path.join(folder, os.path.basename(name)), "w") as file:
            file.write(text)
"""
POLE = """
import types
class Pole:
    spec = types.SimpleNamespace(reward_threshold=1e9)
    action_space = types.SimpleNamespace(n=2, shape=(), sample=lambda: 0, high=np.array([2.0]), low=np.array([-2.0]))
    observation_space = types.SimpleNamespace(shape=(4,))
    def __init__(self):
        self.draw = np.random.default_rng(4)
    def reset(self, **_):
        self.x, self.t = self.draw.normal(size=4) * 0.05, 0
        return self.x.astype(np.float32), {}
    def step(self, action):
        push = 1.0 if int(np.asarray(action).reshape(-1)[0]) == 1 else -1.0
        x, v, a, w = self.x
        turn = 0.6 * np.sin(a) - 0.3 * push
        self.x = np.array([x + 0.1 * v, v + 0.05 * push, a + 0.1 * w, w + turn])
        self.t += 1
        return self.x.astype(np.float32), 1.0, bool(abs(self.x[2]) > 0.4 or self.t > 12), False, {}
    def seed(self, *_):
        pass
    def close(self):
        pass
for name in ("gymnasium", "gym"):
    module = types.ModuleType(name)
    module.make, module.Env = lambda *_, **__: Pole(), Pole
    __import__("sys").modules[name] = module
"""
SENTENCES = """
import sys, types
vocabulary = ["<unk>", "<pad>", "<bos>", "<eos>"] + [f"w{i}" for i in range(20)]
class Vocab:
    def __len__(self):
        return len(vocabulary)
    def __call__(self, words):
        return [vocabulary.index(w) for w in words]
    def set_default_index(self, _):
        pass
draw = np.random.default_rng(3)
def sentence():
    return " ".join(f"w{i}" for i in draw.integers(0, 20, draw.integers(3, 8)))
pairs = [(sentence(), sentence()) for _ in range(16)]
names = ("torchtext", "torchtext.data", "torchtext.data.utils", "torchtext.vocab", "torchtext.datasets")
for name in names:
    sys.modules[name] = types.ModuleType(name)
sys.modules["torchtext.data.utils"].get_tokenizer = lambda *_: str.split
sys.modules["torchtext.vocab"].build_vocab_from_iterator = lambda *_, **__: Vocab()
sys.modules["torchtext.datasets"].Multi30k = lambda **_: pairs
sys.modules["torchtext.datasets"].multi30k = types.SimpleNamespace(URL={})
"""
ACCELERATE = """
import contextlib, sys, types
class Accelerator:
    is_main_process = is_local_main_process = True
    device, scaler = torch.device("cpu"), None
    def __init__(self, *_, **__):
        pass
    def prepare(self, *given):
        return given if len(given) > 1 else given[0]
    def backward(self, loss):
        loss.backward()
    def clip_grad_norm_(self, parameters, norm):
        return torch.nn.utils.clip_grad_norm_(parameters, norm)
    def autocast(self):
        return contextlib.nullcontext()
    def wait_for_everyone(self):
        pass
    print = staticmethod(print)
class EMA(torch.nn.Module):
    def __init__(self, model, **_):
        super().__init__()
    def update(self):
        pass
for name, found in (("accelerate", Accelerator), ("ema_pytorch", EMA)):
    sys.modules[name] = types.ModuleType(name)
    setattr(sys.modules[name], found.__name__, found)
"""
TIMM = """
import sys, types
known = {}
def register_model(function):
    known[function.__name__] = function
    return function
class Unused:
    def __init__(self, *_, **__):
        pass
class DropPath(torch.nn.Identity):
    def __init__(self, rate=0.0):
        super().__init__()
class LabelSmoothingCrossEntropy(torch.nn.CrossEntropyLoss):
    def __init__(self, smoothing=0.1):
        super().__init__(label_smoothing=smoothing)
def create_model(name, pretrained=False, **options):
    return known["small"](**options)
given = dict(
    register_model=register_model, create_model=create_model, DropPath=DropPath, trunc_normal_=torch.nn.init.trunc_normal_,
    LabelSmoothingCrossEntropy=LabelSmoothingCrossEntropy, SoftTargetCrossEntropy=Unused, Mixup=Unused, ModelEma=Unused,
    create_transform=lambda **_: vision.transforms.Compose([None, vision.transforms.ToTensor()]),
    accuracy=None, get_state_dict=None, IMAGENET_DEFAULT_MEAN=0, IMAGENET_DEFAULT_STD=0, IMAGENET_INCEPTION_MEAN=0, IMAGENET_INCEPTION_STD=0,
)
optimizers = dict(adafactor="Adafactor", adahessian="Adahessian", adamp="AdamP", lookahead="Lookahead", nadam="Nadam", novograd="NovoGrad",
                  nvnovograd="NvNovoGrad", radam="RAdam", rmsprop_tf="RMSpropTF", sgdp="SGDP")
for name in ("timm", "timm.data", "timm.data.mixup", "timm.data.constants", "timm.models", "timm.models.layers", "timm.models.registry",
             "timm.loss", "timm.utils", "timm.optim", *(f"timm.optim.{n}" for n in optimizers), torch.__name__ + "._six", "tensorboardX"):
    module = sys.modules[name] = types.ModuleType(name)
    vars(module).update(given, inf=float("inf"), SummaryWriter=Unused, **{v: Unused for v in optimizers.values()})
torch.cuda.synchronize = lambda *_: None
"""
SERIES = """
import json, os
os.makedirs("data/elect", exist_ok=True)
os.makedirs("experiments/base_model", exist_ok=True)
with open("experiments/base_model/params.json", "w") as file:
    json.dump({"learning_rate": 1e-3, "batch_size": 4, "lstm_layers": 2, "num_epochs": 2, "train_window": 10, "test_window": 10,
               "predict_start": 8, "test_predict_start": 8, "predict_steps": 2, "num_class": 5, "cov_dim": 3, "lstm_hidden_dim": 8,
               "embedding_dim": 4, "sample_times": 3, "lstm_dropout": 0.0, "predict_batch": 24}, file)
draw = np.random.default_rng(6)
for part, n in (("train", 24), ("test", 72)):
    x = draw.random((n, 10, 5)).astype(np.float32)
    x[..., -1] = draw.integers(0, 5, (n, 1))
    np.save(f"data/elect/{part}_data_elect.npy", x)
    np.save(f"data/elect/{part}_label_elect.npy", draw.random((n, 10)).astype(np.float32))
    np.save(f"data/elect/{part}_v_elect.npy", 0.5 + draw.random((n, 2)).astype(np.float32))
"""
TEXT = """
import os, pickle
os.makedirs("data/small", exist_ok=True)
for part in ("train", "val"):
    np.random.default_rng(1).integers(0, 30, 2000).astype(np.uint16).tofile(f"data/small/{part}.bin")
with open("data/small/meta.pkl", "wb") as file:
    pickle.dump({"vocab_size": 30}, file)
"""
WAVES = """
waves = np.sin((np.arange(40) + np.arange(8)[:, None] * 7) / 20.0)
torch.load = lambda *_, **__: waves
"""
DIFFUSION = (
    ACCELERATE
    + PICTURES.format(folders=["pictures"], count=100, shape=(16, 16, 3))
    + """
import sys
sys.modules["pytorch_fid"] = None
"""
)
NOTEBOOK = """
import matplotlib, sys, types
matplotlib.use("Agg")
module = sys.modules["IPython"] = types.ModuleType("IPython")
module.version_info, module.get_ipython = (8, 24), lambda: None
module.display = types.SimpleNamespace(display=lambda *_: None, clear_output=lambda **_: None)
"""


def _examples(name: str, *args: str, **more: Any) -> dict[str, Any]:
    return {"repository": "pytorch/examples", "script": f"{name}.py", "args": list(args), **more}


def _of(repository: str, script: str, *args: str, **more: Any) -> dict[str, Any]:
    return {"repository": repository, "script": script, "args": list(args), **more}


FLOWS, VIT, DDPM = (
    "kamenbliznashki/normalizing_flows",
    "lucidrains/vit-pytorch",
    "lucidrains/denoising-diffusion-pytorch",
)
GAN, NLP, TUTORIAL = (
    "eriklindernoren/PyTorch-GAN",
    "graykode/nlp-tutorial",
    "yunjey/pytorch-tutorial",
)
WORD_MODEL = (
    "--data",
    "corpus",
    "--emsize",
    "16",
    "--nhid",
    "16",
    "--batch_size",
    "4",
    "--bptt",
    "8",
    "--epochs",
    "1",
    "--dropout",
    "0",
)
SCRIPTS: dict[str, dict[str, Any]] = {
    "examples: mnist": _examples("mnist/main", "--epochs", "1", "--batch-size", "8"),
    "examples: mnist_rnn": _examples("mnist_rnn/main", "--epochs", "1", "--batch-size", "8"),
    "examples: vae": _examples("vae/main", "--epochs", "1", "--batch-size", "8"),
    "examples: dcgan": _examples("dcgan/main", "--dataset", "fake", "--batchSize", "4", "--ngf", "8", "--ndf", "8", "--niter", "1",
                                 "--outf", "out", "--workers", "0"),
    "examples: regression": _examples("regression/main", plain=True),
    "examples: super_resolution": _examples(
        "super_resolution/main", "--upscale_factor", "4", "--batchSize", "2", "--threads", "0",
        before=PICTURES.format(folders=[f"dataset/BSDS300/images/{p}" for p in ("train", "test")], count=8, shape=(64, 64, 3))),
    "examples: time_sequence_prediction": _examples("time_sequence_prediction/train", "--steps", "1", kinds=("float64",), before=WAVES),
    "examples: word_language_model, LSTM": _examples("word_language_model/main", "--model", "LSTM", *WORD_MODEL, before=WORDS, plain=True),
    "examples: word_language_model, GRU": _examples("word_language_model/main", "--model", "GRU", *WORD_MODEL, before=WORDS, plain=True),
    "examples: word_language_model, Transformer": _examples("word_language_model/main", "--model", "Transformer", "--lr", "1", *WORD_MODEL,
                                                            before=WORDS, plain=True),
    "examples: actor_critic": _examples("reinforcement_learning/actor_critic", before=POLE),
    "examples: reinforce": _examples("reinforcement_learning/reinforce", before=POLE),
    "examples: siamese_network": _examples("siamese_network/main", "--epochs", "1", "--batch-size", "4", once=True),
    "examples: gcn": _examples("gcn/main", before=CORA.format(n=1600, folders=[]), steps=3),
    "examples: gat": _examples("gat/main", "--hidden-dim", "8", "--num-heads", "2", before=CORA.format(n=1700, folders=[]), steps=2),
    "examples: mnist_forward_forward": _examples("mnist_forward_forward/main", "--epochs", "2", "--train_size", "16", "--test_size", "16"),
    "examples: language_translation": _examples("language_translation/main", "--embed_size", "16", "--attn_heads", "2", "--enc_layers", "1",
                                                "--dec_layers", "1", "--dim_feedforward", "16", "--batch", "4", "--dropout", "0", "--logging_dir", "out/",
                                                before=SENTENCES),
    "examples: imagenet": _examples("imagenet/main", "pictures", "-a", "resnet18", "-b", "2", "--epochs", "1", "-j", "0", steps=2,
                                    before=PICTURES.format(folders=[f"pictures/{p}/{c}" for p in ("train", "val") for c in "ab"], count=3,
                                                           shape=(64, 64, 3))),
    "examples: fast_neural_style": _examples(
        "fast_neural_style/neural_style/neural_style", "train", "--dataset", "pictures", "--style-image", "pictures/a/0.png",
        "--save-model-dir", "out", "--image-size", "32", "--batch-size", "2", "--epochs", "1", steps=2,
        before=PICTURES.format(folders=["pictures/a"], count=8, shape=(32, 32, 3))),
    "makemore": _of("karpathy/makemore", "makemore.py", "-n", "0", "--max-steps", "5", "--n-layer", "2", before=NAMES),
    "makemore, mlp": _of("karpathy/makemore", "makemore.py", "-n", "0", "--max-steps", "5", "--type", "mlp", before=NAMES),
    "makemore, gru": _of("karpathy/makemore", "makemore.py", "-n", "0", "--max-steps", "5", "--type", "gru", before=NAMES),
    "nanoGPT": _of("karpathy/nanoGPT", "train.py", "--dataset=small", "--device=cpu", "--compile=False", "--eval_iters=2",
                   "--log_interval=1", "--block_size=16", "--batch_size=4", "--n_layer=2", "--n_head=2", "--n_embd=16", "--max_iters=5",
                   "--lr_decay_iters=5", "--dropout=0.0", "--dtype=float32", "--gradient_accumulation_steps=2", there=True, before=TEXT),
    "minGPT: adder": _of("karpathy/minGPT", "projects/adder/adder.py", "--trainer.num_workers=0", "--trainer.max_iters=5", paths=["."]),
    "pytorch-cifar": _of("kuangliu/pytorch-cifar", "main.py", steps=2, small="SimpleDLA", before="""
import io, os
os.popen = lambda *_: io.StringIO("24 80")
"""),
    "ConvNeXt": _of("facebookresearch/ConvNeXt", "main.py", "--model", "small", "--data_set", "CIFAR", "--batch_size", "4", "--epochs", "1",
                    "--device", "cpu", "--num_workers", "0", "--mixup", "0", "--cutmix", "0", "--input_size", "32", "--warmup_epochs", "0",
                    "--disable_eval", "true", "--layer_scale_init_value", "0.5", before=TIMM + """
@register_model
def small(**options):
    options.pop("num_classes")
    return sys.modules["models.convnext"].ConvNeXt(num_classes=10, depths=[1, 1, 1, 1], dims=[8, 12, 16, 20], **options)
"""),
    "U-Net": _of("milesial/Pytorch-UNet", "train.py", "--epochs", "1", "--batch-size", "2", "--scale", "1.0", before=MASKS, steps=2),
    "vit-pytorch": _of(VIT, "train_vit_decorr.py", paths=["."], before=ACCELERATE, steps=2),
    "DDPM": _of(DDPM, "denoising_diffusion_pytorch/denoising_diffusion_pytorch.py", paths=["."], before=DIFFUSION, steps=3, after="""
net = Unet(dim=8, dim_mults=(1, 2), flash_attn=False)
diffusion = GaussianDiffusion(net, image_size=16, timesteps=20)
Trainer(diffusion, "pictures", train_batch_size=16, train_num_steps=10, calculate_fid=False, augment_horizontal_flip=False).train()
"""),
    "flows: maf": _of(FLOWS, "maf.py", "--train", "--dataset", "TOY", "--n_epochs", "1", "--n_blocks", "2", "--hidden_size", "16",
                      "--batch_size", "64", "--output_dir", "out"),
    "flows: realnvp": _of(FLOWS, "maf.py", "--train", "--model", "realnvp", "--dataset", "TOY", "--n_epochs", "1", "--n_blocks", "2",
                          "--hidden_size", "16", "--batch_size", "64", "--output_dir", "out"),
    "flows: planar": _of(FLOWS, "planar_flow.py", "--train", "--target_potential", "u_z1", "--flow_length", "4", "--n_steps", "8",
                         "--start_step", "1", "--output_dir", "out", "--no_cuda"),
    "flows: bnaf": _of(FLOWS, "bnaf.py", "--train", "--dataset", "u1", "--hidden_dim", "8", "--batch_size", "20", "--n_steps", "6",
                       "--output_dir", "out", before="""
made = torch.optim.lr_scheduler.ReduceLROnPlateau
torch.optim.lr_scheduler.ReduceLROnPlateau = lambda *args, verbose=None, **more: made(*args, **more)
"""),
    "DeepAR": _of("zhykoties/TimeSeries", "train.py", before=SERIES, kinds=("float32",)),
    "d2l: LeNet": _of("d2l-ai/d2l-en", "d2l/torch.py", before=NOTEBOOK, after="""
data, model = FashionMNIST(batch_size=8, resize=(28, 28)), LeNet(lr=0.1)
model.apply_init([next(iter(data.get_dataloader(True)))[0]], init_cnn)
Trainer(max_epochs=1).fit(model, data)
"""),
    "d2l: minibatch": _of("d2l-ai/d2l-en", "d2l/torch.py", before=NOTEBOOK, after="""
def sgd(params, states, hyperparams):
    for p in params:
        p.data.sub_(hyperparams["lr"] * p.grad)
        p.grad.data.zero_()
draw, kind = np.random.default_rng(5), torch.get_default_dtype()
x, y = torch.tensor(draw.normal(size=(40, 5))).to(kind), torch.tensor(draw.normal(size=40)).to(kind)
train_ch11(sgd, None, {"lr": 0.05}, load_array((x, y), 4), 5, 1)
"""),
    "pygcn": _of("tkipf/pygcn", "pygcn/train.py", "--epochs", "6", kinds=("float32",), paths=["."], there="pygcn",
                 before=CORA.format(n=1600, folders=["../data/cora"])),
    "pyGAT": _of("Diego999/pyGAT", "train.py", "--epochs", "4", "--hidden", "4", "--nb_heads", "2", steps=2,
                 before=CORA.format(n=1600, folders=["data/cora"])),
    "pyGAT, sparse": _of("Diego999/pyGAT", "train.py", "--sparse", "--epochs", "4", "--hidden", "4", "--nb_heads", "2", steps=2,
                         before=CORA.format(n=1600, folders=["data/cora"])),
}  # fmt: skip
