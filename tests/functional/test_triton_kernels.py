"""The plain versions of the kernels against numpy twins; the kernels in the interpreter, on a GPU, and compiled for one."""

import inspect
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import sae.functional.triton_kernels as kernels
from sae.functional.triton_kernels import adam, bags, dots, language, top_k, top_k_kernels
from tests.cases import ramp
from tests.reference import kernels as twin

ROOT = Path(__file__).parents[2]
SETTINGS = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
FIRST = torch.ones(())

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed; it comes for Linux on x86_64")


def run_cases(name, *options, **environment):
    """Tests of this folder in a process of their own."""
    cases = str(Path(__file__).with_name(name))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, cases]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_triton
@pytest.mark.slow
def test_kernels_in_the_interpreter():
    run_cases("triton_kernel_cases.py", TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.gpu
def test_kernels_on_the_gpu():
    run_cases("triton_kernel_cases.py", TRITON_INTERPRET="0")


@needs_triton
@pytest.mark.gpu
def test_kernels_on_the_gpu_at_size_and_without_waiting_for_it():
    torch.manual_seed(0)
    rows, d_in, d_sae, k = 1000, 770, 8200, 32
    x, weight = torch.randn(rows, d_in, device="cuda"), torch.randn(d_in, d_sae, device="cuda") / d_in**0.5
    bias, decoder = torch.zeros(d_sae, device="cuda"), weight.T.contiguous()
    offsets = torch.arange(0, rows * k + 1, k, dtype=torch.int32, device="cuda")
    row_of = torch.arange(rows, dtype=torch.int32, device="cuda").repeat_interleave(k, output_size=rows * k)
    latents, moments = decoder.clone(), [torch.zeros_like(decoder) for _ in "12"]
    results = []
    for attempt in range(3):
        torch.cuda.set_sync_debug_mode("error" if attempt else "default")  # the first call compiles
        try:
            values, indices = kernels.encode_top_k(x, weight, bias, k)
            acts = (decoder, indices.flatten(), offsets, values.flatten())
            products = kernels.gathered_dots(x, row_of, decoder, indices.flatten())
            results.append((values, indices, kernels.weighted_bags(*acts), products))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for first, later in zip(results[0], results[2], strict=True):
        assert torch.equal(first, later)
    plain_values, _ = kernels.plain_encode_top_k(x, weight, bias, k)
    torch.testing.assert_close(values, plain_values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(values, (x @ weight).gather(1, indices.long()), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(products.view(rows, k), values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(results[0][2], kernels.plain_weighted_bags(*acts), rtol=1e-5, atol=1e-4)
    kernels.adam_unit_rows_(latents, decoder, *moments, FIRST.cuda(), unit_rows=True, **SETTINGS)
    torch.testing.assert_close(latents.norm(dim=1), torch.ones(d_sae, device="cuda"))


def test_without_triton_the_plain_versions_serve():
    code = """
import sys
sys.modules["triton"] = None
import torch, sae.functional.triton_kernels as kernels
assert not kernels.available()
table, picks = torch.eye(3), torch.tensor([2, 0], dtype=torch.int32)
offsets = torch.tensor([0, 0, 2], dtype=torch.int32)
print(kernels.weighted_bags(table, picks, offsets, torch.tensor([2.0, 3.0])).tolist())
print(kernels.gathered_dots(table, picks, table, picks).tolist())
print(kernels.encode_top_k(table, table, torch.zeros(3), 1)[1].tolist())
moments, settings = (torch.zeros(3, 3), torch.zeros(3, 3)), dict(lr=0, beta1=0, beta2=0, eps=1)
kernels.adam_unit_rows_(table, table, *moments, torch.ones(()), unit_rows=True, **settings)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[[0.0, 0.0, 0.0], [3.0, 0.0, 2.0]]", "[1.0, 1.0]", "[[0], [1], [2]]"]


class NotBuilt:
    """A kernel that cannot be built; launched in vain."""

    def __init__(self, error):
        self.error, self.launches = error, 0

    def __getitem__(self, grid):
        return self

    def __call__(self, *args, **kwargs):
        self.launches += 1
        raise self.error


def errors_of_building():
    found = [RuntimeError("Failed to find C compiler. Please specify via CC environment variable"), OSError("no libcuda.so")]
    if find_spec("triton") is not None:
        from triton.runtime.errors import OutOfResources

        found.append(OutOfResources(300, 228, "shared memory"))
    return found


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Kernels are launched on tensors of the CPU, until one of them cannot be built."""
    monkeypatch.setattr(language, "_trust", SimpleNamespace(lost=False))
    monkeypatch.setattr(language, "_INSTALLED", True)
    for module in (bags, dots):
        monkeypatch.setattr(module, "runs_on", lambda tensor: not language._trust.lost)


@pytest.mark.skipif(language.interpreted(), reason="TRITON_INTERPRET is set")
@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("error", errors_of_building(), ids=lambda error: type(error).__name__)
def test_a_kernel_that_cannot_be_built_is_said_once_and_done_without(error, monkeypatch, caplog):
    broken = NotBuilt(error)
    monkeypatch.setattr(bags, "_sum_bags", broken)
    monkeypatch.setattr(dots, "_dot_slabs", broken)
    table, picks, offsets = torch.eye(3), torch.tensor([2, 0]).int(), torch.tensor([0, 0, 2]).int()
    for _ in range(2):
        assert kernels.weighted_bags(table, picks, offsets, torch.tensor([2.0, 3.0])).tolist() == [[0, 0, 0], [3, 0, 2]]
        assert kernels.gathered_dots(table, picks, table, picks).tolist() == [1, 1]
    assert broken.launches == 1
    (said,) = caplog.messages
    assert said.startswith("Triton kernels are not used: weighted_bags could not be built")
    assert not kernels.available()


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("error", [RuntimeError("CUDA error: an illegal memory access"), ValueError("wrong shapes")], ids=str)
def test_other_errors_of_a_kernel_are_not_hidden(error, monkeypatch):
    monkeypatch.setattr(bags, "_sum_bags", NotBuilt(error))
    with pytest.raises(type(error), match=str(error)):
        kernels.weighted_bags(torch.eye(3), torch.zeros(1).int(), torch.tensor([0, 1]).int(), torch.ones(1))
    assert not language._trust.lost


def test_kernels_are_for_cuda_devices():
    assert kernels.available() == (find_spec("triton") is not None and (language.interpreted() or torch.cuda.is_available()))
    assert language.runs_on(torch.zeros(1)) == language.interpreted()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_plain_sums_and_products(dtype):
    table, rows, weights = ramp(11, 37, dtype=dtype), ramp(6, 37, dtype=dtype, phase=1), ramp(50, dtype=dtype, phase=2)
    picks, row_of = (torch.arange(50) * 7 % 11).int(), (torch.arange(50) * 5 % 6).int()
    offsets = torch.tensor([0, 0, 3, 50, 50], dtype=torch.int32)
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 1e-13}
    found = kernels.plain_weighted_bags(table, picks, offsets, weights)
    expected = twin.weighted_bags(*(tensor.numpy() for tensor in (table, picks, offsets, weights)))
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), **tolerance)
    dots_found = kernels.plain_gathered_dots(rows, row_of, table, picks)
    dots_expected = twin.gathered_dots(*(tensor.numpy() for tensor in (rows, row_of, table, picks)))
    assert dots_found.dtype == dtype
    torch.testing.assert_close(dots_found.double(), torch.from_numpy(dots_expected).double(), **tolerance)


@pytest.mark.parametrize("k", [1, 6, 50])
def test_plain_top_k_with_ties(k):
    x, weight, bias = ramp(4, 3).float(), (torch.arange(150) * 5 % 4 - 1.0).reshape(3, 50), torch.zeros(50)
    x[1] = 0
    values, indices = kernels.plain_encode_top_k(x.round(), weight, bias, k)
    expected_values, expected_indices = twin.encode_top_k(x.round().numpy(), weight.numpy(), bias.numpy(), k)
    assert indices.tolist() == expected_indices.tolist()
    assert values.tolist() == expected_values.tolist()


def test_plain_adam_is_that_of_pytorch():
    weight = ramp(5, 7)
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.Adam([parameter], lr=0.01, betas=(0.9, 0.999), eps=1e-8)
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for step in range(1, 4):
        parameter.grad = ramp(5, 7, phase=step)
        optimizer.step()
        count = torch.tensor(float(step))
        kernels.plain_adam_unit_rows_(weight, ramp(5, 7, phase=step), first, second, count, unit_rows=False, **SETTINGS)
    torch.testing.assert_close(weight, parameter.detach(), rtol=0, atol=1e-15)
    torch.testing.assert_close(second, optimizer.state[parameter]["exp_avg_sq"], rtol=1e-14, atol=0)


def test_plain_adam_on_the_sphere():
    weight, gradients = ramp(5, 7), [ramp(5, 7, phase=phase) for phase in (1, 2, 3)]
    weight[2] = 0
    state = (weight.clone(), torch.zeros_like(weight), torch.zeros_like(weight))
    for step, gradient in enumerate(gradients, start=1):
        kernels.plain_adam_unit_rows_(state[0], gradient, *state[1:], torch.tensor(float(step)), unit_rows=True, **SETTINGS)
    expected = twin.adam_unit_rows(weight.numpy(), [gradient.numpy() for gradient in gradients], unit_rows=True, **SETTINGS)
    for found, reference in zip(state, expected, strict=True):
        torch.testing.assert_close(found, torch.from_numpy(reference), rtol=0, atol=1e-12)


def test_wrong_arguments_are_refused():
    x, weight, bias = torch.zeros(2, 3), torch.zeros(3, 5), torch.zeros(5)
    with pytest.raises(ValueError, match=r"1\.\.d_sae=5, got 6"):
        kernels.encode_top_k(x, weight, bias, 6)
    with pytest.raises(ValueError, match=r"both bfloat16, got torch\.float32 and torch\.bfloat16"):
        kernels.encode_top_k(x, weight.bfloat16(), bias, 2)
    state = [torch.zeros(3, 5) for _ in range(4)]
    with pytest.raises(ValueError, match="exp_avg is changed in place and must be contiguous"):
        kernels.adam_unit_rows_(*state[:2], torch.zeros(5, 3).T, state[3], FIRST, unit_rows=False, **SETTINGS)


TRITON_NAMES = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float64: "fp64",
    torch.int32: "i32",
    torch.int64: "i64",
}


