"""The corpus, the training, the judgement on texts held out, the gate and the job around them."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import xedge
from xedge.core.exceptions import ConfigurationError, ModelError, RegistryError
from xedge.text.labels import TASKS
from xedge.text.model import TextModel
from xedge.text.registry.registry import Registry
from xedge.text.training import corpus as corpora
from xedge.text.training import job, outcomes
from xedge.text.training.corpus import read, shipped
from xedge.text.training.evaluation import Evaluation, Limits, difference, evaluate, gate
from xedge.text.training.train import recipe_for, train

SENTIMENT = {
    "positive": ("good", "lovely", "great", "happy"),
    "neutral": ("table", "monday", "metre", "office"),
    "negative": ("bad", "awful", "sad", "broken"),
}


WORDS = [f"{a}{b}" for a in ("mo", "ri", "ta", "ku", "sel", "bran") for b in ("lo", "dar", "wen", "pik", "um")]


def write(path, rows, header=("label", "text")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def easy_rows(each=60, words=SENTIMENT):
    """Rows that any training learns: the label's own words among others."""
    return [
        (label, f"{own[i % len(own)]} {own[(i // 4) % len(own)]} thing number {i} of {label[:3]}{i}")
        for label, own in words.items()
        for i in range(each)
    ]


@pytest.fixture
def easy(tmp_path: Path) -> Path:
    return write(tmp_path / "easy.csv", easy_rows())


@pytest.fixture
def registry(empty_registry: Path, tmp_path: Path) -> Registry:
    """A registry of the test's own."""
    return Registry(shutil.copytree(empty_registry, tmp_path / "own registry"))


# The corpus that ships with xedge.


@pytest.mark.parametrize("task", TASKS)
def test_shipped_corpus_is_clean_and_balanced(task):
    corpus = read(task)
    assert corpus.names == TASKS[task]
    assert (corpus.bad_rows, corpus.duplicates, corpus.split) == ((), 0, "column split")
    for held_out, fewest in ((False, 60), (True, 20)):
        counts = Counter(corpus.part(held_out)[1])
        assert min(counts.values()) >= fewest
        assert max(counts.values()) <= 1.1 * min(counts.values())


