import numpy as np
import pytest
from vos_benchmark.evaluator import Evaluator

from sam2track.masks.labels import split
from sam2track.masks.scores import mean_score, score_frame, score_objects
from tests.masks.test_metrics import blob


def random_labels(random, size, ids):
    labels = np.zeros(size, np.uint8)
    for i in ids:
        if random.random() < 0.7:
            labels[blob(random, size)] = i
    return labels


@pytest.mark.parametrize("seed", range(8))
def test_sequences_of_several_objects_equal_vos_benchmark(seed):
    """Objects that come late, leave, are never found, or are found without being there."""
    random = np.random.default_rng(seed)
    size = (int(random.integers(20, 120)), int(random.integers(20, 120)))
    evaluator, rows = Evaluator(), []
    for index in range(7):
        truth = random_labels(random, size, [1, 2, 200] if index > 2 else [1])
        predicted = np.roll(truth, 3, axis=1) if random.random() < 0.5 else random_labels(random, size, [1, 2, 5])
        evaluator.feed_frame(predicted, truth)
        rows.append(score_frame(split(truth), split(predicted)))
    j, f = evaluator.conclude()
    scores = score_objects(rows)
    assert set(scores) == set(j)
    for i, score in scores.items():
        assert score.j == pytest.approx(j[i] / 100, abs=1e-12)
        assert score.f == pytest.approx(f[i] / 100, abs=1e-12)
        assert score.jf == pytest.approx((score.j + score.f) / 2)


def test_presence_counts_frames_on_which_visibility_is_right():
    there, gone = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    pairs = [(there, there), (there, gone), (gone, gone), (gone, there), (there, there)]
    score = score_objects([score_frame({1: truth}, {1: found}) for truth, found in pairs])[1]
    assert score.presence == 3 / 5
    assert score.j == 3 / 5
    assert score.j_recall == 3 / 5


def test_an_object_counts_from_where_it_is_first_seen():
    there, gone = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    frames = [score_frame({1: gone}, {}), score_frame({}, {}), score_frame({1: there}, {1: gone}),
              score_frame({1: there}, {1: there})]  # fmt: skip
    assert score_objects(frames)[1].j == 0.5
    assert score_objects(frames[:2]) == {}


def test_the_mean_weighs_objects_equally():
    there, half = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    half[:2] = True
    scores = score_objects([score_frame({1: there, 2: there}, {1: there, 2: half})] * 3)
    assert mean_score(scores.values()).j == 0.75
    assert mean_score(scores.values()).as_dict()["j"] == 0.75
    with pytest.raises(ValueError, match="no object"):
        mean_score([])
