"""Run by ComfyUI's own Python, without a server: what its functions return for a file of inputs.

python comfyui_functions.py COMFYUI JOB ANSWER      (JOB and ANSWER are files of torch.save)
"""

import sys

from inside import begin


def resized(jobs):
    """common_upscale of (tensor, width, height, method, crop)."""
    from comfy.utils import common_upscale

    return [common_upscale(*job) for job in jobs]


def prompts(job):
    """Encodings of texts by a small CLIP, with the textual inversions of a folder."""
    from comfy.sd1_clip import SDClipModel, SDTokenizer

    second = job["kind"] == "stable diffusion 2"
    width = job["config"]["hidden_size"]
    tokenizer = SDTokenizer(
        pad_with_end=not second, embedding_directory=[job["folder"]], embedding_size=width,
        embedding_key="clip_h" if second else "clip_l",
    )  # fmt: skip
    special = {"start": 49406, "end": 49407, "pad": 0 if second else 49407}
    last = {"layer": "hidden", "layer_idx": -2} if second else {}
    model = SDClipModel(textmodel_json_config=job["config"], special_tokens=special, **last)
    missing = model.transformer.load_state_dict(job["state"], strict=False)[0]
    assert set(missing) <= {"text_projection.weight"}, missing
    answers = []
    for text, layer in job["texts"]:
        model.reset_clip_options()
        if layer is not None:
            model.set_clip_options({"layer": layer})
        answers.append(model.encode_token_weights(tokenizer.tokenize_with_weights(text))[0])
    return answers


def main(comfyui, job, answer):
    begin(comfyui)
    import torch

    given = torch.load(job, weights_only=True)
    with torch.inference_mode():
        found = {name: globals()[name](inputs) for name, inputs in given.items()}
    torch.save(found, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
