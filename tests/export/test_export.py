"""A graph is its predictor, whatever stands in it; a folder is proven or not there."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_automl.adaptation.baselines import Constant
from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.method import Job
from fewshot_automl.adaptation.saved import Ensemble, Member
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.errors import DataError, ExportError, UserError
from fewshot_automl.export import write
from fewshot_automl.export.alone.predict import RUNTIMES
from fewshot_automl.export.formats import FORMATS
from fewshot_automl.export.graph import Graph
from fewshot_automl.export.reading import open_export
from fewshot_automl.export.script import script_of
from fewshot_automl.export.write import Evidence, write_export
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.predictor import Predictor
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement

TEXTS = (
    *("bad film", "the bad city", "good film", "the good city", "what a river", ""),
    *("who was a good name?", "Ünïcode \N{GRINNING FACE} ?!", "how many " * 40, "a"),
)
LABELS = np.array([0, 0, 1, 1, 2, 2, 1, 0, 2, 0])
TRAINING = {"steps": 10, "batch_size": 4, "schedule": "constant"} | {
    "learning_rate": 1e-3,
    "lora_learning_rate": 1e-2,
    "head_learning_rate": 1e-2,
    "warmup_fraction": 0.0,
    "weight_decay": 0.01,
    "probe_share": 0.5,
    "label_smoothing": 0.0,
    "frozen_fraction": 0.0,
}
LORA = {"rank": 2, "alpha_ratio": 2.0, "lora_dropout": 0.0}
PROBE = {"method": "probe", "scaling": "unit"}
CONFIGS = {
    "logistic": {**PROBE, "head": "logistic"},
    "kernel": {**PROBE, "head": "rbf", "scaling": "standard"},
    "prototype": {"method": "prototype", "rule": "mean", "scaling": "unit"},
    "neighbours": {
        "method": "prototype",
        "rule": "knn",
        "neighbours": 3,
        "scaling": "standard",
    },
    "both blocks": {**PROBE, "head": "lda", "blocks": "both"},
    "windows": {**PROBE, "head": "lda", "blocks": "inner", "long_texts": "windows"},
    "tfidf": {"method": "tfidf", "head": "logistic"},
    "partial": {"method": "partial_freeze", **TRAINING},
    "lora": {"method": "lora", **TRAINING, **LORA},
    "dora": {"method": "lora", **TRAINING, **LORA, "lora_variant": "dora"},
}


@pytest.fixture(scope="module")
def fitted(tiny_backbone):
    """Return ``(name of a Config, id) -> fitted``, each made once."""
    made = {}

    def fit(name, backbone_id="tiny-bert", inputs=TEXTS, labels=LABELS):
        if (name, backbone_id) not in made:
            backbone = tiny_backbone(backbone_id)
            task = Task(modality=backbone.card.modality, names=("x", "y", "z"))
            job = Job(
                task=task,
                config=Config.of(CONFIGS[name]),
                seed=0,
                placement=choose_placement("cpu"),
            )
            encoder = Encoder(backbone=backbone, store=FeatureStore(None))
            encodings = Encodings(inputs=inputs, encoder=encoder)
            method = METHODS[CONFIGS[name]["method"]]
            made[name, backbone_id] = method.fit(encodings, labels, job)
        return made[name, backbone_id]

    return fit


def predictor_of(fitted, temperature=1.7, modality="text", **task):
    return Predictor(
        task=Task(modality=modality, names=("x", "y", "z"), **task),
        config=Config.of({"method": "probe"}),
        fitted=fitted,
        calibration={"temperature": temperature},
    )


def reloaded(predictor, folder):
    """Return a predictor as it is used: saved and loaded."""
    return Predictor.load(predictor.save(folder))


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """A format that keeps the graph as it is: quick, and all else of a folder real."""
    kept = {}

    def load(folder):
        graph = kept["graph"]
        return lambda inputs: [
            made.numpy() for made in graph(*map(torch.from_numpy, inputs.values()))
        ]

    row = replace(
        FORMATS["torch"],
        name="eager",
        convert=lambda graph, folder: kept.update(graph=graph),
    )
    monkeypatch.setitem(FORMATS, "eager", row)
    monkeypatch.setitem(RUNTIMES, "eager", load)
    as_written = write._as_written

    def opened(folder):  # predict.py cannot hold what is in memory
        manifest = json.loads((folder / "manifest.json").read_text())
        is_eager = manifest["format"] == "eager"
        return open_export(folder) if is_eager else as_written(folder)

    monkeypatch.setattr(write, "_as_written", opened)


def answers(predictor, tmp_path, examples, name="eager"):
    """Return probabilities of the source and of an export, through the folder."""
    evidence = Evidence(inputs=tuple(examples))
    made = write_export(predictor, name, tmp_path / "out", evidence)
    return predictor.outputs_of(tuple(examples)), open_export(made.folder)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_graph_answers_as_its_predictor(name, fitted, tmp_path):
    predictor = reloaded(predictor_of(fitted(name)), tmp_path / "model")
    expected, model = answers(predictor, tmp_path, TEXTS)
    found = model.outputs(TEXTS)[1]
    assert np.abs(found - expected).max() < 1e-5
    assert model.decide(found) == predictor.task.rules.decode(expected)
    assert np.ptp(expected, axis=0).max() > 1e-3, "a constant would pass"


@pytest.mark.parametrize(
    "name", ["eager", pytest.param("torch", marks=pytest.mark.slow)]
)
def test_members_on_one_frozen_backbone_share_it(name, fitted, tiny_backbone, tmp_path):
    names = ("logistic", "windows", "lora", "tfidf")
    encoder = Encoder(backbone=tiny_backbone("tiny-bert"), store=FeatureStore(None))
    members = tuple(
        Member(
            fitted=fitted(each),
            calibration={"temperature": 0.5 + at},
            encoder=encoder,
            weight=0.1 * (at + 1),
        )
        for at, each in enumerate(names)
    )
    predictor = predictor_of(Ensemble(members=members), temperature=0.8)
    predictor = reloaded(predictor, tmp_path / "model")
    graph = Graph(predictor)
    assert len(graph.backbones) == 2  # frozen, and with LoRA merged
    assert [feed.kind for feed in graph.feeds] == ["text", "windows", "terms"]
    assert len(set(graph.input_names)) == len(graph.input_names) == 6
    expected, model = answers(predictor, tmp_path, TEXTS, name)
    assert np.abs(model.outputs(TEXTS)[1] - expected).max() < 1e-5


def test_costs_and_no_answer_travel(fitted, tmp_path):
    from fewshot_automl.tasks.costs import Costs

    names = ("x", "y", "z")
    costs = Costs.of(
        names, {"x->y": 4.0}, no_answer=0.3, shares={"x": 0.1}, counts=[4, 3, 3]
    )
    predictor = predictor_of(fitted("logistic"), 1.0, costs=costs)
    expected, model = answers(predictor, tmp_path, TEXTS)
    decided = predictor.task.rules.decode(expected)
    found = model.predict(TEXTS)
    assert [one["answer"] for one in found] == decided
    assert None in decided
    shown = [list(one["probabilities"].values()) for one in found]
    assert np.allclose(shown, costs.shifted(expected), atol=1e-5)


def test_a_folder_that_was_changed_is_refused(fitted, tmp_path):
    _, model = answers(predictor_of(fitted("tfidf")), tmp_path, TEXTS)
    folder = tmp_path / "out"
    assert sorted(model.manifest["files"]) == sorted(
        path.name for path in folder.iterdir() if path.name != "manifest.json"
    )
    (folder / "terms.json").write_text("[]")
    with pytest.raises(ExportError, match=r"terms\.json was damaged"):
        open_export(folder)


def test_one_that_answers_otherwise_is_not_kept(fitted, tmp_path, monkeypatch):
    predictor = predictor_of(fitted("logistic"))
    forward = Graph.forward

    def off(self, *tensors):
        logits, proba = forward(self, *tensors)
        return logits, proba + 2e-4

    monkeypatch.setattr(Graph, "forward", off)
    with pytest.raises(ExportError, match=r"within 0\.0001 of its source"):
        answers(predictor, tmp_path, TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_int8_is_judged_by_what_it_costs(fitted, tmp_path):
    predictor = predictor_of(fitted("logistic"))
    rng = np.random.default_rng(0)
    honest = rng.dirichlet((1, 1, 1), (2, len(TEXTS)))
    evidence = Evidence(inputs=TEXTS, targets=LABELS, honest=honest)
    folder = tmp_path / "out"
    made = write_export(
        predictor, "onnx", folder, evidence, quantize="int8", max_loss=1.0
    )
    change = made.proof.score
    assert change.is_cross_validated
    assert change.low <= -change.loss <= change.high
    assert made.proof.largest_logit_difference > 1e-4, "nothing was quantised"
    with pytest.raises(ExportError, match="int8 must cost at most -1"):
        made.proof.check(FORMATS["onnx"], "int8", max_loss=-1.0)
    kept = json.loads((folder / "verification.json").read_text())
    assert kept["score"]["loss"] == change.loss
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["batch"] == 1, "int8 texts depend on what is beside them"


def test_what_cannot_be_exported_is_said(fitted, tmp_path, monkeypatch):
    predictor, evidence = predictor_of(fitted("logistic")), Evidence(inputs=TEXTS)
    with pytest.raises(UserError, match="No format named 'onx'"):
        write_export(predictor, "onx", tmp_path / "out", evidence)
    with pytest.raises(UserError, match="Only onnx"):
        write_export(predictor, "torch", tmp_path / "out", evidence, quantize="int8")
    with pytest.raises(DataError, match="labelled"):
        write_export(predictor, "onnx", tmp_path / "out", evidence, quantize="int8")
    with pytest.raises(DataError, match="got none"):
        write_export(predictor, "onnx", tmp_path / "out", Evidence(inputs=()))
    constant = predictor_of(Constant(output=np.full(3, 1 / 3)))
    with pytest.raises(ExportError, match="always the same answer"):
        write_export(constant, "onnx", tmp_path / "out", evidence)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="new, empty or an export"):
        write_export(predictor, "onnx", tmp_path / "mine", evidence)
    (tmp_path / "mine" / "manifest.json").write_text("{}")  # as web pages have too
    with pytest.raises(UserError, match="new, empty or an export"):
        write_export(predictor, "onnx", tmp_path / "mine", evidence)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"
    monkeypatch.setattr("fewshot_automl.export.formats.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fewshot-automl\[onnx\]'"):
        write_export(predictor, "onnx", tmp_path / "out", evidence)
    assert not (tmp_path / "out").exists()


BLOCKED = """
import sys
for name in ("torch", "fewshot_automl", "transformers", "sklearn", "pandas"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def alone(folder, words):
    """Return the run of a folder's predict.py where only its own needs are there."""
    command = [sys.executable, "-I", "-c", BLOCKED, str(folder / "predict.py"), *words]
    return subprocess.run(command, capture_output=True, text=True)


def probabilities(done):
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return np.array([list(row["probabilities"].values()) for row in rows])


def test_predict_py_needs_neither_torch_nor_this_package(fitted, tmp_path):
    predictor = predictor_of(fitted("windows"))
    expected, _ = answers(predictor, tmp_path, TEXTS, "onnx")
    request = tmp_path / "request.json"
    request.write_text(json.dumps(list(TEXTS)))
    found = probabilities(alone(tmp_path / "out", ["--json", str(request)]))
    assert np.allclose(found, expected, atol=1e-5)
    request.write_text(json.dumps({"text": "a"}))
    done = alone(tmp_path / "out", ["--json", str(request)])
    assert done.returncode == 1
    assert done.stderr == (
        "predict.py: A request must be a JSON list of texts, or of files.\n"
    )


def test_predict_py_shows_images_as_the_package_does(fitted, tmp_path):
    rng = np.random.default_rng(0)
    pictures = tuple(rng.integers(0, 255, (9, 40, 56, 3), dtype=np.uint8))
    made = fitted("logistic", "tiny-resnet", pictures, np.arange(9) % 3)
    rgba = rng.integers(0, 255, (20, 30, 4), dtype=np.uint8)
    deep = rng.integers(0, 65535, (20, 30), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    home = tmp_path / "odd"
    home.mkdir()
    Image.fromarray(rgba).save(home / "alpha.png")
    Image.fromarray(deep).save(home / "deep.png")
    Image.fromarray(rgba[..., :3]).save(home / "turned.jpg", exif=exif)
    Image.fromarray(rgba[..., :3]).convert("CMYK").save(home / "cmyk.jpg")
    paths = sorted(home.iterdir())
    predictor = predictor_of(made, modality="image")
    expected, model = answers(predictor, tmp_path, paths, "onnx")
    found = probabilities(alone(tmp_path / "out", map(str, paths)))
    assert np.allclose(found, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-3, "a constant would pass"
    assert model.outputs(pictures[:1])[1].shape == (1, 3)
    done = alone(tmp_path / "out", ["absent.png"])
    assert done.returncode == 1
    assert "got absent.png (there is no such file)" in done.stderr


@pytest.mark.parametrize("format", RUNTIMES)
def test_a_script_holds_what_it_needs_and_no_more(format):
    kinds = {"timm": ["image"]}.get(format, ["text"])
    lines = script_of({format, *kinds}).splitlines()
    assert not [line for line in lines if "import" in line and "fewshot" in line]
    names = [x.split("(")[0] for x in lines if x.startswith(("def ", "class "))]
    assert len(set(names)) == len(names)
    assert (format == "litert") == ("def _litert" in names)
    assert ("def open_image" in names) == (format == "timm")


@pytest.mark.filterwarnings("ignore:This API is experimental")
@pytest.mark.parametrize("name", ["openvino", "executorch", "litert"])
def test_other_runtimes(name, fitted, tmp_path):
    for module in FORMATS[name].needs:
        pytest.importorskip(module)
    predictor = predictor_of(fitted("lora"))
    expected, model = answers(predictor, tmp_path, TEXTS, name)
    assert np.abs(model.outputs(TEXTS)[1] - expected).max() < 1e-5
    if name != "openvino":
        with pytest.raises(ExportError, match="windows"):
            answers(predictor_of(fitted("windows")), tmp_path, TEXTS, name)


def test_a_predictor_exports_itself(fitted, tmp_path):
    predictor = predictor_of(fitted("partial"))
    made = predictor.export("eager", tmp_path / "out", list(TEXTS))
    assert made.proof.agreement == 1.0
    assert "Tells 3 classes" in (made.folder / "MODEL_CARD.md").read_text()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("name", ["logistic", "lora", "partial"])
def test_transformers_and_peft_open_their_layout(name, fitted, tmp_path):
    from peft import PeftModel
    from transformers import AutoModel, AutoTokenizer

    predictor = predictor_of(fitted(name))
    expected, _ = answers(predictor, tmp_path, TEXTS, "huggingface")
    folder = tmp_path / "out"
    model = AutoModel.from_pretrained(folder)
    if name == "lora":
        model = PeftModel.from_pretrained(model, folder / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(list(TEXTS[:2]), return_tensors="pt", padding=True)
    hidden = model.eval()(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    )
    mask = batch["attention_mask"][..., None]
    pooled = (hidden.last_hidden_state * mask).sum(1) / mask.sum(1)
    found = (
        Graph(predictor)
        .backbones[0]
        .features({"input_ids": batch["input_ids"], "mask": batch["attention_mask"]})
    )
    pooled = torch.nn.functional.normalize(pooled)  # as the card says
    assert torch.allclose(pooled, found, atol=1e-5)
    assert expected.shape == (len(TEXTS), 3)


def test_timm_opens_its_layout(fitted, tiny_backbone, tmp_path):
    import timm

    rng = np.random.default_rng(0)
    pictures = tuple(rng.integers(0, 255, (9, 40, 56, 3), dtype=np.uint8))
    made = fitted("logistic", "tiny-resnet", pictures, np.arange(9) % 3)
    predictor = predictor_of(made, modality="image")
    expected, model = answers(predictor, tmp_path, pictures, "timm")
    assert np.abs(model.outputs(pictures)[1] - expected).max() < 1e-5
    network = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    pixels = torch.from_numpy(model.prepare(pictures)["pixels"])
    features = tiny_backbone("tiny-resnet").features({"pixels": pixels})
    assert torch.allclose(network(pixels), features, atol=1e-5)


def test_sentence_transformers_encode_to_logits(fitted, tmp_path):
    made = pytest.importorskip("sentence_transformers")
    predictor = predictor_of(fitted("logistic"), temperature=1.0)
    _, model = answers(predictor, tmp_path, TEXTS, "huggingface")
    found = made.SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(
        list(TEXTS), convert_to_tensor=True
    )
    expected = torch.from_numpy(model.outputs(TEXTS)[0])
    assert torch.allclose(torch.log_softmax(found, 1), expected, atol=1e-4)


def test_a_layout_says_what_it_cannot_express(fitted, tmp_path):
    for name in ("kernel", "both blocks", "windows", "tfidf"):
        with pytest.raises(ExportError, match="must be a linear head"):
            answers(predictor_of(fitted(name)), tmp_path, TEXTS, "huggingface")
    with pytest.raises(ExportError, match=r"must read images .* got one of texts"):
        answers(predictor_of(fitted("logistic")), tmp_path, TEXTS, "timm")


@pytest.mark.slow
@pytest.mark.network
def test_a_fresh_environment_answers(fitted, tmp_path):
    predictor = predictor_of(fitted("logistic"))
    expected, _ = answers(predictor, tmp_path, TEXTS, "onnx")
    home = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    python, folder = home / "bin" / "python", tmp_path / "out"
    needs = ("-m", "pip", "install", "-q", "-r", str(folder / "requirements.txt"))
    subprocess.run([python, *needs], check=True)
    (tmp_path / "all.json").write_text(json.dumps(list(TEXTS)))
    words = [folder / "predict.py", "--json", tmp_path / "all.json"]
    done = subprocess.run(
        [python, "-I", *words], capture_output=True, text=True, check=True
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = [list(row["probabilities"].values()) for row in rows]
    assert np.allclose(found, expected, atol=1e-5)
    absent = [python, "-c", "import torch"]
    assert subprocess.run(absent, capture_output=True).returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("card_id", ["minilm-l6", "mobilenetv2-100"])
def test_real_backbones(card_id, fitted, tmp_path):
    from fewshot_automl.backbones.load import load
    from fewshot_automl.backbones.weights import locate
    from fewshot_automl.backbones.zoo import Zoo
    from fewshot_automl.errors import CardError

    card = Zoo.shipped()[card_id]
    try:
        backbone = load(card, locate(card))
    except CardError:
        pytest.skip(f"weights of {card_id} are not at hand: fewshot zoo get --embedded")
    rng = np.random.default_rng(0)
    inputs = TEXTS
    if card.modality == "image":
        inputs = tuple(rng.integers(0, 255, (len(TEXTS), 90, 60, 3), dtype=np.uint8))
    task = Task(modality=card.modality, names=("x", "y", "z"))
    job = Job(
        task=task,
        config=Config.of(CONFIGS["logistic"]),
        seed=0,
        placement=choose_placement("cpu"),
    )
    encodings = Encodings(
        inputs=inputs, encoder=Encoder(backbone=backbone, store=FeatureStore(None))
    )
    made = METHODS["probe"].fit(encodings, LABELS, job)
    predictor = predictor_of(made, modality=card.modality)
    expected, model = answers(predictor, tmp_path, inputs, "onnx")
    assert np.abs(model.outputs(inputs)[1] - expected).max() < 1e-4
