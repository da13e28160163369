"""Clips from files, into files, and onto the screen."""

from __future__ import annotations

from .checks import ABSENT, loading_faults, verdict, video_faults
from .choices import FITS, RENDERED
from .host import host, io, ui
from .inputs import MAX_FRAMES, MAX_SIZE, filename_prefix, integer, saving_rate, video_format

CATEGORY = "VideoLDM/video"


def saved(path, *, temp: bool = False):
    """What the frontend or the runner is told of saved files; gif and png are pictures to it."""
    from .stages.media import shown_files

    kind = io.FolderType.temp if temp else io.FolderType.output
    results = [ui.SavedResult(*file, kind) for file in shown_files(host, path)]
    is_video = path.suffix in (".mp4", ".webm")
    return ui.PreviewVideo(results) if is_video else {"images": results}


def clip_inputs() -> list[io.Input]:
    return [
        io.Video.Input("video", optional=True, tooltip="A video; or connect images instead."),
        io.Image.Input("images", optional=True, tooltip="Frames; or connect a video instead."),
        io.Audio.Input(
            "audio", optional=True,
            tooltip="Sound, cut to the length of the pictures; without it a video keeps its own. "
            "GIF and PNG carry none.",
        ),
    ]  # fmt: skip


class LoadVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LoadVideo",
            display_name="Load Video (Video LDM)",
            category=CATEGORY,
            description="Loads frames of a video, an animated image or a folder of the input "
            "folder, and its sound; or renders a small clip, so that workflows run without a file.",
            search_aliases=[
                "load video", "vhs load video", "video to frames", "load gif",
                "load image sequence",
            ],
            inputs=[
                io.Combo.Input(
                    "file", options=[*RENDERED, *host.folders.input_names("clip")],
                    default=RENDERED[0], upload=io.UploadType.video,
                    tooltip="A rendered clip of 61 frames at 64x64, or a file of the input folder.",
                ),
                integer("start", 0, 0, MAX_FRAMES, "The first frame to load, counted from 0."),
                integer("count", 0, 0, MAX_FRAMES, "How many frames to load; 0 loads all."),
                integer("stride", 1, 1, 1000, "Load every n-th frame."),
                integer("width", 0, 0, MAX_SIZE, "Width in pixels; 0 keeps the clip's own."),
                integer("height", 0, 0, MAX_SIZE, "Height in pixels; 0 keeps the clip's own."),
                io.Combo.Input(
                    "fit", options=list(FITS), default=FITS[0],
                    tooltip="How a clip of another shape is made to fit: cut or stretched.",
                ),
                integer(
                    "multiple_of", 8, 1, 64,
                    "Sides are cut to a multiple of this; VAEs need 8, the pack's own 4.",
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="The frames."),
                io.Float.Output(
                    "frame_rate", display_name="frame_rate", tooltip="Frames per second."
                ),
                io.Int.Output("frames", display_name="frames", tooltip="Number of frames."),
                io.Audio.Output(
                    "audio", display_name="audio", tooltip="The sound, if the video has any."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file=None, start=ABSENT, count=ABSENT, stride=ABSENT) -> bool | str:
        def faults(values, connected):
            return loading_faults({**values, "file": file}, connected)

        fault = None if file in RENDERED else host.folders.input_fault(file)
        return fault or verdict(cls, faults, start=start, count=count, stride=stride)

    @classmethod
    def fingerprint_inputs(cls, file, **inputs) -> float:
        return 0.0 if file in RENDERED else host.folders.input_path(file).stat().st_mtime

    @classmethod
    def execute(cls, file, **settings) -> io.NodeOutput:
        from .stages.media import Excerpt, load_video

        return io.NodeOutput(*load_video(host, file, Excerpt(**settings)))


class SaveVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_SaveVideo",
            display_name="Save Video (Video LDM)",
            category=CATEGORY,
            description="Saves a video or frames into the output folder, chunk by chunk; the file "
            "carries the workflow, so that it can be opened again from it.",
            search_aliases=[
                "video combine", "vhs video combine", "save video", "export video", "save gif",
                "save webm", "create mp4",
            ],
            inputs=[
                filename_prefix("video/VideoLDM"),
                video_format(),
                integer(
                    "quality", 18, 0, 51,
                    "Rate factor of mp4 and webm: 0 is without loss, 51 is the smallest file.",
                ),
                saving_rate(),
                *clip_inputs(),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
            outputs=[],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, filename_prefix=None, video=ABSENT, images=ABSENT):
        fault = host.folders.prefix_fault(filename_prefix)
        return fault or verdict(cls, video_faults, video=video, images=images)

    @classmethod
    def execute(
        cls, filename_prefix, format, quality, frame_rate, video=None, images=None, audio=None
    ) -> io.NodeOutput:
        from .stages.media import filled_prefix, save_video, stream_of

        stream = stream_of(host, video, images, frame_rate, audio, format)
        prefix, metadata = filled_prefix(filename_prefix, cls.hidden), host.metadata(cls.hidden)
        path = save_video(host, stream, prefix, format, quality, metadata)
        return io.NodeOutput(ui=saved(path))


class PreviewVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_PreviewVideo",
            display_name="Preview Video (Video LDM)",
            category=CATEGORY,
            description="Plays a video or frames in the node; the file is temporary.",
            search_aliases=[
                "preview video",
                "video combine",
                "play video",
                "preview animation",
                "view frames",
            ],
            inputs=[saving_rate(), *clip_inputs()],
            is_output_node=True,
            outputs=[],
        )

    @classmethod
    def validate_inputs(cls, frame_rate=ABSENT, video=ABSENT, images=ABSENT):
        # ComfyUI lists a fault under each input that is there: with frame_rate, one always is.
        return verdict(cls, video_faults, frame_rate=frame_rate, video=video, images=images)

    @classmethod
    def execute(cls, frame_rate, video=None, images=None, audio=None) -> io.NodeOutput:
        from .stages.media import save_video, stream_of

        stream = stream_of(host, video, images, frame_rate, audio)
        path = save_video(host, stream, "preview/VideoLDM", "mp4", 23, {}, temp=True)
        return io.NodeOutput(ui=saved(path, temp=True))
