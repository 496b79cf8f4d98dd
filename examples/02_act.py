"""Load a saved policy and ask it for different returns: python examples/02_act.py FOLDER."""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import decision_policies
from decision_policies import evaluate_policy

TARGETS = (50, 100, 150, 200, 250, 300, 400, 500)


def main() -> None:
    """Print a table of the returns asked for and obtained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what model.save wrote")
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--episodes", type=int, default=50, help="for each return asked for")
    parser.add_argument("--csv", type=Path, help="also write the table to this file")
    args = parser.parse_args()

    torch.set_num_threads(1)
    model = decision_policies.load(args.folder)
    table = []
    with tqdm(total=len(TARGETS) * args.episodes, unit="episode") as bar:
        for target in TARGETS:
            result = evaluate_policy(
                model,
                args.env,
                args.episodes,
                target_return=target,
                seed=1000,
                n_envs=args.episodes,
                on_episode=bar.update,
            )
            table.append((target, result.mean, result.std, args.episodes))

    print("\n  asked    obtained        episodes")
    for target, mean, std, episodes in table:
        print(f"{target:7} {mean:8.1f} ± {std:5.1f} {episodes:10}")
    if args.csv:
        np.savetxt(args.csv, table, fmt="%g", delimiter=",", header="asked,mean,std,episodes")


if __name__ == "__main__":
    main()
