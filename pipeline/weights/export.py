"""`alexnet weights export`: a run's network as ONNX or safetensors, with what a stranger to the run must know."""

import json
from pathlib import Path
from typing import Literal

from safetensors.torch import save

from pipeline.artifacts import EvaluationRecord, RunDirectory, RunRecord, ShardSet, read_json, to_json, write_bytes
from pipeline.checkpoint import Checkpoint, Identity, check_belongs, find_chosen, read_checkpoint
from pipeline.errors import InputError, check
from pipeline.model.alexnet import build_alexnet
from pipeline.options import ExportConfig


def export_weights(options: ExportConfig) -> None:
    """Write a checkpoint's weights to `options.out`, in the form that its suffix names.

    Raises:
        InputError: no run or checkpoint, the file exists, or an ONNX file is wanted and the shard set is not there.
        RunError: onnxruntime gives other logits than torch.
    """
    check(not options.out.exists(), f"{options.out} already exists: choose another file")
    run = RunDirectory(options.run)
    record = run.read_record()
    checkpoint = choose_checkpoint(run, record, options.checkpoint)
    about = describe_origin(run, record, checkpoint)
    said = f"weights export: step {checkpoint.step} of {run.path} to {options.out}"
    if options.out.suffix.lower() == ".onnx":
        difference = _write_onnx(options.out, checkpoint, run.open_data(record, options.data), about)
        said += f", whose logits differ from torch's by {difference:.1e} of the largest"
    else:
        state = {name: tensor.contiguous() for name, tensor in checkpoint.model.items()}
        write_bytes(options.out, save(state, metadata=about))
    print(said, flush=True)


def _write_onnx(path: Path, checkpoint: Checkpoint, shard_set: ShardSet, about: dict[str, str]) -> float:
    from pipeline.weights.onnx_file import write_onnx
    from pipeline.weights.pixels import build_from_pixels, describe_preprocessing

    augment = checkpoint.config.augment
    network = build_alexnet(checkpoint.config.model, input_pixels=augment.input_pixels, seed=None)
    network.load_state_dict(checkpoint.model)
    about = about | {
        "classes": json.dumps([{"id": found.id, "name": found.name} for found in shard_set.info.classes]),
        "preprocessing": json.dumps(describe_preprocessing(augment, shard_set)),
    }
    return write_onnx(path, build_from_pixels(network, augment, shard_set), augment, shard_set, about)


def choose_checkpoint(run: RunDirectory, record: RunRecord, choice: Literal["last", "best"] | Path) -> Checkpoint:
    """Read the newest checkpoint (`last`), the one of the lowest validation error (`best`), or the one at a path.

    Raises:
        InputError: there is none, it is damaged, or it is another run's.
    """
    if not isinstance(choice, Path):
        path, warnings = find_chosen(run.checkpoints, choice)
        for warning in warnings:
            print(f"weights export: warning: {warning}", flush=True)
        if path is None:
            raise InputError(f"{run.checkpoints} holds no checkpoint yet: let `alexnet train` finish an epoch first")
        return read_checkpoint(path)
    found = read_checkpoint(choice)
    wanted = Identity(experiment=record.experiment, config=record.config, data_digest=record.data_digest)
    check_belongs(choice, found, wanted)
    return found


def describe_origin(run: RunDirectory, record: RunRecord, checkpoint: Checkpoint) -> dict[str, str]:
    """What is known of weights: experiment, configuration, data, how far trained, by which code, errors measured."""
    files = sorted(run.predictions.glob(f"*-step-{checkpoint.step}.json"))
    evaluations = [read_json(file, EvaluationRecord) for file in files]
    return {
        "experiment": record.experiment,
        "status": record.status,
        "config": to_json(checkpoint.config).decode(),
        "data_digest": checkpoint.data_digest,
        "step": str(checkpoint.step),
        "epoch": str(checkpoint.epoch),
        "commits": json.dumps(list(dict.fromkeys(start.format_commit() for start in record.starts))),
        "evaluations": to_json(evaluations).decode(),
    }
