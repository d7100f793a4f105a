"""A device that is not there: the rehearsal of a GPU on a machine that has none.

Within ``phantom("cuda")`` whatever is put on ``cuda`` becomes a ``PhantomTensor``: it says that it is on
``cuda:0``, while its numbers are in ordinary memory. Each operator runs on the CPU, after the check that a
GPU makes: all its tensors are on one device. A tensor without axes may come from the CPU, and so may the
indices of a tensor on the device, as they may on a real one.

What makes the CPU stand still until the device has done all its work is counted as a wait (``.item()``,
``bool()``, ``.cpu()``, ``nonzero()``), what goes to the device as a copy. ``phantom("mps")`` has no float64.

Results are those of the CPU: this finds tensors on the wrong device and waits, not wrong numbers.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from lightning.fabric.accelerators.mps import MPSAccelerator
from torch.nn.utils import clip_grad
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")
WIDE = (torch.float64, torch.complex128)

WAITING = {
    f"aten::{name}"
    for name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2")
} | {"aten::unique_dim", "aten::repeat_interleave"}
"""Operators whose result, or whose shape, the CPU has to know."""

INDEXING = {f"aten::{name}" for name in ("index", "index_put", "index_put_", "_index_put_impl_")}


class Device:
    """The device that is rehearsed, and what has been asked of it.

    Attributes:
        kind: ``cuda`` or ``mps``.
        waits: number of times that the CPU had to wait for the device, by the reason.
        copies: number of copies from the CPU to the device.
        copied: the numbers in them.
        pageable: number of copies of tensors that are not in pinned memory: the CPU waits for these.
    """

    def __init__(self, kind: str) -> None:
        self.kind, self.device = kind, torch.device(kind, 0)
        self.waits: Counter[str] = Counter()
        self.copies = self.copied = self.pageable = 0

    def is_meant(self, device: Any) -> bool:
        return device is not None and torch.device(device).type == self.kind

    def count(self) -> tuple[int, int]:
        """The waits and the copies so far."""
        return self.waits.total(), self.copies

    def holding(self, numbers: torch.Tensor) -> "PhantomTensor":
        if self.kind == "mps" and numbers.dtype in WIDE:
            raise TypeError(f"Cannot convert a MPS Tensor to {numbers.dtype}: the MPS framework has none.")
        return numbers if isinstance(numbers, PhantomTensor) else PhantomTensor(numbers)


class MixedDevices(RuntimeError):
    """What a GPU would refuse."""


current = Device("cuda")


class PhantomTensor(torch.Tensor):
    """A tensor on the device that is rehearsed; ``numbers`` are in ordinary memory."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> "PhantomTensor":
        layout: dict[str, Any] = {"strides": numbers.stride(), "storage_offset": numbers.storage_offset()}
        kind: dict[str, Any] = {"dtype": numbers.dtype, "device": CPU, "requires_grad": False}
        tensor = torch.Tensor._make_wrapper_subclass(cls, numbers.size(), **layout, **kind)
        tensor.numbers = numbers
        return tensor

    device = property(lambda _: current.device)
    is_cuda = property(lambda _: current.kind == "cuda")
    is_mps = property(lambda _: current.kind == "mps")
    is_cpu = property(lambda _: False)

    def get_device(self) -> int:
        return 0

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"PhantomTensor({self.numbers!r})"

    def __format__(self, form: str) -> str:
        return format(self.item(), form)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be saved like a tensor on the CPU, where every checkpoint of this package is read."""
        current.waits["save"] += 1
        return self.numbers.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Any:
        with no_dispatch():
            copied = PhantomTensor(self.numbers.clone()).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            return torch.nn.Parameter(copied, self.requires_grad)
        return copied

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return run(func, args, kwargs or {})


def numbers_of(value: Any) -> Any:
    return value.numbers if isinstance(value, PhantomTensor) else value


def mapped(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Apply a function to the tensors in the arguments of an operator; pytree would take most of the time."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, list | tuple):
        return type(value)(mapped(function, part) for part in value)
    if isinstance(value, dict):
        return {name: mapped(function, part) for name, part in value.items()}
    return value


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operator on the CPU; its results are on the device if its tensors are, or if it says so."""
    name, wanted = func._schema.name, kwargs.get("device")
    tensors: list[torch.Tensor] = []
    mapped(tensors.append, (args, kwargs))
    on_device = [tensor for tensor in tensors if isinstance(tensor, PhantomTensor)]
    if name == "aten::copy_":
        _count_copy(args[1], isinstance(args[0], PhantomTensor))
        numbers_of(args[0]).copy_(numbers_of(args[1]))
        return args[0]
    # PyTorch itself asks for the device that a phantom has for it, the CPU; moves are in ``_to``.
    stays = bool(on_device) or current.is_meant(wanted)
    if on_device:
        _check_devices(name, args, tensors)
    real_args, real_kwargs = mapped(numbers_of, (args, kwargs))
    result = func(*real_args, **real_kwargs | ({} if wanted is None else {"device": CPU}))
    if on_device and torch.Tag.inplace_view in func.tags:
        with no_dispatch():
            func(*args, **kwargs)
    if not stays:
        return result
    known = {id(tensor.numbers): tensor for tensor in on_device}  # of an operator that works in place
    return mapped(lambda part: known[id(part)] if id(part) in known else current.holding(part), result)


