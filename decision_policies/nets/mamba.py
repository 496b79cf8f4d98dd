"""Mamba (S6), the selective state space mixer, with one forward for sequences and for steps.

Letters: B batch, L tokens, D model width, E inner width (expand * D), N SSM state, W convolution
width, R rank of the step-size projection.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.nets.mixer import Mixer
from decision_policies.ops.linear import linear
from decision_policies.ops.selective_scan import selective_scan
from decision_policies.tree import State

SHORT = 4
"""Up to this many tokens the convolution is done with few operators rather than little memory."""


class MambaState(NamedTuple):
    """What a Mamba block carries from token to token.

    Attributes:
        conv: The last W - 1 inputs of the convolution, (B, W - 1, E).
        ssm: The state of the scan, (B, N, E).
    """

    conv: Tensor
    ssm: Tensor


class Mamba(Mixer):
    """The stock Mamba-1 block, parameter for parameter (names, shapes, initialisation).

    Weights of `mamba_ssm.Mamba` load with `load_state_dict` as they are. For a token x:
    (u, z) = in_proj x; u = SiLU(conv1d u); (delta, B, C) = x_proj u; delta = softplus(dt_proj
    delta); y = scan(u, delta, -exp(A_log), B, C, D); out = out_proj (y * SiLU z).

    Args:
        d_model: Token width D.
        d_state: State size N of each channel.
        d_conv: Width W of the causal depthwise convolution; None leaves it out (Decision
            MetaMamba replaces it by its own mixer).
        expand: Inner width in units of D.
        dt_rank: Rank R of the step-size projection; None is ceil(D / 16).
        dt_min: Smallest step size at initialisation.
        dt_max: Largest step size at initialisation.
        dt_init: "random" draws the step-size projection uniformly, "constant" fills it.
        dt_scale: Scale of that projection, in units of R^-0.5.
        dt_init_floor: No step size starts below this.
        conv_bias: Whether the convolution has a bias.
        bias: Whether the input and output projections have biases.

    References:
        Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
        arXiv 2312.00752, section 3.4 and algorithm 2.
    """

    def __init__(  # noqa: PLR0913 - the options of the stock block
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int | None = 4,
        expand: int = 2,
        *,
        dt_rank: int | None = None,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.d_inner = expand * d_model
        self.d_state = d_state
        self.d_conv = d_conv
        self.dt_rank = math.ceil(d_model / 16) if dt_rank is None else dt_rank
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=bias)
        if d_conv is not None:
            self.conv1d = nn.Conv1d(
                self.d_inner, self.d_inner, d_conv, groups=self.d_inner, bias=conv_bias
            )
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.empty(self.d_inner, d_state))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias)
        with torch.no_grad():
            self.A_log.copy_(torch.arange(1.0, d_state + 1, device="cpu").log())
        self._init_step_size(dt_min, dt_max, dt_init, dt_scale, dt_init_floor)

    def _init_step_size(
        self, low: float, high: float, init: str, scale: float, floor: float
    ) -> None:
        """Initialise dt_proj so that softplus(bias) is log-uniform in [low, high].

        A model-wide re-initialisation after this would set every step size to softplus(0) = 0.69
        and leave a memory of about two tokens, so nothing in this package does one.
        """
        bound = scale * self.dt_rank**-0.5
        if init == "random":
            nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        elif init == "constant":
            nn.init.constant_(self.dt_proj.weight, bound)
        else:
            raise ValueError(f"dt_init must be 'random' or 'constant', got {init!r}")
        if self.dt_proj.bias.is_meta:
            return  # there is nothing to fill, and to compute its shape torch imports its compiler
        span = math.log(high) - math.log(low)
        step = (torch.rand(self.d_inner) * span + math.log(low)).exp().clamp(min=floor)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse of softplus

    def initial_state(self, batch: int) -> MambaState:
        """Make the all-zero state of `batch` rows."""
        past, _ = self._past(batch)
        return MambaState(past, self.D.new_zeros(batch, self.d_state, self.d_inner))

    def _past(self, batch: int) -> tuple[Tensor, None]:
        """Make the state before the first token; `mamba_ssm` scans without an initial one only."""
        width = 0 if self.d_conv is None else self.d_conv - 1
        return self.D.new_zeros(batch, width, self.d_inner), None

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        kind: Tensor | None = None,
        wanted: slice | None = None,
    ) -> tuple[Tensor, State]:
        """Mix the tokens, and gate and project those that are wanted; see `Mixer.forward`."""
        conv, ssm = self._past(len(x)) if state is None else cast(MambaState, state)
        # linear rather than the modules: in a step of three tokens, a module call is a cost.
        u, z = linear(x, self.in_proj.weight, self.in_proj.bias).chunk(2, -1)
        if self.d_conv is not None:
            u, conv = self._convolve(u, conv)
        u = F.silu(u)
        y, after = selective_scan(u, *self.selection(u), self.D, ssm)
        if wanted is not None:
            y, z = y[:, wanted], z[:, wanted]
        y = linear(y * F.silu(z), self.out_proj.weight, self.out_proj.bias)
        return y, MambaState(conv, after)

    def selection(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Make the scan's parameters of its input.

        Args:
            u: Input of the scan, (B, L, E).

        Returns:
            Step sizes (B, L, E), decay rates (E, N), input and output weights (B, L, N).
        """
        sizes = (self.dt_rank, self.d_state, self.d_state)
        delta, b, c = torch.split_with_sizes(linear(u, self.x_proj.weight), sizes, -1)
        delta = F.softplus(linear(delta, self.dt_proj.weight, self.dt_proj.bias))
        return delta, -self.A_log.exp(), b, c

    def _convolve(self, u: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Causal depthwise convolution of (B, L, E) with the W - 1 inputs before it."""
        length, width = u.shape[1], past.shape[1] + 1
        full = torch.cat((past, u), 1)
        weight, bias = self.conv1d.weight.squeeze(1), self.conv1d.bias  # (E, W)
        if length <= SHORT:
            y = (full.unfold(1, width, 1) * weight).sum(-1)
        else:
            y = full[:, :length] * weight[:, 0]
            for k in range(1, width):
                y = torch.addcmul(y, full[:, k : k + length], weight[:, k])
        return y if bias is None else y + bias, full[:, length:]
