"""The flags of the programs. Nothing heavy is imported here, so that --help is quick."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from base import WORK_PIXELS

Folder = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
"""A folder whose default the help text gives."""
Kind = Literal["label", "score", "overlay", "cover", "cue"]
"""Files that test.py writes for an image."""
Tile = int | Literal["auto", "off"]
"""Side of the windows that large pictures are predicted in, or how it is chosen."""


@dataclass(frozen=True)
class Train:
    """How to run a stage; nothing here changes what is learned, but for rounding."""

    out: Path
    """Folder of the run: checkpoints, logs, recipe.json. An unfinished run in it goes on."""
    fresh: bool = False
    """Where `out` holds a run of another recipe or other inputs, move that to OUT/old-N and train
    again; otherwise such a run is refused."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network; the losses are float32 always."""
    workers: int = -1
    """Loader processes; -1: none on CPU, 4 on CUDA."""
    save_every: float = 120.0
    """Seconds between checkpoints."""
    keep_every: int = 0
    """Steps between checkpoints that are kept, OUT/step-STEP.pt; 0: none."""
    log_every: int = 10
    """Steps between lines of the log; values are means over them."""
    picture_every: int = 200
    """Steps between pictures in TensorBoard; 0: none."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps on CUDA."""
    profile: bool = False
    """Print at the end where the time of a step went."""
    quiet: bool = False
    """No progress bar."""


@dataclass(frozen=True)
class Predict:
    """What to predict, how, and what to leave behind."""

    out: Folder = None
    """Folder for label/, score/, overlay/, cover/ and cue/; default: out/photo for pictures, else
    the split's name beside the checkpoint."""
    fresh: bool = False
    """Where `out` holds files of another network or other settings, move them to OUT/old-N and
    predict again; otherwise they are refused."""
    split: str = "val"
    """List of images."""
    image: tuple[Path, ...] = ()
    """Pictures, or folders of them, to segment instead of a split."""
    longest: int = 800
    """Pixels; pictures of --image with a longer side are shrunk to it. 0: never."""
    tile: Tile = "auto"
    """Windows in which large pictures are predicted at their own pixels, whatever --longest says.
    auto: pictures more than twice as large, on a side, as those that the network learned from, in
    windows of the median size of these. A number: larger pictures, in windows of so many pixels a
    side. off: never."""
    save: tuple[Kind, ...] = ("label",)
    """label: palette PNGs; score: class scores; overlay: image | prediction | truth |
    legend; cover: each class's share of each image, in cover.csv; cue. Pictures of --image have
    label, overlay and cover by default."""
    scales: tuple[float, ...] | None = None
    """Sizes relative to the recipe's (or to the image's own); scores are averaged. None: scales
    and mirror image as the recipe says."""
    mirror: bool = False
    """Average with the prediction on the mirrored image."""
    crf: bool = False
    """Refine with the dense CRF at the image's own size."""
    restrict_to_tags: bool = False
    """Let only the image's tags (and background) occur."""
    presence: float | None = None
    """Without tags: least probability of a class that may occur; None: the recipe's. Only for
    stages that find the classes themselves (rsepm, segmenter, resegment)."""
    work_pixels: int = WORK_PIXELS
    """Pixels; larger images (or windows of them) are shrunk to this size before the network and the
    CRF. Labels have the image's own size."""
    memory: float = 0.0
    """GiB that the images after the network take together; 0: half of the machine's."""
    batch: int = 8
    """Images (or windows) a network pass, fewer where they are large."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    processes: int = 0
    """Processes; 0: one for each CUDA device, else one."""
    threads: int = 0
    """Threads after the network, and on a CPU for it, over all processes; 0: all cores."""
    quiet: bool = False
    """No progress bar."""


@dataclass(frozen=True)
class PredictFlags:
    """Predict with a checkpoint of train.py and write label, score, overlay or cue files."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The checkpoint, OUT/last.pt of train.py."""
    predict: tyro.conf.OmitArgPrefixes[Predict] = Predict()
    dataset: str = ""
    """voc, coco, scenes or a folder; empty: the one trained on."""
    root: str = ""
    """Where voc, coco or scenes lies."""


