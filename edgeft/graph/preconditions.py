"""What would otherwise fail late: sources, the base model, the device, and whether the model can be converted."""

from __future__ import annotations

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.errors import EdgeftError, Problem
from edgeft.graph.graph import Graph


def require_sources(graph: Graph) -> None:
    """Raises EdgeftError, with every problem, unless the base model and the files of records are there."""
    problems = []
    for key, name in graph.config.dataset.named_sources():
        path = graph.config.local_source(name)
        if path is not None and not path.exists():
            problems.append(Problem("no such file", f"dataset.{key}: {path}", "name a file or a folder of records"))
    text = graph.config.imatrix.text
    if text is not None and not graph.config.path(text).is_file():
        problems.append(Problem("no such file", f"imatrix.text: {graph.config.path(text)}", "name a text file"))
    if graph.base_folder is not None:
        try:
            if graph.base_gguf is not None:
                GgufFile.open(graph.base_gguf.path)
            else:
                Checkpoint.open(graph.base_folder)
        except EdgeftError as error:
            problems += error.problems
    if problems:
        raise EdgeftError(problems)


def require_method_possible(graph: Graph) -> None:
    """Raises EdgeftError unless device, packages and base can train as the configuration says."""
    from edgeft import hf
    from edgeft.train.methods import require_method

    require_method(graph.base, graph.config.train, graph.config.merge_base)
    hf.require_reporters(graph.config.train.report_to)


def require_importable(graph: Graph) -> None:
    """Raises EdgeftError unless the base's GGUF file can be imported, as far as its header tells."""
    from edgeft.convert.from_gguf import read_model

    if graph.base_gguf is not None:
        read_model(graph.base_gguf.path)


def require_trainable(graph: Graph) -> None:
    """Raises EdgeftError unless it can be trained, and the base can be converted."""
    from edgeft.convert import require_convertible, tensor_names
    from edgeft.quantize.patterns import require_matches

    require_method_possible(graph)
    require_convertible(graph.base, graph.convert_config)
    if graph.config.converter is None:
        # An adapter may make one matrix for both ends two.
        require_matches(graph.config.quantize.tensor_types, [*tensor_names(graph.base).values(), "output.weight"])
