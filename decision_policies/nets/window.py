"""Mixers of the last few tokens: a dense window (DMM) and modality-wise convolutions (DC)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.nets.mixer import Mixer
from decision_policies.ops.linear import linear
from decision_policies.tree import State

SHORT = 8
"""Up to this many tokens a matrix product is cheaper than a convolution."""


class DenseWindow(Mixer):
    """One matrix over the last w tokens: y_t = W [x_{t-w+1}; ...; x_t], zeros before the first.

    Args:
        d_model: Token width D.
        window: Number w of tokens.
        bias: Whether there is a bias.
        frozen: Keep the matrix as it was drawn: it is saved, and not trained.

    References:
        Decision MetaMamba, arXiv 2602.19805: the dense sequence mixer (w = 6, no bias).
    """

    weight: Tensor

    def __init__(
        self, d_model: int, window: int = 6, *, bias: bool = False, frozen: bool = False
    ) -> None:
        super().__init__()
        self.window = window
        linear = nn.Linear(window * d_model, d_model, bias=bias)
        if frozen:
            self.register_buffer("weight", linear.weight.detach())
        else:
            self.weight = linear.weight  # (D, w D), the oldest token first
        self.bias = linear.bias

    def initial_state(self, batch: int) -> Tensor:
        """Make the last w - 1 tokens of `batch` rows, all zero: (B, w - 1, D)."""
        return self.weight.new_zeros(batch, self.window - 1, len(self.weight))

    def forward(
        self, x: Tensor, state: State | None = None, kind: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Mix the tokens; see `Mixer.forward`."""
        past = self.initial_state(len(x)) if state is None else state
        assert isinstance(past, Tensor)
        full = torch.cat((past, x), 1)
        length, width = x.shape[1:]
        if length <= SHORT:
            windows = torch.cat([full[:, k : k + length] for k in range(self.window)], -1)
            return linear(windows, self.weight, self.bias), full[:, length:]
        filters = self.weight.view(width, self.window, width).transpose(1, 2)
        y = F.conv1d(full.transpose(1, 2), filters, self.bias).transpose(1, 2)
        return y, full[:, length:]


class ModalConv(Mixer):
    """A causal depthwise convolution whose filter depends on the modality of the token it ends at.

    Each modality has a filter of its own over the mixed sequence of all modalities.

    Args:
        d_model: Token width D.
        n_kinds: Number of modalities; `kind` in `forward` tells which one a token is.
        window: Width w of the filters, in tokens.
        project: Put a linear map and dropout behind the convolution (`conv_proj`).
        dropout: Probability with which an output of that map is dropped in training.

    References:
        Kim et al., "Decision ConvFormer", arXiv 2310.03022, section 4 (w = 6).
    """

    def __init__(
        self,
        d_model: int,
        n_kinds: int = 3,
        window: int = 6,
        *,
        project: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.window = window
        bound = window**-0.5  # torch's own for a depthwise convolution
        self.weight = nn.Parameter(torch.empty(n_kinds, window, d_model).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_kinds, d_model).uniform_(-bound, bound))
        self.project = nn.Linear(d_model, d_model) if project else None
        self.dropout = nn.Dropout(dropout)

    def initial_state(self, batch: int) -> Tensor:
        """Make the last w - 1 tokens of `batch` rows, all zero: (B, w - 1, D)."""
        return self.weight.new_zeros(batch, self.window - 1, self.weight.shape[2])

    def forward(
        self, x: Tensor, state: State | None = None, kind: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Mix the tokens; see `Mixer.forward`.

        Raises:
            ValueError: There are several filters, and `kind` does not say which to use.
        """
        if kind is None:
            if len(self.weight) > 1:
                raise ValueError("ModalConv has a filter a modality, so it needs `kind`")
            kind = torch.zeros(x.shape[1], dtype=torch.long, device=x.device)
        past = self.initial_state(len(x)) if state is None else state
        assert isinstance(past, Tensor)
        full = torch.cat((past, x), 1)
        length = x.shape[1]
        weight, y = self.weight[kind], self.bias[kind]  # (L, w, D), (L, D)
        for k in range(self.window):
            y = torch.addcmul(y, full[:, k : k + length], weight[:, k])
        if self.project is not None:
            y = self.dropout(linear(y, self.project.weight, self.project.bias))
        return y, full[:, length:]
