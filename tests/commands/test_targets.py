"""Transcoders (cross-layer ones too) and crosscoders from what is typed to their numbers, which plain hooks give too."""

import json

import pytest
import torch
import transformers
from torch.nn import functional as F

import sae
from sae.commands import evaluate, harvest
from sae.commands.assemble import open_text
from sae.commands.entry import compose
from sae.commands.held_out import HeldOut
from sae.commands.origin import open_origin
from sae.commands.overrides import as_hydra_takes_them
from sae.commands.settings import read_train_config

TRANSCODER = ["sae=transcoder", "sae.k=4", "sae.resample_pool_rows=256"]
CROSSCODER = ["sae=crosscoder", "sae.l1_coefficient=0.1"]
CROSS_LAYER = ["sae=cross_layer_transcoder", "sae.k=4"]


def report_of(folder):
    (report,) = json.loads((folder / "report.json").read_text())["saes"].values()
    return report


def blocks_of(arguments):
    """The held-out blocks of a run, in whole and those that rows are taken from."""
    config = read_train_config(compose("train", as_hydra_takes_them(arguments)))
    origin = open_origin(config.origin)
    held_out = HeldOut(origin, open_text(origin).held_out, cached=False, norm_limits=dict, on_rows=lambda *_: None)
    return held_out._all_blocks, held_out.blocks


def seen(model, modules, blocks):
    """What modules receive ("in") and give ("out") at kept positions, by hooks of torch's own."""
    found = {}
    handles = []
    for name in modules:
        module = model.get_submodule(name)
        handles.append(module.register_forward_pre_hook(lambda _, args, name=name: found.update({f"{name} in": args[0]})))
        handles.append(module.register_forward_hook(lambda _, __, out, name=name: found.update({f"{name} out": first(out)})))
    with torch.no_grad():
        model(input_ids=blocks.ids.long(), attention_mask=blocks.attention.long())
    for handle in handles:
        handle.remove()
    return {name: value[blocks.keep] for name, value in found.items()}


def first(output):
    return output if isinstance(output, torch.Tensor) else output[0]


def fvu(target, recon):
    target, recon = target.detach().double(), recon.detach().double()
    return float((target - recon).square().sum() / (target - target.mean(dim=0)).square().sum())


def cross_entropy(model, blocks, put=None, module=None):
    """Of next tokens between kept positions; `put` gives what takes the place of a module's output there."""

    def replace(_, __, output):
        hidden = first(output).clone()
        hidden[blocks.keep] = put(hidden[blocks.keep])
        return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

    handle = None if put is None else model.get_submodule(module).register_forward_hook(replace)
    with torch.no_grad():
        logits = model(input_ids=blocks.ids.long(), attention_mask=blocks.attention.long()).logits[:, :-1]
    if handle is not None:
        handle.remove()
    scored = blocks.keep[:, :-1] & blocks.keep[:, 1:]
    return float(F.cross_entropy(logits[scored].double(), blocks.ids[:, 1:][scored].long()))


