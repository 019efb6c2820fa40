"""The words on the pages of the judges, in English and Chinese. Pure."""

from __future__ import annotations

from collections.abc import Callable

from towline.verify.pages.sentences import chinese
from towline.verify.pages.settings import part

Say = Callable[[str], str]

_CHINESE = {
    "test": "测试",
    "comparison": "比较",
    "optimisation": "优化",
    "Gates": "门槛",
    "Gate": "门槛",
    "Figure": "指标",
    "Figures": "指标",
    "Value": "数值",
    "Wanted": "要求",
    "Verdict": "判定",
    "pass": "通过",
    "FAIL": "未通过",
    "not measured": "没有测量",
    "Version": "版本",
    "Digest": "摘要",
    "Data": "数据",
    "Rows": "行数",
    "First": "第一个",
    "Second": "第二个",
    "Difference": "差",
    "95 % interval": "95 % 区间",
    "Confusion": "混淆矩阵",
    "The {shown} of {all} classes that are confused most, by rows of the data.": "{all} 个类别中混淆最多的 {shown} 个，按数据的行数。",
    "Rows of each class (down), and what was answered (across).": "每类的行（纵），以及回答（横）。",
    "true class": "真实类别",
    "answered class": "回答的类别",
    "Calibration": "校准",
    "Share of right answers by confidence; on the diagonal a confidence is what it says.": (
        "按置信度的正确率；落在对角线上时，置信度名副其实。"
    ),
    "confidence": "置信度",
    "share that is right": "正确率",
    "measured": "实测",
    "ideal": "理想",
    "Recall by class": "各类召回率",
    "The {shown} of {all} classes with the least recall.": "{all} 个类别中召回率最低的 {shown} 个。",
    "Latency": "延迟",
    "Share of single rows answered within a time": "在某时间内回答的单行请求的比例",
    "latency, ms": "延迟，毫秒",
    "share of requests no slower": "不慢于此的请求比例",
    "Robustness": "鲁棒性",
    "{figure} on the same rows after each change": "同样的行经各种改动后的 {figure}",
    "clean": "原样",
    "noise": "噪声",
    "blur": "模糊",
    "brightness": "亮度",
    "jpeg": "JPEG",
    "Notes": "说明",
    "Difference in confusion": "混淆矩阵之差",
    "What may help": "可以怎么做",
    "This looks for a version that keeps what is asked for, with the guiltiest operators left as they were:": (
        "这条命令寻找满足要求的版本，让最有问题的算子保持原样："
    ),
    "Difference by class": "各类之差",
    "Recall by class, second minus first, pt": "各类召回率，第二个减第一个，百分点",
    "The most surely lost first; the interval is that of a class by itself. Hollow: it may be none.": (
        "最确定变差的在前；区间只针对单个类别。空心：也可能没有差别。"
    ),
    "The first {shown} of {all} classes that differ.": "有差别的 {all} 个类别中的前 {shown} 个。",
    "Class": "类别",
    "Recall": "召回率",
    "F1": "F1",
    "Difference, pt": "差，百分点",
    "Lost": "丢失",
    "Won": "新增",
    "Layers that move the most": "变动最大的层",
    "Layers behind which the second's values lie the furthest from the first's, in dB of the signal over the noise.": (
        "第二个的数值在这些层之后离第一个最远，以信号高于噪声的 dB 计。"
    ),
    "Layer": "层",
    "Operator": "算子",
    "dB before it": "之前的 dB",
    "dB behind it": "之后的 dB",
    "Nothing is confused otherwise.": "混淆情况没有变化。",
    "Second minus first, in rows; orange: fewer.": "第二个减第一个，以行计；橙色表示减少。",
    "Agreement": "一致率",
    "Only the first is right": "只有第一个答对",
    "Only the second is right": "只有第二个答对",
    "McNemar's p": "McNemar 的 p",
    "Speed, one row": "速度，单行",
    "Speed, in batches": "速度，成批",
    "Rows where the second loses": "第二个答错的行",
    "Row": "行",
    "What became of it": "变化",
    "Picture": "图片",
    "What was tried": "尝试过的做法",
    "Pass": "做法",
    "Settings": "设置",
    "Speed": "速度",
    "Size": "大小",
    "Drop, pt": "下降，百分点",
    "fits": "合格",
    "Drop against speed": "下降与速度",
    "Area: size on disk. The numbers are those of the table; a line joins what nothing beats both ways: faster, and lost less.": (
        "面积：磁盘大小。编号与表中相同；连线上的各点没有别的点既更快又损失更少。"
    ),
    "At most {share} pt may be lost.": "最多允许损失 {share} 个百分点。",
    "No.": "编号",
    "handed over": "已采用",
    "where it began": "原版本",
    "right enough": "合格",
    "refused": "被拒绝",
    "Operators in float: agreement against speed": "保留浮点的算子：一致率与速度",
    "The number at a point is how many of the guiltiest operators stay in float.": "点旁的数字表示最有问题的算子中有多少个保留浮点。",
    "agreement, %": "一致率，%",
    "How training went": "训练过程",
    "epoch": "轮次",
    "loss": "损失",
    "share": "比例",
    "validation": "验证",
    "validation accuracy": "验证准确率",
    "Hollow: stayed in float in what was handed over.": "空心：在采用的版本中保留浮点。",
    "Stopped": "已停止",
    "Kept": "采用",
    "New digest": "新摘要",
    "Nothing tried was faster, or smaller and as fast, and still right.": "没有一种做法更快（或更小且同样快）而仍然正确。",
    "times as fast, in batches": "成批时的速度倍数",
    "drop, pt": "下降，百分点",
    "Sensitivity by operator": "各算子的敏感度",
    "Noise that quantising this operator alone makes in the outputs, dB below them: the fewer, the guiltier.": (
        "只量化这个算子时，噪声比输出低多少 dB：越少越有问题。"
    ),
    "On {rows} labelled rows, none of them alone loses any {figure}.": ("在 {rows} 行带标签的数据上，没有哪个算子单独损失 {figure}。"),
    "What of {figure} is lost by quantising this operator alone, on {rows} labelled rows. Filled: surely.": (
        "在 {rows} 行带标签的数据上，只量化这个算子时 {figure} 的损失。实心：确有损失。"
    ),
    "Loss by operator": "各算子的损失",
    "Drop of {figure}": "{figure} 的下降",
    "drop of {figure}": "{figure} 的下降",
    ", pt": "，百分点",
    "At most {share} may be lost.": "最多允许损失 {share}。",
    "Judged by": "判定依据",
    "The data has no labels: nothing is said about right and wrong.": "数据没有标签：不谈对错。",
    "Without labels nothing is said about which is better.": "没有标签，不谈哪个更好。",
    "No difference in quality that these rows could show.": "这些行看不出质量上的差别。",
    "The second is surely better.": "第二个肯定更好。",
    "The second is surely worse.": "第二个肯定更差。",
    "Not fit to take over.": "不适合接替。",
}


def words(language: str) -> Say:
    """What a text of ours reads in a language; what has no translation, such as a model's own names, stays as it is."""
    return _chinese if language == "zh" else _english


def _english(english: str) -> str:
    return english


def _chinese(english: str) -> str:
    if english in _CHINESE:
        return _CHINESE[english]
    said = chinese(english)
    return said if said != english else part(english)
