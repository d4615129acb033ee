"""The embedded data set: pictures of ten kinds of garments, drawn with NumPy.

It replaces Fashion-MNIST (Xiao et al. 2017) without a download: the same size, range
and number of kinds, of similar difficulty. A garment is a few layers of signed
distances, see `aelab.data.sketch`. Every machine draws the same bytes.
"""

import numpy as np

from aelab.data.sketch import (
    DICE,
    SIDE,
    Array,
    Bytes,
    Point,
    Real,
    Sketch,
    box,
    outline,
    soften,
    stroke,
)

BLOCK = 512  # images drawn from one generator

# Below, u draws the next parameter, lengths are pixels from the center of the picture,
# y points down, and x is replaced by |x| where a garment is symmetric. A throat is the
# depth of a neckline, an arm the end of a sleeve relative to the shoulder.


def _top(
    s: Sketch, throat: Real, shoulder: Real, waist: Point, hem: Point, arm: Point
) -> tuple[list[Point], Array]:
    """Paints body and sleeves; returns half the neckline and the body's distance."""
    u, x, y = s.uniform, abs(s.x), s.y
    top, drop, armpit = -12.9, u(-12.3, -10.8), u(-6.6, -5.0)
    wide, curve = shoulder * u(0.35, 0.52), top + throat * u(0.3, 0.95)
    neck = [(0.0, top + throat), (wide * 0.75, curve), (wide, top)]
    tip = shoulder + arm[0], drop + arm[1]
    cuff = u(2.4, 3.6) / (np.sqrt(arm[0] * arm[0] + arm[1] * arm[1]) + 0.1)
    end = tip[0] - cuff * arm[1], tip[1] + cuff * arm[0]
    root = shoulder - 1.5, drop - 0.3
    sleeve = [root, (shoulder, drop), tip, end, (shoulder - 1.2, armpit + 0.3), root]
    s.fill(outline(x, y, sleeve), s.cloth * u(0.85, 1.0))
    s.shade(abs(stroke(x, y, [tip, end]) - 1.3), u(0.0, 0.35))
    side = [(shoulder, drop), (shoulder - 0.5, armpit), waist, hem]
    body = outline(x, y, [*neck, *side, (0.0, hem[1] + u(-0.2, 0.8))])
    s.fill(body, s.cloth)
    return neck, body


def _badge(s: Sketch) -> None:
    """Prints a text panel on some chests."""
    u = s.uniform
    panel = box(s.x, s.y, (u(-1.0, 1.0), u(-5.0, 0.0)), (u(1.0, 4.5), u(0.6, 3.2)))
    s.paint(panel, s.accent * (0.4 + 0.6 * s.grain), s.chance(0.33))


def _buttons(s: Sketch, across: Array, top: Real, shown: Real) -> None:
    """Paints a row of buttons from `top` down, where `across` is 0."""
    step = s.uniform(2.4, 3.8)
    row = (s.y - top) / step
    button = box(across, (row - np.floor(row)) * step, (0.0, 1.2), (0.5, 0.5))
    s.paint(np.maximum(button, top - s.y), s.accent * 0.8, shown * (s.y < 11))


def _t_shirt(s: Sketch) -> None:
    u = s.uniform
    hem, arm = (u(6.0, 8.2), u(11.0, 13.2)), (u(2.0, 4.8), u(3.2, 6.2))
    waist = hem[0] - u(-0.3, 1.0), 3.0
    neck, _ = _top(s, u(1.0, 4.5), u(6.6, 8.4), waist, hem, arm)
    s.paint(stroke(abs(s.x), s.y, neck) - 0.5, s.cloth * u(0.5, 1.0))
    _badge(s)


def _trousers(s: Sketch) -> None:
    u, x, y = s.uniform, abs(s.x), s.y
    hip, crotch, ankle, bottom = u(4.4, 6.2), u(-6.5, -3.0), u(3.2, 6.8), u(11.5, 13.4)
    inseam = np.maximum(ankle - u(2.2, 4.0), 0.4)
    belt, knee = hip - u(0.5, 1.3), (hip + ankle) / 2 - u(0.0, 0.8)
    leg = [(0.0, -12.9), (belt, -13.2), (hip, crotch - 1), (knee, 3.0), (ankle, bottom)]
    leg += [(inseam, bottom), (0.3, crotch), (0.0, crotch)]
    s.fill(outline(x, y, leg), s.cloth)
    crease = stroke(x, y, [(hip / 2, crotch + 1), ((ankle + inseam) / 2, bottom)])
    s.shade(crease - 0.3, u(-0.25, 0.35), 1.5)
    s.shade(abs(y + 11.2), u(0.1, 0.6), 0.8)
    s.shade(stroke(s.x, y, [(0.3, -11.0), (0.3, crotch)]), 0.4, 0.9)
    s.shade(stroke(x, y, [(belt - 1.8, -11.0), (hip, -8.5)]), u(0.0, 0.5), 0.9)


