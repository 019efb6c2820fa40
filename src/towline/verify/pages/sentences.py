"""Sentences that are made of what was found, as Chinese pages have them; records keep the English one. Pure."""

from __future__ import annotations

import re

_REFUSED = "Not fit to take over: "

_CHINESE = tuple(
    (re.compile(english), chinese)
    for english, chinese in (
        # Judging.
        (r"It is slower here: (.+)x\.", "在这台机器上更慢：{} 倍。"),
        (r"(\S+) is (\S+), wanted (<=|>=|<|>|==) (\S+)", "{} 为 {}，要求 {} {}"),
        (r"(\S+) was not measured, wanted (<=|>=|<|>|==) (\S+)", "{} 没有测量，要求 {} {}"),
        # Searching.
        (r"The time was up\.", "时间已到。"),
        (r"It was interrupted\.", "被中断。"),
        (r"The process of the pass '(.+)' took longer than (.+) seconds\.", "“{}”的进程超过了 {} 秒。"),
        (r"The process of the pass '(.+)' was killed by (.+)\.", "“{}”的进程被 {} 终止。"),
        (r"Combinations beyond the planned ones need Optuna\.(.*)", "计划之外的组合需要 Optuna。{}"),
        # What passes cannot do.
        (r"ONNX Runtime cannot quantise this graph: (.+)", "ONNX Runtime 无法量化这个图：{}"),
        (r"ONNX Runtime cannot load this graph: (.+)\.", "ONNX Runtime 无法加载这个图：{}。"),
        (r"onnxslim cannot read this graph: (.+)\.", "onnxslim 无法读取这个图：{}。"),
        (r"The graph cannot be made float16: (.+)\.", "这个图无法变为 float16：{}。"),
        (
            r"There is nothing to equalise: no convolution's channels are read by a convolution or Gemm alone\.",
            "没有可均衡的：没有哪个卷积的通道只由一个卷积或 Gemm 读取。",
        ),
        (
            r"No operator of this graph has a constant weight of (\d+) floats or more: there is nothing to store\.",
            "这个图中没有算子拥有不少于 {} 个浮点数的常量权重：没有可存储的。",
        ),
        (
            r"The graph has no layers with weights of their own, so there is nothing to narrow\.",
            "这个图没有自带权重的层，因此没有可缩窄的。",
        ),
        (
            r"The graph has no block that takes and gives the same shape, so none can be left out\.",
            "这个图没有输入输出形状相同的块，因此无块可省。",
        ),
        (r"The graph has no float32 weights to train\.", "这个图没有可训练的 float32 权重。"),
        (r"Graphs with the operator(?:s|) (.+) cannot be trained\.", "含有算子 {} 的图不能训练。"),
        (r"No layer of this graph has channels that can be taken out(.*)\.", "这个图中没有可以去掉通道的层{}。"),
        (
            r"No matrix product of this graph has a constant weight of two dimensions: there is nothing to make smaller\.",
            "这个图中没有矩阵乘积拥有二维的常量权重：没有可缩小的。",
        ),
        (r"validation (\S+)", "验证 {}"),
        # What passes tell of themselves.
        (r"(\d+) operators became (\d+)\.", "算子由 {} 个变为 {} 个。"),
        (
            r"(\d+) operators became (\d+); a load no longer looks for what to fuse\.",
            "算子由 {} 个变为 {} 个；加载时不再寻找可融合的算子。",
        ),
        (r"It takes one size only: (.+)\.", "只接受一种大小：{}。"),
        (r"It would take one size only where the version takes any: (.+)\.", "原版本接受任意大小，而它只接受一种：{}。"),
        (
            r"No dim is open but the first, or none is of one size in all rows: there is nothing to fix\.",
            "除第一维外没有开放的维度，或没有在所有行中大小相同的：没有可固定的。",
        ),
        (r"Transposes: (\d+) became (\d+)\.", "Transpose 由 {} 个变为 {} 个。"),
        (r"Laid out for (.+): elsewhere it is not loaded\.", "为 {} 布局：在别处不加载。"),
        (
            r"The channels of (\d+) tensors, or of those that are added up, have ranges alike\.",
            "{} 个张量（或相加的张量）的通道范围已相近。",
        ),
        (r"(\d+) weights are stored as (\d+) bits\.", "{} 个权重以 {} 位存储。"),
        (r"(\d+) matrix products have weights of (\d+) bits\.", "{} 个矩阵乘积的权重为 {} 位。"),
        (r"Loss per epoch: (.+)\.", "每轮损失：{}。"),
        (r"Channels: (.+)\.", "通道：{}。"),
        (r"Taught on (.+) rows, none labelled\.", "用 {} 行教学，都没有标签。"),
        (r"Taught on (.+) rows, (.+) of them labelled\.", "用 {} 行教学，其中 {} 行有标签。"),
        (r"Made alike: (.+)\.", "使其相近：{}。"),
        (r"The teacher answered the changed pictures too\.", "教师也回答了改动过的图片。"),
        (r"(\S+) parameters and (\S+) multiply-adds, of (\S+) and (\S+)\.", "{} 个参数、{} 次乘加，原为 {} 和 {}。"),
        (r"(\S+) parameters became (\S+), (\S+) multiply-adds a row (\S+)\.", "参数由 {} 变为 {}，每行乘加由 {} 变为 {}。"),
        (r"Left whole, since other layers would have changed as well: (.+)\.", "保持完整，否则其他层也会改变：{}。"),
        (
            r"Of the rows held back, rounded, (\S+) % were right and became (\S+) %\.",
            "保留的行在取整后答对的比例由 {} % 变为 {} %。",
        ),
        (r"On rows held back, rounded: the loss was (\S+) and became (\S+)\.", "在保留的行上取整后，损失由 {} 变为 {}。"),
        # A row that was lost; labels are anybody's words, so this comes last.
        (r"(.+) became (.+[^.])", "{} 变成 {}"),
    )
)


def chinese(sentence: str) -> str:
    """The sentence in Chinese, with what was found in it as it is; one of somebody else's stays as it is."""
    if sentence.startswith(_REFUSED):
        return "不适合接替：" + "；".join(map(chinese, sentence.removeprefix(_REFUSED).removesuffix(".").split("; "))) + "。"
    for pattern, said in _CHINESE:
        if found := pattern.fullmatch(sentence):
            return said.format(*found.groups())
    return sentence
