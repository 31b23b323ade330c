from __future__ import annotations

import numpy as np
import pytest

from sam2track.discovery.rules import DiscoveryRules, crops
from sam2track.errors import ConfigError


def test_the_grid_lies_in_the_middle_of_its_cells() -> None:
    grid = DiscoveryRules(points_per_side=2).grid(0)
    assert grid.tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_deeper_layers_have_fewer_clicks_but_one_at_least() -> None:
    rules = DiscoveryRules(points_per_side=8, crop_n_layers=5, crop_n_points_downscale_factor=2)
    assert [len(rules.grid(layer)) for layer in range(6)] == [64, 16, 4, 1, 1, 1]


def test_crops_cover_the_picture_and_overlap() -> None:
    height, width = 97, 131
    found = crops(height, width, DiscoveryRules(points_per_side=3, crop_n_layers=2))
    assert len(found) == 1 + 4 + 16
    assert found[0].box == (0, 0, width, height)
    for layer in (found[1:5], found[5:]):
        seen = np.zeros((height, width), int)
        for (x0, y0, x1, y1), points in layer:
            seen[y0:y1, x0:x1] += 1
            assert (points >= 0).all()
            assert (points <= (x1 - x0, y1 - y0)).all()
        assert seen.min() == 1
        assert seen.max() == 4  # where four crops meet


def test_a_tiny_picture_has_no_empty_crops() -> None:
    for (x0, y0, x1, y1), _ in crops(2, 5, DiscoveryRules(points_per_side=1, crop_n_layers=4)):
        assert x0 < x1
        assert y0 < y1


def test_nano_is_asked_to_be_less_sure() -> None:
    assert DiscoveryRules.of("sam2.1-large") == DiscoveryRules()
    assert DiscoveryRules.of("nano").pred_iou_thresh < DiscoveryRules().pred_iou_thresh
    assert DiscoveryRules.of("nano", pred_iou_thresh=0.9).pred_iou_thresh == 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points_per_side": 0}, "points_per_side is 0; expected 1 to 1024"),
        ({"points_per_side": 3.5}, "points_per_side is 3.5; expected an integer"),
        ({"stability_score_thresh": float("nan")}, "stability_score_thresh is nan; expected 0 to 1"),
        ({"crop_n_layers": 7}, "crop_n_layers is 7; expected 0 to 6"),
        ({"point_grids": [np.zeros((3, 3))]}, r"shape \[3, 3\]; expected \[P, 2\]"),
    ],
)
def test_bad_rules_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DiscoveryRules(**settings)
