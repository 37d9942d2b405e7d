"""DALI takes the description of every graph for a GPU, even where there is none to run it on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.augment.dali import FixedViews, Graph, build_outputs, build_pipeline
from pipeline.augment.geometry import build_views
from pipeline.experiments import AUGMENTATIONS
from pipeline.options import LoadingConfig

CONFIGS = AUGMENTATIONS | {
    "gray": replace(AUGMENTATIONS["none"], gray=True, resize_pixels=100),
    "resized with its mean": replace(AUGMENTATIONS["modern"], mean="cropped"),
}


@pytest.mark.parametrize("views", [None, "center", "ten"])
@pytest.mark.parametrize("decoder", ["mixed", "cpu"])
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_graph_of_a_gpu_ends_on_it(name, raw, decoder, views):
    config, loading, device = CONFIGS[name], LoadingConfig(decoder=decoder), torch.device("cuda", 0)
    fixed = views and FixedViews(
        views=build_views(views, image_pixels=256, crop_pixels=config.crop_pixels),
        offset=np.zeros(config.num_channels, np.float32),
        divisor=np.ones(config.num_channels, np.float32),
    )
    mean_image = np.zeros((256, 256, 3), np.float32)
    graph = Graph(config=config, mean_image=mean_image, raw=raw, loading=loading, device=device, fixed=fixed)
    with build_pipeline(graph, 8):
        assert build_outputs(graph, lambda _: ()).device == "gpu"
