"""The framework's training step on rows from a normal distribution, for the benchmarks.

The rate is so small that weights stay where they start. Biases and thresholds are set so that a given number of latents is
active on a row.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from sae.commands.entry import compose
from sae.commands.reading import TRAINED, has_target, pairs_layers, reads_several, sparsity_key
from sae.commands.sae_node import read_sae_node
from sae.functional import encoder_product, pursuit
from sae.functional.layered_product import layered_product_into
from sae.training.kernels import KernelSettings
from sae.training.learner import Learner
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from sae.training.schedule import ScheduleSettings

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler says among the tables when it starts and stops

RATE = 1e-9
START_ROWS = 4096
CPU = torch.device("cpu")
# The bias decides how many latents of these are active.
BY_BIAS = tuple(name for name in TRAINED if sparsity_key(name) == "l1_coefficient")
STAGES = ("product", "choice", "decode", "loss, rest", "by decoder", "by encoder", "backward, rest", "update", "after")


class Framework:
    """The framework's step, as the Lightning module takes it."""

    def __init__(
        self,
        name: str,
        *,
        d_in: int,
        d_sae: int,
        batch: int,
        active: int,
        kernels: KernelSettings,
        layers: int = 2,
        device: torch.device = CPU,
    ) -> None:
        """Set up.

        Args:
            name: a file of `conf/sae`.
            d_in: width of the rows; a crosscoder's two parts share it, a transcoder's target has it too, the layers of a
                cross-layer transcoder share it on both sides.
            d_sae: latents.
            batch: rows.
            active: latents a row.
            kernels: which pass.
            layers: of a cross-layer transcoder.
            device: where.
        """
        self.device = device
        wanted = {"d_sae": d_sae, "expansion": None, "lr": RATE}
        if sparsity_key(name) == "k":
            wanted["k"] = active
        problems: list[str] = []
        node = read_sae_node({**compose("train", [f"sae={name}"])["sae"], **wanted}, problems)
        assert node is not None, problems
        inputs, targets = {"x": d_in}, {"y": d_in} if has_target(name) else {}
        if pairs_layers(name):
            if d_in % layers:
                raise ValueError(f"--layers {layers} of one width do not share --d-in {d_in}: take a multiple of {layers}")
            inputs, targets = ({f"{side}{layer}": d_in // layers for layer in range(layers)} for side in "xy")
        elif reads_several(name):
            inputs = {"x": d_in // 2, "y": d_in - d_in // 2}
        self.widths = inputs | targets
        several, predicted = (tuple(widths.values()) if len(widths) > 1 else None for widths in (inputs, targets))
        with device:
            sae, objective = node.build(sum(inputs.values()), d_out=d_in, widths=several, target_widths=predicted)
        self.learner = Learner(
            name=name,
            inputs=list(inputs),
            targets=list(targets) or None,
            sae=sae,
            objective=objective,
            coefficients=node.coefficients_at(sae.d_in),
            recipe=node.recipe,
            schedule=ScheduleSettings(),
            budget=Budget(train_tokens=10**10, batch_tokens=batch),
            seed=0,
            kernels=kernels,
        ).to(device)
        self.learner.start_from(self.rows(START_ROWS, torch.Generator().manual_seed(0)))
        self._set_active(name, active)
        self.optimizer = self.learner.build_optimizer(OptimizerSettings())
        self.l0 = 0.0

    def rows(self, number: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Raw rows of each activation."""
        drawn = {point: torch.randn(number, width, generator=generator) for point, width in self.widths.items()}
        return {point: rows.to(self.device) for point, rows in drawn.items()}

    def take(self, kernels: KernelSettings) -> None:
        """Go on by another pass."""
        self.learner.passes.settings = kernels

    @torch.no_grad()
    def _set_active(self, name: str, active: int) -> None:
        sae = self.learner.sae
        x = self.learner.input_space(self.rows(512, torch.Generator().manual_seed(3)))
        if (key := sparsity_key(name)) != "k":
            products = (sae.encoder_input(x) @ sae.W_enc).flatten()
            level = products.topk(active * len(x)).values[-1]
            if key == "l0_target":
                function: Any = sae.get_submodule("activation_function")
                sae.scale_thresholds_(level / function.threshold[0])
            else:
                sae.get_parameter("b_enc").fill_(-level)

    def step(self, rows: Mapping[str, Tensor], number: int) -> None:
        """One step on raw rows."""
        with record_function("loss"):
            loss = self.learner.loss(rows, number, measure=number == 1)
        with record_function("backward"):
            loss.backward()
        with record_function("update"):
            self.learner.before_update(self.optimizer, measure=False)
            self.optimizer.step()
            self.optimizer.zero_grad()
        with record_function("after"):
            self.learner.after_update(len(next(iter(rows.values()))), number, self.optimizer)
        if number == 1:
            self.l0 = float(self.learner.batch_metrics["l0"])

    def share_held(self, rows: Mapping[str, Tensor]) -> float:
        """Share of pre-activations that the sparse pass holds."""
        x = self.learner.input_space(rows)
        held = self.learner.sae.forward_train_sparse(x).latent_acts.values.numel()
        return held / (len(x) * self.learner.sae.d_sae)

    def stages(self, rows: Mapping[str, Tensor], *, steps: int = 3) -> dict[str, float]:
        """Milliseconds of each stage of a sparse step, by torch's profiler, which slows it a little."""
        with _ranges(), profile(activities=[ProfilerActivity.CPU]) as profiler:
            for number in range(steps):
                self.step(rows, 10 + number)
        found = profiler.events()
        assert found is not None
        return {name: time / steps / 1000 for name, time in _stages(list(found)).items()}


class _ranges:
    """Names the library's searches to the profiler, while it is entered."""

    PLACES = ((encoder_product.EncoderProduct, ("above", "top_k", "batch_top_k")), (pursuit, ("_pursue",)))

    def __enter__(self) -> None:
        self._were: list[tuple[Any, str, Callable[..., Any]]] = []
        for owner, names in self.PLACES:
            for name in names:
                was = getattr(owner, name)
                self._were.append((owner, name, was))
                setattr(owner, name, record_function("choice")(was))

    def __exit__(self, *_: object) -> None:
        for owner, name, was in self._were:
            setattr(owner, name, was)


def _stages(events: list[FunctionEvent]) -> dict[str, float]:
    """Microseconds of each of `STAGES`; products are those of the forward pass."""

    def within(outer: str, *names: str) -> float:
        spans = [one.time_range for one in events if one.name == outer]
        found = [one.time_range for one in events if one.name in names]
        return sum(one.elapsed_us() for one in found if any(s.start <= one.start and one.end <= s.end for s in spans))

    whole = {name: sum(one.time_range.elapsed_us() for one in events if one.name == name) for name in ("update", "after")}
    loss, backward = (sum(one.time_range.elapsed_us() for one in events if one.name == name) for name in ("loss", "backward"))
    products = ("aten::mm", "aten::addmm", "aten::bmm")
    product, choice = within("loss", *products), within("loss", "choice") - within("choice", *products)
    decode = within("loss", "_SparseDecode")
    by_decoder, by_encoder = within("backward", "_SparseDecodeBackward"), within("backward", "_PickedBackward")
    rest = (loss - product - choice - decode, by_decoder, by_encoder, backward - by_decoder - by_encoder)
    return dict(zip(STAGES, (product, choice, decode, *rest, whole["update"], whole["after"]), strict=True))


class Product:
    """The encoder's forward product alone, into memory that is there already."""

    def __init__(self, learner: Learner, *, batch: int, dtype: torch.dtype) -> None:
        self.inputs, self.layers = learner.spaces.inputs.points, learner.sae.d_in // len(learner.sae.W_enc)
        self.weight = learner.sae.W_enc.detach().to(dtype)
        self.out = self.weight.new_empty(batch, self.weight.shape[1])

    def step(self, rows: Mapping[str, Tensor]) -> None:
        """One product."""
        first, *others = (rows[point] for point in self.inputs)
        x = torch.cat([first, *others], dim=1) if others else first
        layered_product_into(self.out, x.to(self.weight.dtype), self.weight, layers=self.layers)


def in_turn(
    turns: Mapping[str, Callable[[int], Any]],
    *,
    rounds: int,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each of the turns, round by round; the rounds that warm up do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(warm_up + rounds):
        for name, turn in turns.items():
            start = clock()
            turn(number)
            if number >= warm_up:
                seconds[name].append(clock() - start)
    return seconds
