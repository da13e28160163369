import pytest
import torch
from diffusers import UNet2DConditionModel
from videoldm.core.networks import sites as s

LAYOUTS = {"SD1": s.SD1, "SD2": s.SD2, "SDXL": s.SDXL, "X4": s.X4_UPSCALER}

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
DIFFUSERS = {
    "SD1": dict(cross_attention_dim=768, attention_head_dim=8),
    "SD2": dict(
        cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
    ),
    "SDXL": dict(
        block_out_channels=(320, 640, 1280),
        down_block_types=(PLAIN, CROSS, CROSS),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
    ),
    "X4": dict(
        in_channels=7,
        block_out_channels=(256, 512, 512, 1024),
        down_block_types=(PLAIN, CROSS, CROSS, CROSS),
        up_block_types=("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",),
        cross_attention_dim=1024,
        num_class_embeds=1000,
        only_cross_attention=(True, True, True, False),
    ),
}


@pytest.fixture(scope="module")
def unets() -> dict[str, UNet2DConditionModel]:
    with torch.device("meta"):
        return {name: UNet2DConditionModel(**config) for name, config in DIFFUSERS.items()}


# Prefixes in the published files: of "in_layers" (residual blocks) and "norm1" (transformers).
SD_LDM_TO_DIFFUSERS = {
    "input_blocks.1.0": "down_blocks.0.resnets.0",
    "input_blocks.2.1.transformer_blocks.0": "down_blocks.0.attentions.1.transformer_blocks.0",
    "input_blocks.4.0": "down_blocks.1.resnets.0",
    "input_blocks.8.1.transformer_blocks.0": "down_blocks.2.attentions.1.transformer_blocks.0",
    "input_blocks.11.0": "down_blocks.3.resnets.1",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1.transformer_blocks.0": "mid_block.attentions.0.transformer_blocks.0",
    "middle_block.2": "mid_block.resnets.1",
    "output_blocks.0.0": "up_blocks.0.resnets.0",
    "output_blocks.3.1.transformer_blocks.0": "up_blocks.1.attentions.0.transformer_blocks.0",
    "output_blocks.5.0": "up_blocks.1.resnets.2",
    "output_blocks.11.1.transformer_blocks.0": "up_blocks.3.attentions.2.transformer_blocks.0",
}
RES_BLOCKS = [f"input_blocks.{i}.0" for i in (1, 2, 4, 5, 7, 8, 10, 11)]
RES_BLOCKS += ["middle_block.0", "middle_block.2"] + [f"output_blocks.{i}.0" for i in range(12)]
TRANSFORMERS = {
    "SD1": [f"input_blocks.{i}.1" for i in (1, 2, 4, 5, 7, 8)]
    + ["middle_block.1"]
    + [f"output_blocks.{i}.1" for i in range(3, 12)],
    "X4": [f"input_blocks.{i}.1" for i in (4, 5, 7, 8, 10, 11)]
    + ["middle_block.1"]
    + [f"output_blocks.{i}.1" for i in range(9)],
    "SDXL": [f"input_blocks.{i}.1" for i in (4, 5, 7, 8)]
    + ["middle_block.1"]
    + [f"output_blocks.{i}.1" for i in range(6)],
}
TRANSFORMERS["SD2"] = TRANSFORMERS["SD1"]


@pytest.mark.parametrize("ldm, diffusers", SD_LDM_TO_DIFFUSERS.items())
def test_both_paths_of_a_site_are_those_of_the_published_stable_diffusion_files(ldm, diffusers):
    site = s.site_of_diffusers_path(diffusers)
    assert s.diffusers_path(site) == diffusers
    assert s.ldm_path(site, s.SD1) == ldm


@pytest.mark.parametrize("name", LAYOUTS)
def test_sites_are_exactly_the_residual_blocks_and_transformers_of_the_ldm_layout(name):
    layout = LAYOUTS[name]
    res = [s.ldm_path(site, layout) for site in s.res_sites(layout)]
    if name != "SDXL":
        assert res == RES_BLOCKS
    assert [s.ldm_path(site, layout) for site in s.attn_sites(layout)] == TRANSFORMERS[name]


