"""Fetching, against a server of this machine that cuts connections and sends wrong files."""

import gzip
import hashlib
import io
import json
import os
import pickle
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from own_folder import make_folder
from PIL import Image
from scipy.io import savemat

from base import UserError
from base.file import digest
from datalist.image import read_mask, write_mask
from datalist.prepare import fetch
from datalist.prepare.convert import apart, read_sbd, render_coco
from datalist.prepare.fetch import Archive, Arguments, archives, download, main
from datalist.spec import resolve
from datalist.tag import read_tags


class Server(BaseHTTPRequestHandler):
    files: dict[str, bytes] = {}
    cut: int | None = None
    ranges = True
    asked: list[str | None] = []

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        data = self.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if wanted and self.ranges:
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            start = 0
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        rest = data[start:]
        self.wfile.write(rest if self.cut is None else rest[: self.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(fetch, "PAUSE", 0)
    handler = type("Handler", (Server,), {"files": {}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        handler.url = f"http://127.0.0.1:{running.server_port}"
        yield handler
        running.shutdown()
        thread.join()


def md5(data):
    return hashlib.md5(data).hexdigest()


DATA = np.random.default_rng(0).bytes(10_000)


@pytest.mark.parametrize(
    "part, ranges, asked",
    [
        (None, True, None),
        (DATA[:4000], True, "bytes=4000-"),  # going on in another run
        (DATA, True, "bytes=10000-"),  # a part that is whole
        (bytes(20_000), False, "bytes=20000-"),  # a server without ranges
    ],
)
def test_download(server, tmp_path, part, ranges, asked):
    server.files["/a"], server.ranges = DATA, ranges
    target = tmp_path / "new" / "a"
    if part:
        target.parent.mkdir()
        target.with_name("a.part").write_bytes(part)
    download(f"{server.url}/a", target, md5(DATA))
    assert target.read_bytes() == DATA and server.asked[0] == asked
    assert [path.name for path in target.parent.iterdir()] == ["a"]


def test_connections_that_are_cut(server, tmp_path):
    server.files["/a"], server.cut = DATA, 999
    download(f"{server.url}/a", tmp_path / "a", md5(DATA))
    assert (tmp_path / "a").read_bytes() == DATA
    assert server.asked == [None, *(f"bytes={999 * k}-" for k in range(1, 11))]


def test_wrong_checksum(server, tmp_path):
    server.files["/a"] = DATA
    with pytest.raises(UserError, match=f"checksum {md5(DATA)} instead of 123: .* by hand"):
        download(f"{server.url}/a", tmp_path / "a", "123")
    assert not list(tmp_path.iterdir())


def test_part_of_another_file(server, tmp_path):
    server.files["/a"] = DATA
    (tmp_path / "a.part").write_bytes(bytes(4000))
    with pytest.raises(UserError, match="checksum"):
        download(f"{server.url}/a", tmp_path / "a", md5(DATA))
    download(f"{server.url}/a", tmp_path / "a", md5(DATA))
    assert (tmp_path / "a").read_bytes() == DATA


@pytest.mark.parametrize("cut", [None, 0])
def test_server_that_gives_nothing(server, tmp_path, cut):
    server.cut = cut
    if cut is not None:
        server.files["/a"] = DATA
    reason = "status 404" if cut is None else "was cut after 0 of 10000 bytes"
    with pytest.raises(UserError, match=rf"cannot download .*/a \(.*{reason}\).* by hand"):
        download(f"{server.url}/a", tmp_path / "a", md5(DATA))
    assert len(server.asked) == fetch.TRIES and not (tmp_path / "a").exists()


def test_no_network(server, tmp_path, monkeypatch, capsys):
    archive = Archive("http://127.0.0.1:9/voc.tar", "123", ("VOCdevkit",))
    monkeypatch.setattr(fetch, "archives", lambda _: (archive,))
    assert main(Arguments("voc", tmp_path)) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: cannot download http://127.0.0.1:9/voc.tar (")
    assert line.endswith(f"copy the file to {tmp_path / 'voc.tar'} by hand")


def packed(folder, top):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.add(folder, top)
    return file.getvalue()


def serve(server, monkeypatch, **files):
    """Serve archives under their data set's name: data set=(name, data, folders)."""
    table = {}
    for dataset, rows in files.items():
        table[dataset] = tuple(
            Archive(f"{server.url}/{name}", md5(data), folders) for name, data, folders in rows
        )
        server.files.update({f"/{name}": data for name, data, _ in rows})
    monkeypatch.setattr(fetch, "archives", table.__getitem__)


@pytest.fixture
def small_voc(server, monkeypatch, tmp_path):
    """VOC2012 of six images, masks for val and one of train only, and SBD with the others."""
    source = make_folder(tmp_path / "source" / "VOC2012")
    for name in "abcdef":
        path = source / "Annotations" / f"{name}.xml"
        path.write_text(path.read_text().replace("traffic light", "bird"))
    sbd = tmp_path / "source" / "sbd" / "dataset" / "cls"
    sbd.mkdir(parents=True)
    for name in "bcd":
        mask = read_mask(source / "SegmentationClass" / f"{name}.png")
        mask[mask == 255] = 20
        savemat(sbd / f"{name}.mat", {"GTcls": {"Segmentation": mask}})
        (source / "SegmentationClass" / f"{name}.png").unlink()
    lists = tmp_path / "lists" / "VOC2012"
    lists.mkdir(parents=True)
    for name, ids in {"train": "a", "train_aug": "abcd", "val": "ef", "test": "g"}.items():
        (lists / f"{name}.txt.gz").write_text("\n".join(ids))
    monkeypatch.setattr("datalist.spec.HERE", tmp_path / "lists")
    voc = [("voc.tar", packed(source.parent, "VOCdevkit"), ("VOCdevkit",))]
    data = packed(sbd.parent.parent, "benchmark_RELEASE")
    serve(server, monkeypatch, voc=voc, sbd=[("benchmark.tgz", data, ("benchmark_RELEASE",))])
    return tmp_path / "root"


def test_voc_and_sbd(small_voc, server, capsys):
    root = small_voc
    server.cut = 2000
    assert main(Arguments("voc", root)) == 0
    assert [path.name for path in root.iterdir()] == ["VOCdevkit"]
    spec = resolve("voc", root)
    assert spec.mask == "SegmentationClass" and "4 images" in capsys.readouterr().out
    assert main(Arguments("sbd", root, keep=True)) == 0
    names = {"VOCdevkit", "benchmark_RELEASE", "benchmark.tgz"}
    assert {path.name for path in root.iterdir()} == names
    spec = resolve("voc", root)
    assert spec.mask == "SegmentationClassAug"
    assert {path.name for path in spec.mask_folder.iterdir()} == {f"{k}.png" for k in "abcdef"}
    own = read_mask(spec.root / "SegmentationClass/e.png")
    assert np.array_equal(read_mask(spec.mask_path("e")), own)
    assert 20 in read_mask(spec.mask_path("c")) and Image.open(spec.mask_path("c")).mode == "P"
    # Everything is there: nothing is asked for any more.
    server.asked.clear()
    assert main(Arguments("voc", root)) == main(Arguments("sbd", root)) == 0
    assert not server.asked


def test_sbd_before_voc(small_voc, capsys):
    assert main(Arguments("sbd", small_voc)) == 1
    assert "no VOC2012 at" in capsys.readouterr().out


def test_sbd_goes_on(small_voc):
    assert main(Arguments("voc", small_voc)) == 0
    spec = resolve("voc", small_voc)
    part = spec.root / ".SegmentationClassAug.part"
    part.mkdir()
    write_mask(part / "b.png", np.full((31, 17), 7, np.uint8))
    assert main(Arguments("sbd", small_voc)) == 0
    assert read_mask(resolve("voc", small_voc).mask_path("b")).max() == 7


def test_what_is_missing_is_named(small_voc, capsys):
    assert main(Arguments("voc", small_voc)) == 0
    folder = resolve("voc", small_voc).root
    (folder / "JPEGImages/b.jpg").unlink()
    (folder / "Annotations/c.xml").unlink()
    assert main(Arguments("voc", small_voc)) == 1
    out = capsys.readouterr().out
    assert "image 'b' is in a list" in out and "c.xml" in out
    (folder / "SegmentationClass/f.png").unlink()
    assert main(Arguments("sbd", small_voc)) == 1
    out = capsys.readouterr().out
    assert "f.png nor " in out and "f.mat exists: VOC2012 or SBD is not whole" in out


def test_archive_copied_by_hand(small_voc, server, capsys):
    small_voc.mkdir()
    data = server.files["/voc.tar"]
    (small_voc / "voc.tar").write_bytes(data[:-1])
    assert main(Arguments("voc", small_voc)) == 1
    assert "is not the file of" in capsys.readouterr().out
    (small_voc / "voc.tar").write_bytes(data)
    assert main(Arguments("voc", small_voc)) == 0
    assert not server.asked and (small_voc / "voc.tar").is_file()


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside-of-datalist"])
def test_archive_that_leaves_its_folder(server, monkeypatch, tmp_path, name, capsys):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    serve(server, monkeypatch, voc=[("voc.tar", file.getvalue(), ("VOCdevkit",))])
    assert main(Arguments("voc", tmp_path / "root")) == 1
    assert "error: " in capsys.readouterr().out
    assert not (tmp_path / "outside").exists() and not (tmp_path / "root/outside").exists()
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["voc.tar"]


def square(top, left, side):
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


@pytest.fixture
def small_coco(server, monkeypatch, tmp_path):
    names = {"train": ["COCO_train2014_1", "COCO_train2014_2"], "val": ["COCO_val2014_3"]}
    lists = tmp_path / "lists" / "COCO2014"
    lists.mkdir(parents=True)
    rows = []
    for split, ids in names.items():
        folder, notes = f"{split}2014", io.BytesIO()
        (lists / f"{split}.txt.gz").write_text("\n".join(ids))
        with zipfile.ZipFile(notes, "w") as archive:
            for name in ids:
                image = io.BytesIO()
                Image.new("RGB", (30, 20), (9, 99, 199)).save(image, "JPEG")
                archive.writestr(f"{folder}/{name}.jpg", image.getvalue())
        rows.append((f"{folder}.zip", notes.getvalue(), (folder,)))
    categories = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}]
    crowd = {"size": [20, 30], "counts": [0, 20, 580]}  # the first column
    notes = io.BytesIO()
    with zipfile.ZipFile(notes, "w") as archive:
        for split, ids in names.items():
            images = [
                {"id": k, "file_name": f"{name}.jpg", "height": 20, "width": 30}
                for k, name in enumerate(ids)
            ]
            annotations = [
                {"image_id": 0, "category_id": 1, "segmentation": square(5, 5, 4), "area": 16},
                {"image_id": 0, "category_id": 18, "segmentation": square(2, 3, 12), "area": 144},
                {"image_id": 0, "category_id": 1, "segmentation": crowd, "area": 20, "iscrowd": 1},
            ]
            content = {"images": images, "annotations": annotations, "categories": categories}
            archive.writestr(f"annotations/instances_{split}2014.json", json.dumps(content))
    rows.append(("annotations.zip", notes.getvalue(), ("annotations",)))
    monkeypatch.setattr("datalist.spec.HERE", tmp_path / "lists")
    serve(server, monkeypatch, coco=rows)
    return tmp_path / "root"


def test_coco(small_coco, server):
    pytest.importorskip("pycocotools", reason="masks of COCO need pycocotools")
    server.cut = 500
    assert main(Arguments("coco", small_coco)) == 0
    spec = resolve("coco", small_coco)
    person, dog = spec.classes.index("person"), spec.classes.index("dog")
    expected = np.zeros((20, 30), np.uint8)
    expected[2:14, 3:15] = dog
    expected[5:9, 5:9] = person  # smaller, so on top
    expected[:, 0] = person
    assert np.array_equal(read_mask(spec.mask_path("COCO_val2014_3")), expected)
    assert not spec.mask_path("COCO_train2014_1").exists()
    assert (small_coco / "tags.csv").is_file()
    tags = read_tags(spec, spec.ids("train"))
    assert tags == {"COCO_train2014_1": (person, dog), "COCO_train2014_2": ()}
    server.asked.clear()
    assert main(Arguments("coco", small_coco, masks=("train", "val"))) == 0
    assert not read_mask(spec.mask_path("COCO_train2014_2")).any() and not server.asked
    assert render_coco(spec, "train") == 0


def test_cues(server, monkeypatch, tmp_path, capsys):
    """One file, which is not unpacked, checked by its digest and by the reader of cues."""
    data = gzip.compress(pickle.dumps({"0_cues": np.array([[1], [2], [3]])}, protocol=2))
    serve(server, monkeypatch, cues=[("localization_cues.pickle.gz", data, ())])
    assert main(Arguments("cues", tmp_path / "data")) == 0
    assert capsys.readouterr().out.endswith("cues of 1 images\n")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["localization_cues.pickle.gz"]
    assert main(Arguments("cues", tmp_path / "data")) == 0 and len(server.asked) == 1
    (tmp_path / "data/localization_cues.pickle.gz").write_bytes(data[:-3])
    assert main(Arguments("cues", tmp_path / "data")) == 1
    assert "its checksum is not" in capsys.readouterr().out


def test_digest_of_the_released_cues(reference):
    (archive,) = archives("cues")
    assert digest(reference / archive.name, "md5") == archive.md5


def test_real_table():
    for dataset in ("voc", "sbd", "coco", "cues"):
        for archive in archives(dataset):
            assert archive.url.startswith(("https://", "http://images.cocodataset.org/"))
            assert len(archive.md5) == 32 and int(archive.md5, 16)
            assert archive.folders or dataset == "cues"


@pytest.fixture(scope="module")
def pool():
    with apart() as process:
        yield process


def test_mat_files_that_cannot_be(tmp_path, pool):
    path = tmp_path / "a.mat"
    savemat(path, {"GTcls": {"Segmentation": np.full((2, 2), 30, np.uint8)}})
    assert read_sbd(path, 31, pool).tolist() == [[30, 30], [30, 30]]
    with pytest.raises(UserError, match="holds the value 30"):
        read_sbd(path, 21, pool)
    for write in (lambda: savemat(path, {"other": 1}), lambda: path.write_bytes(b"nothing")):
        write()
        with pytest.raises(UserError, match="is not a mask of SBD"):
            read_sbd(path, 21, pool)


def test_mat_file_that_crashes_its_reader(tmp_path):
    with apart() as pool:
        pool.submit(os.abort)
        with pytest.raises(UserError, match="is not a mask of SBD"):
            read_sbd(tmp_path / "a.mat", 21, pool)
