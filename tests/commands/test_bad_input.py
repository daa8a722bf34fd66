"""What a user can mistype: each a clear message, exit status 2, nothing written, and no model loaded for it."""

import json
import sys

import pytest
import torch

import sae
from sae.architectures.relu import ReLUSAE

BOTH = ["sae.expansion=4", "sae.d_sae=64"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        pytest.param(["sae.l1_coeficient=1"], "Did you mean 'sae.l1_coefficient'?", id="misspelt key"),
        pytest.param(["l1_coefficient=1"], "Did you mean 'sae.l1_coefficient'?", id="node left out"),
        pytest.param(["expansion=4"], "Did you mean 'sae.expansion'?", id="node left out of the size"),
        pytest.param(["data.colunm=text"], "data.colunm: there is no such key", id="misspelt key of a source"),
        pytest.param(["+train.extra=1"], "train.extra: there is no such key", id="key added"),
        pytest.param(["modle=minilm"], "modle: there is no such key. Did you mean 'model'?", id="misspelt group"),
        pytest.param(["sae=rleu"], "sae=rleu: there is no such choice; sae is one of relu. Did you mean 'relu'?", id="choice"),
        pytest.param(["model=smolm2"], "model is one of bert-base-uncased", id="misspelt model"),
        pytest.param(["sae=null"], "sae=None: there is no such choice", id="a group that is needed"),
        pytest.param(["~sae"], "~sae: a key cannot be taken away", id="group deleted"),
        pytest.param(["~train.tokens"], "~train.tokens: a key cannot be taken away", id="key deleted"),
        pytest.param(["train.tokens=many"], "train.tokens: expected a whole number, got 'many' (str)", id="text for a number"),
        pytest.param(["train.tokens=1.5"], "train.tokens: expected a whole number, got 1.5 (float)", id="fraction"),
        pytest.param(["train.tokens=true"], "train.tokens: expected a whole number, got True (bool)", id="truth for a number"),
        pytest.param(["train.tokens=null"], "train.tokens: expected a whole number, got None", id="nothing for a number"),
        pytest.param(["sae.tied_init=1"], "sae.tied_init: expected true or false, got 1", id="number for truth"),
        pytest.param(["sae.lr=nan"], "sae.lr: expected a finite number or null, got nan", id="nan"),
        pytest.param(["sae.l1_coefficient=inf"], "sae.l1_coefficient: expected a finite number or null", id="infinity"),
        pytest.param(["sae.l1_weighting=norm"], "expected one of 'none', 'decoder_norm', got 'norm'", id="no such word"),
        pytest.param(["optimizer.betas=[0.9]"], "optimizer.betas: expected a list of 2", id="short list"),
        pytest.param(["optimizer.betas=0.9"], "optimizer.betas: expected a list of 2", id="no list"),
        pytest.param(["logger.names=[wandbb]"], "logger.names: expected a list of", id="no such logger"),
        pytest.param(["seed=x"], "seed: expected a whole number of at least 0, got 'x'", id="seed"),
        pytest.param(["seed=-1"], "seed: expected a whole number of at least 0, got -1", id="negative seed"),
        pytest.param(["dry_run=maybe"], "dry_run: expected true or false, got 'maybe'", id="switch"),
        pytest.param(["train=5"], "train: expected keys and values below it", id="value for a node"),
        pytest.param(["data.source=[1]"], "data.source: expected one of hub", id="list for a source"),
        pytest.param(["train.tokens=100"], "train.tokens=100 is less than one batch", id="less than a batch"),
        pytest.param(["train.batch_tokens=0"], "train.batch_tokens must be at least 1, got 0", id="no batch"),
        pytest.param(["sae.expansion=-1"], "sae.expansion must be above 0, got -1", id="negative size"),
        pytest.param(["sae.expansion=0.01"], "sae.expansion=0.01 gives no latent for 16 dimensions", id="tiny size"),
        pytest.param(["sae.d_sae=1.5"], "sae.d_sae: expected a whole number, got 1.5", id="half a latent"),
        pytest.param(["sae.lr=0"], "sae.lr must be above 0, got 0", id="no rate"),
        pytest.param(["sae.l1_coefficient=-1"], "sae.l1_coefficient must not be negative, got -1", id="negative coefficient"),
        pytest.param(["sae.l1_warmup=2"], "sae.l1_warmup is a fraction of the budget in 0..1, got 2", id="warm-up"),
        pytest.param(["sae.resample_at=[2]"], "sae.resample_at holds fractions of the budget", id="resampling"),
        pytest.param(["schedule.warmup=0.9", "schedule.decay=0.9"], "must be at most 1, got 0.9 + 0.9", id="schedule"),
        pytest.param(["data.context_length=1"], "data.context_length must be at least 2, got 1", id="context"),
        pytest.param(["data.held_out_fraction=0"], "data.held_out_fraction must lie between 0 and 1", id="held-out"),
        pytest.param(["evaluation.rows=1"], "evaluation.rows must be at least 2, got 1", id="evaluation"),
        pytest.param(["activations.max_norm_multiple=0.5"], "activations.max_norm_multiple is a multiple", id="outliers"),
        pytest.param(["checkpoint.keep=0"], "checkpoint.keep must be at least 1, got 0", id="checkpoints"),
        pytest.param(["activations=stored"], "activations=stored needs activations.path=FOLDER", id="store not named"),
        pytest.param(["activations=stored", "activations.path=no/store"], "activations.path=no/store: there is no", id="store"),
        pytest.param(BOTH, "sae.expansion=4 and sae.d_sae=64 are both given", id="two sizes"),
        pytest.param(["sae.expansion=null", "sae.d_sae=null"], "sae.expansion and sae.d_sae are both null", id="no size"),
        pytest.param(["sae.expansion=null"], "sae.expansion and sae.d_sae are both null", id="the size taken away"),
        pytest.param(["train.tokens"], "'train.tokens': expected key=value", id="no value"),
        pytest.param(["train.py"], "'train.py': expected key=value", id="a stray word"),
        pytest.param(["--dry-run"], "'--dry-run': expected key=value", id="a flag of other programs"),
        pytest.param(["sae.resample_at=[0.1"], "'sae.resample_at=[0.1': ", id="open bracket"),
        pytest.param(["sae.lr=1e-3=2"], "A value with special characters needs quotes", id="two equal signs"),
        pytest.param(["sae.l1_coefficient=1,2"], "sae.l1_coefficient: several values are a sweep, which needs -m", id="no -m"),
        pytest.param(["data.path=${nowhere}"], "nowhere", id="interpolation"),
        pytest.param(["hydra/launcher=none"], "none", id="no such launcher"),
        pytest.param(["hook.site=resid_pots"], "hook.site='resid_pots' is unknown: expected one of resid_pre", id="site"),
        pytest.param(["hook.layer=4"], "hook.layer=4: the model has 4 layers, numbered 0 to 3", id="layer"),
        pytest.param(["hook.layer=-1"], "hook.layer=-1: the model has 4 layers", id="negative layer"),
        pytest.param(["hook.layer=two"], "hook.layer: expected a whole number or null, got 'two'", id="layer in words"),
        pytest.param(["hook.site=embeddings", "hook.layer=1"], "hook.layer=1 has no meaning beside hook.site=embe", id="embed"),
        pytest.param(["hook.module=blocks.9.hook_resid_post"], "the model has 4 layers, numbered 0 to 3", id="alias"),
        pytest.param(["hook.module=model.norm", "hook.tensor=inptu"], "hook.tensor='inptu' is unknown", id="side"),
        pytest.param(["model.path=no/model"], "model.path=no/model is not a folder", id="no model"),
        pytest.param(["model.path=null"], "model=local needs the folder of the model: model.path=DIR", id="model not named"),
        pytest.param(["model.source=hug"], "model.source='hug' is unknown: expected packaged, local or hub", id="source"),
        pytest.param(["data.path=no/text.txt"], "`data.path` is 'no/text.txt'. Nothing is there", id="no text"),
        pytest.param(["data.path=null"], "`data.path` must be given", id="text not named"),
        pytest.param(["trainer.device=tpu"], "trainer.device: expected one of 'auto', 'cpu', 'cuda', 'mps'", id="device"),
        pytest.param(["trainer.precision=16"], "trainer.precision: expected one of '32', 'bf16', got '16'", id="precision"),
        pytest.param(["run.if_exists=replace"], "run.if_exists: expected one of 'error', 'resume', 'over", id="if_exists"),
        pytest.param(["run.name=a/b"], "run.name='a/b' must be the name of one folder", id="name with a slash"),
        pytest.param(["run.name=.."], "run.name='..' must be the name of one folder", id="name of a parent"),
        pytest.param(["init_from=no/sae"], "there is no folder no/sae", id="nothing to start from"),
        pytest.param(["init_from=5"], "there is no folder 5", id="number for a path"),
        pytest.param(["resume=no/run"], "no/run is no run's folder: there is no config.yaml in it", id="nothing to resume"),
    ],
)
def test_a_mistake_is_named(typed, said, job, refused):
    assert said in refused(job(*typed))


def test_mistakes_are_told_all_at_once(job, refused):
    """Names, grammar, types, ranges, sizes, hook points and files in one go, each once, with the nearest key."""
    typed = ["sae.l1_coeficient=1", "train.batch_tokens=two", "sae.lr=-1", *BOTH, "hook.layer=99", "data.path=no.txt", "oops"]
    said = refused(job(*typed))
    assert said.startswith("8 mistakes:\n")
    for part in (
        "Did you mean 'sae.l1_coefficient'?",
        "train.batch_tokens: expected a whole number, got 'two'",
        "sae.lr must be above 0",
        "sae.expansion=4 and sae.d_sae=64 are both given",
        "hook.layer=99",
        "'no.txt'",
        "'oops': expected key=value",
    ):
        assert said.count(part) == 1
    assert len(said.splitlines()) == 9