def grams(text, n):
    words = re.findall(r"[\w']+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def overlaps(task):
    """Yield for each text held out the largest share of its word pairs and triples in one text to learn from."""
    corpus = read(task)
    known = [(grams(text, 2), grams(text, 3)) for text in corpus.part(held_out=False)[0]]
    for text in corpus.part(held_out=True)[0]:
        pairs, triples = grams(text, 2), grams(text, 3)
        yield (
            text,
            max(len(pairs & other) for other, _ in known) / max(len(pairs), 3),
            max(len(triples & other) for _, other in known) / max(len(triples), 3),
        )


@pytest.mark.parametrize("task", TASKS)
def test_shipped_held_out_texts_share_no_template_with_the_others(task):
    found = list(overlaps(task))
    assert [text for text, pairs, _ in found if pairs > 0.34] == []
    assert [text for text, _, triples in found if triples > 0.2] == []
    assert np.mean([triples for _, _, triples in found]) < 0.02


def test_overlap_would_be_found(monkeypatch, tmp_path):
    rows = [(label, f"the {word} was {word}er than we thought it would be", "train") for label, word in
            (("positive", "room"), ("negative", "film"), ("neutral", "lake"))]  # fmt: skip
    rows = [(label, f"{text} {i} times", part) for label, text, _ in rows for i in range(4) for part in ("train",)]
    rows += [(label, text.replace("than we", "than they"), "held_out") for label, text, _ in rows]
    path = write(tmp_path / "templates.csv", rows, ("label", "text", "split"))
    monkeypatch.setattr(corpora, "shipped", lambda task: path)
    assert min(triples for _, _, triples in overlaps("sentiment")) > 0.2


# Data files.


def test_columns_in_any_order_case_and_with_a_mark_in_front(tmp_path):
    path = tmp_path / "news.csv"
    lines = ["\ufeffDescription, TITLE ,ID,Class"]
    lines += [f'"Body {i}, of it.",Head {i},{i},{"Sci/Tech" if i % 2 else "World"}' for i in range(120)]
    path.write_text("\n".join(lines), encoding="utf-8")
    corpus = read("topic", path, labels_column="class")
    assert corpus.texts[:2] == ("Head 0. Body 0, of it.", "Head 1. Body 1, of it.")
    assert corpus.names == ("sci/tech", "world")
    assert corpus.source == "news.csv"


@pytest.mark.parametrize(
    ("title", "description", "text"),
    [("Really?", "Yes", "Really? Yes"), ("A", "B", "A. B"), ("", "B", "B"), ("A", "", "A"), (" A ", " B ", "A. B")],
)
def test_title_and_description_are_joined(tmp_path, title, description, text):
    rows = [(label, title, f"{description}") for label in ("a", "b")]
    rows += [(label, f"t{i}", f"d{label}{i}") for label in ("a", "b") for i in range(60)]
    corpus = read("topic", write(tmp_path / "x.csv", rows, ("label", "title", "description")))
    assert corpus.texts[0] == text
    assert corpus.duplicates == 1


def test_content_is_read_and_what_is_not_read_is_named(tmp_path):
    rows = [("a", f"head {i}", f"loaf {i}", i) for i in range(40)] + [
        ("b", f"head {i}", f"rind {i}", i) for i in range(40)
    ]
    corpus = read("topic", write(tmp_path / "x.csv", rows, ("label", "title", "content", "id")))
    assert corpus.texts[0] == "head 0. loaf 0"
    assert (corpus.columns, corpus.ignored) == (("title", "content"), ("id",))


def test_text_with_two_labels_is_counted_and_keeps_the_first(tmp_path):
    rows = [
        *easy_rows(),
        ("neutral", "Good good, thing number 0 of pos0!"),
        ("positive", "good good thing number 0 of pos0"),
    ]
    corpus = read("sentiment", write(tmp_path / "x.csv", rows))
    assert corpus.duplicates == 2
    assert corpus.conflicts == ("line 182: a text labelled 'neutral' here and 'positive' above",)
    assert corpus.labels[corpus.texts.index("good good thing number 0 of pos0")] == "positive"


def test_bad_rows_are_left_out_and_told_with_their_lines(tmp_path):
    path = tmp_path / "bad.csv"
    good = "".join(f'{label},"a text\nof two lines, number {i} {label}"\n' for label in SENTIMENT for i in range(60))
    bad = 'positive\nneutral,\n,nothing\nangry,hm\n12,hm\nneutral,"a"b\n'
    path.write_bytes(f"label,text\n{good}{bad}".encode() + b"negative,caf\xe9\n\nneutral,the last one\n")
    corpus = read("sentiment", path)
    assert corpus.bad_rows == (
        "line 362: 1 fields in 2 columns",
        "line 363: no text",
        "line 364: no label",
        "line 365: the label 'angry' is none of positive, neutral, negative",
        "line 366: the label '12' is not a word",
        "line 367: not CSV (',' expected after '\"')",
        "line 368: not UTF-8",
    )
    assert corpus.texts[-1] == "the last one"
    assert len(corpus.texts) == 181


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "line 1: the columns are none"),
        ("text,topic\na,b\n", "line 1: the columns are text, topic; needed are 'label'"),
        ("label,wording\na,b\n", "one or more of text, title, headline, description, content, body"),
        ("label,text\n", "there are no rows"),
        ("label,text\n" + "a,b\n,c\n" * 20, "20 of 40 rows cannot be used: line 3: no label"),
        ("label,text\n1,hello\n2,world\n", "line 2: the label '1' is not a word"),
        ("label,text,split\na,b,dev\n", "line 2: split is 'dev', not one of train, held_out, test"),
        ("label,text\n" + "".join(f"a,text {i}\n" for i in range(99)), "the labels are a; topic needs two or more"),
        ("label,text\na,b\nc,d\n", "too few rows"),
        ('label,text\na,one\nb,"two\nc,three\n', "line 3: a quote that is opened here is not closed"),
        ('label,text\na,one\nb,"' + "two\n" * 99_999, "line 3: a quote that is opened here is not closed"),
    ],
    ids=lambda value: value[:30],
)
def test_data_that_cannot_be_meant(tmp_path, content, says):
    path = tmp_path / "data.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        read("topic", path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_data_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot read the data file .*none\.csv: No such file"):
        read("topic", tmp_path / "none.csv")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        read("topic", tmp_path)
    with pytest.raises(ConfigurationError, match="give one of topic, sentiment"):
        shipped("mood")


