"""What a module computes, as plain data: calls of PyTorch's own operators, so that a .pt file needs no class.

`torch.export` traces the module; its calls are kept in the .pt file beside the weights and made a module again. Loading
looks up names in `torch.ops.aten` and a short list of arithmetic: no file can have anything else called or imported.
"""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from xedge.core.exceptions import ModelError

Program = dict[str, Any]

_ARITHMETIC = (
    *("add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "neg"),
    *("eq", "ne", "lt", "le", "gt", "ge", "getitem"),
)
_SYMBOLIC = ("sym_max", "sym_min", "sym_int", "sym_float", "sym_not", "sym_ite")
_FILES = ("from_file", "save")  # the operators of ATen that touch a file
_ENUMS = {torch.dtype: "dtype", torch.layout: "layout", torch.memory_format: "memory_format"}


def traced(module: nn.Module, example: Tensor, free_axis: int | None = None) -> Program:
    """Return the program of a module in eval mode for batches like `example`, shape (n, ...), of any size.

    Raises:
        ModelError: the module cannot be traced, or calls what is not PyTorch's own.
    """
    axes = {axis: torch.export.Dim.DYNAMIC for axis in (0, free_axis) if axis is not None}
    with torch.no_grad():
        exported = torch.export.export(module, (torch.cat([example] * 2),), dynamic_shapes=(axes,))
    for spec in exported.graph_signature.output_specs:
        if spec.kind is not torch.export.graph_signature.OutputKind.USER_OUTPUT:
            raise ModelError(f"it changes what it holds when it answers ({spec.kind.name.lower()} {spec.target})")
    tensors = {**exported.state_dict, **exported.constants}
    names = {spec.arg.name: spec.target for spec in exported.graph_signature.input_specs}
    number: dict[fx.Node, int] = {}
    calls: list[list[Any]] = []
    for node in exported.graph.nodes:
        if node.op == "call_function" and "_assert" in str(node.target):
            continue  # of the example's shapes and device
        number[node] = len(calls)
        if node.op == "placeholder":
            calls.append(["weight", names[node.name]] if names[node.name] else ["input"])
        elif node.op == "call_function":
            calls.append(["call", _name(node.target), _plain(node.args, number), _plain(node.kwargs, number)])
        elif node.op == "output":
            calls.append(["output", _plain(node.args[0][0], number)])
        else:
            raise ModelError(f"it holds a {node.op} ({node.target}), which is no call of PyTorch's operators")
    constants = {name: value for name, value in tensors.items() if name not in module.state_dict()}
    if strange := [name for name, value in constants.items() if not isinstance(value, Tensor)]:
        raise ModelError(f"it holds {strange[0]}, which is not a tensor")
    return {"calls": calls, "constants": constants}


def rebuilt(program: Program, weights: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """Return the module that computes what the program says, its weights on `device`.

    Raises:
        ModelError: the program calls something else than PyTorch's operators, or is damaged.
    """
    root, graph, nodes = nn.Module(), fx.Graph(), []
    tensors = {**weights, **program["constants"]}
    for number, (kind, *what) in enumerate(program["calls"]):
        if kind == "input":
            nodes.append(graph.placeholder("inputs"))
        elif kind == "weight":
            root.register_buffer(f"weight_{number}", tensors[what[0]])
            nodes.append(graph.get_attr(f"weight_{number}"))
        elif kind == "call":
            target, args, kwargs = what
            arguments = _again(args, nodes, device), _again(kwargs, nodes, device)
            nodes.append(graph.call_function(_target(target), tuple(arguments[0]), arguments[1]))
        elif kind == "output":
            nodes.append(graph.output(_again(what[0], nodes, device)))
        else:
            raise ModelError(f"its program holds {kind!r}, which is no step of a program")
    graph.eliminate_dead_code()
    return fx.GraphModule(root, graph).to(device)


def _name(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return str(target)
    name = getattr(target, "__name__", str(target))
    if getattr(operator, name, None) is target and name in _ARITHMETIC:
        return f"operator.{name}"
    if getattr(torch, name, None) is target and name in _SYMBOLIC:
        return f"torch.{name}"
    raise ModelError(f"it calls {target}, which is not one of PyTorch's own operators (ATen)")


def _target(name: str) -> Any:
    where, _, rest = str(name).partition(".")
    operation, _, overload = rest.partition(".")
    if where == "aten" and operation.isidentifier() and overload.isidentifier() and operation not in _FILES:
        overloaded = getattr(getattr(torch.ops.aten, operation, None), overload, None)
        if isinstance(overloaded, torch._ops.OpOverload) and overloaded._schema.returns:  # else it acts on the process
            return overloaded
    if where == "operator" and rest in _ARITHMETIC:
        return getattr(operator, rest)
    if where == "torch" and rest in _SYMBOLIC:
        return getattr(torch, rest)
    raise ModelError(f"its program calls {name!r}, which is none of PyTorch's operators that a file may call")


def _plain(value: Any, number: Mapping[fx.Node, int]) -> Any:
    if isinstance(value, fx.Node):
        return {"node": number[value]}
    if isinstance(value, list | tuple):
        return [_plain(part, number) for part in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(part, number) for key, part in value.items()}
    if isinstance(value, torch.device):
        return {"device": "any"}
    if type(value) in _ENUMS:
        return {_ENUMS[type(value)]: str(value).removeprefix("torch.")}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ModelError(f"it calls an operator with {value!r}, which cannot be written down")


def _again(value: Any, nodes: list[fx.Node], device: torch.device) -> Any:
    if isinstance(value, list | tuple):
        return [_again(part, nodes, device) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() <= {"node", *_ENUMS.values(), "device"} and len(value) == 1:
        [(kind, what)] = value.items()
        if kind == "node":
            return nodes[what]
        constant = device if kind == "device" else getattr(torch, str(what), None)
        if kind == "device" or _ENUMS.get(type(constant)) == kind:
            return constant
    return {str(key): _again(part, nodes, device) for key, part in value.items()}
