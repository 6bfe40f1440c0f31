"""Turn seeds into masks to learn from: python script/pseudo.py SEEDS --out DIR [flags].

Seeds are the score files of test.py: each tagged class over its maximum. They may first walk as far
as a boundary network permits (--affinity). The background is made from what they leave; then the
dense CRF decides, or nothing does.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import densecrf
from base import IGNORE, UserError, entry
from datalist.image import read_image
from datalist.spec import resolve
from method.restore import restore
from refine import irn_labels, refine_labels
from utils import checkpoint
from utils.distributed import choose_device
from utils.infer import cores, refine
from utils.output import is_whole, output_path, read_score, upsample, write_label


@dataclass(frozen=True)
class Flags:
    seeds: Annotated[Path, tyro.conf.Positional]
    """Folder that test.py wrote into, with score/ID.npz."""
    out: Path
    """Folder for label/ID.png; images whose files are whole are skipped."""
    dataset: str = "scenes"
    """scenes, voc, coco, or a folder in VOC layout."""
    root: Path | None = None
    """Where voc, coco or scenes lies, if not in its default place."""
    split: str = "train"
    """List of images."""
    gamma: float = 2.0
    """The background scores (1 - the best class)^gamma."""
    threshold: tuple[float, ...] = ()
    """Constant background scores instead; two give IRN's sure labels (0.3 0.05), where a pixel is
    ignored that the first calls background and the second does not. Their CRF runs on labels."""
    affinity: Path | None = None
    """Checkpoint of train.py affinity: let the seeds walk first."""
    device: str = "auto"
    """Where that network runs: auto, cpu, cuda or cuda:N."""
    crf: bool = True
    """Refine with the dense CRF."""
    preset: str = "deeplab"
    """Preset of the CRF, widths in pixels."""
    crf_scale: float = 1.0
    """Divides the CRF's widths."""
    quiet: bool = False
    """No progress bar."""


def masks(seed: np.ndarray, image: np.ndarray, flags: Flags) -> np.ndarray:
    """Class channels, 0 for background, of seeds (k, H, W) in [0, 1]; `IGNORE` where unsure.

    Source: convert_seed_to_pseudo_masks.py of the released RecurSeed code; two thresholds:
    step/cam_to_ir_label.py of jiwoon-ahn/irn.
    """
    best = seed.max(0, initial=0)
    rivals = [np.full_like(best, t) for t in flags.threshold] or [(1 - best) ** flags.gamma]
    scores = [np.concatenate([background[None], seed]) for background in rivals]
    if len(scores) == 2:
        labels = [score.argmax(0) for score in scores]
        if flags.crf:
            classes, scale = len(seed) + 1, flags.crf_scale
            labels = [refine_labels(label, image, classes, scale=scale) for label in labels]
        return irn_labels(*labels)
    if flags.crf and len(seed):
        preset = densecrf.preset(flags.preset, scale=flags.crf_scale)
        return refine(scores[0], image, preset).argmax(0)
    return scores[0].argmax(0)


def convert(name: str, flags: Flags, spec, walk) -> None:
    """Write the mask of one image; `walk` is a stage that lets seeds walk, or None."""
    stored = read_score(flags.seeds / "score" / f"{name}.npz")
    image = read_image(spec.image_path(name))
    kept = stored.keys > 0
    seed = stored.score[kept].astype(np.float32) / 255
    if walk and len(seed):
        pixels = torch.from_numpy(image).permute(2, 0, 1).to(walk.device)
        seed = walk.walk(pixels, torch.from_numpy(seed)).cpu().numpy()
    channel = masks(upsample(seed, stored.size), image, flags)
    table = np.full(256, IGNORE, np.uint8)
    table[: kept.sum() + 1] = [0, *stored.keys[kept]]
    write_label(output_path(flags.out, "label", name), table[channel])


def load_affinity(flags: Flags):
    """The stage that `--affinity` names, on its device; None without.

    Errors: UserError for a checkpoint of another stage or of other classes.
    """
    if flags.affinity is None:
        return None
    stage = restore(
        flags.affinity, checkpoint.load(flags.affinity), flags.dataset, str(flags.root or "")
    )
    if not hasattr(stage, "walk"):
        raise UserError(f"--affinity {flags.affinity}: train it with train.py affinity")
    stage.to(choose_device(flags.device))
    stage.network.eval()
    return stage


def main(flags: Flags) -> None:
    if len(flags.threshold) > 2:
        raise UserError("--threshold takes one number, or two")
    if not (flags.seeds / "score").is_dir():
        raise UserError(f"{flags.seeds} has no folder score/: make it with test.py --save score")
    walk = load_affinity(flags)
    spec = resolve(flags.dataset, flags.root)
    names = [n for n in spec.ids(flags.split) if not is_whole(output_path(flags.out, "label", n))]
    lost = [n for n in names if not output_path(flags.seeds, "score", n).is_file()]
    if lost:
        raise UserError(
            f"{flags.seeds} has no scores of {len(lost)} images of {spec.name} {flags.split}, the "
            f"first is '{lost[0]}': finish test.py, or give the right --split"
        )
    with ThreadPoolExecutor(cores()) as pool:
        jobs = [pool.submit(convert, name, flags, spec, walk) for name in names]
        for job in tqdm(jobs, unit="image", desc="masks", disable=flags.quiet):
            job.result()


if __name__ == "__main__":
    with entry("pseudo.py"):
        main(tyro.cli(Flags, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
