"""Train two designs of the promptable network side by side, for as long, and print their curves.

``cached`` reads the image once per region and joins its features with the prompts in a small U-Net;
``early`` is that U-Net alone, wider, so that both have about as many weights. One process of one
thread each, the same seed, crops and prompts.
"""

from __future__ import annotations

import argparse
import json
from multiprocessing import get_context
from pathlib import Path

from napari_sightline.models.sightline3d import Config, Sightline3D
from napari_sightline.train.interactive import train

DESIGNS = {
    "cached": Config(widths=(16, 32, 56, 72), heads=3, keys=8),
    "early": Config(widths=(16, 40, 72, 96), heads=4, keys=8, cached=False),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--minutes", type=float, default=25)
    options.add_argument("--out", type=Path, required=True, help="folder for weights and logs")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    for name, config in DESIGNS.items():
        count = sum(p.numel() for p in Sightline3D(config).parameters())
        print(f"{name}: {count / 1e6:.2f} M weights", flush=True)
    context = get_context("spawn")
    runs = {
        name: context.Process(
            target=one, args=(name, given.data, given.minutes, given.out, given.seed)
        )
        for name in DESIGNS
    }
    for run in runs.values():
        run.start()
    for run in runs.values():
        run.join()
    for name in DESIGNS:
        log = given.out / f"{name}.log.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        steps = max(row["step"] for row in rows if "step" in row)
        print(f"{name}: {steps} steps or more")
        for row in rows:
            if row.get("event") == "validation":
                print(json.dumps({k: v for k, v in row.items() if k not in ("event", "time")}))


def one(name: str, data: Path, minutes: float, out: Path, seed: int) -> None:
    weights = out / f"{name}.safetensors"
    train(data, minutes, weights, workers=1, seed=seed, rate=1e-3, config=DESIGNS[name])


if __name__ == "__main__":
    main()
