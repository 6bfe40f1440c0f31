"""Times the dense CRF beside pydensecrf2 in one run, calls of both interleaved.

    pip install ./CRF pydensecrf2 opencv-python-headless
    python benchmark/crf.py --images FOLDER_OF_PHOTOGRAPHS --json crf.json

Each name is reported as ours_ms, rival_ms (medians) and ratio. `smooth` is a photograph enlarged,
`textured` the same with strong noise: its lattice has some ten times the vertices, pure noise
(`noise`) about 300,000. With a CUDA device the torch engines are timed too.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np

import densecrf

SIZE = (375, 500)
LABELS = 21


def unaries(count: int, height: int, width: int, labels: int, rng) -> np.ndarray:
    """Energies of smooth random scores, as a network's enlarged output has them."""
    coarse = rng.normal(0, 3, (count, height // 8 + 1, width // 8 + 1, labels))
    score = np.stack([cv2.resize(c.astype(np.float32), (width, height)) for c in coarse])
    score = score.reshape(count, height, width, labels).transpose(0, 3, 1, 2)
    score = score - score.max(1, keepdims=True)
    return np.ascontiguousarray(np.log(np.exp(score).sum(1, keepdims=True)) - score)


def photographs(folder: str | None, count: int, rng) -> list[np.ndarray]:
    height, width = SIZE
    if folder is None:
        print("no --images: smooth random pictures stand for photographs", file=sys.stderr)
        small = rng.integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)
        return [cv2.resize(s, (width, height), interpolation=cv2.INTER_CUBIC) for s in small]
    files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (".jpg", ".png"))
    if not files:
        sys.exit(f"{folder} holds no .jpg or .png; name a folder of photographs")
    chosen = [files[i * len(files) // count] for i in range(count)]
    images = [cv2.imread(str(p))[:, :, ::-1] for p in chosen]
    return [cv2.resize(i, (width, height), interpolation=cv2.INTER_CUBIC) for i in images]


def rival(unary: np.ndarray, image: np.ndarray, scale: float = 1, steps: int = 10) -> np.ndarray:
    import pydensecrf.densecrf as original

    labels, height, width = unary.shape
    model = original.DenseCRF2D(width, height, labels)
    model.setUnaryEnergy(unary.reshape(labels, -1))
    model.addPairwiseGaussian(3 / scale, 3)
    model.addPairwiseBilateral(80 / scale, 13, image, 10)
    return np.array(model.inference(steps)).reshape(unary.shape)


def compare(calls: dict, repeat: int) -> dict[str, float]:
    """Median milliseconds of each call; the calls take turns, so that load falls on all."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def _peak() -> int:
    """Most bytes this process has held; unlike getrusage's, not inherited from what started it."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024


def _growth(ours: bool, unary: np.ndarray, image: np.ndarray) -> int:
    before = _peak()
    if ours:
        densecrf.mean_field(unary, image, "sec-test", threads=2)
    else:
        rival(unary, image)
    return _peak() - before


def memory(unary: np.ndarray, pictures: dict[str, np.ndarray]) -> dict[str, dict[str, int]]:
    """Bytes by which one call raises a fresh process's peak (Linux), the result included."""
    rows = {}
    for name, image in pictures.items():
        both = []
        for ours in (True, False):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                both.append(pool.apply(_growth, (ours, unary, image)))
        rows[f"memory_{name}"] = {"ours_bytes": both[0], "rival_bytes": both[1]}
        mebi = [b / 2**20 for b in both]
        print(f"{'memory_' + name:24} ours {mebi[0]:9.1f} MiB rival {mebi[1]:9.1f} MiB")
    return rows


def copy_bandwidth() -> float:
    """Bytes a second that one thread reads and writes when it copies 256 MB."""
    source = np.ones(32 << 20)
    target = np.empty_like(source)
    best = min(_timed(lambda: np.copyto(target, source)) for _ in range(5))
    return 2 * source.nbytes / best


def _timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cuda(repeat: int, rng) -> dict[str, float]:
    try:
        import torch

        import densecrf.torch as tensors
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        print("no CUDA device: the torch engines are not timed", file=sys.stderr)
        return {}

    def call(engine, preset, unary, image):
        tensors.mean_field(unary, image, preset, engine=engine)
        torch.cuda.synchronize()

    result = {}
    for name, preset, count, size in (
        ("train", "sec-train", 15, (41, 41)),
        ("full", "sec-test", 1, SIZE),
    ):
        image = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
        unary = torch.from_numpy(unaries(count, *size, LABELS, rng)).cuda()
        image = torch.from_numpy(image).cuda()
        for engine in ("exact", "lattice"):
            if name == "full" and engine == "exact":
                continue  # 187,500 squared kernel entries a step
            run = {engine: lambda e=engine, p=preset, u=unary, i=image: call(e, p, u, i)}
            result[f"cuda_{name}_{engine}"] = compare(run, repeat)[engine]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", help="folder of photographs, searched recursively")
    parser.add_argument("--json", help="file to write the results to")
    parser.add_argument("--repeat", type=int, default=5, help="calls of each kind (median)")
    parser.add_argument("--count", type=int, default=40, help="images of the `many` row")
    parser.add_argument("--scaling", action="store_true", help="also time growth, ours alone")
    options = parser.parse_args()
    if options.repeat < 1 or options.count < 1:
        parser.error("--repeat and --count must be at least 1")
    rng = np.random.default_rng(0)
    photo = photographs(options.images, 1, rng)[0]
    noisy = np.clip(photo + rng.normal(0, 40, photo.shape), 0, 255).astype(np.uint8)
    pictures = {
        "full": np.ascontiguousarray(photo),
        "full_textured": noisy,
        "full_noise": rng.integers(0, 256, photo.shape, dtype=np.uint8),
    }
    unary = unaries(1, *SIZE, LABELS, rng)[0]
    rows: dict[str, dict[str, float]] = {}

    def report(name: str, ours: float, theirs: float) -> None:
        rows[name] = {"ours_ms": ours, "rival_ms": theirs, "ratio": theirs / ours}
        print(f"{name:24} ours {ours:9.1f} ms  rival {theirs:9.1f} ms  ratio {theirs / ours:6.2f}")

    for name, image in pictures.items():
        times = compare(
            {
                "rival": lambda i=image: rival(unary, i),
                "one": lambda i=image: densecrf.mean_field(unary, i, "sec-test", threads=1),
                "two": lambda i=image: densecrf.mean_field(unary, i, "sec-test", threads=2),
            },
            options.repeat,
        )
        report(name, times["two"], times["rival"])
        report(f"{name}_1thread", times["one"], times["rival"])

    small = [cv2.resize(p, (41, 41)) for p in photographs(options.images, 15, rng)]
    small = np.stack(small)
    energies = unaries(15, 41, 41, LABELS, rng)
    times = compare(
        {
            "rival": lambda: [rival(u, i, 12) for u, i in zip(energies, small)],
            "ours": lambda: densecrf.mean_field(energies, small, "sec-train", threads=2),
        },
        options.repeat,
    )
    report("train", times["ours"], times["rival"])

    many = np.ascontiguousarray(np.stack(photographs(options.images, options.count, rng)))
    batch = np.repeat(unary[None], options.count, 0)
    start = time.perf_counter()
    densecrf.mean_field(batch, many, "sec-test", threads=2)
    ours = (time.perf_counter() - start) * 1e3
    start = time.perf_counter()
    for u, i in zip(batch, many):
        rival(u, i)
    report("many", ours, (time.perf_counter() - start) * 1e3)
    rows["many"]["images_per_second"] = options.count / ours * 1e3
    rows["many"]["rival_images_per_second"] = options.count / rows["many"]["rival_ms"] * 1e3
    del many, batch

    rows.update({k: {"ours_ms": v} for k, v in cuda(options.repeat, rng).items()})
    rows.update(memory(unary, pictures))
    if options.scaling:
        rows.update(scaling(photo, options.repeat, rng))
    bandwidth = copy_bandwidth()
    print(f"copy bandwidth of one thread: {bandwidth / 1e9:.1f} GB/s")
    if options.json:
        target = Path(options.json)
        partial = target.with_name(target.name + ".part")
        text = json.dumps({**rows, "copy_bytes_per_second": bandwidth}, indent=1)
        partial.write_text(text + "\n")
        partial.replace(target)


def scaling(photo: np.ndarray, repeat: int, rng) -> dict[str, dict[str, float]]:
    """One thread, one thing changed at a time from 500 x 375, 21 labels, 10 steps."""
    rows = {}

    def measure(name: str, height: int, width: int, labels: int, steps: int) -> None:
        image = cv2.resize(photo, (width, height))
        unary = unaries(1, height, width, labels, rng)[0]
        call = {name: lambda: densecrf.mean_field(unary, image, "sec-test", steps, threads=1)}
        rows[name] = {"ours_ms": compare(call, repeat)[name]}
        print(f"{name:24} ours {rows[name]['ours_ms']:9.1f} ms")

    for factor in (0.5, 1, 2):
        height, width = round(SIZE[0] * factor), round(SIZE[1] * factor)
        measure(f"pixels_{height * width}", height, width, LABELS, 10)
    for labels in (2, 5, 21, 81):
        measure(f"labels_{labels}", *SIZE, labels, 10)
    for steps in (1, 5, 10, 20):
        measure(f"steps_{steps}", *SIZE, LABELS, steps)
    return rows


if __name__ == "__main__":
    main()
