"""Tables of known data sets and tools: the right tags, or one question with the flags."""

import pytest

from base import UserError
from datalist.prepare.names import NameIndex
from datalist.prepare.table import TableFlags, read_table

PICTURES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def tags(tmp_path, text, flags=None, pictures=PICTURES, name="t.csv"):
    """Tags of each picture that the table names, in order; [] for a name without tags."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    index = NameIndex({picture: [picture] for picture in pictures})
    found: dict[str, list[str]] = {}
    for written, row in read_table(path, index, None, flags or TableFlags()).rows:
        if picture := index.find(written):
            found.setdefault(picture[0], []).extend(row)
    return {k: sorted(set(row)) for k, row in found.items()}


BG = ["background"]
COW_DOG = {"a": ["cow"], "b": ["dog"]}
UNDERSTOOD = {
    "open images": (
        "ImageID,Source,LabelName,Confidence\na,verification,/m/01,1\na,verification,/m/02,0\n"
        "b,verification,/m/02,1\nc,verification,/m/01,0\n",
        {"a": ["/m/01", "background"], "b": ["/m/02"], "c": BG},
    ),
    "chest x-ray 14": (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
        "\na.jpg,Cardiomegaly|Emphysema,0,1,57,M,PA\nb.jpg,No Finding,1,1,58,M,PA\n"
        "c.jpg,Hernia,0,3,81,F,AP\n",
        {"a": ["Cardiomegaly", "Emphysema"], "b": BG, "c": ["Hernia"]},
    ),
    "chexpert": (
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Lung Opacity\n"
        "x/train/a.jpg,Female,68,Frontal,AP,1.0,,\nx/train/b.jpg,Male,70,Frontal,AP,,-1.0,1.0\n"
        "x/train/c.jpg,Male,70,Lateral,,,0.0,-1.0\n",
        {"a": BG, "b": ["Lung Opacity"], "c": BG},
    ),
    "ham10000": (
        "lesion_id,image_id,dx,dx_type,age,sex,localization\nH1,a,bkl,histo,80.0,male,scalp\n"
        "H2,b,nv,follow_up,70.0,female,ear\n",
        {"a": ["bkl"], "b": ["nv"]},
    ),
    "isic one-hot": (
        "image,MEL,NV,BCC\na,0.0,1.0,0.0\nb,1.0,0.0,0.0\nc,0.0,0.0,0.0\n",
        {"a": ["NV"], "b": ["MEL"], "c": BG},
    ),
    "severstal": (
        "ImageId,ClassId,EncodedPixels\na.jpg,1,29102 12 29346 24\na.jpg,3,1 2\nb.jpg,4,1 3\n",
        {"a": ["1", "3"], "b": ["4"]},
    ),
    "boxes without header": (
        "path/a.jpg,1,2,30,40,cow\npath/b.jpg,5,6,70,80,dog\npath/c.jpg,,,,,\n",
        {"a": ["cow"], "b": ["dog"], "c": []},
    ),
    "boxes": (
        "path,x1,y1,x2,y2,class\na.jpg,1,2,3,4,cow\na.jpg,4,4,9,9,dog\nb.jpg,1,1,2,2,cow\n",
        {"a": ["cow", "dog"], "b": ["cow"]},
    ),
    "tensorflow boxes": (
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,9,9,cow,1,1,2,2\n",
        {"a": ["cow"]},
    ),
    "automl": (
        "TRAIN,gs://bucket/x/a.jpg,daisy\nTEST,gs://bucket/x/b.jpg,rose\n",
        {"a": ["daisy"], "b": ["rose"]},
    ),
    "pandas index": (",image,cow,dog\n0,a.jpg,1,0\n1,b.jpg,0,1\n", COW_DOG),
    "fold": ("image,cow,dog,fold\na,1,0,0\nb,0,1,3\n", COW_DOG),
    "uncertain": ("image,cow,dog\na,1.0,-1.0\nb,0.0,1.0\n", COW_DOG),
    "excel in german": (
        "sep=;\r\nBild;Klasse\r\na.jpg;Stra\xdfe\r\nb.jpg;B\xe4ume\r\n".encode("cp1252"),
        {"a": ["Straße"], "b": ["Bäume"]},
    ),
    "utf-16": ("image\ttags\na\tcow\nb\tdog\n".encode("utf-16"), COW_DOG),
    "title row": (
        "Export of June\n\nimage,cow,dog\na,1,0\nb,1,1\n",
        {"a": ["cow"], "b": ["cow", "dog"]},
    ),
    "write.table": (
        '"image" "cow" "dog"\n"1" "a.jpg" 1 0\n"2" "b.jpg" 0 1\n'.replace(" ", ","),
        COW_DOG,
    ),
    "row names as pictures": (
        "cow,dog,hen\na.jpg,1,0,0\nb.jpg,0,1,1\n",
        {"a": ["cow"], "b": ["dog", "hen"]},
    ),
    "repeated row": ("image,cow,dog\na,1,0\nb,0,1\na,1,0\n", COW_DOG),
    "line break": ('image,tags\na,"cow\ndog"\nb,dog\n', {"a": ["cow", "dog"], "b": ["dog"]}),
    "numpy list": ("image,tags\na,['cow' 'dog']\nb,['dog']\n", {"a": ["cow", "dog"], "b": ["dog"]}),
    "tuple": (
        "image,tags\na,\"('cow','dog')\"\nb,\"('dog',)\"\n",
        {"a": ["cow", "dog"], "b": ["dog"]},
    ),
    "set": ('image,tags\na,"{cow,dog}"\nb,{dog}\n', {"a": ["cow", "dog"], "b": ["dog"]}),
    "bigearthnet": (
        "patch,labels\na,\"['Land, with vegetation', 'Pastures']\"\nb,['Pastures']\n".replace(
            "patch", "image"
        ),
        {"a": ["Land, with vegetation", "Pastures"], "b": ["Pastures"]},
    ),
    "label with a comma": (
        'image,label\na,"Pepper, bell"\nb,Apple\nc,"Pepper, bell"\n',
        {"a": ["Pepper, bell"], "b": ["Apple"], "c": ["Pepper, bell"]},
    ),
    "kaggle words": (
        "image_name,tags\na,haze primary\nb,primary\nc,haze\n",
        {"a": ["haze", "primary"], "b": ["primary"], "c": ["haze"]},
    ),
    "numbers beside names": ("id,image,label\n1,a.jpg,cow\n2,b.jpg,dog\n", COW_DOG),
    "label and its number": ("image,label,label_id\na,cow,0\nb,dog,1\n", COW_DOG),
    "roboflow multi-class": (
        "filename, cow, dog\na.jpg, 1, 0\nb.jpg, 0, 0\n",
        {"a": ["cow"], "b": BG},
    ),
    "german yes and no": ("Bild;Kuh;Hund\na;ja;nein\nb;nein;ja\n", {"a": ["Kuh"], "b": ["Hund"]}),
}


@pytest.mark.parametrize(("text", "expected"), UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_understood(tmp_path, text, expected):
    assert tags(tmp_path, text) == expected


ASKED = {
    "unknown headings": (
        "image,farm,animal\na,north,cow\nb,south,dog\n",
        TableFlags(tag_columns=("animal",)),
        COW_DOG,
    ),
    "counts": ("image,cow,dog\na,2,0\nb,0,1\n", TableFlags(at_least=1), COW_DOG),
    "soft labels": ("image,cow,dog\na,0.9,0.1\nb,0.2,0.7\n", TableFlags(at_least=0.5), COW_DOG),
    "one odd value": (
        "image,cow,dog\na,1,0\nb,7,1\n",
        TableFlags(at_least=1),
        {"a": ["cow"], "b": ["cow", "dog"]},
    ),
    "taxonomy": (
        "image,category,species\na,mammal,cow\nb,bird,hen\n",
        TableFlags(tag_columns=("species",)),
        {"a": ["cow"], "b": ["hen"]},
    ),
    "machine confidence": (
        "ImageID,LabelName,Confidence\na,cow,0.9\nb,dog,0.8\nb,cow,0.1\n",
        TableFlags(at_least=0.5),
        {"a": ["cow"], "b": ["background", "dog"]},
    ),
    "numbers without headings": (
        "a.jpg,3,17\nb.jpg,4,12\n",
        TableFlags(tag_columns=("2",)),
        {"a": ["3"], "b": ["4"]},
    ),
}


@pytest.mark.parametrize(("text", "flags", "expected"), ASKED.values(), ids=ASKED)
def test_asked_once_and_answered(tmp_path, text, flags, expected):
    with pytest.raises(UserError, match=r"--tag-columns|--at-least") as caught:
        tags(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert tags(tmp_path, text, flags) == expected


def test_the_question_lists_the_columns(tmp_path):
    with pytest.raises(UserError, match=r"'farm' \(north, south\); 'animal' \(cow, dog\)"):
        tags(tmp_path, "image,farm,animal\na,north,cow\nb,south,dog\n")


def test_a_column_that_is_headed_image_beats_a_running_number(tmp_path):
    pictures = [f"{k}.jpg" for k in range(1, 5)]
    text = "nr,image,label\n1,4,cow\n2,3,dog\n3,2,cow\n4,1,dog\n"
    assert tags(tmp_path, text, pictures=pictures)["4"] == ["cow"]


def test_accents_of_either_form_are_equal(tmp_path):
    index = NameIndex({"u\u0308.jpg": ["u\u0308.jpg"]})
    assert index.find("\xfc.jpg") == "u\u0308.jpg"


def test_eight_digits_are_not_always_a_hash():
    index = NameIndex({"20230714-001.jpg": ["20230714-001.jpg"], "2.jpg": ["2.jpg"]})
    assert index.find("20230715-001.jpg") is None
    assert index.find("11111111-2.jpg") == "2.jpg"
