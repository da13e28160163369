"""Stand-ins for ComfyUI's own nodes around images and videos."""

from __future__ import annotations

from . import io, ui
from .host import host

FORMATS = ("auto", "mp4", "webm")


def _encodings(codec: str) -> io.DynamicCombo.Option:
    crf = io.Float.Input(
        "crf", default=23.0, min=0.0, max=51.0, step=1.0, tooltip="Lower is better and larger."
    )
    options = [io.DynamicCombo.Option("auto", []), io.DynamicCombo.Option("re-encode", [crf])]
    encoding = io.DynamicCombo.Input(
        "encoding", options=options, optional=True, tooltip="Automatic, or a quality of your own."
    )
    return io.DynamicCombo.Option(codec, [] if codec == "auto" else [encoding])


def _codec(names: tuple[str, ...], optional: bool = False) -> io.Input:
    return io.DynamicCombo.Input(
        "codec",
        options=[_encodings(name) for name in names],
        optional=optional,
        tooltip="The codec; auto takes the usual one of the container.",
    )


class LoadImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadImage",
            display_name="Load Image",
            category="image",
            description="Loads an image of the input folder, and its transparency as a mask.",
            inputs=[
                io.Combo.Input(
                    "image", options=host.folders.input_names("image"),
                    upload=io.UploadType.image, tooltip="A file of the input folder.",
                ),
            ],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, image) -> bool | str:
        return host.folders.input_fault(image) or True

    @classmethod
    def fingerprint_inputs(cls, image: str) -> float:
        return host.folders.input_changed(image)

    @classmethod
    def execute(cls, image: str) -> io.NodeOutput:
        from .images import load_image

        return io.NodeOutput(*load_image(host.folders.input_path(image)))


class SaveImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveImage",
            display_name="Save Image",
            category="image",
            description="Saves images into the output folder; they carry the workflow.",
            inputs=[
                io.Image.Input("images", tooltip="The images to save."),
                io.String.Input(
                    "filename_prefix", default="ComfyUI",
                    tooltip="Beginning of the file name inside the output folder.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
            outputs=[io.Image.Output("images", display_name="images")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, filename_prefix) -> bool | str:
        return host.folders.prefix_fault(filename_prefix) or True

    @classmethod
    def execute(cls, images, filename_prefix: str) -> io.NodeOutput:
        from .images import save_images

        results = save_images(host, images, filename_prefix, host.metadata(cls.hidden))
        return io.NodeOutput(images, ui=ui.SavedImages(results))


class PreviewImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PreviewImage",
            display_name="Preview Image",
            category="image",
            description="Shows images; the files are temporary.",
            inputs=[io.Image.Input("images", tooltip="The images to show.")],
            is_output_node=True,
            outputs=[],
        )

    @classmethod
    def execute(cls, images) -> io.NodeOutput:
        from .images import save_images

        results = save_images(host, images, "ComfyUI_temp", {}, temp=True)
        return io.NodeOutput(ui=ui.SavedImages(results))


class LoadVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadVideo",
            display_name="Load Video",
            category="video",
            description="Refers to a video of the input folder; its frames are read when needed.",
            inputs=[
                io.Combo.Input(
                    "file", options=host.folders.input_names("video"),
                    upload=io.UploadType.video, tooltip="A file of the input folder.",
                ),
            ],
            outputs=[io.Video.Output()],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file) -> bool | str:
        return host.folders.input_fault(file) or True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> float:
        return host.folders.input_changed(file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        from .video import video_from_file

        return io.NodeOutput(video_from_file(host.folders.input_path(file)))


class GetVideoComponents(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GetVideoComponents",
            display_name="Get Video Components",
            category="video",
            description="Reads all frames of a video, its sound and its frame rate.",
            inputs=[io.Video.Input("video", tooltip="The video.")],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Audio.Output(display_name="audio"),
                io.Float.Output(display_name="fps"),
                io.Int.Output(display_name="bit_depth"),
                io.Combo.Output(display_name="color_space"),
            ],
        )

    @classmethod
    def execute(cls, video) -> io.NodeOutput:
        parts = video.get_components()
        rate = float(parts.frame_rate)
        more = video.get_bit_depth(), video.get_color_space()
        return io.NodeOutput(parts.images, parts.audio, rate, *more)


class CreateVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CreateVideo",
            display_name="Create Video",
            category="video",
            description="Makes a video of images.",
            inputs=[
                io.Image.Input("images", tooltip="The frames."),
                io.Float.Input(
                    "fps", default=30.0, min=1.0, max=120.0, step=1.0, tooltip="Frames per second."
                ),
                io.Audio.Input("audio", optional=True, tooltip="Sound for the video."),
                io.Int.Input(
                    "bit_depth", default=8, min=8, max=10, step=2, optional=True,
                    tooltip="8; 10 needs ComfyUI.",
                ),
            ],
            outputs=[io.Video.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, images, fps, audio=None, bit_depth: int = 8) -> io.NodeOutput:
        from .video import video_from_images

        if bit_depth != 8:
            raise ValueError(f"a bit depth of {bit_depth} needs ComfyUI, only 8 is supported here")
        return io.NodeOutput(video_from_images(images, fps, audio))


class SaveVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveVideo",
            display_name="Save Video",
            category="video",
            description="Saves a video into the output folder; it carries the workflow.",
            inputs=[
                io.Video.Input("video", tooltip="The video to save."),
                io.String.Input(
                    "filename_prefix", default="video/ComfyUI",
                    tooltip="Beginning of the file name inside the output folder.",
                ),
                io.DynamicCombo.Input(
                    "format",
                    options=[
                        io.DynamicCombo.Option(name, [_codec(("auto", "h264"), optional=True)])
                        for name in FORMATS
                    ],
                    tooltip="The container; auto is mp4.",
                ),
                _codec(("auto", "h264"), optional=True),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
            outputs=[io.Video.Output("video", display_name="video")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, filename_prefix) -> bool | str:
        return host.folders.prefix_fault(filename_prefix) or True

    @classmethod
    def execute(cls, video, filename_prefix, format="auto", codec=None) -> io.NodeOutput:
        from .video import save_as_comfyui

        path = save_as_comfyui(
            host, video, filename_prefix, format, codec, host.metadata(cls.hidden)
        )
        result = ui.SavedResult(*host.folders.relative(path), io.FolderType.output)
        return io.NodeOutput(video, ui=ui.PreviewVideo([result]))
