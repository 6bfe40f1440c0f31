"""Entry for torch.hub: torch.hub.load(REPOSITORY, "seedseg", path="model.safetensors")."""

dependencies = ["torch", "torchvision", "safetensors", "tyro", "cv2", "PIL", "densecrf"]


def seedseg(path: str):
    """Network of a checkpoint (last.pt) or of a model.safetensors that utils.export wrote.

    Returns:
        nn.Module in evaluation mode: RGB images 0..255, (N, 3, H, W), to probabilities
        (N, C, H, W); its `classes` are the C names, background first.

    Errors: UserError for an unusable file.
    """
    from pathlib import Path

    # Not above: torch.hub names missing dependencies once this file is imported.
    from export import load_program

    return load_program(Path(path))[0]
