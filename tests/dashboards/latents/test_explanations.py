import pytest

from sae.dashboards.latents.explanations import read_explanations
from sae.dashboards.latents.settings import PageSettings
from sae.errors import UserError

GOOD = '{"latent": 0, "text": "a", "source": "b", "score": 1}\n'


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1]", r"expected an object, got \[1\]"),
        ('{"text": "a", "source": "b"}', "latent must be a whole number from 0 to 4, got None"),
        ('{"latent": 5, "text": "a", "source": "b"}', "from 0 to 4, got 5"),
        ('{"latent": -1, "text": "a", "source": "b"}', "from 0 to 4, got -1"),
        ('{"latent": true, "text": "a", "source": "b"}', "got True"),
        ('{"latent": 1.0, "text": "a", "source": "b"}', "got 1.0"),
        ('{"latent": 1, "text": "a"}', "expected the keys .* got latent, text"),
        ('{"latent": 1, "text": "a", "source": "b", "value": 2}', "expected the keys"),
        ('{"latent": 1, "text": 3, "source": "b"}', "text must be text, got 3"),
        ('{"latent": 1, "text": "a", "source": null}', "source must be text, got None"),
        ('{"latent": 1, "text": "a", "source": "b", "score": "high"}', "score must be a finite number, got 'high'"),
        ('{"latent": 1, "text": "a", "source": "b", "score": NaN}', "score must be a finite number, got nan"),
        ('{"latent": 1, "name": "a", "value": true}', "value must be a finite number, got True"),
        ('{"latent": 1, "name": "a", "value": null}', "value must be a finite number, got None"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(tmp_path, line, mistake):
    path = tmp_path / "explanations.jsonl"
    path.write_text(GOOD + "\n" + line + "\n" + GOOD)
    with pytest.raises(UserError, match=f"explanations.jsonl, line 3: .*{mistake}") as caught:
        read_explanations(path, 5)
    assert str(caught.value).count("\n") == 0


def test_many_bad_lines_are_counted(tmp_path):
    path = tmp_path / "explanations.jsonl"
    path.write_text("?\n" * 25)
    with pytest.raises(UserError, match=r"line 10: .*\n.*and 15 more$"):
        read_explanations(path, 5)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "explanations.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="Explanations could not be read from"):
        read_explanations(path, 5)


@pytest.mark.parametrize(("name", "value"), [("top", -1), ("intervals", 0), ("latents_size", 0), ("memory_bytes", 0)])
def test_settings_that_mean_nothing_are_refused(name, value):
    with pytest.raises(UserError, match=f"dashboard setting {name}={value}: expected a whole number of at least"):
        PageSettings(**{name: value})
    PageSettings(top=0, per_interval=0, random=0, tokens=0, logits=0, neighbours=0, neurons=0, window_before=0, window_after=0)


def test_the_best_explanation_has_the_largest_score_of_those_that_have_one(tmp_path):
    path = tmp_path / "explanations.jsonl"
    scores = {0: ["null", "-0.5", "null"], 1: ["null", "null"], 2: ["0.1", "0.3", "0.3"]}
    lines = [
        f'{{"latent": {latent}, "text": "{number}", "source": "a", "score": {score}}}'
        for latent, own in scores.items()
        for number, score in enumerate(own)
    ]
    path.write_text("\n".join(lines))
    found = read_explanations(path, 5)
    best = [found.best(latent) for latent in range(4)]
    assert [None if entry is None else entry["text"] for entry in best] == ["1", "0", "1", None]
