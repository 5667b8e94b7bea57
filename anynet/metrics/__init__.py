"""Metrics: what is measured of a network beside its loss.

>>> import anynet as an
>>> an.metrics.f1([0, 2, 1, 2], [0, 1, 1, 2], average="macro")  # of arrays, at once
0.777777...
>>> metric = an.metrics.F1(average="macro")  # of batches
>>> metric.update([0, 2], [0, 1])
>>> metric.update([1, 2], [1, 2])
>>> metric.compute()
0.777777...

``an.fit(…, metrics=["f1", "roc_auc", an.metrics.TopK(k=3)])`` takes names, instances and functions. Each metric is a class (`F1`)
and a function of the same name (`f1`), which takes the class's options as keywords. Values are scikit-learn's, BLEU
sacrebleu's; `update` does not wait for the device, `compute` reads from it; states of several processes `merge`.

Forms that metrics of classes take (`output`, `target`), with classes and labels along axis 1:

- scores (n, C, …), C ≥ 2, with class indices (n, …), integers; those equal to `ignore_index` (−100) do not count;
- class indices with class indices, integers of one shape;
- floating-point numbers (n,) or (n, 1, …) with yes or no (n,) or (n, …): 1 or 0, True or False, 1 or −1;
- floating-point numbers (n, L, …) with yes or no of that shape: L labels; with ``one_hot=True`` rows whose largest number is meant.

Their options: ``logits`` (True: the output are logits; False: probabilities; None: what the loss of `fit` says, else probabilities, and
what cannot be some is refused), ``threshold`` (above which an output says yes), ``ignore_index``, ``one_hot``, ``multilabel``
(integers (n, L) are decisions for L labels, not class indices).

Metrics of numbers take outputs and targets of one shape; nothing is broadcast, but (n, 1) goes with (n,).

`weight` is a number for each sample (n,), or for each target. NaN is refused, as is what measures nothing (`UndefinedError`; `fit` and
`evaluate` record NaN then).
"""

from anynet.metrics.classes import (
    F1,
    Accuracy,
    BalancedAccuracy,
    CohenKappa,
    Confusion,
    IoU,
    Matthews,
    Precision,
    Recall,
    TopK,
)
from anynet.metrics.metric import Mean, Metric, UndefinedError, functional
from anynet.metrics.probabilities import BitsPerCharacter, Brier, Calibration, LogLoss, Perplexity
from anynet.metrics.ranking import AveragePrecision, RocAuc
from anynet.metrics.registry import METRICS, get
from anynet.metrics.regression import MAE, MAPE, MSE, R2, RMSE, ExplainedVariance, Pearson
from anynet.metrics.text import Bleu
from anynet.metrics.transformed import Transformed

accuracy = functional(Accuracy)
average_precision = functional(AveragePrecision)
balanced_accuracy = functional(BalancedAccuracy)
bits_per_character = functional(BitsPerCharacter)
bleu = functional(Bleu)
brier = functional(Brier)
calibration = functional(Calibration)
cohen_kappa = functional(CohenKappa)
confusion = functional(Confusion)
explained_variance = functional(ExplainedVariance)
f1 = functional(F1)
iou = functional(IoU)
log_loss = functional(LogLoss)
mae = functional(MAE)
mape = functional(MAPE)
matthews = functional(Matthews)
mse = functional(MSE)
pearson = functional(Pearson)
perplexity = functional(Perplexity)
precision = functional(Precision)
r2 = functional(R2)
recall = functional(Recall)
rmse = functional(RMSE)
roc_auc = functional(RocAuc)
top_k = functional(TopK)

__all__ = [
    "F1", "MAE", "MAPE", "METRICS", "MSE", "R2", "RMSE", "Accuracy", "AveragePrecision", "BalancedAccuracy",
    "BitsPerCharacter", "Bleu", "Brier", "Calibration", "CohenKappa", "Confusion", "ExplainedVariance", "IoU", "LogLoss",
    "Matthews", "Mean", "Metric", "Pearson", "Perplexity", "Precision", "Recall", "RocAuc", "TopK", "Transformed",
    "UndefinedError", "accuracy", "average_precision", "balanced_accuracy", "bits_per_character", "bleu", "brier",
    "calibration", "cohen_kappa", "confusion", "explained_variance", "f1", "get", "iou", "log_loss", "mae", "mape", "matthews",
    "mse", "pearson", "perplexity", "precision", "r2", "recall", "rmse", "roc_auc", "top_k",
]  # fmt: skip
