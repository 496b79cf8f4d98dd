"""Compare an update with Hugging Face's Decision Transformer: `python -m benchmarks.training`."""

from __future__ import annotations

import torch

torch.set_num_threads(1)

from collections.abc import Callable, Sequence  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from gymnasium.spaces import Box  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from transformers import DecisionTransformerConfig, DecisionTransformerModel  # noqa: E402

from benchmarks.ledger import Row, note  # noqa: E402
from benchmarks.timing import paired  # noqa: E402
from decision_policies import (  # noqa: E402
    DC,
    DM,
    DMM,
    DT,
    DeMa,
    MambaDM,
    SequenceAlgorithm,
    Trajectories,
)
from decision_policies.batch import Window  # noqa: E402
from decision_policies.data.windows import WindowSampler  # noqa: E402
from decision_policies.learning.training import Training  # noqa: E402

OBSERVATION, ACTION, RATE, DECAY, MAX_NORM = 11, 3, 1e-4, 1e-4, 0.25
WANTED = {"DeMa": 1.5, "DMM": 1.5, "DT, dropout 0.1": 1.5, "DT, bfloat16": 2.0}
"""How many times as fast as the peer with its dropout an update is to be."""

COMPILED = ("DeMa", "DT", "DT, dropout 0.1", "DC")
"""Variants whose update is compared with itself compiled by torch."""

Update = Callable[[], Tensor]


def make_sampler(context: int, batch: int) -> WindowSampler:
    """Draw random episodes with the dimensions of D4RL's Hopper."""
    rng = np.random.default_rng(0)
    length = 1000
    episode = {
        "observations": rng.normal(size=(length, OBSERVATION)),
        "actions": rng.uniform(-1, 1, size=(length, ACTION)),
        "rewards": rng.uniform(0, 4, size=length),
    }
    observations, actions = Box(-np.inf, np.inf, (OBSERVATION,)), Box(-1.0, 1.0, (ACTION,))
    trajectories = Trajectories.from_episodes([episode], observations, actions)
    return WindowSampler(trajectories, context, batch, seed=0)


def our_update(
    system: type[SequenceAlgorithm], sampler: WindowSampler, window: Window, **settings: Any
) -> tuple[Update, int]:
    """Make a call that does one update of a system, as `learn` does it; count its parameters."""
    data = sampler.trajectories
    algorithm = system(context_length=sampler.length, device="cpu", **settings)
    policy = algorithm.make_policy(data.observation_space, data.action_space, return_scale=1000.0)
    policy.model.train()
    training = Training(policy.model, sampler, DECAY, seed=0)

    def update() -> Tensor:
        losses = training.backward(
            window, precision=algorithm.precision, torch_compile=algorithm.torch_compile
        )
        training.update(losses, RATE, MAX_NORM, 0)
        return losses["loss"].detach()

    return update, parameters(policy.model)


def transformer_update(
    window: Window, width: int, layers: int, dropout: float
) -> tuple[Update, int]:
    """Make a call that does one update of the Decision Transformer, and count its parameters."""
    config = DecisionTransformerConfig(
        state_dim=OBSERVATION,
        act_dim=ACTION,
        hidden_size=width,
        n_layer=layers,
        n_head=1,
        max_ep_len=1000,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=None,  # there are no words; the defaults make it warn
        eos_token_id=None,
    )
    model = DecisionTransformerModel(config).train()
    torch.set_num_threads(1)  # whatever the construction did to it
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    mask, real = window.mask.float(), window.mask

    def update() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        output = model(
            states=window.observations,
            actions=window.actions,
            rewards=window.rewards.unsqueeze(-1),
            returns_to_go=window.returns_to_go.unsqueeze(-1) / 1000,
            timesteps=window.timesteps,
            attention_mask=mask,
        )
        loss = nn.functional.mse_loss(output.action_preds[real], window.actions[real])
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        return loss.detach()

    return update, parameters(model)


def parameters(model: nn.Module) -> int:
    """Count the model's weights."""
    return sum(p.numel() for p in model.parameters())


def main(
    width: int = 128,
    layers: int = 3,
    context: int = 20,
    batch: int = 64,
    repeats: int = 11,
    compiled: Sequence[str] = COMPILED,
) -> None:
    """Print a line for each system against each setting of the peer, and each compiled one."""
    sampler = make_sampler(context, batch)
    window = sampler.sample()
    peers = {f"dropout {p}": transformer_update(window, width, layers, p) for p in (0.1, 0.0)}
    variants: dict[str, tuple[type[SequenceAlgorithm], dict[str, Any]]] = {
        "DeMa": (DeMa, {}),
        "DeMa, block='post'": (DeMa, {"block": "post"}),
        "DeMa, expand=2": (DeMa, {"expand": 2}),
        "DMM": (DMM, {}),
        "DT": (DT, {}),
        "DT, dropout 0.1": (DT, {"dropout": 0.1}),
        "DT, bfloat16": (DT, {"precision": "bfloat16"}),
        "DC": (DC, {}),
        "DM": (DM, {}),
        "MambaDM": (MambaDM, {}),
    }
    print("an update (forward, backward, clip, AdamW), without drawing the batch; one thread,")
    print(f"CPU time, medians of {repeats} alternating calls; peer: Hugging Face transformers'")
    print(f"DecisionTransformerModel; both width {width}, {layers} layers, K {context}, B {batch}")
    print(
        f"{'ours':20} {'weights':>9} {'time':>9}   {'peer':12} {'weights':>9} {'time':>9}   ratio"
    )
    sizes = {"d_model": width, "n_layers": layers}
    for name, (system, settings) in variants.items():
        ours, size = our_update(system, sampler, window, **sizes, **settings)
        for setting, (theirs, other) in peers.items():
            timing = paired(ours, theirs, repeats)
            wanted = WANTED.get(name) if setting == "dropout 0.1" else None
            what = f"update of {name}, width {width}, K {context}, B {batch}"
            peer = f"Hugging Face's Decision Transformer, {setting}"
            note(Row(what, timing.left, peer, timing.right, timing.spread, wanted))
            print(
                f"{name:20} {size:9,} {timing.left * 1e3:6.1f} ms   {setting:12} {other:9,} "
                f"{timing.right * 1e3:6.1f} ms {timing.ratio:6.2f}x",
                flush=True,
            )
    for name in compiled:
        system, settings = variants[name]
        compare_compiled(name, system, {**sizes, **settings}, sampler, window, repeats)


def compare_compiled(
    name: str,
    system: type[SequenceAlgorithm],
    settings: dict[str, Any],
    sampler: WindowSampler,
    window: Window,
    repeats: int,
) -> None:
    """Print how much faster a system's update is where torch has compiled it."""
    ours, plain = (
        our_update(system, sampler, window, **settings, torch_compile=chosen)[0]
        for chosen in (True, False)
    )
    timing = paired(ours, plain, repeats)  # the first call, which compiles, does not count
    what = f"update of {name}, compiled by torch, K {sampler.length}, B {len(window.mask)}"
    note(Row(what, timing.left, "the same, not compiled", timing.right, timing.spread))
    print(f"{name}, compiled: {timing.ratio:.2f}x as fast as not compiled", flush=True)


if __name__ == "__main__":
    main()
