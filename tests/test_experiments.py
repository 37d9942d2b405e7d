"""The named experiments: their numbers, the names of their fields, and what counts as a change."""

import dataclasses
import re

import pytest

from pipeline import paper
from pipeline.cli import main
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS, find_differences, flatten, get_experiment, get_status


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
    named = {name for claim in paper.CLAIMS for name in (claim.experiment, claim.worse_than) if name is not None}
    assert named <= set(EXPERIMENTS)
    assert len({claim.key for claim in paper.CLAIMS}) == len(paper.CLAIMS)


def test_the_claimed_errors_are_those_of_the_tables():
    claims = {claim.key: claim for claim in paper.CLAIMS}
    ten, one = claims["lsvrc-2010-ten"], claims["one-cnn-2012"]
    assert (ten.paper, ten.source) == (paper.Errors(top1=0.375, top5=0.17), paper.Errors(top1=0.374727, top5=0.169987))
    assert (one.paper, one.source) == (paper.Errors(top1=0.407, top5=0.182), paper.Errors(top1=0.40664, top5=0.1821))
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
    deep = dataclasses.replace(config.model.convs[4], bias=0.125)
    model = dataclasses.replace(config.model, convs=(*config.model.convs[:4], deep))
    changed = dataclasses.replace(config, model=model)
    assert get_status(name, changed) == "modified"
    assert find_differences(config, changed) == {"model.convs.4.bias": (config.model.convs[4].bias, 0.125)}


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
