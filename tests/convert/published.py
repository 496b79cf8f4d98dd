"""Independent re-statements of published models: their names, and what they compute."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, LAYERS, SEEN, ACTED, STEPS = 16, 3, 3, 2, 40
"""Token width, blocks, numbers in an observation and an action, rows of the timestep table."""


class Transposed(nn.Module):
    """GPT-2's linear map, whose weight is (inputs, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * inputs**-0.5)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x @ self.weight + self.bias
        return y


def attend(queries_keys_values: Tensor, heads: int) -> Tensor:
    """Causal attention, from its definition."""
    parts = queries_keys_values.chunk(3, -1)
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    mixed: Tensor = scores.masked_fill(later, -torch.inf).softmax(-1) @ v
    return mixed.transpose(1, 2).flatten(2)


class GPT2Block(nn.Module):
    """The block of the Decision Transformer, with the buffers of its causal mask."""

    def __init__(self, heads: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.ModuleDict(
            {"c_attn": Transposed(WIDTH, 3 * WIDTH), "c_proj": Transposed(WIDTH, WIDTH)}
        )
        self.attn.register_buffer("bias", torch.ones(1, 1, 8, 8, dtype=torch.uint8).tril())
        self.attn.register_buffer("masked_bias", torch.tensor(-1e4))
        self.mlp = nn.ModuleDict(
            {"c_fc": Transposed(WIDTH, 4 * WIDTH), "c_proj": Transposed(4 * WIDTH, WIDTH)}
        )
        self.heads, self.activation = heads, activation

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn["c_proj"](attend(self.attn["c_attn"](self.ln_1(x)), self.heads))
        y: Tensor = self.mlp["c_proj"](self.activation(self.mlp["c_fc"](self.ln_2(x))))
        return x + y


class MambaBlock(nn.Module):
    """mamba_ssm's block, token by token."""

    def __init__(self, expand: int = 2, width: int = 4, *, bias: bool = False) -> None:
        super().__init__()
        inner, rank, state = expand * WIDTH, -(-WIDTH // 16), 5
        self.in_proj = nn.Linear(WIDTH, 2 * inner, bias=bias)
        if width:
            self.conv1d = nn.Conv1d(inner, inner, width, groups=inner, padding=width - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.randn(inner, state))
        self.D = nn.Parameter(torch.randn(inner))
        self.out_proj = nn.Linear(inner, WIDTH, bias=bias)
        self.sizes = (rank, state, state)

    def forward(self, x: Tensor) -> Tensor:
        u, z = self.in_proj(x).chunk(2, -1)
        if hasattr(self, "conv1d"):
            u = self.conv1d(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        u = F.silu(u)
        step, into, out = self.x_proj(u).split(self.sizes, -1)
        step = F.softplus(self.dt_proj(step))
        state, outputs = torch.zeros(len(x), *self.A_log.shape), []
        for t in range(x.shape[1]):
            decay = torch.exp(-step[:, t, :, None] * self.A_log.exp())
            state = decay * state + (step[:, t] * u[:, t])[..., None] * into[:, t, None]
            outputs.append((state * out[:, t, None]).sum(-1) + self.D * u[:, t])
        y: Tensor = self.out_proj(torch.stack(outputs, 1) * F.silu(z))
        return y


def perceptron() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH), nn.Dropout(0.1)
    )


class DecisionMambaBlock(nn.Module):
    """The block of Decision Mamba."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_mamba, self.mamba = nn.LayerNorm(WIDTH), MambaBlock()
        self.ln_2, self.mlp_channels = nn.LayerNorm(WIDTH), perceptron()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mamba(self.norm_mamba(x))
        y: Tensor = self.mlp_channels(self.ln_2(x))
        return x + y


class Convolution(nn.Module):
    """Decision ConvFormer's mixer: every modality's filter over all tokens, read at its own."""

    def __init__(self, kinds: int, window: int, project: bool) -> None:
        super().__init__()
        for kind in ("rtg", "obs", "act")[:kinds]:
            self.add_module(f"{kind}_conv1d", nn.Conv1d(WIDTH, WIDTH, window, groups=WIDTH))
        if project:
            self.fc = nn.Linear(WIDTH, WIDTH)
        self.kinds, self.window = kinds, window

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, self.window - 1, 0)).transpose(1, 2)
        filtered = torch.zeros_like(x)
        for index, convolution in enumerate(list(self.children())[: self.kinds]):
            filtered[:, index :: self.kinds] = convolution(padded).mT[:, index :: self.kinds]
        y: Tensor = self.fc(filtered) if hasattr(self, "fc") else filtered
        return y


class ConvBlock(nn.Module):
    """The block of Decision ConvFormer; with heads, the hybrid's last one."""

    def __init__(self, kinds: int, *, heads: int = 0, project: bool = False) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), perceptron()
        if heads:
            maps = {name: nn.Linear(WIDTH, WIDTH) for name in ("key", "query", "value", "proj")}
            self.attn = nn.ModuleDict(maps)
            self.attn.register_buffer("mask", torch.ones(1, 1, 8, 8).tril())
        else:
            self.conv = Convolution(kinds, 6, project)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.ln_1(x)
        if self.heads:
            parts = [self.attn[name](y) for name in ("query", "key", "value")]
            x = x + self.attn["proj"](attend(torch.cat(parts, -1), self.heads))
        else:
            x = x + self.conv(y)
        y = self.mlp(self.ln_2(x))
        return x + y


