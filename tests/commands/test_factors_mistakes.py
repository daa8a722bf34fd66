"""`scripts/factors.py`: what is wrong is told in words, as early as it shows, and nothing is left or changed."""

import shutil

import pytest

from sae.commands.factors import main
from tests.commands.conftest import snapshot
from tests.commands.test_factors import finished, job, run_folder  # noqa: F401


@pytest.fixture
def no_model(monkeypatch):
    """Loading a model fails the test."""
    monkeypatch.setattr("sae.commands.origin.load_model", lambda **_: pytest.fail("a model was loaded"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["factors.d_sea=3"], "factors.d_sea: there is no such key. Did you mean 'factors.d_sae'?"),
        (["l1_coefficient=3"], "Did you mean 'factors.l1_coefficient'?"),
        (["pages.wrods=[a]"], "Did you mean 'pages.words'?"),
        (["factors.update=newton"], "factors.update: expected one of 'online', 'diagonal_hessian', got 'newton'"),
        (["factors.l1_coefficient=0"], "factors.l1_coefficient must be above 0, got 0"),
        (["factors.tokens=10"], "factors.tokens=10 is less than one batch (factors.batch_tokens=256)"),
        (["factors.d_sae=300"], "factors.start=rows takes 300 different rows of the first batch"),
        (["factors.tolerance=null"], "factors: method=working_sets stops by the duality gap"),
        (["factors.sweeps=0"], "factors: forgetting=10.0, sweeps=0"),
        (["hook.mix=false"], "hook.mix=false: factors are of a dictionary over several layers"),
        (["hook.layers=[1,9]"], "hook.layers=[1, 9]: the model has 4 layers, numbered 0 to 3"),
        (["hook.layers=[1,1]"], "expected different layers"),
        (["hook.layers=[2]"], "is one layer: name several"),
        (["pages.shard=5/4"], "pages.shard=5/4: expected a part"),
        (["pages.importance_top=0"], "pages.importance_top must be at least 1, got 0"),
        (["port=70000"], "port must lie between 0 and 65535"),
        (["sae=relu"], "sae: there is no such key"),
        (["pages.words=[w3,'']"], "pages.words[1]: The word has 0 characters"),
        (["pages.lime_factors=[48]"], "pages.lime_factors=[48]: the dictionary has 48 factors"),
        (
            ["factors.d_sae=5000"],
            "factors.d_sae=5000, and there are factors.tokens=4096 rows: each factor could be one of them",
        ),
        (["out=."], "is no dashboard's folder: choose another place with out="),
        (["trainer.device=mps"], "trainer.device='mps' cannot be taken"),
        (["out=/proc/x/y"], "/proc/x/y cannot be made: "),
        (["run.folder=/proc/x"], "/proc/x/tiny cannot be made: "),
    ],
)
@pytest.mark.usefixtures("no_model")
def test_mistakes_are_told_before_a_model_is_loaded(changes, said, job, tmp_path, capsys):  # noqa: F811
    assert main(job(*changes)) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["hook.module=model.layers.*.mlp.*_proj", "hook.site=null"], "Layers of different widths cannot be mixed"),
        (["factors.l1_coefficient=1000"], r"kills every code: density 0 on the first 256 rows. Their largest fit"),
        (
            ["factors.d_sae=20000", "factors.start=normal", "factors.tokens=40000"],
            "d_sae=20000, and there are 14",  # thousand rows of the text, again and again
        ),
        (["pages.texts=['']"], "pages.texts[0]: "),
        (["pages.texts=['" + "w1 " * 9000 + "']"], "pages.texts[0]: The text has 27,000 characters"),
        (["factors.tokens=10000000", "data.repeat=false"], "factors.tokens=10000000 is more than the text has"),
    ],
)
def test_mistakes_that_only_the_model_tells_leave_nothing_either(changes, said, job, tmp_path, capsys):  # noqa: F811
    assert main(job(*changes)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_piece_of_the_text_that_is_smaller_than_the_dictionary_refuses_no_coefficient(job, tmp_path, capsys):  # noqa: F811
    """The atoms of the fit are rows, which fit themselves: no random direction reaches so large a coefficient."""
    changes = ["factors.d_sae=200", "factors.batch_tokens=512", "activations.forward_blocks=1", "dry_run=true"]
    assert main(job(*changes, "factors.l1_coefficient=4")) == 0
    assert "200 factors of 16 dimensions" in capsys.readouterr().err
    assert main(job(*changes, "factors.l1_coefficient=4", "factors.start=normal")) == 2
    assert "kills every code" in capsys.readouterr().err


def test_fewer_factors_than_dimensions_are_told_of(job, capsys):  # noqa: F811
    assert main(job("factors.d_sae=12", "dry_run=true")) == 0
    assert "12 factors of 16 dimensions, fewer than dimensions" in capsys.readouterr().err


def test_a_disk_without_room_is_told_before(job, run_folder, monkeypatch, capsys):  # noqa: F811
    usage = shutil.disk_usage(run_folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    before = snapshot(run_folder)
    assert main(job("run.name=other")) == 2
    assert "the run takes about" in capsys.readouterr().err
    assert not (run_folder.parent / "other").exists()
    assert main([f"from={run_folder}", "pages.saliency=none"]) == 2
    assert "the dashboard takes about" in capsys.readouterr().err
    assert snapshot(run_folder) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["hook.layers=[2,7]"], "hook.layers=[2, 7]: the model has 4 layers"),
        (
            ["hook.site=resid_post"],
            "there is no layer 'layers.0.resid_post': the dictionary was trained on layers.0.resid_pre",
        ),
        (["hook.layer=2"], "these pages are of several layers: name them by hook.layers="),
        (["pages.lime_factors=[3,48]"], "pages.lime_factors=[48]: the dictionary has 48 factors"),
        (["pages.words=['']"], "pages.words[0]: The word has 0 characters"),
        (["pages.wrods=[a]"], "Did you mean 'pages.words'?"),
        (["out=."], "is no dashboard's folder: choose another place with out="),
        (["out=/proc/x/y"], "/proc/x/y cannot be made: "),
    ],
)
@pytest.mark.usefixtures("no_model")
def test_mistakes_about_a_dictionary_that_is_there_need_no_model(changes, said, run_folder, capsys):  # noqa: F811
    before = snapshot(run_folder)
    assert main([f"from={run_folder}", *changes]) == 2
    assert said in capsys.readouterr().err
    assert snapshot(run_folder) == before


@pytest.mark.usefixtures("no_model")
def test_a_model_of_another_width_is_refused(run_folder, other_decoder, capsys):  # noqa: F811
    assert main([f"from={run_folder}", "model=local", f"model.path={other_decoder}"]) == 2
    assert "the dictionary reads 16 dimensions, the layers of this model have 24" in capsys.readouterr().err


def test_layers_that_only_the_model_names_and_texts_are_refused_too(run_folder, capsys):  # noqa: F811
    before = snapshot(run_folder)
    for changes, said in (
        (
            ["hook.module=model.layers.*.mlp", "hook.site=null", "hook.mix=true"],
            "there is no layer 'model.layers.0.mlp.output'",
        ),
        (['pages.texts=[""]'], "pages.texts[0]: "),
    ):
        assert main([f"from={run_folder}", *changes]) == 2
        assert said in capsys.readouterr().err
    assert snapshot(run_folder) == before


def test_an_sae_of_one_place_has_no_factors(finished_run, capsys):
    assert main([f"from={finished_run}"]) == 2
    said = capsys.readouterr().err
    assert "reads one place" in said
    assert f"python scripts/dashboard.py from={finished_run}" in said