def test_sentiment_needs_its_three_labels(tmp_path):
    rows = [row for row in easy_rows() if row[0] != "neutral"]
    with pytest.raises(ConfigurationError, match="labels are negative, positive; sentiment needs all of positive"):
        read("sentiment", write(tmp_path / "two.csv", rows))


def test_text_stays_on_its_side_when_the_file_grows_and_is_shuffled(tmp_path):
    rows = easy_rows()
    small = read("sentiment", write(tmp_path / "small.csv", rows))
    grown = [*reversed(easy_rows(200)), *((label, f"  {text.upper()} !") for label, text in rows)]
    large = read("sentiment", write(tmp_path / "large.csv", grown))
    assert large.duplicates == len(rows)
    known = dict(zip(large.texts, large.held_out, strict=True))
    assert all(known[text] is out for text, out in zip(small.texts, small.held_out, strict=True))
    assert 0.1 < np.mean(large.held_out) < 0.3


# Training.


@pytest.mark.long
def test_words_after_the_forty_fifth_count(tmp_path):
    """An article decides by all of it: here nothing but its last sentence has to do with its label."""
    start = "the council met again in the old hall to hear what had been said about roads and bridges " * 6
    rows = [(label, f"{start} {text} {i} {text}") for i, (label, text) in enumerate(easy_rows())]
    found = train("sentiment", tmp_path / "m", write(tmp_path / "x.csv", rows), quick=True, progress=False)
    assert found.evaluation.accuracy.low > 0.6


@pytest.mark.parametrize("task", TASKS)
def test_quick_models_are_well_above_the_majority(text_registry: Registry, task):
    found = text_registry.resolve(task, alias="production")
    facts = json.loads((found.folder / "card.json").read_text())
    judged = evaluate(TextModel.load(found.folder), read(task))
    assert judged.accuracy.low > 0.65
    assert judged.accuracy.low > 1.9 * judged.majority_share
    assert judged.calibration_error < 0.15
    assert facts["held_out"]["accuracy"] == pytest.approx(judged.accuracy.value, abs=0.01)
    assert facts["held_out"]["majority_share"] == judged.majority_share
    assert facts["data"]["sha256"] == read(task).sha256
    assert facts["parity"]["max_abs_difference"] < 1e-5
    assert (found.folder / "model.onnx").stat().st_size < 4_000_000


@pytest.mark.parametrize(
    ("task", "text", "label"),
    [
        ("topic", "Breaking news about AI technology", "technology"),
        ("topic", "Breaking news: the prime minister resigns", "politics"),
        ("sentiment", "The battery died after a week.", "negative"),
        ("sentiment", "The letter came after a week.", "neutral"),
    ],
)
def test_quick_models_know_plain_sentences(text_registry: Registry, task, text, label):
    model = TextModel.load(text_registry.resolve(task, alias="production").folder)
    assert model.labels[model.probabilities([text])[0].argmax()] == label


def golden(folder):
    return json.loads((Path(folder) / "golden.json").read_text())["probabilities"]


