"""The page of a run: the parity of its files, with what its other artifacts know, for people to read and pass on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeft.files import read_object, write_text
from edgeft.graph import Graph
from edgeft.loss_curve import read_metrics
from edgeft.pareto import TradeOff
from edgeft.parity.page import Training, origin_here, page
from edgeft.parity.report_file import read_report
from edgeft.parity.scored import Checked, read_records

REPORT = "report.html"


def write_run_report(graph: Graph, trade_offs: Sequence[TradeOff] = ()) -> Path | None:
    """Writes report.html into the run and returns its path; None where no file has been checked.

    `trade_offs` are the quantized files, for the picture of size against divergence.
    """
    by_type = dict(_checked(graph))
    if not by_type:
        return None
    path = graph.run.root / REPORT
    write_text(path, page(list(by_type.values()), origin_here(dict(_hashes(graph))), _training(graph, trade_offs)))
    return path


def _checked(graph: Graph) -> Iterator[tuple[str, Checked]]:
    for name in graph.file_types:
        folder = graph.parity_report(name).path
        if graph.is_checked(name):
            positions = folder / "positions.json"
            records = read_records(positions) if positions.exists() else []
            yield name, Checked(read_report(graph.parity_report(name)), records)


def _hashes(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yields the SHA-256 of what was checked and of what it was made from, as the manifests have them."""
    files = [graph.gguf_node(name) for name in graph.file_types if graph.is_checked(name)]
    for name in ("reference", "adapter", *files):
        for entry in (graph.run.manifest(name) or {"files": []})["files"]:
            if Path(entry["path"]).suffix in (".npz", ".safetensors", ".gguf"):
                yield entry["path"], entry["sha256"]


def _training(graph: Graph, trade_offs: Sequence[TradeOff]) -> Training:
    scores = {name: read_object(graph.eval_report(name).path / "eval.json") for name in graph.file_types}
    survival = {name: read_object(graph.run.path(f"quantized/{name}") / "survival.json") for name in graph.file_types}
    return Training(
        graph.run.root.resolve().name,
        read_metrics(graph.trained / "logs" / "metrics.jsonl"),
        read_object(graph.run.path("merge_base") / "merge.json"),
        {name: found["overall"] for name, found in survival.items() if found.get("overall")},
        {
            graph.gguf(name).path.name: found["tokens_per_second"]
            for name, found in scores.items()
            if found.get("tokens_per_second") is not None
        },
        trade_offs,
    )