def _pullover(s: Sketch) -> None:
    u = s.uniform
    hem, arm = (u(6.0, 8.2), u(10.0, 13.0)), (u(2.4, 6.0), u(18.5, 22.0))
    waist = hem[0] + u(-0.6, 0.6), 4.0
    neck, body = _top(s, u(0.6, 4.5), u(6.6, 8.2), waist, hem, arm)
    rib = s.cloth * u(0.55, 1.0)
    s.paint(stroke(abs(s.x), s.y, neck) - u(0.4, 1.0), rib)
    s.paint(np.maximum(body, hem[1] - 1.8 - s.y), rib, s.chance(0.6))
    collar = box(s.x, s.y, (0.0, -12.0), (neck[-1][0] + 0.3, u(1.0, 2.0)))
    s.paint(collar, rib, s.chance(0.2))
    _badge(s)


def _dress(s: Sketch) -> None:
    u, y = s.uniform, s.y
    waist = u(3.0, 4.4), u(-4.5, 0.0)
    hem = waist[0] + u(0.2, 5.5), u(11.8, 13.5)
    sleeve = s.chance(0.6) * u(1.0, 15.0)
    arm = sleeve * u(0.15, 0.6), sleeve
    _, body = _top(s, u(1.0, 5.0), u(4.0, 5.4), waist, hem, arm)
    seam = np.maximum(body, abs(y - waist[1]))
    s.paint(seam - 0.6, s.accent, s.chance(0.3))
    s.shade(seam, u(0.0, 0.6))
    for across in (0.0, 0.6):
        pleat = [(waist[0] * across, waist[1] + 1.5), (hem[0] * across, hem[1])]
        s.shade(stroke(abs(s.x), y, pleat), u(0.0, 0.45), 1.3)


def _coat(s: Sketch) -> None:
    u, x, y = s.uniform, abs(s.x), s.y
    hem, arm = (u(6.4, 8.6), u(12.4, 13.6)), (u(2.6, 5.4), u(19.5, 23.0))
    waist = hem[0] - u(0.3, 2.0), u(0.0, 3.0)
    neck, body = _top(s, u(2.0, 7.0), u(6.6, 8.0), waist, hem, arm)
    throat = neck[0][1]
    lapel = [(0.0, throat + 2.0), (u(3.0, 4.5), -9.0), (3.6, -12.2)]
    s.fill(np.maximum(outline(x, y, [*lapel, *neck[::-1]]), body), s.cloth)
    s.shade(stroke(x, y, lapel), 0.55)
    front = stroke(s.x, y, [(0.0, throat), (u(-0.5, 0.5), 13.5)])
    s.shade(front - u(0.0, 0.5), u(0.4, 0.9), 0.9)
    breast = s.x + s.chance(0.4) * (x - s.x)  # both sides if double-breasted
    _buttons(s, breast - 1.6, throat + 1.5, s.chance(0.7))
    s.shade(box(x, y, (4.4, u(4.0, 7.5)), (1.6, u(0.3, 1.0))), u(0.0, 0.5))
    belt = np.maximum(abs(y - waist[1]) - 0.8, body)
    s.paint(belt, s.cloth * u(0.3, 0.8), s.chance(0.25))


def _shirt(s: Sketch) -> None:
    u, x, y = s.uniform, abs(s.x), s.y
    hem = u(5.6, 7.8), u(10.8, 13.2)
    waist = hem[0] - u(0.0, 1.2), 3.0
    arm = u(2.4, 5.0), u(18.0, 22.0) - s.chance(0.3) * u(12.0, 15.0)
    neck, _ = _top(s, u(0.6, 4.0), u(6.4, 8.0), waist, hem, arm)
    low = neck[0][1]
    collar = [neck[-1], (4.2, low - 0.8), (1.7, low + 2.0), neck[0]]
    s.fill(outline(x, y, [*collar, *neck[1:]]), s.cloth * u(0.8, 1.1))
    s.shade(stroke(x, y, collar), 0.5, 0.9)
    placket = stroke(s.x, y, [(0.0, low), (0.0, 13.5)])
    s.shade(abs(placket - 1.1), u(0.1, 0.4), 0.9)
    _buttons(s, s.x, low, s.chance(0.75))
    pocket = box(s.x, y, (3.8, -3.5), (1.5, u(1.2, 2.0)))
    s.shade(abs(pocket), s.chance(0.4) * 0.5, 0.9)


