"""Constrain to boundary: the distance of the scores from their CRF marginals."""

import torch
from torch import Tensor


def constrain_loss(
    score: Tensor, marginal: Tensor, floor: float = 1e-4, clip: tuple[float, float] | None = None
) -> Tensor:
    """Kullback-Leibler divergence from CRF marginals to scores, mean over positions.

    Args:
        score: class probabilities in (0, 1], (N, C, H, W).
        marginal: CRF marginals in [0, 1], a constant target, (N, C, H, W).
        floor: marginals are clamped to at least this and normalised again; 0: not clamped.
        clip: bounds of the ratio marginal / score, above 0; None: no bounds. Positions outside
            them have no gradient.

    Returns:
        Scalar, >= 0 up to rounding without `clip`. No gradient flows into `marginal`.

    Source: Kolesnikov and Lampert, ECCV 2016, L_constrain, with the marginals constant as in
    the released code (the paper differentiates through the CRF). The clip of 0.05 to 20: Huang
    et al., CVPR 2018 (DSRG), boundary loss of the released code.
    """
    target = marginal.detach().to(score.dtype).clamp_min(floor)
    target = target / target.sum(dim=1, keepdim=True)
    score = score.clamp_min(torch.finfo(score.dtype).eps)
    if clip is not None:
        return (target * torch.log((target / score).clamp(*clip))).sum(dim=1).mean()
    # 0 log 0 is 0: clamped to the smallest positive number, the logarithm is finite.
    log = torch.log(target.clamp_min(torch.finfo(target.dtype).tiny))
    return -(target * (torch.log(score) - log)).sum() * target.shape[1] / target.numel()
