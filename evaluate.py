#!/usr/bin/env python
"""Score predictions against the true masks: class table, mIoU, score.json, HTML report.

One folder is scored. Two are compared: class by class and, in the report, by the images on which
they disagree most.
"""

from base import entry


def main() -> None:
    """Read the flags and evaluate."""
    import tyro

    from utils.flags import Evaluate

    flags = tyro.cli(Evaluate, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))

    from utils.evaluate import evaluate

    evaluate(flags)


if __name__ == "__main__":
    with entry():
        main()
