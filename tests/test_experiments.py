"""The named experiments: their numbers, the names of their fields, and what counts as a change."""

import dataclasses
import fnmatch
import re

import pytest

from pipeline.claims import CLAIMS, Errors
from pipeline.cli import main
from pipeline.config import ConvConfig, LinearConfig
from pipeline.errors import InputError
from pipeline.experiments import (
    EXPERIMENTS,
    compare,
    find_differences,
    flatten,
    get_experiment,
    get_status,
)


def test_what_source_and_paper_do_differently_is_all_that_differs():
    differences = find_differences(EXPERIMENTS["source-2010"].config, EXPERIMENTS["paper"].config)
    assert differences == {
        "augment.num_offsets": (33, 32),
        "augment.images_per_crop": (32, 1),
        "augment.mean": ("centered", "cropped"),
        "augment.color_scale": ("std", "eigenvalue"),
        "augment.color_divisor": (1.1, 1.0),
        "augment.color_off_epoch": (68, None),
        "model.convs.0.after": (("lrn", "pool", "relu"), ("relu", "lrn", "pool")),
        "model.convs.1.after": (("relu", "lrn", "local_norm", "pool"), ("relu", "lrn", "pool")),
        "model.convs.2.weight_std": (0.03, 0.01),
        "model.convs.3.weight_std": (0.03, 0.01),
        "model.convs.4.weight_std": (0.03, 0.01),
        "model.convs.4.after": (("pool", "relu"), ("relu", "pool")),
        "model.lrn.alpha": (1e-4, 5e-4),
        "optimizer.bias_weight_decay": (0.0, 0.0005),
        "schedule.epochs": (93, 90),
        "schedule.weights": (((0, 0.01), (23, 0.001), (51, 1e-4), (78, 1e-5)), ((0, 0.01),)),
        "schedule.biases": (((0, 0.02), (23, 0.002)), ((0, 0.01),)),
        "schedule.conv1": (((68, 1e-5), (72, 0.0)), ()),
        "schedule.plateau.patience": (None, 5),
    }


def test_the_two_years_of_net_145_differ_in_schedule_only():
    differences = find_differences(EXPERIMENTS["source-2010"].config, EXPERIMENTS["source-2012"].config)
    assert set(differences) == {
        "augment.color_off_epoch",
        "schedule.epochs",
        "schedule.weights",
        "schedule.biases",
        "schedule.conv1",
    }
    assert differences["augment.color_off_epoch"] == (68, 67)


PARENTS = {
    "source-2012": "source-2010",
    "paper": "source-2010",
    "one-gpu": "source-2010",
    **dict.fromkeys(("no-lrn", "non-overlapping-pooling", "no-color", "no-dropout", "no-weight-decay"), "source-2012"),
    **dict.fromkeys(("without-conv3", "without-conv4", "without-conv5", "six-conv"), "source-2012"),
    "six-conv-finetune": "six-conv",
    "fig1-tanh": "fig1-relu",
    "finetune": "one-weird-trick",
    "tutorial-d2l-28": "tutorial-d2l",
}

