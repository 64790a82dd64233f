"""What the sample phantom is made of: head, neck and shoulders, in millimetres.

Positions follow an adult on a planning CT, vertex at z = 280 and lung tips at z = 15 of a cube
of 288 mm. See `phantom_canvas` for the frame. Later paint covers earlier paint.
"""

from __future__ import annotations

import numpy as np

from napari_sightline.io.phantom_canvas import Canvas, Field, Solid

__all__ = ["NAMES", "SIZE", "paint_patient"]

SIZE = 288.0  # mm, edge of the cube

NAMES = {
    1: "brainstem",
    2: "spinal cord",
    3: "right parotid gland",
    4: "left parotid gland",
    5: "oesophagus",
    6: "larynx",
    7: "mandible",
    8: "brain",
    9: "right eye",
    10: "left eye",
    11: "right submandibular gland",
    12: "left submandibular gland",
}

_SIDES = ((-1, 0), (1, 1))  # patient's right, left; and what to add to the right one's label
# The spinal canal from T3 to the foramen magnum: z, y.
_CANAL = np.array([(-5, 201), (20, 190), (50, 178), (80, 172), (110, 173), (140, 174), (160, 172)])
_LEVELS = (-2, 16, 34, 51, 67, 83, 99, 115, 131)  # z of the vertebrae's middles, T3 to C1


