"""The comparison of runs and its picture."""

import xml.etree.ElementTree as ET

import pytest

from sae.dashboards.comparison import render_comparison, write_frontier_svg
from sae.dashboards.definitions import NUMBERS
from tests.dashboards.pages import assert_harmless

RUNS = [
    {"run": "a", "group": "layer 4", "l0": 60.0, "fvu": 0.3, "ce_increase": 0.2, "sae.l1_coefficient": 0.1},
    {"run": "b", "group": "layer 4", "l0": 30.0, "fvu": 0.4, "ce_increase": 0.3, "sae.l1_coefficient": 0.2},
    {"run": "c", "group": "layer 8", "l0": 45.0, "fvu": 0.35, "ce_increase": None, "sae.l1_coefficient": 0.1},
    {"run": "failed", "group": "layer 8", "l0": None, "fvu": None, "sae.l1_coefficient": 9.0},
]


def test_every_run_is_in_the_table_and_every_result_a_point():
    page = assert_harmless(render_comparison(RUNS, title="sweep"))
    titles = [word for word in page.words if ": L0 " in word]
    assert [word for word in titles if "FVU" in word] == [
        "layer 4: L0 30, FVU 0.4",
        "layer 4: L0 60, FVU 0.3",
        "layer 8: L0 45, FVU 0.35",
    ]
    assert len([word for word in titles if "Cross-entropy" in word]) == 2
    assert len(page.all("circle")) == 5
    assert "failed" in page.text
    assert "sae.l1_coefficient" in page.text


def test_no_results_still_make_a_page():
    page = assert_harmless(render_comparison([RUNS[-1]]))
    assert page.all("circle") == []


def test_hostile_names_stay_text():
    hostile = "</title><script>alert(1)</script>\"'"
    runs = [{**RUNS[0], "run": hostile, "group": hostile, hostile: hostile}, {**RUNS[1], "group": "x"}]
    page = assert_harmless(render_comparison(runs, title=hostile))
    assert page.text.count("alert(1)") >= 5


def test_the_picture_is_an_svg_that_stands_alone(tmp_path):
    path = tmp_path / "new" / "frontier.svg"
    write_frontier_svg(path, [*RUNS, {**RUNS[0], "group": "<&>"}])
    tree = ET.parse(path).getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert tree.tag == f"{space}svg"
    assert len(tree.findall(f".//{space}circle/{space}title")) == 4
    assert "layer 8" in [text.text for text in tree.iter(f"{space}text")]
    style = tree.findtext(f"{space}style")
    assert "--s0:" in style
    assert "prefers-color-scheme: dark" in style
    assert ".dot" in style
    assert style.count("{") == style.count("}")


def test_the_names_stand_beside_the_plot_whatever_the_lines_do(tmp_path):
    """Long names, and more of them than the plot is high: each inside the picture, none on a line or another name."""
    groups = ["a" * 30, *(f"group {number}" for number in range(14))]
    rising = [{"group": group, "l0": l0, "fvu": 0.1 + l0 / 1000} for group in groups for l0 in (10, 900)]
    path = tmp_path / "frontier.svg"
    write_frontier_svg(path, rising)
    tree, space = ET.parse(path).getroot(), "{http://www.w3.org/2000/svg}"
    _, _, width, height = map(float, tree.attrib["viewBox"].split())
    points = [float(dot.attrib["cx"]) for dot in tree.iter(f"{space}circle") if dot.find(f"{space}title") is not None]
    names = {text.text: text for text in tree.iter(f"{space}text") if text.text in groups}
    assert len(names) == len(groups)
    assert len({text.attrib["y"] for text in names.values()}) == len(groups)
    for name, text in names.items():
        left = float(text.attrib["x"])
        assert text.attrib["text-anchor"] == "start"
        assert max(points) < left - 15
        assert left + 6 * len(name) < width
        assert float(text.attrib["y"]) < height
    assert float(tree.attrib["width"]) / float(tree.attrib["height"]) == pytest.approx(width / height, rel=0.01)


def test_the_picture_may_be_of_cross_entropies(tmp_path):
    path = tmp_path / "frontier.svg"
    write_frontier_svg(
        path, [{"group": "a", "l0": l0, "fvu": 0.5, "ce_increase": ce} for l0, ce in ((8, 2.0), (16, 1.0))], "ce_increase"
    )
    text, label = path.read_text(), NUMBERS["ce_increase"].label
    assert f"L0 against {label}" in text
    tree, space = ET.parse(path).getroot(), "{http://www.w3.org/2000/svg}"
    heights = [float(dot.attrib["cy"]) for dot in tree.iter(f"{space}circle") if dot.find(f"{space}title") is not None]
    assert len(set(heights)) == 2


@pytest.mark.parametrize("number", ["fvu", "ce_increase"])
def test_nothing_to_draw_is_an_error(number, tmp_path):
    with pytest.raises(ValueError, match=f"both `l0` and `{number}`"):
        write_frontier_svg(tmp_path / "x.svg", [RUNS[-1]], number)
