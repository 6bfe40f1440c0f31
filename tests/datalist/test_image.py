import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from base import UserError
from datalist.dataset import Images, Photos
from datalist.image import check_mask, image_size, read_image, read_mask, read_sized, write_mask
from datalist.prepare.check import inspect
from datalist.spec import resolve

WIDE = np.random.default_rng(2).integers(0, 9, (60, 70), dtype=np.uint8)


def photograph(size=(12, 17)):
    rng = np.random.default_rng(1)
    low = rng.integers(0, 255, (3, 4, 3), dtype=np.uint8)
    return cv2.resize(low, size[::-1], interpolation=cv2.INTER_LINEAR)


def encoded(suffix, image=None):
    return cv2.imencode(suffix, photograph() if image is None else image)[1].tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_as_pillow_reads_it(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix))
    expected = np.array(Image.open(path).convert("RGB")).astype(int)
    image = read_image(path)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert image_size(path) == image.shape[:2] == (12, 17)
    assert np.abs(image - expected).max() <= (4 if suffix in (".jpg", ".webp") else 0)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_odd_modes(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        image = Image.fromarray(photograph()[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(photograph()).convert(mode)
    image.save(path)
    image = read_image(path)
    assert image.shape == (12, 17, 3) and image.dtype == np.uint8
    if mode in ("L", "LA", "1", "I;16"):
        assert (image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all()


def test_one_pixel(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png", np.full((1, 1, 3), 7, np.uint8)))
    assert read_image(path).tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_obeyed(tmp_path, orientation):
    path = tmp_path / "a.png"
    image = Image.fromarray(photograph())
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    upright = np.array(ImageOps.exif_transpose(Image.open(path)))
    assert np.array_equal(read_image(path), upright)
    assert image_size(path) == upright.shape[:2]


@pytest.mark.parametrize("suffix", [".avif", ".heic", ".jpg"])
def test_heic_and_avif_under_any_name(tmp_path, suffix):
    if suffix != ".avif":
        pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / f"a{suffix}"
    image = Image.fromarray(photograph((60, 80)))
    image.save(path, "AVIF" if suffix == ".avif" else "HEIF", quality=95)
    assert image_size(path) == (60, 80)
    assert np.abs(read_image(path).astype(int) - np.array(image)).mean() < 3
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=rf"a\{suffix} is .*(damaged: copy or download)"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.dcm", "a.jp2", "a.nii", "a.nii.gz", "a.gif", "a.NEF", "a.mp4"])
def test_other_formats_are_named_with_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(200))
    with pytest.raises(UserError, match=r"is not a readable image: it is .*: (save|convert|dev)"):
        read_image(tmp_path / name)
    if name == "a.mp4":  # films lie beside pictures
        Image.new("RGB", (9, 9)).save(tmp_path / "b.png")
        assert [sample["id"] for sample in Photos(tmp_path)] == ["b"]
        return
    (sample,) = Photos(tmp_path)
    assert name in sample["error"] and "it is" in sample["error"]
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")  # the same picture, converted
    (sample,) = Photos(tmp_path)
    assert "error" not in sample


def test_other_formats_are_known_by_their_content(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(bytes(128) + b"DICM" + bytes(100))
    with pytest.raises(UserError, match="it is DICOM"):
        read_image(path)


def detailed():
    rng = np.random.default_rng(3)
    image = cv2.resize(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8), (400, 300))
    return (image * 0.9 + rng.integers(0, 25, image.shape)).astype(np.uint8)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("kind", ["zeros", "ones", "noise", "missing"])
def test_jpeg_damaged_in_the_middle(tmp_path, folder, kind, progressive):
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    data = cv2.imencode(".jpg", detailed(), options)[1].tobytes()
    start, count = len(data) // 2, 2000
    noise = np.random.default_rng(1).bytes(count)
    filling = {"zeros": bytes(count), "ones": b"\xff" * count, "noise": noise, "missing": b""}
    path = folder / "JPEGImages/a.jpg"
    path.write_bytes(data[:start] + filling[kind] + data[start + count :])
    with pytest.raises(UserError, match=r"a\.jpg is damaged"):
        read_image(path)
    spec = resolve(str(folder))
    assert any("a.jpg is damaged" in error for error in inspect(spec).errors)
    with pytest.raises(UserError, match=r"a\.jpg is damaged"):
        list(Images(spec, "train"))


def test_cmyk_damaged_in_the_middle(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(detailed()).convert("CMYK").save(path, quality=90)
    assert read_image(path).shape == (300, 400, 3)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(2000) + data[len(data) // 2 + 2000 :])
    with pytest.raises(UserError, match=r"a\.jpg is damaged"):
        read_image(path)


def test_filling_of_cameras_is_no_damage(tmp_path):
    path = tmp_path / "a.jpg"
    for filling in (bytes(2), bytes(500), b"\xff" * 300):
        path.write_bytes(encoded(".jpg")[:-2] + filling + b"\xff\xd9")
        assert np.array_equal(read_image(path), reference_jpeg())


def reference_jpeg():
    return cv2.imdecode(np.frombuffer(encoded(".jpg"), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("suffix", [".Jpg", ".jPEG", ".TIF", ".PnG", ".Webp", ".jfif"])
def test_suffixes_in_any_case(folder, suffix):
    old = folder / "JPEGImages/a.jpg"
    Image.open(old).save(old.with_suffix(suffix), "TIFF" if suffix == ".TIF" else None)
    old.unlink()
    spec = resolve(str(folder))
    assert spec.image_path("a").suffix == suffix
    report = inspect(spec)
    assert not report.errors and not any("no list" in text for text in report.warnings)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_cut_off(tmp_path, suffix, share):
    data = encoded(suffix, photograph((90, 120)))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=rf"a\{suffix} is (cut off|not a readable image)"):
        read_image(path)


def test_cut_off_behind_a_thumbnail(tmp_path):
    # The thumbnail in the head has an end mark of its own.
    thumbnail = encoded(".jpg")
    data = encoded(".jpg", photograph((90, 120)))
    head = b"\xff\xd8\xff\xe5" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    path = tmp_path / "a.jpg"
    path.write_bytes(head + data[2:])
    assert read_image(path).shape == (90, 120, 3)
    path.write_bytes(head + data[2:-200])
    with pytest.raises(UserError, match="is cut off"):
        read_image(path)


def test_trailing_bytes_do_no_harm(tmp_path):
    for suffix in (".jpg", ".png"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(encoded(suffix) + bytes(100))
        assert read_image(path).shape == (12, 17, 3)


def test_no_image(tmp_path):
    path = tmp_path / "a.jpg"
    with pytest.raises(UserError, match=r"a\.jpg does not exist"):
        read_image(path)
    for data in (b"", b"hello", b"\xff\xd8\xff"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"a\.jpg is (not a readable image|cut off)"):
            read_image(path)


def chunk(kind, data):
    content = kind + data
    return len(data).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_of_many_megapixels_are_decoded_at_half_their_size(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    image = Image.new("RGB", (9000, 8000), (200, 30, 60))  # 72 million pixels
    image.paste((0, 90, 0), (0, 0, 4500, 8000))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    pixels, size = read_sized(path)
    assert size == image_size(path) == (9000, 8000)
    assert pixels.shape == (4500, 4000, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels[1000, 2000].astype(int) - (0, 90, 0)).max() < 3  # turned: upper half
    assert np.abs(pixels[3500, 2000].astype(int) - (200, 30, 60)).max() < 3


def test_small_file_of_a_huge_image(tmp_path):
    side = (1 << 16).to_bytes(4, "big")
    head = chunk(b"IHDR", side + side + b"\x08\x00\x00\x00\x00")
    body = chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
    for read in (read_image, read_mask, image_size):
        with pytest.raises(UserError, match="million pixels: scale it down"):
            read(path)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_masks(tmp_path, mode):
    mask = np.array([[0, 1], [1, 0]], np.uint8)
    image = Image.fromarray(mask) if mode == "L" else Image.fromarray(mask * 255).convert("1")
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png"), mask)


def test_mask_out_of_range(tmp_path):
    write_mask(tmp_path / "a.png", np.array([[0, 3, 255]], np.uint8))
    assert read_mask(tmp_path / "a.png", 4).tolist() == [[0, 3, 255]]
    with pytest.raises(UserError, match=r"a\.png holds the value 3, but classes go from 0 to 2"):
        read_mask(tmp_path / "a.png", 3)
    check_mask(np.array([[255]], np.uint8), 2, tmp_path)


def test_mask_that_is_a_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(".png"))
    with pytest.raises(UserError, match=r"a\.png is a picture of mode RGB.*datalist\.prepare\.mas"):
        read_mask(tmp_path / "a.png")
    Image.fromarray(np.array([[0, 5]], np.uint16)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"b\.png is a picture of mode I"):
        read_mask(tmp_path / "b.png")


def test_mask_cut_off(tmp_path):
    rng = np.random.default_rng(0)
    write_mask(tmp_path / "a.png", rng.integers(0, 9, (50, 50), dtype=np.uint8))
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) - 400])
    with pytest.raises(UserError, match="is cut off"):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_png_with_one_bit_changed(tmp_path, share):
    path = tmp_path / "a.png"
    for make in (lambda: path.write_bytes(encoded(".png")), lambda: write_mask(path, WIDE)):
        make()
        data = bytearray(path.read_bytes())
        data[int(share * len(data))] ^= 1
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"a\.png is (damaged|cut off)"):
            read_image(path)
    with pytest.raises(UserError, match=r"a\.png is (damaged|cut off)"):
        read_mask(path)
