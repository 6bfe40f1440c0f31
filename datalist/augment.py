"""Pure functions that transform images and masks; random generators are arguments."""

import cv2
import numpy as np

Size = tuple[int, int]
HUES = 180
"""Steps of the hue circle in OpenCV's 8-bit HSV."""


def warp(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize an image, uint8 (H, W, channels), to a size, its aspect not kept, bilinear.

    Source: kolesman/SEC, data layer. Differs: pixels are areas, not points (its `zoom` puts the
    corner pixels' centres onto each other).
    """
    if image.shape[:2] == tuple(size):
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def shrink(image: np.ndarray, size: Size) -> np.ndarray:
    """Shrink an image, uint8 (H, W, channels), to a size by the mean of areas."""
    # OpenCV does this with four channels at most.
    parts = (np.ascontiguousarray(image[..., k : k + 4]) for k in range(0, image.shape[2], 4))
    return np.dstack([cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA) for part in parts])


def limit_pixels(image: np.ndarray, pixels: int) -> np.ndarray:
    """Shrink an image, uint8 (H, W, channels), to at most so many pixels."""
    height, width = image.shape[:2]
    if height * width <= pixels:
        return image
    factor = (pixels / (height * width)) ** 0.5
    # A short side is one pixel at least, and the long one then ends at the limit.
    rows, columns = (min(pixels, max(1, int(side * factor))) for side in (height, width))
    return shrink(image, (rows, columns))


def warp_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """Resize a mask, uint8 (H, W), to a size by taking the nearest value."""
    if mask.shape == tuple(size):
        return mask
    return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


def mirror(array: np.ndarray, axis: int) -> np.ndarray:
    """Swap left and right; `axis` is the one that counts columns."""
    return np.ascontiguousarray(np.flip(array, axis))


def draw_size(
    size: Size,
    rng: np.random.Generator,
    scale: tuple[float, float] | None = None,
    long: tuple[int, int] | None = None,
) -> Size:
    """Draw the size, at least 1, that an image is brought to before it is cropped.

    Its aspect is kept. `scale` is the range of the factor to its own size, `long` that of the
    longer side in pixels.
    """
    if long is not None:
        factor = rng.integers(long[0], long[1], endpoint=True) / max(size)
    else:
        factor = rng.uniform(*scale) if scale is not None else 1.0
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def draw_crop(size: Size, crop: Size, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw the position of a window in an image, or of the image in a larger window.

    Returns:
        Top, left, bottom and right of the image in the window; a negative top or left is the number
        of pixels cut off.
    """
    edges = []
    for length, window in zip(size, crop):
        slack = window - length
        start = int(rng.integers(min(slack, 0), max(slack, 0), endpoint=True))
        edges.append((start, min(start + length, window)))
    (top, bottom), (left, right) = edges
    return top, left, bottom, right


def crop(
    array: np.ndarray, window: Size, box: tuple[int, int, int, int], fill: int | tuple[int, ...]
) -> np.ndarray:
    """Cut a window out of an image or mask, (H, W) or (H, W, channels).

    Pixels outside get `fill`, one number or one per channel.
    """
    top, left, bottom, right = box
    out = np.empty((*window, *array.shape[2:]), array.dtype)
    out[...] = fill
    inside = (slice(max(top, 0), bottom), slice(max(left, 0), right))
    out[inside] = array[inside[0].start - top : bottom - top, inside[1].start - left : right - left]
    return out


def draw_window(rng: np.random.Generator, least: float, most: float) -> tuple[float, float, float]:
    """Draw a part of an image of the image's own shape; its sides are `least` to `most` of these.

    Returns:
        Top, left and side, as shares of the image's height, width and both.
    """
    side = rng.uniform(least, most)
    top, left = rng.uniform(0, 1 - side, 2)
    return float(top), float(left), float(side)


def cut_window(
    array: np.ndarray, window: tuple[float, float, float], size: Size, interpolation: int
) -> np.ndarray:
    """Resize a part of an image or mask, (H, W) or (H, W, channels), to a size of any aspect."""
    top, left, side = window
    height, width = array.shape[:2]
    rows, columns = side * height / size[0], side * width / size[1]
    # Pixels are areas: centres are half a pixel from the edges on both sides.
    x, y = left * width + columns / 2 - 0.5, top * height + rows / 2 - 0.5
    matrix = np.array([[columns, 0, x], [0, rows, y]], np.float32)
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(array, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def draw_jitter(
    rng: np.random.Generator, brightness: float, contrast: float, saturation: float, hue: float
) -> tuple[float, float, float, float]:
    """Draw factors of brightness, contrast and saturation within 1 +- the arguments, and a turn.

    The turn of the hue circle, within +- `hue`, is a share of the circle.
    """
    spread = np.array([brightness, contrast, saturation])
    factors = rng.uniform(np.maximum(1 - spread, 0), 1 + spread)
    return *map(float, factors), float(rng.uniform(-hue, hue))


def jitter(image: np.ndarray, change: tuple[float, float, float, float]) -> np.ndarray:
    """Change the colours of an image, uint8 (H, W, channels), by what `draw_jitter` gave.

    Brightness scales values, contrast scales their distance from the mean grey, saturation from the
    grey of each pixel; the hue is rotated last. Channels after R, G, B stay as they are.
    """
    if image.shape[2] > 3:
        return np.dstack([jitter(np.ascontiguousarray(image[..., :3]), change), image[..., 3:]])
    brightness, contrast, saturation, hue = change
    image = cv2.convertScaleAbs(image, alpha=brightness)
    mean = float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean())
    level = np.clip(np.rint(contrast * (np.arange(256) - mean) + mean), 0, 255).astype(np.uint8)
    image = cv2.LUT(image, level)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    image = cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)
    degrees = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    turned = (np.arange(256) + round(hue * HUES)) % HUES
    degrees[..., 0] = turned.astype(np.uint8)[degrees[..., 0]]
    return cv2.cvtColor(degrees, cv2.COLOR_HSV2RGB)
