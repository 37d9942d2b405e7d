"""`alexnet diff`: each knob that differs, once, by the name of its layer, with both values and where they are from."""

import dataclasses
import json

import pytest

from pipeline.cli import main
from pipeline.experiments import EXPERIMENTS, Difference, compare, find_differences


def say(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main(["diff", *words])
    return capsys.readouterr().out


def test_layers_are_aligned_by_name_so_that_a_missing_one_is_a_single_difference():
    (difference,) = compare(EXPERIMENTS["source-2012"], EXPERIMENTS["without-conv3"])
    assert difference.knob == "model.convs.conv3"
    assert difference.left == dataclasses.asdict(EXPERIMENTS["source-2012"].config.model.convs[2])
    assert difference.right == "absent"
    assert difference.left_citation == "§3.5, net 145"
    assert difference.right_citation == EXPERIMENTS["without-conv3"].source


def test_the_other_way_round_the_sides_change_places():
    for name in ("without-conv3", "six-conv", "caffe", "fig1-relu"):
        there = compare(EXPERIMENTS["source-2012"], EXPERIMENTS[name])
        back = compare(EXPERIMENTS[name], EXPERIMENTS["source-2012"])
        turned = [Difference(d.knob, d.right, d.left, d.right_citation, d.left_citation) for d in back]
        assert sorted(there, key=lambda d: d.knob) == sorted(turned, key=lambda d: d.knob)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_nothing_differs_exactly_where_the_configurations_are_equal(name):
    for other in EXPERIMENTS:
        equal = not find_differences(EXPERIMENTS[name].config, EXPERIMENTS[other].config)
        assert (compare(EXPERIMENTS[name], EXPERIMENTS[other]) == []) is equal


def test_differences_come_in_the_order_of_the_configuration():
    knobs = [difference.knob for difference in compare(EXPERIMENTS["source-2010"], EXPERIMENTS["fig1-relu"])]
    parts = [knob.split(".")[0] for knob in knobs]
    assert list(dict.fromkeys(parts)) == ["augment", "model", "optimizer", "schedule"]
    assert parts == sorted(parts, key=["augment", "model", "optimizer", "schedule"].index)
    assert knobs.index("model.linears.fc4") == knobs.index("model.linears.fc8") + 1


def test_the_table_shows_both_values_in_the_words_of_the_flags_with_their_sources(capsys):
    said = " ".join(say(capsys, "source-2010", "paper").replace("│", " ").split())
    assert "knob source-2010 paper" in said
    assert "augment.num_offsets 33 32 (net 145) (§4.1: 2048 variants are 32 x 32 x 2)" in said
    assert "model.convs.conv1.after lrn pool relu relu lrn pool" in said
    assert "augment.color_off_epoch 68 None" in said
    assert "schedule.conv1 1e-05 from epoch 68, 0 from epoch 72 none" in said


def test_the_table_describes_a_layer_that_one_side_lacks(capsys):
    said = " ".join(say(capsys, "source-2012", "six-conv").replace("│", " ").split())
    assert "model.convs.conv6 absent kernels 256, size 3" in said
    assert "pool_stride" not in said


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_line_of_a_table_is_wider_than_a_screen(name, capsys):
    assert max(map(len, say(capsys, "source-2010", name).splitlines())) <= 128


def test_json_holds_what_the_table_shows(capsys):
    found = json.loads(say(capsys, "source-2012", "without-conv5", "--json"))
    assert (found["left"], found["right"]) == ("source-2012", "without-conv5")
    conv4, conv5 = found["differences"]
    assert conv4 == {
        "knob": "model.convs.conv4.after",
        "left": ["relu"],
        "right": ["pool", "relu"],
        "left_citation": "§3.5, net 145",
        "right_citation": "ours: conv5's pooling stays, and fc6 grows",
    }
    assert (conv5["knob"], conv5["left"]["kernels"], conv5["right"]) == ("model.convs.conv5", 256, "absent")


def test_nothing_differs_between_an_experiment_and_itself(capsys):
    assert say(capsys, "caffe", "caffe") == "nothing differs between caffe and caffe\n"
    assert json.loads(say(capsys, "caffe", "caffe", "--json"))["differences"] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["source-2010", "cafe"], "alexnet diff: unknown experiment 'cafe': choose one of source-2010, source-2012"),
        (["cafe", "source-2010"], "alexnet diff: unknown experiment 'cafe': choose one of source-2010, source-2012"),
        (["source-2010"], "alexnet diff: Missing from alexnet diff: OTHER"),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        main(["diff", *words])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert said.count("\n") == 1
