"""Knowledge distillation: a small network learns the probabilities of a large one.

Source: Hinton, Vinyals, Dean: Distilling the knowledge in a neural network (2015).
"""

from __future__ import annotations

from anynet.methods.checks import check_number
from anynet.nn.functional.losses.classification import cross_entropy
from anynet.nn.module import Module
from anynet.ops import elementwise as e
from anynet.ops.reductions import mean
from anynet.ops.reductions import sum as sum_
from anynet.ops.softmax import log_softmax
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["DistillationLoss", "distillation_loss"]


def distillation_loss(
    student: ArrayLike,
    teacher: ArrayLike,
    target: ArrayLike | None = None,
    *,
    temperature: float = 4.0,
    alpha: float = 0.5,
    reduction: str = "mean",
) -> Tensor:
    """α T² KL(softmax(teacher/T) ‖ softmax(student/T)) + (1 − α) cross-entropy(student, target); without a target the first term alone.

    `student` and `teacher` are logits (n, classes); no gradient goes to the teacher. `target` are class indices (n,). T² keeps the
    size of the soft term's gradient, which falls with 1/T². `reduction` "mean", "sum" or "none" (n,).

    Errors: ValueError for differing shapes, T ≤ 0, α outside [0, 1].

    >>> import anynet as an
    >>> an.methods.distillation_loss(an.asarray([[1.0, 2.0]]), an.asarray([[3.0, 4.0]])).item()  # logits may differ by a constant
    0.0
    """
    where = "distillation_loss"
    check_number(where, "temperature", temperature, 0, open=True)
    check_number(where, "alpha", alpha, 0, 1)
    if len(student.shape) != 2 or tuple(student.shape) != tuple(teacher.shape):
        msg = f"{where}: student and teacher must be logits (n, classes), got {tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(msg)
    if reduction not in ("mean", "sum", "none"):
        msg = f"{where}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
        raise ValueError(msg)
    fixed = teacher.detach() if isinstance(teacher, Tensor) else teacher
    log_p, log_q = log_softmax(fixed / temperature, axis=1), log_softmax(student / temperature, axis=1)
    losses = temperature**2 * sum_(e.exp(log_p) * (log_p - log_q), axis=1)
    if target is not None:
        losses = alpha * losses + (1.0 - alpha) * cross_entropy(student, target, reduction="none")
    if reduction == "none":
        return losses
    return mean(losses) if reduction == "mean" else sum_(losses)


class DistillationLoss(Module):
    """`distillation_loss` with its options: called with the logits of student and teacher, and the target where there is one.

    >>> import anynet as an
    >>> an.methods.DistillationLoss(temperature=2.0)(an.asarray([[1.0, 2.0]]), an.asarray([[3.0, 4.0]])).item()
    0.0
    """

    def __init__(self, temperature: float = 4.0, alpha: float = 0.5, reduction: str = "mean") -> None:
        self.temperature = check_number("DistillationLoss", "temperature", temperature, 0, open=True)
        self.alpha = check_number("DistillationLoss", "alpha", alpha, 0, 1)
        self.reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
        """The loss."""
        return distillation_loss(
            student, teacher, target, temperature=self.temperature, alpha=self.alpha, reduction=self.reduction
        )

    def extra_repr(self) -> str:
        """The options."""
        return f"temperature={self.temperature}, alpha={self.alpha}, reduction={self.reduction!r}"
