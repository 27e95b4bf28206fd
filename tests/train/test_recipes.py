"""Every recipe can be read, planned and run without numbers; its settings are the paper's."""

from __future__ import annotations

from pathlib import Path

import pytest

from cameleer.core.config import load_config
from cameleer.train.config import TrainConfig
from cameleer.train.hardware import HARDWARE
from cameleer.train.plan import Planner, model_config, planner, way_of

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))
WEIGHTS = {  # as published with the models
    "huggyllama/llama-7b": 6_738_415_616,
    "huggyllama/llama-13b": 13_015_864_320,
    "huggyllama/llama-30b": 32_528_943_616,
    "huggyllama/llama-65b": 65_285_660_672,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320,
    "facebook/opt-6.7b": 6_658_473_984,
    "EleutherAI/pythia-6.9b": 6_857_302_016,
}


def made(recipe: Path) -> tuple[TrainConfig, Planner]:
    config = load_config(recipe, TrainConfig)
    return config, planner(config, HARDWARE["h100-80g"], 331e6)


def test_every_model_of_the_paper_has_a_recipe() -> None:
    assert {load_config(recipe, TrainConfig).model for recipe in RECIPES} == set(WEIGHTS)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_dry_run(recipe: Path) -> None:
    """The model has as many weights as published, takes the adapters, and a step goes through."""
    config, plan = made(recipe)
    assert plan.anatomy.weights.all == WEIGHTS[config.model]
    trained, layer, flops = plan.anatomy.learned(way_of(config).method)
    if config.lora is None:
        assert trained == WEIGHTS[config.model]
    else:
        model, _ = model_config(config.model)
        hidden, inner, r = model.hidden_size, model.intermediate_size, config.lora.r
        sides = [(hidden, hidden)] * 2
        if "k_proj" in config.lora.target_modules:
            sides = [(hidden, hidden)] * 4 + [(hidden, inner)] * 3
        assert layer == sum(r * (a + b) for a, b in sides)
        assert trained == layer * model.num_hidden_layers
    assert flops.token > 0
    own = plan.as_configured(8)
    assert own.memory.activations + own.memory.workspace > 0
    assert own.hours > 0


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_settings_of_the_paper(recipe: Path) -> None:
    config = load_config(recipe, TrainConfig)
    assert config.rows_of_a_step(1) == config.rows_of_a_step(8) == 128
    assert (config.warmup_ratio, config.weight_decay) == (0.03, 0)
    later = config.lora is not None and config.lora.r == 64
    large = config.lora is None and ("30b" in recipe.stem or "65b" in recipe.stem)
    assert config.num_train_epochs == (5 if later else 2)
    assert config.learning_rate == (1e-4 if later else 1e-5 if large else 2e-5)
    assert config.max_seq_length == (
        1024 if large else 4096 if "llama2-7b-" in recipe.stem else 2048
    )
    if config.quantization:
        assert config.optim == "paged_adamw_32bit"


def test_qlora_of_65b_fits_one_card_and_all_weights_do_not() -> None:
    folder = RECIPES[0].parent
    assert made(folder / "llama-65b-qlora.yaml")[1].as_configured(1).fits
    assert not made(folder / "llama-65b.yaml")[1].as_configured(8).fits
