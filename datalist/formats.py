"""Files of pictures by the ending of their names: those that are read, and those to convert."""

from collections.abc import Collection
from pathlib import Path

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"),
    *(".jpe", ".jfif"),
)
"""Suffixes of pictures, in any case; of one name the first that exists is taken."""

_DICOM = "is DICOM: save its image as PNG or TIFF of 16 bits, such as with pydicom"
_VOLUME = "is a NIfTI volume: save its slices as TIFF, such as with nibabel and tifffile"
_RAW = "is a camera's raw file: develop it to JPEG or to TIFF of 16 bits"
_HEIC = "is HEIC: pip install pillow-heif, or convert it to JPEG"
_FILM = "is a film: save frames of it, such as with ffmpeg -i FILM -vf fps=1 %04d.jpg"
_STACK = "is a file of a microscope: save its planes as TIFF, such as with Fiji"
CONVERT = {
    ".dcm": _DICOM,
    ".dicom": _DICOM,
    ".nii": _VOLUME,
    ".nii.gz": _VOLUME,
    ".jp2": "is JPEG 2000: convert it, such as with gdal_translate IN.jp2 OUT.tif",
    ".j2k": "is JPEG 2000: convert it, such as with gdal_translate IN.j2k OUT.tif",
    ".jxl": "is JPEG XL: convert it, such as with djxl IN.jxl OUT.png",
    ".gif": "is a GIF: save it as PNG",
    ".svg": "is a drawing of lines: export it as PNG",
    ".pdf": "is a document: export its pictures as PNG",
    ".psd": "is a file of Photoshop: export it as PNG or TIFF",
    ".exr": "is OpenEXR: save it as TIFF",
    ".npy": "is an array: save it as TIFF, such as with tifffile.imwrite",
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"), _RAW),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), _FILM),
    **dict.fromkeys((".czi", ".lif", ".nd2", ".oib", ".vsi"), _STACK),
}
"""Suffix of a picture that is not read -> what it is and what to do."""
BESIDE = {".pdf", ".svg", ".npy"} | {suffix for suffix in CONVERT if CONVERT[suffix] is _FILM}
"""Those that lie in folders of pictures without being one."""
BEGINNINGS = (
    (128, b"DICM", ".dcm"),
    (4, b"jP  \r\n\x87\n", ".jp2"),
    (0, b"\xff\x4f\xff\x51", ".j2k"),
    (344, b"n+1\0", ".nii"),
    (0, b"GIF8", ".gif"),
    (0, b"%PDF", ".pdf"),
    (0, b"8BPS", ".psd"),
)
"""Position and bytes by which such a file is known under another name."""
CONTAINERS = {
    b"avif": ("AVIF", "is AVIF, which needs a newer Pillow: pip install 'pillow>=11.3'"),
    **dict.fromkeys((b"heic", b"heix", b"mif1"), ("HEIF", _HEIC)),
}
"""Brand of a container of images -> format, and what reads it."""


def is_picture(path: Path) -> bool:
    """Whether a file's name ends as that of a picture that is read, and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def foreign(path: Path) -> str:
    """Suffix in `CONVERT` that a file's name ends with; empty for all others."""
    name = path.name.lower()
    return next((suffix for suffix in CONVERT if name.endswith(suffix)), "")


def is_unread_picture(path: Path) -> bool:
    """Whether a file is a picture that has to be converted, and no converted one lies beside it."""
    suffix = foreign(path)
    if not suffix or suffix in BESIDE or path.name.startswith("."):
        return False
    stem = path.name[: -len(suffix)]
    return not any(path.with_name(stem + other).exists() for other in SUFFIXES)


def what_to_do(path: Path, known: Collection[str] = ()) -> str:
    """What a file is that is not a readable picture, and what to do with it; empty if not known.

    `known` are the formats that are read here, so that a file of these is damaged.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(400)
    except OSError:
        head = b""
    if head[4:8] == b"ftyp" and head[8:12] in CONTAINERS:
        name, advice = CONTAINERS[head[8:12]]
        return "it is damaged: copy or download it again" if name in known else f"it {advice}"
    marked = (suffix for at, mark, suffix in BEGINNINGS if head.startswith(mark, at))
    suffix = next(marked, foreign(path))
    return f"it {CONVERT[suffix]}" if suffix else ""
