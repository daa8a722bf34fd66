from sae.formats.model_card import model_card

CFG = {
    "format_version": 1,
    "architecture": "relu",
    "config": {"d_in": 5, "d_sae": 13},
    "d_in": 5,
    "d_sae": 13,
    "dtype": "float32",
    "text": {"name": "encyclopedia", "licence": "CC BY-SA"},
    "metrics": {"fvu": 0.123456789, "l0": 52.0, "kl": None},
}


def test_card_says_what_a_reader_asks():
    card = model_card(CFG)
    assert card.startswith("---\nlibrary_name: sae\n")
    assert "# relu sparse autoencoder, 5 -&gt; 13" in card
    assert "raw activations [rows, 5] -> [rows, 13]" in card
    assert "| fvu | 0.123457 |" in card
    assert "| kl | none |" in card
    assert "| config.d\\_sae | 13 |" in card
    assert card.index("Numbers on held-out text") < card.index("## Text") < card.index("## File")
    assert "## Model" not in card, "no heading over nothing"


def test_foreign_text_cannot_break_the_page():
    card = model_card({**CFG, "text": {"na|me": "a | b\n# heading <script>alert(1)</script> `x` [l](javascript:1) & c"}})
    (line,) = [line for line in card.splitlines() if "script" in line]
    assert line.startswith("| na\\|me | a \\| b # heading &lt;script&gt;")
    assert "<script>" not in card
    assert "\\[l\\](javascript:1) &amp; c |" in line
    assert "\\`x\\`" in line


def test_a_section_may_be_a_plain_value():
    assert "| | 0.25 |" in model_card({**CFG, "scale": 0.25}).replace("|  |", "| |")
