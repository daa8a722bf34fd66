"""Special tokens are ignored: what stands in their rows changes no bit of what training gives, whatever it trains."""

import random

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import sae
from sae.activations.harvest import Harvester
from sae.activations.shuffle import ActivationStream
from sae.models.language_model import LanguageModel
from sae.tokens.windows import FiniteWindows
from sae.training.recipe import Budget
from tests.models.tiny import tiny_module
from tests.training.nodes import POINT, build_optimizer, every_node, learner_of, one_step, widths_of

SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
WORDS = [f"w{number}" for number in range(60)]
ROWS, STEPS, D_IN, D_SAE = 32, 8, 10, 40
JUNK = (1e6, 0.0)  # what a limit of norms would drop, and what it would not


def model_with(junk):
    """A tiny Llama after whose second block `junk` stands at every special token; None: what the model has there."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL.values(), *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)
    model = LanguageModel(module=tiny_module("llama"), tokenizer=tokenizer, document_start="<s>", document_end="</s>")
    if junk is not None:
        special, read = torch.tensor([vocabulary[token] for token in SPECIAL.values()]), {}

        def spoil(_, __, hidden):
            return torch.where(torch.isin(read["ids"], special)[..., None], junk, hidden)

        model.module.get_input_embeddings().register_forward_pre_hook(lambda _, args: read.update(ids=args[0]))
        model.module.get_submodule("model.layers.1").register_forward_hook(spoil)
    return model


def batches_with(junk):
    """Batches of a training stream, and what it had read before the first."""
    model, draw = model_with(junk), random.Random(0)
    blocks = sae.token_blocks(
        model, [" ".join(draw.choices(WORDS, k=draw.randint(3, 30))) for _ in range(40)], context_length=12
    )
    assert 1 - blocks.keep.double().mean() > 0.1
    source = Harvester(model, [sae.resolve_hook_point(model, site="resid_post", layer=1)], forward_blocks=4)
    stream = ActivationStream(
        FiniteWindows(blocks), source, batch_rows=ROWS, chunk_rows=150, seed=0, max_norm_multiple=5, total_rows=ROWS * STEPS
    )
    first = stream.current_chunk().values
    found = [next(stream).rows.values for _ in range(STEPS)]
    stream.close()
    return [next(iter(values.values())).clone() for values in (first, *found)]


@pytest.fixture(scope="module")
def batches():
    return {junk: batches_with(junk) for junk in (None, *JUNK)}


def trained(name, batches):
    """Losses of a run and the exported SAE: its hook points are columns of the rows."""
    learner = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=Budget(train_tokens=ROWS * STEPS, batch_tokens=ROWS), lr=0.01)
    columns = {
        point: slice(None, width) if point == POINT else slice(-width, None) for point, width in widths_of(name, D_IN).items()
    }
    first, *rest = ({point: rows[:, of].contiguous() for point, of in columns.items()} for rows in batches)
    learner.start_from(first)
    optimizer, losses = build_optimizer(learner), []
    for step, values in enumerate(rest):
        losses.append(one_step(learner, optimizer, values, step))
        if learner.course.resamples_after(step + 1):
            learner.resample(values, optimizer, step)
    learner.finish(first)
    return {"losses": torch.tensor(losses), **learner.export().state_dict()}


@every_node
def test_a_run_does_not_see_them(name, batches):
    plain = trained(name, batches[None])
    assert all(value.isfinite().all() for value in plain.values())
    for junk in JUNK:
        for key, value in trained(name, batches[junk]).items():
            assert torch.equal(value, plain[key]), f"{key} with {junk} in their place"
