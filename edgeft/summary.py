"""The closing table of a run: what each model and file scores, weighs and costs, from the reports that exist."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft.artifacts import ParityReport
from edgeft.files import human_size, list_files, read_object, write_json, write_text
from edgeft.graph import Graph
from edgeft.loss_curve import curves, read_metrics, sparkline
from edgeft.pareto import TradeOff, pareto_svg
from edgeft.parity.figures import MEAN_KLD, divergence, nats, percent, ratio
from edgeft.parity.report_file import read_report
from edgeft.quant_types import UNQUANTIZED
from edgeft.rundir import read_warnings

# Below this less than a hundredth of what changed in the file is the training's; the rest is rounding.
_LEAST_COSINE = 0.1
# Test records are others than the evaluation's: a share this large is not lost to chance.
_DOUBTED = 0.5
_REMEDY = "much of it is rounded away: take a larger type, or keep the adapter apart"


def summarize(graph: Graph) -> list[dict[str, Any]]:
    """Returns a row for the base, the tuned model and each file.

    A figure that has not been measured is None. `mean_kld` and `top1` of a file are against the merged model in
    float32, and so are those of the tuned model: how far the 4-bit model that was trained is from the merged one.
    """
    rows = [
        _row("base", "base", _scores(graph, "base"), _weights_bytes(graph)),
        _row("tuned", "tuned", _scores(graph, "tuned"), _adapter_bytes(graph)) | _merge_figures(graph),
    ]
    for name in graph.file_types:
        path = graph.gguf(name).path
        size_bytes = path.stat().st_size if path.exists() else None
        row = _row(name, "gguf", _scores(graph, name), size_bytes)
        if graph.is_checked(name):
            content = read_report(graph.parity_report(name))
            figures = content["logits"]
            row["verdict"] = content["verdict"]
            if figures:  # a file that cannot be run has none
                row |= {"mean_kld": figures["mean_kld"], "top1": figures["top1"]}
        if bases := _merge_bases(graph, name):
            row["merge_bases"] = bases
        rows.append(row)
    return rows


def doubts(graph: Graph) -> list[str]:
    """Returns why scores of the table may not say what a model can do, a sentence for each model or file.

    The loss says how likely the right answers are: of `n` tokens with a loss of `l` nats each, exp(-n l) of them would
    be said. Where that is a good share and none is right, it is the comparison that is to be doubted.
    """
    found = []
    loss = read_object(graph.run.path("adapter") / "training.json").get("best_evaluation_loss")
    for name in ("base", "tuned", *graph.file_types):
        scores = _scores(graph, name)
        if not scores:
            continue
        if empty := scores.get("expected_empty", 0):
            what = f"{empty} of {scores['records']} test records expect an empty answer"
            found.append(f"{name}: {what}, as the chat template shows nothing of them: look at edgeft data preview")
        if name == "base" or loss is None or scores["exact_match"] or scores["field_f1"]:
            continue
        likely = math.exp(-loss * scores.get("tokens_per_answer", math.inf))
        if likely >= _DOUBTED:
            figures = f"at the evaluation's loss of {loss:.4f} about {likely:.0%} should be"
            where = f"eval/{name}/answers.jsonl"
            found.append(f"{name}: no answer is right, and {figures}: compare what was expected and said in {where}")
    return found


def write_summary(graph: Graph) -> Path:
    """Writes the rows to summary.json in the run, and returns its path; pareto.svg shows those of several files."""
    path, rows = graph.run.root / "summary.json", summarize(graph)
    write_json(path, rows)
    files = trade_offs(graph, rows)
    if len(files) > 1:
        write_text(graph.run.root / "pareto.svg", pareto_svg(files, f"files of {graph.run.root.name}"))
    return path


def trade_offs(graph: Graph, rows: Sequence[Mapping[str, Any]]) -> list[TradeOff]:
    """Returns size and divergence of each quantized file in the rows of `summarize`, as parity has measured it."""
    return [
        TradeOff(row["name"], row["size_bytes"], row["mean_kld"], "fitted" if row["name"] in graph.budgets else "fixed")
        for row in rows
        if row["kind"] == "gguf" and row["name"] not in UNQUANTIZED and math.isfinite(row["mean_kld"] or math.nan)
    ]


def _row(name: str, kind: str, scores: dict[str, Any], size_bytes: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "exact_match": scores.get("exact_match"),
        "field_f1": scores.get("field_f1"),
        "size_bytes": size_bytes,
        "tokens_per_second": scores.get("tokens_per_second"),
        "mean_kld": None,
        "top1": None,
        "verdict": None,
    }


def _scores(graph: Graph, engine: str) -> dict[str, Any]:
    return graph.eval_report(engine).content() if graph.run.tells(f"eval/{engine}", "eval.json") else {}


def _merge_figures(graph: Graph) -> dict[str, Any]:
    if not graph.run.tells("reference", "merge.json"):
        return {}
    figures = _read(graph.run.path("reference") / "merge.json")
    return {"mean_kld": figures["mean_kld"], "top1": figures["top1"]}


def _merge_bases(graph: Graph, type_name: str) -> dict[str, Any]:
    """Returns how far a file of each merge base is from the model as trained, where that was measured."""
    merged = read_object(graph.run.path("merge_base") / "merge.json").get("merged", {})
    if graph.config.merge_base != "auto":
        return {}
    of_type = {name: figures.get("quantized", {}).get(type_name) for name, figures in merged.items()}
    return {name: figures for name, figures in of_type.items() if figures}


def _weights_bytes(graph: Graph) -> int | None:
    shards = graph.base_folder.glob("*.safetensors") if graph.base_folder is not None else []
    return sum(path.stat().st_size for path in shards) or None


def _adapter_bytes(graph: Graph) -> int | None:
    return sum(path.stat().st_size for path in graph.trained.glob("*.safetensors")) or None


def describe(graph: Graph, name: str) -> str:
    """Returns what there is to know of one finished artifact, in half a line."""
    folder = graph.run.path(name)
    kind = name.partition("/")[0]
    if kind == "merge_base":
        return describe_merge_base(_read(folder / "merge.json"))
    if kind == "base":
        figures = _read(folder / "import.json")
        return f"{figures['architecture']}, {figures['parameters']:,} weights, {human_size(figures['size_bytes'])}"
    if kind == "tokens":
        return describe_tokens(_read(folder / "tokens.json"))
    if kind == "adapter":
        figures = _read(folder / "training.json")
        losses = f"loss {figures['first_loss']:.3f} -> {figures['last_loss']:.3f}"
        bars = sparkline([loss for _, loss in curves(read_metrics(folder / "logs" / "metrics.jsonl"))["training"]])
        best = f"evaluation {figures['best_evaluation_loss']:.4f}"
        full = f"batches {figures['batch_efficiency']:.1%} full"
        short = "".join(f"; out of memory: {change}" for change in figures.get("memory", {}).get("steps_down", ()))
        return f"{figures['steps']} steps on {figures['device']}, {losses} {bars}, {best}; {full}{short}"
    if kind == "parity":
        report = read_report(ParityReport(folder))
        figures = report["logits"]
        logits = divergence(figures) if figures else ""
        cause = f"{report['rung']}: {report['cause']}" if report["cause"] else ""
        warned = [f"warning: {one['rung']}: {one['cause']}" for one in report["warnings"]]
        return f"{report['verdict']}: {'; '.join(text for text in (logits, cause, *warned) if text)}"
    if kind == "eval":
        scores = _read(folder / "eval.json")
        exact, ended = percent(scores["exact_match"]), percent(scores["ended"])
        return f"exact match {exact} of {scores['records']}, {ended} end by themselves"
    if kind == "sensitivity":
        return f"{len(_read(folder / 'costs.json')['tensors'])} tensors"
    fitted = read_object(folder / "fit.json")
    loss = f"; {MEAN_KLD} {nats(fitted['measured_kld'])} on training records" if fitted else ""
    survival = read_object(folder / "survival.json")
    left = f"; {describe_survival(survival)}" if survival.get("overall") else ""
    size_bytes = sum(
        path.stat().st_size for path in list_files(folder) if path.suffix in (".gguf", ".safetensors", ".npz")
    )
    noted = "".join(f"; warning: {one.what.partition(': ')[0]}" for one in read_warnings(folder))
    return human_size(size_bytes) + loss + left + noted


def describe_merge_base(content: Mapping[str, Any]) -> str:
    """Returns which base was chosen, and the figures of both, in float32 and of each file."""
    figures = []
    for name, merged in content["merged"].items():
        files = [f"{kind} {nats(file['mean_kld'])}" for kind, file in merged.get("quantized", {}).items()]
        klds = ", ".join([f"{MEAN_KLD} {nats(merged['mean_kld'])}", *files])
        figures.append(f"{name} {klds}, loss {merged['loss']:.4f}")
    return f"{content['base']}: {'; '.join(figures)}; as trained, loss {content['loss_as_trained']:.4f}"


def describe_tokens(counts: Mapping[str, Any]) -> str:
    """Returns the account of tokens.json in one line; every record that came in is in it."""
    dropped = [f"{count:,} dropped ({reason.replace('_', '-')})" for reason, count in _some(counts["records_dropped"])]
    held = [f"{counts[key]:,} {what}" for key, what in _HELD.items() if counts[key]]
    parts = [
        f"{counts['records_train']:,} train",
        f"{counts['records_evaluation']:,} evaluation" + (f" ({', '.join(held)})" if held else ""),
        *(dropped or ["0 dropped"]),
    ]
    others = [f"{counts['records_test']:,} test"]
    examples = [(side, counts[f"examples_{side}"]) for side in ("train", "evaluation")]
    if any(count != counts[f"records_{side}"] for side, count in examples):
        others.append(" + ".join(f"{count:,} {side}" for side, count in examples) + " examples")
    others += [f"{counts[key]:,} {what}" for key, what in _NOTED.items() if counts[key]]
    others += [f"{count:,} trained prompts are in {split} too" for split, count in _some(counts["trained_prompts_in"])]
    others += [f"{count:,} {code}" for code, count in counts["findings"].items()]
    others.append(f"{counts['tokens_trained']:,} of {counts['tokens_in']:,} tokens trained")
    return f"{counts['records_in']:,} records in = {' + '.join(parts)}; {'; '.join(others)}"


_HELD = {"evaluation_by_group": "for a near-duplicate", "evaluation_by_need": "for want of others"}
_NOTED = {
    "records_shortened": "shortened",
    "records_with_turns_apart": "with turns that are examples of their own",
    "texts_in_pieces": "texts in pieces",
    "records_repeated": "given more than once",
}


def _some(counts: dict[str, int]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in counts.items() if count]


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def describe_survival(content: Mapping[str, Any]) -> str:
    """Returns the figures over all tensors in half a line, with a warning and its remedy where little is left."""
    overall = content["overall"]
    if overall is None:
        return ""
    codes = overall["unchanged_codes"]
    share = "" if codes is None else f", {percent(codes)} of codes unchanged"
    text = f"of the training: cosine {ratio(overall['cosine'])}, norm ratio {ratio(overall['norm_ratio'])}{share}"
    return f"{text}; {_REMEDY}" if overall["cosine"] < _LEAST_COSINE else text