class Body(nn.Module):
    """Blocks and the last norm, with the vocabulary that nothing uses."""

    def __init__(self, *blocks: nn.Module, vocabulary: bool = False) -> None:
        super().__init__()
        self.h, self.ln_f = nn.ModuleList(blocks), nn.LayerNorm(WIDTH)
        if vocabulary:
            self.wte = nn.Embedding(1, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.h:
            x = block(x)
        y: Tensor = self.ln_f(x)
        return y


class Dense(nn.Module):
    """MetaMamba's local mixer."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.lin = nn.Linear(window * WIDTH, WIDTH, bias=False)
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, self.window - 1, 0))
        y: Tensor = self.lin(padded.unfold(1, self.window, 1).mT.flatten(2))
        return y


class MetaMambaBody(nn.Module):
    """MetaMamba's layers with their two shared norms; a plain list hides a mixer from the names."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.ln_f = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.local_sequence_mixers = (
            [Dense(6)] * LAYERS if hidden else nn.ModuleList(Dense(6) for _ in range(LAYERS))
        )
        self.global_sequence_mixers = nn.ModuleList(MambaBlock(1, 0) for _ in range(LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        for dense, mamba in zip(
            self.local_sequence_mixers, self.global_sequence_mixers, strict=True
        ):
            x = x + dense(self.ln_1(x))
            x = x + mamba(self.ln_2(x))
        y: Tensor = self.ln_f(x)
        return y


class Published(nn.Module):
    """What surrounds every published body: embeddings, one norm, and the action's head.

    Args:
        name: What the body is called.
        body: Maps tokens (B, L, D).
        kinds: Tokens in a step; 2 without the actions, whose embedding is there all the same.
        timesteps: Whether there is a table of timestep embeddings.
        tanh: Whether the head ends in a tanh.
        unused: Whether there are heads that no action depends on.
    """

    def __init__(
        self,
        name: str,
        body: nn.Module,
        *,
        kinds: int = 3,
        timesteps: bool = True,
        tanh: bool = True,
        unused: bool = False,
    ) -> None:
        super().__init__()
        self.add_module(name, body)
        self.body, self.kinds, self.tanh = [body], kinds, tanh
        if timesteps:
            self.embed_timestep = nn.Embedding(STEPS, WIDTH)
        self.embed_return = nn.Linear(1, WIDTH)
        self.embed_state = nn.Linear(SEEN, WIDTH)
        self.embed_action = nn.Linear(ACTED, WIDTH)
        self.embed_ln = nn.LayerNorm(WIDTH)
        self.predict_action = nn.Sequential(nn.Linear(WIDTH, ACTED))
        if unused:
            self.predict_state = nn.Linear(WIDTH, SEEN)
            self.predict_return = nn.Linear(WIDTH, 1)
        for name, parameter in self.named_parameters():  # norms that do something
            if parameter.ndim == 1 and not name.endswith((".D", "dt_proj.bias")):
                nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.3)

    def forward(self, states: Tensor, actions: Tensor, returns: Tensor, steps: Tensor) -> Tensor:
        """Predict the actions (B, T, A) of a window; the returns are (B, T, 1)."""
        tokens = [self.embed_return(returns), self.embed_state(states), self.embed_action(actions)]
        tokens = tokens[: self.kinds]
        if hasattr(self, "embed_timestep"):
            tokens = [token + self.embed_timestep(steps) for token in tokens]
        x = self.body[0](self.embed_ln(torch.stack(tokens, 2).flatten(1, 2)))
        y: Tensor = self.predict_action(x.unflatten(1, (-1, self.kinds))[:, :, 1])
        return y.tanh() if self.tanh else y