class TestTranscoder:
    @pytest.fixture
    def run(self, job, train, tmp_path):
        assert train(job(*TRANSCODER, "hook.layer=1", "sae.skip=true", "evaluation.ce_tokens=100000")) == 0
        return tmp_path / "runs" / "tiny"

    def test_its_numbers_are_those_of_plain_hooks(self, run, job, decoder):
        """The prediction, made from the MLP's input in the same pass, takes the place of the MLP's output."""
        report, trained = report_of(run), sae.load(run).requires_grad_(False)
        everything, blocks = blocks_of(job(*TRANSCODER, "hook.layer=1", "sae.skip=true"))
        model = transformers.LlamaForCausalLM.from_pretrained(decoder)
        mlp = "model.layers.1.mlp"
        rows = seen(model, [mlp], blocks)
        x, target = rows[f"{mlp} in"], rows[f"{mlp} out"]
        assert report["hook_point"] == "layers.1.mlp_in -> layers.1.mlp_out"
        assert report["fvu"] == pytest.approx(fvu(target, trained(x).recon), rel=1e-4)

        predicted = {}

        def from_input(_, args):
            predicted["now"] = trained(args[0][everything.keep]).recon

        handle = model.get_submodule(mlp).register_forward_pre_hook(from_input)
        spliced = cross_entropy(model, everything, lambda _: predicted["now"], mlp)
        handle.remove()
        assert report["ce_clean"] == pytest.approx(cross_entropy(model, everything), rel=1e-6)
        assert report["ce_sae"] == pytest.approx(spliced, rel=1e-6)
        assert report["ce_zero"] == pytest.approx(cross_entropy(model, everything, torch.zeros_like, mlp), rel=1e-6)
        mean = target.double().mean(dim=0).float()
        assert report["ce_mean"] == pytest.approx(
            cross_entropy(model, everything, lambda rows: mean.expand_as(rows), mlp), rel=1e-6
        )

    def test_it_is_evaluated_from_its_folder_alone(self, run, tmp_path):
        assert evaluate.main([f"from={run}", f"out={tmp_path / 'again.json'}"]) == 0
        again = json.loads((tmp_path / "again.json").read_text())
        assert again == report_of(run)
        hook = json.loads((run / "saes" / "transcoder" / "cfg.json").read_text())["hook"]
        assert [place["name"] for place in hook["inputs"]] == ["layers.1.mlp_in"]
        assert [place["name"] for place in hook["targets"]] == ["layers.1.mlp_out"]

    def test_resumed_it_is_the_run_that_was_never_stopped(self, job, train, tmp_path):
        assert train(job(*TRANSCODER, "run.name=whole", "schedule=constant")) == 0
        assert train(job(*TRANSCODER, "run.name=parts", "schedule=constant", "train.tokens=1024")) == 0
        assert train([f"resume={tmp_path / 'runs' / 'parts'}", "train.tokens=2048"]) == 0
        runs = [sae.load(tmp_path / "runs" / name).state_dict() for name in ("whole", "parts")]
        # the auxiliary term's window follows the budget, which was another at first; nothing was dead in either
        assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())

    @pytest.mark.parametrize(
        "typed",
        [
            ["sae.activation=relu", "sae.k=null", "sae.l1_coefficient=0.5"],
            ["sae.activation=batch_topk"],
            ["hook.module=model.layers.0.mlp.gate_proj", "hook.target_site=mlp_out", "hook.target_layer=0"],
            ["hook.target_site=resid_post", "hook.target_layer=2"],
            ["hook.target_module=model.layers.2.mlp.down_proj", "hook.target_tensor=input"],
            ["sae.kl_coefficient=1", "sae.downstream_coefficient=1"],
        ],
        ids=" ".join,
    )
    def test_other_settings_work(self, typed, job, train, tmp_path):
        changed = {line.split("=")[0] for line in typed}
        base = [line for line in TRANSCODER if line.split("=")[0] not in changed]
        assert train(job(*base, *typed, "train.tokens=512")) == 0
        assert report_of(tmp_path / "runs" / "tiny")["ce_sae"] is not None

    @pytest.mark.parametrize(
        ("typed", "told"),
        [
            (["hook.layer=2", "hook.target_layer=1"], True),
            (["hook.layer=0", "hook.target_site=embeddings"], True),
            (["hook.layer=2"], False),
            (["hook.layer=1", "hook.target_layer=2"], False),
            (["hook.layer=2", "hook.target_module=model.layers.1.mlp.down_proj"], False),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_a_target_before_the_input_is_told(self, typed, told, job, train, capsys):
        assert train(job(*TRANSCODER, *typed, "dry_run=true")) == 0
        assert ("the target lies in an earlier block than the input" in capsys.readouterr().err) == told

    def test_it_can_start_from_another_of_its_sizes_only(self, run, job, train, refused):
        same = [*TRANSCODER, "hook.layer=1", "sae.skip=true", f"init_from={run}", "run.name=next"]
        assert train(job(*same, "train.tokens=512")) == 0
        assert "holds a transcoder SAE with d_in 16, d_sae 32 and d_out 16" in refused(
            job(f"init_from={run}", "run.name=other")
        )


class TestCrosscoder:
    def test_its_numbers_are_those_of_plain_hooks(self, job, train, tmp_path, decoder):
        typed = [*CROSSCODER, "hook.layers=[0,2]", "evaluation.ce_tokens=100000"]
        assert train(job(*typed)) == 0
        report, trained = report_of(tmp_path / "runs" / "tiny"), sae.load(tmp_path / "runs" / "tiny").requires_grad_(False)
        assert trained.widths == (16, 16)
        everything, blocks = blocks_of(job(*typed))
        model = transformers.LlamaForCausalLM.from_pretrained(decoder)
        names = ["model.layers.0", "model.layers.2"]
        rows, of_all = (seen(model, names, some) for some in (blocks, everything))
        targets = [rows[f"{name} out"] for name in names]
        output = trained(torch.cat(targets, dim=1))
        recons = output.recon.split(16, dim=1)
        new = trained(torch.cat([of_all[f"{name} out"] for name in names], dim=1)).recon.split(16, dim=1)
        assert report["fvu"] == pytest.approx(fvu(torch.cat(targets, dim=1), output.recon), rel=1e-4)
        assert report["ce_sae"] is None
        assert "see `parts`" in report["ce_reason"]
        assert [part["hook_point"] for part in report["parts"]] == ["layers.0.resid_post", "layers.2.resid_post"]
        for number, part in enumerate(report["parts"]):
            assert part["fvu"] == pytest.approx(fvu(targets[number], recons[number]), rel=1e-4)
            spliced = cross_entropy(model, everything, lambda _, number=number: new[number], names[number])
            assert part["ce_sae"] == pytest.approx(spliced, rel=1e-6)
            assert part["ce_clean"] == pytest.approx(cross_entropy(model, everything), rel=1e-6)

        living = (output.latent_acts > 0).any(dim=0)
        norms = []
        for target, decoder_rows in zip(targets, trained.W_dec.split(16, dim=1), strict=True):
            deviation = (target - target.mean(dim=0)).square().sum(dim=1).mean().sqrt()
            norms.append(decoder_rows.norm(dim=1)[living] / deviation)
        shares = norms[1] / (norms[0] + norms[1])
        counts = [int(((shares >= low / 10) & (shares < (low + 1) / 10)).sum()) for low in range(10)]
        assert report["relative_norms"]["counts"] == counts
        assert sum(counts) == int(living.sum()) > 0
        assert report["parts"][1]["mean_share"] == pytest.approx(float(shares.mean()), rel=1e-4)

    def test_three_layers_by_default_evaluated_and_resumed(self, job, train, tmp_path):
        assert train(job(*CROSSCODER, "run.name=whole", "schedule=constant", "sae.l1_warmup=0")) == 0
        report = report_of(tmp_path / "runs" / "whole")
        assert [part["hook_point"] for part in report["parts"]] == [f"layers.{layer}.resid_post" for layer in (0, 1, 2)]
        assert "relative_norms" not in report
        assert evaluate.main([f"from={tmp_path / 'runs' / 'whole'}", f"out={tmp_path / 'again.json'}"]) == 0
        assert json.loads((tmp_path / "again.json").read_text()) == report
        parts = job(*CROSSCODER, "run.name=parts", "schedule=constant", "sae.l1_warmup=0", "train.tokens=1024")
        assert train(parts) == 0
        assert train([f"resume={tmp_path / 'runs' / 'parts'}", "train.tokens=2048"]) == 0
        runs = [sae.load(tmp_path / "runs" / name).state_dict() for name in ("whole", "parts")]
        assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())

    def test_a_pattern_of_modules_and_batch_topk(self, job, train, tmp_path):
        free = [
            "sae.activation=batch_topk",
            "sae.k=4",
            "sae.l1_coefficient=null",
            "sae.unit_norm_decoder=true",
            "sae.decoder_norm=1.0",
        ]
        assert train(job("sae=crosscoder", *free, "hook.module=model.layers.*.mlp", "train.tokens=512")) == 0
        parts = report_of(tmp_path / "runs" / "tiny")["parts"]
        assert [part["hook_point"] for part in parts] == [f"model.layers.{layer}.mlp.output" for layer in range(4)]

    def test_two_models(self, job, train, tmp_path, decoder, other_decoder, capsys):
        """The second model's numbers are its own: its width, its rows, its cross-entropies."""
        two = [*CROSSCODER, "model@other_model=local", f"other_model.path={other_decoder}", "hook.layer=1"]
        assert train(job(*two, "evaluation.ce_tokens=100000")) == 0
        printed = capsys.readouterr().out
        assert "relative decoder norm" in printed
        run = tmp_path / "runs" / "tiny"
        report, trained = report_of(run), sae.load(run).requires_grad_(False)
        assert trained.widths == (16, 24)
        everything, blocks = blocks_of(job(*two))
        models = [transformers.LlamaForCausalLM.from_pretrained(path) for path in (decoder, other_decoder)]
        name = "model.layers.1"
        x = torch.cat([seen(model, [name], blocks)[f"{name} out"] for model in models], dim=1)
        new = trained(torch.cat([seen(model, [name], everything)[f"{name} out"] for model in models], dim=1)).recon
        for part, model, columns in zip(report["parts"], models, (slice(0, 16), slice(16, 40)), strict=True):
            assert part["fvu"] == pytest.approx(fvu(x[:, columns], trained(x).recon[:, columns]), rel=1e-4)
            spliced = cross_entropy(model, everything, lambda _, columns=columns: new[:, columns], name)
            assert part["ce_clean"] == pytest.approx(cross_entropy(model, everything), rel=1e-6)
            assert part["ce_sae"] == pytest.approx(spliced, rel=1e-6)
        assert evaluate.main([f"from={run}", f"out={tmp_path / 'again.json'}"]) == 0
        assert json.loads((tmp_path / "again.json").read_text()) == report
        cfg = json.loads((run / "saes" / "crosscoder" / "cfg.json").read_text())
        assert cfg["model"]["other_model"]["name"] == other_decoder.name
        assert set(cfg["training"]["scale"]) == {"layers.1.resid_post", "other_model.layers.1.resid_post"}


class TestCrossLayerTranscoder:
    def test_its_numbers_are_those_of_plain_hooks(self, job, train, tmp_path, decoder):
        """Layers typed in any order; each target's reconstruction put in alone, from what all MLPs read."""
        typed = [*CROSS_LAYER, "hook.layers=[2,0]", "evaluation.ce_tokens=100000"]
        assert train(job(*typed)) == 0
        run = tmp_path / "runs" / "tiny"
        report, trained = report_of(run), sae.load(run).requires_grad_(False)
        assert (trained.widths, trained.target_widths, trained.d_sae) == ((16, 16), (16, 16), 64)
        assert not trained.W_dec[32:, :16].any()
        everything, blocks = blocks_of(job(*typed))
        model = transformers.LlamaForCausalLM.from_pretrained(decoder)
        names = ["model.layers.0.mlp", "model.layers.2.mlp"]
        rows, of_all = (seen(model, names, some) for some in (blocks, everything))
        x, targets = (torch.cat([rows[f"{name} {end}"] for name in names], dim=1) for end in ("in", "out"))
        recon = trained(x).recon
        put_in = trained(torch.cat([of_all[f"{name} in"] for name in names], dim=1)).recon.split(16, dim=1)
        assert report["hook_point"] == "layers.0.mlp_in + layers.2.mlp_in -> layers.0.mlp_out + layers.2.mlp_out"
        assert report["fvu"] == pytest.approx(fvu(targets, recon), rel=1e-4)
        assert report["ce_sae"] is None
        assert "see `parts`" in report["ce_reason"]
        for number, (part, name) in enumerate(zip(report["parts"], names, strict=True)):
            columns = slice(16 * number, 16 * number + 16)
            assert part["fvu"] == pytest.approx(fvu(targets[:, columns], recon[:, columns]), rel=1e-4)
            spliced = cross_entropy(model, everything, lambda _, number=number: put_in[number], name)
            assert part["ce_sae"] == pytest.approx(spliced, rel=1e-6)
        assert evaluate.main([f"from={run}", f"out={tmp_path / 'again.json'}"]) == 0
        assert json.loads((tmp_path / "again.json").read_text()) == report

    def test_three_layers_by_default_in_their_order_and_resumed(self, job, train, tmp_path):
        whole = [*CROSS_LAYER, "schedule=constant"]
        assert train(job(*whole, "run.name=whole")) == 0
        parts = report_of(tmp_path / "runs" / "whole")["parts"]
        assert [part["hook_point"] for part in parts] == [f"layers.{layer}.mlp_out" for layer in (0, 1, 2)]
        assert train(job(*whole, "run.name=turned", "hook.layers=[1,2,0]")) == 0
        assert train(job(*whole, "run.name=parts", "train.tokens=1024")) == 0
        assert train([f"resume={tmp_path / 'runs' / 'parts'}", "train.tokens=2048"]) == 0
        found = [sae.load(tmp_path / "runs" / name).state_dict() for name in ("whole", "turned", "parts")]
        for other in found[1:]:
            assert all(torch.equal(value, other[name]) for name, value in found[0].items())

    def test_one_layer_has_the_cross_entropies_of_a_transcoder(self, job, train, tmp_path):
        assert train(job(*CROSS_LAYER, "hook.layers=[3]", "hook.site=resid_mid", "train.tokens=512")) == 0
        report = report_of(tmp_path / "runs" / "tiny")
        assert report["hook_point"] == "layers.3.resid_mid -> layers.3.mlp_out"
        assert report["ce_sae"] is not None
        assert "parts" not in report

    def test_it_can_start_from_another_of_its_layers_only(self, job, train, tmp_path, refused):
        assert train(job(*CROSS_LAYER, "hook.layers=[0,1]", "train.tokens=512")) == 0
        start = [*CROSS_LAYER, f"init_from={tmp_path / 'runs' / 'tiny'}", "run.name=next", "train.tokens=512"]
        assert train(job(*start, "hook.layers=[1,2]")) == 0
        assert "widths [16, 16] and target_widths [16, 16]" in refused(job(*start, "hook.layers=[0,1,2]"))


@pytest.mark.parametrize("kind", ["transcoder", "crosscoder", "two models", "cross-layer transcoder"])
def test_training_from_a_store_of_several_places_equals_live_to_the_bit(kind, job, train, tmp_path, other_decoder):
    second = ["model@other_model=local", f"other_model.path={other_decoder}"]
    read, saes = {
        "transcoder": (["hook.layer=1", "hook.site=mlp_in", "hook.target_site=mlp_out"], TRANSCODER),
        "crosscoder": (["hook.layers=[0,2]"], CROSSCODER),
        "cross-layer transcoder": (["hook.layers=[0,2]", "hook.site=mlp_in", "hook.target_site=mlp_out"], CROSS_LAYER),
        "two models": (["hook.layer=1", *second], [*CROSSCODER, "activations.max_norm_multiple=3"]),
    }[kind]
    source = [line for line in job() if line.split("=")[0].split(".")[0] in ("model", "data", "activations", "evaluation")]
    assert harvest.main([*source, *read, f"out={tmp_path / 'store'}"]) == 0
    assert train(job(*saes, *read, "run.name=live", "activations.cache=false")) == 0
    stored = [line for line in job(*saes, *read, "run.name=stored") if not line.startswith("activations.chunk")]
    stored += ["activations=stored", f"activations.path={tmp_path / 'store'}", "activations.chunk_tokens=1024"]
    assert train(stored) == 0
    runs = tmp_path / "runs"
    for name in (f"saes/{saes[0].removeprefix('sae=')}/sae.safetensors", "metrics.jsonl"):
        assert (runs / "live" / name).read_bytes() == (runs / "stored" / name).read_bytes()


def test_places_are_part_of_a_runs_name(job, other_decoder):
    from sae.commands.run_name import run_folder

    def name(*typed):
        lines = [line for line in job(*typed) if not line.startswith("run.name")]
        tree = compose("train", as_hydra_takes_them(lines))
        return run_folder(tree, read_train_config(tree)).name

    assert name() == "tiny-llama-resid_post-0-relu-x2"
    assert name(*TRANSCODER, "hook.layer=2") == "tiny-llama-mlp_in-2-transcoder-x2"
    assert name(*TRANSCODER, "hook.target_layer=3") == "tiny-llama-mlp_in-0-to-mlp_out-3-transcoder-x2"
    assert name(*CROSSCODER, "hook.layers=[1,3]") == "tiny-llama-resid_post-1-3-crosscoder-x2"
    assert name(*CROSS_LAYER, "hook.layers=[3,1]") == "tiny-llama-mlp_in-1-3-cross_layer_transcoder-x2"
    two = ["model@other_model=local", f"other_model.path={other_decoder}"]
    assert name(*CROSSCODER, *two) == "tiny-llama-and-wide-llama-resid_post-0-crosscoder-x2"


def test_after_the_embeddings_every_block_is_later(job, train, tmp_path):
    end_to_end = ["sae.kl_coefficient=1", "sae.downstream_coefficient=1", "sae.resample_at=[]"]
    assert train(job(*end_to_end, "hook.site=embeddings", "train.tokens=512")) == 0
    lines = [json.loads(line) for line in (tmp_path / "runs" / "tiny" / "metrics.jsonl").read_text().splitlines()]
    found = [value for line in lines for key, value in line.items() if key.endswith("loss_downstream")]
    assert found
    assert min(found) > 0