def _count_copy(tensor: torch.Tensor, to_device: bool) -> None:
    is_there = isinstance(tensor, PhantomTensor)
    if is_there and not to_device:
        current.waits["copy to the CPU"] += 1
    if to_device and not is_there:
        current.copies += 1
        current.copied += tensor.numel()
        current.pageable += not getattr(tensor, "is_in_pinned_memory", False)


def _check_devices(name: str, args: Any, tensors: list[torch.Tensor]) -> None:
    """Refuse tensors of both devices, and count what the operator makes the CPU wait for."""
    masks = args[1] if name in INDEXING else []
    if name in WAITING or any(numbers_of(mask).dtype == torch.bool for mask in masks if mask is not None):
        current.waits[name] += 1
    elsewhere = [tensor for tensor in tensors if not isinstance(tensor, PhantomTensor) and tensor.ndim > 0]
    if elsewhere and name in INDEXING and isinstance(args[0], PhantomTensor):
        current.copies += 1
        current.copied += sum(tensor.numel() for tensor in elsewhere)
    elif elsewhere:
        where = [(tuple(tensor.shape), str(tensor.device)) for tensor in tensors]
        raise MixedDevices(f"{name}: tensors are on two devices: {where}")


class _Move(torch.autograd.Function):
    """A copy to the device or back, whose gradient goes the other way."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, to_device: bool) -> Any:
        ctx.to_device = to_device
        numbers = numbers_of(tensor).detach().clone()
        return current.holding(numbers) if to_device else numbers

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        return (numbers_of(gradient) if ctx.to_device else current.holding(gradient)), None


def moved(tensor: torch.Tensor, to_device: bool) -> torch.Tensor:
    if to_device == isinstance(tensor, PhantomTensor):
        return tensor
    _count_copy(tensor, to_device)
    if torch.is_grad_enabled() and tensor.requires_grad:
        return _Move.apply(tensor, to_device)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        numbers = numbers_of(tensor).detach().clone()
    return current.holding(numbers) if to_device else numbers


class _Functions(TorchFunctionMode):
    """The functions that cross the border between the devices, or look at the memory of a tensor."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first: Any = args[0] if args else None
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and current.is_meant(kwargs.get("device")):
            return moved(func(*args, **kwargs | {"device": "cpu"}), True)
        if func in (torch.Tensor.cpu, torch.Tensor.cuda):
            return moved(first, func is torch.Tensor.cuda)
        if func is torch.Tensor.to:
            return _to(*args, **kwargs)
        if func is torch.Tensor.pin_memory:
            pinned = first.clone()
            pinned.is_in_pinned_memory = True
            return pinned
        if isinstance(first, PhantomTensor):
            if func in (torch.Tensor.numpy, torch.Tensor.__array__):
                raise TypeError(f"can't convert {current.device} device type tensor to numpy.")
            if func is torch.Tensor.tolist:
                current.waits["tolist"] += 1
                return first.numbers.tolist()
            if func is torch.Tensor.new_tensor:
                kind = {"dtype": kwargs.pop("dtype", first.dtype)} | kwargs
                return moved(torch.tensor(*args[1:], **kind), True)
        return func(*args, **kwargs)