def _sandal(s: Sketch) -> None:
    u, x, y = s.uniform, s.x, s.y
    rise, wedge, band = s.chance(0.5) * u(2.0, 13.0), s.chance(0.4), u(0.5, 1.3)
    ground = 4.5 + 0.5 * rise
    heel, arch = (10.8, ground - rise), (4.0, ground - 0.7 * rise)
    front = 9.0 - 10 * wedge, ground - rise * (0.95 - 0.75 * wedge)
    block = [heel, front, (10.0 - 10 * wedge, ground + 1), (11.2, ground + 1), heel]
    s.fill(outline(x, y, block), s.accent)
    for low in (-11.5, -6.0):
        toe, tall = u(low, low + 3), u(5.0, 9.0) + 0.3 * rise
        strap = [(toe, ground), (toe + u(2.0, 5.0), ground - tall)]
        strap += [(toe + u(6.0, 9.0), ground - 0.25 * rise), strap[0]]
        upper = outline(x, y, soften(strap))
        bare = -band - upper - s.chance(0.35) * 99  # a hole, unless it is solid
        s.fill(np.maximum(upper, bare), s.cloth)
    back = ground - rise - u(3.5, 7.0)
    sling = [heel, (u(10.5, 12.5), back), (u(2.0, 6.0), back)]
    sling += [(u(-1.0, 3.0), ground - 2 - rise / 3)]
    s.paint(stroke(x, y, soften(sling)) - band, s.cloth, s.chance(0.7))
    insole = [(-12.8, ground - 0.8), (-10.0, ground), (-3.5, ground), arch, heel]
    s.fill(stroke(x, y, soften(insole)) - u(0.7, 1.4), s.tone)


def _sneaker(s: Sketch) -> None:
    u, x, y = s.uniform, s.x, s.y
    top, toe, shin, joint = u(-7.0, -3.5), u(0.0, 2.2), u(0.0, 2.5), u(3.6, 4.8)
    upper = [(-12.6, 6.0), (-13.6, toe + 0.5), (-8.5, toe - 0.6), (-4.0, toe - 2.6)]
    upper += [(shin, top - 0.6), (shin + 2.5, top - 0.5), (6.5, top + u(0.5, 3.0))]
    upper += [(10.5, top + u(-0.8, 0.5)), (12.4, top + 1), (11.3, 0.5), (12.6, 6.0)]
    shape = outline(x, y, [*soften(upper), upper[0]])
    s.fill(shape, s.cloth)
    cap = np.maximum(x - 0.2 * y + u(6.0, 9.0), shape)
    s.paint(cap, s.accent, s.chance(0.3))
    s.shade(abs(cap), u(0.0, 0.5))
    heel = np.maximum(u(7.5, 9.5) - 0.2 * y - x, shape)
    s.paint(heel, s.accent, s.chance(0.4))
    flash = [(u(-4.0, 0.0), 3.5), (u(0.0, 4.0), u(-2.0, 2.0)), (9.0, 1.5)]
    s.paint(stroke(x, y, flash) - u(0.3, 1.0), s.accent, s.chance(0.6))
    for up in (0.0, 0.4, 0.8):
        eye = -3.6 + (shin + 2.6) * up, toe - 1.6 + (top - toe + 2.6) * up
        lace = stroke(x, y, [eye, (eye[0] + 1.8, eye[1] + 1.6)])
        s.paint(lace - 0.3, s.accent)
    sole = [(0, joint), (-13.6, joint - 0.3), (-13.0, 6.9), (13.2, 6.9), (12.8, joint)]
    s.fill(outline(x, y, [*soften(sole), sole[0]]), u(0.25, 1.0))
    s.shade(abs(y - joint), u(0.2, 0.7), 0.8)


