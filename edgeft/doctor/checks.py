"""What `edgeft doctor` says: one check a line, and for everything that will not work, or not well, what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgeft.artifacts import GgufFile
from edgeft.doctor.forecast import Forecast, forecast
from edgeft.doctor.machine import DEVICE_LIBRARIES, TRAIN_LIBRARIES, LlamaCpp, Machine, product_rate
from edgeft.errors import EdgeftError
from edgeft.files import human_size, read_object
from edgeft.graph import Graph, require_method_possible, require_sources, survival_warnings_of

State = Literal["ok", "warn", "fail"]
_PYTHON = (3, 11)
_FEATURES = {"avx2": "AVX2", "avx512f": "AVX512", "fma": "FMA"}
"""Of a processor that llama.cpp is much slower without: Linux's name, and that of llama.cpp's build."""
_TRAIN_REMEDY = "pip install 'edgeft[train]'"
_COMPILE = (
    "compile it here: pip install --no-cache-dir --force-reinstall --no-deps --no-binary llama-cpp-python "
    "llama-cpp-python (README.md: gcc and AMX)"
)
"""What pip has kept would be the same again."""
_SMALLER = "lower dataset.max_tokens, take a smaller model, or another machine"
_LESS_RAM = "set train.gradient_checkpointing = true, fewer tokens a batch, or take a smaller model or another machine"


@dataclass(frozen=True)
class Check:
    """One line; `remedy` says what to do unless it is ok."""

    name: str
    state: State
    found: str
    remedy: str = ""


def check_machine(machine: Machine, llama: LlamaCpp | None, *, training: bool) -> list[Check]:
    """Checks the machine by itself, `llama` its llama.cpp; what only `training` needs is a warning without it."""
    checks = [_python(machine), _libraries("libraries", machine, DEVICE_LIBRARIES, "fail", "pip install edgeft")]
    state: State = "fail" if training else "warn"
    checks.append(_libraries("training libraries", machine, TRAIN_LIBRARIES, state, _TRAIN_REMEDY))
    return [*checks, _gpu(machine), _llama(machine, llama), _cores(machine)]


def check_configuration(
    graph: Graph, machine: Machine, rate: Callable[..., float] = product_rate
) -> tuple[list[Check], Forecast | None]:
    """Checks what a configuration asks for on this machine; the forecast is None where there can be none."""
    checks = list(_sources(graph))
    if graph.config.train.device == "cuda" and machine.gpu is None:
        remedy = 'set it to "auto" or "cpu", or install a CUDA build of torch and check nvidia-smi'
        checks.append(Check("train.device", "fail", "a CUDA GPU is asked for and torch sees none", remedy))
    config_json = _config_json(graph, machine, checks)
    if not config_json:
        return checks, None
    checks.append(_convertible(graph, config_json, machine))
    if machine.can_train and _is_there(graph) and all(check.state != "fail" for check in checks):
        checks += _method(graph)
        if all(check.state != "fail" for check in checks):
            checks += survival_checks(graph)
    try:
        expected = forecast(graph, config_json, machine, rate)
    except EdgeftError as error:
        found = f"no estimate: {error.problems[0].what} ({error.problems[0].where})"
        checks.append(Check("memory", "warn", found, "training steps down by itself when memory runs out"))
        return checks, None
    return [*checks, *_resources(graph, expected, machine)], expected


def _python(machine: Machine) -> Check:
    found = ".".join(map(str, machine.python))
    needed = ".".join(map(str, _PYTHON))
    if machine.python >= _PYTHON:
        return Check("Python", "ok", found)
    return Check("Python", "fail", f"{found}, and {needed} is needed", f"install Python {needed} or newer")


def _libraries(name: str, machine: Machine, needed: Iterable[str], state: State, remedy: str) -> Check:
    missing = [library for library in needed if not machine.versions.get(library)]
    if missing:
        return Check(name, state, f"missing: {', '.join(missing)}", remedy)
    return Check(name, "ok", ", ".join(f"{library} {machine.versions[library]}" for library in needed))


def _gpu(machine: Machine) -> Check:
    gpu = machine.gpu
    if gpu is None:
        remedy = "for more speed: an NVIDIA GPU and a CUDA build of torch (https://pytorch.org/get-started)"
        return Check("GPU", "warn", "none that torch sees: training runs on the CPU", remedy)
    found = f"{gpu.name}, {human_size(gpu.free_bytes)} of {human_size(gpu.card_bytes)} free"
    if not gpu.bfloat16:
        return Check("GPU", "warn", f"{found}, no bfloat16", "it emulates bfloat16, slowly: take Ampere or newer")
    if gpu.free_bytes < 0.8 * gpu.card_bytes:
        return Check("GPU", "warn", found, "another program holds the rest: nvidia-smi names it")
    return Check("GPU", "ok", f"{found}, bfloat16")


def _llama(machine: Machine, llama: LlamaCpp | None) -> Check:
    if llama is None:
        return Check("llama.cpp", "fail", "not installed", "pip install llama-cpp-python")
    if llama.failure:
        return Check("llama.cpp", "fail", f"does not run here: {llama.failure}", _COMPILE)
    lacking = [theirs for ours, theirs in _FEATURES.items() if ours in machine.cpu_features]
    lacking = [name for name in lacking if f"{name} = 1" not in llama.build]
    if lacking:
        found = f"built without {', '.join(lacking)}, which this processor has: slow"
        return Check("llama.cpp", "warn", found, _COMPILE)
    return Check("llama.cpp", "ok", llama.build.replace(" = 1", "").replace(" | ", " "))


def _cores(machine: Machine) -> Check:
    ram = "unknown" if machine.ram_bytes is None else human_size(machine.ram_bytes)
    return Check("machine", "ok", f"{machine.cores} cores, {ram} of RAM")


def _sources(graph: Graph) -> Iterator[Check]:
    try:
        require_sources(graph)
    except EdgeftError as error:
        for problem in error.problems:
            yield Check("sources", "fail", f"{problem.where}: {problem.what}", problem.remedy or "see the path")
    else:
        yield Check("sources", "ok", "the base model and the records are there")


def _config_json(graph: Graph, machine: Machine, checks: list[Check]) -> Mapping[str, Any]:
    """Returns the base's config.json, that of a hub id from the hub, or what a GGUF file's will be once imported.

    Nothing where it cannot be had.
    """
    if graph.base_folder is not None and graph.base_imported:
        return read_object(graph.base_folder / "config.json")
    if not machine.can_train:
        return {}
    if graph.base_gguf is not None:
        return _of_gguf(graph.base_gguf, checks)
    from edgeft import hf

    try:
        return hf.hub_config(graph.config.base)
    except EdgeftError as error:
        problem = error.problems[0]
        checks.append(Check("base model", "fail", f"{problem.where}: {problem.what}", problem.remedy))
        return {}


def _of_gguf(gguf: GgufFile, checks: list[Check]) -> Mapping[str, Any]:
    from edgeft.convert.from_gguf import read_model

    try:
        config_json = read_model(gguf.path).config_json
    except EdgeftError as error:
        if not any(check.state == "fail" for check in checks):  # a file that is not there has been named
            checks += [Check("import", "fail", f"{one.where}: {one.what}", one.remedy) for one in error.problems]
        return {}
    checks.append(Check("import", "ok", f"{gguf.path.name} becomes a {config_json['architectures'][0]} within the run"))
    return config_json


def _is_there(graph: Graph) -> bool:
    """Tells whether the base lies in a folder on this machine."""
    return graph.base_folder is not None and graph.base_imported


def _convertible(graph: Graph, config_json: Mapping[str, Any], machine: Machine) -> Check:
    architectures = ", ".join(map(str, config_json.get("architectures") or ["none named"]))
    if graph.config.converter is not None:
        return Check("conversion", "ok", f"{architectures}: by llama.cpp's own converter ({graph.config.converter})")
    if not machine.can_train:
        return Check("conversion", "warn", f"{architectures}: not looked at without torch", _TRAIN_REMEDY)
    from edgeft.convert.families import plan_of

    try:
        plan_of(config_json, f"{graph.config.model.base}: config.json")
    except EdgeftError as error:
        found = "; ".join(f"{problem.where}: {problem.what}" for problem in error.problems)
        remedy = error.problems[0].remedy or "take another base model"
        return Check("conversion", "fail", found, remedy)
    return Check("conversion", "ok", f"{architectures} becomes GGUF natively")


def _method(graph: Graph) -> Iterator[Check]:
    """Yields what keeps this base from being trained as the configuration says."""
    try:
        require_method_possible(graph)
    except EdgeftError as error:
        for problem in error.problems:
            yield Check(problem.where or "train", "fail", problem.what, problem.remedy)


def survival_checks(graph: Graph, *, trained: bool | None = None) -> list[Check]:
    """Checks whether the types that are asked for keep the training: that of this run, or one that is not made yet.

    `trained` says whether it is made; None: whether there is one in the run.
    """
    made = graph.run.manifest("adapter") is not None if trained is None else trained
    found = survival_warnings_of(graph, trained=made)
    if found:
        return [Check(f"training in {one.type_name}", "warn", one.what, one.remedy) for one in found]
    types = ", ".join(graph.quantized_types)
    what = "this training" if made else "a training of this base"
    return [Check("rounding", "ok", f"{types}: keeps {what}")] if types and graph.config.converter is None else []


def _resources(graph: Graph, expected: Forecast, machine: Machine) -> Iterator[Check]:
    cut, memory, duration = expected.lines()
    gpu = machine.gpu
    yield Check("training", "ok", cut)
    state: State = "ok" if expected.choice.fits else "fail"
    yield Check("training memory", state, memory, "" if expected.choice.fits else _SMALLER)
    yield Check("training time", "ok", duration)
    if gpu is not None and expected.usable is not None:
        most = max(expected.stages, key=lambda need: need.gpu)
        found = f"most in {most.stage}: {human_size(most.gpu)} of {human_size(gpu.card_bytes)}"
        fits = most.gpu <= gpu.card_bytes
        remedy = "run that stage with --set train.device=cpu, or elsewhere"
        yield Check("GPU memory", "ok" if fits else "fail", found, "" if fits else remedy)
    most = max(expected.stages, key=lambda need: need.ram)
    found = f"most in {most.stage}: {human_size(most.ram)}"
    if machine.ram_bytes is not None:
        fits = most.ram <= machine.ram_bytes
        found += f" of {human_size(machine.ram_bytes)}"
        remedy = _LESS_RAM if most.stage == "train" else "take a smaller model, or run that stage on another machine"
        yield Check("RAM", "ok" if fits else "fail", found, "" if fits else remedy)
    yield _disk(graph, expected)


def _disk(graph: Graph, expected: Forecast) -> Check:
    root = graph.run.root
    free = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
    needed = sum(need.disk for need in expected.stages)
    largest = max(expected.stages, key=lambda need: need.disk)
    found = f"at most {human_size(needed)} to write, {human_size(largest.disk)} of it in {largest.stage}; "
    found += f"{human_size(free)} free"
    if needed <= free:
        return Check("disk", "ok", found)
    return Check("disk", "fail", found, f"make room at {root}, or name another run.directory")