def _to(tensor: torch.Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> torch.Tensor:
    """``Tensor.to``, which is given a device, a type, both, or another tensor that has them."""
    device, dtype = None, tensor.dtype
    for value in (*args, kwargs.get("device"), kwargs.get("dtype")):
        if isinstance(value, torch.Tensor):
            device, dtype = value.device, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, str | torch.device):
            device = torch.device(value)
    if dtype != tensor.dtype:
        tensor, copy = torch.ops.aten._to_copy(tensor, dtype=dtype), False
    if device is None or current.is_meant(device) == isinstance(tensor, PhantomTensor):
        return tensor.clone() if copy else tensor
    return moved(tensor, current.is_meant(device))


class _Operators(TorchDispatchMode):
    """Operators without tensors, such as ``torch.zeros``, which may ask for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


@contextlib.contextmanager
def phantom(kind: str = "cuda") -> Iterator[Device]:
    """Within it there is a device of this kind, which Lightning finds as well."""
    global current
    current = Device(kind)
    real_autocast = torch.autocast

    def autocast(_: str, *args: Any, **kwargs: Any) -> Any:
        return real_autocast("cpu", *args, **kwargs)  # there the operators run

    real_apply = torch.nn.Module._apply

    def apply(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)  # a parameter changes its class
        try:
            return real_apply(module, *args, **kwargs)  # type: ignore[no-untyped-call]
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)

    real_groups: Any = vars(clip_grad)["_group_tensors_by_device_and_dtype"]

    def groups(*args: Any) -> Any:
        return {(group[0][0][0].device, key[1]): group for key, group in real_groups(*args).items()}

    def nothing(*_: Any) -> None:
        return None

    is_cuda = kind == "cuda"
    of_cuda: dict[str, Any] = {"is_available": lambda: is_cuda, "device_count": lambda: int(is_cuda)}
    of_cuda |= {"current_device": lambda: 0, "get_device_capability": lambda *_: (9, 0)}
    of_cuda |= {"get_device_name": lambda *_: "a phantom"}
    of_cuda |= dict.fromkeys(("synchronize", "_lazy_init", "set_device", "empty_cache"), nothing)
    patches = [mock.patch.object(torch.cuda, name, value) for name, value in of_cuda.items()]
    patches += [
        mock.patch.object(torch, "autocast", autocast),
        mock.patch.object(torch.nn.Module, "_apply", apply),
        mock.patch.object(clip_grad, "_group_tensors_by_device_and_dtype", groups),
        mock.patch.object(torch.backends.cudnn, "is_acceptable", return_value=False),
        mock.patch.object(MPSAccelerator, "is_available", staticmethod(lambda: not is_cuda)),
        # Tensors of the inference mode cannot be wrapped.
        mock.patch.object(torch.inference_mode, "__enter__", lambda self: _no_grad(self).__enter__()),
        mock.patch.object(torch.inference_mode, "__exit__", lambda self, *_: self._no_grad.__exit__(*_)),
    ]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        stack.enter_context(_Operators())  # type: ignore[no-untyped-call]
        stack.enter_context(_Functions())
        yield current


def _no_grad(mode: Any) -> Any:
    mode._no_grad = torch.no_grad()
    return mode._no_grad
