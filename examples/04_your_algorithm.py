"""Write an algorithm of your own, check that it keeps the laws, train it, and act with it."""

from dataclasses import dataclass

import torch

from decision_policies import SequenceAlgorithm, check_algorithm, evaluate_policy
from decision_policies.models import SequenceModel, StepEmbedding, TokenModel, make_head
from decision_policies.nets import Chain, Mamba, Pointwise, Residual
from decision_policies.spec import SequenceSpec


@dataclass(kw_only=True, eq=False)
class Sandwich(SequenceAlgorithm):
    """A Mamba block between two perceptrons.

    Attributes:
        width: Token width.
        memory: State size of each Mamba channel.
    """

    width: int = 32
    memory: int = 16

    def build_model(self, spec: SequenceSpec) -> SequenceModel:
        """Compose the network: steps to tokens, tokens to features, features to actions."""
        head = make_head(self.width, spec.action_space)
        embedding = StepEmbedding(spec, self.width, head.n_features)
        backbone = Chain(
            Residual(self.width, Pointwise(self.width)),
            Residual(self.width, Mamba(self.width, self.memory)),
            Residual(self.width, Pointwise(self.width)),
        )
        return TokenModel(spec, embedding, backbone, head, self.width)


if __name__ == "__main__":
    torch.set_num_threads(1)  # so small a model gains nothing from more

    check_algorithm(Sandwich, kinds=["box-discrete"], progress=print, width=16)
    print("Sandwich keeps all laws\n")

    model = Sandwich(context_length=10, learning_rate="lin_3e-3", warmup_steps=50, seed=0)
    model.learn("cartpole/mixed-v0", total_timesteps=200, progress_bar=True)
    for target in (50, 100, 150):
        result = evaluate_policy(model, "CartPole-v1", 10, target_return=target)
        print(f"asked for {target}, obtained {result.mean:.0f} on average")
