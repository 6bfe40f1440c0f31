"""Classes in a picture, with torch (and Pillow to read it) alone: python predict.py IMAGE."""

import json
import sys
from pathlib import Path

import torch
from PIL import Image

extra = {"classes.json": ""}
model = torch.export.load(Path(__file__).with_name("model.pt2"), extra_files=extra).module()
picture = Image.open(sys.argv[1]).convert("RGB")
pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
image = pixels.view(1, picture.height, picture.width, 3).permute(0, 3, 1, 2)
label = model(image)[0].argmax(0)  # class index of each pixel, (H, W)
for index, name in enumerate(json.loads(extra["classes.json"])):
    print(f"{name}: {(label == index).float().mean():.1%}")
