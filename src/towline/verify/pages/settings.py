"""The settings of passes (optimize/base.py: Pass.settings) as Chinese pages have them, part by part. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

_APART = re.compile(r"(, |; |: )")
_SIGNS = {", ": "，", "; ": "；", ": ": "："}

_CHINESE = tuple(
    (re.compile(english), chinese)
    for english, chinese in (
        # Weights and ranges.
        (r"static", "静态"),
        (r"minmax", "最小最大值"),
        (r"percentile", "百分位"),
        (r"entropy", "熵"),
        (r"per channel", "每通道"),
        (r"per tensor", "每张量"),
        (r"(\d+)-bit weights", "{} 位权重"),
        (r"(\d+) operators? in float", "{} 个算子保留浮点"),
        (r"weights s8", "权重 s8"),
        (r"activations per run", "激活在每次运行时测定"),
        (r"weights and inner values", "权重与中间值"),
        (r"channel ranges", "通道范围"),
        (r"cross-layer", "跨层"),
        (r"learned", "学习取整"),
        (r"nearest", "就近取整"),
        (r"biases corrected", "校正偏置"),
        (r"weights per channel", "每通道的权重"),
        (r"weights in blocks of (\d+)", "每 {} 个权重一块"),
        (r"blocks of (\d+)", "每块 {} 个"),
        (r"symmetric", "对称"),
        (r"asymmetric", "非对称"),
        (r"floats once loaded", "加载后为浮点"),
        (r"multiplied as (\S+)", "以 {} 相乘"),
        # Graphs.
        (r"level (\S+)", "级别 {}"),
        (r"for (.+) only", "只用于 {}"),
        (r"attention", "注意力"),
        (r"layer norms", "层归一化"),
        (r"(\d+) heads", "{} 个头"),
        (r"dims that are always the same", "总是相同的维度"),
        # Channels and zeros.
        (r"(\d+%) of the channels by (\S+)", "去掉 {} 的通道（{}）"),
        (r"in (\d+) steps", "分 {} 步"),
        (r"guided by sensitivity", "按敏感度"),
        (r"(\d+) layers? by hand", "{} 层由人指定"),
        (r"(\S+ %) zeros by (\S+)", "{} 为零（{}）"),
        (r"of all weights", "在所有权重中"),
        (r"of each layer", "在每一层中"),
        (r"penalty (\S+)", "惩罚 {}"),
        # Students and trainings.
        (r"(narrow|mobile|mlp|bag) student", "学生 {}"),
        (r"student (.+)", "学生 {}"),
        (r"(\S+) wide", "宽度 {}"),
        (r"(\S+) deep", "深度 {}"),
        (r"temperature (\S+)", "温度 {}"),
        (r"alpha (\S+)", "α {}"),
        (r"inner tensors alike", "中间张量相近"),
        (r"ranges (\S+)", "范围 {}"),
        (r"teacher (\S+) at (\S+)", "教师 {}（温度 {}）"),
        (r"(\d+) epochs?", "{} 轮"),
        (r"(sgd|momentum|adagrad|adam|adamw) (\S+)", "{}，学习率 {}"),
        (r"cosine", "余弦"),
        (r"step", "阶梯"),
        (r"constant", "恒定"),
        (r"batches of (\d+)", "每批 {} 行"),
        (r"smoothing (\S+)", "标签平滑 {}"),
        (r"patience (\d+)", "耐心 {}"),
        (r"shift", "平移"),
        (r"flip", "翻转"),
        (r"crop", "裁剪"),
        (r"erase", "擦除"),
    )
)


def settings(said: str, say: Callable[[str], str]) -> str:
    """A line of settings in the language of `say`; a part that has no translation, such as a file's name, stays as it is."""
    parts = _APART.split(said)
    told = [say(part) for part in parts[::2]]
    if told == parts[::2]:
        return said
    signs = [_SIGNS[sign] for sign in parts[1::2]]
    return "".join(one for pair in zip(told, [*signs, ""], strict=True) for one in pair)


def part(english: str) -> str:
    """One part in Chinese."""
    for pattern, said in _CHINESE:
        if found := pattern.fullmatch(english):
            return said.format(*found.groups())
    return english
