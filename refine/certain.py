"""Sure labels of IRN, from which its boundary network learns."""

import numpy as np
from numpy.typing import NDArray

import densecrf
from base import IGNORE


def refine_labels(
    label: NDArray, image: NDArray, num_classes: int, certainty: float = 0.7, scale: float = 1.0
) -> NDArray:
    """Refine labels by a dense CRF that gives every label the same probability.

    Args:
        label: class indices below `num_classes`, integers (H, W).
        image: RGB, uint8 (H, W, 3).
        certainty: probability of a pixel's own label; the other classes share the rest.
        scale: divides the CRF's widths in pixels.

    Returns:
        Class indices, int64 (H, W).

    Source: `crf_inference_label` in misc/imutils.py of jiwoon-ahn/irn: Gaussian 3 pixels, weight 3;
    bilateral 50 pixels, 5 colour steps, weight 10; ten iterations.
    """
    if num_classes == 1:
        return label.astype(np.int64)
    own = label[None] == np.arange(num_classes)[:, None, None]
    energy = -np.log(np.where(own, certainty, (1 - certainty) / (num_classes - 1)))
    kernels = (densecrf.Gaussian(3 / scale, 3), densecrf.Bilateral(50 / scale, 5, 10))
    marginal = densecrf.mean_field(energy.astype(np.float32), image, kernels, 10, threads=1)
    return marginal.argmax(0)


def irn_labels(foreground: NDArray, background: NDArray) -> NDArray:
    """Join labels that are sure of the foreground with labels that are sure of the background.

    Args:
        foreground: class indices, 0 unless a foreground class is sure (a high threshold), (H, W).
        background: class indices, 0 only where the background is sure (a low threshold), (H, W).

    Returns:
        The class of `foreground` where it names one, whatever `background` names there; 0 where
        both name the background; `IGNORE` where `foreground` alone does. int64 (H, W).

    Source: step/cam_to_ir_label.py of jiwoon-ahn/irn.
    """
    unsure = (foreground == 0) & (background != 0)
    return np.where(unsure, IGNORE, foreground).astype(np.int64)
