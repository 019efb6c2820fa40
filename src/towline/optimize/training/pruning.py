"""Find the channels of a trainable graph that can go together, say which matter least, and take them out: torch-pruning's dependencies.

What depends on what is found by tracing, which guesses where it does not know an operator. So every group is proven before it is used: a
graph without its channels must answer as the whole one does with their weights put to zero.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning
from torch import Tensor, nn

from towline.optimize.base import PassFailed
from towline.optimize.training.graph import Trainable

# Of the largest answer: sums in another order differ by less, a channel that still counts by more.
_CLOSE = 1e-4
# Of four channels one goes when a group is proven.
_PROVEN_EVERY = 4
# Without channels the graph answers as it should, or not, or they are the answer's own.
Outcome = Literal["right", "wrong", "answer"]
_SPATIAL = (nn.modules.conv._ConvNd,)
_MATRIX = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass(frozen=True)
class Channels:
    """Channels that can only go together: those that `layer` makes, and those of `others` that are added to or scaled with them.

    `readers` mix them: each with the share of its inputs that they are. Names are those of ONNX nodes. Where a convolution in groups makes
    or reads them, they lie in as many `blocks` of one size, and the same places of each block go.
    """

    layer: str
    others: tuple[str, ...]
    count: int
    readers: tuple[tuple[str, float], ...]
    blocks: int = 1

    def spread(self, places: Sequence[int]) -> list[int]:
        """These places of every block, block beside block, as places of channels."""
        size = self.count // self.blocks
        return [block * size + place for place in places for block in range(self.blocks)]

    def whole(self, places: Sequence[int]) -> list[int]:
        """As many of the first as are the same in each block."""
        return [*places[: len(places) // self.blocks * self.blocks]]


# And the layer in which torch-pruning begins with them.
Found = tuple[Channels, nn.Module]


class Pruner:
    """The channels of one module. `take` changes the module; what was found before it still holds, with smaller counts."""

    def __init__(self, module: Trainable, example: Sequence[Tensor]) -> None:
        self._module, self._example = module, [*example]
        self._names: dict[nn.Module, str] = {}
        for name, layer in module.layers.items():
            self._names.setdefault(layer, name)
        self._graph = _traced(module, self._example)
        found = {one.layer: (one, root) for one, root in self._found()}
        outcomes = _proven(module, self._example, found)
        self._groups = {name: one for name, one in found.items() if outcomes[name] == "right"}
        self.refused = tuple(name for name in found if outcomes[name] == "wrong")

    @property
    def channels(self) -> dict[str, Channels]:
        """By the name of the layer, in the order of the graph; those that were proven, only."""
        return {name: one for name, (one, _) in self._groups.items()}

    def order(self, how: str) -> dict[str, list[int]]:
        """The channels of each layer, those first that matter least. "taylor" reads the gradients that the module's weights hold."""
        taylor = torch_pruning.importance.GroupTaylorImportance()
        wholes = {name: self._whole(root) for name, (_, root) in self._groups.items()}
        matter = {name: taylor(one) if how == "taylor" else _magnitude(self._graph, one) for name, one in wholes.items()}
        return {name: one.spread(matter[name].reshape(one.blocks, -1).sum(0).argsort().tolist()) for name, one in self.channels.items()}

    @contextmanager
    def silenced(self, layer: str, places: Sequence[int]) -> Iterator[None]:
        """The module as if these channels were gone, at its full width."""
        one, root = self._groups[layer]
        with _silenced(_readers(self._graph, root, one.whole(places))):
            yield

    def take(self, layer: str, places: Sequence[int]) -> None:
        """Remove channels of a layer, and of all that goes with it."""
        one, root = self._groups[layer]
        self._graph.get_pruning_group(root, self._graph.get_pruner_of_module(root).prune_out_channels, one.whole(places)).prune()

    def _whole(self, root: nn.Module) -> Any:
        pruner = self._graph.get_pruner_of_module(root)
        return self._graph.get_pruning_group(root, pruner.prune_out_channels, [*range(pruner.get_out_channels(root))])

    def _found(self) -> list[Found]:
        """The groups without a weight that two layers share."""
        shared = _shared(self._module)
        places = {name: place for place, name in enumerate(self._module.layers)}
        found = []
        for group in self._graph.get_all_groups(root_module_types=_MATRIX):
            makers = {dep.target.module for dep, _ in group if self._graph.is_out_channel_pruning_fn(dep.handler)}
            layers = sorted((self._names[one] for one in makers if one in self._names), key=places.__getitem__)
            members = {dep.target.module for dep, _ in group if isinstance(dep.target.module, nn.Module)}
            root, count, blocks = group[0].dep.target.module, len(group[0].idxs), _blocks(members)
            if members & shared or count % blocks or (blocks > 1 and count == blocks):
                continue
            first = next(name for name in layers if isinstance(self._module.layers[name], _MATRIX))
            readers = tuple((self._names[one], len(columns) / inputs_of(one)) for one, columns in _mixing(self._graph, group))
            found.append((Channels(first, tuple(one for one in layers if one != first), count, readers, blocks), root))
        return sorted(found, key=lambda one: places[one[0].layer])