@dataclass(frozen=True)
class Evaluate:
    """What to score, against what, and what to leave behind."""

    folder: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="DIR [DIR]", help_behavior_hint=""),
    ]
    """Folder that test.py wrote into; a second one to compare with."""
    dataset: Annotated[str, tyro.conf.arg(help_behavior_hint="")] = ""
    """scenes, voc, coco, or a folder in VOC layout; default: that of the predictions."""
    root: Folder = None
    """Where voc, coco or scenes lies; default: as for the predictions."""
    split: Annotated[str, tyro.conf.arg(help_behavior_hint="")] = ""
    """List of images to evaluate; default: that of the predictions."""
    kind: Annotated[
        Literal["label", "score"] | None,
        tyro.conf.arg(metavar="{label,score}", help_behavior_hint=""),
    ] = None
    """What to read: label/*.png or score/*.npz; default: labels, if there are any."""
    threshold: tuple[float, float, float] = (0.1, 0.8, 0.05)
    """Constant background scores to try for scores without background: from, to, step."""
    sweep: bool = False
    """Try constant background scores in place of a stored background, as for seeds."""
    restrict_to_tags: bool = False
    """Let only classes of the image's tags occur (background elsewhere)."""
    partial: bool = False
    """Permit missing and extra predictions; evaluate those in common."""
    skip_without_masks: bool = False
    """Score the images that have a true mask; without any, end without error."""
    detail: bool = False
    """Show false positives and negatives of each class, as shares of its union."""
    out: Folder = None
    """Folder for score.json (of two: comparison.json); default: the (second) folder given."""
    workers: Annotated[int, tyro.conf.arg(aliases=["-j"])] = os.cpu_count() or 1
    """Threads."""
    report: bool = False
    """Write report.html beside score.json: one file, opens without a network. Without true masks it
    shows the predictions against the tags, which can be corrected there."""
    run: Folder = None
    """Folder with log.jsonl and recipe.json for the report; default: found beside."""
    again: Annotated[str, tyro.conf.arg(metavar="COMMAND")] = ""
    """Command of the whole run, for what the report of images without masks says to do next."""
    quiet: bool = False
    """No progress bar."""


@dataclass(frozen=True, kw_only=True)
class DatasetFlags:
    """Data set of a program that works on one."""

    dataset: str = "scenes"
    """scenes, voc, coco, or a folder in VOC layout."""
    root: Path | None = None
    """Where voc, coco or scenes lies, if not in its default place."""


@dataclass(frozen=True)
class Pseudo(DatasetFlags):
    """Where the seeds come from, and where the masks go."""

    seeds: Annotated[Path, tyro.conf.Positional]
    """Folder that test.py wrote into, with score/ID.npz."""
    out: Path
    """Folder for label/ID.png; images whose files are whole are skipped."""
    split: str = "train"
    """List of images."""
    recipe: str = ""
    """paper, small, photo or smoke; empty: the one that suits the data set."""
    purpose: Annotated[str, tyro.conf.arg(metavar="{masks,sure,walked,scored}")] = "masks"
    """masks of every pixel; sure, with unsure pixels 255; walked, of seeds after a walk; scored, of
    scores with their own background, as the segmenter of locate gives them."""
    affinity: Path | None = None
    """With --purpose walked: checkpoint of train.py affinity."""
    answers: Path | None = None
    """answers.csv of the page that script.questions writes: pixels of a class become unsure where
    a person says that their group is not the class; with --purpose sure also where the class is
    larger than its size."""
    groups: Path | None = None
    """Groups that the answers are about; default: SEEDS/groups.npz."""
    fresh: bool = False
    """Where `out` holds masks of other seeds or settings, move them to OUT/old-N and write them
    again; otherwise they are refused."""
    device: str = "auto"
    """Where that network runs: auto, cpu, cuda or cuda:N."""
    work_pixels: int = WORK_PIXELS
    """Pixels; larger images are shrunk to this size for the walk and the CRF. Masks have the
    image's own size."""
    memory: float = 0.0
    """GiB that the images in work take together; 0: half of the machine's."""
    quiet: bool = False
    """No progress bar."""


@dataclass(frozen=True)
class Export:
    """Write model.safetensors, model.pt2 (runs with torch alone), predict.py, the source of its
    dense CRF, and model.onnx."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The checkpoint, OUT/last.pt of train.py."""
    out: Path | None = None
    """Folder for the files; by default `home` beside the checkpoint."""
