"""A student of whole clips as files: its weights, and ONNX and float .tflite, both compared with torch."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgewake import calibration
from edgewake.config import WakewordConfig
from edgewake.conversion.chain import needing, onnx_graphs, quietly, versions, write_onnx
from edgewake.conversion.clip_forms import clip_form
from edgewake.conversion.recurrent_tflite import recurrent_graphs
from edgewake.data.reading import read_audio
from edgewake.errors import EdgewakeError
from edgewake.io import atomic_path, make_folder, write_bytes, write_json
from edgewake.models import create_model
from edgewake.models.clip import Recurrent
from edgewake.models.featurizer import frame_count, make_featurizer
from edgewake.runtime.deployed import CLIP, CLIP_VERSION, clip_record
from edgewake.runtime.tflite_file import Graph, in_order_of_use, write_tflite
from edgewake.teachers.base import parameters_of

Floats = npt.NDArray[np.float32]

ONNX, TFLITE, WEIGHTS, DESCRIPTION = "model.onnx", "model_float.tflite", "weights.safetensors", "model.json"
OPSET = 17
# Largest difference of a logit that float arithmetic in another order explains, relative to max(1, |logit|).
TOLERANCE = 1e-3
CHECKED_CLIPS = 8


def export_clip_student(student: nn.Module, config: WakewordConfig, folder: Path) -> dict[str, Any]:
    """Write model.onnx, model_float.tflite, weights.safetensors, model.json and config.yaml into `folder`.

    model.onnx takes "features" (batch, 1, mel, frames) for any batch; model_float.tflite takes one clip,
    whose shape and order model.json holds. Both give "logits" (batch, classes) and are run on random
    features and on those of the calibration audio, and have to agree with torch. `student` is what `create_model`
    made from `config.model`; it is not changed. Returns what model.json holds.

    Raises:
        MissingDependencyError: the extra `convert` is not installed.
        EdgewakeError: an exported file differs from torch by more than 1e-3, relative to max(1, |logit|).
    """
    student = copy.deepcopy(student).cpu().float().eval()
    architecture = config.model.architecture
    frames, mel = frame_count(config), config.data.n_mels
    folder = Path(folder)
    make_folder(folder)
    onnx, tflite = folder / ONNX, folder / TFLITE
    write_onnx(student, (1, 1, mel, frames), onnx, OPSET, "logits", batches=True)
    graphs, order = student_graphs(student, frames)
    write_bytes(tflite, write_tflite(graphs, signature=True))
    clips = check_clips(config)
    differences = {
        "onnx": _compare(student, clips, run_onnx(onnx, clips)),
        "tflite": _compare(student, clips, run_tflite(tflite, clips, order)),
    }
    # tiny_conv's logit is that of a mean of probabilities: near 1 their last bit alone moves it by 0.06.
    measure = "probability" if architecture == "tiny_conv" else "relative"
    for form, found in differences.items():
        if not found[measure] <= TOLERANCE:
            raise EdgewakeError(
                f"the {form} of {architecture} differs from torch by {found['absolute']:.2e} in "
                f"a logit; {TOLERANCE} relative to it is allowed: use the pinned versions of constraints.txt"
            )
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file({name: value.contiguous() for name, value in student.state_dict().items()}, str(temporary))
    made: Any = student
    kind = "board frontend" if architecture == "tiny_conv" else "torchaudio log-mel"
    shape = list(graphs[0].tensors[graphs[0].inputs[0]].shape)
    record: dict[str, Any] = {
        "version": CLIP_VERSION,
        "kind": CLIP,
        "architecture": architecture,
        "options": made.architecture(),
        "phrase": config.data.phrase,
        "parameters": parameters_of(student),
        "input": {"frames": frames, "mel": mel, "hop_length": config.data.hop_length}
        | {"seconds": config.data.audio_duration, "features": kind},
        "onnx": {"file": ONNX, "bytes": onnx.stat().st_size, "input_shape": ["batch", 1, mel, frames]},
        "tflite": {"file": TFLITE, "bytes": tflite.stat().st_size, "input_shape": shape, "order": order},
        "differences": differences,
        **versions("torch", "onnx"),
    }
    config.save(folder / "config.yaml")
    write_json(folder / DESCRIPTION, record)
    return record


def student_graphs(student: nn.Module, frames: int) -> tuple[list[Graph], str]:
    """The float .tflite of a student over one clip, and the order of its input: "frames, mel" or "mel, frames".

    lstm and gru are written directly, others go through onnx2tf, which names nothing and keeps one operator for one.
    """
    if isinstance(student, Recurrent):
        return recurrent_graphs(student, frames), "frames, mel"
    with needing("exporting a student"):
        import onnx
        import onnxsim
    form, shape, order = clip_form(student, frames)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ONNX
        # Opset 14 is the first with HardSwish, which onnx2tf keeps as one operator.
        write_onnx(form, shape, path, 14, "logits")
        simple, _ = onnxsim.simplify(onnx.load(str(path)))
        onnx.save(simple, str(path))
        return [in_order_of_use(graph) for graph in onnx_graphs(path)], order


def load_clip_student(folder: Path) -> nn.Module:
    """The student that `export_clip_student` wrote, in eval mode on the CPU."""
    folder = Path(folder)
    record = clip_record(folder)
    if record is None:
        raise EdgewakeError(f"{folder / DESCRIPTION} is not that of a student of whole clips: choose another")
    try:
        student = create_model(record["architecture"], **record["options"])
        student.load_state_dict(load_file(folder / WEIGHTS))
    except (KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EdgewakeError(f"the student in {folder} cannot be read: {reason}; export it again") from error
    return student.eval()


def check_clips(config: WakewordConfig) -> Tensor:
    """Features that both files are tried on: random ones, and of calibration audio; (clips, frames, mel)."""
    real = calibration_clips(config)
    spread = torch.linspace(0, len(real) - 1, min(len(real), CHECKED_CLIPS)).long()
    generator = torch.Generator().manual_seed(0)
    shape = (CHECKED_CLIPS, frame_count(config), config.data.n_mels)
    return torch.cat([torch.rand(shape, generator=generator) * 22, real[spread]])


def calibration_clips(config: WakewordConfig, folder: Path | None = None) -> Tensor:
    """Features of the calibration audio, cut into clips that overlap by half: (clips, frames, mel)."""
    audio = read_audio((folder or calibration.default_folder()) / "audio.flac")
    samples = round(config.data.audio_duration * config.data.sample_rate)
    if len(audio) < samples:
        audio = np.pad(audio, (0, samples - len(audio)))
    starts = range(0, len(audio) - samples + 1, max(1, samples // 2))
    cut = np.stack([audio[start : start + samples] for start in starts]).astype(np.float32) / 32768
    found: Tensor = make_featurizer(config, "cpu")(torch.from_numpy(cut))
    return found


def run_onnx(path: Path, clips: Tensor) -> Floats:
    """Logits of clips (clips, frames, mel) by onnxruntime, (clips, classes)."""
    with needing("running an ONNX file"):
        import onnxruntime
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {"features": clips.transpose(1, 2).unsqueeze(1).contiguous().numpy()}
    return np.asarray(session.run(None, given)[0], np.float32)


def tflite_input(clip: Floats, order: str, shape: tuple[int, ...]) -> Floats:
    """One clip (frames, mel) as a .tflite takes it; frames that do not fill a step are dropped."""
    values = np.ascontiguousarray(clip.T if order == "mel, frames" else clip).reshape(-1)
    return values[: int(np.prod(shape))].reshape(shape)


def run_tflite(path: Path, clips: Tensor, order: str) -> Floats:
    """Logits of clips (clips, frames, mel) by LiteRT, (clips, classes); `order` is that of model.json."""
    with needing("running a .tflite"):
        from ai_edge_litert.interpreter import Interpreter
    results = []
    with quietly():
        interpreter = Interpreter(model_content=Path(path).read_bytes(), num_threads=1)
        interpreter.allocate_tensors()
        entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        for clip in clips.numpy():
            interpreter.set_tensor(entry["index"], tflite_input(clip, order, tuple(entry["shape"])))
            interpreter.invoke()
            results.append(np.array(interpreter.get_tensor(exit_["index"]), np.float32).reshape(-1))
    return np.stack(results)


@torch.no_grad()
def _compare(student: nn.Module, clips: Tensor, logits: Floats) -> dict[str, float]:
    """Largest difference from torch: in a logit, relative to max(1, |logit|), and in a probability."""
    expected, found = student(clips).double(), torch.from_numpy(logits).double()
    difference = (found - expected).abs()
    return {
        "absolute": float(difference.max()),
        "relative": float((difference / expected.abs().clamp(min=1)).max()),
        "probability": float((found.softmax(1) - expected.softmax(1)).abs().max()),
        "clips": len(clips),
    }