def _traced(module: Trainable, example: Sequence[Tensor]) -> Any:
    """torch-pruning's graph of what depends on what."""
    with warnings.catch_warnings():
        # Of weights that are no layer's: they are pruned along their last axis, and proven as all is.
        warnings.simplefilter("ignore")
        try:
            return torch_pruning.DependencyGraph().build_dependency(module, example_inputs=[*example], verbose=False)
        except (RuntimeError, ValueError, IndexError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise PassFailed(f"What depends on what in this graph cannot be told: {type(error).__name__}: {str(error)[:120]}") from error


def _shared(module: Trainable) -> set[nn.Module]:
    """Layers that are used twice, or whose weights another one has."""
    owners: Counter[int] = Counter()
    uses = Counter(id(layer) for layer in module.layers.values())
    layers = {*module.layers.values()}
    for layer in layers:
        owners.update(id(weight) for weight in layer.parameters())
    return {layer for layer in layers if uses[id(layer)] > 1 or any(owners[id(weight)] > 1 for weight in layer.parameters())}


def _blocks(members: set[nn.Module]) -> int:
    """Of how many parts each must lose the same places: convolutions in groups of several channels read as many in each."""
    return math.lcm(*(one.groups for one in members if isinstance(one, _SPATIAL) and one.groups != one.out_channels))


def _proven(module: Trainable, example: Sequence[Tensor], found: Mapping[str, Found]) -> dict[str, Outcome]:
    """What comes of taking channels out of each of these layers: tried together, and in halves where that was not right."""
    if not found:
        return {}
    outcome = _outcome(module, example, [*found.values()])
    if outcome == "right" or len(found) == 1:
        return dict.fromkeys(found, outcome)
    names = [*found]
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    return {name: one for half in halves for name, one in _proven(module, example, {name: found[name] for name in half}).items()}


def _outcome(module: Trainable, example: Sequence[Tensor], found: Sequence[Found]) -> Outcome:
    places = {layer: name for name, layer in module.named_modules()}
    narrow = copy.deepcopy(module).eval()
    wide = copy.deepcopy(module).eval()
    try:
        slim, full = _traced(narrow, example), _traced(wide, example)
        readers = []
        for one, root in found:
            mine, whole = narrow.get_submodule(places[root]), wide.get_submodule(places[root])
            taken = sorted(one.spread(range(0, one.count // one.blocks, _PROVEN_EVERY)))
            readers += _readers(full, whole, taken)
            slim.get_pruning_group(mine, slim.get_pruner_of_module(mine).prune_out_channels, taken).prune()
        with torch.no_grad(), _silenced(readers):
            expected, got = wide(*example), narrow(*example)
    except (RuntimeError, ValueError, IndexError, AssertionError, PassFailed):
        # Whatever a graph answers that does not fit together any more.
        return "wrong"
    if got.shape != expected.shape:
        return "answer"
    return "right" if bool((got - expected).abs().max() <= _CLOSE * (1 + expected.abs().max())) else "wrong"


def _magnitude(graph: Any, group: Any) -> Tensor:
    """The weights that make a channel, times those that read it: what makes twice and is read half is worth the same.

    Where norms follow, it is their scale that makes it, whatever comes before.
    """
    weights, norms, read = (torch.zeros(len(group[0].idxs)) for _ in range(3))
    readers = {id(layer) for layer, _ in _mixing(graph, group)}
    for place, (dep, idxs) in enumerate(group):
        layer, roots = dep.target.module, torch.tensor(group[place].root_idxs)
        if id(layer) in readers and graph.is_in_channel_pruning_fn(dep.handler):
            read.index_add_(0, roots, _sizes(layer, idxs, axis=1))
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            norms.index_add_(0, roots, _evened(_sizes(layer, idxs, axis=0)))
        elif isinstance(layer, _MATRIX):
            weights.index_add_(0, roots, _evened(_sizes(layer, idxs, axis=0)))
    return ((norms if bool(norms.any()) else weights) * read).sqrt()


def _sizes(layer: nn.Module, places: Sequence[int], axis: int) -> Tensor:
    """The sum of the squares of the weights at each place of what a layer makes (axis 0) or reads (axis 1)."""
    weight = layer.weight.detach()
    if axis == 1 and _groups(layer) > 1:
        # Each group reads inputs of its own: these stand side by side.
        weight = torch.cat([*weight.chunk(_groups(layer))], 1)
    if weight.dim() > 1 and (axis == 1) != bool(getattr(layer, "transposed", False)):
        weight = weight.transpose(0, 1)
    return weight[[*places]].reshape(len(places), -1).square().sum(1)


def _evened(sizes: Tensor) -> Tensor:
    """With a mean of one, so that layers weigh the same."""
    return sizes / sizes.mean().clamp(min=torch.finfo(torch.float32).tiny)


# A layer, and the columns of its weight that read the channels.
Reader = tuple[nn.Module, list[int]]


def _readers(graph: Any, root: nn.Module, places: Sequence[int]) -> list[Reader]:
    return _mixing(graph, graph.get_pruning_group(root, graph.get_pruner_of_module(root).prune_out_channels, [*places]))


def _mixing(graph: Any, group: Any) -> list[Reader]:
    """What reads the channels of a group: the layers that mix them, and which of their inputs they are."""
    reading = [(dep.target.module, [*idxs]) for dep, idxs in group if graph.is_in_channel_pruning_fn(dep.handler)]
    mixing = [(layer, idxs) for layer, idxs in reading if isinstance(layer, _MATRIX) and not _is_depthwise(layer)]
    # Of a convolution in groups each column reads one channel of every group.
    return [(layer, sorted({place % inputs_of(layer) for place in idxs}) if _groups(layer) > 1 else idxs) for layer, idxs in mixing]


def inputs_of(layer: nn.Module) -> int:
    """The channels or features that each output of a convolution or a dense layer reads."""
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels // layer.groups)


def _is_depthwise(layer: nn.Module) -> bool:
    return _groups(layer) > 1 and inputs_of(layer) == 1


def _groups(layer: nn.Module) -> int:
    return int(getattr(layer, "groups", 1))


def outputs_of(layer: nn.Module) -> int:
    """The channels or features that a convolution or a dense layer makes."""
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def work_of(module: Trainable, example: Sequence[Tensor]) -> dict[str, int]:
    """The multiply-adds of each convolution and dense layer for one row, by the name of its node."""
    found: dict[str, int] = {}

    def counting(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def count(layer: nn.Module, _: Any, answer: Tensor) -> None:
            found[name] = answer.numel() // len(example[0]) * (layer.weight.numel() // outputs_of(layer))

        return count

    hooks = [layer.register_forward_hook(counting(name)) for name, layer in module.layers.items() if isinstance(layer, _MATRIX)]
    with torch.no_grad():
        module(*example)
    for hook in hooks:
        hook.remove()
    return found


@contextmanager
def _silenced(readers: Sequence[Reader]) -> Iterator[None]:
    kept = []
    with torch.no_grad():
        for layer, places in readers:
            weight = layer.weight.transpose(0, 1) if getattr(layer, "transposed", False) else layer.weight
            kept.append((weight, places, weight[:, places].clone()))
            weight[:, places] = 0
    try:
        yield
    finally:
        with torch.no_grad():
            # Backwards: what was put to zero twice was whole only at first.
            for weight, places, before in reversed(kept):
                weight[:, places] = before