@pytest.mark.long
def test_training_is_the_same_again_in_any_process(easy, tmp_path):
    train("sentiment", tmp_path / "here", easy, seed=3, epochs=3, quick=True)
    code = "import sys; from xedge.text.training.train import train; "
    code += "train('sentiment', sys.argv[1], sys.argv[2], seed=3, epochs=3, quick=True)"
    command = [sys.executable, "-c", code, str(tmp_path / "there"), str(easy)]
    subprocess.run(command, check=True, timeout=180, capture_output=True)
    train("sentiment", tmp_path / "other", easy, seed=4, epochs=3, quick=True)
    assert golden(tmp_path / "here") == golden(tmp_path / "there")
    assert golden(tmp_path / "here") != golden(tmp_path / "other")


@pytest.mark.long
def test_rare_label_weighs_as_much_as_a_common_one(tmp_path):
    """Where nothing can be learnt, the answer must not follow the counts, five to one."""
    rng = np.random.default_rng(2)
    rows = [
        ("rare" if i % 6 == 0 else "common", " ".join(rng.choice(WORDS, 8)), "test" if i % 5 == 0 else "train")
        for i in range(600)
    ]
    path = write(tmp_path / "x.csv", rows, ("label", "text", "split"))
    found = train("topic", tmp_path / "m", path, quick=True, progress=False).evaluation
    assert found.labels == ("common", "rare")
    assert found.probabilities[:, 1].mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.long
def test_training_replaces_a_text_model_and_nothing_else(easy, tmp_path):
    target = tmp_path / "models" / "sentiment"
    first = train("sentiment", target, easy, epochs=1, quick=True)
    assert str(first).startswith("sentiment: held-out accuracy ")
    before = golden(target)
    with pytest.raises(ConfigurationError, match=r"none\.csv"):
        train("sentiment", target, tmp_path / "none.csv")
    assert golden(target) == before
    train("sentiment", target, easy, epochs=2, quick=True)
    assert golden(target) != before
    assert [path.name for path in target.parent.iterdir()] == ["sentiment"]
    (tmp_path / "precious").mkdir()
    with pytest.raises(ConfigurationError, match="is there and is not a text model"):
        train("sentiment", tmp_path / "precious", easy)


@pytest.mark.parametrize(("name", "value"), [("epochs", -1), ("seed", -1)])
def test_training_refuses_negative_numbers(tmp_path, name, value):
    with pytest.raises(ConfigurationError, match=name):
        train("topic", tmp_path / "x", **{name: value})


def test_recipe_follows_the_number_of_texts():
    few, many = recipe_for(600), recipe_for(100_000)
    assert (few.batch, many.batch) == (32, 256)
    assert few.epochs > many.epochs
    assert few.folds > many.folds
    assert recipe_for(600, epochs=7).epochs == 7
    assert recipe_for(600, quick=True).epochs < few.epochs


# Judgement, worked by hand.


def answers(truth, predicted, labels=("a", "b", "c"), confidence=0.8):
    probabilities = np.full((len(truth), len(labels)), (1 - confidence) / (len(labels) - 1), np.float32)
    probabilities[np.arange(len(truth)), predicted] = confidence
    return Evaluation(labels, np.array(truth), probabilities)


def test_evaluation_by_hand():
    found = answers([0, 0, 0, 1, 2], [0, 1, 0, 1, 0])
    assert found.accuracy.value == 0.6
    assert found.majority_share == 0.6
    assert found.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert found.calibration_error == pytest.approx(0.2, abs=1e-6)


def test_calibration_error_does_not_cancel_between_bins():
    sure = answers([0] * 10, [0] * 5 + [1] * 5, confidence=0.95)
    unsure = answers([0] * 10, [0] * 10, confidence=0.55)
    both = Evaluation(sure.labels, np.r_[sure.truth, unsure.truth], np.r_[sure.probabilities, unsure.probabilities])
    assert both.calibration_error == pytest.approx(0.45, abs=1e-6)


