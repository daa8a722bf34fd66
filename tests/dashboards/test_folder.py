"""The folder: whole or as it was, whatever interrupts, and read back as it was written."""

from pathlib import Path

import pytest

from sae.dashboards.pages.folder import Dashboard, new_pages, replaced
from sae.errors import UserError

FILES = [
    ("latents/0", {"first": 0, "strings": [], "latents": []}),
    ("latents/1", {"first": 2, "strings": [], "latents": []}),
    ("index/0", {"first": 0, "columns": {}, "strings": [], "explanations": {}}),
    ("manifest", {"num_latents": 3, "latents_size": 2, "index_size": 8}),
]


def write_pages(folder, files, beside):
    with new_pages(folder, beside=beside) as pages:
        for key, payload in files:
            pages.put(key, payload)
    return pages.size


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def dashboard(tmp_path):
    folder = tmp_path / "dashboard"
    size = write_pages(folder, FILES, beside={"index.html": b"<!doctype html>", "app.js": b"1"})
    assert size == sum(len(found) for name, found in content(folder).items() if name.startswith("data/"))
    return folder


def test_what_was_written_is_read(dashboard):
    found = Dashboard(dashboard)
    assert found.manifest == FILES[3][1]
    assert list(found.latent_shards()) == [FILES[0][1], FILES[1][1]]
    assert list(found.index_shards()) == [FILES[2][1]]
    assert set(content(dashboard)) == {"index.html", "app.js", *(f"data/{key}.js" for key, _ in FILES)}


def test_written_again_it_is_the_same_to_the_byte_and_nothing_old_stays(dashboard):
    before = content(dashboard)
    write_pages(dashboard, [*FILES, ("texts/0", {})], beside={})
    assert "data/texts/0.js" in content(dashboard)
    write_pages(dashboard, FILES, beside={})
    assert content(dashboard) == before
    assert not [path for path in dashboard.iterdir() if path.name.startswith(".")]


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("at", range(len(FILES) + 1))
def test_old_pages_stay_when_writing_new_ones_is_stopped(dashboard, at):
    before = content(dashboard)

    def files():
        for number, (key, payload) in enumerate(FILES):
            if number == at:
                raise Stopped
            yield key, payload | {"first": 99}
        raise Stopped

    with pytest.raises(Stopped):
        write_pages(dashboard, files(), beside={"app.js": b"2"})
    assert content(dashboard) == before


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_dies_between_renames_loses_nothing(dashboard, number, monkeypatch):
    before, rename, calls = content(dashboard), Path.rename, []

    def dies(self, target):
        calls.append(self)
        if len(calls) == number + 1:
            raise Stopped
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", dies)
    with pytest.raises(Stopped):
        write_pages(dashboard, FILES[:3], beside={})
    monkeypatch.undo()
    assert Dashboard(dashboard).manifest == FILES[3][1]  # puts the old pages back
    assert {name: found for name, found in content(dashboard).items() if name in before} == before
    write_pages(dashboard, FILES, beside={})
    assert content(dashboard) == before


def test_a_writer_puts_them_back_before_it_begins(dashboard):
    before = content(dashboard)
    (dashboard / "data").rename(dashboard / ".data.old")  # a process died here

    def files():
        yield FILES[0]
        raise Stopped

    with pytest.raises(Stopped):
        write_pages(dashboard, files(), beside={})
    assert content(dashboard) == before


def test_what_a_killed_process_left_aside_is_cleared(tmp_path):
    left = tmp_path / ".data.new" / "junk"
    left.parent.mkdir()
    left.touch()
    with replaced(tmp_path / "data") as aside:
        (aside / "a").touch()
    assert set(content(tmp_path)) == {"data/a"}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "data/manifest.js").unlink(), "manifest.js is missing"),
        (lambda folder: (folder / "data/manifest.js").write_bytes(b"x"), "damaged"),
        (
            lambda folder: (folder / "data/index/0.js").replace(folder / "data/manifest.js"),
            "holds 'index/0', expected 'manifest'",
        ),
    ],
)
def test_damage_is_told(dashboard, damage, said):
    damage(dashboard)
    with pytest.raises(UserError, match=said):
        Dashboard(dashboard)


def test_a_file_may_be_read_and_written_anew_before_the_end(tmp_path):
    with new_pages(tmp_path, beside={}) as pages:
        pages.put("latents/0", {"first": "long" * 100})
        pages.put("latents/0", pages.get("latents/0") | {"first": 5})
        with pytest.raises(UserError, match="is missing"):
            pages.get("latents/1")
    (path,) = (tmp_path / "data").rglob("*.js")
    assert pages.size == path.stat().st_size
