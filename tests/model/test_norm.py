"""Lean norms give the same outputs to the last bit, and gradients nearer to exact ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from cameleer.model.norm import lean_norms

TYPES = [torch.float32, torch.bfloat16]


def norm(kind: type, dtype: torch.dtype) -> Any:
    module = kind(96, eps=1e-5)
    nn.init.normal_(module.weight)
    return module.to(dtype)


def gradients(module: Any, x: Tensor, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    own = x.clone().requires_grad_()
    module.weight.grad = None
    out = module(own)
    out.backward(given)
    assert own.grad is not None
    return out.detach(), own.grad, module.weight.grad


def exactly(module: Any, x: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the formula in float64."""
    own = x.double().requires_grad_()
    weight = module.weight.detach().double().requires_grad_()
    out = weight * own / (own.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    out.backward(given.double())
    assert own.grad is not None
    assert weight.grad is not None
    return own.grad, weight.grad


def off(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", [LlamaRMSNorm, MistralRMSNorm, Qwen3RMSNorm])
def test_outputs_stay_and_gradients_are_no_worse(kind: type, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    plain = norm(kind, dtype)
    lean = copy.deepcopy(plain)
    assert lean_norms(lean) == 1
    x, given = (torch.randn(2, 50, 96).mul(3).to(dtype) for _ in range(2))
    before = given.clone()
    out, d_x, d_weight = gradients(plain, x, given)
    lean_out, lean_d_x, lean_d_weight = gradients(lean, x, given)
    assert torch.equal(out, lean_out)
    assert torch.equal(given, before), "the gradient belongs to others as well"
    exact_d_x, exact_d_weight = exactly(plain, x, given)
    floor = 4 * torch.finfo(torch.float32).eps
    assert off(lean_d_x, exact_d_x) <= off(d_x, exact_d_x) + floor
    assert off(lean_d_weight, exact_d_weight) <= off(d_weight, exact_d_weight) + floor


def test_frozen_weights_get_no_gradient() -> None:
    lean = norm(LlamaRMSNorm, torch.float32)
    lean_norms(lean)
    lean.weight.requires_grad_(False)
    x = torch.randn(3, 96, requires_grad=True)
    lean(x).sum().backward()
    assert lean.weight.grad is None
    assert x.grad is not None


def test_norms_of_another_formula_are_left_alone() -> None:
    assert lean_norms(norm(Gemma2RMSNorm, torch.float32)) == 0  # it multiplies by 1 + weight
    assert lean_norms(nn.LayerNorm(8)) == 0


def test_only_the_input_is_kept() -> None:
    lean = norm(LlamaRMSNorm, torch.bfloat16)
    lean_norms(lean)
    x = torch.randn(64, 96).to(torch.bfloat16).requires_grad_()
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        lean(x)
    own = sum(t.nbytes for t in kept if t.data_ptr() not in (x.data_ptr(), lean.weight.data_ptr()))
    assert own == 64 * 4  # a float32 scale for each token


def test_it_works_on_shapes_alone() -> None:
    with torch.device("meta"):
        lean = LlamaRMSNorm(96)
        assert lean_norms(lean) == 1
        assert lean(torch.randn(3, 96)).shape == (3, 96)
