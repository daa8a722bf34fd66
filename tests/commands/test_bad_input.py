"""What a user can mistype: each a clear message, exit status 2, nothing written, and no model loaded for it."""

import json
import shutil
from pathlib import Path

import datasets
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

import sae
from sae.architectures.relu import ReLUSAE

BOTH = ["sae.expansion=4", "sae.d_sae=64"]
TRANSCODER = ["sae=transcoder", "sae.k=4"]
CROSS_LAYER = ["sae=cross_layer_transcoder", "sae.k=4"]
END_TO_END = ["sae.kl_coefficient=1", "sae.downstream_coefficient=1", "sae.resample_at=[]"]
SHRINKING = ["sae=gated", "sae.l1_weighting=decoder_norm", "sae.unit_norm_decoder=false"]
BY_ROW = ["sae.scaling=layer_norm", "sae.centring=none"]
MIX = ["hook.mix=true", "hook.layers=[0,2]"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        pytest.param(["sae.l1_coeficient=1"], "Did you mean 'sae.l1_coefficient'?", id="misspelt key"),
        pytest.param(["l1_coefficient=1"], "Did you mean 'sae.l1_coefficient'?", id="node left out"),
        pytest.param(["warmup=0.1"], "warmup: there is no such key. Did you mean 'schedule.warmup'?", id="same end"),
        pytest.param(["expansion=4"], "Did you mean 'sae.expansion'?", id="node left out of the size"),
        pytest.param(["data.colunm=text"], "data.colunm: there is no such key", id="misspelt key of a source"),
        pytest.param(["+train.extra=1"], "train.extra: there is no such key", id="key added"),
        pytest.param(["modle=minilm"], "modle: there is no such key. Did you mean 'model'?", id="misspelt group"),
        pytest.param(["sae=rleu"], "Did you mean 'relu'?", id="choice"),
        pytest.param(["model=smolm2"], "model is one of bert-base-uncased", id="misspelt model"),
        pytest.param(["sae=sparse_coding"], "trained by gradient: python scripts/factors.py", id="fitted by another command"),
        pytest.param(["sae=null"], "sae=None: there is no such choice", id="a group that is needed"),
        pytest.param(["~sae"], "~sae: a key cannot be taken away", id="group deleted"),
        pytest.param(["~train.tokens"], "~train.tokens: a key cannot be taken away", id="key deleted"),
        pytest.param(["train.tokens=many"], "train.tokens: expected a whole number, got 'many' (str)", id="text for a number"),
        pytest.param(["train.tokens=1.5"], "train.tokens: expected a whole number, got 1.5 (float)", id="fraction"),
        pytest.param(["train.tokens=true"], "train.tokens: expected a whole number, got True (bool)", id="truth for a number"),
        pytest.param(["train.tokens=null"], "train.tokens: expected a whole number, got None", id="nothing for a number"),
        pytest.param(["sae.tied_init=1"], "sae.tied_init: expected true or false, got 1", id="number for truth"),
        pytest.param(["sae.lr=nan"], "sae.lr: expected a finite number or null, got nan", id="nan"),
        pytest.param(
            ["sae.l1_coefficient=inf"], "sae.l1_coefficient: expected a finite number or NUMBER/d_in or null", id="infinity"
        ),
        pytest.param(["sae.l1_weighting=norm"], "'frozen_decoder_norm', 'part_norms', got 'norm'", id="no such word"),
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
        pytest.param(
            ["trainer.precision=16"], "trainer.precision: expected one of '32', 'tf32', 'bf16', got '16'", id="precision"
        ),
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


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        pytest.param(["sae=topk", "sae.k=0"], "sae.k must lie in 1..d_sae=32, got 0", id="no latent"),
        pytest.param(["sae=topk", "sae.k=33"], "sae.k must lie in 1..d_sae=32, got 33", id="more than there are"),
        pytest.param(["sae=batch_topk", "sae.k=0"], "sae.k must lie in 1..d_sae=32, got 0", id="no latent of a batch"),
        pytest.param(["sae=transcoder", "sae.k=33"], "sae.k must lie in 1..d_sae=32, got 33", id="k of a transcoder"),
        pytest.param(["sae=matching_pursuit", "sae.k=0"], "sae.k must lie in 1..d_sae=32, got 0", id="no round"),
        pytest.param(["sae=matching_pursuit", "sae.k=33"], "sae.k must lie in 1..d_sae=32, got 33", id="too many rounds"),
        pytest.param(["sae=jumprelu"], "sae.l0_target=64 is more than sae.d_sae=32 latents", id="a target above all"),
        pytest.param(["sae=topk", "sae.k=4", "sae.k_anneal_from=33"], "sae.k_anneal_from=33", id="annealing"),
        pytest.param(["sae=relu", "sae.k_anneal=0.5"], "sae.k_anneal=0.5 has no meaning", id="annealing of nothing"),
        pytest.param(
            ["sae=matryoshka", "sae.k=4", "sae.group_fractions=null", "sae.group_sizes=[8,8]"],
            "sae.group_sizes must sum to sae.d_sae=32, got [8, 8], which sum to 16",
            id="groups",
        ),
        pytest.param(
            ["sae=matryoshka", "sae.k=4", "sae.group_fractions=[0.5,0.6]"],
            "sae.group_fractions must be positive",
            id="shares",
        ),
        pytest.param(["sae=jumprelu", "sae.threshold_start=0"], "sae.threshold_start must be positive", id="threshold"),
        pytest.param(["sae=jumprelu", "sae.bandwidth=-1"], "sae.bandwidth must be positive", id="kernel"),
        pytest.param([*TRANSCODER, "sae.threshold_start=1"], "sae.threshold_start=1", id="threshold of topk"),
        pytest.param(["sae=transcoder", "sae.activation=relu"], "sae.k=64 has no meaning", id="k of relu"),
        pytest.param(
            [*TRANSCODER, *BY_ROW],
            "sae.scaling=layer_norm is not",
            id="norm",
        ),
        pytest.param(["sae=crosscoder", *BY_ROW], "sae.scaling=layer_norm is not", id="norms"),
        pytest.param(["sae=transcoder", "sae.apply_b_dec_to_input=true"], "sae.apply_b_dec_to_input: there is no", id="bias"),
        pytest.param(["sae=relu", "sae.l1_weighting=part_norms"], "sae.l1_weighting=part_norms needs a crosscoder", id="parts"),
        pytest.param(["sae=relu", "sae.nested_coefficient=1"], "sae.nested_coefficient needs", id="groups of none"),
        pytest.param(["sae=relu", "sae.multi_topk_coefficient=1"], "sae.multi_topk_coefficient needs", id="k of none"),
        pytest.param(["sae=relu", "sae.l0_coefficient=1"], "sae.l0_coefficient needs learnt thresholds", id="l0"),
        pytest.param(
            ["sae=relu", "sae.gate_coefficient=1"], "sae.gate_coefficient needs an architecture with a gate", id="gate"
        ),
        pytest.param(["sae=relu", "sae.lp_coefficient=1", "sae.lp_p=2"], "sae.lp_p must lie above 0", id="a term's range"),
        pytest.param(["sae=crosscoder", "sae.kl_coefficient=1"], "sae.kl_coefficient", id="downstream of many"),
        pytest.param(
            [*END_TO_END, *BY_ROW], "sae.scaling=layer_norm with sae.kl_coefficient or sae.downstream_coeff", id="no way back"
        ),
        pytest.param([*END_TO_END, "hook.layer=3"], "the hook point is the last block's output", id="no later block"),
        pytest.param([*END_TO_END, "hook.module=blocks.3.hook_resid_post"], "the last block's output", id="by an alias"),
        pytest.param([*END_TO_END, "hook.module=model.layers.1.mlp"], "hook.module names a place", id="blocks not known"),
        pytest.param(["sae.mse_coefficient=null"], "nothing asks for a reconstruction: set one of sae.mse_", id="no error"),
        pytest.param(["sae.mse_coefficient=0"], "nothing asks for a reconstruction", id="no weight of the error"),
        pytest.param(["sae.l0_target=null"], "nothing makes latents few: set one of sae.l1_coeff", id="no penalty"),
        pytest.param(["sae.l1_coefficient=0"], "nothing makes latents few", id="no weight of the penalty"),
        pytest.param(
            ["sae=transcoder", "sae.activation=relu", "sae.k=null"],
            "or choose by number (sae.activation=topk",
            id="many",
        ),
        pytest.param(
            ["sae=jumprelu", "sae.l0_coefficient=null"],
            "nothing makes latents few: set one of sae.l0_coefficient, sae.l1_coefficient",
            id="no aim",
        ),
        pytest.param(["sae.l0_target=33"], "sae.l0_target=33 is more than sae.d_sae=32 latents", id="steered above all"),
        pytest.param(["sae.l0_target=0"], "sae.l0_target must be positive and finite, or null, got 0", id="steered to none"),
        pytest.param(["sae.l0_target=many"], "sae.l0_target: expected a finite number or null, got 'many'", id="target"),
        pytest.param(
            ["sae=topk", "sae.k=4", "sae.l0_target=4"], "sae.k=4 fixes how many latents topk keeps", id="steering a k"
        ),
        pytest.param(
            ["sae=crosscoder", "sae.activation=batch_topk", "sae.k=4", "sae.l0_target=4"],
            "sae.k=4 fixes how many latents crosscoder keeps. Set sae.k to the L0 that is wanted, and sae.l0_target=null",
            id="steering a chosen k",
        ),
        pytest.param(
            ["sae.l1_coefficient=0", "sae.l0_target=4"],
            "sae.l0_target=4 steers nothing: no penalty is on. Set one of sae.l1_coefficient, sae.lp_coefficient, sae.tanh_c",
            id="steering nothing",
        ),
        pytest.param(["sae=gated", "sae.gate_coefficient=null"], "sae.gate_coefficient=None: the gate learns", id="no gate"),
        pytest.param([*SHRINKING], "could shrink the gate's penalty", id="a penalty that shrinks"),
        pytest.param(["sae.lp_p=2"], "sae.lp_p=2: the term `lp` is off", id="a key of a term that is off"),
        pytest.param(["sae.tanh_warmup=0.1"], "Give sae.tanh_coefficient too, or leave this out", id="a warm-up of nothing"),
        pytest.param(
            ["sae.mse_coefficient=null", "sae.kl_coefficient=1", "sae.resample_at=[]", "sae.mse_reduction=mean"],
            "sae.mse_reduction=mean: no squared error is on",
            id="an error off",
        ),
        pytest.param(
            ["sae=topk", "sae.k=4", "sae.multi_topk_coefficient=1", "sae.multi_topk_multiple=2", "sae.k_anneal=0.5"],
            "sae.k_anneal=0.5 from sae.k=16 with sae.multi_topk_coefficient: it reconstructs from sae.multi_topk_multiple * "
            "sae.k = 8 latents",
            id="annealed from more than multi_topk has",
        ),
        pytest.param(["hook.layers=[0,1]"], "hook.layers=[0, 1]: relu reads one place", id="layers of one"),
        pytest.param(["sae=crosscoder", "hook.layers=[1]"], "a crosscoder reads at least two", id="crosscoder of one"),
        pytest.param(["sae=crosscoder", "hook.layer=3"], "hook.layer=3: no block is left after it", id="crosscoder at the end"),
        pytest.param(["sae=crosscoder", "hook.layers=[1,1]"], "expected different layers", id="a layer twice"),
        pytest.param(["sae=crosscoder", "hook.layers=[1,4]"], "hook.layers=[1, 4]: the model has 4 layers", id="no such layer"),
        pytest.param(["sae=crosscoder", "hook.layers=[1,2]", "hook.layer=1"], "are both given", id="layer and layers"),
        pytest.param(["sae=crosscoder", "hook.site=embeddings"], "hook.site=embeddings is one place", id="a table"),
        pytest.param([*CROSS_LAYER, "hook.layers=[]"], "expected different layers, at least one", id="no layer"),
        pytest.param([*CROSS_LAYER, "hook.layers=[1,1]"], "expected different layers", id="a layer twice, each predicted"),
        pytest.param([*CROSS_LAYER, "hook.layers=[1,4]"], "the model has 4 layers", id="no such layer to predict"),
        pytest.param(
            [*CROSS_LAYER, "hook.target_layer=2"],
            "hook.target_layer=2: cross_layer_transcoder predicts one activation of each block that it reads",
            id="one target of several layers",
        ),
        pytest.param(
            [*CROSS_LAYER, "hook.module=model.layers.*.mlp"], "hook.module=model.layers.*.mlp: cross_layer", id="modules"
        ),
        pytest.param(
            [*CROSS_LAYER, "hook.target_module=model.layers.1.mlp"], "hook.target_module=model.layers.1", id="target module"
        ),
        pytest.param([*CROSS_LAYER, "hook.site=embeddings"], "hook.site=embeddings: cross_layer_transcoder", id="no blocks"),
        pytest.param([*CROSS_LAYER, "hook.target_site=mlp"], "hook.target_site='mlp' is unknown", id="target site of layers"),
        pytest.param(
            [*CROSS_LAYER, "hook.layers=[0,1,2]", "sae.expansion=null", "sae.d_sae=32"],
            "each of 3 layers has as many latents, and sae.d_sae=32 is no multiple of 3: take 30 or 33",
            id="latents of layers",
        ),
        pytest.param(
            [*CROSS_LAYER, "sae.tied_init=true"], "sae.tied_init=true: latents of cross_layer_transcoder", id="tied layers"
        ),
        pytest.param([*CROSS_LAYER, "hook.mix=true"], "predicts another activation than it reads", id="mixed pairs"),
        pytest.param([*CROSS_LAYER, "sae.kl_coefficient=1"], "reconstructs several", id="downstream of layers"),
        pytest.param(
            [*CROSS_LAYER, "hook.layers=[0,1]", "evaluation.ce_every_tokens=512"],
            "cross_layer_transcoder reconstructs several activations",
            id="cross-entropies of layers while training",
        ),
        pytest.param(["hook.mix=true", "hook.layers=[1]"], "hook.layers=[1] is one layer: name several", id="a mix of one"),
        pytest.param(["hook.mix=true", "hook.layer=1"], "hook.layer=1 is one layer: name several", id="a mix of a layer"),
        pytest.param(["hook.mix=true", "hook.layers=[2,2]"], "expected different layers", id="a layer mixed with itself"),
        pytest.param(
            ["hook.mix=true", "hook.site=embeddings"], "hook.site=embeddings is one place: name", id="a mix of a table"
        ),
        pytest.param(
            [*MIX, "sae=crosscoder"], "crosscoder reads its layers side by side: set hook.mix=false", id="side by side"
        ),
        pytest.param(
            [*TRANSCODER, "hook.mix=true"], "transcoder predicts another activation than it reads", id="a mix with a target"
        ),
        pytest.param(
            [*MIX, "evaluation.ce_every_tokens=512"],
            "evaluation.ce_every_tokens=512: cross-entropies of mixed layers are measured at the end alone",
            id="splicing a mix",
        ),
        pytest.param(
            ["sae=crosscoder", "hook.layers=[0,1]", "evaluation.ce_every_tokens=512"],
            "evaluation.ce_every_tokens=512: crosscoder reconstructs several activations, whose cross-entropies are",
            id="splicing several places",
        ),
        pytest.param(
            ["evaluation.ce_tokens=0", "evaluation.ce_every_tokens=512"],
            "evaluation.ce_every_tokens=512: evaluation.ce_tokens=0 asks for no cross-entropies. Set it to null",
            id="splicing nothing",
        ),
        pytest.param(["hook.layer_units=both"], "hook.layer_units=both is for mixed layers", id="units of no mix"),
        pytest.param([*MIX, "hook.layer_units=all"], "hook.layer_units: expected one of 'none', 'scale'", id="no such units"),
        pytest.param(
            [*MIX, *BY_ROW, "hook.layer_units=scale"],
            "from which hook.layer_units=scale cannot be taken back",
            id="units, rows",
        ),
        pytest.param([*MIX, *END_TO_END], "go on from one place, and hook.mix=true mixes several", id="downstream of a mix"),
        pytest.param(["hook.target_site=mlp_out"], "hook.target_site=mlp_out: relu reconstructs what it reads", id="target"),
        pytest.param([*TRANSCODER, "hook.target_site=mlp"], "hook.target_site='mlp' is unknown", id="target site"),
        pytest.param([*TRANSCODER, "hook.target_layer=9"], "hook.target_layer=9: the model has", id="target layer"),
        pytest.param([*TRANSCODER, "hook.site=embeddings"], "name it by hook.target_module=", id="no block"),
        pytest.param(["other_model.path=x"], "model@other_model=", id="no second model"),
    ],
)
def test_settings_that_do_not_go_together_are_named(typed, said, job, refused):
    assert said in refused(job(*typed))


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param([*SHRINKING, "sae.gate_through_decoder=true"], id="through the decoder"),
        pytest.param([*SHRINKING[:1], "sae.l1_weighting=frozen_decoder_norm", "sae.unit_norm_decoder=false"], id="frozen"),
        pytest.param(["sae.l1_coefficient=null", "sae.lp_coefficient=1", "sae.lp_p=0.5"], id="another penalty"),
        pytest.param([*END_TO_END, "hook.site=embeddings"], id="every block is later"),
        pytest.param([*END_TO_END, "sae.mse_coefficient=null", "hook.layer=2"], id="the last is later"),
        pytest.param(["sae=jumprelu", "sae.l0_coefficient=null", "sae.l0_target=null", "sae.tanh_coefficient=6"], id="no l0"),
        pytest.param(["sae.l0_target=4", *END_TO_END], id="steered by what the model says"),
        pytest.param(
            ["sae=transcoder", "sae.activation=relu", "sae.k=null", "sae.l1_coefficient=2", "sae.l0_target=4"],
            id="a transcoder of penalties is steered",
        ),
    ],
)
def test_settings_that_go_together_are_taken(typed, job, train):
    assert train(job(*typed, "dry_run=true")) == 0


