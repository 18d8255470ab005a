"""Real code on fake tensors: bytes and operations of a model of any size, without its data.

Fake tensors have shapes, types and storages, but no values. Code that branches on values cannot run
on them, so small integer tensors (token ids, masks, grids, positions) are computed for real beside
their fakes wherever all their inputs are known. A number read from any other tensor is 1.
"""

import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

MOST_KNOWN = {True: 2**16, False: 2**22}
"""Elements of a tensor whose values are computed: floating-point, and other."""
aten = torch.ops.aten
ARBITRARY = (aten.empty, aten.empty_strided, aten.rand, aten.randn)
"""What makes tensors of arbitrary values, such as weights."""
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


def _grouped_products(first: Any, second: Any, *_: Any, **__: Any) -> int:
    """Operations of the products of a mixture's experts, each on the rows that it receives."""
    batch = first.shape[0] if first.ndim == second.ndim == 3 else 1
    return 2 * batch * first.shape[-2] * first.shape[-1] * second.shape[-1]


def _grouped_output(
    first: torch.Tensor, second: torch.Tensor, ends: torch.Tensor | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    """A tensor of the shape of a grouped product, whose fake is made in bfloat16 only.

    Two matrices are divided along the contracted dimension, a matrix and a stack along the other.
    """
    size = [first.shape[-2], second.shape[-1]]
    if first.ndim == second.ndim:
        size.insert(0, len(first if ends is None else ends))
    return first.new_empty(size)


OPERATIONS = {aten._grouped_mm: _grouped_products} | flop_registry
"""Operation to the function that counts its floating-point operations."""


class FakeRun:
    """Within the block, code runs on fake tensors on the CPU.

    Weights come from ``weigh``; what the code allocates besides is counted.
    """

    def __init__(self) -> None:
        self._fakes = FakeTensorMode(allow_non_fake_inputs=True)
        self._counter = _Counter(self._fakes)
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        self._entered.enter_context(self._fakes)
        self._entered.enter_context(self._counter)
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.close()

    @property
    def peak(self) -> int:
        """Most bytes allocated at a time since ``reset``."""
        return self._counter.peak

    @property
    def live(self) -> int:
        """Bytes allocated now."""
        return self._counter.live

    @property
    def operations(self) -> int:
        """Floating-point operations of matrix products, attention and convolutions."""
        return self._counter.operations

    def reset(self) -> None:
        """Start a new peak, from what is allocated now, and a new count of operations."""
        self._counter.peak, self._counter.operations = self._counter.live, 0

    def weigh(self, module: nn.Module) -> int:
        """Replace the weights of a module, on the meta device, by fakes; returns their bytes."""
        fakes: dict[int, torch.Tensor] = {}
        for part in module.modules():
            for tensors in (part._parameters, part._buffers):
                for name, value in tensors.items():
                    if value is None:
                        continue
                    if id(value) not in fakes:
                        fake = torch.empty(value.shape, dtype=value.dtype)
                        fake.__dict__.pop("_known", None)  # integers would be arbitrary indices
                        if isinstance(value, nn.Parameter):
                            fake = nn.Parameter(fake, requires_grad=value.requires_grad)
                        fakes[id(value)] = fake
                    tensors[name] = fakes[id(value)]  # type: ignore[assignment]
        size = sum(fake.untyped_storage().nbytes() for fake in fakes.values())
        self._counter.forget(fakes.values())
        module.to = lambda *_, **__: module  # type: ignore[method-assign] # there is one device
        return size

    def really(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of known tensors that is computed outside fake tensors."""

        def called(*args: Any, **kwargs: Any) -> Any:
            with _disable_current_modes():
                found = function(*tree_map(_real, args), **tree_map(_real, kwargs))
                return tree_map(self._counter.known, found)

        return called


class _Counter(TorchDispatchMode):
    """Counts storages and operations, and computes known tensors."""

    def __init__(self, fakes: FakeTensorMode) -> None:
        super().__init__()
        self.fakes = fakes
        self.live = self.peak = self.operations = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:
            return args[0].fake_device
        kwargs = kwargs or {}
        inputs = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        known = all(_is_known(one) for one in inputs)
        if func is aten._local_scalar_dense.default:
            with _disable_current_modes():
                return _real(args[0]).item() if known else 1
        if func in INDEXED:
            args = (args[0], self._indices(args[1]), *args[2:])
        if func.namespace == "aten" and func._can_decompose():
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        grouped = func is aten._grouped_mm.default and args[0].dtype != torch.bfloat16
        try:
            found = (_grouped_output if grouped else func)(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            assert known, f"{func} depends on the values of tensors that have none"
            with _disable_current_modes():
                return tree_map(self.known, func(*tree_map(_real, args), **tree_map(_real, kwargs)))
        outputs = [one for one in tree_leaves(found) if isinstance(one, torch.Tensor)]
        self._compute(func, args, kwargs, known, inputs, outputs)
        for one in outputs:
            self._add(one)
        if func._overloadpacket in OPERATIONS:
            counted = OPERATIONS[func._overloadpacket]
            self.operations += counted(*args, **kwargs, out_val=found)
        return found

    def _compute(
        self, func: Any, args: Any, kwargs: Any, known: bool, inputs: list, outputs: list
    ) -> None:
        small = all(one.numel() <= MOST_KNOWN[one.is_floating_point()] for one in outputs)
        if not inputs and func._overloadpacket in ARBITRARY:
            small = small and not any(one.is_floating_point() for one in outputs)
        if known and small and outputs:
            with _disable_current_modes():
                found = func(*tree_map(_real, args), **tree_map(_real, kwargs))
                values = [one for one in tree_leaves(found) if isinstance(one, torch.Tensor)]
            for fake, value in zip(outputs, values, strict=True):
                fake._known = value
        elif func._schema.is_mutable:
            for one in _written(func, args, kwargs):
                one.__dict__.pop("_known", None)

    def _indices(self, indices: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """Masks as the positions at which they are true."""
        found: list[torch.Tensor | None] = []
        for one in indices:
            if one is None or one.dtype != torch.bool:
                found.append(one)
                continue
            with _disable_current_modes():
                found += [self.known(at) for at in _real(one).nonzero(as_tuple=True)]
        return found

    def known(self, value: Any) -> Any:
        """The fake of a tensor, with its value; anything else unchanged."""
        if not isinstance(value, torch.Tensor):
            return value
        fake: Any = self.fakes.from_tensor(value)
        fake._known = value
        return fake

    def forget(self, tensors: Any) -> None:
        """Leave tensors, and views of them, out of the count."""
        for one in tensors:
            key = one.untyped_storage()._cdata
            self.live -= self.sizes[key]
            self.sizes[key] = 0
        self.peak = self.live

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.live -= self.sizes.pop(key, 0)


def _written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The inputs that an operation changes in place; not its indices and masks."""
    given = dict(enumerate(args))
    named = [one.name for one in func._schema.arguments]
    given |= {named.index(name): value for name, value in kwargs.items()}
    changed = [
        given.get(position)
        for position, one in enumerate(func._schema.arguments)
        if one.alias_info is not None and one.alias_info.is_write
    ]
    return [one for one in tree_leaves(changed) if isinstance(one, torch.Tensor)]


def _is_known(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "_known") or not isinstance(tensor, FakeTensor)


def _real(value: Any) -> Any:
    """The value of a known fake tensor; anything else unchanged."""
    return vars(value)["_known"] if isinstance(value, FakeTensor) else value