def test_difference_is_paired():
    truth = [0] * 100
    new, old = answers(truth, [0] * 80 + [1] * 20), answers(truth, [1] * 6 + [0] * 76 + [1] * 18)
    found = difference(new, old)  # b = 6, c = 2
    assert found.value == pytest.approx(0.04)
    half = 1.959964 * (9 - 16 / 102) ** 0.5 / 102  # b* + c* = 9, b* - c* = 4, n* = 102
    assert (found.low, found.high) == pytest.approx((4 / 102 - half, 4 / 102 + half), abs=1e-6)
    assert difference(new, new).value == 0
    assert difference(new, new).low < 0 < difference(new, new).high
    with pytest.raises(ConfigurationError, match="other texts"):
        difference(new, answers([1] * 100, [0] * 100))


def test_difference_covers_the_truth():
    """The 95 % interval of the difference of two models that are right 80 and 70 times in 100, of 200 texts."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(600):
        new, old = (rng.random(200) > share for share in (0.8, 0.7))
        found = difference(answers([0] * 200, new.astype(int)), answers([0] * 200, old.astype(int)))
        covered.append(found.low <= 0.1 <= found.high)
    assert 0.92 < np.mean(covered) < 0.98


HALVES = [0] * 50 + [1] * 50
GOOD, FAIR = (answers(HALVES, [0] * (50 - wrong) + [1] * 50 + [0] * wrong) for wrong in (5, 6))
UNEVEN = [0] * 180 + [1] * 20
NOISE = answers(UNEVEN, [0] * 162 + [1] * 18 + [0] * 18 + [1] * 2)  # shuffled labels, 90 % in one class
LEARNT = answers(UNEVEN, [0] * 178 + [1] * 2 + [0] * 5 + [1] * 15)


@pytest.mark.parametrize(
    ("new", "old", "least", "lost", "obstacle", "passed", "says"),
    [
        (GOOD, None, 0.8, 0.0, "", True, "nothing was in production before"),
        (GOOD, None, 0.9, 0.0, "", False, "accuracy at least 0.826 (95 %), where 0.9 is asked for"),
        (GOOD, FAIR, 0.5, 0.0, "", True, "0.020 more accurate than the one in production"),
        (GOOD, GOOD, 0.5, 0.0, "", True, "as accurate as the one in production"),
        (
            FAIR,
            GOOD,
            0.5,
            0.0,
            "",
            False,
            "0.020 less accurate than the one in production, where at most 0 less is allowed",
        ),
        (FAIR, GOOD, 0.5, 0.02, "", True, "0.020 less accurate than the one in production"),
        (FAIR, GOOD, 0.5, 0.019, "", False, "at most 0.019 less"),
        (GOOD, None, 0.5, 0.0, "production is unreadable", False, "production is unreadable"),
        (NOISE, None, 0.6, 0.0, "", False, "macro-F1 0.500, where 0.55 is asked for"),
        (NOISE, NOISE, 0.6, 0.0, "", False, "macro-F1 0.500, where 0.55 is asked for"),
        (LEARNT, NOISE, 0.6, 0.0, "", True, "better than always the commonest label, by at least 0.024 (95 %)"),
    ],
)
def test_gate(new, old, least, lost, obstacle, passed, says):
    found = gate(new, old, Limits(least, most_lost=lost), obstacle)
    assert found.passed is passed
    assert says in (str(found) if passed else found.reasons[0])
    assert str(found).startswith("gate passed: " if passed else "gate not passed: ")


def test_gate_says_that_noise_is_not_above_the_commonest_label():
    assert "accuracy 0.820 not surely above always the commonest label, 0.900" in str(gate(NOISE, None, Limits()))
    low = gate(NOISE, None, Limits(least_accuracy=0, least_f1=0))
    assert not low.passed


def test_macro_f1_by_hand():
    found = answers([0, 0, 0, 1], [0, 1, 0, 1])  # F1 of a: 4 / (3 + 2), of b: 2 / (1 + 2); c does not occur
    assert found.macro_f1 == pytest.approx((4 / 5 + 2 / 3) / 2)


@pytest.mark.parametrize("limits", [(1.5, 0.0), (-0.1, 0.0), (0.5, 0.5, 2.0), (float("nan"), 0.0)])
def test_gate_refuses_limits_that_are_no_shares(limits):
    with pytest.raises(ConfigurationError, match="give a share between 0 and 1"):
        Limits(*limits)


# The job.


@pytest.fixture
def mislabelled(tmp_path: Path) -> Path:
    """The same texts held out as in `easy`, after learning from texts whose labels were exchanged."""
    corpus = read("sentiment", write(tmp_path / "right.csv", easy_rows()))
    wrong = dict(zip(SENTIMENT, [*list(SENTIMENT)[1:], "positive"], strict=True))
    rows = [
        (label if held_out else wrong[label], text, "test" if held_out else "train")
        for label, text, held_out in zip(corpus.labels, corpus.texts, corpus.held_out, strict=True)
    ]
    return write(tmp_path / "wrong.csv", rows, ("label", "text", "split"))


def test_job_promotes_what_passes_and_leaves_the_alias_otherwise(registry, easy, mislabelled):
    first = job.run("sentiment", easy, least_accuracy=0.5, quick=True, registry=registry)
    assert first.gate.passed
    assert (first.version.alias, first.before, first.gain) == ("production", None, None)
    again = job.run("sentiment", easy, least_accuracy=0.5, quick=True, registry=registry)
    assert again.gate.passed
    assert again.before.version == first.version.version
    assert again.gain.value == 0
    worse = job.run("sentiment", mislabelled, least_accuracy=0, quick=True, registry=registry)
    assert not worse.gate.passed
    assert "less accurate than the one in production, where at most 0 less is allowed" in str(worse.gate)
    assert worse.gain.high < 0
    strict = job.run("sentiment", easy, least_accuracy=0.999, quick=True, registry=registry)
    assert not strict.gate.passed
    assert registry.resolve("sentiment").version == again.version.version
    assert len(registry.versions("sentiment")) == 4
    assert (
        f"version {strict.version.version} is registered and version {again.version.version} stays" in strict.sentence
    )


@pytest.mark.long
def test_job_does_not_promote_what_cannot_be_compared(registry, tmp_path):
    own = {"bread": ("loaf", "oven"), "cheese": ("milk", "rind")}
    other = {"bread": ("loaf", "oven"), "wine": ("grape", "cork")}
    write(tmp_path / "a.csv", easy_rows(words=own))
    write(tmp_path / "b.csv", easy_rows(words=other))
    first, second = (
        job.run("topic", tmp_path / name, least_accuracy=0.3, quick=True, registry=registry)
        for name in ("a.csv", "b.csv")
    )
    assert first.gate.passed
    assert not second.gate.passed
    assert "b.csv has the labels wine" in second.gate.reasons[0]
    assert registry.resolve("topic").version == first.version.version


def test_job_keeps_what_is_trained_when_the_registry_has_gone(registry, easy, tmp_path, monkeypatch):
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path / "home"))

    def trained_and_gone(*arguments, **options):
        result = train(*arguments, **options)
        shutil.rmtree(registry.where)
        Path(registry.where).touch()
        return result

    monkeypatch.setattr(job, "train", trained_and_gone)
    with pytest.raises(RegistryError, match="trained but not registered, and kept in") as caught:
        job.run("sentiment", easy, epochs=1, quick=True, registry=registry)
    [folder] = (tmp_path / "home" / "models" / "registry" / "unregistered").iterdir()
    assert str(folder) in str(caught.value)
    assert TextModel.load(folder).task == "sentiment"


def test_job_leaves_no_folder_of_what_is_registered(registry, easy, tmp_path, monkeypatch):
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path / "home"))
    job.run("sentiment", easy, epochs=1, quick=True, registry=registry)
    assert list((tmp_path / "home" / "models" / "registry" / "unregistered").iterdir()) == []


@pytest.mark.long
def test_job_does_not_promote_what_learnt_from_shuffled_labels(registry, tmp_path):
    rng = np.random.default_rng(5)
    rows = [("common" if rng.random() < 0.9 else "rare", f"{' '.join(rng.choice(WORDS, 8))} {i}") for i in range(600)]
    found = job.run("topic", write(tmp_path / "x.csv", rows), least_accuracy=0.3, quick=True, registry=registry)
    assert not found.gate.passed
    assert "not surely above always the commonest label" in str(found.gate)


def test_job_asks_the_registry_before_it_trains(tmp_path, easy, monkeypatch):
    monkeypatch.setattr(job, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(RegistryError) as caught:
        job.run("sentiment", easy, registry=Registry("http://127.0.0.1:9"))
    assert caught.value.reason == "unreachable"


@pytest.mark.parametrize(
    ("task", "data", "wanted"),
    [("both", "", ("topic", "sentiment")), ("topic", "", ("topic",)), ("sentiment", "x", ("sentiment",))],
)
def test_tasks(task, data, wanted):
    assert job.tasks(task, data) == wanted


@pytest.mark.parametrize(("task", "data"), [("both", "x.csv"), ("mood", "")])
def test_tasks_that_cannot_be_meant(task, data):
    with pytest.raises(ConfigurationError, match="task"):
        job.tasks(task, data)


def test_outcome_is_told_in_table_figure_and_report(registry, easy, tmp_path, monkeypatch):
    monkeypatch.setenv("XEDGE_REPORT_DIR", str(tmp_path / "report"))
    (tmp_path / "report").mkdir()
    found = job.run("sentiment", easy, least_accuracy=1.0, epochs=1, quick=True, registry=registry)
    n = len(found.evaluation.truth)
    assert outcomes.table([found]).loc["gate", "sentiment"] == "not passed"
    assert outcomes.table([found, found]).shape == (14, 1)
    figure = outcomes.confusions([found, found])
    assert len(figure.axes) == 2
    drawn = [int(text.get_text()) for text in figure.axes[0].texts]
    assert sum(drawn) == n
    assert f"of {n} right" in figure.alt
    wrong = n - int(found.evaluation.right.sum())
    assert len(outcomes.mistakes([found], n=1000)) == wrong
    assert "easy.csv: 180 texts, 0 bad rows, 0 duplicates" in outcomes.rows_read([found])
    assert "texts from the columns: text\n" in outcomes.rows_read([found]) + "\n"
    trainings = outcomes.Trainings([found])
    assert xedge.publish(trainings) == found.sentence
    with pytest.raises(ModelError, match="sentiment: gate not passed: accuracy at least"):
        trainings.raise_for_gates()
    record = json.loads((tmp_path / "report" / "record.json").read_text())
    assert record["gate"]["sentiment"]["passed"] is False
    assert "nothing is in production" in record["conclusion"]
    assert {"headline", "conditions"} <= record.keys()
    with (tmp_path / "report" / "held_out_sentiment.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == n


@pytest.mark.usefixtures("text_registry")
def test_first_answer_comes_over_http():
    command = [sys.executable, "-m", "xedge.text.first_answer", "The orchestra played the film's songs. I loved it!"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    posted, body, answer = re.split(r"\n(?=\{)|\n\n", done.stdout)[:3]
    assert re.fullmatch(r"POST http://127\.0\.0\.1:\d+/predict", posted)
    assert "orchestra" in json.loads(body)["text"]
    found = json.loads(answer)
    assert found["topic"]["predictions"][0]["topic"] == "entertainment"
    assert found["sentiment"]["positive"] > 0.5


def test_first_answer_without_a_model_says_what_to_do(empty_registry, tmp_path):
    env = {**os.environ, "MLFLOW_TRACKING_URI": str(empty_registry)}
    command = [sys.executable, "-m", "xedge.text.first_answer"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=env)
    assert done.returncode == 1
    assert "xedge: xedge-topic@production is not in the model registry" in done.stderr
    assert "make text" in done.stderr
