"""Reads a page as a browser would, to judge it: elements, attributes, text, and whether tags close."""

from html.parser import HTMLParser

VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.words, self.scripts, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def assert_harmless(text):
    """One script, ours; no handler, no address, nothing that would leave the page."""
    page = Page(text)
    from sae.dashboards.theme import SCRIPT

    assert page.scripts == [SCRIPT]
    for tag, attributes in page.elements:
        assert tag not in {"iframe", "object", "embed", "link", "img", "base", "form", "a"}
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "href", "srcset", "action"}]
    assert "url(" not in text
    assert "@import" not in text
    return page
