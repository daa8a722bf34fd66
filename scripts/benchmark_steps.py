"""One training step of each architecture: the framework's beside a plain dense one, in turn, and where its time goes.

    python scripts/benchmark_steps.py                                             d_in 640, batch 2048, d_sae 5120 to 40960
    python scripts/benchmark_steps.py --d-sae 163840 --sae topk batch_topk jumprelu --encoder-dtype bfloat16
    python scripts/benchmark_steps.py --sae topk --d-sae 131072 --d-in 768 --batch 4096 --plain 0       memory of a large one

The plain step is what one would write by hand: autograd through dense products, `torch.topk`, torch.optim.Adam as it comes, the
decoder's gradient projected and its rows renormalised. Both start from the same weights and read the same rows, drawn from a
normal distribution; biases and thresholds are set so that ReLU has 50 latents a row and the others k, and the rate is so small
that it stays so. Times are medians of steps taken in turn, so that whatever else the machine does slows both alike: read the
ratio. `encoder` is the encoder's forward product alone, in the type that the step makes it in.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sae.commands.entry import compose
from sae.commands.sae_node import read_sae_node
from sae.functional.straight_through import jumprelu, step
from sae.losses.l0 import thresholds
from sae.training.kernels import KernelSettings
from sae.training.learner import Learner
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from sae.training.schedule import ScheduleSettings

RATE = 1e-9


def main() -> None:
    """Measure every pair of architecture and size and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sae", nargs="*", default=["relu", "topk", "batch_topk", "jumprelu"])
    parser.add_argument("--d-sae", type=int, nargs="*", default=[5120, 10240, 40960])
    parser.add_argument("--d-in", type=int, default=640)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--k", type=int, default=32, help="latents a row of all but relu")
    parser.add_argument("--steps", type=int, default=12, help="of each kind, after two that do not count")
    parser.add_argument("--plain", type=int, choices=[0, 1], default=1, help="0: ours alone, with its own peak memory")
    parser.add_argument("--kernels", default="auto", choices=["auto", "dense", "sparse"])
    parser.add_argument("--encoder-dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    threads = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"d_in {options.d_in}, batch {options.batch}, k {options.k}, {threads}")
    print(f"kernels {options.kernels}, encoder in {options.encoder_dtype}; milliseconds, medians of {options.steps}\n")
    head = ("d_sae", "sae", "L0", "plain", "ours", "plain / ours", "(quartiles)", "encoder", "ours / encoder", "peak MiB")
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    profiles = []
    for d_sae in options.d_sae:
        for name in options.sae:
            row, profile = measure(name, d_sae, options)
            print("| " + " | ".join(row) + " |", flush=True)
            profiles.append((d_sae, name, profile))
    stages = list(profiles[0][2])
    print("\nWhere our step's time goes, milliseconds:\n")
    print("| d_sae | sae | " + " | ".join(stages) + " |\n|" + "---|" * (2 + len(stages)))
    for d_sae, name, profile in profiles:
        print(f"| {d_sae} | {name} | " + " | ".join(f"{profile[stage]:.0f}" for stage in stages) + " |")


def measure(name: str, d_sae: int, options: argparse.Namespace) -> tuple[list[str], dict[str, float]]:
    """One row of the table, and the time of each stage."""
    ours = Framework(name, d_sae, options)
    plain = Plain(ours.learner, name, options) if options.plain else None
    product = Product(ours.learner, options) if options.plain else None
    generator = torch.Generator().manual_seed(1)
    seconds: dict[str, list[float]] = {"plain": [], "ours": [], "encoder": []}
    for number in range(options.steps + 2):
        rows = torch.randn(options.batch, options.d_in, generator=generator)
        turns: list[tuple[str, Callable[[], Any]]] = [("ours", lambda rows=rows, number=number: ours.step(rows, number))]
        if plain is not None:
            turns.append(("plain", lambda rows=rows: plain.step(rows)))
        if product is not None:
            turns.append(("encoder", lambda rows=rows: product.step(rows)))
        for kind, turn in turns:
            start = time.perf_counter()
            turn()
            if number >= 2:
                seconds[kind].append(time.perf_counter() - start)
    median = {kind: 1000 * statistics.median(times) for kind, times in seconds.items() if times}
    ratios = [one / two for one, two in zip(seconds["plain"], seconds["ours"], strict=False)]
    over_encoder = [one / two for one, two in zip(seconds["ours"], seconds["encoder"], strict=False)]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else None
    row = [
        str(d_sae),
        name,
        f"{ours.l0:.0f}",
        f"{median['plain']:.0f}" if plain is not None else "-",
        f"{median['ours']:.0f}",
        f"{statistics.median(ratios):.2f}" if ratios else "-",
        f"{quartiles[0]:.2f} to {quartiles[2]:.2f}" if quartiles else "-",
        f"{median['encoder']:.0f}" if product is not None else "-",
        f"{statistics.median(over_encoder):.2f}" if over_encoder else "-",
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}",
    ]
    return row, {stage: 1000 * statistics.median(times[2:]) for stage, times in ours.stages.items()}


