"""RULA and REBA one posture at a time, written from the text of the sheets with plain ifs: the oracle of the score tests and the reference of the bench.

The table cells are read from the same data file (they are compared with the fixtures elsewhere); everything between an angle and a cell is written again here."""
from __future__ import annotations

import json
from importlib import resources

DATA = json.loads((resources.files("humanbody") / "assets" / "score_tables.json").read_text())["methods"]
RULA = {k: t["values"] for k, t in DATA["rula"]["tables"].items()}
REBA = {k: t["values"] for k, t in DATA["reba"]["tables"].items()}


def upper_arm(angle: float) -> int:
    "20 degrees back to 20 forward 1; more backward, or 20 to 45 forward, 2; 45 to 90 3; above 90 4."
    if angle < -20: return 2
    if angle <= 20: return 1
    if angle <= 45: return 2
    return 3 if angle <= 90 else 4


def within(x: int, low: int, high: int) -> int:
    return max(low, min(high, x))


def rula_one(x: dict) -> tuple:
    "Return (sub-scores, score A, score B, C, D, grand, action level) of one posture."
    ua = within(upper_arm(x["upper_arm_flexion"]) + x["shoulder_raised"] + x["arm_abducted"] - x["arm_supported"], 1, 6)
    la = within((1 if 60 <= x["elbow_flexion"] <= 100 else 2) + x["arm_across_midline_or_out"], 1, 3)
    bend = abs(x["wrist_flexion"])
    wr = within((1 if bend <= 5 else 2 if bend <= 15 else 3) + x["wrist_deviated"], 1, 4)
    n = x["neck_flexion"]
    neck = within((4 if n < 0 else 1 if n <= 10 else 2 if n <= 20 else 3) + x["neck_twisted"] + x["neck_side_bent"], 1, 6)
    t = x["trunk_flexion"]
    trunk = (2 if t < -5 else 1 if t <= 5 else 2 if t <= 20 else 3 if t <= 60 else 4) + x["trunk_twisted"] + x["trunk_side_bent"]
    trunk, legs = within(trunk, 1, 6), 1 if x["legs_supported"] else 2
    a = RULA["a"][ua - 1][la - 1][wr - 1][x["wrist_twist"] - 1]
    b = RULA["b"][neck - 1][trunk - 1][legs - 1]
    c, d = a + x["muscle_a"] + x["force_a"], b + x["muscle_b"] + x["force_b"]
    grand = RULA["c"][min(c, 8) - 1][min(d, 7) - 1]
    level = 1 if grand <= 2 else 2 if grand <= 4 else 3 if grand <= 6 else 4
    return (ua, la, wr, x["wrist_twist"], neck, trunk, legs), a, b, c, d, grand, level


def reba_one(x: dict) -> tuple:
    "Return (sub-scores, table A, A, table B, B, C, REBA, action level) of one posture."
    n, t, k = x["neck_flexion"], x["trunk_flexion"], x["knee_flexion"]
    neck = within((1 if 0 <= n <= 20 else 2) + x["neck_twisted_or_bent"], 1, 3)
    trunk = within((1 if -5 <= t <= 5 else 2 if -20 <= t <= 20 else 3 if t <= 60 else 4) + x["trunk_twisted_or_bent"], 1, 5)
    legs = 2 if x["unilateral_or_unstable"] else 1
    if not x["sitting"]: legs += 2 if k > 60 else 1 if k >= 30 else 0
    legs = within(legs, 1, 4)
    ua = within(upper_arm(x["upper_arm_flexion"]) + x["arm_abducted_or_rotated"] + x["shoulder_raised"] - x["arm_supported"], 1, 6)
    la = 1 if 60 <= x["elbow_flexion"] <= 100 else 2
    wr = within((1 if abs(x["wrist_flexion"]) <= 15 else 2) + x["wrist_deviated_or_twisted"], 1, 3)
    ta, tb = REBA["a"][trunk - 1][neck - 1][legs - 1], REBA["b"][ua - 1][la - 1][wr - 1]
    a, b = ta + x["load_score"], tb + x["coupling_score"]
    c = REBA["c"][min(a, 12) - 1][min(b, 12) - 1]
    total = c + x["activity_score"]
    level = 0 if total <= 1 else 1 if total <= 3 else 2 if total <= 7 else 3 if total <= 10 else 4
    return (neck, trunk, legs, ua, la, wr), ta, a, tb, b, c, total, level
