"""Draw the figures of "How attention works, on a scan", from the phantom.

    python examples/how_attention_works.py [FOLDER]

Writes PNG files into FOLDER (here by default).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_sightline import Point, Session, Volume, phantom
from napari_sightline.attention.ask import ask
from napari_sightline.attention.calls import Pass
from napari_sightline.attention.export import colours, draw_heads
from napari_sightline.attention.kernels import position_kernels
from napari_sightline.attention.tap import Tap
from napari_sightline.attention.tokens import TokenGrid
from napari_sightline.errors import SightlineError
from napari_sightline.evaluate.robot import simulate_click
from napari_sightline.segment.region import Region

NAME = "right parotid gland"
GROUND, INK, FAINT, GREEN = (16, 18, 22), (236, 238, 242), (176, 182, 192), (92, 219, 120)


def text(pen: ImageDraw.ImageDraw, x: float, y: float, said: str, size: int = 14) -> None:
    pen.text((x, y), said, INK if size > 13 else FAINT, ImageFont.load_default(size))


def sheet(
    width: int, height: int, title: str, below: str
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(picture)
    text(pen, 14, 10, title, 18)
    text(pen, 14, 36, below, 13)
    return picture, pen


def look(scan: Volume, click: Point, session: Session, tap: Tap) -> tuple[Pass, Region]:
    """Click once, and return what was recorded where the mask came from."""
    session.set_volume(scan)
    update = session.add(click)
    assert update.region is not None
    seen = tap.for_region(update.region)
    assert seen is not None
    return seen, update.region


def draw_tokens(scan: Volume, region: Region, click: Point) -> Image.Image:
    """Draw the region that the model sees, cut into tokens."""
    voxels = region.extract(scan.data, -1024)
    depth = int(np.clip(round(region.to_region(np.array(click.position))[0]), 0, len(voxels) - 1))
    grey = ((voxels[depth] + 160) / 400).clip(0, 1) * 255
    scale = 480 // grey.shape[1]
    side = (grey.shape[1] * scale, grey.shape[0] * scale)
    n = [s // 16 for s in region.shape]
    picture, pen = sheet(
        side[0] + 28,
        side[1] + 80,
        "Tokens: cubes of 16 voxels",
        f"{' x '.join(map(str, region.shape))} voxels are {' x '.join(map(str, n))} = "
        f"{int(np.prod(n))} tokens; one layer of them is seen here",
    )
    tile = Image.fromarray(grey.astype(np.uint8)).convert("RGB").resize(side)
    picture.paste(tile, (14, 62))
    for axis in (0, 1):
        for k in range(0, side[axis] + 1, 16 * scale):
            line = (
                (14 + k, 62, 14 + k, 62 + side[1])
                if axis == 0
                else (14, 62 + k, 14 + side[0], 62 + k)
            )
            pen.line(line, fill=(255, 170, 51), width=1)
    y, x = region.to_region(np.array(click.position))[1:]
    a, b = (int((v + 0.5) // 16) * 16 * scale for v in (x, y))
    pen.rectangle(
        (14 + a, 62 + b, 14 + a + 16 * scale, 62 + b + 16 * scale), outline=GREEN, width=3
    )
    return picture


def draw_price() -> Image.Image:
    """Draw the map's size by the token's side, whole and in windows."""
    picture, pen = sheet(
        760,
        300,
        "The price of looking everywhere",
        "one head's map over a region of 96 x 96 x 96 voxels, float32, on a logarithmic scale",
    )
    for row, side in enumerate((16, 8, 4, 2)):
        count = (96 // side) ** 3
        y = 80 + 52 * row
        text(pen, 14, y + 4, f"{side} voxels a token: {count:,} tokens")
        windows = -((-(96 // side) // 7) ** 3) * min(343, count) ** 2
        for shift, (name, entries, colour) in enumerate(
            (
                ("all to all", count**2, (222, 73, 104)),
                ("windows of 7 x 7 x 7", windows, (77, 196, 255)),
            )
        ):
            size = 4 * entries
            length = 330 * np.log10(size / 1e4) / np.log10(1e11 / 1e4)
            pen.rectangle(
                (300, y + 20 * shift, 300 + max(2, length), y + 20 * shift + 15), fill=colour
            )
            unit = f"{size / 2**30:.3g} GB" if size > 2**30 else f"{size / 2**20:.3g} MB"
            text(pen, 308 + max(2, length), y + 20 * shift, f"{unit}, {name}", 12)
    return picture


def reach(blocks: int, start: tuple[int, int, int], size: int, window: int) -> np.ndarray:
    """Find what one token can reach through unshifted and shifted windows in turn."""
    seen = np.zeros((size,) * 3, bool)
    seen[start] = True
    for block in range(blocks):
        shift = (window // 2 if block % 2 else 0,) * 3
        grid = TokenGrid((size,) * 3, (2.0,) * 3, (window,) * 3, shift)
        flat, new = seen.reshape(-1), seen.reshape(-1).copy()
        for number in range(grid.count):
            cells = grid.cells(number)
            # A shifted window at the edge holds tokens of opposite ends, which a mask parts.
            axes = [
                (np.asarray(p) >= n - s).astype(int) if s else np.zeros(len(p), int)
                for p, n, s in zip(grid.coordinates(number), grid.padded, shift, strict=True)
            ]
            parts = (axes[0][:, None, None] * 4 + axes[1][:, None] * 2 + axes[2]).reshape(-1)
            for part in np.unique(parts):
                own = cells[(parts == part) & (cells >= 0)]
                if flat[own].any():
                    new[own] = True
        seen = new.reshape(seen.shape)
    return seen


def draw_reach() -> Image.Image:
    """Draw what one token reaches after 1, 2 and 4 blocks of windows."""
    size, window, start = 28, 7, (13, 12, 9)
    picture, pen = sheet(
        3 * 300 + 14,
        400,
        "Windows, and windows shifted by half",
        "blue: what has heard of the green token after 1, 2 and 4 blocks; "
        "28 x 28 tokens of a slice, windows of 7",
    )
    for column, blocks in enumerate((1, 2, 4)):
        seen = reach(blocks, start, size, window)
        x0, y0, step = 14 + column * 300, 92, 10
        text(
            pen,
            x0,
            66,
            f"{blocks} block{'s' if blocks > 1 else ''}: {100 * seen.mean():.0f} % of the grid",
        )
        for y in range(size):
            for x in range(size):
                colour = (77, 130, 200) if seen[start[0], y, x] else (40, 44, 52)
                if (y, x) == start[1:]:
                    colour = GREEN
                box = (x0 + x * step, y0 + y * step, x0 + x * step + 8, y0 + y * step + 8)
                pen.rectangle(box, fill=colour)
    return picture


def draw_kernels() -> Image.Image | None:
    """Position bias of the shipped Swin-UNETR's heads; None where there is none here."""
    from napari_sightline.models.catalog import load_segmenter

    try:
        segmenter = load_segmenter()
    except SightlineError as error:
        print(f"no picture of the position bias: {error}")
        return None
    kernels = position_kernels(segmenter.network)
    name, kernel = next(iter(kernels.items()))
    middle = kernel[:, kernel.shape[1] // 2]
    step = 300 // middle.shape[1]
    picture, pen = sheet(
        max(640, len(middle) * 320 + 14),
        400,
        f"Where {len(middle)} heads look whatever the picture shows",
        f"relative position bias of {name}, middle plane; bright: sought, dark: shunned",
    )
    top = float(np.abs(middle).max())
    for head, plane in enumerate(middle):
        tile = Image.fromarray(colours((plane / top + 1) / 2))
        picture.paste(
            tile.resize((step * plane.shape[1], step * plane.shape[0]), 0), (14 + head * 320, 88)
        )
        text(pen, 14 + head * 320, 66, f"head {head + 1}: {plane.min():.2f} to {plane.max():.2f}")
    return picture


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    scan, labels, names = phantom()
    truth = labels == next(value for value, name in names.items() if name == NAME)
    click = simulate_click(np.zeros(scan.shape, bool), truth)
    assert isinstance(click, Point)
    # A pass holds its network weakly: the session has to live as long as it is asked.
    tap = Tap()
    session = Session(tap=tap)
    seen, region = look(scan, click, session, tap)
    figures = {
        "attention-tokens": draw_tokens(scan, region, click),
        "attention-price": draw_price(),
        "attention-reach": draw_reach(),
        "attention-heads": draw_heads(
            ask(seen, "to", click.position), scan, click.position, same_scale=False
        ),
        "attention-prompt": draw_heads(ask(seen, "prompt"), scan, click.position),
        "attention-to-prompt": draw_heads(ask(seen, "to-prompt"), scan, click.position),
        "attention-rollout": draw_heads(ask(seen, "rollout", click.position), scan, click.position),
        "attention-position": draw_kernels(),
    }
    for name, picture in figures.items():
        if picture is not None:
            picture.save(folder / f"{name}.png", optimize=True)
            print(folder / f"{name}.png")


if __name__ == "__main__":
    main()