class Framework:
    """The framework's step, stage by stage, as the Lightning module takes it."""

    def __init__(self, name: str, d_sae: int, options: argparse.Namespace) -> None:
        wanted = {"d_sae": d_sae, "expansion": None, "lr": RATE}
        if name in ("topk", "batch_topk", "matryoshka", "matching_pursuit"):
            wanted["k"] = options.k
        problems: list[str] = []
        node = read_sae_node({**compose("train", [f"sae={name}"])["sae"], **wanted}, problems)
        assert node is not None, problems
        sae, objective = node.build(options.d_in)
        self.learner = Learner(
            name=name,
            inputs=["x"],
            sae=sae,
            objective=objective,
            coefficients=node.coefficients,
            recipe=node.recipe,
            schedule=ScheduleSettings(),
            budget=Budget(train_tokens=10**10, batch_tokens=options.batch),
            seed=0,
            kernels=KernelSettings(kernels=options.kernels, encoder_dtype=options.encoder_dtype),
        )
        self.learner.start_from({"x": torch.randn(16384, options.d_in, generator=torch.Generator().manual_seed(0))})
        active = 50 if name == "relu" else options.k
        level = float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - active / d_sae, dtype=torch.float64)))
        with torch.no_grad():
            if name == "relu":
                sae.get_parameter("b_enc").fill_(-level)
            if name == "jumprelu":
                sae.scale_thresholds_(level / torch.as_tensor(thresholds(sae))[0])
        self.optimizer = self.learner.build_optimizer(OptimizerSettings())
        self.stages: dict[str, list[float]] = {"forward, loss": [], "backward": [], "update": [], "after": []}
        self.l0 = 0.0

    def step(self, rows: Tensor, number: int) -> None:
        """One step on raw rows."""
        marks = [time.perf_counter()]
        loss = self.learner.loss({"x": rows}, number, measure=number == 1)
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        self.learner.before_update(self.optimizer, measure=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        marks.append(time.perf_counter())
        self.learner.after_update(len(rows), number, self.optimizer)
        marks.append(time.perf_counter())
        for stage, first, last in zip(self.stages.values(), marks, marks[1:], strict=False):
            stage.append(last - first)
        if number == 1:
            self.l0 = float(self.learner.batch_metrics["l0"])


class Product:
    """The encoder's forward product alone, into memory that is there already."""

    def __init__(self, learner: Learner, options: argparse.Namespace) -> None:
        self.weight = learner.sae.W_enc.detach().to(getattr(torch, options.encoder_dtype))
        self.out = self.weight.new_empty(options.batch, self.weight.shape[1])

    def step(self, rows: Tensor) -> None:
        """One product."""
        torch.mm(rows.to(self.weight.dtype), self.weight, out=self.out)


class Plain:
    """What one would write by hand, in dense autograd and torch's default Adam."""

    def __init__(self, learner: Learner, name: str, options: argparse.Namespace) -> None:
        sae = learner.sae
        self.name, self.k = name, options.k
        self.subtract = sae.apply_b_dec_to_input
        names = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_enc": sae.get_parameter("b_enc"), "b_dec": sae.b_dec}
        self.W_enc, self.W_dec, self.b_enc, self.b_dec = (
            value.detach().clone(memory_format=torch.contiguous_format).requires_grad_() for value in names.values()
        )
        parameters = [self.W_enc, self.W_dec, self.b_enc, self.b_dec]
        self.log_threshold = None
        if name == "jumprelu":
            function: Any = sae.get_submodule("activation_function")
            self.log_threshold = function.threshold.detach().log().requires_grad_()
            self.bandwidth = function.bandwidth
            parameters.append(self.log_threshold)
        space = learner.input_space
        self.scale, self.centre = space.scale.float(), space.centre.float()
        self.optimizer = torch.optim.Adam(parameters, lr=RATE)

    def step(self, rows: Tensor) -> None:
        """One step on raw rows."""
        x = (rows - self.centre) * self.scale
        pre_acts = (x - self.b_dec if self.subtract else x) @ self.W_enc + self.b_enc
        penalty = 0.0
        if self.name == "relu":
            acts = torch.relu(pre_acts)
            penalty = 2.25 * acts.sum(dim=1).mean()
        elif self.name == "topk":
            values, indices = pre_acts.topk(self.k, dim=1)
            acts = torch.zeros_like(pre_acts).scatter(1, indices, torch.relu(values))
        elif self.name == "batch_topk":
            values, indices = torch.relu(pre_acts).flatten().topk(self.k * len(x))
            acts = torch.zeros(pre_acts.numel()).scatter(0, indices, values).view_as(pre_acts)
        else:
            assert self.log_threshold is not None
            threshold = self.log_threshold.exp()
            acts = jumprelu(pre_acts, threshold, bandwidth=self.bandwidth)
            penalty = step(pre_acts, threshold, bandwidth=self.bandwidth).sum(dim=1).mean()
        loss = (acts @ self.W_dec + self.b_dec - x).square().sum(dim=1).mean() + penalty
        self.optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            gradient = self.W_dec.grad
            assert gradient is not None
            gradient -= (gradient * self.W_dec).sum(dim=1, keepdim=True) * self.W_dec
            self.optimizer.step()
            self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