def test_a_model_without_a_head_has_no_cross_entropies_while_training(job, refused, encoder):
    assert "this model does not predict next tokens" in refused(job(f"model.path={encoder}", "evaluation.ce_every_tokens=512"))


def test_a_model_without_a_head_has_no_end_to_end_losses(job, refused, encoder):
    assert "a model that predicts next tokens" in refused(job(f"model.path={encoder}", *END_TO_END[:1], *END_TO_END[2:]))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["sae=topk", "hook.site=attn_z"], "sae.k must lie in 1..d_sae=32, got 64"),
        (["sae=topk", "hook.module=blocks.1.attn.hook_z"], "sae.k must lie in 1..d_sae=32, got 64"),
        (["sae=topk", "hook.module=model.layers.1.mlp.up_proj"], "sae.k must lie in 1..d_sae=48, got 64"),
        (["sae=topk", "hook.module=model.layers.1.mlp"], "sae.k must lie in 1..d_sae=32, got 64"),
        ([*TRANSCODER, "sae.tied_init=true", "hook.target_module=model.layers.1.mlp.up_proj"], "differ in width (16 and 24)"),
        ([*TRANSCODER, "sae.tied_init=true", "hook.target_module=model.layers.1.mlp.act_fn"], "differ in width (16 and 24)"),
    ],
)
def test_widths_are_known_from_the_configuration_alone(typed, said, job, refused):
    assert said in refused(job(*typed))


