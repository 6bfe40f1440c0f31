"""Times the dense CRF beside pydensecrf2 in one run; calls of both alternate.

    pip install ./CRF pydensecrf2 opencv-python-headless
    python -m benchmark.crf --images FOLDER_OF_PHOTOGRAPHS --json crf.json

Photographs keep their own size unless --size says otherwise; without --images, smooth random
pictures of 500 x 375 stand for them. `full` are photographs, `full_textured` the same with strong
noise (ten times the lattice vertices), `full_noise` noise alone, `train` 15 images of 41 x 41,
`many` a batch of photographs. Each row has the median milliseconds of both and their ratio; `limit`
is the time that a model of the work gives for this machine, see the function `limit`. With a CUDA
device the torch engines are timed too. DENSECRF_ISA=avx2 times the loops of processors without
AVX-512. On a machine that runs other programs, --processor-time compares one thread of both.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np

import densecrf
from densecrf import _core
from densecrf.batch import cpu_count

SIZE = (375, 500)
LABELS = 21


def unaries(count: int, height: int, width: int, labels: int, rng) -> np.ndarray:
    """Energies of smooth random scores, as a network's enlarged output has them."""
    coarse = rng.normal(0, 3, (count, height // 8 + 1, width // 8 + 1, labels))
    score = np.stack([cv2.resize(c.astype(np.float32), (width, height)) for c in coarse])
    score = score.reshape(count, height, width, labels).transpose(0, 3, 1, 2)
    score = score - score.max(1, keepdims=True)
    return np.ascontiguousarray(np.log(np.exp(score).sum(1, keepdims=True)) - score)


def photographs(
    folder: str | None, count: int, rng, size: tuple[int, int] | None = None
) -> list[np.ndarray]:
    """RGB images of `size` (height, width); None: their own, which for random pictures is SIZE."""
    if folder is None:
        print("no --images: smooth random pictures stand for photographs", file=sys.stderr)
        height, width = size or SIZE
        small = rng.integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)
        return [cv2.resize(s, (width, height), interpolation=cv2.INTER_CUBIC) for s in small]
    files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (".jpg", ".png"))
    if not files:
        sys.exit(f"{folder} holds no .jpg or .png; name a folder of photographs")
    chosen = [files[i * len(files) // count] for i in range(count)]
    images = [cv2.imread(str(p))[:, :, ::-1] for p in chosen]
    if size:
        images = [cv2.resize(i, size[::-1], interpolation=cv2.INTER_CUBIC) for i in images]
    return [np.ascontiguousarray(i) for i in images]


def processor() -> str:
    """The processor's name, how many this process may use, and which loops densecrf runs."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    return f"{name}, {cpu_count()} processors, {_core.instruction_set()} loops"


def limit(machine: dict[str, float], pixels: int, labels: int, steps: int, threads: int) -> float:
    """Milliseconds below which no mean field of this structure gets on this machine.

    In each of steps + 1 sweeps the energies (4 bytes a label and pixel) and the weights and places
    of 9 corners (40 bytes a pixel) are read; energies are read and marginals written once more.
    Each of 9 corners takes a multiplication and an addition to slice and to splat, each exponential
    20 operations, all for labels padded to 16. The larger of bytes / bandwidth and operations /
    speed of a matrix product counts. Tables, whose size depends on the image, are left out.
    """
    moved = pixels * ((steps + 1) * (4 * labels + 40) + 3 * 4 * labels)
    padded = -(-labels // 16) * 16
    operations = pixels * padded * (steps * 9 * 4 + (steps + 1) * 20)
    seconds = max(
        moved / machine["copy_bytes_per_second"], operations / machine["flops_per_second"]
    )
    return seconds / threads * 1e3


def rival(unary: np.ndarray, image: np.ndarray, scale: float = 1, steps: int = 10) -> np.ndarray:
    import pydensecrf.densecrf as original

    labels, height, width = unary.shape
    model = original.DenseCRF2D(width, height, labels)
    model.setUnaryEnergy(unary.reshape(labels, -1))
    model.addPairwiseGaussian(3 / scale, 3)
    model.addPairwiseBilateral(80 / scale, 13, image, 10)
    return np.array(model.inference(steps)).reshape(unary.shape)


def compare(calls: dict, repeat: int, clock=time.perf_counter) -> dict[str, float]:
    """Median milliseconds of each call; the calls take turns, so that load falls on all."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            start = clock()
            call()
            times[name].append((clock() - start) * 1e3)
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


def flops() -> float:
    """Floating-point operations a second of one thread in a matrix product of float32."""
    # A library reads these when it is loaded, so that a fresh process is needed.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_product)


def _product() -> float:
    a = np.random.default_rng(0).normal(size=(1536, 1536)).astype(np.float32)
    return 2 * len(a) ** 3 / min(_timed(lambda: a @ a) for _ in range(5))


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


def _size(text: str) -> tuple[int, int]:
    """Height and width from WIDTHxHEIGHT."""
    width, height = (int(n) for n in text.split("x"))
    if width < 1 or height < 1:
        raise ValueError
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", help="folder of photographs, searched recursively")
    parser.add_argument("--size", type=_size, metavar="WxH", help="resize photographs, as 500x375")
    parser.add_argument("--json", help="file to write the results to")
    parser.add_argument("--repeat", type=int, default=5, help="calls of each kind (median)")
    parser.add_argument("--photographs", type=int, default=3, help="images of each `full` row")
    parser.add_argument("--count", type=int, default=40, help="images of the `many` row")
    parser.add_argument(
        "--processor-time", action="store_true", help="one thread of both, in processor time"
    )
    parser.add_argument("--scaling", action="store_true", help="also time growth, ours alone")
    options = parser.parse_args()
    if min(options.repeat, options.count, options.photographs) < 1:
        parser.error("--repeat, --photographs and --count must be at least 1")
    rng = np.random.default_rng(0)
    machine = {"copy_bytes_per_second": copy_bandwidth(), "flops_per_second": flops()}
    print(f"processor: {processor()}")
    print(
        f"one thread copies {machine['copy_bytes_per_second'] / 1e9:.1f} GB/s (read and written) "
        f"and multiplies matrices at {machine['flops_per_second'] / 1e9:.0f} Gflop/s"
    )
    photos = photographs(options.images, options.photographs, rng, options.size)
    sizes = sorted({f"{p.shape[1]} x {p.shape[0]}" for p in photos})
    own = "at their own size" if options.images and not options.size else "of"
    print(f"full rows: {len(photos)} pictures {own} {', '.join(sizes)}, {LABELS} labels, 10 steps")
    pictures = {
        "full": photos,
        "full_textured": [
            np.clip(p + rng.normal(0, 40, p.shape), 0, 255).astype(np.uint8) for p in photos
        ],
        "full_noise": [rng.integers(0, 256, p.shape, dtype=np.uint8) for p in photos],
    }
    rows: dict[str, dict[str, float]] = {}

    def report(name: str, ours: float, theirs: float, pixels: int, threads: int) -> None:
        least = limit(machine, pixels, LABELS, 10, threads)
        rows[name] = {
            "ours_ms": ours,
            "rival_ms": theirs,
            "ratio": theirs / ours,
            "limit_ms": least,
        }
        print(
            f"{name:24} ours {ours:9.1f} ms  rival {theirs:9.1f} ms  ratio {theirs / ours:6.2f}"
            f"  limit {least:7.1f} ms",
            flush=True,
        )

    energies = [unaries(1, *p.shape[:2], LABELS, rng)[0] for p in photos]
    pixels = sum(p.shape[0] * p.shape[1] for p in photos) // len(photos)
    # In processor time two threads cost what one does, at best.
    clock = time.process_time if options.processor_time else time.perf_counter
    teams = (1,) if options.processor_time else (2, 1)

    def timed(unary, image, preset: str, theirs) -> dict:
        calls = {
            threads: lambda t=threads: densecrf.mean_field(unary, image, preset, threads=t)
            for threads in teams
        }
        return compare({"rival": theirs, **calls}, options.repeat, clock)

    for name, images in pictures.items():
        # Means over images, medians over repetitions.
        pairs = zip(energies, images)
        times = [timed(u, i, "sec-test", lambda u=u, i=i: rival(u, i)) for u, i in pairs]
        mean = {key: statistics.mean(t[key] for t in times) for key in times[0]}
        for threads in teams:
            suffix = "_1thread" if threads == 1 else ""
            report(name + suffix, mean[threads], mean["rival"], pixels, threads)

    small = np.stack(photographs(options.images, 15, rng, (41, 41)))
    unary = unaries(15, 41, 41, LABELS, rng)
    found = timed(
        unary, small, "sec-train", lambda: [rival(u, i, 12) for u, i in zip(unary, small)]
    )
    report("train", found[teams[0]], found["rival"], small.size // 3, teams[0])

    # One size, as a batch has one.
    size = photos[0].shape[:2]
    many = np.stack(photographs(options.images, options.count, rng, size))
    batch = np.repeat(energies[0][None], options.count, 0)
    calls = {
        "rival": lambda: [rival(u, i) for u, i in zip(batch, many)],
        "ours": lambda: densecrf.mean_field(batch, many, "sec-test", threads=teams[0]),
    }
    once = compare(calls, 1, clock)
    ours, theirs = once["ours"], once["rival"]
    report("many", ours, theirs, many.size // 3, teams[0])
    rows["many"]["images_per_second"] = options.count / ours * 1e3
    rows["many"]["rival_images_per_second"] = options.count / theirs * 1e3

    rows.update({k: {"ours_ms": v} for k, v in cuda(options.repeat, rng).items()})
    rows.update(memory(energies[0], {name: images[0] for name, images in pictures.items()}))
    if options.scaling:
        rows.update(scaling(photos[0], options.repeat, rng))
    if options.json:
        target = Path(options.json)
        partial = target.with_name(target.name + ".part")
        text = json.dumps({**rows, **machine, "processor": processor()}, indent=1)
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