SCHEDULE = {"schedule.epochs", "schedule.weights", "schedule.biases", "schedule.conv1", "augment.color_off_epoch"}
COLOR = {"color_scale", "color_coefficient_std", "color_divisor", "color_off_epoch"}
CHANGES = {
    "one-gpu": SCHEDULE
    | {f"model.convs.conv{i}.kernels" for i in (1, 2, 3, 4)}
    | {f"model.convs.conv{i}.groups" for i in (2, 4, 5)}
    | {"model.towers"},
    "no-lrn": SCHEDULE - {"schedule.biases"} | {"model.convs.conv1.after", "model.convs.conv2.after"},
    "non-overlapping-pooling": SCHEDULE
    | {"model.pool_size", "model.pool_ceil"}
    | {"model.convs.conv2.padding", "model.convs.conv5.padding"},
    "no-color": {f"augment.{field}" for field in COLOR},
    "no-dropout": {"model.linears.fc6.after", "model.linears.fc7.after"},
    "no-weight-decay": {"optimizer.weight_decay"},
    "without-conv3": {"model.convs.conv3"},
    "without-conv4": {"model.convs.conv4"},
    "without-conv5": {"model.convs.conv5", "model.convs.conv4.after"},
    "six-conv": {"model.convs.conv6"},
    "six-conv-finetune": SCHEDULE - {"schedule.biases"} | {"schedule.head", "pretrained"},
    "fig1-tanh": {f"model.convs.conv{i}.after" for i in (1, 2, 3)}
    | {"schedule.epochs", "schedule.weights", "schedule.biases"},
    "tutorial-d2l-28": {f"model.convs.conv1.{field}" for field in ("size", "stride", "padding", "pool_stride")}
    | {"augment.resize_pixels", "schedule.epochs"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_experiment_changes_what_its_claim_is_about_and_nothing_else(name):
    differences = compare(EXPERIMENTS[PARENTS[name]], EXPERIMENTS[name])
    assert {difference.knob for difference in differences} == CHANGES[name]


@pytest.mark.parametrize("name", PARENTS)
def test_a_changed_value_never_keeps_the_citation_of_the_one_it_replaces(name):
    differences = compare(EXPERIMENTS[PARENTS[name]], EXPERIMENTS[name])
    kept = {
        change.knob: change.left_citation for change in differences if change.left_citation == change.right_citation
    }
    assert kept == {}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_citation_is_of_a_field_or_layer_that_there_is(name):
    experiment = EXPERIMENTS[name]
    layers = [("convs", f"conv{i}") for i in range(1, 7)] + [("linears", f"fc{i}") for i in (4, 6, 7, 8)]
    fields = {field.name for kind in (ConvConfig, LinearConfig) for field in dataclasses.fields(kind)}
    known = [f"model.{kind}.{layer}" for kind, layer in layers]
    known += [f"{layer}.{field}" for layer in known for field in fields]
    known += [field for field, _ in flatten(experiment.config)]
    assert [pattern for pattern in experiment.citations if not fnmatch.filter(known, pattern)] == []


def test_the_last_citation_that_fits_holds_and_own_ones_come_before_inherited_ones():
    parent = dataclasses.replace(EXPERIMENTS["paper"], source="all", citations={"model.*": "1", "model.lrn.*": "2"})
    assert [parent.cite(field) for field in ("seed", "model.towers", "model.lrn.k")] == ["all", "1", "2"]
    child = parent.derive(name="child", claim="", source="rest", citations={"model.*": "3"}, seed=1)
    assert [child.cite(field) for field in ("seed", "model.towers", "model.lrn.k")] == ["rest", "3", "3"]
    assert (child.config.seed, child.config.model) == (1, parent.config.model)


NOTES = {  # epochs of the end, of the drops by 10, of conv1 at 1e-5 and at 0, of colours off; last rate of the biases
    "source-2010": (93, (23, 51, 78), 68, 72, 68, 0.002),
    "source-2012": (91, (25, 51, 79), 67, 72, 67, 0.02),
    "one-gpu": (96, (20, 48), 66, 72, 66, 0.02),
    "no-lrn": (97, (22, 44, 86), 69, 73, 69, 0.02),
    "non-overlapping-pooling": (90, (23, 51, 79), None, 79, None, 0.002),
}


@pytest.mark.parametrize("name", NOTES)
def test_schedules_are_those_of_the_source_s_notes(name):
    config = EXPERIMENTS[name].config
    end, drops, slow, frozen, color_off, last_bias_rate = NOTES[name]
    assert config.schedule.epochs == end
    assert config.schedule.weights == tuple(zip((0, *drops), (0.01, 0.001, 1e-4, 1e-5), strict=False))
    assert config.schedule.conv1 == (((slow, 1e-5),) if slow else ()) + ((frozen, 0.0),)
    assert config.augment.color_off_epoch == color_off
    assert (config.schedule.biases[0], config.schedule.biases[-1][1]) == ((0, 0.02), last_bias_rate)


def test_net_146_is_fine_tuned_as_its_notes_say():
    schedule = EXPERIMENTS["six-conv-finetune"].config.schedule
    assert schedule.epochs == 54
    assert schedule.weights == ((0, 0.001), (22, 1e-4), (42, 1e-5))
    assert schedule.conv1 == ((0, 1e-4), (5, 1e-5), (7, 0.0))
    assert schedule.head == ((0, 0.01), (9, 0.001), (22, 1e-4), (42, 1e-5))
    assert EXPERIMENTS["six-conv-finetune"].config.augment.color_off_epoch == 38


def test_two_experiments_begin_with_weights_of_another_and_keep_all_but_its_last_layer():
    pretrained = {name: experiment.config.pretrained for name, experiment in EXPERIMENTS.items()}
    expected = dict.fromkeys(EXPERIMENTS, "none") | {"six-conv-finetune": "features", "finetune": "features"}
    assert pretrained == expected


RECIPES = {  # batch, epochs, rate at the start, momentum, decay of weights and of biases
    "caffe": (256, 90, 0.01, 0.9, 0.0005, 0.0),
    "one-weird-trick": (256, 90, 0.01, 0.9, 1e-4, 1e-4),
    "finetune": (128, 3, 0.001, 0.9, 0.0, 0.0),
    "tutorial-one-tower": (128, 90, 0.01, 0.9, 0.0005, 0.0005),
    "tutorial-d2l": (128, 10, 0.01, 0.0, 0.0, 0.0),
    "tutorial-d2l-28": (128, 20, 0.01, 0.0, 0.0, 0.0),
}


@pytest.mark.parametrize("name", RECIPES)
def test_training_of_others_is_as_they_give_it(name):
    config = EXPERIMENTS[name].config
    optimizer, schedule = config.optimizer, config.schedule
    decays = (optimizer.weight_decay, optimizer.bias_weight_decay)
    found = (config.global_batch_size, schedule.epochs, schedule.weights[0][1], optimizer.momentum, *decays)
    assert found == RECIPES[name]


@pytest.mark.parametrize("name", ["source-2010", "source-2012", "paper"])
def test_constants_of_the_text_hold_for_every_claim(name):
    values = dict(flatten(EXPERIMENTS[name].config))
    expected = {
        "global_batch_size": 128,
        "augment.crop_pixels": 224,
        "augment.flip": True,
        "augment.color_coefficient_std": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 0.0005,
        "optimizer.lr_in_momentum": True,
        "model.dropout": 0.5,
        "model.inverted_dropout": False,
        "model.towers": 2,
        "model.width": 1.0,
        "model.num_classes": 1000,
        "model.lrn.size": 5,
        "model.lrn.beta": 0.75,
        "model.lrn.k": 2.0,
        "model.pool_size": 3,
        "model.pool_stride": 2,
    }
    assert {field: values[field] for field in expected} == expected


def test_every_claim_that_names_an_experiment_names_a_registered_one():
    named = {name for claim in CLAIMS if claim.measure for name in claim.measure.experiments}
    assert named <= set(EXPERIMENTS)
    assert len({claim.key for claim in CLAIMS}) == len(CLAIMS)


def test_the_claimed_errors_are_those_of_the_tables():
    claims = {claim.key: claim for claim in CLAIMS}
    ten, one = claims["lsvrc-2010-ten"], claims["one-cnn-2012"]
    assert (ten.paper, ten.source) == (Errors(top1=0.375, top5=0.17), Errors(top1=0.374727, top5=0.169987))
    assert (one.paper, one.source) == (Errors(top1=0.407, top5=0.182), Errors(top1=0.40664, top5=0.1821))
    no_lrn = claims["no-lrn"]
    assert no_lrn.source is not None
    assert no_lrn.source.top1 == pytest.approx(0.0137, abs=1e-9)
    assert no_lrn.source.top5 == pytest.approx(0.01152, abs=1e-9)


def test_an_unknown_experiment_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"unknown experiment 'alexnet'.*source-2010, source-2012, paper"):
        get_experiment("alexnet")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_run_is_as_registered_until_any_field_changes(name):
    config = EXPERIMENTS[name].config
    assert get_status(name, config) == "as registered"
    assert get_status(name, dataclasses.replace(config, seed=1)) == "modified"
    *shallow, deep = config.model.convs
    model = dataclasses.replace(config.model, convs=(*shallow, dataclasses.replace(deep, bias=0.125)))
    changed = dataclasses.replace(config, model=model)
    assert get_status(name, changed) == "modified"
    assert find_differences(config, changed) == {f"model.convs.{len(shallow)}.bias": (deep.bias, 0.125)}


def test_a_field_that_one_side_lacks_is_a_difference():
    config = EXPERIMENTS["paper"].config
    fewer = dataclasses.replace(config, model=dataclasses.replace(config.model, linears=config.model.linears[1:]))
    differences = find_differences(config, fewer)
    assert differences["model.linears.2.name"] == ("fc8", None)
    assert differences["model.linears.0.name"] == ("fc6", "fc7")


@pytest.mark.parametrize("name", ["source-2012", "tutorial-half"])
def test_fields_are_named_as_the_flags_are(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        main(["train", name, "--help"])
    assert end.value.code == 0
    flags = set(re.findall(r"(?<![\w-])--([a-z][\w.-]*)", capsys.readouterr().out))
    fields = [field for field, _ in flatten(EXPERIMENTS[name].config)]
    assert len(fields) > 50
    assert [field for field in fields if field.replace("_", "-") not in flags] == []