class Compiled:
    """Stands for a kernel: what it is launched with is compiled for an H100, and nothing runs."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.binaries = []

    def __getitem__(self, grid):
        assert all(size > 0 for size in grid)
        return self.compile

    def compile(self, *args, num_warps=4, num_stages=3, **kwargs):
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        signature, constants = {}, {}
        arguments = inspect.signature(self.kernel.fn).bind(*args, **kwargs).arguments
        for parameter, (name, value) in zip(self.kernel.params, arguments.items(), strict=True):
            one = isinstance(value, int) and value == 1 and not parameter.do_not_specialize
            if parameter.is_constexpr or one:  # Triton makes a constant of a 1
                signature[name], constants[name] = "constexpr", value
            elif isinstance(value, torch.Tensor):
                signature[name] = "*" + TRITON_NAMES[value.dtype]
            else:
                signature[name] = parameter.annotation_type or "i32"
        source = ASTSource(fn=self.kernel, signature=signature, constexprs=constants)
        options = {"num_warps": num_warps, "num_stages": num_stages}
        self.binaries.append(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm)


@needs_triton
@pytest.mark.parametrize("kernel", ["select", "recompute", "rank"])
def test_no_kernel_is_built_for_one_k(kernel):
    """Annealing goes through hundreds: what depends on k is neither a constant nor looked at for its divisors."""
    parameters = {one.name: one for one in getattr(top_k_kernels, kernel).params}
    assert {"k", "slots"} <= parameters.keys()
    assert not any(parameters[name].is_constexpr or not parameters[name].do_not_specialize for name in ("k", "slots"))
    assert {name for name, one in parameters.items() if one.is_constexpr} <= {"KEEP", "GROUP", "HAS_SLOTS", "BLOCK", "DEPTH"}


@pytest.mark.parametrize("d_sae", [2**14, 2**17, 2**19])
def test_stored_entries_of_the_search_are_bounded_however_many_rows(d_sae):
    group, keep = top_k._grouping(32, d_sae)
    stored = -(-d_sae // group) * keep
    rows = top_k._rows_at_once(stored)
    assert rows * stored * 8 <= 256 * 2**20
    assert rows % (top_k._BAND * top_k._TILE) == 0


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(language.interpreted(), reason="TRITON_INTERPRET is set")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_kernels_compile_for_an_h100(dtype, monkeypatch, tmp_path):
    """The interpreter takes much that the compiler refuses. Needs no GPU."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(language, "_INTERPRETED", True)
    monkeypatch.setattr(top_k, "interpreted", lambda: False)
    stands = []
    for module, names in (
        (bags, ("_sum_chunks", "_sum_bags")),
        (dots, ("_dot_slabs",)),
        (adam, ("_adam_rows",)),
        (top_k_kernels, ("group_bests", "select", "recompute", "rank")),
    ):
        for name in names if dtype != torch.float64 or module is not top_k_kernels else ():
            stands.append(Compiled(getattr(module, name)))
            monkeypatch.setattr(module, name, stands[-1])
    table, picks = torch.zeros(11, 300, dtype=dtype), torch.zeros(200, dtype=torch.int32)
    for offsets in ([0, 200], [0, 3, 200]):
        kernels.weighted_bags(table, picks, torch.tensor(offsets, dtype=torch.int32), torch.zeros(200, dtype=dtype))
    kernels.gathered_dots(table, picks, table, picks)
    for unit_rows, told in ((True, {}), (False, {"gradient_scale": FIRST, "left_out": FIRST})):
        kernels.adam_unit_rows_(*(table.clone() for _ in range(4)), FIRST, unit_rows=unit_rows, **told, **SETTINGS)
    if dtype != torch.float64:
        for k, allow_tf32 in ((1, False), (6, True)):
            kernels.encode_top_k(table[:5, :19], torch.zeros(19, 140, dtype=dtype), torch.zeros(140), k, allow_tf32=allow_tf32)
    assert all(stand.binaries and all(binary["cubin"] for binary in stand.binaries) for stand in stands)
    for assembly in (binary["ptx"] for stand in stands for binary in stand.binaries):
        assert not re.search(r"\b(atom|red)\.", assembly), "an atomic operation: sums would depend on the order of arrival"
