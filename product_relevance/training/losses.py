"""Compute what a training minimises: one function per objective, each from logits to one loss per pair."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as library_cross_entropy
from torch.nn.functional import kl_div, logsigmoid

# The label of a row that has none: its only target is a teacher's probability.
UNLABELLED = -1
# Each grade further from the given one gets exp(-SHARPNESS) times as much of the target.
SHARPNESS = 2.0


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al., arXiv 1512.00567, section 7).

    Args:
        logits: shape (n, 2).
        labels: 0 or 1, shape (n,).
        smoothing: share of the target that goes to both classes alike.

    Returns:
        Losses of shape (n,).
    """
    return library_cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)


def ordinal(logits: Tensor, grades: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with soft targets: near grades share what a far one gets nothing of (Diaz and Marathe 2019, SORD).

    The target of grade y is a softmax over -SHARPNESS * |k - y|, mixed with label smoothing.

    Args:
        logits: shape (n, K).
        grades: 0 to K - 1, shape (n,).
        smoothing: as in `cross_entropy`.

    Returns:
        Losses of shape (n,).
    """
    count = logits.shape[-1]
    places = torch.arange(count, device=logits.device)
    near = (-SHARPNESS * (places - grades.unsqueeze(-1)).abs().float()).softmax(-1)
    target = (1 - smoothing) * near + smoothing / count
    return -(target * logits.float().log_softmax(-1)).sum(-1)


def r_drop(logits: Tensor, labels: Tensor, strength: float, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of two passes with unlike dropout, and how far they disagree (Liang et al., arXiv 2106.14448).

    The paper's equation 4 sums both cross-entropies; their mean is taken here, so that the learning rate keeps its
    meaning, and `strength` is half of the paper's alpha.

    Args:
        logits: shape (2 n, 2): the pairs once, then once more.
        labels: shape (n,).
        strength: factor of the symmetric Kullback-Leibler divergence.
        smoothing: as in `cross_entropy`.

    Returns:
        Losses of shape (n,).
    """
    one, two = logits.float().log_softmax(-1).chunk(2)
    apart = kl_div(one, two, reduction="none", log_target=True) + kl_div(two, one, reduction="none", log_target=True)
    both = cross_entropy(logits, labels.repeat(2), smoothing).chunk(2)
    return (both[0] + both[1]) / 2 + strength * apart.sum(-1) / 2


def bootstrap_loss(logits: Tensor, labels: Tensor, share: float, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy against a mixture of the label and the model's own probability (Reed et al., arXiv 1412.6596).

    Equation 6, soft bootstrapping, for labels that are partly wrong. The gradient flows through both factors, so the
    part of the model is its entropy: a model that is sure of the other label gives way less.

    Args:
        logits: shape (n, 2).
        labels: 0 or 1, shape (n,).
        share: weight of the model's own probability; the label has the rest.
        smoothing: as in `cross_entropy`, of the label's part.

    Returns:
        Losses of shape (n,).
    """
    logs = logits.float().log_softmax(-1)
    return (1 - share) * cross_entropy(logits, labels, smoothing) - share * (logs.exp() * logs).sum(-1)


def distillation_loss(logits: Tensor, labels: Tensor, teacher: Tensor, share: float, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy against a mixture of the label and a teacher's probability (Hinton et al., arXiv 1503.02531).

    Args:
        logits: shape (n, 2).
        labels: shape (n,); 0, 1 or `UNLABELLED`.
        teacher: probabilities of relevance, shape (n,); NaN where the teacher has none, which a label must have.
        share: weight of the teacher; the label has the rest. A row without a label has the teacher alone.
        smoothing: as in `cross_entropy`, of the label's part.

    Returns:
        Losses of shape (n,).
    """
    hard = cross_entropy(logits, labels.clamp(min=0), smoothing)
    known, weight = ~teacher.isnan(), torch.where(labels == UNLABELLED, 1.0, share)
    target = torch.stack([1 - teacher, teacher], dim=-1).nan_to_num()
    soft = -(target * logits.float().log_softmax(-1)).sum(-1)
    return torch.where(known, (1 - weight) * hard + weight * soft, hard)


def early_learning_loss(
    logits: Tensor, labels: Tensor, targets: Tensor, strength: float, smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy and a term that holds the model to its earlier answers (Liu et al., arXiv 2007.00151, equation 6).

    Args:
        logits: shape (n, 2).
        labels: shape (n,).
        targets: of `own_past.EarlyTargets`, shape (n, 2).
        strength: factor of the term, lambda in the paper.
        smoothing: as in `cross_entropy`.

    Returns:
        Losses of shape (n,), which may be negative.
    """
    probabilities = logits.float().softmax(-1).clamp(1e-4, 1 - 1e-4)
    held = (1 - (targets * probabilities).sum(-1)).log()
    return cross_entropy(logits, labels, smoothing) + strength * held


def softened_divergence(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Divergence from the answers of a teacher, both softened (Hinton et al., arXiv 1503.02531, section 2).

    EAR-MP (arXiv 2510.23018) mixes it with cross-entropy; its teacher is a mean of the weights. The square of the
    temperature keeps the size of the gradient.

    Args:
        logits: shape (n, 2).
        taught: logits of the teacher, shape (n, 2), without gradient.
        temperature: by which both logits are divided.

    Returns:
        Kullback-Leibler divergences of shape (n,), times the square of the temperature.
    """
    student, teacher = ((values.float() / temperature).log_softmax(-1) for values in (logits, taught))
    return temperature**2 * kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


def preference_loss(logits: Tensor, labels: Tensor, reference: Tensor, beta: float) -> Tensor:
    """Direct preference optimisation of the right answer over the wrong one (Rafailov et al., arXiv 2305.18290).

    Equation 7. With answers of one token, log pi(yes) - log pi(no) is the difference of the two logits: what does not
    depend on the answer cancels, so neither the whole vocabulary nor a second copy of the model is needed.

    Args:
        logits: of no and yes, shape (n, 2).
        labels: shape (n,): 1 prefers yes.
        reference: logits of the model without its adapter, shape (n, 2).
        beta: how strongly the model is held to the reference.

    Returns:
        Losses of shape (n,).
    """
    gain = (logits - reference).float()
    preferred = (gain[:, 1] - gain[:, 0]) * (2 * labels - 1)
    return -logsigmoid(beta * preferred)
