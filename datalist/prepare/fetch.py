"""Download VOC2012, SBD, COCO 2014 or SEC's cues, unpack the files, and check what is there.

`python -m datalist.prepare.fetch voc --root DIR`; the same command continues an interrupted
download, uses archives or folders that were copied to DIR by hand, and says what is still missing.
VOC's test images need an account at its server and are not fetched. The download is written here
because pooch, which verifies digests too, cannot continue one: COCO's largest
archive has 13 GB.
"""

import http.client
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from base import UserError
from base.file import digest
from datalist.cue import CueFile
from datalist.folder import write_tags
from datalist.prepare.check import inspect
from datalist.prepare.convert import augment_voc, render_coco
from datalist.spec import VOC, Spec, resolve
from datalist.tag import read_tags

BLOCK = 1 << 20
PAUSE = 5.0
"""Seconds before a connection that was cut is made anew."""
TRIES = 5
"""Connections in a row that may bring nothing."""
TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as cut."""


@dataclass(frozen=True)
class Archive:
    """A file to download, and the folders it holds; one without folders is not unpacked."""

    url: str
    md5: str
    folders: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rsplit("/", 1)[-1]


def archives(dataset: str) -> tuple[Archive, ...]:
    """The files of a data set: addresses and checksums as torchvision has them, or COCO's own."""
    if dataset == "cues":
        site = "https://raw.githubusercontent.com/kolesman/SEC/master"  # MIT licence
        path = "training/localization_cues/localization_cues.pickle.gz"
        return (Archive(f"{site}/{path}", "54ac7a4b585320f6206dfac27a8bafba", ()),)
    if dataset == "coco":
        files = (
            ("annotations", "annotations_trainval2014", "0a379cfc70b0e71301e0f377548639bd"),
            ("zips", "val2014", "a3d79f5ed8d289b7a7554ce06a5782b3"),
            ("zips", "train2014", "0da8c0bd3d6becc4dcb32757491aca88"),
        )
        site = "http://images.cocodataset.org"
        rows = ((f"{part}/{name}.zip", md5, name if part == "zips" else part)
                for part, name, md5 in files)  # fmt: skip
        return tuple(Archive(f"{site}/{path}", md5, (folder,)) for path, md5, folder in rows)
    from torchvision.datasets import SBDataset, voc

    if dataset == "sbd":
        return (Archive(SBDataset.url, SBDataset.md5, ("benchmark_RELEASE",)),)
    known = voc.DATASET_YEAR_DICT["2012"]
    return (Archive(known["url"], known["md5"], ("VOCdevkit",)),)


def download(url: str, path: Path, md5: str) -> None:
    """Download a file, going on where an earlier connection or run was cut off.

    Until the file is whole and its MD5 is right it is called `path` + ".part".

    Raises:
        UserError: the server cannot be reached, or sends another file.
    """
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        reason = _connect(url, part)
        if reason is None:
            break
        grown = part.is_file() and part.stat().st_size > before
        failures = 1 if grown else failures + 1
        if failures >= TRIES:
            advice = f"run this again to go on, or copy the file to {path} by hand"
            raise UserError(f"cannot download {url} ({reason}): {advice}")
        time.sleep(PAUSE)
    actual = digest(part, "md5")
    if actual != md5:
        part.unlink()
        raise UserError(
            f"{url} gave a file with checksum {actual} instead of {md5}: it was thrown away; run "
            f"this again, or copy the right file to {path} by hand"
        )
    part.replace(path)


def _connect(url: str, part: Path) -> str | None:
    """Add to a part what one connection brings; say why it is not whole yet, or None."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            if answer.status != 206:
                have = 0  # a server that does not know ranges begins anew
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            with (
                open(part, "r+b" if have else "wb") as file,
                tqdm(
                    desc=part.stem, total=total, initial=have, unit="B", unit_scale=True,
                    disable=None, leave=False,
                ) as bar,
            ):  # fmt: skip
                file.seek(have)
                while block := answer.read(BLOCK):
                    file.write(block)
                    have += len(block)
                    bar.update(len(block))
            if total is not None and have < total:
                return f"the connection was cut after {have} of {total} bytes"
            return None
    except urllib.error.HTTPError as error:
        # 416: nothing lies behind what is here already, so it is whole; the checksum decides.
        return None if error.code == 416 and have else f"status {error.code}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


def unpack(archive: Path, folders: tuple[str, ...], root: Path) -> None:
    """Unpack an archive beside `root`'s folders and move each in when all of it is there."""
    with tempfile.TemporaryDirectory(prefix=f".{archive.name}.", dir=root) as name:
        drawer = Path(name)
        print(f"unpacking {archive}", flush=True)
        try:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as file:
                    file.extractall(drawer)
            else:
                with tarfile.open(archive) as file:
                    extract(file, drawer)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
            raise UserError(f"{archive} cannot be unpacked ({error}): download it again") from None
        for folder in folders:
            if not (drawer / folder).is_dir():
                raise UserError(f"{archive} does not hold the folder {folder}")
            (drawer / folder).replace(root / folder)