def test_the_blocks_of_sdxl_are_two_and_ten_deep():
    paths = [s.ldm_path(site, s.SDXL) for site in s.block_sites(s.SDXL)]
    depth = {path.split(".transformer")[0]: 0 for path in paths}
    for path in paths:
        depth[path.split(".transformer")[0]] += 1
    assert depth["input_blocks.4.1"] == depth["output_blocks.5.1"] == 2
    assert depth["input_blocks.8.1"] == depth["middle_block.1"] == depth["output_blocks.0.1"] == 10
    assert "output_blocks.2.1.transformer_blocks.9" in paths


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_of_a_diffusers_model_is_read_from_its_config(unets, name):
    assert s.layout_of(unets[name].config) == LAYOUTS[name]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_site_is_a_module_of_the_model_and_every_such_module_a_site(unets, name):
    layout, modules = LAYOUTS[name], dict(unets[name].named_modules())
    res, attn, block = (
        [s.diffusers_path(site) for site in sites(layout)]
        for sites in (s.res_sites, s.attn_sites, s.block_sites)
    )
    kinds = {"ResnetBlock2D": [], "Transformer2DModel": [], "BasicTransformerBlock": []}
    for path, module in modules.items():
        if type(module).__name__ in kinds:
            kinds[type(module).__name__].append(path)
    assert sorted(res) == sorted(kinds["ResnetBlock2D"])
    assert sorted(attn) == sorted(kinds["Transformer2DModel"])
    assert sorted(block) == sorted(kinds["BasicTransformerBlock"])
    for site in s.res_sites(layout):
        assert modules[s.diffusers_path(site)].out_channels == s.width_at(site, layout)


@pytest.mark.parametrize("name", LAYOUTS)
def test_sites_and_paths_go_both_ways(name):
    layout = LAYOUTS[name]
    every = s.all_sites(layout)
    assert len(every) == len(set(every))
    for site in every:
        if site == "in" or site.endswith("out"):
            for path in (s.diffusers_path, lambda site: s.ldm_path(site, layout)):
                with pytest.raises(ValueError, match="has no path"):
                    path(site)
        elif s.module_site(site, layout) != site:
            residual = s.module_site(site, layout)
            assert residual in every and residual == site.replace("attn", "res")
            assert s.width_at(residual, layout) == s.width_at(site, layout)
        else:
            assert s.site_of_diffusers_path(s.diffusers_path(site)) == site


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_residual_block_but_one_has_an_attention_site(name):
    layout = LAYOUTS[name]
    after = [*s.attn_sites(layout), *s.bare_attn_sites(layout)]
    residual = {site.replace("attn", "res") for site in after}
    assert len(residual) == len(after)
    assert set(s.res_sites(layout)) - residual == {"mid.res.1"}


@pytest.mark.parametrize(
    "site, level, kind",
    [
        ("in", 0, "convolution"),
        ("down.2.res.1", 2, "convolution"),
        ("down.1.attn.0.block.0", 1, "attention"),
        ("mid.out", 3, "convolution"),
        ("mid.attn.0", 3, "attention"),
        ("up.0.out", 3, "convolution"),
        ("up.3.attn.2", 0, "attention"),
    ],
)
def test_level_and_kind_of_a_site(site, level, kind):
    assert s.level_of(site, s.SD1) == level and s.kind_of(site) == kind
    assert s.width_at(site, s.SD1) == s.SD1.channels[level]


@pytest.mark.parametrize(
    "site",
    ["", "down.0", "down.0.res", "mid.res.2", "up.x.res.0", "down.0.res.0.block.1", "down.0.ff.1"],
)
def test_what_is_not_a_site_is_refused(site):
    with pytest.raises(ValueError, match="is not a site"):
        s.check_site(site)


def test_paths_that_are_no_layers_and_unknown_blocks_are_refused(unets):
    with pytest.raises(ValueError, match="is not a site"):
        s.site_of_diffusers_path("down_blocks.0.downsamplers.0")
    with pytest.raises(ValueError, match="2 levels of channels but 1 depths"):
        s.UNetLayout(channels=(32, 64), depths=(1,))
    with torch.device("meta"):
        other = UNet2DConditionModel(
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
        )
    with pytest.raises(ValueError, match="SimpleCrossAttnDownBlock2D"):
        s.layout_of(other.config)
    config = dict(unets["SD1"].config) | {"layers_per_block": (1, 2, 2, 2)}
    with pytest.raises(ValueError, match=r"\(1, 2, 2, 2\)"):
        s.layout_of(type(unets["SD1"].config)(config))