def paint_patient(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the whole patient on an empty canvas.

    Parameters
    ----------
    canvas : Canvas
        Changed in place.
    rng : numpy.random.Generator
        Decides on fat, calibres and sizes, within a healthy range.
    """
    grain = _grain(canvas, rng)
    body = _soft_tissue(canvas, rng, grain)
    _muscles(canvas, grain)
    _glands(canvas, rng, grain)
    _skull(canvas, rng, grain)
    _face(canvas, rng, grain)
    _spine(canvas, rng)
    _throat(canvas, rng)
    # Nothing may stick out: bone ends under the skin.
    canvas.hu[(body > -2.5) & (canvas.hu > 100)] = 15
    canvas.hu[body > 0] = -1000
    canvas.labels[body > -1] = 0


def _grain(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Make a smooth random field of unit spread, the grain of tissue."""
    from scipy import ndimage

    noise = rng.standard_normal(canvas.hu.shape, dtype=np.float32)
    steps = [float(axis[1] - axis[0]) for axis in (canvas.z, canvas.y, canvas.x)]
    field = ndimage.gaussian_filter(noise, [3.5 / step for step in steps], truncate=2.5)
    return np.asarray(field / field.std(), dtype=np.float32)


def _canal_y(z: float) -> float:
    return float(np.interp(z, _CANAL[:, 0], _CANAL[:, 1]))


def _blend(first: Field, second: Field, width: float) -> Field:
    """Join two depths with a rounded seam of the given width (polynomial smooth minimum)."""
    mix = np.clip(0.5 + (second - first) / (2 * width), 0, 1)
    return np.asarray(second + (first - second) * mix - width * mix * (1 - mix), np.float32)


def _soft_tissue(canvas: Canvas, rng: np.random.Generator, grain: Field) -> Field:
    """Paint skin, fat and flesh; return the depth under the skin."""
    wide = 1 + rng.uniform(-0.05, 0.05)
    head = canvas.ellipsoid((208, 152, 0), (74, 98, 77 * wide), margin=SIZE)
    body = head.depth
    trunk = [
        (-5, 182, 0, 74, 165),
        (22, 181, 0, 72, 160),
        (40, 178, 0, 70, 132),
        (58, 173, 0, 71, 90 * wide),
        (76, 166, 0, 68, 66 * wide),
        (110, 163, 0, 66, 60 * wide),
        (150, 165, 0, 66, 58 * wide),
        (200, 160, 0, 40, 40),
        (290, 160, 0, 4, 4),
    ]
    for solid, width in (
        (canvas.ellipsoid((148, 122, 0), (68, 72, 79 * wide), margin=SIZE), 10),
        (canvas.tube(trunk, margin=SIZE), 14),
    ):
        body = _blend(body, solid.depth, width)
    for solid, width in (
        (canvas.ellipsoid((112, 98, 0), (26, 44, 45), margin=12), 10),  # chin
        (canvas.ellipsoid((152, 52, 0), (20, 17, 13), margin=12), 8),  # nose
        (canvas.rod([(154, 150, 76), (192, 156, 82)], 4, (1, 2.5, 1)), 1),  # ears
        (canvas.rod([(154, 150, -76), (192, 156, -82)], 4, (1, 2.5, 1)), 1),
    ):
        body[solid.box] = _blend(body[solid.box], solid.depth, width)
    canvas.fill(Solid(head.box, body), 15)
    canvas.fill(Solid(head.box, body), -100 + 10 * grain, below=-2.5)
    # Flesh fills the trunk and the nape; face and front of the neck are fat with muscles in it.
    cover = np.interp(canvas.z, (20, 60, 110, 160, 200), (17, 11, 9, 7, 6)) * rng.uniform(0.8, 1.25)
    front = np.interp(canvas.z, (28, 45, 66, 80, 110, 150), (95, 140, 164, 166, 167, 168))
    edge = canvas.y[:, None] - np.float32(0.005) * canvas.x**2
    edge = edge - front.astype(np.float32)[:, None, None]
    lean = (body < -cover.astype(np.float32)[:, None, None]) & (edge > 4 * grain)
    lean &= (canvas.z < 160)[:, None, None]
    canvas.hu[lean] = (50 + 7 * grain)[lean]
    canvas.hu[lean & (np.abs(np.roll(grain, 7, axis=1)) < 0.12)] = -60
    return body


def _muscles(canvas: Canvas, grain: Field) -> None:
    """Paint the muscles that one tells apart."""
    flesh = 57 + 7 * grain
    spine = [(z, _canal_y(z)) for z in (40, 80, 120, 140)]
    for side, _ in _SIDES:
        columns: list[list[tuple[float, ...]]] = [
            # sternocleidomastoid, scalenes, long muscle before the spine
            [
                (30, 122, 12, 6, 9),
                (80, 138, 42, 11, 8),
                (120, 155, 52, 13, 7),
                (152, 168, 58, 9, 6),
            ],
            [(z, y - 8, 32, 11, 9) for z, y in spine],
            [(z, y - 31, 9, 4, 8) for z, y in spine],
        ]
        for path in columns:
            canvas.fill(canvas.tube(path, side=side), flesh)
        for z in (0, 40, 80, 120):  # fat between the long muscles of the nape
            y = _canal_y(z + 20)
            for back, out in ((21, 14), (34, 20)):
                plane = [(z, y + back, side * 3), (z, y + back - 3, side * out)]
                plane.append((z, y + back - 14, side * (out + 12)))
                canvas.fill(canvas.rod(plane, 0.9, (26, 1, 1)), -70)
        for centre, radii in (
            ((130, 112, 59), (29, 18, 8)),  # masseter
            ((136, 124, 38), (22, 13, 8)),  # medial pterygoid
            ((152, 122, 40), (9, 18, 12)),  # lateral pterygoid
            ((180, 108, 60), (28, 26, 8)),  # temporalis
            ((96, 96, 12), (7, 26, 11)),  # floor of the mouth
            ((84, 100, 9), (20, 5, 9)),  # straps before the larynx
        ):
            solid = canvas.ellipsoid((centre[0], centre[1], side * centre[2]), radii)
            canvas.fill(solid, flesh)
    canvas.fill(canvas.rod([(132, 64, -16), (132, 58, 0), (132, 64, 16)], 6, (1.5, 1, 1)), flesh)


def _glands(canvas: Canvas, rng: np.random.Generator, grain: Field) -> None:
    """Paint parotid, submandibular and thyroid glands and the great vessels."""
    fatty = rng.uniform(-30, 0)
    for side, left in _SIDES:
        size = rng.uniform(0.94, 1.1)
        parotid = canvas.ellipsoid((141, 149, side * 57), (25 * size, 19 * size, 14))
        canvas.fill(parotid, fatty + 14 * grain, label=3 + left)
        gland = canvas.ellipsoid((101, 112, side * 33), (13 * size, 14 * size, 9), margin=2)
        canvas.fill(gland, 85 + 6 * grain, label=11 + left)
        thyroid = canvas.ellipsoid((52, 128, side * 17), (18, 10, 8))
        canvas.fill(thyroid, 125 + 5 * grain)
        carotid = [(-5, 150, 22, 4, 4), (60, 146, 27, 4, 4), (110, 143, 30, 4.5, 4.5)]
        carotid.append((160, 146, 30, 3, 3))
        jugular = [(-5, 146, 32, 7, 7), (60, 142, 37, 7, 7), (150, 152, 40, 5, 5)]
        for path, hu in ((carotid, 175), (jugular, 150)):
            vessel = canvas.tube(path, margin=2, side=side)
            canvas.fill(vessel, -85, below=1.5)
            canvas.fill(vessel, hu)


def _skull(canvas: Canvas, rng: np.random.Generator, grain: Field) -> None:
    """Paint the cranium with its floor, the brain, its ventricles and the brainstem."""
    cavity = canvas.ellipsoid((210, 152, 0), (62, 84, 65), margin=10)
    y, z = canvas.y[cavity.box[1]], canvas.z[cavity.box[0]]
    # The floor: the front fossa is high; beside the midline the middle one reaches forward.
    middle = np.interp(y, (70, 104, 120, 142, 156, 240), (206, 203, 179, 172, 152, 152))
    beside = np.interp(y, (70, 96, 108, 142, 160, 240), (206, 203, 172, 167, 152, 152))
    aside = np.clip((np.abs(canvas.x[cavity.box[2]]) - 14) / 14, 0, 1)
    floor = middle[:, None] + (beside - middle)[:, None] * aside
    height = (floor.astype(np.float32) - z[:, None, None]) * np.float32(0.8)
    inner = Solid(cavity.box, np.maximum(cavity.depth, height))
    canvas.fill(inner, 1050, below=6.5)
    canvas.fill(inner, 450, below=4.7)
    canvas.fill(inner, 1050, below=2)
    for side, _ in _SIDES:
        canvas.bone(canvas.ellipsoid((163, 156, side * 36), (11, 12, 27)), 3)  # petrous bone
        mastoid = canvas.ellipsoid((158, 170, side * 57), (20, 15, 11))
        canvas.bone(mastoid, 3)
        cells = Solid(mastoid.box, np.maximum(mastoid.depth + 2.5, 0.2 - grain[mastoid.box]))
        canvas.fill(cells, -750)
        canvas.fill(canvas.rod([(163, 150, side * 50), (163, 150, side * 77)], 3.5), -950)
    canvas.fill(inner, 10)  # fluid round the brain
    folds = inner.depth + 2.5 + 1.6 * grain[inner.box]
    matter = np.where(inner.depth > -9, np.float32(38), np.float32(29)) + 2 * grain[inner.box]
    brain = Solid(inner.box, folds)
    canvas.hu[inner.box][folds < 0] = matter[folds < 0]
    canvas.fill(brain, canvas.hu, label=8)
    falx = canvas.rod([(200, 75, 0), (262, 140, 0), (205, 232, 0)], 2)
    canvas.fill(falx, 55, label=None)
    wide = rng.uniform(0.75, 1.25)
    for side, _ in _SIDES:
        body = [(222, 125, side * 13), (230, 150, side * 14), (218, 178, side * 20)]
        canvas.fill(canvas.rod(body, 5.5 * wide), 8, label=8)
        horn = canvas.rod([(218, 178, side * 20), (198, 160, side * 32)], 4 * wide)
        canvas.fill(horn, 8, label=8)
        deep = canvas.ellipsoid((213, 147, side * 15), (10, 17, 9))  # basal ganglia, thalamus
        canvas.fill(deep, 40, label=8)
    canvas.fill(canvas.ellipsoid((208, 148, 0), (9, 12, 2.5)), 8, label=8)  # third ventricle
    tent = canvas.rod([(186, 170, 0), (190, 200, 0), (178, 232, 0)], 1.5, (1, 1, 22))
    canvas.fill(tent, 45, label=None)
    stem = [
        (141, 174, 0, 7, 8),
        (158, 171, 0, 9, 11),
        (168, 165, 0, 13, 16.5),
        (181, 162, 0, 13, 16.5),
        (189, 160, 0, 11, 15),
        (199, 158, 0, 10, 14),
    ]
    around = canvas.tube([(z, y, x, ry + 4, rx + 5) for z, y, x, ry, rx in stem[1:]])
    canvas.fill(around, 10)
    canvas.fill(canvas.ellipsoid((172, 181, 0), (8, 5, 7)), 8)  # fourth ventricle
    canvas.fill(canvas.tube([(z, y, x, ry + 4, rx + 5) for z, y, x, ry, rx in stem[:2]]), 10)
    canvas.fill(canvas.tube(stem), 33, label=1)


def _face(canvas: Canvas, rng: np.random.Generator, grain: Field) -> None:
    """Paint upper jaw, nose and sinuses, orbits and eyes, the tongue."""
    canvas.bone(canvas.ellipsoid((143, 92, 0), (20, 26, 33)), 2)  # maxilla
    canvas.bone(canvas.ellipsoid((178, 98, 0), (19, 30, 14)), 2, marrow=60)  # ethmoid
    canvas.bone(canvas.ellipsoid((164, 130, 0), (12, 17, 17)), 2)  # sphenoid
    canvas.bone(canvas.rod([(206, 74, -36), (207, 65, 0), (206, 74, 36)], 6, (1.5, 1, 1)), 2)
    canvas.fill(canvas.ellipsoid((150, 84, 0), (19, 38, 12)), 50)  # lining of the nose
    cells = rng.uniform(0.8, 1.1)
    for side, left in _SIDES:
        canvas.bone(canvas.rod([(160, 84, side * 44), (159, 98, side * 60)], 6), 2)
        canvas.bone(canvas.rod([(159, 98, side * 60), (160, 142, side * 66)], 3.5), 1.5)
        canvas.bone(canvas.rod([(162, 88, side * 50), (202, 84, side * 50)], 4.5), 2)
        orbit = canvas.ellipsoid((184, 95, side * 32), (17, 32, 18), margin=4)
        y = canvas.y[orbit.box[1]][:, None]
        canvas.fill(Solid(orbit.box, np.where(y < 84, 9, orbit.depth)), 850, below=2.5)
        canvas.fill(Solid(orbit.box, np.where(y < 70, 9, orbit.depth)), -100)
        for dz, dx in ((12, 0), (-12, 0), (0, 12), (0, -12)):  # straight muscles of the eye
            front = (184 + dz, 84, side * 32 + dx)
            canvas.fill(canvas.rod([front, (184, 120, side * 22)], 2), 50)
        canvas.fill(canvas.rod([(184, 90, side * 32), (185, 124, side * 18)], 2.3), 40)
        eye = canvas.ellipsoid((184, 80, side * 32), (12.3, 12.3, 12.3))
        canvas.fill(eye, 45, label=9 + left)
        canvas.fill(eye, 12, label=9 + left, below=-1.6)
        canvas.fill(canvas.ellipsoid((184, 72.5, side * 32), (5, 2.6, 5)), 85, label=9 + left)
        canvas.fill(canvas.ellipsoid((147, 92, side * 23), (16 * cells, 19 * cells, 11)), -980)
        canvas.fill(canvas.ellipsoid((178, 98, side * 6), (14, 26, 4.4)), -900)
        canvas.fill(canvas.ellipsoid((164, 132, side * 6.5), (8, 10 * cells, 5)), -980)
        canvas.fill(canvas.ellipsoid((207, 66, side * 11), (8 * cells, 3.5, 9)), -980)
        canvas.fill(canvas.ellipsoid((150, 84, side * 6), (17, 36, 4.6)), -1000)  # nose
        turbinate = canvas.rod([(143, 66, side * 7), (144, 108, side * 7)], 2.8, (1.5, 1, 1))
        canvas.fill(turbinate, 45)
    for ahead in (82, 96, 110):  # walls between the ethmoid's cells
        canvas.fill(canvas.rod([(166, ahead, 0), (190, ahead + 2, 0)], 1.2, (1, 1, 9)), 250)
    tongue = canvas.ellipsoid((112, 102, 0), (17, 33, 25), margin=8)
    canvas.fill(tongue, 45, below=7)
    above = canvas.z[tongue.box[0]][:, None, None] > 121
    canvas.fill(Solid(tongue.box, np.where(above, tongue.depth, 9)), -1000, below=2)
    canvas.fill(tongue, 60 + 10 * grain)
    _jaws(canvas)


def _jaws(canvas: Canvas) -> None:
    """Paint mandible and teeth."""
    body = [(103, 122, 49), (101, 98, 37), (100, 78, 20), (100, 71, 0)]
    ramus = [(108, 127, 51), (134, 132, 53), (160, 140, 53)]
    parts = [
        canvas.rod([*((z, y, -x) for z, y, x in body), *((z, y, x) for z, y, x in body[-2::-1])],
                   5.5, (2.3, 1, 1)),
        *(canvas.rod([(z, y, side * x) for z, y, x in ramus], 4.5, (1, 2.4, 1))
          for side, _ in _SIDES),
    ]  # fmt: skip
    for solid in parts:
        canvas.fill(solid, 1150, label=7)
    for solid in parts:  # marrow last, so that the joints are hollow
        canvas.fill(solid, 420, label=7, below=-1.9)
    for height, ahead in ((114, 0), (122, -1.5)):
        for angle in np.linspace(-1.25, 1.25, 14):
            y, x = 106 - 33 * np.cos(angle) + ahead, 35 * np.sin(angle)
            tooth = canvas.ellipsoid((height, y, x), (5.5, 4, 3.3))
            canvas.fill(tooth, 1900, label=None)


def _spine(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint vertebrae, discs, ribs, collar bones and shoulders, the canal and the cord."""
    canal = [(float(z), float(y)) for z, y in _CANAL]
    lower = [point for point in canal if point[0] < 141] + [(141.0, 174.0)]
    column = canvas.tube([(z, y - 19, 0, 9, 12 + 3 * (z < 60)) for z, y in lower])
    canvas.fill(column, 85)  # discs
    for z in _LEVELS:
        y = _canal_y(z)
        thick, wide = (6.5, 15) if z > 50 else (7.5, 17)
        body = [(z + dz, y - 19, 0, 10, wide - 2) for dz in (-thick, thick)]
        vertebra = canvas.tube(body, margin=1)
        canvas.fill(vertebra, 750)
        canvas.fill(vertebra, 290 + 40 * rng.standard_normal(), below=-2)
        arch = canvas.tube([(z + dz, y, 0, 13, 16) for dz in (-4.5, 4.5)])
        canvas.bone(arch, 2.5)
        length = {115: 26, 51: 34, 34: 38, 16: 38, -2: 38}.get(z, 20)
        if z < 120:
            canvas.bone(canvas.rod([(z, y + 11, 0), (z - 7, y + 11 + length, 0)], 3.6), 2)
        for side, _ in _SIDES:
            canvas.bone(canvas.ellipsoid((z, y - 4, side * 19), (8, 7, 6)), 2)
            canvas.bone(canvas.rod([(z, y - 8, side * 17), (z, y - 10, side * 29)], 3.2), 2)
    canvas.bone(canvas.ellipsoid((141, 159, 0), (13, 6, 6)), 2)  # dens
    for side, _ in _SIDES:
        _shoulder(canvas, side)
    canvas.fill(canvas.tube([(z, y, 0, 8, 11.5) for z, y in lower]), 8)
    cord = canvas.tube([(z, y, 0, 5.6, 6.8) for z, y in lower])
    canvas.fill(cord, 38, label=2)


def _shoulder(canvas: Canvas, side: int) -> None:
    """Paint the lung's tip, two ribs, collar bone and shoulder of one side."""
    canvas.fill(canvas.ellipsoid((-14, 172, side * 45), (32, 42, 29)), -840)
    for z in (14, -6):
        rib = [(z, _canal_y(z) - 8, side * 24), (z - 4, 196, side * 60), (z - 8, 165, side * 78)]
        canvas.bone(canvas.rod([*rib, (z - 14, 132, side * 60)], 4.2, (1.4, 1, 1)), 2)
    collar = [(22, 124, side * 12), (30, 122, side * 45), (38, 148, side * 90)]
    canvas.bone(canvas.rod([*collar, (38, 168, side * 122)], 5.5), 2.5)
    canvas.bone(canvas.rod([(30, 205, side * 85), (24, 196, side * 122)], 5, (3, 1, 1)), 2.5)
    canvas.bone(canvas.ellipsoid((16, 180, side * 136), (24, 20, 20)), 3)


def _throat(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint airway, larynx and oesophagus."""
    calibre = rng.uniform(0.85, 1.15)
    gullet = canvas.tube([(-5, 166, 4, 5, 8), (30, 153, 4, 5, 8), (64, 142, 0, 5, 9)], margin=2)
    canvas.fill(gullet, -80, below=1.5)
    canvas.fill(gullet, 40, label=5)
    canvas.fill(gullet, -300, label=5, below=-4)
    larynx = [
        (58, 124, 0, 13, 13),
        (68, 122, 0, 16, 17),
        (84, 119, 0, 17, 18),
        (91, 120, 0, 14, 16),
    ]
    box = canvas.tube(larynx)
    canvas.fill(box, 55, label=6)
    shield = box.depth < -0.5
    ahead = canvas.y[box.box[1]][:, None] < 124
    ring = canvas.z[box.box[0]][:, None, None] < 66
    canvas.hu[box.box][shield & (box.depth > -4) & (ahead | ring)] = 210
    windpipe = [
        (-5, 152, 3, 8.5, 9.5),
        (40, 137, 0, 8.5, 9),
        (60, 126, 0, 8, 8),
        (68, 122, 0, 9, 6),
        (73, 121, 0, 9, 2.2),  # the vocal folds
        (78, 120, 0, 9, 6),
        (90, 122, 0, 8, 11),
        (104, 133, 0, 8, 13),
        (122, 139, 0, 8, 12),
        (140, 134, 0, 11, 12),
        (154, 128, 0, 12, 11),
        (158, 124, 0, 8, 9),
    ]
    scaled = [(z, y, x, ry * calibre, rx * calibre) for z, y, x, ry, rx in windpipe]
    lower = canvas.tube([row for row in scaled if row[0] <= 60], margin=2)
    upper = canvas.tube([row for row in scaled if row[0] >= 90], margin=5)
    canvas.fill(lower, 110, label=None, below=2)
    canvas.fill(upper, 50, label=None, below=4)
    canvas.fill(canvas.tube(scaled), -1000, label=None)
    epiglottis = canvas.rod([(92, 117, 0), (108, 126, 0)], 1.6, (1, 1, 5))
    canvas.fill(epiglottis, 60, label=None)