def test_two_models_with_different_tokenizers_are_refused(job, refused, decoder, other_decoder, encoder, tmp_path):
    two = ["sae=crosscoder", "model@other_model=local"]
    said = refused(job(*two, f"other_model.path={encoder}"))
    assert "have different tokenizers: the token '</s>' has the id 2 in one and none in the other" in said
    renumbered = shutil.copytree(other_decoder, tmp_path / "renumbered")
    tokenizer = json.loads((renumbered / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["w3"], words["w5"] = words["w5"], words["w3"]
    (renumbered / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "the token 'w3' has the id 7 in one and 9 in the other" in refused(job(*two, f"other_model.path={renumbered}"))
    said = refused(job(*two, f"other_model.path={other_decoder}", "other_model.document_start=w0"))
    assert "set other_model.document_start=<s>" in said
    assert "other_model.path=nowhere is not a folder" in refused(job(*two, "other_model.path=nowhere"))
    assert "relu reads one model" in refused(job("model@other_model=local", f"other_model.path={other_decoder}"))


def test_mistakes_are_told_all_at_once(job, refused):
    """Names, grammar, types, ranges, sizes, hook points and files in one go, each once, with the nearest key."""
    typed = ["sae.l1_coeficient=1", "train.batch_tokens=two", "sae.lr=-1", *BOTH, "hook.layer=99", "data.path=no.txt", "oops"]
    said = refused(job(*typed))
    assert said.startswith("7 mistakes:\n")
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
    assert len(said.splitlines()) == 8


def test_weights_that_are_no_model(job, refused, tmp_path, decoder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert "is no model: expected config.json and *.safetensors" in refused(job(f"model.path={tmp_path / 'empty'}"))
    assert "is not a folder" in refused(job(f"model.path={tmp_path / 'file'}"))
    for content, said in (
        ("{", "is not JSON"),
        ("{}", "has no `model_type`"),
        ('{"model_type": "nope"}', "not a configuration"),
    ):
        (tmp_path / "empty" / "config.json").write_text(content)
        assert said in refused(job(f"model.path={tmp_path / 'empty'}"))
    shutil.copy(decoder / "config.json", tmp_path / "empty")
    assert "has no weights" in refused(job(f"model.path={tmp_path / 'empty'}"), loads_model=True)


@pytest.mark.parametrize("harm", ["nan", "truncated"])
def test_weights_that_are_damaged(harm, job, refused, tmp_path, decoder):
    folder = Path(shutil.copytree(decoder, tmp_path / "damaged"))
    weights = folder / "model.safetensors"
    if harm == "nan":
        tensors = load_file(weights)
        tensors["model.norm.weight"][3] = float("nan")
        save_file(tensors, weights, metadata={"format": "pt"})
    else:
        weights.write_bytes(weights.read_bytes()[:-100])
    said = refused(job(f"model.path={folder}"), loads_model=True)
    assert {"nan": "model.norm.weight", "truncated": "cannot be read"}[harm] in said


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("model.layerz.0.mlp", "Did you mean model.layers.0.mlp"),
        ("model.layers.9.mlp", "model.layers.9.mlp is not in LlamaForCausalLM"),
        ("model.layers.*.mlp", "names 4 modules where one is wanted"),
        ("model.layers", "does not run below the model's head"),
    ],
)
def test_a_module_that_is_not_there(module, said, job, refused):
    assert said in refused(job(f"hook.module={module}"), loads_model=True)


def test_a_text_without_documents(job, refused, tmp_path):
    empty, blank = tmp_path / "empty.txt", tmp_path / "blank.jsonl"
    empty.touch()
    blank.write_text("\n\n")
    assert f"'{empty}' is empty: expected documents" in refused(job(f"data.path={empty}"))
    split = [line for line in job("data=jsonl", f"data.path={blank}") if not line.startswith("data.split_on")]
    assert f"'{blank}' is empty: expected documents" in refused(split)
    (tmp_path / "folder").mkdir()
    assert "This folder holds no file like '**/*.txt'" in refused(job(f"data.path={tmp_path / 'folder'}"))


def test_a_column_that_is_missing(job, refused, tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps({"body": "w1 w2", "title": "w3"}) + "\n")
    typed = [line for line in job("data=jsonl", f"data.path={lines}") if not line.startswith("data.split_on")]
    assert "has no column 'text'; its columns are ['body', 'title']" in refused(typed)
    saved = tmp_path / "saved"
    datasets.Dataset.from_dict({"body": ["w1 w2"]}).save_to_disk(saved)
    typed = [line for line in job("data=hub", f"data.path={saved}") if not line.startswith("data.split_on")]
    said = refused(typed)
    assert "has no column 'text'; its columns are ['body']" in said
    assert len(said.splitlines()) == 1


def test_a_text_too_short_for_the_budget(job, refused):
    """With the number of tokens there were, and what to change."""
    said = refused(job("train.tokens=100000"), loads_model=True)
    assert "train.tokens=100000 is more than the text has: 3680 training rows (100 documents, 4000 tokens)" in said
    assert "data.repeat=true" in said


def test_a_text_too_short_for_a_block(job, refused, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("w1 w2\n\nw3")
    assert "hold no usable text (2 documents, 3 tokens in all)" in refused(job(f"data.path={short}"), loads_model=True)


def test_a_run_that_exists_already(job, refused, run_folder):
    said = refused(job())
    assert f"{run_folder} exists already. Go on with it: resume={run_folder}" in said
    assert "run.if_exists=overwrite" in said
    assert "run.name=NAME" in said


@pytest.mark.parametrize("if_exists", ["error", "resume", "overwrite"])
def test_a_folder_that_is_no_runs_is_never_touched(if_exists, job, refused, tmp_path):
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "thesis.txt").write_text("years")
    assert "exists and is no run's folder" in refused(job(f"run.if_exists={if_exists}"))


@pytest.mark.parametrize("if_exists", ["error", "overwrite"])
def test_a_file_in_the_place_of_a_folder(if_exists, job, refused, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tiny").touch()
    assert "exists and is no run's folder" in refused(job(f"run.if_exists={if_exists}"))
    said = refused(job(f"run.folder={tmp_path / 'runs' / 'tiny' / 'below'}", f"run.if_exists={if_exists}"))
    assert f"cannot be made: {tmp_path / 'runs' / 'tiny'} is a file" in said


def test_a_run_that_another_process_writes(job, refused, tmp_path):
    (tmp_path / "runs").mkdir()
    with FileLock(tmp_path / "runs" / ".tiny.lock"):
        said = refused(job(), loads_model=True)
    assert f"another process is writing {tmp_path / 'runs' / 'tiny'}" in said


def test_no_cuda(job, refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    said = refused(job("trainer.device=cuda"))
    assert "trainer.device='cuda' was asked for" in said
    assert "sees 0 CUDA devices here. Use trainer.device=auto or trainer.device=cpu" in said


def test_apples_gpu(job, refused, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    said = refused(job("trainer.device=mps"))
    assert "trainer.device='mps' cannot be taken: sums that training and metrics keep are float64" in said
    assert "Use trainer.device=cpu" in said


@pytest.mark.parametrize("typed", [["model=gpt2"], ["model=hub", "model.name=some/model"]])
def test_a_model_that_is_out_of_reach(typed, job, refused):
    lines = [line for line in job() if not line.startswith("model")]
    said = refused([*lines, *typed])
    assert "the hub is out of reach" in said
    assert "model=smollm2-135m-instruct-q4" in said


def test_a_data_set_that_is_out_of_reach(job, refused):
    lines = [line for line in job("data=hub", "data.path=some/text") if not line.startswith("data.split_on")]
    said = refused(lines)
    assert "The data set 'some/text' could not be loaded" in said
    assert "data=wikipedia-sample" in said


@pytest.mark.parametrize("name", ["model=hub", "model=local"])
def test_a_model_without_its_name(name, job, refused):
    lines = [line for line in job() if not line.startswith("model")]
    assert {"model=hub": "model.name must be given", "model=local": "model.path must be given"}[name] in refused([*lines, name])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["sae.l1_weighting=decoder_norm"], "sae.l1_weighting='decoder_norm' would make another run (it was 'none')"),
        (["seed=1"], "seed=1 would make another run (it was 0)"),
        (["train.batch_tokens=64"], "train.batch_tokens=64 would make another run (it was 128)"),
        (["hook.layer=2"], "hook.layer=2 would make another run (it was None)"),
        (["train.tokens=1024"], "train.tokens=1024 is less than the 2048 of the run"),
        (["train.tokens=many"], "train.tokens: expected a whole number, got 'many'"),
        (["train.tokenz=4096"], "train.tokenz: there is no such key. Did you mean 'train.tokens'?"),
        (["seed=1", "sae.lr=1"], "2 mistakes:"),
    ],
)
def test_a_resume_that_would_be_another_run(typed, said, refused, run_folder):
    assert said in refused([f"resume={run_folder}", *typed])


def test_a_resume_of_something_else(refused, run_folder):
    assert "Runs beside it: tiny" in refused([f"resume={run_folder.parent / 'tinny'}"])
    for content in ("[", "{}", "a run", "train: 5"):
        (run_folder / "config.yaml").write_text(content)
        assert "config.yaml is damaged" in refused([f"resume={run_folder}"])


def test_an_sae_of_another_size_to_start_from(job, refused, tmp_path):
    for name, d_in, d_sae in (("small", 16, 8), ("wide", 24, 48)):
        sae.save(ReLUSAE(d_in=d_in, d_sae=d_sae), tmp_path / name, cfg={})
        said = refused(job(f"init_from={tmp_path / name}"))
        assert f"holds a relu SAE with d_in {d_in} and d_sae {d_sae}; this run would train a relu SAE with d_in 16" in said


def test_an_sae_that_cannot_be_read_to_start_from(job, refused, tmp_path):
    (tmp_path / "none").mkdir()
    assert "no SAE in" in refused(job(f"init_from={tmp_path / 'none'}"))
    sae.save(ReLUSAE(d_in=16, d_sae=32), tmp_path / "cut", cfg={})
    weights = tmp_path / "cut" / "sae.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert "is truncated" in refused(job(f"init_from={tmp_path / 'cut'}"))


def test_a_checkpoint_that_is_truncated(refused, run_folder):
    """The run stays as it was, so that an older checkpoint can still be used."""
    last = max((run_folder / "checkpoints").iterdir())
    last.write_bytes(last.read_bytes()[:-1000])
    assert last.name in refused([f"resume={run_folder}", "train.tokens=3072"], loads_model=True)
