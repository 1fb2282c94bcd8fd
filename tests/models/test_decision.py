"""What an answer says: by the threshold or the names in a model's card."""

from __future__ import annotations

import json

import pytest

from xedge.core.exceptions import ConfigurationError
from xedge.models.decision import Decision


def card(folder, **facts):
    file = folder / "net.json"
    file.write_text(json.dumps(facts))
    return str(file)


def test_scores_are_held_against_the_threshold_and_several_by_the_largest(tmp_path):
    plain = Decision.of(card(tmp_path))
    assert (plain.threshold, plain.names, plain.is_said) == (0.5, (), False)
    assert [plain.label(x) for x in (0.5, 0.51, [0.1, 0.7, 0.2], [3], 2, True)] == ["0", "1", "1", "0", "2", "1"]
    assert [plain.label(x) for x in (None, [[0.1]], "a", [])] == [None] * 4
    assert plain.label([0.1, 0.9], "sport") == "sport"
    named = Decision.of(card(tmp_path, threshold=0.2, labels=["healthy", "damaged"]))
    assert [named.label(x) for x in (0.1, 0.3, [0.9, 0.1])] == ["healthy", "damaged", "healthy"]
    assert named.is_said


def test_a_model_without_a_card_decides_in_the_middle(tmp_path):
    assert Decision.of(tmp_path / "none.onnx") == Decision()


@pytest.mark.parametrize(
    ("facts", "match"),
    [({"threshold": "high"}, "threshold is 'high'"), ({"threshold": True}, "give a number"), ({"labels": 3}, "a list")],
)
def test_a_card_that_says_nothing_of_use(tmp_path, facts, match):
    with pytest.raises(ConfigurationError, match=match):
        Decision.of(card(tmp_path, **facts))