def _bag(s: Sketch) -> None:
    u, x, y = s.uniform, abs(s.x), s.y
    top, bottom, wide = u(-8.0, 2.0), u(9.0, 13.0), u(8.5, 13.2)
    rim, closure = wide - u(-0.5, 3.0), top + u(2.0, 8.0)
    reach = np.minimum(u(2.5, 10.0), rim - 1.0)
    peak = top - s.chance(0.8) * u(0.4, 1.0) * (top + 13)
    handle = [(reach, top + 1), (reach * u(0.1, 1.1), peak), (0.0, peak)]
    s.paint(stroke(x, y, soften(handle)) - u(0.3, 0.9), s.tone * 0.85)
    body = [(0.0, top), (rim, top), (wide, bottom), (0.0, bottom)]
    shape = outline(x, y, soften(body, u(0.04, 0.35)))
    s.fill(shape, s.cloth)
    lid, closed = np.maximum(y - closure + u(0.0, 0.3) * x, shape), s.chance(0.6)
    s.paint(lid, s.accent, closed * s.chance(0.4))
    s.shade(abs(lid), 0.5 * closed)
    clasp = box(s.x, y, (0.0, closure), (u(0.5, 1.6), u(0.5, 1.4)))
    s.paint(clasp, 1 - s.tone, s.chance(0.6))
    strap = np.maximum(abs(x - rim + u(2.0, 5.0)) - u(0.0, 0.5), shape)
    s.shade(strap, s.chance(0.4) * 0.5)
    pocket = box(s.x, y, (0.0, bottom - 3.2), (wide * u(0.4, 0.7), 1.8))
    s.shade(abs(pocket), s.chance(0.35) * 0.5)


def _ankle_boot(s: Sketch) -> None:
    u, x, y = s.uniform, s.x, s.y
    top, toe, shin, back = u(-13.0, -6.0), u(2.4, 5.4), u(-2.0, 2.0), u(9.0, 11.3)
    sole, heel, rubber, laced = 10.0, u(0.8, 5.5), u(0.15, 0.9), s.chance(0.4)
    arch = 4.5, sole - heel * 0.75
    upper = [(-11.0, sole), (-13.6, sole), (-13.2, toe + 0.6), (-8.0, toe - 0.4)]
    upper += [(shin - 2.5, toe - 3.5), (shin + 0.5, -3.0), (shin, top)]
    upper += [(back, top - u(-0.6, 0.8)), (back - 0.6, 1.0), (back + 1, sole - heel)]
    shape = outline(x, y, [*soften([*upper, arch, (-1.5, sole)], 0.25), upper[0]])
    s.fill(shape, s.cloth)
    elastic = box(x, y, (shin + 4.5, top), (1.9, 12.0 + 0.2 * top))
    s.shade(np.maximum(elastic, shape), s.chance(0.4) * u(0.3, 0.7))
    for up in range(4):
        eye = shin - 1.6 + 0.6 * up, 0.6 - 2.4 * up
        lace = stroke(x, y, [eye, (eye[0] + 2.4, eye[1] + 1.0)]) - 0.4
        s.paint(np.maximum(lace, top + 1 - y), s.accent, laced)
    s.shade(np.maximum(abs(y - top - 1.8), shape), u(0.0, 0.5))
    s.shade(stroke(x, y, [(-9.0, toe - 1), (-6.5, 9.0)]), s.chance(0.3) * 0.5, 1.1)
    s.paint(stroke(x, y, [(-12.5, sole), (-2.0, sole), arch]) - u(0.5, 1.0), rubber)
    block = [(5.5, sole - heel * 0.85), (back + 0.6, sole - heel), (back, 10.8)]
    block += [(6.0 + u(0.0, 0.4) * heel, 10.8), block[0]]
    s.paint(outline(x, y, block), rubber)


_DRAW = {
    "t-shirt": _t_shirt,
    "trousers": _trousers,
    "pullover": _pullover,
    "dress": _dress,
    "coat": _coat,
    "sandal": _sandal,
    "shirt": _shirt,
    "sneaker": _sneaker,
    "bag": _bag,
    "ankle boot": _ankle_boot,
}
KINDS = tuple(_DRAW)


def draw_images(count: int, seed: int) -> tuple[Bytes, Bytes]:
    """Draws pictures of garments of random, equally likely kinds.

    The images are uint8 [count, 28, 28, 1], bright on a background of 0, and the kinds
    uint8 [count], indices into `KINDS`. Picture i depends only on `seed` and i, so
    fewer pictures are a prefix of more.

    Raises:
      ValueError: `count` is below 1 or `seed` below 0.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, not {seed}")
    images = np.empty((count, SIDE, SIDE, 1), np.uint8)
    kinds = np.empty(count, np.uint8)
    for block, start in enumerate(range(0, count, BLOCK)):
        # Random numbers of a whole block: a picture does not depend on `count`.
        rng, part = np.random.default_rng([seed, block]), slice(start, start + BLOCK)
        kinds[part] = rng.integers(len(KINDS), size=BLOCK)[: count - start]
        dice = rng.random((BLOCK, DICE), np.float32)
        grain = rng.random((BLOCK, SIDE, SIDE), np.float32)
        for kind, draw in enumerate(_DRAW.values()):
            rows = np.flatnonzero(kinds[part] == kind)
            sketch = Sketch(dice[rows], grain[rows])
            draw(sketch)
            images[part][rows, ..., 0] = sketch.develop()
    return images, kinds