def extract(file: tarfile.TarFile, folder: Path) -> None:
    """Unpack the files and folders of a tar archive; TarError for links and paths outside."""
    # Python learned this check in its 3.10.12 and 3.11.4; systems ship older ones.
    file.extraction_filter = getattr(tarfile, "data_filter", None)
    for member in file:
        inside = (folder / member.name).resolve().is_relative_to(folder.resolve())
        if not inside or not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name} is a link or lies outside of its folder")
        file.extract(member, folder)


def provide(archive: Archive, root: Path, keep: bool = False) -> None:
    """Have the folders of an archive in `root`: as they are, from a file there, or downloaded."""
    tops = (root, root / "images")
    if archive.folders and all(any((top / x).is_dir() for top in tops) for x in archive.folders):
        return
    path = root / archive.name
    root.mkdir(parents=True, exist_ok=True)
    downloaded = not path.is_file()
    if downloaded:
        download(archive.url, path, archive.md5)
    elif digest(path, "md5") != archive.md5:
        raise UserError(
            f"{path} is not the file of {archive.url}, or not all of it: its checksum is not "
            f"{archive.md5}; remove it and run this again"
        )
    if not archive.folders:
        return
    unpack(path, archive.folders, root)
    if downloaded and not keep:
        path.unlink()


def fetch(dataset: str, root: Path, keep: bool, masks: tuple[str, ...]) -> Spec | None:
    """Have a data set in `root`, whatever part of it is there already; None: it is the cues."""
    if dataset == "voc":
        with suppress(UserError):
            return resolve("voc", root)
    if dataset == "sbd" and (spec := resolve("voc", root)).mask == "SegmentationClassAug":
        return spec
    for archive in archives(dataset):
        provide(archive, root, keep)
    if dataset == "cues":
        return None
    if dataset == "sbd":
        augment_voc(spec, root / "benchmark_RELEASE" / "dataset" / "cls")
    spec = resolve("coco" if dataset == "coco" else "voc", root)
    if dataset == "coco":
        if not (root / "tags.csv").is_file():
            # Half a gigabyte of json takes every run long to read; this takes it no time.
            write_tags(root / "tags.csv", read_tags(spec, spec.every_id()), spec.classes)
        for split in masks:
            render_coco(spec, split)
    return spec


@dataclass(frozen=True)
class Arguments:
    """Download a data set, unpack it, and check every file of it."""

    dataset: Annotated[Literal["voc", "sbd", "coco", "cues"], tyro.conf.Positional]
    """voc (2 GB); sbd (1.4 GB; masks of 10582 images, added to voc); coco (20 GB, 2014); cues (3
    MB; the localization cues that SEC's authors released, for VOC)."""
    root: Path
    """Folder to put it into; sbd goes to the one of voc."""
    keep: bool = False
    """Keep downloaded archives after unpacking."""
    masks: tuple[str, ...] = ("val",)
    """Splits of coco to paint masks of, from its instances json; `--masks train val` for supervised
    training."""


def main(arguments: Arguments) -> int:
    """Fetch and check; 1 where something is missing or wrong."""
    try:
        spec = fetch(arguments.dataset, arguments.root, arguments.keep, arguments.masks)
        if spec is None:
            cues = CueFile.open(arguments.root / archives("cues")[0].name, len(VOC))
            print(f"{cues.source}: cues of {len(cues)} images")
            return 0
    except UserError as error:
        print(f"error: {error}")
        return 1
    report = inspect(spec)
    print(report)
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments, description=Arguments.__doc__)))
