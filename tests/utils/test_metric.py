"""Every score against a loop over pixels written from its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils import metric


def slow_confusion(truth, prediction, num_classes):
    count = np.zeros((num_classes, num_classes), np.int64)
    for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist()):
        if t != 255:
            count[t, p] += 1
    return count


def draw(seed, num_classes, shape=(13, 17)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, shape).astype(np.uint8)
    truth[rng.random(shape) < 0.1] = 255
    return truth, rng.integers(0, num_classes, shape).astype(np.uint8)


@given(st.integers(0, 2**32), st.integers(2, 60))
def test_confusion_counts_every_pixel(seed, num_classes):
    truth, prediction = draw(seed, num_classes, (7, 9))
    found = metric.confusion(truth, prediction, num_classes)
    assert (found == slow_confusion(truth, prediction, num_classes)).all()


def test_scores_follow_their_definitions():
    truth, prediction = draw(0, 5)
    truth[truth == 3] = 2  # class 3: predicted, never true
    prediction[prediction == 4] = 1  # class 4: true, never predicted
    found = metric.scores(metric.confusion(truth, prediction, 5))
    seen = truth != 255
    ious, recalls, weighted = [], [], 0.0
    for c in range(5):
        t, p = (truth == c) & seen, (prediction == c) & seen
        ious.append((t & p).sum() / (t | p).sum())
        assert found.iou[c] == pytest.approx(ious[-1])
        assert found.false_positive[c] == pytest.approx((p & ~t).sum() / (t | p).sum())
        assert found.false_negative[c] == pytest.approx((t & ~p).sum() / (t | p).sum())
        if t.any():
            recalls.append((t & p).sum() / t.sum())
            assert found.recall[c] == pytest.approx(recalls[-1])
        if p.any():
            assert found.precision[c] == pytest.approx((t & p).sum() / p.sum())
        weighted += t.sum() / seen.sum() * ious[-1]
    assert found.iou[3] == found.iou[4] == 0  # never hit, yet counted in the mean
    assert np.isnan(found.recall[3]) and np.isnan(found.precision[4])
    assert found.miou == pytest.approx(np.mean(ious))
    assert found.mean_accuracy == pytest.approx(np.mean(recalls))
    assert found.frequency_weighted_iou == pytest.approx(weighted)
    assert found.pixel_accuracy == pytest.approx((truth == prediction)[seen].mean())


def test_absent_class_is_left_out_of_the_mean():
    truth = np.array([[0, 1, 1, 255]])
    found = metric.scores(metric.confusion(truth, np.array([[0, 1, 0, 2]]), 3))
    assert np.isnan(found.iou[2])
    assert found.miou == pytest.approx((1 / 2 + 1 / 2) / 2)
    percent = metric.as_percent(found, ["background", "cat", "dog"])
    assert percent["miou"] == 50.0
    assert percent["iou"] == {"background": 50.0, "cat": 50.0, "dog": None}
    assert percent["absent"] == ["dog"]


def test_nothing_counted_is_undefined_not_a_crash():
    found = metric.scores(np.zeros((3, 3), np.int64))
    assert np.isnan([found.miou, found.pixel_accuracy, found.mean_accuracy]).all()
    assert metric.as_percent(found, "abc")["miou"] is None


def test_image_iou_marks_absent_classes():
    matrix = np.array([[2, 1, 0], [1, 4, 0], [0, 0, 0]])
    found = metric.image_iou(matrix)
    assert found[:2] == pytest.approx([2 / 4, 4 / 6])
    assert np.isnan(found[2])


@pytest.mark.parametrize("seed", range(5))
def test_sweep_is_one_confusion_matrix_per_threshold(seed):
    num_classes, keys = 6, np.array([1, 3, 4])
    truth, _ = draw(seed, num_classes)
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 11, (3, *truth.shape)) / 10  # coarse, so that there are ties
    thresholds = np.array([0.0, 0.3, 0.55, 1.0])
    found = metric.sweep(truth, score, keys, thresholds, num_classes)
    for threshold, matrix in zip(thresholds, found):
        rival = np.concatenate([np.full((1, *truth.shape), threshold), score])
        prediction = np.array([0, *keys])[rival.argmax(0)]
        assert (matrix == slow_confusion(truth, prediction, num_classes)).all()


def test_sweep_without_any_score_is_all_background():
    truth = np.array([[0, 2], [255, 1]])
    empty = np.zeros((0, 2, 2), np.float32)
    found = metric.sweep(truth, empty, np.zeros(0, int), np.array([0.1, 0.5]), 3)
    assert (found == slow_confusion(truth, np.zeros((2, 2), int), 3)).all()


def test_many_thresholds_do_not_overflow():
    truth = np.ones((4, 5), np.uint8)
    thresholds = np.linspace(0, 0.9, 700)
    found = metric.sweep(truth, np.ones((1, 4, 5)), np.array([1]), thresholds, 2)
    assert (found[:, 1, 1] == 20).all()


def test_bad_input_is_named():
    truth = np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="prediction is 3 x 2, the truth 2 x 3"):
        metric.confusion(truth, truth.T, 2)
    with pytest.raises(ValueError, match="prediction holds the class index 2"):
        metric.confusion(truth, truth + 2, 2)
    with pytest.raises(ValueError, match="truth holds the class index 7"):
        metric.confusion(truth + 7, truth, 2)
    with pytest.raises(ValueError, match="class index -1"):
        metric.confusion(truth, truth.astype(int) - 1, 2)
    with pytest.raises(ValueError, match="class index 9"):
        metric.sweep(truth, np.ones((1, 2, 3)), np.array([9]), np.array([0.1]), 2)


@given(st.lists(st.sampled_from(["a", "traffic light", ""]), max_size=5))
def test_table_keeps_to_80_columns(names):
    names = [name * 30 for name in names]
    rows = [[name, 100.0, None, float("nan"), 3.14159] for name in names]
    text = metric.table(rows, ["class", "IoU", "precision", "recall", "false negative"])
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("3.14") == len(names)
